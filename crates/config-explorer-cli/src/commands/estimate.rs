//! `estimate MODEL --gpu G --input-len I --output-len O (--concurrency N | --rate R)`: how fast will it be?

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use config_explorer::deployment::{Nodes, Parallelism};
use config_explorer::engine::{EngineRules, EngineSettings, KvCacheDType, ServeArgs, Version};
use config_explorer::hardware::Accelerator;
use config_explorer::latency::{Calibration, Configuration, Decoder};
use config_explorer::memory::PlanRequest;
use config_explorer::model::Model;
use config_explorer::serving::{
    Capacity, Deployment, Load, Prediction, Role, Statistics, Traffic, capacity, estimate,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::ExitStatus;
use crate::arguments::engine::EngineArgs;
use crate::arguments::hardware::HardwareArgs;
use crate::arguments::model::ModelArgs;
use crate::output::{self, Answer, Format, Table};

/// Arguments of `estimate`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArgs,

    /// Accelerator, by any name it goes by; `config-explorer accelerators` lists them.
    #[arg(long, value_name = "NAME")]
    gpu: String,

    /// Mean prompt length, tokens.
    #[arg(long, value_name = "TOKENS")]
    input_len: f64,

    /// Mean output length, tokens.
    #[arg(long, value_name = "TOKENS")]
    output_len: f64,

    /// Clients over the whole deployment, each sending its next request when the last one ends.
    #[arg(long, value_name = "N", alias = "batch-size", required_unless_present_any = ["rate", "burst"])]
    concurrency: Option<f64>,

    /// Requests per second over the whole deployment, at random times.
    #[arg(long, value_name = "R", conflicts_with = "concurrency")]
    rate: Option<f64>,

    /// Requests that all arrive at once.
    #[arg(long, value_name = "N", conflicts_with_all = ["concurrency", "rate"])]
    burst: Option<f64>,

    /// Requests of a benchmark run, whose means include the burst in which all clients start; by default it runs for
    /// ever.
    #[arg(long, value_name = "N", requires = "concurrency")]
    requests: Option<f64>,

    /// Share of the prompts' tokens that the prefix cache holds.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    prefix_hit_rate: f64,

    /// Engines that share the load.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    replicas: u32,

    /// Engines that only compute prompts; with `--decode-replicas`, in place of `--replicas`.
    #[arg(long, value_name = "N", requires = "decode_replicas", conflicts_with = "replicas",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    prefill_replicas: Option<u32>,

    /// Tensor-parallel size of the engines that compute prompts.
    #[arg(long, value_name = "N", requires = "prefill_replicas")]
    prefill_tp: Option<std::num::NonZeroU32>,

    /// Engines that only decode.
    #[arg(long, value_name = "N", requires = "prefill_replicas",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    decode_replicas: Option<u32>,

    /// Tensor-parallel size of the engines that decode.
    #[arg(long, value_name = "N", requires = "decode_replicas")]
    decode_tp: Option<std::num::NonZeroU32>,

    /// Show the operators of a step, and what binds each.
    #[arg(long)]
    explain: bool,

    /// Show how latency and throughput change with the load, up to the one that is asked for.
    #[arg(long)]
    curve: bool,

    /// Calibration that `calibrate` wrote, instead of the built-in one.
    #[arg(long, value_name = "FILE")]
    coefficients: Option<PathBuf>,

    /// Version whose defaults apply; by default the one that llm-d's guides pin.
    #[arg(long, value_name = "vllm@VERSION")]
    engine: Option<Version>,

    #[command(flatten)]
    hardware: HardwareArgs,

    #[command(flatten)]
    settings: EngineArgs,
}

/// What the deployment does, or why it does not run.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EstimateAnswer {
    /// The engines start and hold the requests.
    fits: bool,
    /// Why not.
    reason: Option<String>,
    /// What they do; absent where they do not fit.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    prediction: Option<Prediction>,
    /// The same at other loads, with `--curve`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    curve: Vec<CurvePoint>,
    #[serde(skip)]
    explain: bool,
}

/// One load of a curve.
#[derive(Debug, Serialize, JsonSchema)]
struct CurvePoint {
    /// Clients, or requests per second.
    load: f64,
    /// What the deployment does there.
    #[serde(flatten)]
    prediction: Prediction,
}

impl Answer for EstimateAnswer {
    const COMMAND: &'static str = "estimate";

    fn table(&self) -> Table {
        let mut table = Table::new([
            "load",
            "ttft_mean_ms",
            "tpot_mean_ms",
            "e2e_mean_ms",
            "requests_per_s",
            "output_tokens_per_s",
            "output_tokens_per_s_per_gpu",
            "batch_size_mean",
            "saturated",
        ]);
        let mean = |statistics: Option<Statistics>| {
            statistics.map_or_else(String::new, |statistics| format!("{:.2}", statistics.mean))
        };
        let asked = self.prediction.iter().filter(|_| self.curve.is_empty()).map(|prediction| (None, prediction));
        for (load, prediction) in asked.chain(self.curve.iter().map(|point| (Some(point.load), &point.prediction))) {
            table.push([
                load.map_or_else(String::new, |load| format!("{load:.2}")),
                mean(prediction.ttft_ms),
                mean(Some(prediction.tpot_ms)),
                mean(prediction.e2e_ms),
                format!("{:.3}", prediction.throughput.requests_per_s),
                format!("{:.1}", prediction.throughput.output_tokens_per_s),
                format!("{:.1}", prediction.throughput.output_tokens_per_s_per_gpu),
                format!("{:.1}", prediction.utilisation.batch_size_mean),
                prediction.saturated.to_string(),
            ]);
        }
        table
    }

