//! Benchmark report v0.1: `scenario` and `metrics`.

use serde::Deserialize;
use serde_json::Value;

use super::parts::{
    Accelerator, EndpointPickerConfig, Engines, MISSING_METRICS, flags, known, set_engine, set_latencies,
};
use crate::reports::Run;
use crate::reports::formats::blocks::{LatencyBlocks, RatesPerSecond, Requests};
use crate::reports::formats::guidellm::DataSpec;
use crate::reports::formats::inference_perf;
use crate::reports::lenient::{List, Map, Number, Text};
use crate::workload::Load;

/// The report.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    scenario: Map<Scenario>,
    metrics: Option<Map<Metrics>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Scenario {
    description: Text,
    host: Map<Host>,
    platform: Map<Platform>,
    model: Map<Model>,
    load: Map<LoadSection>,
}

/// `type` and `accelerator` have one entry for each replica.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Host {
    r#type: List<Text>,
    accelerator: List<Map<Accelerator>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Platform {
    engine: List<Map<Engine>>,
    metadata: Map<PlatformMetadata>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Engine {
    name: Text,
    version: Text,
    args: Map<serde_json::Map<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PlatformMetadata {
    inference_scheduler: Map<EndpointPickerConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Model {
    name: Text,
    quantization: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoadSection {
    name: Text,
    r#type: Text,
    args: Value,
    metadata: Map<LoadMetadata>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoadMetadata {
    stage: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metrics {
    time: Map<Time>,
    requests: Map<Requests>,
    latency: Map<LatencyBlocks>,
    throughput: Map<RatesPerSecond>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Time {
    start: Number,
    duration: Number,
}

/// Arguments of the load generators that only have a level: `vllm-benchmark`, and GuideLLM's rates.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LevelArguments {
    max_concurrency: Number,
    request_rate: Number,
    rate: List<Number>,
    data: List<Value>,
    profile: Map<Profile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Profile {
    measured_concurrencies: List<Number>,
}

/// Makes the run of a report.
pub(super) fn run(report: Report) -> Result<Run, String> {
    let Report { scenario: Map(scenario), metrics: Some(Map(metrics)) } = report else {
        return Err(MISSING_METRICS.to_owned());
    };
    let mut run = Run { load_generator: scenario.load.name.0.clone(), ..Run::default() };
    run.note = scenario.description.0;
    run.server.model = known(scenario.model.0.name.0);
    run.server.quantisation = scenario.model.0.quantization.0;
    hosts(&scenario.host, &mut run);
    if let Some(Map(engine)) = scenario.platform.0.engine.0.into_iter().next() {
        run.server.flags = flags(&engine.args);
        set_engine(&mut run, engine.name.0, engine.version.0);
    }
    run.server.router = scenario.platform.0.metadata.0.inference_scheduler.0.router();

    metrics.requests.0.set(&mut run);
    load(scenario.load.0, &mut run);
    set_latencies(&metrics.latency, &mut run);
    metrics.throughput.set(&mut run);
    run.start_s = metrics.time.start.finite();
    run.duration_s = metrics.time.duration.finite();
    Ok(run)
}

fn hosts(host: &Host, run: &mut Run) {
    let (types, accelerators) = (host.r#type.len(), host.accelerator.len());
    if types != accelerators {
        run.warn(
            "hosts",
            format!("{types} hosts and {accelerators} accelerators; the report means one of each a replica"),
        );
    }
    let names: Vec<&str> = host.r#type.iter().filter_map(|name| name.0.as_deref()).collect();
    if names.contains(&"replica") && names.iter().any(|name| *name != "replica") {
        run.warn("hosts", "the hosts mix `replica` with prefill or decode");
    }
    let mut models = host.accelerator.iter().filter_map(|accelerator| accelerator.model.0.as_deref());
    run.server.gpu = models.next().map(str::to_owned);
    if let Some(other) = models.find(|model| Some(*model) != run.server.gpu.as_deref()) {
        run.warn("mixed_accelerators", format!("the deployment also has `{other}`; the first accelerator is shown"));
    }
    let mut gpus = Some(0);
    for (index, name) in names.into_iter().enumerate() {
        let accelerator = host.accelerator.get(index);
        let engines = Engines {
            replicas: 1,
            accelerators_per_replica: accelerator.and_then(|accelerator| accelerator.count.count()),
            parallelism: accelerator.and_then(|accelerator| accelerator.parallelism.map(|Map(sizes)| sizes)),
        };
        engines.add_to(run, name, &mut gpus);
    }
    run.server.gpus = gpus.filter(|&gpus| gpus > 0);
}

fn load(load: LoadSection, run: &mut Run) {
    run.workload.dataset = load.r#type.0;
    let stage = load.metadata.stage.count().map(|stage| stage as usize);
    if run.load_generator.as_deref() == Some("inference-perf") {
        // The arguments are inference-perf's configuration. They are lenient, so that no value of them is an error.
        if let Ok(Map(config)) = serde_json::from_value::<Map<inference_perf::Config>>(load.args) {
            config.apply(stage, run);
        }
        return;
    }
    let Ok(Map(level)) = serde_json::from_value::<Map<LevelArguments>>(load.args) else { return };
    if let Some(spec) = level.data.first() {
        DataSpec::from_value(spec).apply(run);
    }
    let stage = stage.unwrap_or(0);
    let measured = level.profile.measured_concurrencies.get(stage).copied().unwrap_or_default().finite();
    let rate = level.rate.get(stage).copied().unwrap_or_default().0.or(level.request_rate.0);
    let concurrency = level.max_concurrency.0;
    if rate.is_some() || concurrency.is_some() {
        run.workload.load = Load::of(rate, concurrency, run.counts.requests);
    }
    run.workload.load.concurrency = run.workload.load.concurrency.or(measured);
}
