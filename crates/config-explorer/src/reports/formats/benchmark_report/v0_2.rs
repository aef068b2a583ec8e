//! Benchmark report v0.2 and v0.2.1: `run`, `scenario` and `results`.

use serde::Deserialize;
use serde_json::Value;

use super::parts::{
    Accelerator, EndpointPickerConfig, Engines, MISSING_METRICS, flags, known, set_engine, set_latencies,
};
use crate::reports::formats::blocks::{LatencyBlocks, Requests};
use crate::reports::formats::inference_perf;
use crate::reports::lenient::{Block, Flag, List, Map, Number, Text};
use crate::reports::{Kind, Run, time};
use crate::workload::{LengthDistribution, LengthShape, Load};

/// The report.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    run: Map<RunSection>,
    scenario: Map<Scenario>,
    results: Option<Map<Results>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RunSection {
    description: Text,
    time: Map<Time>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Time {
    start: Text,
    end: Text,
    duration: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Scenario {
    stack: List<Map<Component>>,
    load: Map<LoadSection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Component {
    standardized: Map<Standardized>,
    native: Map<Native>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Standardized {
    kind: Text,
    tool: Text,
    tool_version: Text,
    role: Text,
    replicas: Number,
    model: Map<Name>,
    accelerator: Map<Accelerator>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Name {
    name: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Native {
    args: Map<serde_json::Map<String, Value>>,
    config: Map<EndpointPickerConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoadSection {
    standardized: Map<LoadStandardized>,
    native: Map<LoadNative>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoadNative {
    config: Map<inference_perf::Config>,
    /// `simulated` or `estimated`, as this library writes it.
    kind: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoadStandardized {
    tool: Text,
    source: Text,
    stage: Number,
    input_seq_len: Map<SequenceLength>,
    output_seq_len: Map<SequenceLength>,
    prefix: Map<Prefix>,
    multi_turn: Map<MultiTurn>,
    rate_qps: Number,
    concurrency: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SequenceLength {
    distribution: Text,
    value: Number,
    std_dev: Number,
    min: Number,
    max: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the names of the report")]
struct Prefix {
    prefix_len: Map<SequenceLength>,
    num_groups: Number,
    num_users_per_group: Number,
    num_prefixes: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MultiTurn {
    enabled: Flag,
    max_turns: Map<SequenceLength>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Results {
    request_performance: Map<RequestPerformance>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RequestPerformance {
    aggregate: Map<Aggregate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Aggregate {
    requests: Map<Requests>,
    latency: Map<LatencyBlocks>,
    throughput: Map<Throughput>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the names of the report")]
struct Throughput {
    input_token_rate: Block,
    output_token_rate: Block,
    total_token_rate: Block,
    request_rate: Block,
}

impl SequenceLength {
    fn lengths(&self) -> Option<LengthDistribution> {
        let shape = self.distribution.0.as_deref().and_then(LengthShape::from_name);
        Some(LengthDistribution {
            shape: shape.unwrap_or(LengthShape::Other),
            mean: self.value.finite()?,
            stddev: self.std_dev.finite(),
            min: self.min.finite(),
            max: self.max.finite(),
        })
    }
}

/// Makes the run of a report.
pub(super) fn run(report: Report) -> Result<Run, String> {
    let Report { run: Map(section), scenario: Map(scenario), results: Some(Map(results)) } = report else {
        return Err(MISSING_METRICS.to_owned());
    };
    let mut run = Run { note: section.description.0, ..Run::default() };
    let Map(time) = section.time;
    run.start_s = time.start.0.as_deref().and_then(time::epoch_s);
    run.duration_s = time.duration.0.as_deref().and_then(time::duration_s);
    let end_s = time.end.0.as_deref().and_then(time::epoch_s);
    if let (Some(start_s), Some(end_s)) = (run.start_s, end_s) {
        let elapsed_s = end_s - start_s;
        let duration_s = *run.duration_s.get_or_insert(elapsed_s);
        // Clocks are written in whole seconds.
        if (duration_s - elapsed_s).abs() > 1.0 + 0.1 * elapsed_s.abs() {
            run.warn("duration", format!("the duration is {duration_s} s, from start to end it is {elapsed_s} s"));
        }
    }

    let mut gpus = Some(0);
    for Map(component) in scenario.stack.0 {
        match component.standardized.kind.0.as_deref() {
            Some("inference_engine") => engine(component, &mut run, &mut gpus),
            // Anything else can be anything; a router is known by its configuration.
            _ => run.server.router = run.server.router.take().or(component.native.0.config.0.router()),
        }
    }
    run.server.gpus = gpus.filter(|&gpus| gpus > 0);

    let Map(Aggregate { requests: Map(requests), latency, throughput }) = results.request_performance.0.aggregate;
    requests.set(&mut run);
    load(&scenario.load, &mut run);
    set_latencies(&latency, &mut run);
    run.throughput.input_tokens = throughput.input_token_rate.mean();
    run.throughput.output_tokens = throughput.output_token_rate.mean();
    run.throughput.total_tokens = throughput.total_token_rate.mean();
    run.throughput.requests = throughput.request_rate.mean();
    Ok(run)
}

fn engine(component: Component, run: &mut Run, gpus: &mut Option<u64>) {
    let Component { standardized: Map(engine), native: Map(native) } = component;
    let Map(accelerator) = engine.accelerator;
    let gpu = known(accelerator.model.0);
    if run.server.model.is_none() {
        run.server.model = known(engine.model.0.name.0);
        run.server.gpu = gpu;
        run.server.flags = flags(&native.args);
        set_engine(run, engine.tool.0, engine.tool_version.0);
    } else if let Some(other) = gpu.filter(|gpu| run.server.gpu.as_ref() != Some(gpu)) {
        run.warn("mixed_accelerators", format!("the deployment also has `{other}`; the first accelerator is shown"));
    }
    let engines = Engines {
        replicas: engine.replicas.count().unwrap_or(1),
        accelerators_per_replica: accelerator.count.count(),
        parallelism: accelerator.parallelism.map(|Map(sizes)| sizes),
    };
    engines.add_to(run, engine.role.0.as_deref().unwrap_or("replica"), gpus);
}

fn load(load: &LoadSection, run: &mut Run) {
    let standard = &load.standardized;
    run.load_generator = known(standard.tool.0.clone());
    run.kind = load.native.kind.0.as_deref().and_then(Kind::from_name).unwrap_or_default();
    let workload = &mut run.workload;
    workload.dataset = known(standard.source.0.clone());
    workload.input = standard.input_seq_len.lengths();
    workload.output = standard.output_seq_len.lengths();
    let prefix = &standard.prefix;
    workload.prefix.shared_tokens = prefix.prefix_len.value.finite();
    workload.prefix.groups = prefix.num_groups.count();
    workload.prefix.prompts_per_group = prefix.num_users_per_group.count();
    workload.prefix.prefixes = prefix.num_prefixes.count();
    if standard.multi_turn.enabled.0 != Some(false) {
        workload.turns = standard.multi_turn.max_turns.value.finite();
    }
    let (rate, concurrency) = (standard.rate_qps.0, standard.concurrency.0);
    if rate.is_some() || concurrency.is_some() {
        workload.load = Load::of(rate, concurrency, run.counts.requests);
    }
    if run.load_generator.as_deref() == Some("inference-perf") {
        let stage = standard.stage.count().map(|stage| stage as usize);
        load.native.config.apply(stage.filter(|_| load.native.config.stages() > 0), run);
    }
}
