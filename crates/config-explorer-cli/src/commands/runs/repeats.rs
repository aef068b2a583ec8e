//! `runs repeats PATH…`: the same thing measured several times.

use clap::Args;
use config_explorer::explore::{Naming, Spread, load_name, repeats};
use config_explorer::reports::Run;
use schemars::JsonSchema;
use serde::Serialize;

use super::selection::{Conditions, Paths, columns_of};
use super::view::short_number;
use crate::ExitStatus;
use crate::output::{self, Answer, Format, Table};

/// Arguments of `runs repeats`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    paths: Paths,

    #[command(flatten)]
    conditions: Conditions,

    /// The metrics.
    #[arg(long, value_name = "COLUMN,…", default_value = "ttft_mean_ms,tpot_mean_ms,e2e_mean_ms,out_tok_s")]
    metrics: String,

    /// Fewest runs of a group.
    #[arg(long, value_name = "N", default_value_t = 2)]
    min_count: usize,
}

/// Groups of repeated runs.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RepeatList {
    /// In the order of their first runs.
    repeats: Vec<RepeatGroup>,
}

/// Runs of one configuration under one workload and load.
#[derive(Debug, Serialize, JsonSchema)]
struct RepeatGroup {
    /// The configuration, by what tells it from the others.
    configuration: String,
    /// The load.
    load: String,
    /// Identities of the runs.
    runs: Vec<String>,
    /// Mean and spread of each metric that they have.
    metrics: Vec<MetricSpread>,
}

/// Mean and spread of a metric.
#[derive(Debug, Serialize, JsonSchema)]
struct MetricSpread {
    /// The column.
    metric: &'static str,
    #[serde(flatten)]
    spread: SpreadValues,
}

/// Mean and spread.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub(super) struct SpreadValues {
    /// Runs that have the metric.
    count: usize,
    /// Their mean.
    pub(super) mean: f64,
    /// Sample standard deviation; `null` for one run.
    stddev: Option<f64>,
    /// The smallest.
    min: f64,
    /// The largest.
    max: f64,
}

impl From<Spread> for SpreadValues {
    fn from(spread: Spread) -> Self {
        let Spread { count, mean, stddev, min, max } = spread;
        Self { count, mean, stddev, min, max }
    }
}

impl Answer for RepeatList {
    const COMMAND: &'static str = "runs-repeats";

    fn table(&self) -> Table {
        let mut table = Table::new(["configuration", "load", "metric", "count", "mean", "stddev", "min", "max"]);
        for group in &self.repeats {
            for metric in &group.metrics {
                let spread = metric.spread;
                table.push([
                    group.configuration.clone(),
                    group.load.clone(),
                    metric.metric.to_owned(),
                    spread.count.to_string(),
                    short_number(spread.mean),
                    spread.stddev.map(short_number).unwrap_or_default(),
                    short_number(spread.min),
                    short_number(spread.max),
                ]);
            }
        }
        table
    }

    fn status(&self) -> ExitStatus {
        ExitStatus::yes_if(!self.repeats.is_empty())
    }
}

/// Finds repeated runs.
pub(super) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let metrics = columns_of(&arguments.metrics)?;
    let runs = arguments.paths.read()?;
    let selected: Vec<&Run> = arguments.conditions.select(&runs)?;
    let naming = Naming::of(&selected);
    let groups = repeats(&selected).into_iter().filter(|group| group.runs.len() >= arguments.min_count);
    let groups = groups.map(|group| RepeatGroup {
        configuration: naming.name(group.runs[0]).to_owned(),
        load: load_name(group.runs[0]),
        runs: group.runs.iter().map(|run| run.id.to_string()).collect(),
        metrics: metrics
            .iter()
            .filter_map(|column| Some(MetricSpread { metric: &column.name, spread: group.spread(column)?.into() }))
            .collect(),
    });
    output::print(&RepeatList { repeats: groups.collect() }, format)
}
