//! `runs pareto PATH… -x … -y … --slo …`: the runs that nothing beats.

use clap::Args;
use config_explorer::explore::{pareto_front, rank};
use config_explorer::reports::{Column, Run};

use super::selection::{Conditions, Goals, Paths, columns_of, columns_of_objectives};
use super::view::{FrontSummary, View, scenario_object};
use crate::ExitStatus;
use crate::output::{self, Format};

/// Arguments of `runs pareto`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    paths: Paths,

    /// First metric.
    #[arg(short, value_name = "COLUMN", default_value = "ttft_mean_ms")]
    x: String,

    /// Second metric.
    #[arg(short, value_name = "COLUMN", default_value = "out_tok_s_gpu")]
    y: String,

    /// Further metrics.
    #[arg(long, value_name = "COLUMN,…", default_value = "")]
    and: String,

    /// Find a front for each scenario of these columns.
    #[arg(long, value_name = "COLUMN,…", default_value = "")]
    by: String,

    #[command(flatten)]
    conditions: Conditions,

    #[command(flatten)]
    goals: Goals,

    #[command(flatten)]
    view: View,
}

/// Finds the front.
pub(super) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let objectives = arguments.goals.objectives()?;
    let metrics = columns_of(&[&*arguments.x, &arguments.y, &arguments.and].join(","))?;
    let by = columns_of(&arguments.by)?;
    let runs = arguments.paths.read()?;
    let selected = arguments.conditions.select(&runs)?;
    let mut on_front: Vec<&Run> = Vec::new();
    let mut summaries = Vec::new();
    for scenario in config_explorer::explore::scenarios(&selected, &by, false).scenarios {
        let meeting: Vec<&Run> = scenario.runs.iter().copied().filter(|run| run.meets(&objectives)).collect();
        let front = pareto_front(&meeting, &metrics)?;
        let mut best: Vec<&Run> = front.rows.iter().map(|&row| meeting[row]).collect();
        if let Some(first) = metrics.first() {
            rank(&mut best, first);
        }
        summaries.push(FrontSummary {
            scenario: scenario_object(&by, &scenario),
            title: scenario.values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            metrics: metrics.iter().map(|metric| &*metric.name).collect(),
            runs: scenario.runs.len(),
            failing: scenario.runs.len() - meeting.len(),
            missing: front.missing,
            front: best.len(),
        });
        on_front.extend(best);
    }
    let shown: Vec<&'static Column> =
        by.into_iter().chain(metrics).chain(columns_of_objectives(&objectives)?).collect();
    let mut answer = arguments.view.of(on_front, &shown)?;
    answer.fronts = Some(summaries);
    output::print(&answer, format)
}
