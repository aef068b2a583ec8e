//! One Parquet file: runs in, bytes out, and back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder as ReaderBuilder,
};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use rayon::prelude::*;

use super::seal;
use crate::reports::{Column, ColumnKind, Run, Value, column, columns};

/// Columns whose values seldom repeat: a dictionary of them would only be longer.
const NO_DICTIONARY: [&str; 2] = ["id", "file"];

/// Ids are digests, which no compression makes shorter: a row takes at least as many bytes.
const ID_BYTES_MIN: usize = 32;

/// The content of a file.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The rows.
    pub(super) runs: Vec<Run>,
    /// Columns that this version does not know.
    pub(super) unknown: Vec<String>,
}

/// The bytes of a file with these runs, without the columns that are left out. The error is a reason.
pub(super) fn encode(runs: &[Run], left_out: &[&str]) -> Result<Vec<u8>, String> {
    let stored: Vec<&Column> =
        columns().iter().filter(|column| column.stored && !left_out.contains(&&*column.name)).collect();
    let fields = stored.iter().map(|column| Field::new(&*column.name, data_type(column.kind), column.name != "id"));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    let arrays = stored.par_iter().map(|column| array(column, runs)).collect();

    RecordBatch::try_new(Arc::new(schema), arrays)
        .map_err(ParquetError::from)
        .and_then(|batch| write(&batch))
        .map_err(|error| format!("cannot be written: {error}"))
}

/// A Parquet file of rows, with the mark of a store.
fn write(batch: &RecordBatch) -> Result<Vec<u8>, ParquetError> {
    let mark = KeyValue::new(seal::KEY.to_owned(), seal::MARK.to_owned());
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_key_value_metadata(Some(vec![mark]));
    for field in batch.schema_ref().fields() {
        let repeats = *field.data_type() == DataType::Utf8 && !NO_DICTIONARY.contains(&field.name().as_str());
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(field.name().as_str()), repeats);
    }
    let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), batch.schema(), options)?;
    writer.write(batch)?;
    let mut bytes = writer.into_inner()?;
    seal::close(&mut bytes);
    Ok(bytes)
}

fn data_type(kind: ColumnKind) -> DataType {
    match kind {
        ColumnKind::Text | ColumnKind::Json => DataType::Utf8,
        ColumnKind::Integer => DataType::Int64,
        ColumnKind::Float => DataType::Float64,
        ColumnKind::Boolean => DataType::Boolean,
    }
}

/// The values of a column; what is not of its kind is null.
fn array(column: &Column, runs: &[Run]) -> ArrayRef {
    let values = runs.iter().map(|run| column.get(run));
    match column.kind {
        ColumnKind::Text | ColumnKind::Json => {
            let text = |value| if let Some(Value::Text(text)) = value { Some(text) } else { None };
            Arc::new(values.map(text).collect::<StringArray>())
        }
        ColumnKind::Integer => {
            let integer = |value| if let Some(Value::Integer(number)) = value { Some(number) } else { None };
            Arc::new(values.map(integer).collect::<Int64Array>())
        }
        ColumnKind::Float => {
            let number = |value: Option<Value<'_>>| value?.number().filter(|number| number.is_finite());
            Arc::new(values.map(number).collect::<Float64Array>())
        }
        ColumnKind::Boolean => {
            let boolean = |value| if let Some(Value::Boolean(boolean)) = value { Some(boolean) } else { None };
            Arc::new(values.map(boolean).collect::<BooleanArray>())
        }
    }
}

/// The runs of a file whose checksum holds, and the names of the stored columns that it does not have.
///
/// The error is a reason. A file that was made with a bad intent can have the right checksum and still make the Parquet
/// crate panic, which is caught.
pub(super) fn decode(bytes: &Bytes) -> Result<(Table, Vec<&'static str>), String> {
    let decoded = catch_unwind(AssertUnwindSafe(|| decode_trusting(bytes)));
    decoded
        .unwrap_or_else(|_| Err("the Parquet reader gave up on it".to_owned()))
        .map_err(|reason| format!("is a store that cannot be read: {reason}"))
}

