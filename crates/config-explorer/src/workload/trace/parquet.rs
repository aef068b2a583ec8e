//! This project's columns as Parquet.

use std::io::BufRead;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type, UInt32Type, UInt64Type};
use arrow_array::{Array, RecordBatch, cast::AsArray};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::Builder;
use super::csv::{REQUESTS, row};
use crate::{Error, Result};

/// Rows that are read at once.
const BATCH: usize = 8192;

/// A file that was made with a bad intent can make the Parquet crate panic, which is caught.
pub(super) fn read(mut reader: impl BufRead, builder: &mut Builder<'_>) -> Result<()> {
    let place = builder.place;
    let malformed = |reason: String| Error::Malformed { place: place.to_owned(), reason };
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(|error| builder.io(error))?;
    catch_unwind(AssertUnwindSafe(|| read_trusting(bytes.into(), builder)))
        .unwrap_or_else(|_| Err(malformed("the Parquet reader gave up on it".to_owned())))
}

fn read_trusting(bytes: Bytes, builder: &mut Builder<'_>) -> Result<()> {
    let place = builder.place;
    let malformed = |reason: String| Error::Malformed { place: place.to_owned(), reason };
    let batches = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .and_then(|builder| builder.with_batch_size(BATCH).build())
        .map_err(|error| malformed(error.to_string()))?;
    let mut line = 0;
    for batch in batches {
        let batch = batch.map_err(|error| malformed(error.to_string()))?;
        let schema = batch.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| &field.name()[..]).collect();
        let places = REQUESTS.places(&names).map_err(malformed)?;
        let columns = (0..names.len())
            .map(|column| if places.contains(column) { texts(&batch, column) } else { Ok(Vec::new()) })
            .collect::<Result<Vec<_>, String>>()
            .map_err(malformed)?;
        for index in 0..batch.num_rows() {
            line += 1;
            let cells = |column: usize| columns.get(column)?.get(index)?.as_deref();
            if !builder.take(line, row(&places, &cells))? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The cells of a column as text, as a CSV file would have them.
fn texts(batch: &RecordBatch, column: usize) -> Result<Vec<Option<String>>, String> {
    let array = batch.column(column);
    macro_rules! cells {
        ($array:expr) => {
            Ok($array.iter().map(|cell| cell.map(|cell| cell.to_string())).collect())
        };
    }
    if let Some(array) = array.as_primitive_opt::<Float64Type>() {
        cells!(array)
    } else if let Some(array) = array.as_primitive_opt::<Float32Type>() {
        cells!(array)
    } else if let Some(array) = array.as_primitive_opt::<Int64Type>() {
        cells!(array)
    } else if let Some(array) = array.as_primitive_opt::<Int32Type>() {
        cells!(array)
    } else if let Some(array) = array.as_primitive_opt::<UInt64Type>() {
        cells!(array)
    } else if let Some(array) = array.as_primitive_opt::<UInt32Type>() {
        cells!(array)
    } else if let Some(array) = array.as_string_opt::<i32>() {
        cells!(array)
    } else if let Some(array) = array.as_string_opt::<i64>() {
        cells!(array)
    } else if let Some(array) = array.as_string_view_opt() {
        cells!(array)
    } else {
        let name = batch.schema().field(column).name().clone();
        Err(format!("column `{name}` is {}, neither a number nor text", array.data_type()))
    }
}
