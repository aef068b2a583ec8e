//! Mooncake's JSON lines.

use std::io::BufRead;

use serde::Deserialize;

use super::{Builder, Row};
use crate::Result;

/// Tokens of a block that `hash_ids` numbers.
pub(super) const BLOCK: u32 = 512;
/// Blocks whose positions fit in a text, which has 2^32 tokens.
pub(super) const BLOCKS_OF_TEXT: u32 = 1 << 23;

#[derive(Debug, Deserialize)]
struct Line {
    /// Milliseconds.
    timestamp: f64,
    input_length: u32,
    output_length: u32,
    #[serde(default)]
    hash_ids: Vec<u64>,
}

pub(super) fn read(mut reader: impl BufRead, builder: &mut Builder<'_>) -> Result<()> {
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).map_err(|error| builder.io(error))? == 0 {
            break;
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let parsed = serde_json::from_slice::<Line>(&bytes).map_err(|error| error.to_string());
        let row = parsed.as_ref().map_err(Clone::clone).and_then(|parsed| {
            Ok(Row {
                arrival_ns: super::time::nanoseconds(parsed.timestamp, 1e6)?,
                input: parsed.input_length,
                output: parsed.output_length,
                blocks: &parsed.hash_ids,
                ..Row::default()
            })
        });
        if !builder.take(line, row)? {
            break;
        }
    }
    Ok(())
}
