//! The mark by which a Parquet file is known as a store, with a checksum of the file.
//!
//! The crate that reads Parquet does not promise to survive a damaged file. So nothing is parsed before the checksum of
//! the whole file holds: it stands in the footer's key-value metadata, and is taken with zeros in its own place.

use std::io::{self, Read, Seek, SeekFrom};

use bytes::Bytes;
use xxhash_rust::xxh64::Xxh64;

use super::Refusal;
use crate::reports::SkipKind;

/// The first and the last bytes of a Parquet file.
pub(super) const MAGIC: &[u8] = b"PAR1";
/// The key of the mark.
pub(super) const KEY: &str = "config-explorer.runs";
/// The mark before its checksum is known. The number rises when an older program would misread the columns.
pub(super) const MARK: &str = "config-explorer/runs/v1 xxh64:0000000000000000";
/// How marks of all versions start.
const MARK_START: &[u8] = b"config-explorer/runs/v";
const DIGITS: usize = 16;
/// A longer footer is none: a column of a group of rows takes some 100 bytes in it.
const FOOTER_BYTES_MAX: u64 = 64 << 20;
/// Length of the metadata, and magic.
const END_BYTES: u64 = 8;

/// Puts the checksum into the mark of a file, where it has one.
pub(super) fn close(bytes: &mut [u8]) {
    let before = &MARK.as_bytes()[..MARK.len() - DIGITS];
    let Some(at) = find(bytes, before).map(|at| at + before.len()) else { return };
    if at + DIGITS <= bytes.len() {
        let digits = checksum(bytes, at);
        bytes[at..at + DIGITS].copy_from_slice(digits.as_bytes());
    }
}

/// Reads a file that has the mark and its checksum. Of other files only the footer is read.
pub(super) fn open(source: &mut (impl Read + Seek)) -> Result<Bytes, Refusal> {
    let cut_off = || Refusal::damaged("is a Parquet file that is cut off or damaged");
    let failed = |error: io::Error| Refusal::damaged(error.to_string());
    let size = source.seek(SeekFrom::End(0)).map_err(failed)?;
    let end = read_last(source, size.min(END_BYTES)).map_err(failed)?;
    let (length, magic) = end.split_first_chunk::<4>().ok_or_else(cut_off)?;
    let footer_bytes = u64::from(u32::from_le_bytes(*length)) + END_BYTES;
    if magic != MAGIC || footer_bytes > size.min(FOOTER_BYTES_MAX) {
        return Err(cut_off());
    }
    let footer = read_last(source, footer_bytes).map_err(failed)?;
    let foreign = |reason: &str| Refusal { kind: SkipKind::NotAResult, reason: reason.to_owned() };
    let at = find(&footer, MARK_START).ok_or_else(|| foreign("is a Parquet file of another program"))?;
    let version = MARK.len() - DIGITS;
    if footer.get(at..at + version) != Some(&MARK.as_bytes()[..version]) {
        return Err(Refusal::damaged("is a store of a newer version of this program, or damaged"));
    }
    drop(footer);
    let bytes = read_last(source, size).map_err(failed)?;
    // Found again, since the file may have changed in between.
    let at = find(&bytes, &MARK.as_bytes()[..version]).map(|at| at + version);
    let digits = at.and_then(|at| Some((at, bytes.get(at..at + DIGITS)?)));
    if digits.is_none_or(|(at, digits)| digits != checksum(&bytes, at).as_bytes()) {
        return Err(Refusal::damaged("is a store that is damaged: its checksum does not hold"));
    }
    Ok(bytes.into())
}

/// The checksum of a file, with zeros for the digits that stand at `at`.
fn checksum(bytes: &[u8], at: usize) -> String {
    let mut hash = Xxh64::new(0);
    hash.update(&bytes[..at]);
    hash.update(&[b'0'; DIGITS]);
    hash.update(&bytes[at + DIGITS..]);
    format!("{:016x}", hash.digest())
}

/// Where the last such text stands: the metadata are at the end of the file, behind the schema and the row groups.
fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).rposition(|window| window == text)
}

fn read_last(source: &mut (impl Read + Seek), length: u64) -> io::Result<Vec<u8>> {
    source.seek(SeekFrom::End(-(length as i64)))?;
    let mut bytes = Vec::with_capacity(length as usize);
    source.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}
