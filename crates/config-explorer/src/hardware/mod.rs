//! What an accelerator is and what it costs.
//!
//! In: `data/accelerators.toml` and `data/prices.toml` (facts, each with its source), and files of the same form from the
//! user. Out: [`Accelerators`] and [`Prices`], looked up by any name in use. No judgement on them: what fits and how fast
//! it runs is for the modules to the right.

mod accelerator;
mod accelerators;
mod prices;

use std::io::Read;
use std::path::Path;

pub use accelerator::{Accelerator, FormFactor, Vendor};
pub use accelerators::Accelerators;
pub use prices::{Price, Prices};

use crate::{Error, Result};

/// Largest file of accelerators or prices that is read: hundreds of times the built-in ones.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Reads a user's file whole.
fn read_file(path: &Path) -> Result<String> {
    let io_error = |source| Error::Io { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(io_error)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(io_error)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let reason = format!("larger than {} MiB, which no table of accelerators or prices is", FILE_BYTES_MAX >> 20);
        return Err(Error::Malformed { place: path.display().to_string(), reason });
    }
    Ok(text)
}

/// Deserialises TOML; an error says the line.
fn parse_toml<T: serde::de::DeserializeOwned>(text: &str, place: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| Error::Malformed {
        place: error.span().map_or_else(|| place.to_owned(), |span| at_line(text, place, span.start)),
        reason: error.message().to_owned(),
    })
}

/// The place of a byte in a file, by line.
fn at_line(text: &str, place: &str, byte: usize) -> String {
    let line = 1 + text.as_bytes().iter().take(byte).filter(|byte| **byte == b'\n').count();
    format!("{place}, line {line}")
}
