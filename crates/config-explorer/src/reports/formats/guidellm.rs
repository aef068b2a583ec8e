//! GuideLLM reports: the shapes of 0.3 (`args`, `request_loader`) and of version 2 (`config.spec`).
//!
//! Source: vllm-project/guidellm, `src/guidellm/schemas`, and a report of each shape.

use serde::Deserialize;
use serde_json::Value;

use crate::reports::lenient::TimeUnit::{Milliseconds, Seconds};
use crate::reports::lenient::{Block, List, Map, Number, Text};
use crate::reports::{ItlDefinition, Run, TpotDefinition, yaml};
use crate::workload::{LengthDistribution, LengthShape, Load, LoadKind};

/// The report.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    /// Version 2 has the configuration of all benchmarks here.
    config: Map<ReportConfig>,
    args: Map<ReportArguments>,
    benchmarks: List<Map<Benchmark>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReportConfig {
    spec: Map<Spec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    backend: Map<Backend>,
    data: List<Value>,
}

/// Arguments of the command, in versions between.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReportArguments {
    model: Text,
    data: List<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Backend {
    model: Text,
}

/// One rate or concurrency.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Benchmark {
    config: Map<BenchmarkConfig>,
    args: Map<BenchmarkConfig>,
    worker: Map<Worker>,
    request_loader: Map<RequestLoader>,
    start_time: Number,
    duration: Number,
    metrics: Map<Metrics>,
    request_totals: Map<Totals>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BenchmarkConfig {
    strategy: Map<Strategy>,
    backend: Map<Backend>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Worker {
    backend_model: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RequestLoader {
    data: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Strategy {
    type_: Text,
    rate: Number,
    streams: Number,
    max_concurrency: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Totals {
    errored: Number,
    incomplete: Number,
    total: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metrics {
    request_totals: Map<Totals>,
    requests_per_second: Map<ByOutcome>,
    request_concurrency: Map<ByOutcome>,
    request_latency: Map<ByOutcome>,
    prompt_token_count: Map<ByOutcome>,
    output_token_count: Map<ByOutcome>,
    time_to_first_token_ms: Map<ByOutcome>,
    time_per_output_token_ms: Map<ByOutcome>,
    inter_token_latency_ms: Map<ByOutcome>,
    prompt_tokens_per_second: Map<ByOutcome>,
    output_tokens_per_second: Map<ByOutcome>,
    tokens_per_second: Map<ByOutcome>,
}

/// Every metric is there for requests that ended in each way; those that succeeded count.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ByOutcome {
    successful: Block,
}

/// The runs of a report: one for each benchmark.
pub(super) fn runs(report: Report) -> Vec<Run> {
    let Report { config: Map(config), args: Map(args), benchmarks: List(benchmarks) } = report;
    let model = config.spec.backend.model.0.as_ref().or(args.model.0.as_ref());
    let data = config.spec.data.first().or(args.data.first());
    benchmarks
        .into_iter()
        .map(|Map(benchmark)| {
            let mut run = benchmark_run(&benchmark);
            run.server.model = run.server.model.or_else(|| model.cloned());
            if let Some(data) = data {
                DataSpec::from_value(data).apply(&mut run);
            }
            run
        })
        .collect()
}

fn benchmark_run(benchmark: &Benchmark) -> Run {
    let mut run = Run { load_generator: Some("guidellm".to_owned()), ..Run::default() };
    let backend = benchmark.config.backend.model.0.as_ref();
    run.server.model = backend.or(benchmark.worker.backend_model.0.as_ref()).cloned();
    DataSpec::from_value(&benchmark.request_loader.data).apply(&mut run);
    run.start_s = benchmark.start_time.finite();
    run.duration_s = benchmark.duration.finite();

    let metrics = &benchmark.metrics;
    for totals in [&metrics.request_totals, &benchmark.request_totals] {
        run.counts.requests = run.counts.requests.or(totals.total.count());
        run.counts.failures = run.counts.failures.or(totals.errored.count());
        run.counts.incomplete = run.counts.incomplete.or(totals.incomplete.count());
    }
    let strategies = [&benchmark.config.strategy, &benchmark.args.strategy];
    if let Some(strategy) = strategies.into_iter().find(|strategy| strategy.type_.0.is_some()) {
        run.workload.load = load(strategy, run.counts.requests);
    }
    run.input_length = metrics.prompt_token_count.successful.values.clone();
    run.output_length = metrics.output_token_count.successful.values.clone();
    run.throughput.requests = metrics.requests_per_second.successful.mean();
    run.throughput.input_tokens = metrics.prompt_tokens_per_second.successful.mean();
    run.throughput.output_tokens = metrics.output_tokens_per_second.successful.mean();
    run.throughput.total_tokens = metrics.tokens_per_second.successful.mean();

    // The metrics have no unit of their own: all are in milliseconds but the latency of a request.
    let convert = |metric: &ByOutcome, unit| metric.successful.milliseconds(unit).unwrap_or_default();
    let latency = &mut run.latency;
    latency.ttft = convert(&metrics.time_to_first_token_ms, Milliseconds);
    latency.tpot = convert(&metrics.time_per_output_token_ms, Milliseconds);
    latency.itl = convert(&metrics.inter_token_latency_ms, Milliseconds);
    latency.e2e = convert(&metrics.request_latency, Seconds);
    // Benchmarks of 0.3 have their configuration in `args`, and divide the time after the first token by all tokens.
    let is_0_3 = benchmark.args.strategy.type_.0.is_some();
    let definition = if is_0_3 { TpotDefinition::OverAllTokens } else { TpotDefinition::WithFirstToken };
    latency.define(definition, ItlDefinition::PerToken);
    if let Some(measured) = metrics.request_concurrency.successful.mean() {
        run.extra.insert("request_concurrency".to_owned(), measured.to_string());
    }
    run
}

/// The load of a strategy: `synchronous`, `concurrent`, `throughput`, `constant`, `poisson`.
fn load(strategy: &Strategy, requests: Option<u64>) -> Load {
    let (rate, cap) = (strategy.rate.finite(), strategy.max_concurrency.finite());
    match strategy.type_.0.as_deref() {
        Some("synchronous") => Load { kind: Some(LoadKind::Closed), concurrency: Some(1.0), rate_per_s: None },
        Some("concurrent") => Load::of(None, strategy.streams.finite().or(cap), requests),
        Some("throughput") => Load::of(None, cap, requests),
        // The cap is the tool's own, not a limit of the load.
        _ => Load { concurrency: None, ..Load::of(rate, cap, requests) },
    }
}

/// What a synthetic data set looks like.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct DataSpec {
    prompt_tokens: Number,
    prompt_tokens_stdev: Number,
    prompt_tokens_min: Number,
    prompt_tokens_max: Number,
    output_tokens: Number,
    output_tokens_stdev: Number,
    output_tokens_min: Number,
    output_tokens_max: Number,
    prefix_tokens: Number,
    prefix_count: Number,
    prefix_buckets: List<Map<PrefixBucket>>,
    turns: Number,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PrefixBucket {
    prefix_tokens: Number,
    prefix_count: Number,
}

impl DataSpec {
    /// Reads the specification as the command line accepts it: a map, or text that is YAML, JSON or
    /// `prompt_tokens=256,output_tokens=128`. The default for the name of a data set.
    pub(super) fn from_value(value: &Value) -> Self {
        match value {
            Value::String(text) if text.contains('=') && !text.contains(':') => {
                let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
                let map = pairs.map(|(key, value)| (key.trim().to_owned(), Value::from(value.trim()))).collect();
                Self::from_value(&Value::Object(map))
            }
            Value::String(text) => yaml::from_slice::<Map<Self>>(text.as_bytes()).unwrap_or_default().0,
            other => serde_json::from_value::<Map<Self>>(other.clone()).unwrap_or_default().0,
        }
    }

    /// Fills the workload of a run.
    pub(super) fn apply(&self, run: &mut Run) {
        let bucket = self.prefix_buckets.first().map(|bucket| &bucket.0);
        let shared = self.prefix_tokens.finite().or(bucket.and_then(|bucket| bucket.prefix_tokens.finite()));
        let prefixes = self.prefix_count.count().or(bucket.and_then(|bucket| bucket.prefix_count.count()));
        let workload = &mut run.workload;
        let own = lengths(self.prompt_tokens, self.prompt_tokens_stdev, self.prompt_tokens_min, self.prompt_tokens_max);
        // The prefix comes before the prompt's own tokens.
        let before = shared.unwrap_or(0.0);
        workload.input = own.map(|own| LengthDistribution {
            mean: own.mean + before,
            min: own.min.map(|min| min + before),
            max: own.max.map(|max| max + before),
            ..own
        });
        workload.output =
            lengths(self.output_tokens, self.output_tokens_stdev, self.output_tokens_min, self.output_tokens_max);
        workload.turns = self.turns.finite().filter(|&turns| turns > 1.0);
        if shared.is_some() {
            let prefix = &mut workload.prefix;
            prefix.shared_tokens = shared;
            prefix.unique_tokens = own.map(|own| own.mean);
            prefix.prefixes = prefixes;
            // The original's reading of it.
            prefix.groups = Some(1);
            prefix.prompts_per_group = prefixes;
        }
    }
}

fn lengths(mean: Number, stddev: Number, min: Number, max: Number) -> Option<LengthDistribution> {
    let (mean, min, max) = (mean.finite()?, min.finite(), max.finite());
    let shape = match stddev.finite() {
        None if min.is_some() && max.is_some() => LengthShape::Uniform,
        None | Some(0.0) => LengthShape::Fixed,
        Some(_) => LengthShape::Gaussian,
    };
    Some(LengthDistribution { shape, mean, stddev: stddev.finite(), min, max })
}
