//! `runs convert FILE --to benchmark-report/v0.2`: a result of any format as a benchmark report.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use clap::builder::PossibleValuesParser;
use config_explorer::Error;
use config_explorer::reports::{ImportOptions, import, to_benchmark_report};

use crate::ExitStatus;
use crate::output::{self, Format};

/// Arguments of `runs convert`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The result file.
    file: PathBuf,

    /// The format to write; YAML, or JSON with `-o json`.
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(["benchmark-report/v0.2"]))]
    to: String,

    /// Which of several runs in the file, from 0.
    #[arg(long, value_name = "N")]
    index: Option<usize>,
}

/// Writes the report. What it has no place for is told on stderr.
pub(super) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let refuse = |setting: &str, reason: String| Error::InvalidSetting { setting: setting.to_owned(), reason };
    if matches!(format, Format::Csv | Format::Markdown) {
        return Err(refuse("--output", "a benchmark report is `yaml` or `json`".to_owned()).into());
    }
    let import = import(std::slice::from_ref(&arguments.file), &ImportOptions::default(), &|_, _| ())?;
    let count = import.runs.len();
    let run = match (count, arguments.index) {
        (0, _) => {
            let reason = import.skipped.first().map_or("holds no result", |skipped| &skipped.reason);
            let place = arguments.file.display().to_string();
            return Err(Error::Malformed { place, reason: reason.to_owned() }.into());
        }
        (1, None) => &import.runs[0],
        (_, None) => {
            return Err(refuse("--index", format!("the file holds {count} runs; choose 0 to {}", count - 1)).into());
        }
        (_, Some(index)) => import
            .runs
            .get(index)
            .ok_or_else(|| refuse("--index", format!("{index} is not one of 0 to {}", count - 1)))?,
    };
    let report = to_benchmark_report(run)?;
    for left_out in &report.left_out {
        anstream::eprintln!("left out: {left_out}");
    }
    let text = match format {
        Format::Json => {
            let report: serde_json::Value =
                serde_saphyr::from_str(&report.yaml).context("the report has a value that JSON cannot hold")?;
            serde_json::to_string_pretty(&report)? + "\n"
        }
        _ => report.yaml,
    };
    output::write(&text)?;
    Ok(ExitStatus::Success)
}
