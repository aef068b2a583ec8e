//! Tables of measurements as CSV.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{Error, Result};

/// Largest table that is read.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A file to read, and what it is called in errors.
///
/// # Errors
/// [`Error::Io`] for a file that cannot be opened.
pub(super) fn open(path: &Path) -> Result<(impl Read, String)> {
    let file = File::open(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    Ok((file.take(FILE_BYTES_MAX), path.display().to_string()))
}

/// The headings of a table, and what `row` makes of each line's cells.
///
/// # Errors
/// [`Error::Malformed`] for what is no CSV, or lacks a column that is needed.
pub(super) fn read<Row>(
    source: impl Read,
    place: &str,
    needed: &[&str],
    row: impl Fn(&[String], Vec<String>) -> Row,
) -> Result<(Vec<String>, Vec<Row>)> {
    let malformed = |reason: String| Error::Malformed { place: place.to_owned(), reason };
    let mut reader = csv::Reader::from_reader(source);
    let headings = reader.headers().map_err(|error| malformed(error.to_string()))?;
    let columns: Vec<String> = headings.iter().map(str::to_owned).collect();
    for needed in needed {
        if !columns.iter().any(|column| column == needed) {
            return Err(malformed(format!("the first line names no column `{needed}`")));
        }
    }
    let rows = reader.records().map(|record| {
        let record = record.map_err(|error| malformed(error.to_string()))?;
        Ok(row(&columns, record.iter().map(str::to_owned).collect()))
    });
    let rows = rows.collect::<Result<_>>()?;
    Ok((columns, rows))
}

/// The trimmed cell of a column; empty where there is none.
pub(super) fn cell<'a>(columns: &[String], cells: &'a [String], name: &str) -> &'a str {
    let position = columns.iter().position(|column| column == name);
    position.map_or("", |position| cells[position].trim())
}
