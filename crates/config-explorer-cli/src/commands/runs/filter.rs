//! `runs filter PATH… --where … --slo …`: the runs that meet conditions and objectives.

use clap::Args;

use super::selection::{Conditions, Goals, Paths, columns_of_objectives};
use super::view::View;
use crate::ExitStatus;
use crate::output::{self, Format};

/// Arguments of `runs filter`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    paths: Paths,

    #[command(flatten)]
    conditions: Conditions,

    #[command(flatten)]
    goals: Goals,

    #[command(flatten)]
    view: View,
}

/// Lists the runs that are left.
pub(super) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let objectives = arguments.goals.objectives()?;
    let runs = arguments.paths.read()?;
    let mut selected = arguments.conditions.select(&runs)?;
    selected.retain(|run| run.meets(&objectives));
    output::print(&arguments.view.of(selected, &columns_of_objectives(&objectives)?)?, format)
}
