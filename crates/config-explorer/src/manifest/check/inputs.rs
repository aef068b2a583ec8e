//! From files, folders and commands to documents.

use std::path::Path;

use serde_json::Value;

use crate::manifest::kustomize::{self, FILE_NAMES};
use crate::{Error, Result, yaml};

/// Largest file that is read; manifests are a thousandth of it.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Deepest folder below the one that was given.
const DEPTH_MAX: usize = 16;

/// Something to check.
#[derive(Debug, Clone)]
pub enum Input {
    /// The documents of a file, or those of an overlay.
    Documents {
        /// The file.
        file: String,
        /// Its documents.
        documents: Vec<Value>,
        /// Resources on other machines, which were not read.
        remote: Vec<String>,
        /// Files in which an object has a key twice, and where.
        repeated: Vec<(String, String)>,
    },
    /// A command that starts an engine.
    Command(Vec<String>),
    /// What could not be read.
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        reason: String,
        /// It is a template, which only Helm can read.
        template: bool,
    },
}

impl Input {
    /// Reads the text of a file.
    pub fn parse(file: &str, bytes: &[u8]) -> Self {
        let file = file.to_owned();
        match yaml::documents(bytes) {
            Ok(documents) => {
                let repeated = yaml::repeated_key(bytes).map(|place| (file.clone(), place)).into_iter().collect();
                Self::Documents { file, documents, remote: Vec::new(), repeated }
            }
            Err(reason) => {
                let template = bytes.windows(2).any(|pair| pair == b"{{");
                Self::Unreadable { file, reason, template }
            }
        }
    }
}

/// Reads a file, an overlay, or every file and overlay of a folder. An overlay takes in what it refers to, wherever that is.
///
/// # Errors
/// [`Error::Io`] for a path that is not there or cannot be read.
pub fn read(path: &Path) -> Result<Vec<Input>> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(io)?.is_file() {
        let is_overlay = path.file_name().is_some_and(|name| FILE_NAMES.iter().any(|known| name == *known));
        if let (true, Some(folder)) = (is_overlay, path.parent()) {
            return Ok(vec![overlay(folder)]);
        }
        let bytes =
            file(path).ok_or_else(|| io(std::io::Error::other("it is larger than any manifest, or not readable")))?;
        return Ok(vec![Input::parse(&path.display().to_string(), &bytes)]);
    }
    let mut inputs = Vec::new();
    folder(path, 0, &mut inputs)?;
    Ok(inputs)
}

fn file(path: &Path) -> Option<Vec<u8>> {
    let metadata = std::fs::metadata(path).ok()?;
    (metadata.is_file() && metadata.len() <= FILE_BYTES_MAX).then(|| std::fs::read(path).ok())?
}

fn overlay(folder: &Path) -> Input {
    let place = folder.join(FILE_NAMES[0]).display().to_string();
    match kustomize::resolve(folder, &file) {
        Ok(kustomized) => {
            let repeated = kustomized.repeated.into_iter().map(|(path, place)| (path.display().to_string(), place));
            let repeated = repeated.collect();
            let (documents, remote) = (kustomized.documents, kustomized.remote);
            Input::Documents { file: place, documents, remote, repeated }
        }
        Err(Error::Malformed { place, reason }) => Input::Unreadable { file: place, reason, template: false },
        Err(error) => Input::Unreadable { file: place, reason: error.to_string(), template: false },
    }
}

fn folder(path: &Path, depth: usize, inputs: &mut Vec<Input>) -> Result<()> {
    if let Some(kustomization) = FILE_NAMES.iter().find_map(|name| file(&path.join(name))) {
        // A component changes the overlay that names it, and is nothing by itself.
        let is_component = yaml::top_level(&kustomization).any(|(key, value)| key == "kind" && value == "Component");
        if !is_component {
            inputs.push(overlay(path));
        }
        return Ok(());
    }
    let entries = std::fs::read_dir(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let mut entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries {
        let is_yaml = entry.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_yaml && let Some(bytes) = file(&entry) {
            inputs.push(Input::parse(&entry.display().to_string(), &bytes));
        } else if depth < DEPTH_MAX && entry.is_dir() && !entry.is_symlink() {
            folder(&entry, depth + 1, inputs)?;
        }
    }
    Ok(())
}
