//! Version numbers of vLLM.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// A release of vLLM: `0.19.1`. What follows the third number (`rc1.dev206+g95995bbef`, `.post1`) is read and dropped: a
/// pre-release follows the rules of the release it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number; 0 where it was not given.
    pub patch: u32,
}

impl FromStr for Version {
    type Err = Error;

    /// Reads `0.19.1`, `v0.19`, `vllm@0.19.1`, `0.11.0rc2.dev1+gabc`, `0.12~` (a release line).
    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::InvalidSetting {
            setting: "--engine".to_owned(),
            reason: format!("`{text}` is not a vLLM version; write it as `vllm@0.19.1`"),
        };
        let trimmed = text.trim();
        let number = match trimmed.split_once('@') {
            Some((name, number)) if name.eq_ignore_ascii_case("vllm") => number,
            Some(_) => return Err(invalid()),
            None => trimmed,
        };
        let mut parts = number.trim_start_matches('v').splitn(3, '.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse::<u32>().ok()
        });
        let major = parts.next().flatten().ok_or_else(invalid)?;
        let minor = parts.next().flatten().ok_or_else(invalid)?;
        let patch = parts.next().flatten().unwrap_or(0);
        Ok(Self { major, minor, patch })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl<'de> serde::Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_spelling_seen_in_logs() {
        for (text, expected) in [
            ("0.19.1", (0, 19, 1)),
            ("v0.8.5.post1", (0, 8, 5)),
            ("vllm@0.33.0", (0, 33, 0)),
            ("0.19.2rc1.dev206+g95995bbef", (0, 19, 2)),
            ("0.12~", (0, 12, 0)),
            ("0.22", (0, 22, 0)),
        ] {
            let version: Version = text.parse().unwrap();
            assert_eq!((version.major, version.minor, version.patch), expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_version() {
        for text in ["", "latest", "sglang@0.5.1", "1", "0..1"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}
