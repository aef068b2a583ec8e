//! `check FILE|DIR|-- vllm serve …`: will what is about to be applied start?

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use config_explorer::engine::Version;
use config_explorer::manifest::check::{Context, Input, Report, Severity, check, read};
use config_explorer::model::{LoadOptions, Model};
use schemars::JsonSchema;
use serde::Serialize;

use crate::ExitStatus;
use crate::arguments::hardware::HardwareArgs;
use crate::arguments::target::parse_gib;
use crate::output::{self, Answer, Format, Table};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Kubernetes YAML, a kustomize overlay, values of llm-d's charts, or folders of them; they are checked together.
    #[arg(value_name = "FILE|DIR", required_unless_present = "command")]
    paths: Vec<PathBuf>,

    /// A `vllm serve` command.
    #[arg(last = true, value_name = "vllm serve …")]
    command: Vec<String>,

    /// Accelerator; by default the one that a node selector names. Without either, memory is not checked.
    #[arg(long, value_name = "NAME")]
    gpu: Option<String>,

    /// Memory of each GPU as CUDA reports it, instead of the table's.
    #[arg(long, value_name = "GIB", value_parser = parse_gib)]
    gpu_memory: Option<f64>,

    /// GPUs of a node; by default the accelerator's usual number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    gpus_per_node: Option<u32>,

    /// Version of the engine; by default that of the image.
    #[arg(long, value_name = "vllm@VERSION")]
    engine: Option<Version>,

    /// Do not use the network.
    #[arg(long)]
    offline: bool,

    #[command(flatten)]
    hardware: HardwareArgs,
}

/// What was found.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CheckAnswer {
    #[serde(flatten)]
    report: Report,
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

impl Answer for CheckAnswer {
    const COMMAND: &'static str = "check";

    fn table(&self) -> Table {
        let mut table = Table::new(["severity", "code", "file", "path", "message", "fix"]);
        for finding in &self.report.findings {
            table.push([
                word(finding.severity).to_owned(),
                finding.code.to_owned(),
                finding.file.clone(),
                finding.path.clone(),
                finding.message.clone(),
                finding.fix.clone(),
            ]);
        }
        table
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.report.findings {
            let place = [&finding.file, &finding.path].map(String::as_str).into_iter().filter(|part| !part.is_empty());
            let place = place.collect::<Vec<_>>().join(": ");
            let _ = writeln!(text, "{}[{}] {place}: {}", word(finding.severity), finding.code, finding.message);
            if !finding.fix.is_empty() {
                let _ = writeln!(text, "  fix: {}", finding.fix);
            }
        }
        for role in &self.report.roles {
            let plan = &role.plan;
            let name = if role.path.is_empty() { &role.file } else { &role.path };
            let kv = plan
                .kv_cache
                .map_or_else(String::new, |kv| format!(", KV cache of {} tokens", output::words::grouped(kv.tokens)));
            let verdict = if plan.fits { "fits" } else { "does not fit" };
            let _ = writeln!(
                text,
                "{name}: {} x {} on {} x {} {verdict}{kv}",
                role.replicas, plan.model.id, plan.gpus, plan.accelerator.name
            );
        }
        let count = |severity| self.report.findings.iter().filter(|finding| finding.severity == severity).count();
        let [errors, warnings, notes] = [Severity::Error, Severity::Warning, Severity::Note].map(count);
        let _ = writeln!(text, "errors: {errors}, warnings: {warnings}, notes: {notes}");
        text
    }

    fn status(&self) -> ExitStatus {
        if self.report.passes() { ExitStatus::Success } else { ExitStatus::No }
    }
}

/// Checks what was given.
pub(crate) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let accelerators = arguments.hardware.accelerators()?;
    let accelerator = arguments.gpu.as_deref().map(|name| accelerators.find(name)).transpose()?;
    let mut inputs = Vec::new();
    for path in &arguments.paths {
        inputs.extend(read(path)?);
    }
    if !arguments.command.is_empty() {
        inputs.push(Input::Command(arguments.command.clone()));
    }
    let mut options = LoadOptions::from_env(|name| std::env::var(name).ok());
    options.offline |= arguments.offline;
    let report = check(
        &inputs,
        &Context {
            accelerators: &accelerators,
            accelerator,
            gpu_memory_gib: arguments.gpu_memory,
            gpus_per_node: arguments.gpus_per_node,
            engine: arguments.engine,
            model: &|id| Model::load(id, &options),
        },
    );
    output::print(&CheckAnswer { report }, format)
}
