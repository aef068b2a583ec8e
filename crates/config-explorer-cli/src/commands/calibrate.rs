//! `calibrate RUNS.csv --models DIR --out FILE`: coefficients from measured runs, for `--coefficients`.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use config_explorer::latency::Calibration;
use config_explorer::validate::latency::{
    Coefficient, FittedCoefficient, LatencyAccuracy, LeaveOut, MeasuredModels, MeasuredRuns, Method, Scored, fit,
    intervals, leave_one_out, observation,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::ExitStatus;
use crate::arguments::hardware::HardwareArgs;
use crate::output::{self, Answer, Format, Table};

/// Arguments of `calibrate`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// CSV file: a row for each measured operating point.
    file: PathBuf,

    /// Directory of ORG--NAME/config.json folders, which the rows name in `config`.
    #[arg(long, value_name = "DIR")]
    models: PathBuf,

    /// File to write, in TOML.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// What the runs are, for the reader of the file; by default the name of the table.
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,

    #[command(flatten)]
    hardware: HardwareArgs,
}

/// The coefficients, and what they are worth.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CalibrateAnswer {
    /// Rows that the fit used.
    rows: usize,
    /// Errors with the built-in coefficients, with the fitted ones, and with those fitted without each row's model.
    accuracy: Vec<LatencyAccuracy>,
    /// Every coefficient.
    coefficients: Vec<CoefficientLine>,
    /// What the data cannot tell.
    warnings: Vec<String>,
}

/// One coefficient.
#[derive(Debug, Serialize, JsonSchema)]
struct CoefficientLine {
    /// Generation of accelerators; empty for engine times.
    generation: String,
    /// The coefficient.
    name: String,
    /// Its value.
    value: f64,
    /// Its value without measurements.
    neutral: f64,
    /// Share of what is known of it that comes from the data, percent.
    identified_percent: f64,
}

/// Below this share of identification the prior decides.
const IDENTIFIED: f64 = 0.5;

impl From<FittedCoefficient> for CoefficientLine {
    fn from(fitted: FittedCoefficient) -> Self {
        let (generation, name) = match &fitted.coefficient {
            Coefficient::Engine(time) => (String::new(), serde_json::to_value(time)),
            Coefficient::Kernel(generation, multiplier) => (generation.clone(), serde_json::to_value(multiplier)),
        };
        let name = name.ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
        let FittedCoefficient { value, neutral, identified, .. } = fitted;
        Self { generation, name, value, neutral, identified_percent: 100.0 * identified }
    }
}

impl Answer for CalibrateAnswer {
    const COMMAND: &'static str = "calibrate";

    fn table(&self) -> Table {
        let mut table = Table::new(["generation", "coefficient", "value", "neutral", "identified_percent"]);
        for line in &self.coefficients {
            table.push([
                line.generation.clone(),
                line.name.clone(),
                format!("{:.4}", line.value),
                format!("{:.4}", line.neutral),
                format!("{:.0}", line.identified_percent),
            ]);
        }
        table
    }

    fn text(&self) -> String {
        let mut text = format!("{} rows\n\n{}\n", self.rows, self.table().draw());
        for accuracy in &self.accuracy {
            let _ = write!(text, "{}:", accuracy.group);
            for (name, errors) in [("TPOT", accuracy.tpot), ("TTFT", accuracy.ttft)] {
                let Some(errors) = errors else { continue };
                let _ = write!(
                    text,
                    " {name} median {:.1} %, mean {:.1} %, {:.0} % within 20 %;",
                    errors.median_percent, errors.mean_percent, errors.within_20_percent
                );
            }
            text += "\n";
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "Note: {warning}");
        }
        text
    }
}

/// Fits, and writes the file.
pub(crate) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let accelerators = arguments.hardware.accelerators()?;
    let runs = MeasuredRuns::open(&arguments.file)?;
    let models = MeasuredModels::read(&arguments.models, &runs.rows);
    let cases: Vec<_> = runs
        .rows
        .iter()
        .filter_map(|row| Some((row, models.case(row, &accelerators).ok()?)))
        .filter(|(row, case)| observation(row, case).is_some())
        .collect();
    let observations: Vec<_> = cases.iter().filter_map(|(row, case)| observation(row, case)).collect();
    if observations.is_empty() {
        anyhow::bail!("no row of the table can be used: a fit needs credible runs of a closed loop on one engine");
    }
    let source =
        arguments.source.clone().unwrap_or_else(|| format!("{} rows of {}", cases.len(), arguments.file.display()));
    let (mut calibration, coefficients) = fit(&observations, &source);

    // The errors of models that were left out are what an unseen model will see.
    let known: Vec<_> = cases.iter().map(|(row, case)| (*row, case)).collect();
    let unseen = leave_one_out(&known, LeaveOut::Model, Method::Estimate);
    let predict = |calibration: &dyn Fn(&str) -> Calibration| -> anyhow::Result<Vec<_>> {
        cases.iter().map(|(row, case)| Ok((*row, case.predict(&calibration(&row.model))?))).collect()
    };
    let of_unseen = predict(&|model: &str| {
        let accelerators = calibration.accelerators.clone();
        unseen.get(model).map_or_else(Calibration::default, |left| Calibration { accelerators, ..left.clone() })
    })?;
    let scored: Vec<Scored<'_>> = of_unseen.iter().map(|(row, prediction)| Scored { row, prediction }).collect();
    calibration.interval = intervals(&scored, "of models left out of the fit");

    let mut accuracy = Vec::new();
    for (name, predictions) in [
        ("built-in", predict(&|_| Calibration::built_in().clone())?),
        ("fitted, in sample", predict(&|_| calibration.clone())?),
        ("fitted, each model left out", of_unseen),
    ] {
        let scored: Vec<Scored<'_>> = predictions.iter().map(|(row, prediction)| Scored { row, prediction }).collect();
        accuracy.push(LatencyAccuracy::of(name.to_owned(), &scored));
    }
    let coefficients: Vec<CoefficientLine> = coefficients.into_iter().map(Into::into).collect();
    let mut warnings = ranges(&runs, cases.len());
    let unknown = coefficients.iter().filter(|line| line.identified_percent < 100.0 * IDENTIFIED).count();
    if unknown > 0 {
        warnings.push(format!("{unknown} coefficients are told more by the prior than by the data"));
    }
    std::fs::write(&arguments.out, calibration.to_toml()?)?;
    output::print(&CalibrateAnswer { rows: cases.len(), accuracy, coefficients, warnings }, format)
}

/// What the runs cover: beyond it the coefficients are extrapolated.
fn ranges(runs: &MeasuredRuns, used: usize) -> Vec<String> {
    let lengths: Vec<f64> = runs.rows.iter().filter_map(|row| Some(row.lengths?.0)).collect();
    let (low, high) =
        lengths.iter().fold((f64::MAX, 0.0_f64), |(low, high), length| (low.min(*length), high.max(*length)));
    let mut warnings = vec![format!("prompts of {low:.0} to {high:.0} tokens; nothing is known beyond")];
    if used < runs.rows.len() {
        warnings.push(format!("{} of {} rows were not used", runs.rows.len() - used, runs.rows.len()));
    }
    warnings.push("no run tells the prefix hit rate: the cost of a hit is not calibrated".to_owned());
    warnings
}
