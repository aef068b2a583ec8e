//! Runs as rows.

use clap::Args;
use config_explorer::explore::{Extent, Scenario, load_name, rank, shape_name};
use config_explorer::reports::{Column, ColumnKind, Run, Value, column, columns};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use serde_json::{Map, json};

use super::selection::columns_of;
use crate::ExitStatus;
use crate::output::{Answer, Table};

/// What of the runs is shown.
#[derive(Debug, Default, Args)]
pub(super) struct View {
    /// Columns of the table, instead of the usual ones. JSON has them all.
    #[arg(long, value_name = "COLUMN,…")]
    columns: Option<String>,

    /// Sort by this column, best first.
    #[arg(long, value_name = "COLUMN")]
    sort: Option<String>,
}

/// A cell of the usual table: a column, or a name that is made of several.
#[derive(Clone, Copy)]
enum Cell {
    Id,
    Configuration,
    Load,
    Of(&'static Column),
}

impl Cell {
    fn heading(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Configuration => "configuration",
            Self::Load => "load",
            Self::Of(column) => &column.name,
        }
    }

    fn text(self, run: &Run) -> String {
        match self {
            Self::Id => run.short_id(),
            Self::Configuration => shape_name(run),
            Self::Load => load_name(run),
            Self::Of(column) => column.get(run).map(|value| short(&value)).unwrap_or_default(),
        }
    }
}

/// Runs, one row each.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RunList<'a> {
    /// Every column that a run has a value in, by the column's name.
    #[serde(serialize_with = "as_objects")]
    #[schemars(with = "Vec<Map<String, serde_json::Value>>")]
    runs: Vec<&'a Run>,
    /// How the front was found, with `runs pareto`: one for each scenario.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fronts: Option<Vec<FrontSummary>>,
    #[serde(skip)]
    headings: Vec<&'static str>,
    #[serde(skip)]
    rows: Vec<Vec<String>>,
}

/// How many runs were compared for a Pareto front.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FrontSummary {
    /// The scenario, with `--by`.
    pub(super) scenario: Map<String, serde_json::Value>,
    #[serde(skip)]
    pub(super) title: String,
    /// The metrics that were compared.
    pub(super) metrics: Vec<&'static str>,
    /// Runs of the scenario.
    pub(super) runs: usize,
    /// Of these, those that miss an objective.
    pub(super) failing: usize,
    /// Of the others, those that lack one of the metrics.
    pub(super) missing: usize,
    /// Runs on the front.
    pub(super) front: usize,
}

