//! Measured kernel tables: Parquet files of operator latencies, one row for each shape.
//!
//! In: an installed copy of `aiconfigurator-core` (or a folder of the same form:
//! `<system>/<family>/vllm/<version>/<operator>_perf.parquet`, latencies in milliseconds). Out: the columns of the tables of
//! one accelerator, by name. What they are worth is for [`crate::latency`] to judge.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use arrow_array::{Array, Float64Array, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use crate::engine::Version;
use crate::hardware::{Accelerator, Accelerators};
use crate::{Error, Result};

/// Largest file that is read: twenty times the largest of version 0.12.0.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Most rows of a table: ten times those of the largest.
const ROWS_MAX: usize = 2_000_000;

/// What a table measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KernelOperator {
    /// Matrix multiplications.
    Gemm,
    /// Fused experts.
    Experts,
    /// Attention of prompts.
    Prefill,
    /// Attention of decoding sequences.
    Decode,
    /// All-reduce.
    AllReduce,
}

/// Where the tables of an operator are, and the columns that are read.
struct Source {
    operator: KernelOperator,
    family: &'static str,
    file: &'static str,
    numbers: &'static [&'static str],
    texts: &'static [&'static str],
    /// Columns that older tables lack.
    optional: &'static [&'static str],
}

const SOURCES: [Source; 5] = [
    Source {
        operator: KernelOperator::Gemm,
        family: "gemm",
        file: "gemm_perf.parquet",
        numbers: &["m", "n", "k", "latency"],
        texts: &["gemm_dtype"],
        optional: &[],
    },
    Source {
        operator: KernelOperator::Experts,
        family: "moe",
        file: "moe_perf.parquet",
        numbers: &[
            "num_tokens",
            "hidden_size",
            "inter_size",
            "topk",
            "num_experts",
            "moe_tp_size",
            "moe_ep_size",
            "latency",
        ],
        texts: &["moe_dtype", "distribution"],
        optional: &[],
    },
    Source {
        operator: KernelOperator::Prefill,
        family: "attention",
        file: "context_attention_perf.parquet",
        numbers: &["batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim", "latency"],
        texts: &["kv_cache_dtype"],
        optional: &["window_size"],
    },
    Source {
        operator: KernelOperator::Decode,
        family: "attention",
        file: "generation_attention_perf.parquet",
        numbers: &["batch_size", "step", "num_heads", "num_key_value_heads", "head_dim", "latency"],
        texts: &["kv_cache_dtype"],
        optional: &["window_size"],
    },
    Source {
        operator: KernelOperator::AllReduce,
        family: "comm",
        file: "custom_allreduce_perf.parquet",
        numbers: &["num_gpus", "message_size", "latency"],
        texts: &[],
        optional: &["backend"],
    },
];

/// One table.
#[derive(Debug, Clone, Default)]
pub struct KernelTable {
    /// Its path below the folder of the tables.
    pub name: String,
    numbers: BTreeMap<String, Vec<f64>>,
    texts: BTreeMap<String, Vec<String>>,
    rows: usize,
}

impl KernelTable {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// A number of a row; 0 where the table lacks the column.
    pub fn number(&self, column: &str, row: usize) -> f64 {
        self.numbers.get(column).and_then(|values| values.get(row)).copied().unwrap_or(0.0)
    }

    /// A text of a row; empty where the table lacks the column.
    pub fn text(&self, column: &str, row: usize) -> &str {
        self.texts.get(column).and_then(|values| values.get(row)).map_or("", String::as_str)
    }
}

/// The tables of one accelerator.
#[derive(Debug, Clone, Default)]
pub struct KernelTables {
    /// By operator, those of the nearest version first.
    pub tables: Vec<(KernelOperator, KernelTable)>,
    /// Files that could not be read, with the reason.
    pub unreadable: Vec<String>,
}

