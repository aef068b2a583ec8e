//! The binary header of a GGUF file, versions 2 and 3.
//!
//! Layout: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Strings and arrays that say nothing of the
//! model's shape (the tokenizer's) are skipped, not kept; nothing is allocated on the word of a length field.

use std::collections::HashMap;
use std::io::{self, BufRead, Read};

use super::types::{Storage, storage};

/// The most metadata keys and tensors a file may have. Real ones have some dozens and some thousands.
const KEYS_MAX: u64 = 10_000;
const TENSORS_MAX: u64 = 1_000_000;

/// The longest header. Real ones have some megabytes, most of it vocabulary.
const HEADER_BYTES_MAX: u64 = 256 << 20;

/// The longest key or tensor name, in bytes (the specification's limit for keys).
const NAME_BYTES_MAX: u64 = 65_535;

/// Longer strings and arrays are skipped: chat templates, vocabularies and merges. A value for each layer is kept.
const KEPT_BYTES_MAX: u64 = 65_536;
const KEPT_ELEMENTS_MAX: u64 = 1_024;

/// llama.cpp's `GGML_MAX_DIMS`.
const DIMENSIONS_MAX: u32 = 4;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    String(String),
    Array(Vec<Self>),
    /// A string or array that was too long to keep, with its length.
    Skipped(u64),
}

/// One tensor of the file.
#[derive(Debug, Clone)]
pub(super) struct TensorInfo {
    pub(super) name: String,
    /// Rows first, as torch counts.
    pub(super) shape: Vec<u64>,
    pub(super) storage: Storage,
    /// Bytes of the tensor.
    pub(super) bytes: u64,
}

/// What stands before the tensor data.
#[derive(Debug, Clone, Default)]
pub struct Header {
    pub(super) metadata: HashMap<String, Value>,
    pub(super) tensors: Vec<TensorInfo>,
}

/// What is wrong with a header.
#[derive(Debug)]
pub(super) enum HeaderError {
    Io(io::Error),
    Malformed(String),
}

impl From<io::Error> for HeaderError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Malformed("truncated: the file ends within its header".to_owned()),
            _ => Self::Io(error),
        }
    }
}

impl HeaderError {
    fn within(self, key: &str) -> Self {
        match self {
            Self::Malformed(reason) => Self::Malformed(format!("`{key}`: {reason}")),
            Self::Io(error) => Self::Io(error),
        }
    }
}

type Result<T> = std::result::Result<T, HeaderError>;

fn malformed<T>(reason: impl Into<String>) -> Result<T> {
    Err(HeaderError::Malformed(reason.into()))
}

impl Header {
    /// Reads a header from the start of a file.
    pub(super) fn read(reader: impl BufRead) -> Result<Self> {
        let reader = &mut reader.take(HEADER_BYTES_MAX);
        if &bytes::<4>(reader)? != b"GGUF" {
            return malformed("not a GGUF file: it does not begin with `GGUF`");
        }
        match u32(reader)? {
            2 | 3 => {}
            version if matches!(version.swap_bytes(), 2 | 3) => {
                return malformed("a big-endian GGUF file; only little-endian ones are read");
            }
            version => return malformed(format!("GGUF version {version}; versions 2 and 3 are read")),
        }
        let tensor_count = count(u64(reader)?, TENSORS_MAX, "tensors")?;
        let metadata_count = count(u64(reader)?, KEYS_MAX, "metadata keys")?;
        let mut header = Self::default();
        for _ in 0..metadata_count {
            let key = name(reader)?;
            let kind = u32(reader)?;
            let value = value(reader, kind).map_err(|error| error.within(&key))?;
            header.metadata.insert(key, value);
        }
        for _ in 0..tensor_count {
            header.tensors.push(tensor_info(reader)?);
        }
        Ok(header)
    }
}

fn count(count: u64, most: u64, what: &str) -> Result<u64> {
    if count > most {
        return malformed(format!("claims {count} {what}; at most {most} are allowed"));
    }
    Ok(count)
}

