//! Folders that stand for values, as Hive writes them: `model=meta-llama%2FLlama-3.1-8B/gpu=H100`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::reports::{Column, Run, Value, column};

/// The columns that the folders of a store stand for. The files in them leave these out: readers take them from the
/// path, and some refuse a file that says them again.
pub(super) const COLUMNS: [&str; 2] = ["model", "gpu"];

/// The folder that stands for a missing value. Not Hive's `__HIVE_DEFAULT_PARTITION__`, which pandas cannot read beside
/// other values ("Cannot yet unify dictionaries with nulls", pyarrow 26).
const MISSING: &str = "unknown";

/// The folder of a run, below that of the store.
pub(super) fn folder(run: &Run) -> PathBuf {
    let [model, gpu] = [&run.server.model, &run.server.gpu];
    COLUMNS
        .into_iter()
        .zip([model, gpu])
        .map(|(name, value)| {
            let value = value.as_deref().map_or_else(|| MISSING.to_owned(), escape);
            format!("{name}={value}")
        })
        .collect()
}

/// The values that the folders of a path stand for.
pub(super) fn values(path: &Path) -> Vec<(&'static Column, Value<'static>)> {
    let folders = path.parent().into_iter().flat_map(Path::components);
    folders
        .filter_map(|folder| {
            let (name, value) = folder.as_os_str().to_str()?.split_once('=')?;
            if value == MISSING || !COLUMNS.contains(&name) {
                return None;
            }
            Some((column(name).ok()?, Value::Text(unescape(value)?.into())))
        })
        .collect()
}

/// A value as the name of a folder on any system.
fn escape(value: &str) -> String {
    if value == MISSING {
        return "%75nknown".to_owned();
    }
    let mut name = String::new();
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => name.push(byte.into()),
            _ => {
                let _ = write!(name, "%{byte:02X}");
            }
        }
    }
    name
}

fn unescape(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let code = after.split_at_checked(2).filter(|_| byte == b'%');
        let code = code.and_then(|(code, after)| Some((std::str::from_utf8(code).ok()?, after)));
        match code.and_then(|(code, after)| Some((u8::from_str_radix(code, 16).ok()?, after))) {
            Some((code, after)) => {
                bytes.push(code);
                rest = after;
            }
            None => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_give_back_what_they_stand_for() {
        for (model, gpu, expected) in [
            (Some("org/Name-1.5_x"), Some("H100"), "model=org%2FName-1.5_x/gpu=H100"),
            (None, Some("größe=1%"), "model=unknown/gpu=gr%C3%B6%C3%9Fe%3D1%25"),
            (Some(MISSING), Some(".."), "model=%75nknown/gpu=.."),
            (Some(""), None, "model=/gpu=unknown"),
        ] {
            let mut run = Run::default();
            (run.server.model, run.server.gpu) = (model.map(str::to_owned), gpu.map(str::to_owned));
            let folder = folder(&run);
            assert_eq!(folder, Path::new(expected));
            let mut read = Run::default();
            for (column, value) in values(&folder.join("x=y.parquet")) {
                column.set(&mut read, &value).unwrap();
            }
            assert_eq!(read, run);
        }
        assert_eq!(unescape("a%2").as_deref(), Some("a%2"));
        assert_eq!(unescape("%FF"), None);
    }
}
