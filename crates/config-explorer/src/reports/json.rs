//! The one place that reads JSON of result files.

use std::collections::BTreeSet;

use serde::de::{DeserializeOwned, IgnoredAny};

/// Whether the first character is that of a JSON object or list.
pub(super) fn looks_like(bytes: &[u8]) -> bool {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    matches!(first, Some(b'{' | b'['))
}

/// Reads one document.
///
/// Python writes bare `Infinity`, `-Infinity` and `NaN`, which are not JSON: they are read as text, which
/// [`super::lenient::Number`] understands. The error says where and why.
pub(super) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).or_else(|error| {
        let quoted = quote_non_finite(bytes).ok_or_else(|| error.to_string())?;
        serde_json::from_slice(&quoted).map_err(|error| error.to_string())
    })
}

/// Where a JSON document ends too early; none for a whole one and for what is no JSON.
pub(super) fn early_end(bytes: &[u8]) -> Option<String> {
    let error = looks_like(bytes).then(|| serde_json::from_slice::<IgnoredAny>(bytes).err())??;
    error.is_eof().then(|| error.to_string())
}

/// The document with bare non-finite numbers in quotes; none where there are none.
fn quote_non_finite(bytes: &[u8]) -> Option<Vec<u8>> {
    const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let mut quoted = Vec::with_capacity(bytes.len());
    let (mut at, mut in_string, mut found) = (0, false, false);
    while let Some(&byte) = bytes.get(at) {
        if !in_string && let Some(word) = WORDS.into_iter().find(|word| bytes[at..].starts_with(word)) {
            quoted.push(b'"');
            quoted.extend_from_slice(word);
            quoted.push(b'"');
            at += word.len();
            found = true;
            continue;
        }
        quoted.push(byte);
        if byte == b'\\' && in_string {
            quoted.extend(bytes.get(at + 1));
            at += 1;
        } else if byte == b'"' {
            in_string = !in_string;
        }
        at += 1;
    }
    found.then_some(quoted)
}

/// The keys of the first object: the document itself, the first element of a list, or the first line. Also of a file
/// that is cut off or no strict JSON.
pub(super) fn first_object_keys(bytes: &[u8]) -> BTreeSet<&str> {
    let mut keys = BTreeSet::new();
    let (mut depth, mut object_depth) = (0_u32, None);
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => {
                let Some(end) = string_end(rest) else { break };
                let text = &rest[..end];
                rest = rest[end + 1..].trim_ascii_start();
                if object_depth == Some(depth) && rest.starts_with(b":") {
                    keys.extend(std::str::from_utf8(text));
                }
            }
            b'{' | b'[' => {
                depth += 1;
                if byte == b'{' && object_depth.is_none() {
                    object_depth = Some(depth);
                }
            }
            b'}' | b']' => {
                if object_depth == Some(depth) || depth <= 1 {
                    break;
                }
                depth -= 1;
            }
            _ => {}
        }
    }
    keys
}

/// Where the string ends whose opening quote was just passed.
fn string_end(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Reads a JSON Lines document: one value a line, empty lines passed over.
pub(super) fn lines<T: DeserializeOwned>(bytes: &[u8]) -> impl Iterator<Item = Result<T, String>> + '_ {
    bytes
        .split(|&byte| byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(index, line)| from_slice(line).map_err(|error| format!("line {}: {error}", index + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::lenient::Number;

    #[test]
    fn bare_non_finite_numbers_are_read() {
        let numbers: Vec<Number> = from_slice(br#"[Infinity, -Infinity, NaN, 1.5, "inf"]"#).unwrap();
        let numbers: Vec<_> = numbers.into_iter().map(|number| number.0).collect();
        assert_eq!(numbers, [Some(f64::INFINITY), Some(f64::NEG_INFINITY), None, Some(1.5), Some(f64::INFINITY)]);
        let text: Vec<String> = from_slice(br#"["a \"NaN\" \\", "Infinity"]"#).unwrap();
        assert_eq!(text, ["a \"NaN\" \\", "Infinity"]);
    }

    #[test]
    fn keys_of_the_first_object() {
        let keys = |text: &'static str| first_object_keys(text.as_bytes()).into_iter().collect::<Vec<_>>();
        assert_eq!(keys(r#"{"a": {"x": 1}, "b": ["y", {"z": 2}], "c\"d": "e", "f": Na"#), ["a", "b", r#"c\"d"#, "f"]);
        assert_eq!(keys(r#"[{"a": 1}, {"b": 2}]"#), ["a"]);
        assert_eq!(keys("{\"a\": 1}\n{\"b\": 2}"), ["a"]);
        assert_eq!(keys("[[], {\"a\""), Vec::<&str>::new());
        assert_eq!(keys("{\"a\\"), Vec::<&str>::new());
    }

    #[test]
    fn errors_say_where() {
        let error = from_slice::<Vec<Number>>(b"[1,\n 2").unwrap_err();
        assert!(error.contains("line 2"), "{error}");
        let error = lines::<Number>(b"1\n\n{").find_map(Result::err).unwrap();
        assert!(error.starts_with("line 3: "), "{error}");
        let deep = vec![b'['; 100_000];
        assert!(from_slice::<serde_json::Value>(&deep).unwrap_err().contains("recursion"));
    }
}
