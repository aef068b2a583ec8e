//! Durations and quantities as Go and Kubernetes write them.

use serde_json::Value;

/// A duration like `200ms`, `1m` or `1h30m`, in ms.
pub(super) fn duration_ms(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is no duration such as `200ms`, `60s` or `1h30m`");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0.0);
    }
    let mut sum = 0.0;
    while sum == 0.0 || !rest.is_empty() {
        let end = rest.find(|character: char| !character.is_ascii_digit() && character != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = &rest[end..];
        let end = rest.find(|character: char| character.is_ascii_digit() || character == '.').unwrap_or(rest.len());
        sum += number
            * match &rest[..end] {
                "ns" => 1e-6,
                "us" | "µs" => 1e-3,
                "ms" => 1.0,
                "s" => 1e3,
                "m" => 6e4,
                "h" => 3.6e6,
                _ => return Err(wrong()),
            };
        rest = &rest[end..];
        if rest.is_empty() {
            break;
        }
    }
    Ok(if negative { -sum } else { sum })
}

/// A quantity like `10Gi`, `1k` or `5000`, rounded up to a whole number.
pub(super) fn quantity(value: &Value) -> Result<i64, String> {
    let wrong = || format!("`{value}` is no quantity such as `5000`, `1k` or `10Gi`");
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return Err(wrong()),
    };
    let suffixes = [
        ("Ki", 1024.0),
        ("Mi", 1024.0_f64.powi(2)),
        ("Gi", 1024.0_f64.powi(3)),
        ("Ti", 1024.0_f64.powi(4)),
        ("Pi", 1024.0_f64.powi(5)),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
    ];
    let split = suffixes.iter().find_map(|&(suffix, factor)| Some((text.strip_suffix(suffix)?, factor)));
    let (number, factor) = split.unwrap_or((&text, 1.0));
    let number = number.parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(wrong)?;
    Ok((number * factor).ceil() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in
            [("200ms", 200.0), ("1h30m", 5.4e6), ("-1s", -1000.0), ("0", 0.0), ("0s", 0.0), ("1.5s", 1500.0)]
        {
            assert_eq!(duration_ms(text), Ok(ms), "{text}");
        }
        for text in ["", "1", "s", "1x", "1s2", "-"] {
            assert!(duration_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quantities() {
        for (text, number) in [("\"10Gi\"", 10 << 30), ("\"1k\"", 1000), ("5000", 5000), ("-5", -5), ("\"1500m\"", 2)] {
            assert_eq!(quantity(&serde_json::from_str(text).unwrap()), Ok(number), "{text}");
        }
        for text in ["\"x\"", "\"\"", "\"infk\"", "[]", "\"1Kib\""] {
            assert!(quantity(&serde_json::from_str(text).unwrap()).is_err(), "{text}");
        }
    }
}
