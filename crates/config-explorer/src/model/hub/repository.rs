//! Names of repositories and revisions.

use std::fmt;
use std::path::PathBuf;

use crate::{Error, Result};

/// A valid `organisation/name`, or `name` alone for the oldest models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RepositoryId(String);

impl RepositoryId {
    /// Checks the rules of `huggingface_hub`'s `validate_repo_id`, which leave no room for a path.
    pub(crate) fn parse(id: &str) -> Result<Self> {
        let parts: Vec<&str> = id.split('/').collect();
        let valid = parts.len() <= 2
            && id.len() <= 96
            && id.rsplit('.').next() != Some("git")
            && !id.contains("--")
            && !id.contains("..")
            && parts
                .iter()
                .all(|part| is_plain_word(part) && !part.starts_with(['-', '.']) && !part.ends_with(['-', '.']));
        if valid {
            return Ok(Self(id.to_owned()));
        }
        Err(Error::InvalidSetting {
            setting: "MODEL".to_owned(),
            reason: format!(
                "`{id}` is neither a directory with config.json, nor a .gguf file, nor a Hugging Face id such as \
                 Qwen/Qwen3-8B"
            ),
        })
    }

    /// The id as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of the folder in the Hugging Face cache.
    pub(crate) fn cache_folder(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }

    /// The id as a relative path.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.split('/').collect()
    }
}

impl fmt::Display for RepositoryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A word that is safe as a file name and in a URL: a part of an id, a commit, an etag.
pub(crate) fn is_plain_word(word: &str) -> bool {
    !word.is_empty()
        && word.len() <= 96
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && !word.bytes().all(|byte| byte == b'.')
}

/// A branch, tag, pull request (`refs/pr/1`) or commit, with the rules of git that matter for paths.
pub(crate) fn is_revision(revision: &str) -> bool {
    revision.len() <= 255 && revision.split('/').all(is_plain_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_hub() {
        for id in ["Qwen/Qwen3-8B", "gpt2", "meta-llama/Llama-3.1-8B", "a_b/c.d"] {
            assert_eq!(RepositoryId::parse(id).unwrap().as_str(), id);
        }
        for id in [
            "", "/", "a/", "/a", "a/b/c", "../a", "a/..", ".", "a--b/c", "-a/b", "a/b.", "a/b.git", r"a\b", "a b",
            "a/b?x",
        ] {
            assert!(RepositoryId::parse(id).is_err(), "{id}");
        }
        assert_eq!(RepositoryId::parse("Qwen/Qwen3-8B").unwrap().cache_folder(), "models--Qwen--Qwen3-8B");
    }

    #[test]
    fn revisions_stay_below_refs() {
        for revision in ["main", "refs/pr/1", "v1.0", "0123abcd"] {
            assert!(is_revision(revision), "{revision}");
        }
        for revision in ["", "..", "a/../b", "/a", "a/", "a b", "a\\b"] {
            assert!(!is_revision(revision), "{revision}");
        }
    }
}
