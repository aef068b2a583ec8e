//! A run as llm-d's benchmark report v0.2, valid against the published schema.
//!
//! Source: `br_v0_2_json_schema.json` of llm-d/llm-d-benchmark, commit 8bc9f1dd. Unlike the importers there, the 25th
//! percentile keeps its name and a missing end-to-end latency is no error. TPOT is written by the one definition
//! (E2E - TTFT) / (output tokens - 1).

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Kind, Role, Router, Run, Statistic, Statistics, time};
use crate::workload::{LengthDistribution, LengthShape, LoadKind};
use crate::{Error, Result};

/// What the schema requires and a run does not know. The reader takes it for missing.
pub(super) const UNKNOWN: &str = "unknown";
/// The field of the native load that says that nobody measured the run.
pub(super) const KIND: &str = "kind";
/// The engine argument that holds all arguments as one line.
pub(super) const COMMAND: &str = "command";

/// A report, and what of the run it cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchmarkReport {
    /// The report in YAML.
    pub yaml: String,
    /// What the format has no place for, in words.
    pub left_out: Vec<String>,
}

#[derive(Serialize)]
struct Report {
    version: &'static str,
    run: RunSection,
    #[serde(skip_serializing_if = "Option::is_none")]
    scenario: Option<Scenario>,
    results: Value,
}

#[derive(Serialize)]
struct RunSection {
    uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

#[derive(Serialize)]
struct Scenario {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stack: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<Load>,
}

#[derive(Serialize)]
struct Load {
    metadata: Value,
    standardized: LoadStandardized,
    native: Value,
}

#[derive(Serialize)]
struct LoadStandardized {
    tool: String,
    tool_version: &'static str,
    source: &'static str,
    input_seq_len: Value,
    #[serde(flatten)]
    optional: Map<String, Value>,
    /// Not in `optional`: JSON has no infinity, and a burst has no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<f64>,
}

/// Writes a run as a benchmark report v0.2.
pub fn to_benchmark_report(run: &Run) -> Result<BenchmarkReport> {
    let mut left_out = Vec::new();
    let mut time = Map::new();
    insert(&mut time, "start", run.start_s.and_then(time::iso_8601));
    insert(&mut time, "duration", run.duration_s.map(|duration_s| format!("PT{duration_s}S")));
    let load = load(run, &mut left_out);
    let stack = stack(run, &mut left_out);
    let report = Report {
        version: "0.2",
        run: RunSection {
            uid: run.id.to_string(),
            time: (!time.is_empty()).then_some(Value::Object(time)),
            description: run.note.clone(),
        },
        scenario: (!stack.is_empty() || load.is_some()).then_some(Scenario { stack, load }),
        results: json!({"request_performance": {"aggregate": aggregate(run, &mut left_out)}}),
    };
    let yaml = serde_saphyr::to_string(&report)
        .map_err(|error| Error::Malformed { place: run.id.to_string(), reason: error.to_string() })?;
    Ok(BenchmarkReport { yaml, left_out })
}

fn insert(map: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value.into());
    }
}

/// Engines and router.
fn stack(run: &Run, left_out: &mut Vec<String>) -> Vec<Value> {
    let server = &run.server;
    if let Some(quantisation) = &server.quantisation {
        left_out.push(format!("quantisation `{quantisation}`"));
    }
    let roles = &server.roles;
    let named = [("replica", &roles.both), ("prefill", &roles.prefill), ("decode", &roles.decode)];
    let known = named.iter().filter(|(_, role)| role.is_some()).count();
    let mut stack: Vec<Value> = named
        .into_iter()
        .filter_map(|(name, role)| {
            let role = role.as_ref()?;
            // One role has all accelerators; of several, each has what its parallelism needs.
            let all = role.gpus().or(server.gpus.filter(|_| known == 1));
            Some(engine(run, name, role, all))
        })
        .collect();
    if known == 0 && (server.model.is_some() || server.gpu.is_some()) {
        stack.push(engine(run, "replica", &Role::default(), server.gpus));
    }
    stack.extend(server.router.as_ref().map(router));
    stack
}

