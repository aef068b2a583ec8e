//! `runs export PATH… --format csv|json|parquet`: runs with all their columns.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use config_explorer::reports::{Column, Run, columns, store};

use super::selection::{Conditions, Paths};
use super::view::View;
use crate::ExitStatus;
use crate::output::{self, Format, Table};

/// Arguments of `runs export`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    paths: Paths,

    #[command(flatten)]
    conditions: Conditions,

    /// The format to write.
    #[arg(long, value_enum)]
    format: ExportFormat,

    /// File to write instead of the standard output. Parquet needs one.
    #[arg(long, value_name = "FILE", required_if_eq("format", "parquet"))]
    out: Option<PathBuf>,
}

/// Formats that hold every column; every command reads CSV and Parquet again.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ExportFormat {
    /// One row a run, one column for each that any run has.
    Csv,
    /// As `-o json` of the other commands.
    Json,
    /// A store, as `runs import` makes it.
    Parquet,
}

/// Writes the runs.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitStatus> {
    let runs = arguments.paths.read()?;
    let selected = arguments.conditions.select(&runs)?;
    let status = ExitStatus::yes_if(!selected.is_empty());
    let text = match (arguments.format, &arguments.out) {
        (ExportFormat::Parquet, out) => {
            let path = out.as_ref().context("`--format parquet` needs `--out FILE`")?;
            store::write(path, &selected.into_iter().cloned().collect::<Vec<Run>>())?;
            return Ok(status);
        }
        (ExportFormat::Json, _) => output::render(&View::default().of(selected, &[])?, Format::Json)?,
        (ExportFormat::Csv, _) => csv(&selected)?,
    };
    match &arguments.out {
        Some(path) => std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))?,
        None => output::write(&text)?,
    }
    Ok(status)
}

fn csv(runs: &[&Run]) -> anyhow::Result<String> {
    let used: Vec<&Column> =
        columns().iter().filter(|column| runs.iter().any(|run| column.get(run).is_some())).collect();
    let mut table = Table::with(used.iter().map(|column| &*column.name));
    for run in runs {
        let cell = |column: &&Column| column.get(run).map(|value| value.to_string()).unwrap_or_default();
        table.push_row(used.iter().map(cell).collect());
    }
    table.csv()
}
