//! genai-bench: one file for each scenario and concurrency, and `experiment_metadata.json` beside them.
//!
//! Source: `genai_bench/protocol.py` of sgl-project/genai-bench. Times are in seconds. TPOT is without the first token.
//! The metadata, unlike those of other tools, name the engine, its version, and the accelerators.

use serde::Deserialize;

use crate::reports::lenient::TimeUnit::Seconds;
use crate::reports::lenient::{Block, Map, Number, Text};
use crate::reports::{ItlDefinition, Run, TpotDefinition};
use crate::workload::{LengthDistribution, Load};

/// A result file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    aggregated_metrics: Map<Aggregated>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Aggregated {
    scenario: Text,
    num_concurrency: Number,
    request_rate: Number,
    run_duration: Number,
    mean_output_throughput_tokens_per_s: Number,
    mean_input_throughput_tokens_per_s: Number,
    mean_total_tokens_throughput_tokens_per_s: Number,
    requests_per_minute: Number,
    requests_per_second: Number,
    num_error_requests: Number,
    num_requests: Number,
    stats: Map<Stats>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stats {
    ttft: Block,
    tpot: Block,
    e2e_latency: Block,
    num_input_tokens: Block,
    num_output_tokens: Block,
}

/// The run of a result file.
pub(super) fn run(report: &Report) -> Run {
    let metrics = &report.aggregated_metrics;
    let mut run = Run { load_generator: Some("genai-bench".to_owned()), ..Run::default() };
    run.counts.requests = metrics.num_requests.count();
    run.counts.failures = metrics.num_error_requests.count();
    run.duration_s = metrics.run_duration.finite();
    let rate = metrics.request_rate.finite();
    // With a rate, the concurrency is a placeholder.
    let concurrency = metrics.num_concurrency.finite().filter(|_| rate.is_none());
    if rate.is_some() || concurrency.is_some() {
        run.workload.load = Load::of(rate, concurrency, run.counts.requests);
    }
    if let Some((input, output)) = metrics.scenario.0.as_deref().and_then(lengths) {
        run.workload.input = Some(input);
        run.workload.output = Some(output);
    }
    run.workload.dataset.clone_from(&metrics.scenario.0);
    run.input_length = metrics.stats.num_input_tokens.values.clone();
    run.output_length = metrics.stats.num_output_tokens.values.clone();

    let rates = &mut run.throughput;
    rates.requests =
        metrics.requests_per_second.finite().or_else(|| Some(metrics.requests_per_minute.finite()? / 60.0));
    rates.output_tokens = metrics.mean_output_throughput_tokens_per_s.finite();
    rates.total_tokens = metrics.mean_total_tokens_throughput_tokens_per_s.finite();
    // Older versions call the speed of prefill an input throughput; it can exceed the total.
    rates.input_tokens = metrics.mean_input_throughput_tokens_per_s.finite();
    if let (Some(input), Some(total)) = (rates.input_tokens, rates.total_tokens)
        && input > total
    {
        rates.input_tokens = None;
        run.extra.insert("mean_input_throughput_tokens_per_s".to_owned(), input.to_string());
    }

    let convert = |block: &Block| block.milliseconds(Seconds).unwrap_or_default();
    let latency = &mut run.latency;
    latency.ttft = convert(&metrics.stats.ttft);
    latency.tpot = convert(&metrics.stats.tpot);
    latency.e2e = convert(&metrics.stats.e2e_latency);
    latency.define(TpotDefinition::WithoutFirstToken, ItlDefinition::Unknown);
    run
}

/// Lengths of a scenario: `D(100,100)` fixed, `N(480,240)/(300,150)` normal, `U(50,100)/(200,250)` uniform.
fn lengths(scenario: &str) -> Option<(LengthDistribution, LengthDistribution)> {
    let pair = |text: &str| -> Option<(f64, f64)> {
        let (first, second) = text.trim_matches(['(', ')']).split_once(',')?;
        Some((first.trim().parse().ok()?, second.trim().parse().ok()?))
            .filter(|(a, b): &(f64, f64)| a.is_finite() && b.is_finite())
    };
    let kind = scenario.get(..1)?;
    let rest = &scenario[1..];
    if kind == "D" {
        let (input, output) = pair(rest)?;
        return Some((LengthDistribution::fixed(input), LengthDistribution::fixed(output)));
    }
    let (input, output) = rest.split_once('/')?;
    let ((a, b), (c, d)) = (pair(input)?, pair(output)?);
    match kind {
        "N" => Some((LengthDistribution::gaussian(a, b), LengthDistribution::gaussian(c, d))),
        "U" => Some((LengthDistribution::uniform(a, b), LengthDistribution::uniform(c, d))),
        _ => None,
    }
}

/// `experiment_metadata.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Experiment {
    api_model_name: Text,
    model: Text,
    server_engine: Text,
    server_version: Text,
    server_gpu_type: Text,
    server_gpu_count: Text,
}

impl Experiment {
    /// The columns that it fills.
    pub(super) fn values(self) -> Vec<(&'static str, String)> {
        let columns = [
            ("model", self.api_model_name.0.or(self.model.0)),
            ("engine", self.server_engine.0),
            ("engine_version", self.server_version.0.map(|version| version.trim_start_matches('v').to_owned())),
            ("gpu", self.server_gpu_type.0),
            ("n_gpu", self.server_gpu_count.0),
        ];
        columns.into_iter().filter_map(|(column, value)| Some((column, value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_lengths() {
        let (input, output) = lengths("N(480,240)/(300,150)").unwrap();
        assert_eq!((input.mean, input.stddev, output.mean), (480.0, Some(240.0), 300.0));
        let (input, _) = lengths("U(50,100)/(200,250)").unwrap();
        assert_eq!((input.min, input.max), (Some(50.0), Some(100.0)));
        assert_eq!(lengths("D(100,200)").unwrap().1, LengthDistribution::fixed(200.0));
        for other in ["", "é(1,2)", "E(512)", "I(512,512)", "D(1)", "N(1,2)"] {
            assert_eq!(lengths(other), None, "{other}");
        }
    }
}
