//! MLPerf inference: `mlperf_log_detail.txt`, lines of `:::MLLOG {json}`.
//!
//! Source: `loadgen/results.cc` of mlcommons/inference. Times are in nanoseconds. An accuracy run has no results; the
//! model and the accelerators stand in other files.

use serde::Deserialize;

use crate::reports::lenient::TimeUnit::Nanoseconds;
use crate::reports::lenient::{Number, Text};
use crate::reports::{Run, Statistic, Statistics, TpotDefinition, json};
use crate::workload::{Load, LoadKind};

/// What every line of the log starts with.
pub(in crate::reports) const PREFIX: &str = ":::MLLOG ";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    key: Text,
    value: Text,
}

/// The run of a detail log.
pub(super) fn run(text: &str) -> Result<Run, String> {
    let mut run = Run { load_generator: Some("mlperf-loadgen".to_owned()), ..Run::default() };
    let mut latency = [const { None::<Statistics> }; 3];
    let (mut scenario, mut mode, mut target_rate) = (None, None, None);
    let mut requests = 0;
    for (index, line) in text.lines().enumerate() {
        let Some(entry) = line.trim().strip_prefix(PREFIX) else { continue };
        let entry: Entry =
            json::from_slice(entry.as_bytes()).map_err(|error| format!("line {}: {error}", index + 1))?;
        let (Text(Some(key)), Text(value)) = (entry.key, entry.value) else { continue };
        let number = value.as_deref().map(Number::parse).unwrap_or_default();
        match key.as_str() {
            "effective_scenario" => scenario = value,
            "effective_test_mode" => mode = value,
            "effective_target_qps" => target_rate = number.finite(),
            "generated_query_count" => requests = number.count().unwrap_or(0),
            "generated_query_duration" => run.duration_s = number.finite().map(|ns| ns / 1e9),
            "test_datetime" => run.start_s = value.as_deref().and_then(crate::reports::time::epoch_s),
            "result_completed_samples_per_sec" | "result_samples_per_second" => {
                run.throughput.requests = number.finite();
            }
            "result_completed_tokens_per_second" | "result_tokens_per_second" => {
                run.throughput.output_tokens = number.finite();
            }
            _ => {
                if let Some((quantity, statistic)) = quantity(&key) {
                    latency[quantity].get_or_insert_default().set(statistic, number.finite());
                }
            }
        }
    }
    run.counts.requests = Some(requests).filter(|&requests| requests > 0);
    run.workload.load = match scenario.as_deref() {
        Some("Server") => Load::of(target_rate, None, run.counts.requests),
        Some("Offline") => Load { kind: Some(LoadKind::Burst), ..Load::default() },
        _ => Load::default(),
    };
    run.workload.dataset = scenario;
    let [e2e, ttft, tpot] = latency.map(|values| values.unwrap_or_default().scaled(Nanoseconds.milliseconds()));
    run.latency.tpot_definition = (!tpot.is_empty()).then_some(TpotDefinition::WithoutFirstToken);
    (run.latency.e2e, run.latency.ttft, run.latency.tpot) = (e2e, ttft, tpot);
    if mode.as_deref() == Some("AccuracyOnly") {
        run.warn("accuracy_run", "the log is of an accuracy run, which is not timed");
    }
    Ok(run)
}

/// The quantity (0 end to end, 1 first token, 2 per output token) and statistic of a key such as
/// `result_first_token_99.00_percentile_latency_ns`.
fn quantity(key: &str) -> Option<(usize, Statistic)> {
    let key = key.strip_prefix("result_")?;
    let (quantity, rest) = if let Some(rest) = key.strip_prefix("first_token_") {
        (1, rest)
    } else if let Some(rest) =
        key.strip_prefix("time_per_output_token_").or_else(|| key.strip_prefix("time_to_output_token_"))
    {
        (2, rest)
    } else {
        (0, key)
    };
    let name = rest.trim_end_matches("_ns").trim_end_matches("_latency").trim_end_matches("_percentile");
    let statistic = match name.parse::<f64>() {
        Ok(percentile) => Statistic::ALL.into_iter().find(|statistic| {
            statistic.quantile().is_some_and(|quantile| (quantile * 100.0 - percentile).abs() < 1e-6)
        }),
        Err(_) => Statistic::from_name(name),
    };
    Some((quantity, statistic?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_a_server_run() {
        let log = r#"
:::MLLOG {"key": "effective_scenario", "value": "Server", "time_ms": 0.1}
:::MLLOG {"key": "effective_test_mode", "value": "PerformanceOnly"}
:::MLLOG {"key": "effective_target_qps", "value": 29.5}
:::MLLOG {"key": "generated_query_count", "value": 24576}
:::MLLOG {"key": "result_completed_samples_per_sec", "value": 29.1}
:::MLLOG {"key": "result_completed_tokens_per_second", "value": 8500.5}
:::MLLOG {"key": "result_mean_latency_ns", "value": 9000000000}
:::MLLOG {"key": "result_first_token_99.00_percentile_latency_ns", "value": 450000000}
:::MLLOG {"key": "result_first_token_99.90_percentile_latency_ns", "value": 460000000}
:::MLLOG {"key": "result_time_to_output_token_mean", "value": 35000000}
:::MLLOG {"key": "result_time_per_output_token_99.00_percentile_ns", "value": 40000000}
"#;
        let run = run(log).unwrap();
        assert_eq!(run.counts.requests, Some(24_576));
        assert_eq!(run.workload.load, Load { kind: Some(LoadKind::Open), rate_per_s: Some(29.5), concurrency: None });
        assert_eq!((run.throughput.requests, run.throughput.output_tokens), (Some(29.1), Some(8500.5)));
        assert_eq!(run.latency.e2e.mean(), Some(9000.0));
        assert_eq!(run.latency.ttft.get(Statistic::P99), Some(450.0));
        assert_eq!(run.latency.ttft.get(Statistic::P99p9), Some(460.0));
        assert_eq!((run.latency.tpot.mean(), run.latency.tpot.get(Statistic::P99)), (Some(35.0), Some(40.0)));
        assert!(run.warnings.is_empty());
    }
}
