//! Every engine that could run: variants times layouts, sized by `memory`, with the compiled times of its steps.

use std::num::{NonZeroU32, NonZeroU64};

use super::query::{PoolShare, Query};
use super::reasons::{Class, Place, Rejection};
use super::watch::{Stage, Watch};
use crate::deployment::{Nodes, Parallelism};
use crate::engine::{EngineSettings, MaxModelLen, ServeArgs};
use crate::latency::StepTimes;
use crate::memory::{PlanRequest, plan};
use crate::model::{Architecture, FeedForward};
use crate::serving::{Capacity, Engine, Traffic};

/// An engine that runs.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Place of its variant and of its share of the pool in the query.
    pub(super) variant: usize,
    pub(super) share: usize,
    /// The command, parallel sizes included.
    pub(super) serve: ServeArgs,
    /// `--max-num-batched-tokens` was chosen here.
    pub(super) has_other_budget: bool,
    pub(super) engine: Engine,
    pub(super) step: StepTimes,
}

impl Candidate {
    pub(super) fn gpus(&self) -> u32 {
        self.engine.parallelism.gpus()
    }

    pub(super) fn parallelism(&self) -> Parallelism {
        self.engine.parallelism
    }
}

/// Stages of a pipeline that are tried where no engine without stages runs: they add latency, and were not validated.
const PIPELINES: [u32; 2] = [2, 4];

/// Every engine of the query, and why others are none. In order of variant, share and layout.
pub(super) fn candidates(query: &Query<'_>, traffic: &Traffic, watch: &Watch<'_>) -> (Vec<Candidate>, Vec<Rejection>) {
    let (mut candidates, mut rejections) = (Vec::new(), Vec::new());
    for variant in 0..query.variants.len() {
        for share in 0..query.pool.len() {
            let mut try_stages = |pipelines: &[u32]| {
                let serve = &query.variants[variant].serve;
                let layouts =
                    layouts(serve, &query.variants[variant].model.architecture, &query.pool[share], pipelines);
                let tried =
                    watch.map(Stage::Engines, layouts, |serve| with_budgets(query, traffic, variant, share, &serve));
                let runs = tried.iter().flatten().any(Result::is_ok);
                for outcome in tried.into_iter().flatten() {
                    match outcome {
                        Ok(engines) => candidates.extend(engines),
                        Err(rejection) => rejections.push(rejection),
                    }
                }
                runs
            };
            if !try_stages(&[1]) && query.variants[variant].serve.pipeline_parallel_size.is_none() {
                try_stages(&PIPELINES);
            }
        }
    }
    (candidates, rejections)
}

fn has_experts(architecture: &Architecture) -> bool {
    architecture.layers.iter().any(|layer| matches!(layer.feed_forward, FeedForward::Moe(_)))
}

/// Layouts of a share of the pool: powers of two, the sizes that the command gives held fixed.
///
/// Data parallelism inside an engine is tried for experts only, where ranks share them: for others it is what replicas
/// are.
fn layouts(serve: &ServeArgs, architecture: &Architecture, share: &PoolShare<'_>, pipelines: &[u32]) -> Vec<ServeArgs> {
    let powers =
        || std::iter::successors(Some(1_u32), |size| size.checked_mul(2)).take_while(|size| *size <= share.gpus);
    let open = |given: Option<NonZeroU32>, sizes: Vec<u32>| given.map_or(sizes, |given| vec![given.get()]);
    let experts = has_experts(architecture);
    let tensors = open(serve.tensor_parallel_size, powers().collect());
    let pipelines = open(serve.pipeline_parallel_size, pipelines.to_vec());
    let ranks = open(serve.data_parallel_size, if experts { powers().collect() } else { vec![1] });
    let mut layouts = Vec::new();
    for &tensor in &tensors {
        for &pipeline in &pipelines {
            for &data in &ranks {
                let gpus = tensor.saturating_mul(pipeline).saturating_mul(data);
                if gpus > share.gpus {
                    continue;
                }
                let spreads = match serve.enable_expert_parallel {
                    Some(given) => vec![given],
                    None if data > 1 && experts => vec![true],
                    None if experts && tensor > 1 => vec![false, true],
                    None => vec![false],
                };
                for spread in spreads {
                    let mut layout = serve.clone();
                    layout.tensor_parallel_size = NonZeroU32::new(tensor);
                    layout.pipeline_parallel_size = NonZeroU32::new(pipeline).filter(|size| size.get() > 1);
                    layout.data_parallel_size = NonZeroU32::new(data).filter(|size| size.get() > 1);
                    layout.enable_expert_parallel = spread.then_some(true).or(serve.enable_expert_parallel);
                    layouts.push(layout);
                }
            }
        }
    }
    layouts
}

