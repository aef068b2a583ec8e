//! `validate logs VLLM.log --gpu G`

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use config_explorer::Error;
use config_explorer::engine::{EngineRules, Version};
use config_explorer::model::{LoadOptions, Model};
use config_explorer::validate::{Comparison, StartUpLog, model_in, plan_of_server};
use schemars::JsonSchema;
use serde::Serialize;

use crate::ExitStatus;
use crate::arguments::engine::EngineArgs;
use crate::arguments::hardware::HardwareArgs;
use crate::output::{self, Answer, Format, Table};

/// What is read of a log: start-ups are told at its beginning.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// Arguments of `validate logs`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The server's log.
    log: PathBuf,

    /// Accelerator, by any name it goes by.
    #[arg(long, value_name = "NAME")]
    gpu: String,

    /// Model, instead of the log's.
    #[arg(long)]
    model: Option<String>,

    /// Directory of ORG--NAME/config.json folders; without it the model is found as by `plan`.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,

    /// Do not use the network.
    #[arg(long)]
    offline: bool,

    /// Version, instead of the log's.
    #[arg(long, value_name = "vllm@VERSION")]
    engine: Option<Version>,

    #[command(flatten)]
    hardware: HardwareArgs,

    #[command(flatten)]
    settings: EngineArgs,
}

/// The printed quantities beside the predicted ones.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LogAnswer {
    /// Hugging Face id or path.
    model: String,
    /// Version whose accounting applies.
    version: String,
    /// What the log says, in the order in which memory is spent.
    quantities: Vec<Comparison>,
    /// Why the plan does not fit, though the server ran.
    reason: Option<String>,
    /// Settings of the log that could not be read.
    warnings: Vec<String>,
}

impl Answer for LogAnswer {
    const COMMAND: &'static str = "validate-logs";

    fn table(&self) -> Table {
        let mut table = Table::new(["quantity", "logged", "predicted", "difference"]);
        for Comparison { quantity, logged, predicted, difference } in &self.quantities {
            let figure = |figure: &f64| if figure.fract() == 0.0 { figure.to_string() } else { format!("{figure:.2}") };
            table.push([(*quantity).to_owned(), figure(logged), figure(predicted), figure(difference)]);
        }
        table
    }

    fn text(&self) -> String {
        let mut text = format!("{} with vLLM {}\n\n{}", self.model, self.version, self.table().draw());
        for note in self.reason.iter().chain(&self.warnings) {
            text += &format!("Note: {note}\n");
        }
        text
    }
}

/// Reads the log, plans what it says, and compares.
pub(super) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let mut bytes = Vec::new();
    File::open(&arguments.log)
        .and_then(|file| file.take(LOG_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|source| Error::Io { path: arguments.log.clone(), source })?;
    let log = StartUpLog::parse(&bytes);
    let name = arguments.model.as_ref().or(log.model.as_ref());
    let name = name.context("the log names no model: give it with `--model`")?;
    let accelerators = arguments.hardware.accelerators()?;
    let accelerator = accelerators.find(&arguments.gpu)?;
    let model = load(arguments, name)?;
    let rules = arguments.engine.map_or_else(|| log.rules(), EngineRules::of)?;
    let serve = log.args_with(&arguments.settings.0)?;
    let total_gib = log.gpu_total_gib.unwrap_or(accelerator.memory_gib);
    let plan = plan_of_server(&serve, &rules, &model, accelerator, total_gib)?;
    let quantities = log.compare(&plan);
    let version = plan.engine.version;
    output::print(
        &LogAnswer { model: model.id, version, quantities, reason: plan.reason, warnings: log.problems },
        format,
    )
}

fn load(arguments: &Arguments, name: &str) -> config_explorer::Result<Model> {
    if let Some(directory) = &arguments.models {
        let unknown = || Error::Unknown { kind: "model", name: name.to_owned(), similar: Vec::new() };
        return model_in(directory, name)?.ok_or_else(unknown);
    }
    let mut options = LoadOptions::from_env(|name| std::env::var(name).ok());
    options.offline |= arguments.offline;
    Model::load(name, &options)
}
