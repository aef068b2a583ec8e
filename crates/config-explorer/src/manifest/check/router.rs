//! Rules on the router: its configuration by itself, and against the engines it picks from.

use serde_json::Value;

use super::server::{Router, Server, number};
use super::{CheckedRole, Findings, Place, Severity, roles};
use crate::manifest::{Offload, ROUTER_BLOCK_TOKENS};
use crate::simulation::router::{LoadOptions, RouterConfig};
use crate::{Error, yaml};

const FIELD: &str = "router.epp.pluginsCustomConfig";
/// Types that hand a request from prefill to decode.
const DISAGGREGATORS: [&str; 2] = ["disagg-profile-handler", "pd-profile-handler"];
const PRECISE: [&str; 2] = ["precise-prefix-cache-producer", "precise-prefix-cache-scorer"];
/// Tokens of a block where the precise producer's configuration names none (llm-d-router ebab687).
const PRECISE_BLOCK_TOKENS: u64 = 16;

/// Checks a router's values.
pub(super) fn check(router: &Router, servers: &[Server], checked: &[CheckedRole], findings: &mut Findings) {
    let plugins = router.config.as_ref().map(|text| config(text, &router.place, findings)).unwrap_or_default();
    let Some(labels) = &router.labels else { return };
    let picked: Vec<&Server> = servers
        .iter()
        .filter(|server| labels.iter().all(|(key, value)| server.labels.get(key) == Some(value)))
        .collect();
    if picked.is_empty() {
        // Commands have no labels, and values may be checked alone.
        if servers.iter().any(|server| !server.labels.is_empty()) {
            let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}: {value}")).collect();
            findings.error(
                "pool-selects-nothing",
                &router.place,
                "router.modelServers.matchLabels",
                format!("no model server of these files has the labels {}", labels.join(", ")),
                "give the router the model servers' `llm-d.ai/guide`",
            );
        }
        return;
    }
    target_ports(router, &picked, findings);
    disaggregation(router, &plugins, &picked, findings);
    precise(router, &plugins, &picked, findings);
    offload(router, &plugins, &picked, checked, findings);
}

/// Checks a configuration. Out come the types of its plugins, with their parameters.
fn config(text: &str, place: &Place, findings: &mut Findings) -> Vec<(String, Value)> {
    let document: Value = match yaml::from_slice(text.as_bytes()) {
        Ok(document) => document,
        Err(reason) => {
            findings.error("router-config", place, FIELD, reason, "correct the YAML");
            return Vec::new();
        }
    };
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let text_of = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let plugins = list(&document, "plugins");
    let names: Vec<String> =
        plugins.iter().filter_map(|plugin| text_of(plugin, "name").or_else(|| text_of(plugin, "type"))).collect();
    let mut dangling = false;
    for profile in list(&document, "schedulingProfiles") {
        let called = text_of(&profile, "name").unwrap_or_default();
        let references = list(&profile, "plugins").into_iter().filter_map(|plugin| text_of(&plugin, "pluginRef"));
        for reference in references.filter(|reference| !names.contains(reference)) {
            dangling = true;
            let close = names.iter().map(|name| (strsim::osa_distance(name, &reference), name)).min();
            findings.error(
                "dangling-reference",
                place,
                FIELD,
                format!("profile `{called}` names the plugin `{reference}`, which is not declared"),
                close.map_or_else(
                    || "declare it under `plugins`".to_owned(),
                    |(_, name)| format!("declare it, or name `{name}`"),
                ),
            );
        }
    }
    match RouterConfig::load(text, &LoadOptions::default(), "configuration") {
        Ok(config) => {
            for plugin in &plugins {
                let kind = text_of(plugin, "type").unwrap_or_default();
                let name = text_of(plugin, "name").unwrap_or_else(|| kind.clone());
                if !config.plugins.contains_key(&name) {
                    findings.error(
                        "unknown-plugin",
                        place,
                        FIELD,
                        format!("llm-d's router has no plugin of type `{kind}`"),
                        "correct the type; a router that was built with it will take it",
                    );
                }
            }
            for deprecation in &config.deprecations {
                findings.warning("deprecated", place, FIELD, deprecation, "use the newer form");
            }
        }
        Err(_) if dangling => {}
        Err(Error::Malformed { place: step, reason }) => {
            let code = if reason.contains("not found")
                || reason.contains("undefined")
                || reason.contains("no default producer")
            {
                "dangling-reference"
            } else {
                "router-config"
            };
            let step = step.rsplit(": ").next().unwrap_or_default().to_owned();
            findings.error(
                code,
                place,
                FIELD,
                reason,
                format!("the router stops at `{step}`: correct the configuration"),
            );
        }
        Err(error) => findings.error("router-config", place, FIELD, error.to_string(), "correct the configuration"),
    }
    let parameters = |plugin: &Value| plugin.get("parameters").cloned().unwrap_or_default();
    plugins.iter().filter_map(|plugin| Some((text_of(plugin, "type")?, parameters(plugin)))).collect()
}

