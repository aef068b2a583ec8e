//! Times of traces.

/// Nanoseconds of a number of units of `unit_ns`.
pub(super) fn nanoseconds(value: f64, unit_ns: f64) -> Result<i64, String> {
    let ns = value * unit_ns;
    if ns.abs() < 9e18 { Ok(ns as i64) } else { Err(format!("the time {value} is out of range")) }
}

/// Nanoseconds since 1970 of `2023-11-16 18:17:03.9799600`; a `T` between date and time and an offset of UTC after it
/// are read, too.
pub(super) fn timestamp(text: &str) -> Result<i64, String> {
    parse(text).ok_or_else(|| format!("`{text}` is not a time like `2023-11-16 18:17:03.97996`"))
}

fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let text = text.strip_suffix("+00:00").or_else(|| text.strip_suffix('Z')).unwrap_or(text);
    let (date, time) = text.split_once([' ', 'T'])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<u16>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut clock = clock.splitn(3, ':').map(|part| part.parse::<u8>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let is_real = (1..=12).contains(&month) && (1..=31).contains(&day) && (1970..2200).contains(&year);
    if !is_real || hour > 23 || minute > 59 || second > 60 || fraction.len() > 9 {
        return None;
    }
    let fraction_ns: i64 =
        if fraction.is_empty() { 0 } else { format!("{fraction:0<9}").parse().ok().filter(|&ns| ns >= 0)? };
    let seconds = days(year, month, day) * 86_400 + i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    Some(seconds * 1_000_000_000 + fraction_ns)
}

/// Days since 1970-01-01 in the Gregorian calendar; years begin in March, so that the leap day is the last.
fn days(year: u16, month: u16, day: u16) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let month = (i64::from(month) + 9) % 12;
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + i64::from(day) - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(timestamp("1970-01-01 00:00:00"), Ok(0));
        assert_eq!(timestamp("2024-02-29T00:00:00.5Z"), Ok(1_709_164_800_500_000_000));
        assert_eq!(timestamp("2023-11-16 18:17:03.9799600"), Ok(1_700_158_623_979_960_000));
        for wrong in ["", "2023-13-16 18:17:03", "2023-11-16", "2023-11-16 18:17:03.x", "2023-11-16 18:17:03.-1", "é"]
        {
            assert!(timestamp(wrong).is_err(), "{wrong}");
        }
    }
}
