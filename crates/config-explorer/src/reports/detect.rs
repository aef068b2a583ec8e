//! Which format a file has, by its content.

use std::collections::BTreeSet;

use super::formats::{BENCH_BLOCK, LM_BENCHMARK_COLUMNS, MLPERF_PREFIX, is_runs_csv_header};
use super::{json, sidecar, yaml};
use crate::workload::named;

named! {
    /// The formats that are read.
    pub enum Format {
        /// llm-d's benchmark report of any version.
        BenchmarkReport = "benchmark-report",
        /// GuideLLM's report.
        GuideLlm = "guidellm",
        /// inference-perf's stage or summary report.
        InferencePerf = "inference-perf",
        /// inference-perf's requests.
        InferencePerfRequests = "inference-perf-requests",
        /// inference-perf's configuration.
        InferencePerfConfig = "inference-perf-config",
        /// inference-perf's report of sessions.
        InferencePerfSessions = "inference-perf-sessions",
        /// A result that `vllm bench serve` saved.
        VllmBench = "vllm-bench",
        /// A log in which `vllm bench serve` printed its result.
        VllmBenchLog = "vllm-bench-log",
        /// SGLang's `bench_serving`.
        SglangBench = "sglang-bench",
        /// InferenceX's `agg_*.json`.
        InferenceX = "inferencex",
        /// Rows of InferenceX's API.
        InferenceXApi = "inferencex-api",
        /// aiperf's or genai-perf's summary.
        AiPerf = "aiperf",
        /// aiperf's requests.
        AiPerfRequests = "aiperf-requests",
        /// genai-bench's result.
        GenaiBench = "genai-bench",
        /// genai-bench's metadata of an experiment.
        GenaiBenchExperiment = "genai-bench-experiment",
        /// fmperf's or LMBenchmark's CSV of requests.
        LmBenchmark = "lmbenchmark",
        /// MLPerf's detail log.
        MlPerf = "mlperf",
        /// MLPerf's summary.
        MlPerfSummary = "mlperf-summary",
        /// A table of runs.
        RunsCsv = "runs-csv",
        /// llm-d-benchmark's `run_metadata.yaml`, or a flat YAML file of column values.
        RunMetadata = "run-metadata",
    }
}

/// How much of a file decides that it is binary.
const HEAD_BYTES: usize = 8192;

/// The format of a file; the error says why it has none.
pub(super) fn detect(bytes: &[u8]) -> Result<Format, String> {
    if bytes.trim_ascii().is_empty() {
        return Err("is empty".to_owned());
    }
    if bytes[..bytes.len().min(HEAD_BYTES)].contains(&0) {
        return Err("is binary, or text in UTF-16".to_owned());
    }
    if json::looks_like(bytes) {
        let keys = json::first_object_keys(bytes);
        return of_json(&keys).ok_or_else(|| unknown("keys", &keys));
    }
    if let Some(format) = of_text(&String::from_utf8_lossy(bytes)) {
        return Ok(format);
    }
    let keys: BTreeSet<&str> = yaml::top_level(bytes).map(|(key, _)| key).collect();
    of_yaml(&keys, bytes).ok_or_else(|| unknown("top-level keys", &keys))
}

fn unknown(what: &str, keys: &BTreeSet<&str>) -> String {
    let some: Vec<&str> = keys.iter().copied().filter(|key| key.len() <= 40).take(6).collect();
    if some.is_empty() {
        return "has no known result format".to_owned();
    }
    format!("has no known result format ({what}: {}{})", some.join(", "), if keys.len() > 6 { ", …" } else { "" })
}

/// The formats that are JSON or YAML.
fn of_keys(keys: &BTreeSet<&str>) -> Option<Format> {
    let all = |names: &[&str]| names.iter().all(|name| keys.contains(name));
    // The last is the start of one that is cut off.
    if all(&["scenario", "metrics"]) || all(&["run", "results"]) || all(&["version", "scenario"]) {
        return Some(Format::BenchmarkReport);
    }
    if all(&["load_summary", "successes"]) {
        return Some(Format::InferencePerf);
    }
    if all(&["load", "data", "server"]) {
        return Some(Format::InferencePerfConfig);
    }
    keys.contains("benchmarks").then_some(Format::GuideLlm)
}