fn decode_trusting(bytes: &Bytes) -> Result<(Table, Vec<&'static str>), String> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = ArrowReaderMetadata::load(bytes, options).map_err(|error| error.to_string())?;
    let mut table = Table::default();
    let mut known: Vec<(usize, &'static Column)> = Vec::new();
    for (index, field) in metadata.schema().fields().iter().enumerate() {
        match column(field.name()) {
            Ok(column) if column.stored && column.name == **field.name() => {
                let expected = data_type(column.kind);
                if *field.data_type() != expected {
                    return Err(format!("column `{}` is {}, not {expected}", column.name, field.data_type()));
                }
                known.push((index, column));
            }
            _ => table.unknown.push(field.name().clone()),
        }
    }
    let has = |name: &str| known.iter().any(|(_, column)| column.name == name);
    let missing: Vec<&str> =
        columns().iter().filter(|column| column.stored && !has(&column.name)).map(|column| &*column.name).collect();
    if missing.contains(&"id") {
        return Err("it has no column `id`".to_owned());
    }
    for (group, of_group) in metadata.metadata().row_groups().iter().enumerate() {
        let rows = usize::try_from(of_group.num_rows()).ok().filter(|rows| *rows <= bytes.len() / ID_BYTES_MIN);
        let rows = rows.ok_or("it has more rows than bytes for them")?;
        if rows == 0 {
            continue;
        }
        let cells = known.par_iter().filter_map(|&(index, column)| {
            let cells = read_column(bytes, &metadata, group, index, rows).transpose();
            // Every row has an id; other columns may be empty.
            let no_id = || (column.name == "id").then(|| Err(ParquetError::General("no id".to_owned())));
            let cells = cells.or_else(no_id)?;
            Some(cells.map(|cells| (column, cells)).map_err(|error| format!("column `{}`: {error}", column.name)))
        });
        restore(&cells.collect::<Result<Vec<_>, String>>()?, rows, &mut table.runs)?;
    }
    Ok((table, missing))
}

/// The values of a column in a group of rows.
enum Cells {
    Text(StringArray),
    Integer(Int64Array),
    Float(Float64Array),
    Boolean(BooleanArray),
}

impl Cells {
    fn of(array: &dyn Array) -> Option<Self> {
        let array = array.as_any();
        None.or_else(|| array.downcast_ref().cloned().map(Self::Text))
            .or_else(|| array.downcast_ref().cloned().map(Self::Integer))
            .or_else(|| array.downcast_ref().cloned().map(Self::Float))
            .or_else(|| array.downcast_ref().cloned().map(Self::Boolean))
    }

    fn get(&self, row: usize) -> Option<Value<'_>> {
        match self {
            Self::Text(array) => array.is_valid(row).then(|| Value::Text(array.value(row).into())),
            Self::Integer(array) => array.is_valid(row).then(|| Value::Integer(array.value(row))),
            Self::Float(array) => array.is_valid(row).then(|| Value::Float(array.value(row))),
            Self::Boolean(array) => array.is_valid(row).then(|| Value::Boolean(array.value(row))),
        }
    }
}

/// One column of a group of rows; none where it holds nothing.
fn read_column(
    bytes: &Bytes,
    metadata: &ArrowReaderMetadata,
    group: usize,
    column: usize,
    rows: usize,
) -> Result<Option<Cells>, ParquetError> {
    let reader = ReaderBuilder::new_with_metadata(bytes.clone(), metadata.clone())
        .with_projection(ProjectionMask::leaves(metadata.parquet_schema(), [column]))
        .with_row_groups(vec![group])
        .with_batch_size(rows)
        .build()?;
    let batches = reader.collect::<Result<Vec<_>, ArrowError>>()?;
    let array = match &batches[..] {
        [batch] if batch.num_rows() == rows && batch.num_columns() == 1 => batch.column(0),
        _ => return Err(ParquetError::General("has not the rows that it should have".to_owned())),
    };
    Ok(if array.null_count() == rows { None } else { Cells::of(array) })
}

