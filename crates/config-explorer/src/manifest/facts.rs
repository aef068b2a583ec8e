//! `data/llm-d.toml`: the versions that llm-d pins and what its guides set.

use std::num::NonZeroU32;
use std::sync::LazyLock;

use serde::Deserialize;

use super::description::{Description, RouterProfile};
use super::kubernetes::{Probe, Texts};
use crate::engine::Version;

/// The table. Its fields are explained, with their source, in `data/llm-d.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table explains its fields")]
pub struct Facts {
    pub versions: Versions,
    pub images: Images,
    pub router: RouterFacts,
    pub recipes: Recipes,
    pub guides: Guides,
    pub per_gpu: PerGpu,
    pub server: ServerFacts,
    pub ports: Ports,
    pub secret: Secret,
    pub probes: ByHosts<Probes>,
    pub volumes: ByHosts<Vec<VolumeFacts>>,
    pub group_env: Texts,
    pub node_labels: Texts,
}

macro_rules! tables {
    ($($name:ident { $($field:ident: $type:ty),* })*) => {
        $(
            /// A part of the table.
            #[derive(Debug, Clone, Deserialize)]
            #[serde(deny_unknown_fields)]
            #[expect(missing_docs, reason = "the table explains its fields")]
            pub struct $name { $(pub $field: $type),* }
        )*
    };
}

tables! {
    Versions {
        gateway_api_inference_extension: String, router_chart: String, vllm: Version, modelservice_chart: String,
        leader_worker_set: String
    }
    Images {
        engine: String, engine_of_version: String, engine_env: Texts, engine_wide_ep: String, sidecar: String, tokenizer: String, benchmark: String,
        config_explorer: String
    }
    RouterFacts {
        standalone_chart: String, gateway_chart: String, config_api_version: String, sidecar_port_flag: String,
        precise_replicas: u32, requests: Texts, limits: Texts, proxy_args: Vec<String>
    }
    Guides { load_aware: Guide, disaggregated: Guide, wide_expert_parallel: Guide }
    Guide { name: String, prefix: String }
    PerGpu { cpu: Range, memory_gib: Range }
    Range { request: u32, limit: u32 }
    ServerFacts { disable_access_log_for_endpoints: String, precise_block_size: NonZeroU32 }
    Recipes { location: String, repository: String, commit: String }
    Ports {
        server: u16, behind_proxy: u16, nixl: u16, kv_events: u16, data_parallel_rpc: u16, router: u16, router_target: u16
    }
    Secret { name: String, key: String }
    Probes { startup: Probe, liveness: Probe, readiness: Probe }
}

impl Guides {
    /// The guide whose model servers are of the same kinds.
    pub fn of(&self, description: &Description) -> Option<&Guide> {
        let grouped = |grouped: bool| description.roles.iter().all(|role| (role.hosts > 1) == grouped);
        match description.router {
            RouterProfile::LoadAware if grouped(false) => Some(&self.load_aware),
            RouterProfile::Disaggregated if grouped(false) => Some(&self.disaggregated),
            RouterProfile::WideExpertParallel if grouped(true) => Some(&self.wide_expert_parallel),
            _ => None,
        }
    }
}

/// A fact of pods on one host, and of groups of hosts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table explains its fields")]
pub struct ByHosts<T> {
    pub single_host: T,
    pub group: T,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeFacts {
    /// Its name.
    pub name: String,
    /// Where it is mounted.
    pub path: String,
    /// Size, where it is in memory.
    pub memory: Option<String>,
}

impl Facts {
    /// The table of the program.
    pub fn built_in() -> &'static Self {
        static FACTS: LazyLock<Facts> =
            LazyLock::new(|| toml::from_str(include_str!("../../data/llm-d.toml")).expect("data/llm-d.toml is valid"));
        &FACTS
    }
}
