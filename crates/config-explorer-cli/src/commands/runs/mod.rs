//! `runs …`: what was measured, and which configuration was best?

mod compare;
mod convert;
mod export;
mod filter;
mod import;
mod list;
mod pareto;
mod plot;
mod repeats;
mod scenarios;
mod selection;
mod view;

use clap::{Args, Subcommand};

pub(crate) use compare::CompareAnswer;
pub(crate) use import::ImportAnswer;
pub(crate) use repeats::RepeatList;
pub(crate) use scenarios::ScenarioList;
pub(in crate::commands) use selection::read_runs;
pub(crate) use view::RunList;

use crate::ExitStatus;
use crate::output::Format;

/// Arguments of `runs`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

/// What to do with the runs.
#[derive(Debug, Subcommand)]
enum What {
    /// Read benchmark results of any tool into a store.
    Import(import::Arguments),
    /// List the runs of result files, folders and stores.
    List(list::Arguments),
    /// List the runs that meet conditions and objectives.
    Filter(filter::Arguments),
    /// List the scenarios: what was asked of which model on which accelerator, and how many runs there are of each.
    Scenarios(scenarios::Arguments),
    /// List the runs that meet the objectives and that no other such run beats.
    Pareto(pareto::Arguments),
    /// Draw runs into an SVG, PNG or interactive HTML file.
    Plot(plot::Arguments),
    /// Compare two configurations metric by metric, load by load.
    Compare(compare::Arguments),
    /// Find repeated runs of the same thing, with mean and spread of their metrics.
    Repeats(repeats::Arguments),
    /// Write a run of a result file as a benchmark report.
    Convert(convert::Arguments),
    /// Write runs with all their columns.
    Export(export::Arguments),
}

/// Does what was asked for.
pub(crate) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    match &arguments.what {
        What::Import(arguments) => import::run(arguments, format),
        What::List(arguments) => list::run(arguments, format),
        What::Filter(arguments) => filter::run(arguments, format),
        What::Scenarios(arguments) => scenarios::run(arguments, format),
        What::Pareto(arguments) => pareto::run(arguments, format),
        What::Plot(arguments) => plot::run(arguments),
        What::Compare(arguments) => compare::run(arguments, format),
        What::Repeats(arguments) => repeats::run(arguments, format),
        What::Convert(arguments) => convert::run(arguments, format),
        What::Export(arguments) => export::run(arguments),
    }
}