/// What the planner is asked for a command on a share of the pool.
pub(super) fn plan_request<'a>(
    query: &Query<'a>,
    variant: usize,
    share: usize,
    serve: &ServeArgs,
) -> crate::Result<PlanRequest<'a>> {
    let (model, share) = (query.variants[variant].model, &query.pool[share]);
    let accelerator = share.accelerator;
    let total_gib = accelerator.memory_gib;
    Ok(PlanRequest {
        model,
        accelerator,
        total_gib,
        rules: query.rules,
        settings: EngineSettings::resolve(serve, query.rules, &model.architecture, total_gib, &accelerator.name)?,
        parallelism: Parallelism::from_args(serve)?,
        nodes: Nodes { count: None, gpus_per_node: share.gpus_per_node },
        concurrency: None,
    })
}

/// `--max-num-batched-tokens` that are tried where the flag is left open: a small one for short gaps between tokens, and
/// a large one for prompts. vLLM's defaults are 2,048, 8,192 and 16,384, by version and accelerator.
const BUDGETS: [u64; 3] = [2_048, 8_192, 16_384];

/// The engine of a layout at its default budget of a step, and at others.
fn with_budgets(
    query: &Query<'_>,
    traffic: &Traffic,
    variant: usize,
    share: usize,
    serve: &ServeArgs,
) -> Result<Vec<Candidate>, Rejection> {
    let default = candidate(query, traffic, variant, share, serve.clone())?;
    if serve.max_num_batched_tokens.is_some() {
        return Ok(vec![default]);
    }
    let own = default.engine.settings.max_num_batched_tokens;
    let other = |budget| {
        let serve = ServeArgs { max_num_batched_tokens: NonZeroU64::new(budget), ..serve.clone() };
        // What does not run with another budget is no configuration less: it runs with the default.
        let candidate = candidate(query, traffic, variant, share, serve).ok()?;
        Some(Candidate { has_other_budget: true, ..candidate })
    };
    let others: Vec<_> = BUDGETS.into_iter().filter(|budget| *budget != own).filter_map(other).collect();
    Ok(std::iter::once(default).chain(others).collect())
}

fn candidate(
    query: &Query<'_>,
    traffic: &Traffic,
    variant: usize,
    share: usize,
    mut serve: ServeArgs,
) -> Result<Candidate, Rejection> {
    let place = Place::of(query, variant, share, &serve);
    let wrong = |error: crate::Error| Rejection::new(Class::CannotRun, &place, &error.to_string());
    let mut request = plan_request(query, variant, share, &serve).map_err(wrong)?;
    let planned = plan(&request);
    if !planned.fits {
        let needed = (traffic.input_tokens + traffic.output_tokens).ceil() as u64;
        let reason = planned.reason.unwrap_or_default();
        if planned.memory_per_gpu.is_none() {
            return Err(Rejection::new(Class::CannotRun, &place, &reason));
        }
        // Where the model's own limit does not fit but these requests do, the command says which length it starts with.
        let length = whole_length(planned.max_model_len_that_fits);
        if serve.max_model_len.is_some() || length < needed {
            return Err(Rejection::new(Class::DoesNotFit, &place, &reason));
        }
        serve.max_model_len = NonZeroU64::new(length).map(MaxModelLen::Tokens);
        request = plan_request(query, variant, share, &serve).map_err(wrong)?;
    }
    let engine = Engine::new(&request, traffic).map_err(wrong)?;
    if let Capacity::DoesNotFit { reason } = &engine.capacity {
        return Err(Rejection::new(Class::DoesNotFit, &place, reason));
    }
    let step = StepTimes::compile(&engine.configuration(query.calibration));
    Ok(Candidate { variant, share, serve, has_other_budget: false, engine, step })
}

/// A length that fits, rounded down to whole thousands of 1,024 where it is longer than one.
fn whole_length(tokens: u64) -> u64 {
    if tokens >= 1024 { tokens / 1024 * 1024 } else { tokens }
}
