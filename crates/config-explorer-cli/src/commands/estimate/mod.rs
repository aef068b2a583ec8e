//! `estimate MODEL --gpu G --input-len I --output-len O (--concurrency N | --rate R)`: how fast will it be?

mod answer;
mod curves;

use std::num::NonZeroU32;
use std::path::PathBuf;

use anyhow::Context;
use clap::{ArgGroup, Args, ValueEnum};
use config_explorer::engine::ServeArgs;
use config_explorer::latency::Calibration;
use config_explorer::memory::PlanRequest;
use config_explorer::serving::{self, Capacity, Deployment, Engine, Load, LoadKind, Traffic};

pub(crate) use answer::EstimateAnswer;
use answer::OneEstimate;
pub(in crate::commands) use answer::{RoleLine, TrafficLine, bound, number};

use crate::ExitStatus;
use crate::arguments::kernels::KernelArgs;
use crate::arguments::model::ModelArgs;
use crate::arguments::target::TargetArgs;
use crate::arguments::workload;
use crate::output::{self, Format};

/// Arguments of `estimate`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("load").required(true))]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    traffic: TrafficArgs,

    #[command(flatten)]
    pools: PoolArgs,

    /// Show the operators of a step that decodes and of one that computes a prompt.
    #[arg(long)]
    explain: bool,

    #[command(flatten)]
    curve: CurveArgs,

    /// Latency coefficients that `calibrate` wrote, instead of the built-in ones.
    #[arg(long, value_name = "FILE")]
    coefficients: Option<PathBuf>,

    #[command(flatten)]
    kernels: KernelArgs,

    #[command(flatten)]
    target: TargetArgs,
}

/// What arrives.
#[derive(Debug, Args)]
#[command(next_help_heading = "Load")]
struct TrafficArgs {
    /// Mean length of a prompt, tokens.
    #[arg(long, value_name = "TOKENS", required_unless_present = "workload", conflicts_with = "workload")]
    input_len: Option<u32>,

    /// Mean length of an output, tokens.
    #[arg(long, value_name = "TOKENS", required_unless_present = "workload", conflicts_with = "workload")]
    output_len: Option<u32>,

    /// Clients over the whole deployment, each sending its next request when the last one ends.
    #[arg(long, value_name = "N", alias = "batch-size", group = "load")]
    concurrency: Option<u32>,

    /// Requests per second over the whole deployment, arriving at random.
    #[arg(long, value_name = "R", group = "load")]
    rate: Option<f64>,

    /// Requests of the whole run, the initial burst of all clients included; by default the burst does not count.
    #[arg(long, value_name = "N", requires = "concurrency")]
    requests: Option<u64>,

    /// Share of the prompts' tokens that the prefix cache holds.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, conflicts_with = "workload")]
    prefix_hit_rate: f64,

    /// File with a workload (this project's, inference-perf's or GuideLLM's) or a trace: its means, and as many prefix hits
    /// as a cache without limits would have.
    #[arg(long, value_name = "FILE", group = "load")]
    workload: Option<PathBuf>,
}

/// How many engines of which kind.
#[derive(Debug, Args)]
#[command(next_help_heading = "Deployment")]
pub(in crate::commands) struct PoolArgs {
    /// Engines that share the load.
    #[arg(long, value_name = "N", default_value = "1")]
    replicas: NonZeroU32,

    /// Engines that only compute prompts; with `--decode-replicas`.
    #[arg(long, value_name = "N", requires = "decode_replicas", conflicts_with = "replicas")]
    prefill_replicas: Option<NonZeroU32>,

    /// Tensor-parallel size of those, where it differs from `--tp`; `--prefill-pp` and `--prefill-dp` likewise.
    #[arg(long, value_name = "N", requires = "prefill_replicas")]
    prefill_tp: Option<NonZeroU32>,

    #[arg(long, value_name = "N", requires = "prefill_replicas", hide = true)]
    prefill_pp: Option<NonZeroU32>,

    #[arg(long, value_name = "N", requires = "prefill_replicas", hide = true)]
    prefill_dp: Option<NonZeroU32>,

    /// Engines that only decode.
    #[arg(long, value_name = "N", requires = "prefill_replicas")]
    decode_replicas: Option<NonZeroU32>,

    /// Tensor-parallel size of those, where it differs from `--tp`; `--decode-pp` and `--decode-dp` likewise.
    #[arg(long, value_name = "N", requires = "decode_replicas")]
    decode_tp: Option<NonZeroU32>,

    #[arg(long, value_name = "N", requires = "decode_replicas", hide = true)]
    decode_pp: Option<NonZeroU32>,

