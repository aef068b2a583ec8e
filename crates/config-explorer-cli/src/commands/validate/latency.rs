//! `validate latency RUNS.csv --models DIR`

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use config_explorer::engine::EngineRules;
use config_explorer::hardware::Prices;
use config_explorer::latency::Calibration;
use config_explorer::serving::Prediction;
use config_explorer::validate::latency::{
    ChoiceAccuracy, LatencyAccuracy, LeaveOut, MeasuredModels, MeasuredRuns, Method, RankingAccuracy, RelativeErrors,
    Scored, predict_unseen,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::ExitStatus;
use crate::arguments::hardware::HardwareArgs;
use crate::arguments::kernels::KernelArgs;
use crate::output::{self, Answer, Format, Table};

/// Arguments of `validate latency`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// CSV file: a row for each measured operating point.
    file: PathBuf,

    /// Directory of ORG--NAME/config.json folders, which the rows name in `config`.
    #[arg(long, value_name = "DIR")]
    models: PathBuf,

    /// Calibration that `calibrate` wrote, instead of the built-in one.
    #[arg(long, value_name = "FILE", conflicts_with = "leave_out")]
    coefficients: Option<PathBuf>,

    /// Refit without each model or GPU in turn, and predict its rows with what is left.
    #[arg(long, value_name = "GROUP")]
    leave_out: Option<Group>,

    /// How the prediction is made.
    #[arg(long, default_value = "estimate")]
    method: MethodName,

    #[command(flatten)]
    kernels: KernelArgs,

    #[command(flatten)]
    hardware: HardwareArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Group {
    Model,
    Gpu,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MethodName {
    /// The steady-state solution.
    Estimate,
    /// The simulation of every request of the row's run.
    Simulate,
}

impl From<MethodName> for Method {
    fn from(name: MethodName) -> Self {
        match name {
            MethodName::Estimate => Self::Estimate,
            MethodName::Simulate => Self::Simulate,
        }
    }
}

/// The prediction of every row, and the errors of those that are scored.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LatencyAnswer {
    /// In the order of the file.
    rows: Vec<Row>,
    /// By load, then by GPU, model, precision, layout, prompt length and concurrency.
    accuracy: Vec<LatencyAccuracy>,
    /// Whether configurations are put in the measured order.
    ranking: RankingAccuracy,
    /// Whether the cheapest configuration within objectives is found.
    choice: ChoiceAccuracy,
    #[serde(skip)]
    columns: Vec<String>,
}

/// A row and its prediction.
#[derive(Debug, Serialize, JsonSchema)]
struct Row {
    /// Cells by column.
    cells: BTreeMap<String, String>,
    /// What is predicted; `null` where it cannot be.
    prediction: Option<Prediction>,
    /// Why the row could not be predicted, and what was extrapolated.
    note: String,
}

/// The columns that are added to the file's.
const ADDED: [&str; 8] = [
    "pred_ttft_mean_ms",
    "pred_tpot_mean_ms",
    "pred_output_tokens_per_s",
    "pred_tpot_low_ms",
    "pred_tpot_high_ms",
    "pred_ttft_low_ms",
    "pred_ttft_high_ms",
    "note",
];

impl Answer for LatencyAnswer {
    const COMMAND: &'static str = "validate-latency";

    /// The rows with what is predicted.
    fn table(&self) -> Table {
        let columns = self.columns.iter().map(String::as_str).filter(|column| !ADDED.contains(column));
        let mut table = Table::with(columns.clone().chain(ADDED));
        for row in &self.rows {
            let mut cells: Vec<String> = columns.clone().map(|column| row.cells[column].clone()).collect();
            let figures = row.prediction.as_ref().map_or([None; 7], |prediction| {
                let [tpot_low, tpot_high] = prediction.interval_80.tpot_mean_ms;
                let ttft = prediction.interval_80.ttft_mean_ms;
                [
                    prediction.ttft_ms.map(|ttft| ttft.mean),
                    Some(prediction.tpot_ms.mean),
                    Some(prediction.throughput.output_tokens_per_s),
                    Some(tpot_low),
                    Some(tpot_high),
                    ttft.map(|[low, _]| low),
                    ttft.map(|[_, high]| high),
                ]
            });
            cells.extend(figures.map(|figure| figure.map_or_else(String::new, |figure| format!("{figure:.4}"))));
            cells.push(row.note.clone());
            table.push_row(cells);
        }
        table
    }

    fn text(&self) -> String {
        format!(
            "Errors: median / mean / within 20 % / bias (rows); intervals: share of measurements inside\n\n{}\n{}\n",
            self.errors().draw(),
            self.order()
        )
    }

    fn markdown(&self) -> String {
        let predicted = self.rows.iter().filter(|row| row.prediction.is_some()).count();
        format!(
            "Predicted: {predicted} of {} rows. Each cell is the median and the mean of the absolute errors, the share of \
             rows within 20 %, and the median of the signed errors, all in percent (rows that it rests on).\n\n{}\n{}\n",
            self.rows.len(),
            self.errors().markdown(),
            self.order()
        )
    }
}

impl LatencyAnswer {
    fn order(&self) -> String {
        let RankingAccuracy {
            workloads,
            tpot_spearman,
            ttft_spearman,
            throughput_spearman,
            choices,
            choice_spearman,
            best_among_top_3_percent,
        } = self.ranking;
        let ChoiceAccuracy { choices: choices_made, top_1_percent, top_3_percent, meets_percent, regret_percent } =
            self.choice;
        format!(
            "Ranking: Spearman within a workload (model and lengths; median of {workloads}) TPOT {tpot_spearman:.3}, TTFT \
             {ttft_spearman:.3}, throughput per GPU {throughput_spearman:.3}; among the configurations at one concurrency \
             (median of {choices} choices) throughput per GPU {choice_spearman:.3}, and the measured best is among the \
             first three in {best_among_top_3_percent:.0} %.\n\nRecommending the cheapest within objectives on mean TPOT \
             and TTFT (their measured quartiles in the workload; {choices_made} choices): the measured cheapest is the first \
             choice in {top_1_percent:.0} %, among the first three in {top_3_percent:.0} %; the first choice meets the \
             objectives in {meets_percent:.0} %, and then costs {regret_percent:.1} % more in the mean."
        )
    }

    fn errors(&self) -> Table {
        let mut table = Table::new(["group", "tpot", "ttft", "throughput", "tpot_in_interval", "ttft_in_interval"]);
        let cell = |errors: Option<RelativeErrors>| {
            errors.map_or_else(String::new, |errors| {
                format!(
                    "{:.1} / {:.1} / {:.0} / {:+.1} ({})",
                    errors.median_percent,
                    errors.mean_percent,
                    errors.within_20_percent,
                    errors.bias_percent,
                    errors.rows
                )
            })
        };
        let share = |share: Option<f64>| share.map_or_else(String::new, |share| format!("{share:.0} %"));
        for accuracy in &self.accuracy {
            let (tpot, ttft) = accuracy.within_interval_percent;
            table.push([
                accuracy.group.clone(),
                cell(accuracy.tpot),
                cell(accuracy.ttft),
                cell(accuracy.throughput),
                share(tpot),
                share(ttft),
            ]);
        }
        table
    }
}

/// Predicts every row.
pub(super) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let accelerators = arguments.hardware.accelerators()?;
    let MeasuredRuns { columns, rows } = MeasuredRuns::open(&arguments.file)?;
    let models = MeasuredModels::read(&arguments.models, &rows);
    let cases: Vec<_> = rows.iter().map(|row| models.case(row, &accelerators)).collect();
    let mut calibration = match &arguments.coefficients {
        Some(file) => Calibration::read(file)?,
        None => Calibration::built_in().clone(),
    };
    let version = EngineRules::of_default_version().version;
    let gpus: BTreeSet<&str> = rows.iter().map(|row| row.gpu.as_str()).collect();
    for accelerator in gpus.into_iter().filter_map(|gpu| accelerators.find(gpu).ok()) {
        // Of some accelerators nothing was measured.
        if let Err(error) = arguments.kernels.add(&mut calibration, &accelerators, accelerator, version) {
            anstream::eprintln!("note: {error}");
        }
    }
    let method: Method = arguments.method.into();
    let predictions: Vec<Result<Prediction, String>> = match arguments.leave_out {
        None => method.predict(&rows, &cases, |_| &calibration),
        Some(group) => {
            let by = match group {
                Group::Model => LeaveOut::Model,
                Group::Gpu => LeaveOut::Gpu,
            };
            let known = rows.iter().zip(&cases).filter_map(|(row, case)| Some((row, case.as_ref().ok()?)));
            let mut unseen = predict_unseen(&known.collect::<Vec<_>>(), by, method).into_iter();
            let predictions = cases.iter().map(|case| {
                case.as_ref().map_err(ToString::to_string)?;
                let prediction = unseen.next().ok_or_else(|| "the row was not predicted".to_owned())?;
                prediction.map_err(|error| error.to_string())
            });
            predictions.collect()
        }
    };
    let scored: Vec<Scored<'_>> = rows
        .iter()
        .zip(&predictions)
        .filter_map(|(row, prediction)| Some(Scored { row, prediction: prediction.as_ref().ok()? }))
        .collect();
    let accuracy = LatencyAccuracy::by_group(&scored);
    let ranking = RankingAccuracy::of(&scored);
    let choice = ChoiceAccuracy::of(&scored, &accelerators, Prices::built_in());
    let rows = rows
        .iter()
        .zip(predictions)
        .map(|(row, prediction)| {
            let note = match &prediction {
                Ok(prediction) => prediction.warnings.join("; "),
                Err(reason) => reason.clone(),
            };
            let cells = columns.iter().cloned().zip(row.cells.iter().cloned()).collect();
            Row { cells, prediction: prediction.ok(), note }
        })
        .collect();
    output::print(&LatencyAnswer { rows, accuracy, ranking, choice, columns }, format)
}