/// Runs that are filled together, column by column: few enough for the processor's cache, many enough that it learns
/// what the column needs.
const BLOCK: usize = 64;

/// Adds the runs of a group of rows.
fn restore(cells: &[(&Column, Cells)], rows: usize, runs: &mut Vec<Run>) -> Result<(), String> {
    let start = runs.len();
    runs.resize_with(start + rows, Run::default);
    runs[start..].par_chunks_mut(BLOCK).enumerate().try_for_each(|(block, runs)| {
        for (column, cells) in cells {
            for (row, run) in (block * BLOCK..).zip(&mut *runs) {
                match cells.get(row) {
                    Some(value) => column.set(run, &value).map_err(|error| format!("row {row}: {error}"))?,
                    None if column.name == "id" => return Err(format!("row {row} has no id")),
                    None => {}
                }
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reports::RunId;
    use crate::reports::store::read_bytes;

    fn table(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
        write(&RecordBatch::try_from_iter(columns).unwrap()).unwrap()
    }

    fn ids(count: u8) -> ArrayRef {
        let id = |at| RunId { content: [at; 32], index: 7 }.to_string();
        Arc::new(StringArray::from_iter_values((0..count).map(id)))
    }

    fn text(value: &str) -> ArrayRef {
        Arc::new(StringArray::from_iter_values([value]))
    }

    fn refusal(bytes: &[u8]) -> String {
        read_bytes(bytes, "x".as_ref()).unwrap_err().reason
    }

    #[test]
    fn columns_may_be_missing_or_unknown() {
        let bytes =
            table(vec![("id", ids(1)), ("gpu", text("H100")), ("colour", text("blue")), ("GPU", text("alias"))]);
        let (table, missing) = decode(&bytes.clone().into()).unwrap();
        assert_eq!(table.runs[0].server.gpu.as_deref(), Some("H100"));
        assert_eq!(table.unknown, ["colour", "GPU"]);
        assert!(missing.contains(&"model") && !missing.contains(&"gpu"));
        let runs = read_bytes(&bytes, "model=a%2Fb/gpu=X9/runs.parquet".as_ref()).unwrap();
        assert_eq!(runs[0].server.model.as_deref(), Some("a/b"), "the folder");
        assert_eq!(runs[0].server.gpu.as_deref(), Some("H100"), "the file's own");
    }

    #[test]
    fn a_store_that_cannot_be_read_says_why() {
        for (columns, reason) in [
            (vec![("gpu", text("H100"))], "it has no column `id`"),
            (vec![("id", ids(1)), ("tp", text("2"))], "column `tp` is Utf8, not Int64"),
            (vec![("id", ids(1)), ("load_kind", text("sometimes"))], "row 0: `load_kind`: `sometimes` is not one of"),
            (vec![("id", Arc::new(StringArray::new_null(1)) as ArrayRef)], "no id"),
            (vec![("id", text("7"))], "is not 64 hexadecimal digits"),
        ] {
            let refusal = refusal(&table(columns));
            assert!(refusal.contains(reason), "{refusal}");
        }
        let newer = table(vec![("id", ids(1))]);
        let at = newer.windows(23).position(|window| window == b"config-explorer/runs/v1").unwrap() + 22;
        let newer = [&newer[..at], b"2", &newer[at + 1..]].concat();
        assert!(refusal(&newer).contains("newer version"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// Damage that the checksum cannot tell: what is parsed then must not panic or take all memory.
        #[test]
        fn a_bad_intent_is_refused_or_read(edits in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..8)) {
            let mut bytes = table(vec![("id", ids(9)), ("gpu", Arc::new(StringArray::from(vec!["H100"; 9])))]);
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            seal::close(&mut bytes);
            let _ = read_bytes(&bytes, "x".as_ref());
        }
    }
}
