//! One file a command: its arguments, what it asks the library, and the answer it gives.

pub(crate) mod accelerators;
pub(crate) mod calibrate;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod deploy;
pub(crate) mod estimate;
pub(crate) mod job;
pub(crate) mod models;
pub(crate) mod plan;
pub(crate) mod recommend;
pub(crate) mod runs;
pub(crate) mod schema;
pub(crate) mod simulate;
pub(crate) mod validate;

use crate::ExitStatus;
use crate::cli::{Cli, Command};

/// Runs the command that was asked for.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitStatus> {
    let output = cli.output;
    match cli.command {
        Command::Accelerators(arguments) => accelerators::run(&arguments, output),
        Command::Plan(arguments) => plan::run(&arguments, output),
        Command::Estimate(arguments) => estimate::run(&arguments, output),
        Command::Simulate(arguments) => simulate::run(&arguments, output),
        Command::Recommend(arguments) => recommend::run(&arguments, output),
        Command::Job(arguments) => job::run(&arguments),
        Command::Deploy(arguments) => deploy::run(&arguments, output),
        Command::Check(arguments) => check::run(&arguments, output),
        Command::Calibrate(arguments) => calibrate::run(&arguments, output),
        Command::Models(arguments) => models::run(&arguments, output),
        Command::Runs(arguments) => runs::run(&arguments, output),
        Command::Validate(arguments) => validate::run(&arguments, output),
        Command::Schema(arguments) => schema::run(&arguments, output),
        Command::Completions(arguments) => completions::run(&arguments),
    }
}
