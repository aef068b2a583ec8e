//! Times as result files write them.

/// Seconds since 1970-01-01 UTC of an ISO 8601 date and time with its offset (`2025-11-05T18:00:42.5Z`, `+01:00`).
///
/// None without an offset: the time is then local to a machine that the file does not name.
pub(super) fn epoch_s(text: &str) -> Option<f64> {
    let text = text.trim();
    let (date, clock) = text.split_once(['T', ' '])?;
    let mut parts = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let at = clock.find(['Z', '+', '-'])?;
    let (clock, offset) = clock.split_at(at);
    // `Z`, `+01:00`, `-0130`, `+01`.
    let digits: String = offset[1..].chars().filter(char::is_ascii_digit).collect();
    let part = |digits: &str| if digits.is_empty() { Some(0.0) } else { digits.parse::<f64>().ok() };
    let (hours, minutes) = digits.split_at(digits.len().min(2));
    let offset_s = (part(hours)? * 3600.0 + part(minutes)? * 60.0) * if offset.starts_with('-') { -1.0 } else { 1.0 };
    let mut seconds = 0.0;
    for (part, unit) in clock.splitn(3, ':').zip([3600.0, 60.0, 1.0]) {
        seconds += part.parse::<f64>().ok()? * unit;
    }
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && (1900..3000).contains(&year);
    in_range.then(|| days_since_epoch(year, month, day) as f64 * 86_400.0 + seconds - offset_s)
}

/// Days from 1970-01-01 in the Gregorian calendar. Years start in March, so that the leap day is the last day.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The reverse of [`epoch_s`], in UTC with microseconds where there are any.
pub(super) fn iso_8601(epoch_s: f64) -> Option<String> {
    let microseconds = (epoch_s * 1e6).round();
    if !(0.0..3e16).contains(&microseconds) {
        return None;
    }
    let microseconds = microseconds as i64;
    let (days, of_day) = (microseconds.div_euclid(86_400_000_000), microseconds.rem_euclid(86_400_000_000));
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:06}") };
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z"))
}

/// Seconds of an ISO 8601 duration (`PT49.97S`, `P1DT2H3M4S`).
pub(super) fn duration_s(text: &str) -> Option<f64> {
    let mut rest = text.trim().strip_prefix('P')?;
    let mut seconds = 0.0;
    let mut in_time = false;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('T') {
            (rest, in_time) = (after, true);
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let mut after = rest[end..].chars();
        seconds += number
            * match (after.next()?, in_time) {
                ('S', true) => 1.0,
                ('M', true) => 60.0,
                ('H', true) => 3600.0,
                ('D', false) => 86_400.0,
                ('W', false) => 604_800.0,
                _ => return None,
            };
        rest = after.as_str();
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_times() {
        // `date -u -d @1762365642`
        assert_eq!(epoch_s("2025-11-05T18:00:42Z"), Some(1_762_365_642.0));
        assert_eq!(epoch_s("2025-11-05T19:00:42.5+01:00"), Some(1_762_365_642.5));
        assert_eq!(epoch_s("2024-02-29T00:00:00Z"), Some(1_709_164_800.0));
        assert_eq!(epoch_s("2025-10-17T20:22:08.939332"), None, "no offset");
        assert_eq!(epoch_s("yesterday"), None);
        for time in ["2025-11-05T18:00:42Z", "2024-02-29T23:59:59.250000Z", "1970-01-01T00:00:00Z"] {
            assert_eq!(iso_8601(epoch_s(time).unwrap()).as_deref(), Some(time));
        }
        assert_eq!(iso_8601(f64::NAN), None);
    }

    #[test]
    fn reads_durations() {
        assert_eq!(duration_s("PT49.5S"), Some(49.5));
        assert_eq!(duration_s("P1DT2H3M4S"), Some(93_784.0));
        for wrong in ["", "49", "PT", "P1M", "PTS"] {
            assert!(duration_s(wrong).is_none_or(|seconds| seconds == 0.0), "{wrong}");
        }
    }
}