    fn text(&self) -> String {
        let Some(prediction) = &self.prediction else {
            return format!("It does not fit: {}.\n", self.reason.as_deref().unwrap_or("no reason is known"));
        };
        let mut text = latencies(prediction).draw();
        let throughput = prediction.throughput;
        let _ = writeln!(
            text,
            "\n{:.2} requests/s, {:.0} output tokens/s ({:.0} a GPU), {:.0} running",
            throughput.requests_per_s,
            throughput.output_tokens_per_s,
            throughput.output_tokens_per_s_per_gpu,
            prediction.utilisation.batch_size_mean,
        );
        let [low, high] = prediction.interval_80.tpot_mean_ms;
        let _ = write!(text, "80 % intervals of the means: TPOT {low:.1} to {high:.1} ms");
        if let Some([low, high]) = prediction.interval_80.ttft_mean_ms {
            let _ = write!(text, ", TTFT {low:.0} to {high:.0} ms");
        }
        let _ = writeln!(text, " ({})", prediction.interval_basis);
        if prediction.saturated {
            text += "Saturated: more arrives than can be served, and waiting grows for ever.\n";
        }
        for warning in &prediction.warnings {
            let _ = writeln!(text, "Note: {warning}");
        }
        if self.explain {
            let _ = write!(text, "\n{}", operators(prediction).draw());
        }
        if !self.curve.is_empty() {
            let _ = write!(text, "\n{}", self.table().draw());
        }
        text
    }

    fn status(&self) -> ExitStatus {
        match &self.prediction {
            Some(prediction) if !prediction.saturated => ExitStatus::Success,
            _ => ExitStatus::No,
        }
    }
}

fn latencies(prediction: &Prediction) -> Table {
    let mut table = Table::new(["ms", "mean", "p50", "p90", "p95", "p99"]);
    let rows = [
        ("TTFT", prediction.ttft_ms),
        ("TPOT", Some(prediction.tpot_ms)),
        ("ITL", Some(prediction.itl_ms)),
        ("E2E", prediction.e2e_ms),
    ];
    for (name, statistics) in rows {
        let Some(Statistics { mean, p50, p90, p95, p99 }) = statistics else { continue };
        let mut cells = vec![name.to_owned()];
        cells.extend([mean, p50, p90, p95, p99].map(|ms| format!("{ms:.1}")));
        table.push_row(cells);
    }
    table
}

/// The operators of the mean step, longest first.
fn operators(prediction: &Prediction) -> Table {
    let mut lines: Vec<_> = prediction.breakdown.iter().collect();
    lines.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    let whole: f64 = lines.iter().map(|line| line.ms).sum();
    let mut table = Table::new(["operator", "ms", "share", "bound by", "roofline_ms"]);
    for line in lines {
        table.push([
            line.operator.to_owned(),
            format!("{:.3}", line.ms),
            format!("{:.0} %", 100.0 * line.ms / whole),
            serde_json::to_value(line.bound_by).map_or_else(|_| String::new(), |name| name.as_str().unwrap_or("").to_owned()),
            format!("{:.3}", line.roofline_ms),
        ]);
    }
    table
}

/// What every role of the deployment shares.
struct Common<'a> {
    model: &'a Model,
    decoder: &'a Decoder,
    accelerator: &'a Accelerator,
    rules: &'a EngineRules,
    calibration: &'a Calibration,
}

/// An engine with its flags resolved.
struct Engine {
    settings: EngineSettings,
    parallelism: Parallelism,
    fp8_kv_cache: bool,
    replicas: u32,
    capacity: Capacity,
}