fn engine(run: &Run, name: &str, role: &Role, gpus: Option<u64>) -> Value {
    let server = &run.server;
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| UNKNOWN.to_owned());
    let replicas = role.replicas.filter(|&replicas| replicas > 0);
    let per_replica = gpus.zip(replicas).map_or(gpus, |(gpus, replicas)| Some(gpus / replicas));
    let mut metadata = Map::new();
    metadata.insert("label".to_owned(), format!("vllm-{name}").into());
    metadata.insert("cfg_id".to_owned(), "".into());
    if replicas.is_none() {
        metadata.insert("description".to_owned(), "the number of replicas is not known".into());
    }
    let mut native = Map::new();
    if let Some(flags) = &server.flags {
        native.insert("args".to_owned(), json!({COMMAND: flags}));
    }
    let size = |size: Option<u64>| size.unwrap_or(1).max(1);
    json!({
        "metadata": metadata,
        "standardized": {
            "kind": "inference_engine",
            "tool": or_unknown(&server.engine),
            "tool_version": or_unknown(&server.engine_version.clone().or(server.image.clone())),
            "role": name,
            "replicas": replicas.unwrap_or(1),
            "model": {"name": or_unknown(&server.model)},
            "accelerator": {
                "model": or_unknown(&server.gpu),
                "count": per_replica.unwrap_or(0),
                // The schema allows tp 0, which no engine has: the parallelism is not known.
                "parallelism": {"tp": role.tp.unwrap_or(0), "pp": size(role.pp), "dp": size(role.dp), "ep": size(role.ep)},
            },
        },
        "native": native,
    })
}

/// The router as a component whose configuration is an `EndpointPickerConfig`.
fn router(router: &Router) -> Value {
    let mut plugins: Vec<Value> = Vec::new();
    let mut profiles: Vec<(&str, Vec<Value>)> = Vec::new();
    for plugin in &router.plugins {
        let mut definition = Map::new();
        definition.insert("type".to_owned(), plugin.kind.clone().into());
        if !plugin.parameters.is_empty() {
            definition.insert("parameters".to_owned(), plugin.parameters.clone().into());
        }
        // Two profiles can use one plugin; two definitions of one type need names.
        let definition = Value::Object(definition);
        let reference = match plugins.iter().position(|known| known["type"] == definition["type"]) {
            Some(at) if plugins[at] == definition => plugin.kind.clone(),
            Some(_) => {
                let name = format!("{}-{}", plugin.kind, plugins.len());
                let mut named = definition;
                named["name"] = name.clone().into();
                plugins.push(named);
                name
            }
            None => {
                plugins.push(definition);
                plugin.kind.clone()
            }
        };
        let Some(profile) = &plugin.profile else { continue };
        let mut entry = Map::new();
        entry.insert("pluginRef".to_owned(), reference.into());
        insert(&mut entry, "weight", plugin.weight);
        match profiles.iter_mut().find(|(name, _)| name == profile) {
            Some((_, entries)) => entries.push(entry.into()),
            None => profiles.push((profile, vec![entry.into()])),
        }
    }
    let profiles: Vec<Value> =
        profiles.into_iter().map(|(name, plugins)| json!({"name": name, "plugins": plugins})).collect();
    json!({
        "metadata": {"label": "router", "cfg_id": ""},
        "standardized": {"kind": "generic", "tool": "llm-d-router", "tool_version": UNKNOWN},
        "native": {"config": {"kind": "EndpointPickerConfig", "plugins": plugins, "schedulingProfiles": profiles}},
    })
}

fn load(run: &Run, left_out: &mut Vec<String>) -> Option<Load> {
    let workload = &run.workload;
    let observed = |statistics: &Statistics| {
        let mean = statistics.mean()?;
        Some(LengthDistribution { shape: LengthShape::Other, ..LengthDistribution::fixed(mean) })
    };
    let Some(input) = workload.input.or_else(|| observed(&run.input_length)) else {
        left_out.push("the load, which needs the length of the prompts".to_owned());
        return None;
    };
    let mut optional = Map::new();
    let output = workload.output.or_else(|| observed(&run.output_length));
    insert(&mut optional, "output_seq_len", output.map(sequence_length));
    let prefix = &workload.prefix;
    if let (Some(shared), Some(groups), Some(prompts)) = (prefix.shared_tokens, prefix.groups, prefix.prompts_per_group)
    {
        let prefix = json!({
            "prefix_len": sequence_length(LengthDistribution::fixed(shared)),
            "num_groups": groups.max(1),
            "num_users_per_group": prompts.max(1),
            "num_prefixes": prefix.prefixes.unwrap_or(groups).max(1),
        });
        optional.insert("prefix".to_owned(), prefix);
    }
    if let Some(turns) = workload.turns {
        let turns = sequence_length(LengthDistribution::fixed(turns));
        optional.insert("multi_turn".to_owned(), json!({"enabled": true, "max_turns": turns}));
    }
    insert(&mut optional, "rate_qps", workload.load.rate_per_s.filter(|&rate| rate > 0.0));
    let concurrency = match workload.load.kind {
        Some(LoadKind::Burst) => Some(f64::INFINITY),
        _ => workload.load.concurrency,
    };
    let allowed = concurrency.filter(|&concurrency| concurrency >= 1.0);
    if concurrency != allowed {
        left_out.push(format!("a concurrency of {} (the least is 1)", concurrency.unwrap_or_default()));
    }
    let source = match workload.dataset.as_deref() {
        Some("random") => "random",
        Some("sampled" | "sharegpt") => "sampled",
        _ => "unknown",
    };
    Some(Load {
        metadata: json!({}),
        standardized: LoadStandardized {
            tool: run.load_generator.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
            tool_version: UNKNOWN,
            source,
            input_seq_len: sequence_length(input),
            optional,
            concurrency: allowed,
        },
        native: match run.kind {
            Kind::Measured => json!({}),
            kind => json!({(KIND): kind.name()}),
        },
    })
}

