//! `runs list PATH…`: the runs.

use clap::Args;

use super::selection::Paths;
use super::view::View;
use crate::ExitStatus;
use crate::output::{self, Format};

/// Arguments of `runs list`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    paths: Paths,

    #[command(flatten)]
    view: View,
}

/// Lists the runs.
pub(super) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let runs = arguments.paths.read()?;
    output::print(&arguments.view.of(runs.iter().collect(), &[])?, format)
}
