//! The requests of a simulation as a table of a file: CSV or Parquet.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::outcome::FinishedRequests;
use super::{NS_PER_MS, NS_PER_S};
use crate::workload::{Quantity, Statistic};
use crate::{Error, Result};

/// The word by which every row says that nobody measured it.
const KIND: &str = "simulated";

/// A format of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestsFormat {
    /// Comma-separated text.
    Csv,
    /// Parquet.
    Parquet,
}

impl RequestsFormat {
    /// The format that a file's name asks for.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for any ending but `.csv` and `.parquet`.
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase().as_str() {
            "csv" => Ok(Self::Csv),
            "parquet" => Ok(Self::Parquet),
            _ => Err(Error::InvalidSetting {
                setting: "--requests-out".to_owned(),
                reason: format!("`{}` must end in .csv or .parquet", path.display()),
            }),
        }
    }
}

/// A column of the table.
enum Column {
    Count(&'static str, Vec<u32>),
    Time(&'static str, Vec<Option<f64>>),
}

impl FinishedRequests {
    /// A row for each request, in the order of sending: `kind` (always `simulated`), `request`, `sent_s`,
    /// `queueing_ms`, `ttft_ms`, `tpot_ms`, `e2e_ms`, `input_tokens`, `output_tokens`, `cached_tokens`, `preemptions`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the table cannot be written.
    pub fn file(&self, format: RequestsFormat) -> Result<Vec<u8>> {
        let columns = self.columns();
        let failed = |reason: String| Error::Malformed { place: "the table of requests".to_owned(), reason };
        match format {
            RequestsFormat::Csv => csv(&columns, self.len()).map_err(|error| failed(error.to_string())),
            RequestsFormat::Parquet => parquet(columns, self.len()).map_err(|error| failed(error.to_string())),
        }
    }

    fn columns(&self) -> Vec<Column> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_unstable_by_key(|&at| self.request[at]);
        let count = |name, column: &[u32]| Column::Count(name, order.iter().map(|&at| column[at]).collect());
        let time = |name, value: &dyn Fn(usize) -> Option<f64>| {
            Column::Time(name, order.iter().map(|&at| value(at)).collect())
        };
        let latency = |name, quantity| time(name, &|at| self.latency_ms(at, quantity));
        // A request has one latency, whatever the statistic.
        let own = Statistic::Mean;
        vec![
            count("request", &self.request),
            time("sent_s", &|at| Some(self.sent_ns[at] as f64 / NS_PER_S)),
            time("queueing_ms", &|at| Some((self.admitted_ns[at] - self.sent_ns[at]) as f64 / NS_PER_MS)),
            latency("ttft_ms", Quantity::Ttft(own)),
            latency("tpot_ms", Quantity::Tpot(own)),
            latency("e2e_ms", Quantity::E2e(own)),
            count("input_tokens", &self.input_tokens),
            count("output_tokens", &self.output_tokens),
            count("cached_tokens", &self.cached_tokens),
            count("preemptions", &self.preemptions),
        ]
    }
}

fn csv(columns: &[Column], rows: usize) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let names = columns.iter().map(|column| match column {
        Column::Count(name, _) | Column::Time(name, _) => *name,
    });
    writer.write_record(std::iter::once("kind").chain(names))?;
    for row in 0..rows {
        writer.write_field(KIND)?;
        for column in columns {
            writer.write_field(match column {
                Column::Count(_, values) => values[row].to_string(),
                // Nanoseconds, as the clock counts.
                Column::Time(_, values) => values[row].map_or_else(String::new, |value| format!("{value:.6}")),
            })?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

fn parquet(columns: Vec<Column>, rows: usize) -> Result<Vec<u8>, ParquetError> {
    let kind: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(KIND, rows)));
    let arrays = columns.into_iter().map(|column| -> (&str, ArrayRef, bool) {
        match column {
            Column::Count(name, values) => (name, Arc::new(UInt32Array::from(values)), false),
            Column::Time(name, values) => (name, Arc::new(Float64Array::from(values)), true),
        }
    });
    let batch = RecordBatch::try_from_iter_with_nullable(std::iter::once(("kind", kind, false)).chain(arrays))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(vec![KeyValue::new("kind".to_owned(), KIND.to_owned())]))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.into_inner()
}
