//! Engines behind a router: 16 replicas at 80 % of the rate they keep up with. Items are requests.
//!
//! The engine, its step time and its requests are those of `benches/scheduler.rs`. `cargo bench --bench cluster`.

use config_explorer::engine::EngineRules;
use config_explorer::simulation::engine::{Batch, SchedulerConfig};
use config_explorer::simulation::router::{LoadOptions, RouterConfig};
use config_explorer::simulation::{
    Cluster, EngineGroup, EngineRole, KvTransfer, Routing, SimulationOptions, Traffic, simulate,
};
use config_explorer::workload::{Arrivals, Distribution, Gaps, Prefix, WorkloadSpec};
use divan::Bencher;
use divan::counter::ItemsCount;

const REQUESTS: u32 = 10_000;
const REPLICAS: u32 = 16;
/// Requests a second of a replica: 80 % of what it keeps up with.
const RATE_PER_S: f64 = 37.0;

fn main() {
    divan::main();
}

/// See `benches/scheduler.rs`.
fn step_us(batch: &Batch) -> f64 {
    let (decodes, context) = batch.decodes();
    let chunk_tokens = batch.num_tokens - decodes;
    5_940.0 + 0.046 * context as f64 + 23.0 * f64::from(chunk_tokens)
}

fn traffic(rate_per_s: f64, requests: u32) -> Traffic {
    let workload = WorkloadSpec {
        requests: Some(requests),
        arrivals: Some(Arrivals::Open { rate_per_s, gaps: Gaps::Poisson, concurrency: None }),
        input: Some(Distribution::fixed(512.0)),
        output: Some(Distribution::fixed(256.0)),
        ..WorkloadSpec::default()
    };
    Traffic { workload, trace: None, seed: 1 }
}

fn group(replicas: u32) -> EngineGroup<fn(&Batch) -> f64> {
    let config = SchedulerConfig { num_gpu_blocks: 27_000, ..SchedulerConfig::default() };
    let rules = EngineRules::of_default_version().scheduler;
    EngineGroup { replicas, ..EngineGroup::new(config, rules, step_us as fn(&Batch) -> f64) }
}

fn router(text: &str) -> Routing {
    Routing::Router(Box::new(RouterConfig::load(text, &LoadOptions::default(), "bench").expect("it loads")))
}

fn aggregated(routing: Routing) -> Cluster<fn(&Batch) -> f64> {
    Cluster { groups: vec![group(REPLICAS)], routing, transfer: None }
}

fn run(bencher: Bencher<'_, '_>, traffic: &Traffic, cluster: impl Fn() -> Cluster<fn(&Batch) -> f64> + Sync) {
    let options = SimulationOptions::default();
    bencher
        .counter(ItemsCount::new(traffic.workload.requests.unwrap_or(0)))
        .bench(|| simulate(cluster(), traffic, &options).unwrap());
}

/// llm-d's default router.
#[divan::bench(args = [2.0, RATE_PER_S])]
fn default_router(bencher: Bencher<'_, '_>, rate_per_s: f64) {
    let traffic = traffic(rate_per_s * f64::from(REPLICAS), REQUESTS);
    run(bencher, &traffic, || aggregated(router("")));
}

/// A million requests, in bounded memory.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn a_million(bencher: Bencher<'_, '_>) {
    let traffic = traffic(RATE_PER_S * f64::from(REPLICAS), 1_000_000);
    run(bencher, &traffic, || aggregated(router("")));
}

#[divan::bench(args = [2.0, RATE_PER_S])]
fn round_robin(bencher: Bencher<'_, '_>, rate_per_s: f64) {
    let traffic = traffic(rate_per_s * f64::from(REPLICAS), REQUESTS);
    run(bencher, &traffic, || aggregated(Routing::RoundRobin));
}

/// 64 groups of prompts that share 256 tokens, and an index that the engines keep up to date.
#[divan::bench]
fn precise_prefix(bencher: Bencher<'_, '_>) {
    let mut traffic = traffic(RATE_PER_S * f64::from(REPLICAS), REQUESTS);
    traffic.workload.prefix = Some(Prefix { groups: 64, tokens: 256, ..Prefix::default() });
    traffic.workload.input = Some(Distribution::fixed(256.0));
    run(bencher, &traffic, || aggregated(router(PRECISE)));
}

const PRECISE: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: precise-prefix-cache-producer
  parameters: {tokenProcessorConfig: {blockSize: 64}, speculativeIndexing: true}
- type: prefix-cache-scorer
  parameters: {prefixMatchInfoProducerName: precise-prefix-cache-producer}
- type: kv-cache-utilization-scorer
- type: queue-scorer
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: kv-cache-utilization-scorer, weight: 2}
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: prefix-cache-scorer, weight: 3}
";

/// Half of the replicas compute prompts, half generate.
#[divan::bench]
fn disaggregated(bencher: Bencher<'_, '_>) {
    let traffic = traffic(RATE_PER_S * f64::from(REPLICAS) / 2.0, REQUESTS);
    let role = |role| EngineGroup { role, ..group(REPLICAS / 2) };
    run(bencher, &traffic, || Cluster {
        groups: vec![role(EngineRole::Prefill), role(EngineRole::Decode)],
        routing: router(DISAGGREGATED),
        transfer: Some(KvTransfer { bytes_per_token: 131_072.0, bandwidth_bytes_per_s: 50e9, base_latency_s: 1e-3 }),
    });
}

const DISAGGREGATED: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: always-disagg-pd-decider
- type: disagg-profile-handler
  parameters: {deciderPluginName: always-disagg-pd-decider}
- type: prefill-filter
- type: decode-filter
- type: prefix-cache-scorer
- type: queue-scorer
schedulingProfiles:
- name: prefill
  plugins:
  - {pluginRef: prefill-filter}
  - {pluginRef: prefix-cache-scorer, weight: 2}
  - {pluginRef: queue-scorer, weight: 1}
- name: decode
  plugins:
  - {pluginRef: decode-filter}
  - {pluginRef: prefix-cache-scorer, weight: 2}
  - {pluginRef: queue-scorer, weight: 1}
";
