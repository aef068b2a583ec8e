//! aiperf, and genai-perf from which it descends: `profile_export_aiperf.json`, and every request in
//! `profile_export.jsonl`.
//!
//! Source: `docs/metrics_reference.md` and `json_exporter.py` of ai-dynamo/aiperf. Each metric has its unit.
//! Inter-token latency is (E2E - TTFT) / (output tokens - 1) of each request: what this library calls TPOT. The shape
//! of genai-perf's file is taken from aiperf's statement of ancestry; no sample of it was seen.

use serde::Deserialize;
use serde_json::Value;

use super::sample::{Request, Sample};
use crate::reports::lenient::TimeUnit::{Milliseconds, Nanoseconds};
use crate::reports::lenient::{Block, Flag, List, Map, Number, Text};
use crate::reports::{ItlDefinition, Run, Statistics, TpotDefinition};
use crate::workload::{LengthDistribution, Load};

/// The summary of a run.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    request_throughput: Block,
    request_latency: Block,
    time_to_first_token: Block,
    inter_token_latency: Block,
    input_sequence_length: Block,
    output_sequence_length: Block,
    output_token_throughput: Block,
    total_token_throughput: Block,
    benchmark_duration: Block,
    request_count: Block,
    error_request_count: Block,
    total_isl: Block,
    total_osl: Block,
    start_time: Text,
    error_summary: List<Map<ErrorSummary>>,
    input_config: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorSummary {
    error_details: Map<ErrorDetails>,
    count: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorDetails {
    r#type: Text,
}

/// Requests that the user's own end of the run cut off are no failures of the server.
const CANCELLED: &str = "RequestCancellationError";

/// The run of a summary.
pub(super) fn run(report: &Report) -> Run {
    let config = &report.input_config;
    let is_genai_perf = config.get("perf_analyzer").is_some();
    let generator = if is_genai_perf { "genai-perf" } else { "aiperf" };
    let mut run = Run { load_generator: Some(generator.to_owned()), ..Run::default() };
    let model = ["/endpoint/model_names/0", "/model_names/0", "/model/0", "/model"];
    run.server.model = model.into_iter().find_map(|path| config.pointer(path)?.as_str()).map(str::to_owned);

    let count = |block: &Block| Number(block.mean()).count();
    let completed = count(&report.request_count);
    let (mut failures, mut cancelled) = (0, 0);
    for error in report.error_summary.iter() {
        let counter =
            if error.error_details.r#type.0.as_deref() == Some(CANCELLED) { &mut cancelled } else { &mut failures };
        *counter += error.count.count().unwrap_or(0).min(u64::from(u32::MAX));
    }
    if report.error_summary.is_empty() {
        failures = count(&report.error_request_count).unwrap_or(0);
    }
    run.counts.requests = completed.and_then(|completed| completed.checked_add(failures + cancelled));
    run.counts.failures = Some(failures);
    run.counts.incomplete = Some(cancelled);

    let number = |paths: &[&str]| paths.iter().find_map(|path| config.pointer(path)?.as_f64());
    let concurrency = number(&["/loadgen/concurrency", "/perf_analyzer/stimulus/concurrency", "/concurrency"]);
    let rate = number(&["/loadgen/request_rate", "/perf_analyzer/stimulus/request_rate", "/request_rate"]);
    if rate.is_some() || concurrency.is_some() {
        run.workload.load = Load::of(rate, concurrency, run.counts.requests);
    }
    let length = |side: &str| {
        let mean = number(&[&format!("/input/prompt/{side}_tokens/mean")])?;
        Some(LengthDistribution::gaussian(
            mean,
            number(&[&format!("/input/prompt/{side}_tokens/stddev")]).unwrap_or(0.0),
        ))
    };
    run.workload.input = length("input");
    run.workload.output = length("output");

    // ISO 8601 of the client's clock, without a time zone.
    run.date.clone_from(&report.start_time.0);
    run.duration_s =
        report.benchmark_duration.milliseconds(Milliseconds).and_then(|duration| Some(duration.mean()? / 1e3));
    let observed = |block: &Block, total: &Block| {
        let from_total = total.mean().zip(completed).filter(|&(_, completed)| completed > 0);
        match (block.values.is_empty(), from_total) {
            (true, Some((total, completed))) => Statistics::of_mean(total / completed as f64),
            _ => block.values.clone(),
        }
    };
    run.input_length = observed(&report.input_sequence_length, &report.total_isl);
    run.output_length = observed(&report.output_sequence_length, &report.total_osl);
    let per_second = |block: &Block, total: Option<f64>| {
        let duration_s = run.duration_s.filter(|&duration_s| duration_s > 0.0);
        block.mean().or_else(|| Some(total? / duration_s?))
    };
    let (total_input, total_output) = (report.total_isl.mean(), report.total_osl.mean());
    let total = total_input.zip(total_output).map(|(input, output)| input + output);
    let none = Block::default();
    run.throughput.requests = report.request_throughput.mean();
    run.throughput.input_tokens = per_second(&none, total_input);
    run.throughput.output_tokens = per_second(&report.output_token_throughput, total_output);
    run.throughput.total_tokens = per_second(&report.total_token_throughput, total);

    let convert = |block: &Block| block.milliseconds(Milliseconds).unwrap_or_default();
    let latency = &mut run.latency;
    latency.ttft = convert(&report.time_to_first_token);
    latency.itl = convert(&report.inter_token_latency);
    latency.e2e = convert(&report.request_latency);
    latency.define(TpotDefinition::WithoutFirstToken, ItlDefinition::PerToken);
    run
}

/// One request of `profile_export.jsonl`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RequestRecord {
    metadata: Map<Metadata>,
    metrics: Map<RequestMetrics>,
    error: Option<Map<ErrorDetails>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    request_start_ns: Number,
    request_end_ns: Number,
    benchmark_phase: Text,
    was_cancelled: Flag,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RequestMetrics {
    input_sequence_length: Map<Measure>,
    output_sequence_length: Map<Measure>,
    time_to_first_token: Map<Measure>,
    request_latency: Map<Measure>,
    inter_chunk_latency: Map<Measures>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Measure {
    value: Number,
    unit: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Measures {
    value: List<Number>,
    unit: Text,
}

fn milliseconds(value: Number, unit: &Text) -> Option<f64> {
    let block = Block { unit: unit.0.clone(), values: Statistics::of_mean(value.finite()?) };
    block.milliseconds(Milliseconds)?.mean()
}

/// The run that the requests make together; those of the warm-up are left out.
pub(super) fn requests_run(records: impl Iterator<Item = Result<Map<RequestRecord>, String>>) -> Result<Run, String> {
    let mut run = Run { load_generator: Some("aiperf".to_owned()), ..Run::default() };
    let mut sample = Sample::default();
    for record in records {
        let Map(RequestRecord { metadata, metrics, error }) = record?;
        if metadata.benchmark_phase.0.as_deref().is_some_and(|phase| phase != "profiling") {
            continue;
        }
        let seconds = |time: Number| Some(time.finite()? * Nanoseconds.milliseconds() / 1e3);
        if let Some((start_s, end_s)) = seconds(metadata.request_start_ns).zip(seconds(metadata.request_end_ns)) {
            sample.span(start_s, end_s);
        }
        if metadata.was_cancelled.0 == Some(true) {
            sample.incomplete += 1;
        } else if error.is_some() {
            sample.failures += 1;
        } else {
            let gaps = &metrics.inter_chunk_latency;
            sample.gaps_ms.extend(gaps.value.iter().filter_map(|&gap| milliseconds(gap, &gaps.unit)));
            let time = |measure: &Measure| milliseconds(measure.value, &measure.unit);
            sample.requests.push(Request {
                input_tokens: metrics.input_sequence_length.value.finite(),
                output_tokens: metrics.output_sequence_length.value.finite(),
                ttft_ms: time(&metrics.time_to_first_token),
                e2e_ms: time(&metrics.request_latency),
            });
        }
    }
    sample.measure(&mut run);
    Ok(run)
}
