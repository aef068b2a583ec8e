//! `check FILE|DIR|-- vllm serve …`: will what is about to be applied start, and hold its objectives?

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use config_explorer::engine::Version;
use config_explorer::latency::Calibration;
use config_explorer::manifest::check::{Context, Goal, Input, Report, Severity, check, read};
use config_explorer::model::{LoadOptions, Model};
use config_explorer::serving::{Load, Traffic};
use config_explorer::workload::Objectives;
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

    /// What must hold under the load, such as "ttft:p99<2s;itl:p99<50ms".
    #[arg(long, value_name = "OBJECTIVES", default_value = "", hide_default_value = true, requires = "input_len")]
    slo: Objectives,

    /// Mean length of a prompt, tokens: predict whether the load is carried within the objectives.
    #[arg(long, value_name = "TOKENS", help_heading = "Load", requires_all = ["output_len", "load"])]
    input_len: Option<u32>,

    /// Mean length of an output, tokens.
    #[arg(long, value_name = "TOKENS", help_heading = "Load", requires = "input_len")]
    output_len: Option<u32>,

    /// Requests per second, arriving at random.
    #[arg(long, value_name = "R", help_heading = "Load", group = "load", requires = "input_len")]
    rate: Option<f64>,

    /// Requests in flight, each followed by the next.
    #[arg(long, value_name = "N", help_heading = "Load", group = "load", requires = "input_len")]
    concurrency: Option<u32>,

    /// Share of the prompts' tokens that prefix caches hold.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, help_heading = "Load", requires = "input_len")]
    prefix_hit_rate: f64,

    /// Latency coefficients that `calibrate` wrote, instead of the built-in ones.
    #[arg(long, value_name = "FILE", help_heading = "Load", requires = "input_len")]
    coefficients: Option<PathBuf>,

    /// Do not use the network.
    #[arg(long)]
    offline: bool,

    #[command(flatten)]
    hardware: HardwareArgs,
}

impl Arguments {
    /// The load and what must hold under it, where one is given.
    fn goal<'a>(&self, calibration: &'a Calibration) -> config_explorer::Result<Option<Goal<'a>>> {
        let (Some(input), Some(output)) = (self.input_len, self.output_len) else { return Ok(None) };
        let load = match (self.rate, self.concurrency) {
            (Some(rate_per_s), _) => Load::Open { rate_per_s },
            (None, Some(clients)) => Load::Closed { clients: clients.into(), requests: None },
            (None, None) => return Ok(None),
        };
        let traffic = Traffic::new(input.into(), output.into(), self.prefix_hit_rate, load)?;
        Ok(Some(Goal { traffic, objectives: self.slo.clone(), calibration }))
    }
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
            let most = role.replicas_max.map_or_else(String::new, |most| {
                format!(", at most {most} x {} = {} GPUs", plan.gpus, most.saturating_mul(plan.gpus.into()))
            });
            let _ = writeln!(
                text,
                "{name}: {} x {} on {} x {} {verdict}{kv}{most}",
                role.replicas, plan.model.id, plan.gpus, plan.accelerator.name
            );
        }
        for objective in &self.report.objectives {
            let name = if objective.path.is_empty() { &objective.file } else { &objective.path };
            let verdict = if objective.holds { "holds" } else { "is missed" };
            let predicted = objective.predicted.map_or_else(|| "never".to_owned(), |value| format!("{value:.1}"));
            let _ = writeln!(text, "{name}: {} {verdict}, {predicted} predicted", objective.objective);
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
    let read = arguments.coefficients.as_ref().map(|path| Calibration::read(path)).transpose()?;
    let goal = arguments.goal(read.as_ref().unwrap_or_else(|| Calibration::built_in()))?;
    let report = check(
        &inputs,
        &Context {
            accelerators: &accelerators,
            accelerator,
            gpu_memory_gib: arguments.gpu_memory,
            gpus_per_node: arguments.gpus_per_node,
            engine: arguments.engine,
            goal,
            model: &|id| Model::load(id, &options),
        },
    );
    output::print(&CheckAnswer { report }, format)
}