fn tensor_info(reader: &mut impl BufRead) -> Result<TensorInfo> {
    let name = name(reader)?;
    let wrong = |reason: String| HeaderError::Malformed(format!("tensor `{name}`: {reason}"));
    let dimensions = u32(reader)?;
    if dimensions > DIMENSIONS_MAX {
        return Err(wrong(format!("{dimensions} dimensions; at most {DIMENSIONS_MAX} are allowed")));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(u64(reader)?);
    }
    let number = u32(reader)?;
    let storage = storage(number).ok_or_else(|| wrong(format!("unknown element type {number}")))?;
    let _offset = u64(reader)?;
    // The first dimension varies fastest; blocks do not cross it.
    let row_elements = shape.first().copied().unwrap_or(1);
    if row_elements % storage.block_elements != 0 {
        return Err(wrong(format!(
            "rows of {row_elements} elements are not whole blocks of {} elements",
            storage.block_elements
        )));
    }
    let bytes = shape
        .iter()
        .skip(1)
        .try_fold(row_elements / storage.block_elements, |blocks, &side| blocks.checked_mul(side))
        .and_then(|blocks| blocks.checked_mul(storage.block_bytes))
        .ok_or_else(|| wrong(format!("shape {shape:?} is too large")))?;
    shape.reverse();
    Ok(TensorInfo { name, shape, storage, bytes })
}

fn value(reader: &mut impl BufRead, kind: u32) -> Result<Value> {
    Ok(match kind {
        0 => Value::Unsigned(bytes::<1>(reader)?[0].into()),
        1 => Value::Signed(i8::from_le_bytes(bytes(reader)?).into()),
        2 => Value::Unsigned(u16::from_le_bytes(bytes(reader)?).into()),
        3 => Value::Signed(i16::from_le_bytes(bytes(reader)?).into()),
        4 => Value::Unsigned(u32(reader)?.into()),
        5 => Value::Signed(i32::from_le_bytes(bytes(reader)?).into()),
        6 => Value::Float(f32::from_le_bytes(bytes(reader)?).into()),
        7 => Value::Bool(bytes::<1>(reader)?[0] != 0),
        8 => match u64(reader)? {
            length if length > KEPT_BYTES_MAX => {
                skip(reader, length)?;
                Value::Skipped(length)
            }
            length => Value::String(string(reader, length)?),
        },
        9 => array(reader)?,
        10 => Value::Unsigned(u64(reader)?),
        11 => Value::Signed(i64::from_le_bytes(bytes(reader)?)),
        12 => Value::Float(f64::from_le_bytes(bytes(reader)?)),
        _ => return malformed(format!("unknown value type {kind}")),
    })
}

fn array(reader: &mut impl BufRead) -> Result<Value> {
    let kind = u32(reader)?;
    let length = u64(reader)?;
    let element_bytes = match kind {
        0 | 1 | 7 => 1_u64,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        8 => 0,
        _ => return malformed(format!("an array of type {kind}")),
    };
    if length <= KEPT_ELEMENTS_MAX {
        return (0..length).map(|_| value(reader, kind)).collect::<Result<_>>().map(Value::Array);
    }
    match length.checked_mul(element_bytes) {
        // Strings carry their own lengths. Each takes bytes of the file, so that its end bounds the loop.
        Some(0) => {
            for _ in 0..length {
                let bytes = u64(reader)?;
                skip(reader, bytes)?;
            }
        }
        Some(bytes) => skip(reader, bytes)?,
        None => return malformed(format!("an array of {length} elements is too long")),
    }
    Ok(Value::Skipped(length))
}

fn name(reader: &mut impl BufRead) -> Result<String> {
    match u64(reader)? {
        length if length > NAME_BYTES_MAX => malformed(format!("a name of {length} bytes")),
        length => string(reader, length),
    }
}

/// A string of a length that its caller has bounded.
fn string(reader: &mut impl BufRead, length: u64) -> Result<String> {
    let mut text = Vec::new();
    reader.by_ref().take(length).read_to_end(&mut text)?;
    if (text.len() as u64) < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    String::from_utf8(text).or_else(|_| malformed("a string that is not UTF-8"))
}

fn skip(reader: &mut impl BufRead, mut length: u64) -> Result<()> {
    while length > 0 {
        let available = reader.fill_buf()?.len() as u64;
        if available == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let step = available.min(length);
        reader.consume(step as usize);
        length -= step;
    }
    Ok(())
}

fn bytes<const N: usize>(reader: &mut impl BufRead) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn u32(reader: &mut impl BufRead) -> Result<u32> {
    Ok(u32::from_le_bytes(bytes(reader)?))
}

fn u64(reader: &mut impl BufRead) -> Result<u64> {
    Ok(u64::from_le_bytes(bytes(reader)?))
}