fn target_ports(router: &Router, picked: &[&Server], findings: &mut Findings) {
    let mut wanted = router.target_ports.clone().unwrap_or_else(|| vec![8000]);
    wanted.sort_unstable();
    // A folder may hold alternatives, of which one is meant.
    let meant = picked.iter().any(|server| server.entries() == wanted);
    let severity = if meant { Severity::Warning } else { Severity::Error };
    for server in picked {
        let entries = server.entries();
        if entries != wanted {
            let show = |ports: &[u64]| ports.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            findings.add(
                severity,
                "target-ports",
                &router.place,
                "router.modelServers.targetPorts",
                format!(
                    "the router sends to ports {}, and {} takes requests on {}",
                    show(&wanted),
                    server.place.object,
                    show(&entries)
                ),
                "list the ports of all data-parallel ranks, and no others",
            );
        }
    }
}

fn disaggregation(router: &Router, plugins: &[(String, Value)], picked: &[&Server], findings: &mut Findings) {
    if plugins.is_empty() {
        return;
    }
    let handles = plugins.iter().any(|(kind, _)| DISAGGREGATORS.contains(&kind.as_str()));
    let prefill = picked.iter().any(|server| server.is_prefill());
    if prefill && !handles {
        findings.error(
            "router-not-disaggregated",
            &router.place,
            FIELD,
            "there are prefill servers, and the router has no handler that sends a request to prefill and to decode",
            "add `disagg-profile-handler` with the profiles `prefill` and `decode`",
        );
    }
    if handles && !prefill && !plugins.iter().any(|(kind, _)| kind.contains("multimodal")) {
        findings.error(
            "router-not-disaggregated",
            &router.place,
            FIELD,
            "the router sends requests to prefill servers, and there are none",
            "add prefill servers, or use a configuration of one profile",
        );
    }
    if handles && let Some(replicas) = router.replicas.filter(|replicas| *replicas > 1) {
        findings.warning(
            "router-replicas",
            &router.place,
            "router.epp.replicas",
            format!(
                "{replicas} routers each see their own requests only, so prefill and decode are not balanced together"
            ),
            "use one",
        );
    }
}

fn precise(router: &Router, plugins: &[(String, Value)], picked: &[&Server], findings: &mut Findings) {
    let Some((_, parameters)) = plugins.iter().find(|(kind, _)| PRECISE.contains(&kind.as_str())) else { return };
    let at = |pointer: &str| parameters.pointer(pointer);
    let block = number(at("/tokenProcessorConfig/blockSize")).unwrap_or(PRECISE_BLOCK_TOKENS);
    for server in picked {
        let Some(args) = &server.args else { continue };
        let engine = args.block_size.map(|size| u64::from(size.get()));
        if engine.is_some_and(|engine| engine != block) {
            findings.error(
                "block-size-mismatch",
                &router.place,
                FIELD,
                format!(
                    "the router hashes blocks of {block} tokens, and {} has blocks of {}: no prefix would match",
                    server.place.object,
                    engine.unwrap_or_default()
                ),
                "give `--block-size` and `tokenProcessorConfig.blockSize` the same value",
            );
        }
        let Some(events) = &args.kv_events_config else {
            findings.error(
                "kv-events-missing",
                &server.place,
                "args",
                "the router follows the engines' KV cache, and this engine does not report it",
                "add `--kv-events-config` with `enable_kv_cache_events`",
            );
            continue;
        };
        let socket = number(at("/kvEventsConfig/podDiscoveryConfig/socketPort"));
        let endpoint = events.get("endpoint").and_then(Value::as_str).and_then(|endpoint| endpoint.rsplit_once(':'));
        let published = endpoint.and_then(|(_, port)| port.parse::<u64>().ok());
        if let (Some(socket), Some(published)) = (socket, published)
            && socket != published
        {
            findings.error(
                "kv-events-port",
                &server.place,
                "args",
                format!("the engine reports its KV cache on port {published}, and the router listens to {socket}"),
                "give both the same port",
            );
        }
    }
}

/// How many times what the host's memory holds a router may count on before it is wrong more often than right.
const OVERCOUNT_MAX: u64 = 2;

/// Blocks that the router counts on in the host's memory, against those that fit there.
fn offload(
    router: &Router,
    plugins: &[(String, Value)],
    picked: &[&Server],
    checked: &[CheckedRole],
    findings: &mut Findings,
) {
    let fixed = |parameters: &Value| {
        // With `autoTune` the router asks the engine for its own blocks.
        let blocks = number(parameters.get("lruCapacityPerServer"))
            .filter(|_| parameters.get("autoTune") == Some(&Value::Bool(false)))?;
        let tokens = number(parameters.get("blockSizeTokens")).unwrap_or(ROUTER_BLOCK_TOKENS);
        Some(blocks.saturating_mul(tokens) / ROUTER_BLOCK_TOKENS)
    };
    let producers = plugins.iter().filter(|(kind, _)| kind == crate::simulation::router::APPROXIMATE);
    let Some(counted) = producers.filter_map(|(_, parameters)| fixed(parameters)).max() else { return };
    for server in picked {
        let plan = checked.iter().find(|role| role.file == server.place.file && role.path == server.place.object);
        let Some((plan, bytes)) = plan.zip(roles::offload_bytes(server)) else { continue };
        let Some(held) = Offload::of_bytes(&plan.plan, bytes as u64).map(|offload| offload.blocks) else { continue };
        if counted > held.saturating_mul(OVERCOUNT_MAX) {
            findings.warning(
                "offload-blocks",
                &router.place,
                FIELD,
                format!(
                    "the router counts on {counted} blocks of {ROUTER_BLOCK_TOKENS} tokens in the memory of the host, and {} \
                     holds {held}",
                    server.place.object
                ),
                format!("set `lruCapacityPerServer` to {held}"),
            );
        }
    }
}
