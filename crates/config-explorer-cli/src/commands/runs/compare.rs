//! `runs compare A B PATH…`: two configurations metric by metric.

use clap::Args;
use config_explorer::explore::{Better, Comparison, Naming, compare, load_name, runs_of};
use config_explorer::reports::{Column, Run};
use schemars::JsonSchema;
use serde::Serialize;

use super::repeats::SpreadValues;
use super::selection::{Paths, columns_of};
use super::view::short_number;
use crate::ExitStatus;
use crate::output::{self, Answer, Format, Table};

/// Metrics of the table, in its order.
const METRICS: &str = "ttft_mean_ms,ttft_p99_ms,tpot_mean_ms,tpot_p99_ms,itl_p99_ms,e2e_mean_ms,req_s,out_tok_s,out_tok_s_gpu,failure_rate";

/// Arguments of `runs compare`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The first side: the start of a run's id as `runs list` shows it, or conditions such as `tp=1`.
    a: String,

    /// The second side.
    b: String,

    #[command(flatten)]
    paths: Paths,

    /// Metrics of the table. JSON has them all.
    #[arg(long, value_name = "COLUMN,…", default_value = METRICS, hide_default_value = true)]
    metrics: String,
}

/// Two configurations set beside each other.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CompareAnswer {
    /// The configurations of the first side.
    a: Vec<String>,
    /// The configurations of the second side.
    b: Vec<String>,
    /// One for each workload and load that both sides have.
    comparisons: Vec<ComparisonRow>,
    #[serde(skip)]
    shown: Vec<&'static str>,
}

/// Both sides under one workload and load.
#[derive(Debug, Serialize, JsonSchema)]
struct ComparisonRow {
    /// The load; of both sides, where they differ.
    load: String,
    /// Whether workload and load are the same.
    same_workload: bool,
    /// Identities of the runs of the first side.
    a: Vec<String>,
    /// Identities of the runs of the second side.
    b: Vec<String>,
    /// Every metric that both sides have.
    metrics: Vec<MetricRow>,
}

/// One metric of both sides.
#[derive(Debug, Serialize, JsonSchema)]
struct MetricRow {
    /// The column.
    metric: &'static str,
    /// Its unit.
    unit: &'static str,
    /// The first side.
    a: SpreadValues,
    /// The second side.
    b: SpreadValues,
    /// Mean of B minus mean of A.
    difference: f64,
    /// Mean of B over mean of A; `null` where that of A is 0.
    ratio: Option<f64>,
    /// Which side is better: `A`, `B`, or `null` where they are equal.
    better: Option<&'static str>,
}

impl Answer for CompareAnswer {
    const COMMAND: &'static str = "runs-compare";

    fn table(&self) -> Table {
        let mut table = Table::new(["load", "metric", "a", "b", "difference", "ratio", "better"]);
        for row in &self.comparisons {
            let shown = self.shown.iter().filter_map(|name| row.metrics.iter().find(|metric| metric.metric == *name));
            for metric in shown {
                table.push([
                    row.load.clone(),
                    metric.metric.to_owned(),
                    short_number(metric.a.mean),
                    short_number(metric.b.mean),
                    short_number(metric.difference),
                    metric.ratio.map(|ratio| format!("{ratio:.3}")).unwrap_or_default(),
                    metric.better.unwrap_or_default().to_owned(),
                ]);
            }
        }
        table
    }

    fn text(&self) -> String {
        if self.comparisons.is_empty() {
            return "A and B have no workload and load in common; name two runs by their ids to compare them all the same\n"
                .to_owned();
        }
        let note = if self.comparisons.iter().all(|row| row.same_workload) {
            ""
        } else {
            "\nNote: workload or load differ, so that the difference is not only that of the configurations.\n"
        };
        format!("A: {}\nB: {}\n\n{}{note}", self.a.join("; "), self.b.join("; "), self.table().draw())
    }

    fn status(&self) -> ExitStatus {
        ExitStatus::yes_if(!self.comparisons.is_empty())
    }
}

fn row(comparison: &Comparison<'_>) -> ComparisonRow {
    let ids = |runs: &[&Run]| runs.iter().map(|run| run.id.to_string()).collect();
    let load = |runs: &[&Run]| runs.first().map(|run| load_name(run)).unwrap_or_default();
    let [a, b] = [load(&comparison.a), load(&comparison.b)];
    let metrics = comparison.metrics.iter().map(|metric| MetricRow {
        metric: &metric.column.name,
        unit: metric.column.unit,
        a: metric.a.into(),
        b: metric.b.into(),
        difference: metric.difference(),
        ratio: metric.ratio(),
        better: match metric.better() {
            Better::A => Some("A"),
            Better::B => Some("B"),
            Better::Neither => None,
        },
    });
    ComparisonRow {
        load: if a == b { a } else { format!("{a} / {b}") },
        same_workload: comparison.same_workload,
        a: ids(&comparison.a),
        b: ids(&comparison.b),
        metrics: metrics.collect(),
    }
}

/// Compares what was asked for.
pub(super) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let shown: Vec<&'static Column> = columns_of(&arguments.metrics)?;
    let runs = arguments.paths.read()?;
    let a = runs_of(&runs, &arguments.a)?;
    let b = runs_of(&runs, &arguments.b)?;
    let naming = Naming::of(&a.iter().chain(&b).copied().collect::<Vec<_>>());
    let names = |side: &[&Run]| {
        let mut names: Vec<String> = Vec::new();
        for name in side.iter().map(|run| naming.name(run)) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    };
    let answer = CompareAnswer {
        a: names(&a),
        b: names(&b),
        comparisons: compare(&a, &b).iter().map(row).collect(),
        shown: shown.iter().map(|column| &*column.name).collect(),
    };
    output::print(&answer, format)
}
