//! `validate memory|latency|logs FILE`: how far are the predictions from what was measured?

mod latency;
mod logs;
mod memory;

use clap::{Args, Subcommand};

pub(crate) use latency::LatencyAnswer;
pub(crate) use logs::LogAnswer;
pub(crate) use memory::MemoryAnswer;

use crate::ExitStatus;
use crate::output::Format;

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

/// What is measured.
#[derive(Debug, Subcommand)]
enum What {
    /// Memory of server start-ups: the prediction beside each row of a CSV file, or the errors by version and model.
    Memory(memory::Arguments),
    /// Latency of measured operating points: the prediction beside each row of a CSV file, or the errors by group.
    Latency(latency::Arguments),
    /// A server's own start-up log: each printed quantity beside the prediction.
    Logs(Box<logs::Arguments>),
}

/// Predicts and compares.
pub(crate) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    match &arguments.what {
        What::Memory(arguments) => memory::run(arguments, format),
        What::Latency(arguments) => latency::run(arguments, format),
        What::Logs(arguments) => logs::run(arguments, format),
    }
}
