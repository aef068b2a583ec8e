//! The one place that reads YAML, and writes what Kubernetes reads.
//!
//! With `serde-saphyr`: on typed structs it takes 1.1 ms for a report of 29 kB where `serde_yaml_ng` takes 0.5 ms, but
//! 100 kB of nested brackets take the latter 21 s, and 23 MB of ordinary YAML 1 GB of memory.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_saphyr::Options;
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

fn options(duplicate_keys: DuplicateKeyPolicy) -> Options {
    serde_saphyr::options! {
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        duplicate_keys: duplicate_keys,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_nodes: 2_000_000, max_events: 6_000_000 },
    }
}

/// Reads one document. The error says where and why.
///
/// `.inf` is read. Aliases are followed within a budget of nodes, which also bounds a document of a bad intent.
pub(crate) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    // A repeated field is still an error where the field is read.
    let options = options(DuplicateKeyPolicy::PassThrough);
    serde_saphyr::from_slice_with_options(bytes, options).map_err(|error| error.to_string())
}

/// Reads every document of a stream that is not empty. Of keys that are repeated the first counts, as in kustomize.
pub(crate) fn documents<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>, String> {
    let documents =
        serde_saphyr::from_slice_multiple_with_options::<Option<T>>(bytes, options(DuplicateKeyPolicy::FirstWins));
    Ok(documents.map_err(|error| error.to_string())?.into_iter().flatten().collect())
}

/// Where a stream repeats a key in one object.
pub(crate) fn repeated_key(bytes: &[u8]) -> Option<String> {
    let options = options(DuplicateKeyPolicy::Error);
    let error = serde_saphyr::from_slice_multiple_with_options::<serde_json::Value>(bytes, options).err()?.to_string();
    // What the reader advises is for who calls it.
    error
        .contains("duplicate mapping key")
        .then(|| error.replace(", set DuplicateKeyPolicy in Options if acceptable", ""))
}

/// Writes documents, one behind the other.
pub(crate) fn to_string<T: Serialize>(documents: &[T]) -> Result<String, String> {
    // Long words stay on their line: folded ones are hard to read and to search for.
    let write = |document| {
        serde_saphyr::to_string_with_options(document, serde_saphyr::ser_options! { folded_wrap_chars: 1 << 20 })
    };
    let texts = documents.iter().map(write).collect::<Result<Vec<_>, _>>();
    Ok(texts.map_err(|error| error.to_string())?.join("---\n"))
}

/// Keys at the start of a line with the text behind them: the top-level keys of block style YAML, without parsing it.
pub(crate) fn top_level(bytes: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    fn unquote(text: &str) -> &str {
        text.trim().trim_matches(['"', '\''])
    }
    bytes.split(|&byte| byte == b'\n').filter_map(|line| {
        // Most lines are indented; they are not worth reading.
        line.first().filter(|first| !matches!(first, b' ' | b'-' | b'#'))?;
        let (key, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        let plain = key.starts_with(|first: char| first.is_alphabetic() || matches!(first, '_' | '"' | '\''));
        // A comment after the value is no part of it.
        let value = value.split(" #").next().unwrap_or_default();
        plain.then(|| (unquote(key), unquote(value)))
    })
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;

    #[test]
    fn infinity_is_read() {
        let numbers: Vec<f64> = from_slice(b"[.inf, -.INF, 1e3, .nan]").unwrap();
        assert_eq!(numbers[..3], [f64::INFINITY, f64::NEG_INFINITY, 1000.0]);
        assert!(numbers[3].is_nan());
    }

    #[test]
    fn bombs_end_in_an_error() {
        let mut aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let previous = format!("*a{}", level - 1);
            let list = vec![previous; 10].join(", ");
            aliases += &format!("a{level}: &a{level} [{list}]\n");
        }
        assert!(from_slice::<IgnoredAny>(aliases.as_bytes()).is_err());
        assert!(from_slice::<IgnoredAny>("[".repeat(100_000).as_bytes()).is_err());
        assert!(from_slice::<IgnoredAny>("- ".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn top_level_keys() {
        let text = b"# c\nversion: '0.2' # x\nrun:\n  uid: a\n\"results\": {}\n- list: 1\n";
        let keys: Vec<_> = top_level(text).collect();
        assert_eq!(keys, [("version", "0.2"), ("run", ""), ("results", "{}")]);
    }
}
