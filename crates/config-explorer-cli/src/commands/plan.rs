//! `plan MODEL --gpu G`: does it fit, and how much can it hold?

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use config_explorer::memory::{self, ExplainStep, MemoryPlan, PlanRequest};
use config_explorer::plot;
use schemars::JsonSchema;
use serde::Serialize;

use crate::ExitStatus;
use crate::arguments::model::ModelArgs;
use crate::arguments::picture;
use crate::arguments::target::TargetArgs;
use crate::output::words::{self, grouped};
use crate::output::{self, Answer, Format, Table, bar};

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArgs,

    /// Requests of full length that it must hold at once, over all data-parallel ranks.
    #[arg(long, value_name = "N", alias = "batch-size")]
    concurrency: Option<u64>,

    /// Plan every TP x PP x DP of up to `--max-gpus` GPUs.
    #[arg(long, alias = "show-possible-tp")]
    sweep: bool,

    /// Most GPUs of a layout in a sweep.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_gpus: u32,

    /// Show the arithmetic, step by step.
    #[arg(long)]
    explain: bool,

    /// Draw what fills the memory of each GPU into this file; its ending, `.svg`, `.png` or `.html`, decides the format.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    #[command(flatten)]
    target: TargetArgs,
}

/// The plan of one layout, or of every layout of a sweep.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum PlanAnswer {
    /// One layout.
    One(Box<OnePlan>),
    /// Every layout.
    Sweep {
        /// Fewest GPUs first.
        plans: Vec<MemoryPlan>,
    },
}

/// The plan of one layout.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OnePlan {
    #[serde(flatten)]
    plan: MemoryPlan,
    /// The arithmetic, with `--explain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Vec<ExplainStep>>,
}

impl Answer for PlanAnswer {
    const COMMAND: &'static str = "plan";

    fn table(&self) -> Table {
        let mut table = Table::new([
            "gpus",
            "tp",
            "pp",
            "dp",
            "fits",
            "weights_gib",
            "activation_gib",
            "kv_cache_gib",
            "tokens",
            "max_concurrency",
            "reason",
        ]);
        for plan in self.plans() {
            let gib = |gib: Option<f64>| gib.map_or_else(String::new, |gib| format!("{gib:.2}"));
            table.push([
                plan.gpus.to_string(),
                plan.parallelism.tp.to_string(),
                plan.parallelism.pp.to_string(),
                plan.parallelism.dp.to_string(),
                if plan.fits { "yes" } else { "no" }.to_owned(),
                gib(plan.memory_per_gpu.map(|memory| memory.weights_gib)),
                gib(plan.memory_per_gpu.map(|memory| memory.activation_gib)),
                gib(plan.memory_per_gpu.map(|memory| memory.kv_cache_gib)),
                plan.kv_cache.map_or_else(String::new, |kv| kv.tokens.to_string()),
                gib(plan.kv_cache.map(|kv| kv.max_concurrency)),
                plan.reason.clone().unwrap_or_default(),
            ]);
        }
        table
    }

    fn text(&self) -> String {
        match self {
            Self::One(one) => one.text(),
            Self::Sweep { .. } => self.table().draw(),
        }
    }

    fn status(&self) -> ExitStatus {
        let fits = match self {
            Self::One(one) => one.plan.fits,
            Self::Sweep { plans } => plans.iter().any(|plan| plan.fits),
        };
        if fits { ExitStatus::Success } else { ExitStatus::No }
    }
}

impl PlanAnswer {
    fn plans(&self) -> Vec<&MemoryPlan> {
        match self {
            Self::One(one) => vec![&one.plan],
            Self::Sweep { plans } => plans.iter().collect(),
        }
    }
}

impl OnePlan {
    fn text(&self) -> String {
        let mut text = heading(&self.plan);
        if let Some(memory) = &self.plan.memory_per_gpu {
            text += &bar::draw(memory);
        }
        text += &verdict(&self.plan);
        for warning in &self.plan.warnings {
            let _ = writeln!(text, "Note: {warning}");
        }
        if let Some(steps) = &self.explanation {
            let mut table = Table::new(["quantity", "arithmetic", "result"]);
            for step in steps {
                table.push([step.quantity.clone(), step.arithmetic.clone(), step.result.clone()]);
            }
            let _ = write!(text, "\n{}", table.draw());
        }
        text
    }
}