fn sequence_length(length: LengthDistribution) -> Value {
    let mut map = Map::new();
    // The report's schema has no name for it.
    let has_none = matches!(length.shape, LengthShape::Lognormal | LengthShape::Exponential | LengthShape::Pareto);
    let shape = if has_none { LengthShape::Other } else { length.shape };
    map.insert("distribution".to_owned(), shape.name().into());
    map.insert("value".to_owned(), length.mean.into());
    insert(&mut map, "std_dev", length.stddev);
    // Whole numbers; a maximum of at least 1.
    insert(&mut map, "min", length.min.map(|min| min.max(0.0).floor() as u64));
    insert(&mut map, "max", length.max.map(|max| max.max(1.0).ceil() as u64));
    map.into()
}

fn aggregate(run: &Run, left_out: &mut Vec<String>) -> Value {
    let mut block = |map: &mut Map<String, Value>, key: &str, unit: &str, values: &Statistics| {
        if values.is_empty() {
            return;
        }
        // The schema requires a mean.
        if values.mean().is_none() {
            left_out.push(format!("{key}, whose mean is not known"));
            return;
        }
        let mut statistics = Map::new();
        statistics.insert("units".to_owned(), unit.into());
        for (statistic, value) in values.iter() {
            let value = if statistic == Statistic::Stddev { value.max(0.0) } else { value };
            statistics.insert(statistic.name().to_owned(), value.into());
        }
        map.insert(key.to_owned(), statistics.into());
    };
    let mut latency = Map::new();
    block(&mut latency, "time_to_first_token", "ms", &run.latency.ttft);
    block(&mut latency, "time_per_output_token", "ms/token", &run.latency.tpot);
    block(&mut latency, "inter_token_latency", "ms/token", &run.latency.itl);
    block(&mut latency, "normalized_time_per_output_token", "ms/token", &run.latency.ntpot);
    block(&mut latency, "request_latency", "ms", &run.latency.e2e);
    let mut throughput = Map::new();
    let rates = &run.throughput;
    for (key, unit, rate) in [
        ("input_token_rate", "tokens/s", rates.input_tokens),
        ("output_token_rate", "tokens/s", rates.output_tokens),
        ("total_token_rate", "tokens/s", rates.total_tokens),
        ("request_rate", "queries/s", rates.requests),
    ] {
        block(&mut throughput, key, unit, &rate.map(Statistics::of_mean).unwrap_or_default());
    }
    let mut requests = Map::new();
    block(&mut requests, "input_length", "count", &run.input_length);
    block(&mut requests, "output_length", "count", &run.output_length);
    let mut aggregate = Map::new();
    if let Some(total) = run.counts.requests {
        requests.insert("total".to_owned(), total.into());
        insert(&mut requests, "failures", run.counts.failures);
        insert(&mut requests, "incomplete", run.counts.incomplete);
        aggregate.insert("requests".to_owned(), requests.into());
    } else if !requests.is_empty() {
        left_out.push("the lengths that were sent, which need the number of requests".to_owned());
    }
    for (key, map) in [("latency", latency), ("throughput", throughput)] {
        if !map.is_empty() {
            aggregate.insert(key.to_owned(), map.into());
        }
    }
    aggregate.into()
}
