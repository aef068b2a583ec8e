//! `recommend MODEL --gpus H100:16 --input-len I --output-len O (--rate R | --users N) --slo …`: which is cheapest?

mod answer;
mod watch;

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use config_explorer::engine::{EngineRules, Version};
use config_explorer::hardware::Prices;
use config_explorer::latency::Calibration;
use config_explorer::manifest::{ProposalOptions, Proposals};
use config_explorer::recommend::{Demand, Disaggregation, Measurements, PoolShare, Query, RankBy, Shard, Variant};
use config_explorer::reports::store;
use config_explorer::simulation::Traffic;
use config_explorer::workload::Objectives;

pub(crate) use answer::RecommendAnswer;
use watch::search;

use super::runs::read_runs;
use crate::ExitStatus;
use crate::arguments::engine::EngineArgs;
use crate::arguments::hardware::HardwareArgs;
use crate::arguments::model::ModelArgs;
use crate::arguments::workload;
use crate::commands::deploy;
use crate::output::{self, Format};

/// Arguments of `recommend`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArgs,

    /// Accelerators there are: NAME:COUNT, several with commas.
    #[arg(long, value_name = "NAME:COUNT,…")]
    gpus: String,

    #[command(flatten)]
    load: LoadArgs,

    /// What must hold, such as "ttft:p99<2s;itl:p99<50ms"; by default what the workload's file says.
    #[arg(long, value_name = "OBJECTIVES")]
    slo: Option<Objectives>,

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

    /// Measured runs, which outrank predictions: a store, a folder or a result file; may be repeated.
    #[arg(long, value_name = "STORE")]
    runs: Vec<PathBuf>,

    /// Look at one part of the deployments, such as 0/4: the first of four.
    #[arg(long, value_name = "I/N", requires = "shard_out")]
    shard: Option<Shard>,

    /// Write every deployment that was scored as a run, for `runs`: a `.parquet` file. Parts are read together from their
    /// folder.
    #[arg(long, value_name = "FILE.parquet")]
    shard_out: Option<PathBuf>,

    /// Only estimate; no finalist is simulated.
    #[arg(long)]
    no_simulation: bool,

    /// Say why each neighbour lost, and what would flip the choice.
    #[arg(long)]
    explain: bool,

    /// Write the llm-d files of the first choice to this folder; `deploy` has more options.
    #[arg(long, value_name = "DIR")]
    deploy: Option<PathBuf>,

    /// Replace files of that folder that differ.
    #[arg(long, requires = "deploy")]
    overwrite: bool,

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

/// What arrives.
#[derive(Debug, Args)]
#[command(next_help_heading = "Load")]
struct LoadArgs {
    /// Mean length of a prompt, tokens.
    #[arg(long, value_name = "TOKENS", required_unless_present = "workload", conflicts_with = "workload")]
    input_len: Option<u32>,

    /// Mean length of an output, tokens.
    #[arg(long, value_name = "TOKENS", required_unless_present = "workload", conflicts_with = "workload")]
    output_len: Option<u32>,

    /// Requests per second, arriving at random.
    #[arg(long, value_name = "R", required_unless_present_any = ["users", "workload"], conflicts_with = "workload")]
    rate: Option<f64>,

    /// Users, each sending the next request when the last one has ended.
    #[arg(long, value_name = "N", conflicts_with_all = ["rate", "workload"])]
    users: Option<u32>,

    /// Share of the prompts' tokens that prefix caches hold.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, conflicts_with = "workload")]
    prefix_hit_rate: f64,

    /// File with a workload (this project's, inference-perf's or GuideLLM's) or a trace.
    #[arg(long, value_name = "FILE")]
    workload: Option<PathBuf>,
}

/// The load that was asked for.
struct ResolvedLoad {
    input_tokens: f64,
    output_tokens: f64,
    prefix_hit_rate: f64,
    demand: Demand,
    /// What a file says is sent, and what it says that is left out.
    file: Option<Traffic>,
    notes: Vec<String>,
}

impl LoadArgs {
    fn resolve(&self) -> config_explorer::Result<ResolvedLoad> {
        let Some(path) = &self.workload else {
            let length = |tokens: Option<u32>| tokens.map_or(0.0, f64::from);
            return Ok(ResolvedLoad {
                input_tokens: length(self.input_len),
                output_tokens: length(self.output_len),
                prefix_hit_rate: self.prefix_hit_rate,
                demand: self.users.map_or(Demand::Rate(self.rate.unwrap_or(0.0)), |users| Demand::Users(users.into())),
                file: None,
                notes: Vec::new(),
            });
        };
        let (traffic, notes) = workload::read(path, 0)?;
        let steady = traffic.steady_state()?;
        Ok(ResolvedLoad {
            input_tokens: steady.input_tokens,
            output_tokens: steady.output_tokens,
            prefix_hit_rate: steady.prefix_hit_rate,
            demand: Demand::of(&steady.load)?,
            file: Some(traffic),
            notes,
        })
    }
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
    let load = arguments.load.resolve()?;
    load.notes.iter().for_each(|note| anstream::eprintln!("{note}"));
    let objectives_of_file = load.file.as_ref().and_then(|traffic| traffic.workload.slo.clone());
    let runs = if arguments.runs.is_empty() { Vec::new() } else { read_runs(&arguments.runs)? };
    let measured = (!arguments.runs.is_empty()).then_some(Measurements { runs: &runs, accelerators: &accelerators });
    let query = Query {
        rules: &rules,
        variants,
        pool,
        input_tokens: load.input_tokens,
        output_tokens: load.output_tokens,
        prefix_hit_rate: load.prefix_hit_rate,
        demand: load.demand,
        workload: load.file.as_ref(),
        objectives: arguments.slo.clone().or(objectives_of_file).unwrap_or_default(),
        rank_by: arguments.objective.into(),
        disaggregation: arguments.disaggregation.into(),
        prices: &prices,
        calibration: read.as_ref().unwrap_or_else(|| Calibration::built_in()),
        measured,
        shard: arguments.shard,
        keep_all: arguments.shard_out.is_some(),
        simulate: !arguments.no_simulation,
        top: arguments.top,
    };
    let found = search(&query)?;
    if let Some(path) = &arguments.shard_out {
        store::write(path, &found.considered)?;
    }
    let answer = RecommendAnswer {
        load: answer::Load::of(&query),
        model: model.id.clone(),
        engine_version: rules.version.to_string(),
        elapsed_ms: start.elapsed().as_secs_f64() * 1e3,
        found,
        explain: arguments.explain,
        is_part: arguments.shard.is_some(),
    };
    let status = output::print(&answer, format)?;
    if let Some(folder) = arguments.deploy.as_deref().filter(|_| !answer.found.recommendations.is_empty()) {
        // What is written is what `deploy` would write of the saved answer.
        let proposals = Proposals::read(serde_json::from_str(&output::render(&answer, Format::Json)?)?, "the answer")?;
        let options = ProposalOptions::default();
        let written = deploy::write(&proposals, 1, &options, Some(folder), arguments.overwrite, &accelerators)?;
        anstream::eprintln!("{}", written.summary());
    }
    Ok(status)
}
