//! `data/flags.toml`: which releases of vLLM have a flag, where that is known.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::engine::Version;

/// Releases that have a flag.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlagHistory {
    /// Its name, without dashes before it.
    pub name: String,
    /// The first release that has it, where it is younger than what is planned here.
    pub since: Option<Version>,
    /// The first release that is known not to have it any more.
    pub until: Option<Version>,
    /// What to write instead.
    pub instead: Option<String>,
    /// Where this is from.
    pub source: String,
}

#[derive(Deserialize)]
struct File {
    flag: Vec<FlagHistory>,
}

static HISTORY: LazyLock<Vec<FlagHistory>> = LazyLock::new(|| {
    let file: File = toml::from_str(include_str!("../../../data/flags.toml")).expect("data/flags.toml is valid");
    file.flag
});

impl FlagHistory {
    /// What is known of a flag, by its name without dashes before it.
    pub fn of(name: &str) -> Option<&'static Self> {
        HISTORY.iter().find(|flag| flag.name == name)
    }

    /// Whether a release has the flag.
    pub fn is_in(&self, version: Version) -> bool {
        self.since.is_none_or(|since| since <= version) && self.until.is_none_or(|until| version < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_says_when_and_where_from() {
        for flag in HISTORY.iter() {
            assert!(flag.since.is_some() || flag.until.is_some(), "{flag:?}");
            assert!(!flag.source.is_empty() && FlagHistory::of(&flag.name) == Some(flag), "{flag:?}");
        }
        let swap = FlagHistory::of("swap-space").unwrap();
        assert!(swap.is_in("0.17.1".parse().unwrap()) && !swap.is_in("0.18.0".parse().unwrap()));
        let moe = FlagHistory::of("moe-backend").unwrap();
        assert!(!moe.is_in("0.16.0".parse().unwrap()) && moe.is_in("0.17.0".parse().unwrap()));
    }
}
