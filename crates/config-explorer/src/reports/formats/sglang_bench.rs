//! SGLang's `bench_serving`: one JSON object a line, in which infinity is a bare `Infinity`.
//!
//! Source: `python/sglang/bench_serving.py` of sgl-project/sglang. Latencies are in milliseconds, with the definitions
//! of `vllm bench serve`. Older versions print medians of TTFT and ITL and no TPOT. Random lengths are uniform between
//! `random_range_ratio` times the length and the length.

use super::fields::Fields;
use super::vllm_bench;
use crate::reports::Run;
use crate::reports::lenient::TimeUnit::Milliseconds;
use crate::workload::{LengthDistribution, Load};

/// The run of one line.
pub(super) fn run(mut fields: Fields) -> Run {
    let mut run = Run { load_generator: Some("sglang".to_owned()), ..Run::default() };
    run.server.engine = fields.text("backend").map(|backend| backend.trim_end_matches("-oai").to_owned());
    run.server.model = fields.text("model_id").or_else(|| fields.text("model"));
    let completed = fields.count("completed");
    let prompts = fields.count("num_prompts");
    run.counts.requests = prompts.or(completed);
    run.counts.failures = prompts.zip(completed).map(|(sent, completed)| sent.saturating_sub(completed));
    run.duration_s = fields.finite("duration");
    let (input, output) = (fields.finite("total_input_tokens"), fields.finite("total_output_tokens"));
    vllm_bench::set_lengths(&mut run, completed, input, output);
    run.workload.load = Load::of(fields.number("request_rate"), fields.number("max_concurrency"), run.counts.requests);

    run.workload.dataset = fields.text("dataset_name");
    let ratio = fields.finite("random_range_ratio");
    let (input_len, output_len) = (fields.finite("random_input_len"), fields.finite("random_output_len"));
    if run.workload.dataset.as_deref().is_some_and(|dataset| dataset.starts_with("random")) {
        let length = |longest: f64| {
            let shortest = (longest * ratio.unwrap_or(0.0)).floor().max(1.0);
            if shortest < longest {
                LengthDistribution::uniform(shortest, longest)
            } else {
                LengthDistribution::fixed(longest)
            }
        };
        run.workload.input = input_len.map(length);
        run.workload.output = output_len.map(length);
    }

    let per_second = |total: Option<f64>| Some(total? / run.duration_s.filter(|&duration_s| duration_s > 0.0)?);
    let mut rate = |key: &str, total: Option<f64>| fields.finite(key).or_else(|| per_second(total));
    run.throughput.requests = rate("request_throughput", completed.map(|completed| completed as f64));
    run.throughput.input_tokens = rate("input_throughput", input);
    run.throughput.output_tokens = rate("output_throughput", output);
    run.throughput.total_tokens = rate("total_throughput", input.zip(output).map(|(input, output)| input + output));
    let latency = &mut run.latency;
    latency.ttft = fields.latency("ttft_ms", Milliseconds);
    latency.tpot = fields.latency("tpot_ms", Milliseconds);
    latency.itl = fields.latency("itl_ms", Milliseconds);
    latency.e2e = fields.latency("e2e_latency_ms", Milliseconds);
    vllm_bench::define(&mut run);
    super::assign_fields(fields, &mut run);
    run
}
