//! What the versions of the report have in common.

use serde::Deserialize;
use serde_json::Value;

use crate::reports::formats::blocks::LatencyBlocks;
use crate::reports::lenient::{List, Map, Number, Text, TimeUnit};
use crate::reports::write::{COMMAND, UNKNOWN};
use crate::reports::{ItlDefinition, Router, RouterPlugin, Run, TpotDefinition};

/// Why a report without its measurements is refused.
pub(super) const MISSING_METRICS: &str = "has no measurements (`metrics` or `results`); it may be cut off";

/// `parallelism` of an accelerator; what is left out is 1.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Parallelism {
    tp: Number,
    pp: Number,
    dp: Number,
    ep: Number,
}

/// Accelerators of a replica.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Accelerator {
    pub(super) model: Text,
    pub(super) count: Number,
    pub(super) parallelism: Option<Map<Parallelism>>,
}

/// Engines of one kind, as a report lists them.
#[derive(Debug, Default)]
pub(super) struct Engines {
    pub(super) replicas: u64,
    pub(super) accelerators_per_replica: Option<u64>,
    pub(super) parallelism: Option<Parallelism>,
}

impl Engines {
    /// Adds these engines to the role and their accelerators to `gpus`.
    ///
    /// The parallelism decides the number of accelerators: v0.1 importers fill `count` with those of one node.
    pub(super) fn add_to(&self, run: &mut Run, name: &str, gpus: &mut Option<u64>) {
        // No engine has a size of 0: it stands for what is not known.
        let parallelism = self.parallelism.as_ref().filter(|sizes| sizes.tp.count() != Some(0)).map(|parallelism| {
            let or_one = |number: Number| number.count().filter(|&size| size > 0).unwrap_or(1);
            let Parallelism { tp, pp, dp, ep } = parallelism;
            [or_one(*tp), or_one(*pp), or_one(*dp), or_one(*ep)]
        });
        let count = self.accelerators_per_replica.filter(|&count| count > 0);
        let product = parallelism.and_then(|[tp, pp, dp, _]| tp.checked_mul(pp)?.checked_mul(dp));
        let per_replica = product.or(count);
        if let (Some(product), Some(count)) = (product, count)
            && product != count
        {
            run.warn(
                "accelerators",
                format!("{name}: tp x pp x dp is {product}, the report counts {count} accelerators a replica; {product} is used"),
            );
        }
        let total = per_replica.and_then(|per_replica| per_replica.checked_mul(self.replicas));
        *gpus = gpus.zip(total).and_then(|(gpus, total)| gpus.checked_add(total));

        let roles = &mut run.server.roles;
        let role = match name {
            "prefill" => &mut roles.prefill,
            "decode" => &mut roles.decode,
            _ => &mut roles.both,
        };
        let first = role.is_none();
        let role = role.get_or_insert_default();
        role.replicas = Some(role.replicas.unwrap_or(0).saturating_add(self.replicas));
        let [tp, pp, dp, ep] = parallelism.map_or([None; 4], |sizes| sizes.map(Some));
        if first {
            (role.tp, role.pp, role.dp, role.ep) = (tp, pp, dp, ep);
        } else if (role.tp, role.pp, role.dp, role.ep) != (tp, pp, dp, ep) {
            run.warn("mixed_roles", format!("{name}: replicas differ in their parallelism; the first one's is shown"));
        }
    }
}

/// Engine arguments as one line. Flags without a value are `null` or `true`; [`COMMAND`] is such a line.
pub(super) fn flags(arguments: &serde_json::Map<String, Value>) -> Option<String> {
    let words = arguments.iter().map(|(name, value)| match value {
        Value::String(line) if name == COMMAND => line.clone(),
        Value::Null | Value::Bool(true) => name.clone(),
        Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    });
    Some(words.collect::<Vec<_>>().join(" ")).filter(|line| !line.is_empty())
}

/// A text, unless it says that it is not known.
pub(super) fn known(text: Option<String>) -> Option<String> {
    text.filter(|text| text != UNKNOWN)
}

/// Sets the engine from its name and version, either of which may be a container image.
pub(super) fn set_engine(run: &mut Run, name: Option<String>, version: Option<String>) {
    let (name, version) = (known(name), known(version));
    let is_image = |text: &String| text.contains('/');
    for text in [&name, &version].into_iter().flatten().filter(|text| is_image(text)) {
        run.server.image = Some(text.clone());
    }
    run.server.engine = name.filter(|name| !is_image(name));
    run.server.engine_version = version.filter(|version| !is_image(version));
}

/// `EndpointPickerConfig` of llm-d's router.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct EndpointPickerConfig {
    plugins: List<Map<Plugin>>,
    scheduling_profiles: List<Map<Profile>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Plugin {
    r#type: Text,
    name: Text,
    parameters: Map<serde_json::Map<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Profile {
    name: Text,
    plugins: List<Map<PluginReference>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PluginReference {
    plugin_ref: Text,
    weight: Number,
}

impl EndpointPickerConfig {
    /// The router; none where nothing is configured.
    pub(super) fn router(self) -> Option<Router> {
        let known = |reference: &str, plugin: &Plugin| {
            plugin.name.0.as_deref().or(plugin.r#type.0.as_deref()) == Some(reference)
        };
        let mut plugins = Vec::new();
        let mut used = vec![false; self.plugins.len()];
        for (index, profile) in self.scheduling_profiles.iter().enumerate() {
            let profile_name = profile.name.0.clone().unwrap_or_else(|| format!("profile-{index}"));
            for reference in profile.plugins.iter() {
                let Some(name) = &reference.plugin_ref.0 else { continue };
                let at = self.plugins.iter().position(|plugin| known(name, plugin));
                let plugin = at.map(|at| {
                    used[at] = true;
                    &*self.plugins[at]
                });
                plugins.push(RouterPlugin {
                    kind: plugin.and_then(|plugin| plugin.r#type.0.clone()).unwrap_or_else(|| name.clone()),
                    profile: Some(profile_name.clone()),
                    weight: reference.weight.finite(),
                    parameters: plugin.map(|plugin| plugin.parameters.0.clone()).unwrap_or_default(),
                });
            }
        }
        for (plugin, _) in self.plugins.0.into_iter().zip(used).filter(|(_, used)| !used) {
            let Map(Plugin { r#type: Text(Some(kind)), parameters: Map(parameters), .. }) = plugin else { continue };
            plugins.push(RouterPlugin { kind, profile: None, weight: None, parameters });
        }
        Some(Router { plugins }).filter(|router| !router.plugins.is_empty())
    }
}

/// Sets the latencies, with what the load generator means by them.
pub(super) fn set_latencies(blocks: &LatencyBlocks, run: &mut Run) {
    blocks.set(TimeUnit::Milliseconds, run);
    let (tpot_definition, itl_definition) = match run.load_generator.as_deref() {
        Some("vllm-benchmark" | "inferencemax" | "sglang") => {
            (TpotDefinition::WithoutFirstToken, ItlDefinition::PerChunk)
        }
        Some("guidellm") => (TpotDefinition::WithFirstToken, ItlDefinition::PerToken),
        Some("inference-perf") => (TpotDefinition::PerChunk, ItlDefinition::PerChunk),
        Some("aiperf") => (TpotDefinition::WithoutFirstToken, ItlDefinition::PerToken),
        _ => (TpotDefinition::Unknown, ItlDefinition::Unknown),
    };
    run.latency.define(tpot_definition, itl_definition);
}
