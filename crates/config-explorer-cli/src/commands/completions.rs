//! `completions SHELL`: the completion script of a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::ExitStatus;
use crate::cli::Cli;
use crate::output;

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The shell.
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitStatus> {
    // By way of memory: `generate` panics where a write fails.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "config-explorer", &mut script);
    output::write(&String::from_utf8(script)?)?;
    Ok(ExitStatus::Success)
}