    #[arg(long, value_name = "N", requires = "decode_replicas", hide = true)]
    decode_dp: Option<NonZeroU32>,
}

/// The curve of latency against load.
#[derive(Debug, Args)]
#[command(next_help_heading = "Curve")]
struct CurveArgs {
    /// Estimate from a light load to saturation, over the clients or over the rate.
    #[arg(long, value_name = "LOAD", num_args = 0..=1, require_equals = true, default_missing_value = "concurrency",
          group = "load", conflicts_with = "explain")]
    curve: Option<LoadName>,

    /// One curve more, for the same engine with these flags in place of its own, such as "--tp 2"; quoted within as in a
    /// shell. May be repeated.
    #[arg(long, value_name = "FLAGS", requires = "curve", allow_hyphen_values = true)]
    compare: Vec<String>,

    /// Picture to write: .svg, .png or .html.
    #[arg(long, value_name = "FILE", requires = "curve")]
    out: Option<PathBuf>,

    /// Latency in the picture.
    #[arg(long, value_name = "METRIC", default_value = "tpot", requires = "out")]
    metric: curves::Metric,

    /// What the picture sets it against.
    #[arg(long, value_name = "AXIS", default_value = "load", requires = "out")]
    against: curves::Axis,
}

/// What grows along a curve.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LoadName {
    Concurrency,
    Rate,
}

impl From<LoadName> for LoadKind {
    fn from(name: LoadName) -> Self {
        match name {
            LoadName::Concurrency => Self::Concurrency,
            LoadName::Rate => Self::Rate,
        }
    }
}

impl TrafficArgs {
    /// The traffic, and what was assumed of a file. A curve brings its own load; one client stands for it until then.
    fn resolve(&self) -> config_explorer::Result<(Traffic, Vec<String>)> {
        if let Some(path) = &self.workload {
            let (traffic, mut notes) = workload::read(path, 0)?;
            let steady = traffic.steady_state()?;
            if steady.prefix_hit_rate > 0.0 {
                notes.push(format!(
                    "{:.0} % of the prompts' tokens are taken as found in the prefix cache: the most that there can be",
                    100.0 * steady.prefix_hit_rate
                ));
            }
            return Ok((steady, notes));
        }
        let load = match self.rate {
            Some(rate_per_s) => Load::Open { rate_per_s },
            None => Load::Closed {
                clients: self.concurrency.map_or(1.0, f64::from),
                requests: self.requests.map(|requests| requests as f64),
            },
        };
        let length = |tokens: Option<u32>| tokens.map_or(0.0, f64::from);
        let traffic = Traffic::new(length(self.input_len), length(self.output_len), self.prefix_hit_rate, load)?;
        Ok((traffic, Vec::new()))
    }
}

/// Engines of one kind, as they were asked for.
pub(in crate::commands) struct Pool {
    pub(in crate::commands) role: &'static str,
    pub(in crate::commands) replicas: u32,
    pub(in crate::commands) serve: ServeArgs,
}

impl PoolArgs {
    /// The pools, prefill before decode.
    pub(in crate::commands) fn resolve(&self, serve: &ServeArgs) -> Vec<Pool> {
        let pool = |role, replicas: NonZeroU32, [tp, pp, dp]: [Option<NonZeroU32>; 3]| {
            let mut serve = serve.clone();
            serve.tensor_parallel_size = tp.or(serve.tensor_parallel_size);
            serve.pipeline_parallel_size = pp.or(serve.pipeline_parallel_size);
            serve.data_parallel_size = dp.or(serve.data_parallel_size);
            Pool { role, replicas: replicas.get(), serve }
        };
        match (self.prefill_replicas, self.decode_replicas) {
            (Some(prefill), Some(decode)) => vec![
                pool("prefill", prefill, [self.prefill_tp, self.prefill_pp, self.prefill_dp]),
                pool("decode", decode, [self.decode_tp, self.decode_pp, self.decode_dp]),
            ],
            _ => vec![pool("both", self.replicas, [None; 3])],
        }
    }
}

/// A deployment whose engines were sized.
pub(in crate::commands) struct SizedDeployment<'a> {
    pub(in crate::commands) roles: Vec<RoleLine>,
    pub(in crate::commands) engines: Vec<(Engine, u32)>,
    calibration: &'a Calibration,
}

