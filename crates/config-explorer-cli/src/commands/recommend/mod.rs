//! `recommend MODEL --gpus H100:16 --input-len I --output-len O (--rate R | --users N) --slo …`: which is cheapest?

mod answer;

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use config_explorer::engine::{EngineRules, Version};
use config_explorer::hardware::Prices;
use config_explorer::latency::Calibration;
use config_explorer::recommend::{Demand, Disaggregation, PoolShare, Query, RankBy, Variant, recommend};
use config_explorer::workload::Objectives;

pub(crate) use answer::RecommendAnswer;

use crate::ExitStatus;
use crate::arguments::engine::EngineArgs;
use crate::arguments::hardware::HardwareArgs;
use crate::arguments::model::ModelArgs;
use crate::output::{self, Format};

/// Arguments of `recommend`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArgs,

    /// Accelerators there are: NAME:COUNT, several with commas.
    #[arg(long, value_name = "NAME:COUNT,…")]
    gpus: String,

    /// Mean length of a prompt, tokens.
    #[arg(long, value_name = "TOKENS", help_heading = "Load")]
    input_len: u32,

    /// Mean length of an output, tokens.
    #[arg(long, value_name = "TOKENS", help_heading = "Load")]
    output_len: u32,

    /// Requests per second, arriving at random.
    #[arg(long, value_name = "R", help_heading = "Load", required_unless_present = "users")]
    rate: Option<f64>,

    /// Users, each sending the next request when the last one has ended.
    #[arg(long, value_name = "N", help_heading = "Load", conflicts_with = "rate")]
    users: Option<u32>,

    /// Share of the prompts' tokens that prefix caches hold.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, help_heading = "Load")]
    prefix_hit_rate: f64,

    /// What must hold, such as "ttft:p99<2s;itl:p99<50ms".
    #[arg(long, value_name = "OBJECTIVES", default_value = "")]
    slo: Objectives,

    /// What comes first among those that meet the objectives; throughput and latency use all GPUs.
    #[arg(long, value_name = "WHAT", default_value = "cost")]
    objective: ObjectiveName,

    /// Whether prefill and decode may have engines of their own.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    disaggregation: DisaggregationName,

    /// What an hour of an accelerator costs: GPU=USD, or a file; may be repeated.
    #[arg(long, value_name = "FILE|GPU=USD")]
    prices: Vec<String>,

    /// Another checkpoint that would do, such as a quantised one; may be repeated.
    #[arg(long, value_name = "MODEL")]
    variant: Vec<String>,

    /// Values of an engine flag to try, such as "max-num-seqs=64,256"; may be repeated.
    #[arg(long, value_name = "FLAG=VALUE,…")]
    vary: Vec<String>,

    /// How many configurations to show.
    #[arg(long, value_name = "K", default_value_t = 3)]
    top: usize,

    /// Only estimate; no finalist is simulated.
    #[arg(long)]
    no_simulation: bool,

    /// Say why each neighbour lost, and what would flip the choice.
    #[arg(long)]
    explain: bool,

    /// Latency coefficients that `calibrate` wrote, instead of the built-in ones.
    #[arg(long, value_name = "FILE")]
    coefficients: Option<PathBuf>,

    /// Version whose defaults and accounting apply; by default the one that llm-d's guides pin.
    #[arg(long, value_name = "vllm@VERSION")]
    engine: Option<Version>,

    #[command(flatten)]
    hardware: HardwareArgs,

    #[command(flatten)]
    settings: EngineArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ObjectiveName {
    Cost,
    Throughput,
    Latency,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DisaggregationName {
    Auto,
    Never,
    Always,
}

impl From<ObjectiveName> for RankBy {
    fn from(name: ObjectiveName) -> Self {
        match name {
            ObjectiveName::Cost => Self::Cost,
            ObjectiveName::Throughput => Self::Throughput,
            ObjectiveName::Latency => Self::Latency,
        }
    }
}

impl From<DisaggregationName> for Disaggregation {
    fn from(name: DisaggregationName) -> Self {
        match name {
            DisaggregationName::Auto => Self::Auto,
            DisaggregationName::Never => Self::Never,
            DisaggregationName::Always => Self::Always,
        }
    }
}

/// Recommends what was asked for.
pub(crate) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let start = Instant::now();
    let accelerators = arguments.hardware.accelerators()?;
    let pool = PoolShare::parse(&arguments.gpus, &accelerators)?;
    let rules = arguments.engine.map_or_else(|| Ok(EngineRules::of_default_version()), EngineRules::of)?;
    let read = arguments.coefficients.as_ref().map(|path| Calibration::read(path)).transpose()?;
    let mut prices = Prices::built_in().clone();
    for value in &arguments.prices {
        prices = prices.with(value, &accelerators)?;
    }
    let model = arguments.model.load()?;
    let others = arguments.variant.iter().map(|id| arguments.model.load_other(id));
    let others = others.collect::<config_explorer::Result<Vec<_>>>()?;
    let serve = &arguments.settings.0;
    let mut variants: Vec<_> =
        std::iter::once(&model).chain(&others).map(|model| Variant { model, serve: serve.clone() }).collect();
    for values in &arguments.vary {
        let varied = variants.iter().map(|variant| variant.vary(values));
        variants = varied.collect::<config_explorer::Result<Vec<_>>>()?.concat();
    }
    let query = Query {
        rules: &rules,
        variants,
        pool,
        input_tokens: f64::from(arguments.input_len),
        output_tokens: f64::from(arguments.output_len),
        prefix_hit_rate: arguments.prefix_hit_rate,
        demand: arguments
            .users
            .map_or(Demand::Rate(arguments.rate.unwrap_or(0.0)), |users| Demand::Users(users.into())),
        workload: None,
        objectives: arguments.slo.clone(),
        rank_by: arguments.objective.into(),
        disaggregation: arguments.disaggregation.into(),
        prices: &prices,
        calibration: read.as_ref().unwrap_or_else(|| Calibration::built_in()),
        simulate: !arguments.no_simulation,
        top: arguments.top,
    };
    let found = recommend(&query)?;
    let answer = RecommendAnswer {
        model: model.id.clone(),
        engine_version: rules.version.to_string(),
        elapsed_ms: start.elapsed().as_secs_f64() * 1e3,
        found,
        explain: arguments.explain,
    };
    output::print(&answer, format)
}