impl KernelTables {
    /// Reads the tables of an accelerator from an installed `aiconfigurator-core`, or from a folder with the systems'
    /// folders. The version nearest to the engine's comes first, of two as near the older.
    ///
    /// # Errors
    /// [`Error::Io`] for a folder that cannot be read, [`Error::Malformed`] for one without tables of the accelerator.
    pub fn read(
        folder: &Path,
        accelerators: &Accelerators,
        accelerator: &Accelerator,
        engine: Version,
    ) -> Result<Self> {
        let within = ["aiconfigurator_core/systems/data", "systems/data", "data", ""];
        let root = within.iter().map(|part| folder.join(part)).find(|path| path.is_dir());
        let root = root.unwrap_or_else(|| folder.to_owned());
        let systems = folders(&root)?;
        let system = systems.iter().find(|name| accelerators.find(name).is_ok_and(|found| found == accelerator));
        let Some(system) = system else {
            return Err(Error::Malformed {
                place: root.display().to_string(),
                reason: format!(
                    "holds no kernel tables of {}: `--kernel-tables` takes the folder of an installed aiconfigurator-core, \
                     or its systems/data",
                    accelerator.name
                ),
            });
        };
        let mut read = Self::default();
        for source in &SOURCES {
            let versions = root.join(system).join(source.family).join("vllm");
            let mut known: Vec<(Version, String)> = folders(&versions)
                .unwrap_or_default()
                .into_iter()
                .filter_map(|name| Some((name.parse().ok()?, name)))
                .filter(|(_, name)| versions.join(name).join(source.file).is_file())
                .collect();
            // Kernels change from release to release: the nearest is the likest, of two as near the older.
            known.sort_by_key(|(version, _)| {
                let minor = version.minor.abs_diff(engine.minor);
                (version.major.abs_diff(engine.major), minor, version.patch.abs_diff(engine.patch), *version)
            });
            for (_, version) in known {
                let name = format!("{system}/{}/vllm/{version}/{}", source.family, source.file);
                match read_table(&root.join(&name), source) {
                    Ok(table) => read.tables.push((source.operator, KernelTable { name, ..table })),
                    Err(reason) => read.unreadable.push(format!("{name}: {reason}")),
                }
            }
        }
        Ok(read)
    }
}

/// Names of the folders in a folder, sorted.
fn folders(path: &Path) -> Result<Vec<String>> {
    let io = |source| Error::Io { path: PathBuf::from(path), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.path().is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

/// The error is a reason. Damaged files can make the Parquet crate panic, which is caught.
fn read_table(path: &Path, source: &Source) -> Result<KernelTable, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("is larger than {} MiB", FILE_BYTES_MAX >> 20));
    }
    let bytes = Bytes::from(std::fs::read(path).map_err(|error| error.to_string())?);
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(&bytes, source)));
    decoded.unwrap_or_else(|_| Err("the Parquet reader gave up on it".to_owned()))
}

fn decode(bytes: &Bytes, source: &Source) -> Result<KernelTable, String> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = ArrowReaderMetadata::load(bytes, options).map_err(|error| error.to_string())?;
    let names: Vec<String> = metadata.schema().fields().iter().map(|field| field.name().clone()).collect();
    let needed = source.numbers.iter().chain(source.texts);
    if let Some(missing) = needed.clone().find(|column| !names.iter().any(|name| name == *column)) {
        return Err(format!("has no column `{missing}`"));
    }
    let wanted: Vec<&str> = needed.chain(source.optional).copied().collect();
    let leaves = names.iter().enumerate().filter(|(_, name)| wanted.contains(&name.as_str())).map(|(index, _)| index);
    let mask = ProjectionMask::leaves(metadata.parquet_schema(), leaves);
    let rows = metadata.metadata().file_metadata().num_rows();
    if !usize::try_from(rows).is_ok_and(|rows| rows <= ROWS_MAX) {
        return Err(format!("has {rows} rows, which no such table has"));
    }
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata)
        .with_projection(mask)
        .build()
        .map_err(|error| error.to_string())?;
    let mut table = KernelTable::default();
    for batch in reader {
        append(&mut table, &batch.map_err(|error| error.to_string())?)?;
    }
    if table.rows > ROWS_MAX {
        return Err(format!("has {} rows, which no such table has", table.rows));
    }
    for column in source.numbers {
        let values = table.numbers.get(*column).ok_or_else(|| format!("column `{column}` holds no numbers"))?;
        // Every one is a size or a time.
        if let Some(wrong) = values.iter().find(|value| !(value.is_finite() && **value >= 0.0)) {
            return Err(format!("column `{column}` holds {wrong}"));
        }
    }
    Ok(table)
}

/// Adds the rows of a batch.
fn append(table: &mut KernelTable, batch: &RecordBatch) -> Result<(), String> {
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let name = field.name();
        if array.null_count() > 0 {
            return Err(format!("column `{name}` has empty cells"));
        }
        let any = array.as_any();
        if let Some(integers) = any.downcast_ref::<Int64Array>() {
            table.numbers.entry(name.clone()).or_default().extend(integers.values().iter().map(|value| *value as f64));
        } else if let Some(floats) = any.downcast_ref::<Float64Array>() {
            table.numbers.entry(name.clone()).or_default().extend(floats.values());
        } else if let Some(texts) = any.downcast_ref::<StringArray>() {
            table.texts.entry(name.clone()).or_default().extend(texts.iter().flatten().map(str::to_owned));
        } else {
            return Err(format!("column `{name}` is {}", field.data_type()));
        }
    }
    table.rows += batch.num_rows();
    Ok(())
}
