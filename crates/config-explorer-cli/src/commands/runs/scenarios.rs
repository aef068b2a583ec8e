//! `runs scenarios PATH… --by model,gpu,isl,osl`: what was asked of which model on which accelerator.

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Map;

use super::selection::{By, Conditions, Paths};
use super::view::scenario_object;
use crate::ExitStatus;
use crate::output::{self, Answer, Format, Table};

/// Arguments of `runs scenarios`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    paths: Paths,

    #[command(flatten)]
    conditions: Conditions,

    #[command(flatten)]
    by: By,

    /// Let one scenario span all numbers that go with the same texts.
    #[arg(long)]
    bounded: bool,

    /// Show only scenarios of at least so many runs.
    #[arg(long, value_name = "N", default_value_t = 1)]
    min_count: usize,
}

/// The scenarios.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ScenarioList {
    /// The columns that make a scenario.
    by: Vec<&'static str>,
    /// In the order of their values.
    scenarios: Vec<ScenarioRow>,
    /// Runs that lack a value of one of the columns.
    missing: usize,
}

/// One scenario.
#[derive(Debug, Serialize, JsonSchema)]
struct ScenarioRow {
    /// Its number for `runs plot --scenario`. Scenarios that are not shown keep theirs.
    number: usize,
    /// Runs of the scenario.
    count: usize,
    /// The values by column; a range is an object with `min` and `max`.
    values: Map<String, serde_json::Value>,
    #[serde(skip)]
    texts: Vec<String>,
}

impl Answer for ScenarioList {
    const COMMAND: &'static str = "runs-scenarios";

    fn table(&self) -> Table {
        let mut table = Table::with(["number", "count"].into_iter().chain(self.by.iter().copied()));
        for row in &self.scenarios {
            let cells = [row.number.to_string(), row.count.to_string()];
            table.push_row(cells.into_iter().chain(row.texts.iter().cloned()).collect());
        }
        table
    }

    fn text(&self) -> String {
        let table = self.table().draw();
        match self.missing {
            0 => table,
            1 => format!("{table}\n1 run lacks one of these values\n"),
            missing => format!("{table}\n{missing} runs lack one of these values\n"),
        }
    }

    fn status(&self) -> ExitStatus {
        ExitStatus::yes_if(!self.scenarios.is_empty())
    }
}

/// Lists the scenarios.
pub(super) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let runs = arguments.paths.read()?;
    let (by, found) = arguments.by.scenarios(&arguments.conditions.select(&runs)?, arguments.bounded)?;
    let scenarios = found
        .scenarios
        .iter()
        .zip(1..)
        .filter(|(scenario, _)| scenario.runs.len() >= arguments.min_count)
        .map(|(scenario, number)| ScenarioRow {
            number,
            count: scenario.runs.len(),
            values: scenario_object(&by, scenario),
            texts: scenario.values.iter().map(ToString::to_string).collect(),
        })
        .collect();
    let by = by.iter().map(|column| &*column.name).collect();
    output::print(&ScenarioList { by, scenarios, missing: found.missing }, format)
}
