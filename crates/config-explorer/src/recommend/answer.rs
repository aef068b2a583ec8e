//! The answer: what `recommend` prints (schema `config-explorer/recommend/v1`).

use schemars::JsonSchema;
use serde::Serialize;

use crate::memory::{ParallelismSummary, SettingsSummary};
use crate::reports::Run;
use crate::serving::Prediction;

/// Whether prefill and decode have engines of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Every engine does both.
    Aggregated,
    /// Each has a pool.
    Disaggregated,
}

/// What a recommendation rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// Runs of this configuration around this load.
    Measured,
    /// A simulation of this load.
    Simulated,
    /// The steady state.
    Estimated,
}

/// Engines of one role.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RoleChoice {
    /// `both`, `prefill` or `decode`.
    pub role: &'static str,
    /// The checkpoint.
    pub model: String,
    /// The accelerator.
    pub gpu: String,
    /// Engines.
    pub replicas: u32,
    /// GPUs of all of them.
    pub gpus: u32,
    /// GPUs that share a node.
    pub gpus_per_node: u32,
    /// Layout of each.
    pub parallelism: ParallelismSummary,
    /// Settings of each.
    pub settings: SettingsSummary,
    /// Tokens that the KV cache of each data-parallel rank holds.
    pub kv_cache_tokens: u64,
    /// Bytes of KV cache of a token on each GPU; `null` for a model without one.
    pub kv_bytes_per_token_per_gpu: Option<u64>,
    /// The command that starts one.
    pub command: String,
}

/// How far an objective is from its limit.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Margin {
    /// The objective as it was asked.
    pub objective: String,
    /// What is predicted: ms, or per second.
    pub predicted: Option<f64>,
    /// Room to the limit, percent of the limit; negative where it is missed.
    pub percent: Option<f64>,
    /// It would still be met at the worse end of the 80 % interval.
    pub met_at_interval_end: bool,
}

/// A run behind an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MeasuredRun {
    /// The start of its identity, as `runs list` shows it.
    pub id: String,
    /// The file it was read from.
    pub file: String,
}

/// What became of the runs that were given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MeasuredUse {
    /// Runs that were given.
    pub runs: usize,
    /// Those that measure one of the checkpoints on one of the accelerators under this kind of load.
    pub matching: usize,
    /// The configurations of those.
    pub configurations: usize,
    /// Configurations that answer the question.
    pub used: usize,
    /// Configurations that are not in the space, or larger than the pool.
    pub outside_space: usize,
    /// Configurations whose runs do not surround the lengths and the load.
    pub not_surrounding: usize,
    /// Configurations whose runs lack a statistic that an objective limits.
    pub without_objective: usize,
}

/// A profile of llm-d's router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RouterChoice {
    /// The guide of llm-d that it is of.
    pub profile: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// A configuration that meets the objectives.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Recommendation {
    /// Place, from 1.
    pub rank: usize,
    /// Aggregated or disaggregated.
    pub layout: Layout,
    /// The accelerator, or both.
    pub gpu: String,
    /// GPUs of the deployment.
    pub gpus: u32,
    /// Its engines, prefill before decode.
    pub roles: Vec<RoleChoice>,
    /// Dollars of an hour; `null` without a price.
    pub usd_per_hour: Option<f64>,
    /// Dollars of a million output tokens under this load.
    pub usd_per_million_output_tokens: Option<f64>,
    /// Requests per second, Poisson arrivals, that it holds within the objectives of latency, in the steady state; at least
    /// what it was found to hold.
    pub max_rate_within_slo: f64,
    /// What it does under the load.
    pub predicted: Prediction,
    /// All objectives are met.
    pub meets: bool,
    /// Each objective.
    pub margin: Vec<Margin>,
    /// What this rests on.
    pub evidence: Evidence,
    /// The runs behind it, where it was measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<MeasuredRun>,
    /// How the router should choose an engine.
    pub router: RouterChoice,
    /// The command that starts one engine; of a prefill pool, if there are two.
    pub command: String,
}

/// A point of the Pareto front of cost, latency and throughput.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct FrontPoint {
    /// In words, such as `4 x TP 2 on H100-SXM-80GB`.
    pub configuration: String,
    /// GPUs.
    pub gpus: u32,
    /// Dollars of an hour; `null` without a price, where GPUs stand for the cost.
    pub usd_per_hour: Option<f64>,
    /// Mean time of a request under the load.
    pub e2e_mean_ms: f64,
    /// Requests per second that it holds within the objectives of latency.
    pub max_rate_within_slo: f64,
    /// What its latency rests on.
    pub evidence: Evidence,
}

/// Configurations that were rejected for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Rejected {
    /// The reason.
    pub reason: String,
    /// How many.
    pub count: usize,
    /// One of them, and the reason in its own figures.
    pub example: String,
}

/// A configuration beside the winner, and why it lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Neighbour {
    /// In words.
    pub configuration: String,
    /// Why it is not the first choice.
    pub reason: String,
}

/// What would have to be different for another choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Flip {
    /// The assumption.
    pub assumption: String,
    /// What then comes first.
    pub then: String,
}

/// The configuration that comes closest where none meets the objectives.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct NearestMiss {
    /// In words.
    pub configuration: String,
    /// What it does; `null` beyond saturation.
    pub margin: Vec<Margin>,
    /// More requests arrive than it can serve.
    pub saturated: bool,
    /// What would do.
    pub it_would_take: Vec<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Recommendations {
    /// Deployments that were looked at, each at the number of engines it needs, and engines that do not run.
    pub evaluated: usize,
    /// Those that meet the objectives.
    pub feasible: usize,
    /// Those that were simulated.
    pub simulated: usize,
    /// Of measured runs, where some were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<MeasuredUse>,
    /// The search was not stopped before its end.
    pub complete: bool,
    /// Best first.
    pub recommendations: Vec<Recommendation>,
    /// What nothing beats in cost, latency and throughput, cheapest first.
    pub pareto: Vec<FrontPoint>,
    /// What was rejected, most frequent first.
    pub rejected: Vec<Rejected>,
    /// The best of each other kind, and why it lost.
    pub neighbours: Vec<Neighbour>,
    /// What would flip the choice.
    pub flips: Vec<Flip>,
    /// Where nothing meets the objectives: what comes closest.
    pub nearest_miss: Option<NearestMiss>,
    /// Every deployment that was scored, as runs for a store; empty unless [`Query::keep_all`](super::Query::keep_all).
    #[serde(skip)]
    pub considered: Vec<Run>,
}