impl<'a> SizedDeployment<'a> {
    pub(in crate::commands) fn new<'b>(
        pools: &[Pool],
        traffic: &Traffic,
        calibration: &'a Calibration,
        request: impl Fn(&ServeArgs) -> config_explorer::Result<PlanRequest<'b>>,
    ) -> config_explorer::Result<Self> {
        let mut sized = Self { roles: Vec::new(), engines: Vec::new(), calibration };
        for pool in pools {
            let request = request(&pool.serve)?;
            let gpus = request.parallelism.gpus() * pool.replicas;
            let parallelism = request.parallelism.into();
            sized.roles.push(RoleLine { role: pool.role, replicas: pool.replicas, parallelism, gpus });
            let mut engine = Engine::new(&request, traffic)?;
            // A limit that was asked for is kept, as `plan` does; the model's own is only a default.
            if pool.serve.max_model_len.is_some()
                && let Some(reason) = engine.start_warning()
            {
                engine.capacity = Capacity::DoesNotFit { reason };
            }
            sized.engines.push((engine, pool.replicas));
        }
        Ok(sized)
    }

    /// Why it does not fit, where it does not.
    pub(in crate::commands) fn refusal(&self) -> Option<String> {
        self.roles.iter().zip(&self.engines).find_map(|(role, (engine, _))| match &engine.capacity {
            Capacity::Fits { .. } => None,
            Capacity::DoesNotFit { reason } if role.role == "both" => Some(reason.clone()),
            Capacity::DoesNotFit { reason } => Some(format!("{}: {reason}", role.role)),
        })
    }

    /// What has to be set for its engines to start.
    fn warnings(&self) -> Vec<String> {
        self.engines.iter().filter_map(|(engine, _)| engine.start_warning()).collect()
    }

    pub(in crate::commands) fn deployment(&self) -> anyhow::Result<Deployment<'_>> {
        Ok(match self.engines.as_slice() {
            [(engine, replicas)] => Deployment::Aggregated(engine.role(*replicas, self.calibration)?),
            [(prefill, prefills), (decode, decodes)] => Deployment::Disaggregated {
                prefill: prefill.role(*prefills, self.calibration)?,
                decode: decode.role(*decodes, self.calibration)?,
            },
            _ => anyhow::bail!("a deployment has one pool or two"),
        })
    }
}

/// Estimates what was asked for.
pub(crate) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let target = &arguments.target;
    let (traffic, notes) = arguments.traffic.resolve()?;
    let picture = arguments.curve.out.as_ref().map(|path| config_explorer::plot::Format::of(path)).transpose()?;
    let accelerators = target.hardware.accelerators()?;
    let accelerator = accelerators.find(&target.gpu)?;
    let rules = target.rules()?;
    let mut calibration = match &arguments.coefficients {
        Some(path) => Calibration::read(path)?,
        None => Calibration::built_in().clone(),
    };
    let kernels = arguments.kernels.add(&mut calibration, &accelerators, accelerator, rules.version)?;
    let refused = kernels.iter().flat_map(|kernels| kernels.refused.iter().map(|reason| format!("not used: {reason}")));
    let calibration = &calibration;
    let model = arguments.model.load()?;
    let size = |serve: &ServeArgs| {
        let request = |serve: &ServeArgs| target.request(serve, &model, &accelerators, &rules);
        SizedDeployment::new(&arguments.pools.resolve(serve), &traffic, calibration, request)
    };
    let serve = &target.settings.0;

    if let Some(kind) = arguments.curve.curve {
        let answer = curves::draw(arguments, kind.into(), &model.id, &traffic, size)?;
        if let (Some(path), Some(picture)) = (&arguments.curve.out, picture) {
            let chart = curves::chart(arguments, &answer, &traffic, kind.into(), &accelerator.name);
            let bytes = chart.render(picture, &config_explorer::plot::Appearance::default())?;
            std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))?;
        }
        return output::print(&EstimateAnswer::Curves(answer), format);
    }
    let sized = size(serve)?;
    let answer = match sized.refusal() {
        Some(reason) => EstimateAnswer::DoesNotFit { fits: false, reason },
        None => {
            let deployment = sized.deployment()?;
            let mut prediction = serving::estimate(&deployment, &traffic)?;
            prediction.warnings.extend(sized.warnings().into_iter().chain(refused).chain(notes));
            let steps = arguments.explain.then(|| serving::explain(&deployment, &traffic, &prediction).into());
            EstimateAnswer::One(Box::new(OneEstimate {
                model: model.id.clone(),
                accelerator: accelerator.name.clone(),
                engine_version: rules.version.to_string(),
                deployment: sized.roles,
                traffic: (&traffic).into(),
                prediction,
                kernel_tables: kernels.as_ref().map(|kernels| kernels.used.clone()),
                steps,
            }))
        }
    };
    output::print(&answer, format)
}
