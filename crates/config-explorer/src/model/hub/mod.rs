//! The Hugging Face hub and its local cache.
//!
//! In: a repository and a revision. Out: the files that describe the model, and the tensors of its safetensors headers.
//! Requests follow the hub's own client (`huggingface_hub`): one for the list of files, one for each of `config.json`,
//! `hf_quant_config.json` and the safetensors index, then a ranged one for each header. Whole files go to the
//! cache that every Hugging Face program shares; what was read of headers goes to a cache of our own, because a header
//! alone would look like a complete file to the others.

mod cache;
mod client;
mod fetch;
mod headers;
mod options;
mod repository;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use cache::{HubCache, Snapshot};
pub(crate) use client::Client;
pub(crate) use fetch::{Fetched, fetch};
pub(crate) use headers::HeaderCache;
pub use options::{LoadOptions, Token};
pub(crate) use repository::{RepositoryId, is_plain_word, is_revision};

/// The largest `config.json` and `hf_quant_config.json` that are read.
pub(super) const CONFIG_BYTES_MAX: u64 = 8 << 20;

/// The largest safetensors index that is read. DeepSeek-V3's has 9 MB.
pub(super) const INDEX_BYTES_MAX: u64 = 128 << 20;

/// A file that is being written, which nobody mistakes for a finished one. Removed if it does not get its name.
struct Unfinished(PathBuf);

impl Unfinished {
    /// Writes `content` to a new file in `directory`, which must be on the same file system as its later place.
    fn write(directory: &Path, content: &[u8]) -> io::Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);

        fs::create_dir_all(directory)?;
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!(".config-explorer-{}-{number}", std::process::id()));
        let mut file = fs::File::create_new(&path)?;
        let unfinished = Self(path);
        file.write_all(content)?;
        Ok(unfinished)
    }

    /// Gives the file its name, in one step.
    fn finish(self, path: &Path) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::rename(&self.0, path)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After `finish` there is nothing left to remove.
        let _ = fs::remove_file(&self.0);
    }
}
