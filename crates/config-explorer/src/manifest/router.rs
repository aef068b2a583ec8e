//! The router's Helm values, with a complete `EndpointPickerConfig`.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::description::{Description, RouterProfile};
use super::facts::Facts;
use super::render::{secret, tokenizer_name};
use crate::{Error, Result, yaml};

/// The router's configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointPickerConfig {
    api_version: String,
    kind: &'static str,
    plugins: Vec<Plugin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_layer: Option<Value>,
    scheduling_profiles: Vec<Profile>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Plugin {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Profile {
    name: &'static str,
    plugins: Vec<Reference>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    plugin_ref: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
}

fn plugin(r#type: &'static str) -> Plugin {
    Plugin { r#type, name: None, parameters: None }
}

fn with(r#type: &'static str, parameters: Value) -> Plugin {
    Plugin { parameters: Some(parameters), ..plugin(r#type) }
}

/// A profile; a weight of 0 is none.
fn profile(name: &'static str, plugins: &[(&'static str, u32)]) -> Profile {
    let reference =
        |&(plugin_ref, weight): &(&'static str, u32)| Reference { plugin_ref, weight: (weight > 0).then_some(weight) };
    Profile { name, plugins: plugins.iter().map(reference).collect() }
}

/// Longest prefix that the router needs to match: the longest request, 131072 tokens (the router's default) where it is not
/// given.
fn longest_prefix(description: &Description) -> Value {
    json!({"maxPrefixTokensToMatch": description.max_model_len().unwrap_or(131_072)})
}

/// The configuration of a description's router. Plugins and weights are those of the guide that each profile is named after
/// (llm-d 7edda66d, `guides/*/router`).
pub fn picker_config(description: &Description) -> EndpointPickerConfig {
    let mut data_layer = None;
    let (plugins, scheduling_profiles) = match &description.router {
        RouterProfile::LoadAware => (
            ["queue-scorer", "kv-cache-utilization-scorer", "prefix-cache-scorer", "no-hit-lru-scorer"]
                .map(plugin)
                .into(),
            vec![profile(
                "default",
                &[
                    ("queue-scorer", 2),
                    ("kv-cache-utilization-scorer", 2),
                    ("prefix-cache-scorer", 3),
                    ("no-hit-lru-scorer", 2),
                ],
            )],
        ),
        RouterProfile::Disaggregated => (
            disaggregated(&["kv-cache-utilization-scorer"]),
            vec![
                profile(
                    "prefill",
                    &[
                        ("prefill-filter", 0),
                        ("prefix-cache-scorer", 3),
                        ("queue-scorer", 2),
                        ("kv-cache-utilization-scorer", 2),
                    ],
                ),
                profile("decode", &[("decode-filter", 0), ("active-request-scorer", 2), ("prefix-cache-scorer", 3)]),
            ],
        ),
        RouterProfile::WideExpertParallel => (
            disaggregated(&[]),
            vec![
                profile(
                    "prefill",
                    &[
                        ("prefill-filter", 0),
                        ("prefix-cache-scorer", 3),
                        ("queue-scorer", 2),
                        ("active-request-scorer", 2),
                    ],
                ),
                profile("decode", &[("decode-filter", 0), ("active-request-scorer", 0)]),
            ],
        ),
        RouterProfile::Tiered { cpu_blocks } => tiered(*cpu_blocks),
        RouterProfile::Precise => {
            let source = "endpoint-notification-source";
            data_layer = Some(
                json!({"sources": [{"pluginRef": source, "extractors": [{"pluginRef": "precise-prefix-cache-producer"}]}]}),
            );
            precise(description)
        }
        RouterProfile::PredictedLatency { objectives } => predicted(description, *objectives),
    };
    let api_version = Facts::built_in().router.config_api_version.clone();
    EndpointPickerConfig { api_version, kind: "EndpointPickerConfig", plugins, data_layer, scheduling_profiles }
}

fn disaggregated(more: &[&'static str]) -> Vec<Plugin> {
    let mut plugins = vec![
        plugin("disagg-headers-handler"),
        plugin("always-disagg-pd-decider"),
        with("disagg-profile-handler", json!({"deciderPluginName": "always-disagg-pd-decider"})),
    ];
    plugins.extend(["prefill-filter", "decode-filter", "prefix-cache-scorer", "queue-scorer"].map(plugin));
    plugins.extend(more.iter().copied().map(plugin));
    plugins.push(plugin("active-request-scorer"));
    plugins
}

fn tiered(cpu_blocks: u64) -> (Vec<Plugin>, Vec<Profile>) {
    let named = |name, plugin: Plugin| Plugin { name: Some(name), ..plugin };
    let reads = |producer: &str| with("prefix-cache-scorer", json!({"prefixMatchInfoProducerName": producer}));
    let plugins = vec![
        plugin("no-hit-lru-scorer"),
        named("gpu-prefix-cache-producer", plugin("approx-prefix-cache-producer")),
        named(
            "cpu-prefix-cache-producer",
            with("approx-prefix-cache-producer", json!({"autoTune": false, "lruCapacityPerServer": cpu_blocks})),
        ),
        plugin("queue-scorer"),
        plugin("kv-cache-utilization-scorer"),
        named("gpu-prefix-cache-scorer", reads("gpu-prefix-cache-producer")),
        named("cpu-prefix-cache-scorer", reads("cpu-prefix-cache-producer")),
    ];
    let scorers = [
        ("queue-scorer", 0),
        ("kv-cache-utilization-scorer", 0),
        ("gpu-prefix-cache-scorer", 0),
        ("cpu-prefix-cache-scorer", 0),
        ("no-hit-lru-scorer", 0),
    ];
    (plugins, vec![profile("default", &scorers)])
}

fn precise(description: &Description) -> (Vec<Plugin>, Vec<Profile>) {
    let facts = Facts::built_in();
    let url = format!("http://{}:{}", tokenizer_name(description), facts.ports.server);
    let mut processor = Map::new();
    if let Some(block_size) = description.block_size() {
        processor.insert("blockSize".to_owned(), block_size.into());
    }
    let reads = |r#type| with(r#type, json!({"prefixMatchInfoProducerName": "precise-prefix-cache-producer"}));
    let plugins = vec![
        with("token-producer", json!({"modelName": description.model, "vllm": {"url": url}})),
        plugin("endpoint-notification-source"),
        with(
            "precise-prefix-cache-producer",
            json!({
                "tokenProcessorConfig": processor,
                "speculativeIndexing": true,
                "indexerConfig": {"kvBlockIndexConfig": {"enableMetrics": true}},
                "kvEventsConfig": {
                    "topicFilter": "kv@",
                    "concurrency": 8,
                    "discoverPods": true,
                    "podDiscoveryConfig": {"socketPort": facts.ports.kv_events},
                },
            }),
        ),
        reads("prefix-cache-scorer"),
        plugin("kv-cache-utilization-scorer"),
        plugin("queue-scorer"),
        reads("no-hit-lru-scorer"),
    ];
    let scorers =
        [("kv-cache-utilization-scorer", 2), ("queue-scorer", 2), ("prefix-cache-scorer", 3), ("no-hit-lru-scorer", 2)];
    (plugins, vec![profile("default", &scorers)])
}

fn predicted(description: &Description, objectives: bool) -> (Vec<Plugin>, Vec<Profile>) {
    let affinity = |name, threshold: f64| Plugin {
        name: Some(name),
        ..with("prefix-cache-affinity-filter", json!({"affinityThreshold": threshold}))
    };
    let mut plugins = vec![with("approx-prefix-cache-producer", longest_prefix(description))];
    if objectives {
        plugins.push(with("predicted-latency-producer", json!({"streamingMode": true})));
        plugins.push(affinity("strict-affinity-filter", 0.99));
    } else {
        plugins.push(plugin("predicted-latency-producer"));
    }
    plugins.push(affinity("loose-affinity-filter", 0.8));
    plugins.extend(["latency-scorer", "weighted-random-picker"].map(plugin));
    let mut steps = vec![("predicted-latency-producer", 0)];
    if objectives {
        plugins.extend(["slo-headroom-tier-filter", "latency-slo-admitter"].map(plugin));
        steps.extend([("strict-affinity-filter", 0), ("slo-headroom-tier-filter", 0)]);
    }
    steps.extend([("loose-affinity-filter", 0), ("latency-scorer", 0), ("weighted-random-picker", 0)]);
    (plugins, vec![profile("default", &steps)])
}

/// The values of the router's chart.
///
/// # Errors
/// [`Error::Malformed`] if the configuration cannot be written as YAML.
pub fn values(description: &Description) -> Result<Value> {
    let facts = Facts::built_in();
    let wrong = |reason| Error::Malformed { place: "router values".to_owned(), reason };
    let config = yaml::to_string(&[picker_config(description)]).map_err(wrong)?;
    let file = format!("{}-plugins.yaml", description.name);
    let precise = description.router == RouterProfile::Precise;
    // A router that hands requests from profile to profile must be one; followers of KV events may be several, all active.
    let mut epp = json!({
        "replicas": if precise { facts.router.precise_replicas } else { 1 },
        "flags": {"v": 2},
        "pluginsConfigFile": file,
        "pluginsCustomConfig": {file: config},
        "resources": {"requests": facts.router.requests, "limits": facts.router.limits},
    });
    if precise {
        epp["flags"]["ha-enable-leader-election"] = json!(false);
        epp["env"] = json!([secret()]);
    }
    let ports: Vec<Value> = description.target_ports().iter().map(|number| json!({"number": number})).collect();
    let mut router = json!({
        "extraServicePorts":
            [{"name": "http", "port": facts.ports.router, "protocol": "TCP", "targetPort": facts.ports.router_target}],
        "epp": epp,
        "inferencePool": {"failureMode": "FailOpen"},
        "proxy": {
            "args": facts.router.proxy_args,
            "resources": {"requests": facts.router.requests, "limits": facts.router.limits},
        },
        "modelServers": {
            "type": "vllm",
            "protocol": "http",
            "targetPorts": ports,
            "matchLabels": {"llm-d.ai/guide": description.name},
        },
    });
    if matches!(description.router, RouterProfile::PredictedLatency { .. }) {
        router["latencyPredictor"] = json!({"enabled": true});
    }
    Ok(json!({"router": router}))
}
