//! GGUF files, as llama.cpp writes them and vLLM loads them.
//!
//! In: a `.gguf` file, or the first of several (`-00001-of-00003.gguf`). Out: the [`Tensors`] with their exact bytes,
//! and the `config.json` that describes the same model, so that one reader of configs serves every format. Only headers
//! are read, versions 2 and 3. The format is that of <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod config;
mod header;
mod names;
#[cfg(test)]
mod tests;
mod types;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

pub use header::Header;
use header::HeaderError;
pub use types::GgmlType;

use super::Tensors;
use crate::{Error, Result};

/// A model read from GGUF headers.
#[derive(Debug)]
pub struct Gguf {
    /// The equivalent `config.json`.
    pub config: String,
    /// The tensors, under the names that transformers gives them.
    pub tensors: Tensors,
    /// Assumptions that were made, for the user.
    pub warnings: Vec<String>,
}

/// Reads the headers of a GGUF model: of the file, or of all files of a split model that it is part of.
pub fn read(file: &Path) -> Result<Gguf> {
    let mut headers = Vec::new();
    for part in split_files(file) {
        let io_error = |source| Error::Io { path: part.clone(), source };
        let reader = BufReader::with_capacity(64 << 10, File::open(&part).map_err(io_error)?);
        headers.push(parse_header(reader, &part.display().to_string())?);
    }
    from_headers(headers, &file.display().to_string())
}

/// Reads the header of one file. `place` names the file in errors.
pub fn parse_header(reader: impl BufRead, place: &str) -> Result<Header> {
    Header::read(reader).map_err(|error| match error {
        HeaderError::Io(source) => Error::Io { path: PathBuf::from(place), source },
        HeaderError::Malformed(reason) => Error::Malformed { place: place.to_owned(), reason },
    })
}

/// Puts the model together from the headers of its files, the first of which holds the metadata.
pub fn from_headers(headers: impl IntoIterator<Item = Header>, place: &str) -> Result<Gguf> {
    let malformed = |reason| Error::Malformed { place: place.to_owned(), reason };
    let mut headers = headers.into_iter();
    let mut model = headers.next().ok_or_else(|| malformed("no header".to_owned()))?;
    model.tensors.extend(headers.flat_map(|header| header.tensors));
    let (config, warnings) = config::config(&model).map_err(malformed)?;
    let mut tensors = Tensors::default();
    for tensor in model.tensors {
        let name = names::transformers_name(&tensor.name);
        let (mut shape, mut bytes, mut count) = (tensor.shape, tensor.bytes, 1);
        if name.contains(".experts.*.") && !shape.is_empty() {
            count = shape.remove(0);
            bytes = bytes.checked_div(count).unwrap_or(0);
        }
        tensors
            .add(&name, tensor.storage.dtype, shape, bytes, count)
            .map_err(|reason| malformed(format!("tensor `{}`: {reason}", tensor.name)))?;
    }
    Ok(Gguf { config: config.to_string(), tensors, warnings })
}

/// All files of the split model that `model-00001-of-00003.gguf` is part of; the file itself if it is not split.
fn split_files(file: &Path) -> Vec<PathBuf> {
    /// Of the numbers in a split name.
    const DIGITS: usize = 5;

    let parts = || {
        let stem = file.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (stem, total) = stem.rsplit_once("-of-")?;
        let (stem, number) = stem.rsplit_once('-')?;
        if total.len() != DIGITS || number.len() != DIGITS || number.parse::<u32>().is_err() {
            return None;
        }
        let count: u32 = total.parse().ok().filter(|&count| count > 0)?;
        Some((1..=count).map(|part| file.with_file_name(format!("{stem}-{part:05}-of-{total}.gguf"))).collect())
    };
    parts().unwrap_or_else(|| vec![file.to_owned()])
}
