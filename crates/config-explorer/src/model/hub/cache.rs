//! The cache that Hugging Face programs share.
//!
//! Layout, from <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>: `refs/<revision>` holds a commit,
//! `snapshots/<commit>/<file>` links to `blobs/<etag>`. A reference that is there is never moved: it says which
//! snapshot others would use without a network, and theirs may hold weights that a newer one does not.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{RepositoryId, Unfinished, is_plain_word};

/// The cache folder (`HF_HUB_CACHE`).
pub(crate) struct HubCache<'a> {
    root: &'a Path,
}

/// The files of one commit, as far as anybody fetched them.
pub(crate) struct Snapshot {
    pub(crate) commit: String,
    pub(crate) directory: PathBuf,
}

impl<'a> HubCache<'a> {
    pub(crate) fn new(root: &'a Path) -> Self {
        Self { root }
    }

    /// The commit that the cache holds for a revision: what its reference says, or the revision itself where there is
    /// a snapshot of that name.
    pub(crate) fn snapshot(&self, id: &RepositoryId, revision: &str) -> Option<Snapshot> {
        /// More than a reference ever has.
        const REFERENCE_BYTES: u64 = 256;

        let repository = self.root.join(id.cache_folder());
        let mut commit = String::new();
        let reference = fs::File::open(repository.join("refs").join(revision))
            .and_then(|file| file.take(REFERENCE_BYTES).read_to_string(&mut commit));
        let commit = if reference.is_ok() { commit.trim() } else { revision };
        let directory = repository.join("snapshots").join(commit);
        (is_plain_word(commit) && directory.is_dir()).then(|| Snapshot { commit: commit.to_owned(), directory })
    }

    /// Adds a whole file to a snapshot, unless it is there.
    pub(crate) fn store(
        &self,
        id: &RepositoryId,
        commit: &str,
        file: &str,
        etag: &str,
        content: &[u8],
    ) -> io::Result<()> {
        let repository = self.root.join(id.cache_folder());
        let pointer = repository.join("snapshots").join(commit).join(file);
        if pointer.exists() {
            return Ok(());
        }
        let blob = repository.join("blobs").join(etag);
        if !blob.exists() {
            Unfinished::write(&repository, content)?.finish(&blob)?;
        }
        fs::create_dir_all(repository.join("snapshots").join(commit))?;
        link(&blob, etag, &pointer)
    }

    /// Says which commit a revision is, unless the cache has an answer.
    pub(crate) fn store_reference(&self, id: &RepositoryId, revision: &str, commit: &str) -> io::Result<()> {
        let repository = self.root.join(id.cache_folder());
        let reference = repository.join("refs").join(revision);
        if revision == commit || reference.exists() {
            return Ok(());
        }
        Unfinished::write(&repository, commit.as_bytes())?.finish(&reference)
    }
}

/// Links a snapshot's file to its blob, relatively, so that the cache can be moved.
#[cfg(unix)]
fn link(_blob: &Path, etag: &str, pointer: &Path) -> io::Result<()> {
    match std::os::unix::fs::symlink(Path::new("../../blobs").join(etag), pointer) {
        // Another process was faster, or the link is there and its blob was missing until now.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

/// Where links need privileges, the file itself stands in the snapshot, as `huggingface_hub` does it.
#[cfg(not(unix))]
fn link(blob: &Path, _etag: &str, pointer: &Path) -> io::Result<()> {
    fs::rename(blob, pointer)
}
