//! The one error type of the library: what was wrong, where, and what to do next.

use std::path::PathBuf;

/// Result of every fallible function of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the Hugging Face hub did not give what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HubFailure {
    /// The repository or revision does not exist, or is private and the token cannot see it.
    NotFound,
    /// The repository is gated and no token was sent.
    GatedWithoutToken,
    /// The repository is gated and this token has no access yet.
    GatedNoAccess,
    /// The token was refused.
    BadToken,
    /// The file is not in the repository.
    NoSuchFile,
    /// `--offline` or `HF_HUB_OFFLINE`, and the cache does not hold the file.
    Offline,
    /// No answer: name resolution, connection or time-out.
    Unreachable,
    /// The hub kept answering with a server error.
    Server,
    /// The answer breaks the protocol or a size limit.
    Protocol,
}

/// What can go wrong in the library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot access `{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason the system gave.
        source: std::io::Error,
    },
    /// Something was read and is not what it should be.
    #[error("{place}: {reason}")]
    Malformed {
        /// File or URL, and the line or field in it.
        place: String,
        /// What is wrong there.
        reason: String,
    },
    /// The hub did not give what was asked.
    #[error("{place}: {reason}")]
    Hub {
        /// The kind of failure, which decides the hint.
        failure: HubFailure,
        /// Repository, revision and file.
        place: String,
        /// What happened.
        reason: String,
    },
    /// A name that is in no table.
    #[error("unknown {kind} `{name}`")]
    Unknown {
        /// What was looked up: `accelerator`, `model`, `engine version`, …
        kind: &'static str,
        /// The name as given.
        name: String,
        /// Names that are close to it, best first.
        similar: Vec<String>,
    },
    /// A name that stands for several things.
    #[error("{kind} `{name}` is ambiguous: {}", candidates.join(", "))]
    Ambiguous {
        /// What was looked up.
        kind: &'static str,
        /// The name as given.
        name: String,
        /// What it could stand for.
        candidates: Vec<String>,
    },
    /// A setting whose value cannot be used.
    #[error("`{setting}`: {reason}")]
    InvalidSetting {
        /// The flag or field as the user writes it.
        setting: String,
        /// What is wrong with its value, and which values are right.
        reason: String,
    },
}

impl Error {
    /// What the user can do about it, where the library knows.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Hub { failure, .. } => Some(
                match failure {
                    HubFailure::NotFound => {
                        "check the spelling; if the repository is private, set HF_TOKEN to a token that can read it"
                    }
                    HubFailure::GatedWithoutToken => {
                        "accept the conditions on the model's page, then set HF_TOKEN or run `hf auth login`"
                    }
                    HubFailure::GatedNoAccess => {
                        "ask for access on the model's page with the account that this token belongs to"
                    }
                    HubFailure::BadToken => "replace the token in HF_TOKEN, or unset it for a public model",
                    HubFailure::NoSuchFile => "check `--revision`, or point at a directory that holds config.json",
                    HubFailure::Offline => "run once without `--offline`, or name a model of `config-explorer models`",
                    HubFailure::Unreachable => {
                        "check the network and HF_ENDPOINT, or use `--offline` with a cached or built-in model"
                    }
                    HubFailure::Server => "try again later, or set HF_ENDPOINT to a mirror",
                    HubFailure::Protocol => "check that HF_ENDPOINT is a Hugging Face hub",
                }
                .to_owned(),
            ),
            Self::Unknown { similar, .. } if !similar.is_empty() => Some(format!(
                "did you mean {}?",
                similar.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            )),
            _ => None,
        }
    }
}