impl View {
    /// The runs as rows, sorted as asked for. Columns that are `wanted` are shown beside the usual ones.
    pub(super) fn of<'a>(&self, mut runs: Vec<&'a Run>, wanted: &[&'static Column]) -> anyhow::Result<RunList<'a>> {
        if let Some(name) = &self.sort {
            rank(&mut runs, column(name)?);
        }
        let cells = match &self.columns {
            Some(names) => columns_of(names)?.into_iter().map(Cell::Of).collect(),
            None => usual(wanted)?,
        };
        let rows: Vec<Vec<String>> = runs.iter().map(|run| cells.iter().map(|cell| cell.text(run)).collect()).collect();
        let headings = cells.iter().map(|cell| cell.heading()).collect();
        Ok(RunList { runs, fronts: None, headings, rows })
    }
}

fn usual(wanted: &[&'static Column]) -> anyhow::Result<Vec<Cell>> {
    let of = |names: &[&str]| names.iter().map(|name| column(name).map(Cell::Of)).collect::<Result<Vec<_>, _>>();
    let mut cells = vec![Cell::Id];
    cells.extend(of(&["model", "gpu", "isl", "osl"])?);
    cells.extend([Cell::Configuration, Cell::Load]);
    cells.extend(of(&["ttft_mean_ms", "tpot_mean_ms", "out_tok_s", "out_tok_s_gpu"])?);
    for column in wanted {
        if !cells.iter().any(|cell| cell.heading() == column.name) {
            cells.push(Cell::Of(column));
        }
    }
    Ok(cells)
}

/// A value for a table: numbers with as many digits as one reads.
pub(super) fn short(value: &Value<'_>) -> String {
    match *value {
        Value::Float(number) => short_number(number),
        _ => value.to_string(),
    }
}

/// A number with two decimals, or four significant digits where it is small.
pub(super) fn short_number(number: f64) -> String {
    let decimals = if number == 0.0 { 0 } else { (3 - number.abs().log10().floor() as i32).clamp(2, 8) as usize };
    let text = format!("{number:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The runs, which only JSON and YAML show with all their columns.
fn as_objects<S: Serializer>(runs: &[&Run], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(runs.iter().map(|run| object(run)))
}

/// A run with every column that it has a value in.
fn object(run: &Run) -> Map<String, serde_json::Value> {
    let cell = |column: &Column| {
        let value = column.get(run)?;
        let parsed = (column.kind == ColumnKind::Json).then(|| serde_json::from_str(&value.to_string()).ok()).flatten();
        Some((column.name.to_string(), parsed.unwrap_or_else(|| json_value(&value))))
    };
    columns().iter().filter_map(cell).collect()
}

/// The values of a scenario by column; a range is an object with `min` and `max`.
pub(super) fn scenario_object(by: &[&Column], scenario: &Scenario<'_>) -> Map<String, serde_json::Value> {
    let extent = |extent: &Extent<'_>| match extent.min == extent.max {
        true => json_value(&extent.min),
        false => json!({ "min": json_value(&extent.min), "max": json_value(&extent.max) }),
    };
    by.iter().zip(&scenario.values).map(|(column, value)| (column.name.to_string(), extent(value))).collect()
}

/// A value in JSON.
fn json_value(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::Text(text) => json!(text),
        Value::Integer(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Boolean(truth) => json!(truth),
    }
}

impl RunList<'_> {
    /// The rows of the columns that `keep` accepts.
    fn table_of(&self, keep: impl Fn(usize) -> bool) -> Table {
        let kept: Vec<usize> = (0..self.headings.len()).filter(|&column| keep(column)).collect();
        let mut table = Table::with(kept.iter().map(|&column| self.headings[column]));
        for row in &self.rows {
            table.push_row(kept.iter().map(|&column| row[column].clone()).collect());
        }
        table
    }

    fn is_empty_column(&self, column: usize) -> bool {
        self.rows.iter().all(|row| row[column].is_empty())
    }

    /// Whether all of several runs say the same of what they are, which is then said once.
    fn is_shared(&self, column: usize) -> bool {
        self.rows.len() > 1
            && matches!(self.headings[column], "model" | "gpu" | "isl" | "osl")
            && self.rows.iter().all(|row| row[column] == self.rows[0][column])
    }
}

impl Answer for RunList<'_> {
    const COMMAND: &'static str = "runs";

    fn table(&self) -> Table {
        self.table_of(|column| !self.is_empty_column(column))
    }

    fn text(&self) -> String {
        let shared: Vec<String> = (0..self.headings.len())
            .filter(|&column| self.is_shared(column) && !self.is_empty_column(column))
            .map(|column| format!("{}: {}", self.headings[column], self.rows[0][column]))
            .collect();
        let heading = if shared.is_empty() { String::new() } else { shared.join("   ") + "\n\n" };
        let table = self.table_of(|column| !self.is_empty_column(column) && !self.is_shared(column));
        let mut text = heading + &table.draw();
        for front in self.fronts.iter().flatten() {
            text.push('\n');
            if !front.title.is_empty() {
                text += &format!("{}: ", front.title);
            }
            text += &format!("{} of {} runs on the front of {}", front.front, front.runs, front.metrics.join(", "));
            for (count, what) in [(front.failing, "missing an objective"), (front.missing, "without a metric")] {
                if count > 0 {
                    text += &format!("; {what}: {count}");
                }
            }
        }
        if self.fronts.is_some() { text + "\n" } else { text }
    }

    fn status(&self) -> ExitStatus {
        ExitStatus::yes_if(!self.runs.is_empty())
    }
}