impl Common<'_> {
    fn engine(&self, serve: &ServeArgs, replicas: u32, traffic: &Traffic) -> anyhow::Result<Engine> {
        let Self { model, accelerator, rules, .. } = *self;
        let total_gib = accelerator.memory_gib;
        let settings = EngineSettings::resolve(serve, rules, &model.architecture, total_gib, &accelerator.name)?;
        let parallelism = Parallelism::from_args(serve)?;
        let request = PlanRequest {
            model,
            accelerator,
            total_gib,
            rules,
            settings: settings.clone(),
            parallelism,
            nodes: Nodes { count: None, gpus_per_node: accelerator.gpus_per_node },
            concurrency: None,
        };
        // A checkpoint may ask for an 8-bit cache, which `auto` follows.
        let fp8_kv_cache = match settings.kv_cache_dtype {
            KvCacheDType::Auto => model.architecture.kv_cache_dtype.and_then(|dtype| dtype.bits()) == Some(8),
            dtype => dtype.element()?.and_then(|dtype| dtype.bits()) == Some(8),
        };
        Ok(Engine { parallelism, fp8_kv_cache, replicas, capacity: capacity(&request, traffic)?, settings })
    }

    fn role<'a>(&'a self, engine: &'a Engine) -> Result<Role<'a>, String> {
        match &engine.capacity {
            Capacity::Fits { kv_tokens, kv_bytes_per_token } => Ok(Role {
                configuration: Configuration {
                    decoder: self.decoder,
                    accelerator: self.accelerator,
                    parallelism: engine.parallelism,
                    settings: &engine.settings,
                    fp8_kv_cache: engine.fp8_kv_cache,
                    calibration: self.calibration,
                },
                replicas: engine.replicas,
                kv_tokens: *kv_tokens,
                kv_bytes_per_token: *kv_bytes_per_token,
            }),
            Capacity::DoesNotFit { reason } => Err(reason.clone()),
        }
    }
}

/// Predicts what was asked for.
pub(crate) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let load = match (arguments.concurrency, arguments.rate, arguments.burst) {
        (Some(clients), ..) => Load::Closed { clients, requests: arguments.requests },
        (None, Some(rate_per_s), _) => Load::Open { rate_per_s },
        (None, None, requests) => Load::Burst { requests: requests.unwrap_or(1.0) },
    };
    let traffic = Traffic::new(arguments.input_len, arguments.output_len, arguments.prefix_hit_rate, load)?;
    let accelerators = arguments.hardware.accelerators()?;
    let accelerator = accelerators.find(&arguments.gpu)?;
    let rules = arguments.engine.map_or_else(|| Ok(EngineRules::of_default_version()), EngineRules::of)?;
    let calibration = match &arguments.coefficients {
        Some(file) => Calibration::read(file)?,
        None => Calibration::built_in().clone(),
    };
    let model = arguments.model.load()?;
    let serve = &arguments.settings.0;
    let settings =
        EngineSettings::resolve(serve, &rules, &model.architecture, accelerator.memory_gib, &accelerator.name)?;
    let decoder = match &settings.load_quantization {
        Some(quantisation) => Decoder::quantised(&model.architecture, quantisation)?,
        None => Decoder::new(&model.architecture)?,
    };
    let common =
        Common { model: &model, decoder: &decoder, accelerator, rules: &rules, calibration: &calibration };
    let engine = |tensor: Option<std::num::NonZeroU32>, replicas| {
        let serve = ServeArgs { tensor_parallel_size: tensor.or(serve.tensor_parallel_size), ..serve.clone() };
        common.engine(&serve, replicas, &traffic)
    };
    let engines = match (arguments.prefill_replicas, arguments.decode_replicas) {
        (Some(prefill), Some(decode)) => {
            vec![engine(arguments.prefill_tp, prefill)?, engine(arguments.decode_tp, decode)?]
        }
        _ => vec![engine(None, arguments.replicas)?],
    };
    let roles: Result<Vec<Role<'_>>, String> = engines.iter().map(|engine| common.role(engine)).collect();
    let mut answer = EstimateAnswer {
        fits: roles.is_ok(),
        reason: None,
        prediction: None,
        curve: Vec::new(),
        explain: arguments.explain,
    };
    match roles.as_deref() {
        Err(reason) => answer.reason = Some(reason.clone()),
        Ok(roles) => {
            let deployment = match *roles {
                [prefill, decode] => Deployment::Disaggregated { prefill, decode },
                [role, ..] => Deployment::Aggregated(role),
                [] => anyhow::bail!("a deployment has at least one engine"),
            };
            answer.prediction = Some(estimate(&deployment, &traffic)?);
            if arguments.curve {
                answer.curve = curve(&deployment, &traffic)?;
            }
        }
    }
    output::print(&answer, format)
}

/// Loads up to the traffic's own: doubling clients, or tenths of a rate.
fn curve(deployment: &Deployment<'_>, traffic: &Traffic) -> anyhow::Result<Vec<CurvePoint>> {
    let loads: Vec<(f64, Load)> = match traffic.load {
        Load::Closed { clients, requests } => {
            let doubling = std::iter::successors(Some(1.0), |clients| Some(clients * 2.0));
            let below = doubling.take_while(|fewer| *fewer < clients);
            let waves = requests.map(|requests| requests / clients);
            let load = |clients: f64| Load::Closed { clients, requests: waves.map(|waves| waves * clients) };
            below.chain([clients]).map(|clients| (clients, load(clients))).collect()
        }
        Load::Open { rate_per_s } => (1..=10)
            .map(|tenths| rate_per_s * f64::from(tenths) / 10.0)
            .map(|rate_per_s| (rate_per_s, Load::Open { rate_per_s }))
            .collect(),
        load @ Load::Burst { requests } => vec![(requests, load)],
    };
    let point = |(load, of_load)| {
        let prediction = estimate(deployment, &Traffic { load: of_load, ..*traffic })?;
        Ok(CurvePoint { load, prediction })
    };
    loads.into_iter().map(point).collect()
}
