//! Which entries of a list are wanted.

use clap::Args;

/// A text that the names of an entry are searched for.
#[derive(Debug, Args)]
pub(crate) struct NameFilter {
    /// List only those with this in one of their names.
    text: Option<String>,
}

impl NameFilter {
    /// Whether one of the names holds the text, in any case.
    pub(crate) fn accepts<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        let Some(text) = &self.text else { return true };
        let text = text.to_lowercase();
        names.any(|name| name.to_lowercase().contains(&text))
    }
}
