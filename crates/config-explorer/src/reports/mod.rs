//! Benchmark results of every tool in one table: files in, [`Run`]s out.
//!
//! In: paths of result files and folders, or bytes. Out: one [`Run`] for each measured operating point, with what it
//! measured converted to one set of definitions and units, where each field came from, and what does not add up.
//! Each reader names the source of its format; the columns are those of llm-d's benchmark report v0.2 and of the
//! original `config_explorer`.

mod columns;
mod detect;
mod formats;
mod import;
mod json;
mod kernel_tables;
mod lenient;
mod normalise;
mod path;
mod run;
mod sidecar;
pub mod store;
mod time;
mod write;

pub use crate::workload::{Statistic, Statistics};
pub use columns::{Column, ColumnKind, Direction, Group, Value, column, columns};
pub use detect::Format;
pub use import::{Import, ImportOptions, Progress, SkipKind, Skipped, import, read};
pub use kernel_tables::{KernelOperator, KernelTable, KernelTables};
pub use run::{
    Counts, ItlDefinition, Kind, Latencies, Layout, Provenance, Role, Roles, Router, RouterPlugin, Run, RunId, Server,
    Source, Throughput, TpotDefinition, Warning,
};
pub use write::{BenchmarkReport, to_benchmark_report};