fn of_json(keys: &BTreeSet<&str>) -> Option<Format> {
    let all = |names: &[&str]| names.iter().all(|name| keys.contains(name));
    let any = |names: &[&str]| names.iter().any(|name| keys.contains(name));
    let ends_with = |end: &str| keys.iter().any(|key| key.ends_with(end));
    let rules = [
        (keys.contains("aggregated_metrics"), Format::GenaiBench),
        (all(&["traffic_scenario", "num_concurrency"]), Format::GenaiBenchExperiment),
        (all(&["start_time", "end_time", "request", "info"]), Format::InferencePerfRequests),
        (any(&["num_sessions", "session_id"]), Format::InferencePerfSessions),
        (all(&["hw", "tput_per_gpu"]), Format::InferenceX),
        (all(&["hardware", "framework", "metrics"]), Format::InferenceXApi),
        (keys.contains("completed") && ends_with("_e2e_latency_ms"), Format::SglangBench),
        (all(&["completed", "total_input_tokens"]) && ends_with("_ttft_ms"), Format::VllmBench),
        (all(&["metadata", "metrics", "error"]), Format::AiPerfRequests),
        (all(&["request_throughput", "request_latency"]), Format::AiPerf),
    ];
    of_keys(keys).or_else(|| rules.into_iter().find(|(holds, _)| *holds).map(|(_, format)| format))
}

fn of_text(text: &str) -> Option<Format> {
    let text = text.trim_start();
    if text.starts_with(MLPERF_PREFIX) {
        return Some(Format::MlPerf);
    }
    if text.starts_with("MLPerf Results Summary") || text.starts_with("No warnings encountered during test.") {
        return Some(Format::MlPerfSummary);
    }
    let header: Vec<&str> = text.lines().next()?.split(',').map(|name| name.trim().trim_matches('"')).collect();
    if LM_BENCHMARK_COLUMNS.iter().all(|column| header.contains(column)) {
        return Some(Format::LmBenchmark);
    }
    if header.len() > 1 && is_runs_csv_header(&header) {
        return Some(Format::RunsCsv);
    }
    text.contains(BENCH_BLOCK).then_some(Format::VllmBenchLog)
}

fn of_yaml(keys: &BTreeSet<&str>, bytes: &[u8]) -> Option<Format> {
    let is_flat = || {
        let mut lines = bytes.split(|&byte| byte == b'\n');
        !lines.any(|line| line.starts_with(b" ") || line.starts_with(b"-") || line.starts_with(b"\t"))
    };
    of_keys(keys).or_else(|| {
        let harness = keys.contains("harness_name") || keys.contains("harness_start");
        let columns = keys.iter().filter(|key| sidecar::column_of(key).is_some()).count();
        (harness || columns >= 2 && !keys.contains("apiVersion") && is_flat()).then_some(Format::RunMetadata)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_not_results() {
        for (content, reason) in [
            ("", "is empty"),
            (" \n", "is empty"),
            ("# A title\n\nSome text.\n", "has no known result format"),
            ("{\"a\": 1, \"b\": {\"c\": 2}}", "has no known result format (keys: a, b)"),
            (
                "apiVersion: v1\nkind: Pod\nmodel: x\n",
                "has no known result format (top-level keys: apiVersion, kind, model)",
            ),
            (
                "image:\n  tag: x\nreplicas: 2\nmodel: y\n",
                "has no known result format (top-level keys: image, model, replicas)",
            ),
            ("a,b,c\n1,2,3\n", "has no known result format"),
            ("\0\u{1}\u{2}", "is binary, or text in UTF-16"),
        ] {
            assert_eq!(detect(content.as_bytes()), Err(reason.to_owned()), "{content}");
        }
    }

    #[test]
    fn a_cut_file_keeps_its_format() {
        let cut = br#"{"request_rate": Infinity, "completed": 5, "mean_e2e_latency_ms": 3.1, "output_thr"#;
        assert_eq!(detect(cut), Ok(Format::SglangBench));
        assert_eq!(detect(b"version: '0.1'\nscenario:\n  host: [\nmetrics:\n"), Ok(Format::BenchmarkReport));
    }

    #[test]
    fn side_files_are_flat() {
        assert_eq!(detect(b"gpu: H100\ntp: 2\nnote_to_self: x\n"), Ok(Format::RunMetadata));
        assert_eq!(detect(b"harness_name: aiperf\nharness_args:\n  a: b\n"), Ok(Format::RunMetadata));
    }
}
