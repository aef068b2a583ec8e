//! inference-perf: stage and summary reports (JSON or YAML), requests, and configuration.
//!
//! Source: `inference_perf/reportgen/base.py` of kubernetes-sigs/inference-perf. Times are in seconds. Older versions
//! count a token as about two chunks, so that their TPOT and ITL are about half the true ones.

mod config;
mod requests;

use serde::Deserialize;

use super::blocks::{LatencyBlocks, RatesPerSecond};
use crate::reports::lenient::TimeUnit::Seconds;
use crate::reports::lenient::{Block, Map, Number};
use crate::reports::{ItlDefinition, Run, TpotDefinition};
use crate::workload::Load;

pub(in crate::reports) use config::Config;
pub(super) use requests::run as requests_run;

/// A stage or summary report.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    benchmark_time_seconds: Number,
    load_summary: Map<LoadSummary>,
    successes: Map<Successes>,
    failures: Map<Failures>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoadSummary {
    count: Number,
    requested_rate: Number,
    concurrency: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Failures {
    count: Number,
}

/// Older versions have the latencies beside the counts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Successes {
    count: Number,
    latency: Option<Map<LatencyBlocks>>,
    #[serde(flatten)]
    older: LatencyBlocks,
    throughput: Map<RatesPerSecond>,
    prompt_len: Block,
    output_len: Block,
    /// Only in reports of the server's own metrics.
    kv_cache_usage_percentage: Option<serde::de::IgnoredAny>,
}

/// The run of a report; an error for what is no measurement of requests.
pub(super) fn run(report: &Report) -> Result<Run, &'static str> {
    let successes = &report.successes;
    if successes.kv_cache_usage_percentage.is_some() {
        return Err("the server's own metrics (Prometheus); the stage's lifecycle report holds the measurement");
    }
    let mut run = Run { load_generator: Some("inference-perf".to_owned()), ..Run::default() };
    run.duration_s = report.benchmark_time_seconds.finite();
    run.counts.failures = report.failures.count.count();
    run.counts.requests = report
        .load_summary
        .count
        .count()
        .or_else(|| successes.count.count()?.checked_add(run.counts.failures.unwrap_or(0)));
    let (rate, concurrency) = (report.load_summary.requested_rate.finite(), report.load_summary.concurrency.finite());
    if rate.is_some() || concurrency.is_some() {
        run.workload.load = Load::of(rate, concurrency, run.counts.requests);
    }
    run.input_length = successes.prompt_len.values.clone();
    run.output_length = successes.output_len.values.clone();
    successes.throughput.set(&mut run);
    let latency = successes.latency.as_ref().map_or(&successes.older, |Map(latency)| latency);
    latency.set(Seconds, &mut run);
    run.latency.define(TpotDefinition::PerChunk, ItlDefinition::PerChunk);
    Ok(run)
}
