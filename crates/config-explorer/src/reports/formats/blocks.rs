//! Groups of values that several formats have under the same names: those of inference-perf, which the benchmark report
//! took over.

use serde::Deserialize;

use crate::reports::lenient::{Block, Number, TimeUnit};
use crate::reports::{Latencies, Run, Statistics};

/// Latencies.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LatencyBlocks {
    time_to_first_token: Block,
    time_per_output_token: Block,
    inter_token_latency: Block,
    normalized_time_per_output_token: Block,
    request_latency: Block,
}

impl LatencyBlocks {
    /// Sets the latencies of a run in milliseconds; `default` is the unit where a block gives none. A block with a unit
    /// that is no time is left out with a warning.
    pub(super) fn set(&self, default: TimeUnit, run: &mut Run) {
        let mut convert = |name: &str, block: &Block| {
            block.milliseconds(default).unwrap_or_else(|| {
                let unit = block.unit.as_deref().unwrap_or_default();
                run.warn("units", format!("{name}: `{unit}` is no unit of time; the values are left out"));
                Statistics::default()
            })
        };
        run.latency = Latencies {
            ttft: convert("time_to_first_token", &self.time_to_first_token),
            tpot: convert("time_per_output_token", &self.time_per_output_token),
            itl: convert("inter_token_latency", &self.inter_token_latency),
            e2e: convert("request_latency", &self.request_latency),
            ntpot: convert("normalized_time_per_output_token", &self.normalized_time_per_output_token),
            ..Latencies::default()
        };
    }
}

/// Rates.
#[expect(clippy::struct_field_names, reason = "the names of the files")]
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RatesPerSecond {
    input_tokens_per_sec: Number,
    output_tokens_per_sec: Number,
    total_tokens_per_sec: Number,
    requests_per_sec: Number,
}

impl RatesPerSecond {
    /// Sets the rates of a run.
    pub(super) fn set(&self, run: &mut Run) {
        let rates = &mut run.throughput;
        rates.input_tokens = self.input_tokens_per_sec.finite();
        rates.output_tokens = self.output_tokens_per_sec.finite();
        rates.total_tokens = self.total_tokens_per_sec.finite();
        rates.requests = self.requests_per_sec.finite();
    }
}

/// Counts and lengths of requests, as both versions of the benchmark report have them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Requests {
    total: Number,
    failures: Number,
    incomplete: Number,
    input_length: Block,
    output_length: Block,
}

impl Requests {
    /// Sets the counts and the observed lengths of a run.
    pub(super) fn set(self, run: &mut Run) {
        run.counts.requests = self.total.count();
        run.counts.failures = self.failures.count();
        run.counts.incomplete = self.incomplete.count();
        run.input_length = self.input_length.values;
        run.output_length = self.output_length.values;
    }
}
