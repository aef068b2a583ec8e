//! Our own cache: what was read of a commit's safetensors headers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{RepositoryId, Unfinished};
use crate::model::Tensors;

/// `$XDG_CACHE_HOME/config-explorer/headers`: for each commit a file with the tensor table of its headers, which is some
/// hundred times smaller than they are. A commit never changes, so that an entry stays true.
pub(crate) struct HeaderCache<'a> {
    root: &'a Path,
}

impl<'a> HeaderCache<'a> {
    pub(crate) fn new(root: &'a Path) -> Self {
        Self { root }
    }

    /// The tensors of a commit, empty if it has no safetensors files; `None` if they were never read.
    pub(crate) fn tensors(&self, id: &RepositoryId, commit: &str) -> Option<Tensors> {
        Tensors::from_json(&fs::read(self.file(id, commit)).ok()?)
    }

    /// Keeps the tensors of a commit.
    pub(crate) fn store(&self, id: &RepositoryId, commit: &str, tensors: &Tensors) -> io::Result<()> {
        let file = self.file(id, commit);
        Unfinished::write(file.parent().unwrap_or(self.root), &tensors.to_json())?.finish(&file)
    }

    fn file(&self, id: &RepositoryId, commit: &str) -> PathBuf {
        self.root.join(id.path()).join(commit).join("tensors.json")
    }
}
