//! The answer: what `estimate` prints (schema `config-explorer/estimate/v1`).

use schemars::JsonSchema;
use serde::Serialize;

use crate::latency::{BoundBy, Regime};
use crate::workload::Statistic;

/// Mean and percentiles, ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[expect(missing_docs, reason = "each name is the statistic")]
pub struct Statistics {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
}

impl Statistics {
    /// Mean, and the quantiles of a function of the rank (0 to 1).
    pub(super) fn of(mean: f64, quantile: impl Fn(f64) -> f64) -> Self {
        Self { mean, p50: quantile(0.5), p90: quantile(0.9), p95: quantile(0.95), p99: quantile(0.99) }
    }

    /// One of them; `None` for a statistic that is not predicted.
    pub fn get(&self, statistic: Statistic) -> Option<f64> {
        match statistic {
            Statistic::Mean => Some(self.mean),
            Statistic::P50 => Some(self.p50),
            Statistic::P90 => Some(self.p90),
            Statistic::P95 => Some(self.p95),
            Statistic::P99 => Some(self.p99),
            _ => None,
        }
    }
}

/// Rates of a whole deployment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Throughput {
    /// Requests.
    pub requests_per_s: f64,
    /// Output tokens.
    pub output_tokens_per_s: f64,
    /// Prompt and output tokens.
    pub total_tokens_per_s: f64,
    /// Output tokens of each GPU.
    pub output_tokens_per_s_per_gpu: f64,
}

/// How much of the engines is used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Utilisation {
    /// Share of the KV cache that running requests hold.
    pub kv_cache: f64,
    /// Running requests of an engine.
    pub batch_size_mean: f64,
    /// Share of prompt tokens found in the prefix cache.
    pub prefix_hit_rate: f64,
    /// Preemptions per second; the steady state admits no more than fits.
    pub preemptions: f64,
}

/// What keeps the deployment from being faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Reading weights and KV cache.
    MemoryBandwidth,
    /// Arithmetic.
    Compute,
    /// The links between GPUs.
    Communication,
    /// Kernel launches and the host.
    Overhead,
    /// The KV cache or `max_num_seqs`.
    KvCapacity,
    /// Nothing: requests are served as they arrive.
    Arrivals,
}

impl From<BoundBy> for Bound {
    fn from(bound_by: BoundBy) -> Self {
        match bound_by {
            BoundBy::MemoryBandwidth => Self::MemoryBandwidth,
            BoundBy::Compute => Self::Compute,
            BoundBy::Communication => Self::Communication,
            BoundBy::Overhead => Self::Overhead,
        }
    }
}

/// 80 % prediction intervals: low and high.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Intervals {
    /// Mean time to first token; `null` beyond saturation.
    pub ttft_mean_ms: Option<[f64; 2]>,
    /// Mean time per output token.
    pub tpot_mean_ms: [f64; 2],
    /// Output tokens per second.
    pub output_tokens_per_s: [f64; 2],
}

/// One operator of the mean step.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct OperatorBreakdown {
    /// The operator.
    pub operator: &'static str,
    /// Its time in the step.
    pub ms: f64,
    /// What binds it.
    pub bound_by: BoundBy,
    /// Its time at the datasheet's bandwidth and peak; 0 where there is no such bound.
    pub roofline_ms: f64,
}

/// What a deployment does under a load.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Prediction {
    /// Time to first token; `null` beyond saturation, where it grows for ever.
    pub ttft_ms: Option<Statistics>,
    /// Time per output token after the first, per request.
    pub tpot_ms: Statistics,
    /// Time between two tokens.
    pub itl_ms: Statistics,
    /// From sending a request to its last token; `null` beyond saturation.
    pub e2e_ms: Option<Statistics>,
    /// Rates.
    pub throughput: Throughput,
    /// Use of the engines.
    pub utilisation: Utilisation,
    /// What binds.
    pub bound_by: Bound,
    /// More arrives than can be served; the throughput is the most there is.
    pub saturated: bool,
    /// 80 % prediction intervals.
    pub interval_80: Intervals,
    /// How far the case is from what was measured.
    pub regime: Regime,
    /// Measurements the intervals rest on.
    pub interval_basis: String,
    /// Operators of a step of the mean batch.
    pub breakdown: Vec<OperatorBreakdown>,
    /// Assumptions, and what was extrapolated.
    pub warnings: Vec<String>,
}
