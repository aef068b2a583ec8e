//! The router against the recorded cases of llm-d's own, and the configurations of llm-d's guides.

use std::path::{Path, PathBuf};

use config_explorer::engine::EngineRules;
use config_explorer::simulation::engine::{Batch, GroupAttention, KvGroup, SchedulerConfig};
use config_explorer::simulation::router::{LoadOptions, RouterConfig};
use config_explorer::simulation::{
    Cluster, EngineGroup, EngineRole, KvTransfer, Outcome, Routing, SimulationOptions, Traffic, simulate,
};
use config_explorer::workload::{Arrivals, Distribution, Gaps, Prefix, WorkloadSpec};
use serde_json::Value;

use crate::data;

#[path = "../../examples/router_conformance/main.rs"]
#[expect(dead_code, reason = "the program around the answers is not called here")]
mod router_conformance;

#[test]
fn every_case_is_answered_as_by_the_router() {
    let Some(data) = data() else { return };
    let text = std::fs::read_to_string(data.join("router/vectors.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let cases = file["vectors"].as_array().unwrap();
    let lines = cases.iter().map(router_conformance::line);
    let wrong: Vec<_> = lines.filter(|line| line["equal"] != true).map(|line| line.to_string()).collect();
    assert!(!cases.is_empty(), "the file has no cases");
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn every_configuration_of_the_guides_loads_and_runs() {
    let Some(data) = data() else { return };
    let mut configs = Vec::new();
    for path in files(&data.join("llm-d/guides")) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        configs.extend(configs_in(&text).into_iter().map(|config| (path.display().to_string(), config)));
    }
    assert!(configs.len() >= 15, "only {} configurations found", configs.len());
    for (path, text) in &configs {
        let options = LoadOptions { strict: true, ..LoadOptions::default() };
        let config = RouterConfig::load(text, &options, path).unwrap();
        let outcome = run(&config);
        assert_eq!(outcome.finished.len(), 200, "{path}: {:?}", outcome.rejected);
        let prefilled = outcome.engines.iter().map(|engine| engine.prefilled).sum::<u32>();
        assert_eq!(prefilled > 0, config.profiles.iter().any(|profile| profile.name == "prefill"), "{path}");
        assert!(outcome.finished.prefix_hit_rate() > 0.3, "{path}: {}", outcome.finished.prefix_hit_rate());
    }
}

/// 200 requests of a few conversations on two replicas, or two for prefill and two for decode.
fn run(config: &RouterConfig) -> Outcome {
    let block_size = if config.plugins.contains_key("precise-prefix-cache-producer") { 64 } else { 16 };
    let kv_groups = vec![KvGroup { attention: GroupAttention::Full, block_size }];
    let scheduler = SchedulerConfig { block_size, kv_groups, ..SchedulerConfig::default() };
    let rules = EngineRules::of_default_version().scheduler;
    let timer = |batch: &Batch| 6e3 + 23.0 * f64::from(batch.num_tokens);
    let group = |role| EngineGroup { role, replicas: 2, ..EngineGroup::new(scheduler.clone(), rules, timer) };
    let disaggregates = config.profiles.iter().any(|profile| profile.name == "prefill");
    let groups = if disaggregates {
        vec![group(EngineRole::Prefill), group(EngineRole::Decode)]
    } else {
        vec![group(EngineRole::Both)]
    };
    let transfer = KvTransfer { bytes_per_token: 131_072.0, bandwidth_bytes_per_s: 50e9, base_latency_s: 1e-3 };
    let workload = WorkloadSpec {
        requests: Some(200),
        arrivals: Some(Arrivals::Open { rate_per_s: 10.0, gaps: Gaps::Poisson, concurrency: None }),
        input: Some(Distribution::fixed(300.0)),
        output: Some(Distribution::fixed(20.0)),
        prefix: Some(Prefix { groups: 8, tokens: 700, ..Prefix::default() }),
        ..WorkloadSpec::default()
    };
    let traffic = Traffic { workload, trace: None, seed: 1 };
    let cluster = Cluster {
        groups,
        routing: Routing::Router(Box::new(config.clone())),
        transfer: disaggregates.then_some(transfer),
    };
    simulate(cluster, &traffic, &SimulationOptions::default()).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The configurations in a file: each from its `apiVersion` to where the text is indented less.
pub(crate) fn configs_in(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let starts = (1..lines.len()).filter(|&at| lines[at].trim() == "kind: EndpointPickerConfig").map(|at| at - 1);
    starts
        .map(|start| {
            let width = indent(lines[start]);
            let inside = |line: &&&str| line.trim().is_empty() || (indent(line) >= width && !line.contains("```"));
            let body = lines[start..].iter().take_while(inside);
            body.map(|line| line.get(width..).unwrap_or_default()).collect::<Vec<_>>().join("\n")
        })
        .collect()
}
