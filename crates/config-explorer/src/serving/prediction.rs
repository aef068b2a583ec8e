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
    /// Share of the time that engines which only compute prompts are busy; `null` where every engine does both.
    pub prefill: Option<f64>,
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
    /// The KV cache or `max_num_seqs`.
    KvCapacity,
    /// Nothing: requests are served as they arrive.
    Arrivals,
}

impl Bound {
    /// What binds most of a step's time, and the share of the step that launches and the host take.
    pub(super) fn of(operators: &[OperatorBreakdown]) -> (Self, f64) {
        let ms = |bound_by| {
            let bound = operators.iter().filter(|operator| operator.bound_by == bound_by);
            bound.map(|operator| operator.ms).sum::<f64>()
        };
        let most = [
            (BoundBy::MemoryBandwidth, Self::MemoryBandwidth),
            (BoundBy::Compute, Self::Compute),
            (BoundBy::Communication, Self::Communication),
        ]
        .into_iter()
        .max_by(|a, b| ms(a.0).total_cmp(&ms(b.0)));
        let all: f64 = operators.iter().map(|operator| operator.ms).sum();
        (most.map_or(Self::MemoryBandwidth, |(_, bound)| bound), ms(BoundBy::Overhead) / all.max(f64::MIN_POSITIVE))
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
    /// Its time at the datasheet's bandwidth and peak; `null` where there is no such bound (links, launches, the host).
    pub roofline_ms: Option<f64>,
    /// Share of the time that is interpolated between measured kernels, with `--kernel-tables`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<f64>,
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
