//! `vllm bench serve`: the JSON it saves, JSON Lines (`--append-result`), and the block it prints.
//!
//! Source: `vllm/benchmarks/serve.py` of vllm-project/vllm. Latencies are in milliseconds; TPOT is without the first
//! token, of each request; ITL is the gaps between chunks, pooled. End-to-end latency is only there when
//! `--percentile-metrics` lists `e2el`. The model's name is there; accelerator, parallelism and version are not.

use super::fields::Fields;
use crate::reports::lenient::TimeUnit::Milliseconds;
use crate::reports::{ItlDefinition, Run, Statistics, TpotDefinition};
use crate::workload::{LengthDistribution, LengthShape, Load};

/// The run of one saved result.
pub(super) fn run(mut fields: Fields) -> Run {
    let mut run = Run { load_generator: Some("vllm-benchmark".to_owned()), ..Run::default() };
    run.server.model = fields.text("model_id");
    let completed = fields.count("completed");
    let prompts = fields.count("num_prompts");
    run.counts.requests = prompts.or(completed);
    let failed = fields.count("failed");
    run.counts.failures = failed.or_else(|| Some(prompts?.saturating_sub(completed?)));
    run.duration_s = fields.finite("duration");
    set_lengths(&mut run, completed, fields.finite("total_input_tokens"), fields.finite("total_output_tokens"));
    run.workload.load = Load::of(fields.number("request_rate"), fields.number("max_concurrency"), run.counts.requests);
    run.throughput.requests = fields.finite("request_throughput");
    run.throughput.output_tokens = fields.finite("output_throughput");
    run.throughput.total_tokens = fields.finite("total_token_throughput");
    run.throughput.input_tokens = run.throughput.total_tokens.zip(run.throughput.output_tokens).map(|(t, o)| t - o);
    let latency = &mut run.latency;
    latency.ttft = fields.latency("ttft_ms", Milliseconds);
    latency.tpot = fields.latency("tpot_ms", Milliseconds);
    latency.itl = fields.latency("itl_ms", Milliseconds);
    latency.e2e = fields.latency("e2el_ms", Milliseconds);
    define(&mut run);
    // `YYYYMMDD-HHMMSS` of the client's clock, without a time zone.
    run.date = fields.text("date");
    for known in ["tokenizer_id", "request_goodput:"] {
        fields.text(known);
    }
    super::assign_fields(fields, &mut run);
    run
}

/// Mean lengths from totals.
pub(super) fn set_lengths(run: &mut Run, completed: Option<u64>, input: Option<f64>, output: Option<f64>) {
    let Some(completed) = completed.filter(|&completed| completed > 0) else { return };
    if let Some(input) = input {
        run.input_length = Statistics::of_mean(input / completed as f64);
    }
    if let Some(output) = output {
        run.output_length = Statistics::of_mean(output / completed as f64);
    }
}

/// Records what the tool means by TPOT and ITL.
pub(super) fn define(run: &mut Run) {
    run.latency.define(TpotDefinition::WithoutFirstToken, ItlDefinition::PerChunk);
}

/// The line that opens a printed block; SGLang's tool prints the same.
pub(in crate::reports) const BLOCK: &str = "Serving Benchmark Result";

/// The runs of a log: one for each printed block.
pub(super) fn log(text: &str) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut namespace = None;
    let mut block: Option<Vec<(String, String)>> = None;
    for line in text.lines() {
        if line.starts_with("Namespace(") {
            namespace = Some(line);
        } else if line.contains(BLOCK) {
            block = Some(Vec::new());
        } else if let Some(lines) = &mut block {
            if line.trim_start().starts_with("=====") {
                runs.push(block_run(block.take().unwrap_or_default(), namespace.take()));
            } else if let Some((label, value)) = line.split_once(':') {
                lines.push((label.trim().to_lowercase(), value.trim().to_owned()));
            }
        }
    }
    // A block that the end of the file cuts off is not read: its last numbers may be missing digits.
    runs
}

/// Keys of the saved result for the labels of the printed block, in lower case.
const LABELS: [(&str, &str); 14] = [
    ("successful requests", "completed"),
    ("failed requests", "failed"),
    ("maximum request concurrency", "max_concurrency"),
    ("max request concurrency", "max_concurrency"),
    ("request rate configured (rps)", "request_rate"),
    ("traffic request rate", "request_rate"),
    ("benchmark duration (s)", "duration"),
    ("total input tokens", "total_input_tokens"),
    ("total generated tokens", "total_output_tokens"),
    ("request throughput (req/s)", "request_throughput"),
    ("output token throughput (tok/s)", "output_throughput"),
    ("total token throughput (tok/s)", "total_token_throughput"),
    ("acceptance length", "acceptance_length"),
    ("acceptance rate (%)", "acceptance_rate_percent"),
];

fn block_run(lines: Vec<(String, String)>, namespace: Option<&str>) -> Run {
    let mut arguments = namespace.map(arguments).unwrap_or_default();
    let from_arguments = [("model", "model_id"), ("request_rate", "request_rate"), ("num_prompts", "num_prompts")];
    let mut pairs: Vec<(String, String)> = from_arguments
        .into_iter()
        .filter_map(|(argument, key)| Some((key.to_owned(), arguments.text(argument)?)))
        .collect();
    for (label, value) in lines {
        // `mean ttft (ms)` and `median e2e latency (ms)`.
        let latency = label.strip_suffix(" (ms)").and_then(|label| label.split_once(' '));
        let key = match latency {
            Some((statistic, "e2el" | "e2e latency")) => format!("{statistic}_e2el_ms"),
            Some((statistic, quantity)) => format!("{statistic}_{quantity}_ms"),
            None => match LABELS.into_iter().find(|(known, _)| *known == label) {
                Some((_, key)) => key.to_owned(),
                None => continue,
            },
        };
        pairs.push((key, value));
    }
    let mut run = run(pairs.into_iter().collect());
    run.workload.dataset = arguments.text("dataset_name");
    if run.workload.dataset.as_deref() == Some("random") {
        let mut length = |key: &str, observed: &Statistics| {
            let nominal = arguments.finite(key)?;
            let shape = if observed.mean() == Some(nominal) { LengthShape::Fixed } else { LengthShape::Other };
            Some(LengthDistribution { shape, ..LengthDistribution::fixed(nominal) })
        };
        run.workload.input = length("random_input_len", &run.input_length);
        run.workload.output = length("random_output_len", &run.output_length);
        run.workload.prefix.shared_tokens = arguments.finite("random_prefix_len").filter(|&tokens| tokens > 0.0);
    }
    run
}

/// The arguments that argparse prints as `Namespace(name=value, …)`; values that are lists or maps are passed over.
fn arguments(namespace: &str) -> Fields {
    let inside = namespace.trim_start_matches("Namespace(").trim_end().trim_end_matches(')');
    let pairs = inside.split(", ").filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .filter(|(_, value)| value != "None")
        .collect()
}