/// What was planned, in two lines.
fn heading(plan: &MemoryPlan) -> String {
    let settings = &plan.engine.settings;
    let quantization = plan.model.quantization.as_deref().or(settings.quantization.as_deref());
    format!(
        "{} ({:.2} B parameters, {}) on {} x {} with vLLM {}\n\
         {}; {} tokens a request, {} tokens and {} requests a step, utilization {}\n\n",
        plan.model.id,
        plan.model.parameters as f64 / 1e9,
        quantization.unwrap_or(&plan.model.dtype),
        plan.gpus,
        plan.accelerator.name,
        plan.engine.version,
        words::layout(plan.parallelism),
        settings.max_model_len,
        settings.max_num_batched_tokens,
        settings.max_num_seqs,
        settings.gpu_memory_utilization,
    )
}

/// What it holds, whether it fits, and what to change.
fn verdict(plan: &MemoryPlan) -> String {
    let mut text = String::new();
    if let Some(kv) = &plan.kv_cache {
        let each = if plan.parallelism.dp > 1 { " on each data-parallel rank" } else { "" };
        let _ = writeln!(
            text,
            "KV cache{each}: {} tokens in {} blocks of {}; {:.2} requests of {} tokens, {:.2} GiB each",
            grouped(kv.tokens),
            grouped(kv.num_blocks),
            kv.block_size,
            kv.max_concurrency,
            grouped(plan.engine.settings.max_model_len),
            kv.request_gib,
        );
        if kv.tokens_as_logged != kv.tokens {
            let _ =
                writeln!(text, "          vLLM {} logs {} tokens", plan.engine.version, grouped(kv.tokens_as_logged));
        }
    }
    match &plan.reason {
        None => text += "It fits.\n",
        Some(reason) => {
            let verdict = if plan.memory_per_gpu.is_some() { "It does not fit" } else { "It cannot be planned" };
            let _ = writeln!(text, "{verdict}: {reason}.");
        }
    }
    if plan.accounting_basis == config_explorer::engine::AccountingBasis::Extrapolated {
        let _ = writeln!(
            text,
            "The accounting of vLLM {} is carried on from the last version that was checked against real servers.",
            plan.engine.version
        );
    }
    if !plan.suggestions.is_empty() {
        text += if plan.fits { "\nFor more KV cache:\n" } else { "\nIt would fit with one of:\n" };
        let width = plan.suggestions.iter().map(|suggestion| suggestion.change.len()).max().unwrap_or(0);
        for suggestion in &plan.suggestions {
            let _ = writeln!(text, "  {:width$}  {}", suggestion.change, suggestion.effect);
        }
    }
    text
}

/// Height of a picture of so many bars, in pixels. Letters, and with them the bars, grow with the root of the height.
fn height_of_bars(count: usize) -> u32 {
    let count = u32::try_from(count).unwrap_or(u32::MAX).min(90);
    (200 + 70 * count.min(6)).max((200 + 18 * count).pow(2) / 600)
}

/// Plans what was asked for.
pub(crate) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let target = &arguments.target;
    let accelerators = target.hardware.accelerators()?;
    accelerators.find(&target.gpu)?;
    let rules = target.rules()?;
    let model = arguments.model.load()?;
    let request = PlanRequest {
        concurrency: arguments.concurrency,
        ..target.request(&target.settings.0, &model, &accelerators, &rules)?
    };
    let answer = if arguments.sweep {
        PlanAnswer::Sweep { plans: memory::sweep(&request, arguments.max_gpus) }
    } else {
        let mut plan = memory::plan(&request);
        plan.suggestions = memory::suggest(&request, &plan);
        let explanation = arguments.explain.then(|| memory::explain(&request));
        PlanAnswer::One(Box::new(OnePlan { plan, explanation }))
    };
    if let Some(path) = &arguments.plot {
        let plans = answer.plans();
        let appearance = plot::Appearance { height: height_of_bars(plans.len()), ..plot::Appearance::default() };
        picture::write(&plot::plans(&plans), path, &appearance)?;
    }
    output::print(&answer, format)
}
