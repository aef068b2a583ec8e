//! The command line: what can be typed, not what it means.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use crate::arguments::engine::canonical_spelling;
use crate::commands::{
    accelerators, calibrate, check, completions, deploy, estimate, job, models, plan, recommend, runs, schema,
    simulate, validate,
};
use crate::output::Format;

/// Finds configurations for serving large language models on llm-d.
///
/// Results go to stdout, everything else to stderr. Exit status: 0 done and the answer is yes, 1 something failed, 2 wrong
/// usage, 3 done and the answer is no.
#[derive(Debug, Parser)]
#[command(name = "config-explorer", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// How the result is printed.
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Does a model fit, and how much can it hold?
    Plan(Box<plan::Arguments>),
    /// How fast will a deployment be under a load?
    Estimate(Box<estimate::Arguments>),
    /// How fast will every request be? The simulation of vLLM's scheduler behind llm-d's router.
    Simulate(Box<simulate::Arguments>),
    /// Will what is about to be applied start?
    Check(check::Arguments),
    /// List the accelerators that `--gpu` takes, with their memory and peaks.
    Accelerators(accelerators::Arguments),
    /// List the built-in models, which are known without a network.
    Models(models::Arguments),
    /// Which configuration is the cheapest that meets the objectives?
    Recommend(Box<recommend::Arguments>),
    /// Write the llm-d files of a recommendation.
    Deploy(deploy::Arguments),
    /// Print a Kubernetes Job that searches in shards, one a pod.
    Job(job::Arguments),
    /// What was measured, and which configuration was best?
    Runs(runs::Arguments),
    /// How far are the predictions from what was measured?
    Validate(validate::Arguments),
    /// Fit the latency coefficients to measured runs.
    Calibrate(calibrate::Arguments),
    /// Print the JSON Schema of a command's JSON output, or list the commands that have one.
    Schema(schema::Arguments),
    /// Print the completion script of a shell.
    Completions(completions::Arguments),
}

/// Reads the command line; flags of the engine may be spelled in any way that vLLM accepts.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(words.map(canonical_spelling))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
