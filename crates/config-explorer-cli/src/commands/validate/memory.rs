//! `validate memory STARTS.csv --models DIR`

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use config_explorer::validate::{Accuracy, ErrorSummary, MemoryPrediction, StartUp, StartUps, model_in, predict};
use schemars::JsonSchema;
use serde::Serialize;

use crate::ExitStatus;
use crate::arguments::hardware::HardwareArgs;
use crate::output::{self, Answer, Format, Table};

/// Arguments of `validate memory`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// CSV file: a row for each server, what it was started with and what it printed.
    file: PathBuf,

    /// Directory of ORG--NAME/config.json folders, which hold the models of the rows.
    #[arg(long, value_name = "DIR")]
    models: PathBuf,

    /// Row that is not scored, by its `id`; may be repeated.
    #[arg(long, value_name = "ID")]
    skip: Vec<String>,

    #[command(flatten)]
    hardware: HardwareArgs,
}

/// The prediction of every row, and the errors of those that are scored.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct MemoryAnswer {
    /// In the order of the file.
    rows: Vec<Row>,
    /// All scored rows, then by release line, then by model.
    accuracy: Vec<Accuracy>,
    #[serde(skip)]
    columns: Vec<String>,
}

/// A row and its prediction.
#[derive(Debug, Serialize, JsonSchema)]
struct Row {
    /// Cells by column.
    cells: BTreeMap<String, String>,
    /// What is predicted.
    prediction: MemoryPrediction,
    /// It counts in the errors.
    scored: bool,
    /// Error of the KV cache, percent of what was printed.
    kv_error_percent: Option<f64>,
    #[serde(skip)]
    start_up: StartUp,
}

/// Errors above this are listed row by row.
const LISTED_PERCENT: f64 = 5.0;

/// The columns that are added to the file's.
const ADDED: [&str; 6] =
    ["pred_weights_gib", "pred_activation_gib", "pred_kv_gib", "pred_tokens", "pred_concurrency", "note"];

impl Answer for MemoryAnswer {
    const COMMAND: &'static str = "validate-memory";

    /// The rows with what is predicted.
    fn table(&self) -> Table {
        let columns = self.columns.iter().map(String::as_str).filter(|column| !ADDED.contains(column));
        let mut table = Table::with(columns.clone().chain(ADDED));
        for row in &self.rows {
            let prediction = &row.prediction;
            let figure = |figure: Option<f64>| figure.map_or_else(String::new, |figure| format!("{figure:.4}"));
            let mut cells: Vec<String> = columns.clone().map(|column| row.cells[column].clone()).collect();
            cells.extend([
                figure(prediction.pred_weights_gib),
                figure(prediction.pred_activation_gib),
                figure(prediction.pred_kv_gib),
                prediction.pred_tokens.map_or_else(String::new, |tokens| tokens.to_string()),
                figure(prediction.pred_concurrency),
                prediction.note.clone(),
            ]);
            table.push_row(cells);
        }
        table
    }

    fn text(&self) -> String {
        let far = self.far();
        let far = if far.is_empty() {
            String::new()
        } else {
            format!("\nKV cache off by more than {LISTED_PERCENT} %:\n\n{}", far.draw())
        };
        format!("Errors: median / mean / 90th percentile (rows)\n\n{}{far}", self.errors().draw())
    }

    fn markdown(&self) -> String {
        let scored = self.rows.iter().filter(|row| row.scored).count();
        let mut text = format!(
            "Scored: {scored} of {} server start-ups, those of the V1 engine of which model, version, utilization and batch \
             limits are known. Errors are absolute; KV cache is the printed tokens or, where they were not printed, GiB. \
             Each cell is median / mean / what 90 % of the rows stay within (rows that it rests on).\n\n",
            self.rows.len()
        );
        text += &self.errors().markdown();
        let far = self.far();
        if !far.is_empty() {
            let _ =
                write!(text, "\n## Rows whose KV cache is off by more than {LISTED_PERCENT} %\n\n{}", far.markdown());
        }
        text
    }
}

impl MemoryAnswer {
    /// The errors by group.
    fn errors(&self) -> Table {
        let mut table = Table::new(["group", "rows", "weights_percent", "activation_gib", "kv_percent"]);
        let cell = |summary: ErrorSummary| match summary {
            ErrorSummary { rows, median: Some(median), mean: Some(mean), p90: Some(p90) } => {
                format!("{median:.3} / {mean:.3} / {p90:.3} ({rows})")
            }
            _ => String::new(),
        };
        for Accuracy { group, rows, weights_percent, activation_gib, kv_percent } in &self.accuracy {
            table.push([
                group.clone(),
                rows.to_string(),
                cell(*weights_percent),
                cell(*activation_gib),
                cell(*kv_percent),
            ]);
        }
        table
    }

    /// The scored rows that are far off.
    fn far(&self) -> Table {
        let mut table = Table::new(["id", "model", "version", "gpu", "tp", "error_percent", "note"]);
        for row in self.rows.iter().filter(|row| row.scored) {
            let Some(error) = row.kv_error_percent.filter(|error| error.abs() > LISTED_PERCENT) else { continue };
            let StartUp { id, model, version, gpu, args, .. } = &row.start_up;
            table.push([
                id.clone(),
                model.clone(),
                version.map_or_else(String::new, |version| version.to_string()),
                gpu.clone(),
                args.tensor_parallel_size.map_or_else(String::new, |tp| tp.to_string()),
                format!("{error:.1}"),
                row.prediction.note.clone(),
            ]);
        }
        table
    }
}

/// Predicts every row.
pub(super) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let accelerators = arguments.hardware.accelerators()?;
    let StartUps { columns, rows } = StartUps::open(&arguments.file)?;
    let mut models = BTreeMap::new();
    for row in &rows {
        if let Some(model) = model_in(&arguments.models, &row.model)? {
            models.insert(row.model.clone(), model);
        }
    }
    let rows: Vec<Row> = rows
        .into_iter()
        .map(|start_up| {
            let prediction = predict(&start_up, &models, &accelerators);
            let known = models.contains_key(&start_up.model);
            Row {
                cells: columns.iter().cloned().zip(start_up.cells.iter().cloned()).collect(),
                scored: known && start_up.is_scored() && !arguments.skip.contains(&start_up.id),
                kv_error_percent: start_up.kv_error_percent(&prediction),
                prediction,
                start_up,
            }
        })
        .collect();
    let scored: Vec<_> = rows.iter().filter(|row| row.scored).map(|row| (&row.start_up, &row.prediction)).collect();
    let accuracy = Accuracy::by_group(&scored);
    output::print(&MemoryAnswer { rows, accuracy, columns }, format)
}
