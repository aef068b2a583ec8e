//! What a deployment is: a model, its roles, and the router before them.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use serde_json::json;

use super::facts::{Facts, VolumeFacts};
use super::kubernetes::{EnvVar, Texts};
use crate::engine::{JsonObject, ServeArgs};
use crate::memory::MemoryPlan;
use crate::recommend::Demand;

/// A deployment of one model on llm-d.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Its name: the label `llm-d.ai/guide`, by which router and model servers find each other.
    pub name: String,
    /// What the names of its objects start with.
    pub name_prefix: String,
    /// Namespace it is applied to.
    pub namespace: String,
    /// Hugging Face id of the model.
    pub model: String,
    /// Labels of every object besides `llm-d.ai/guide` and `llm-d.ai/role`.
    pub labels: Texts,
    /// The service account of its pods.
    pub service_account: String,
    /// The model servers.
    pub roles: Vec<Role>,
    /// How the router picks.
    pub router: RouterProfile,
    /// Where the overlay finds llm-d's `guides/recipes`.
    pub recipes: String,
    /// The engines grow and shrink with their load.
    pub autoscaling: Option<Autoscaling>,
    /// The load that the proposal is measured with.
    pub load: Option<Load>,
    /// What is expected under it: objectives, each with its figure.
    pub expected: Vec<String>,
}

/// What the model servers of a role do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleKind {
    /// Prefill and decode.
    Both,
    /// Prefill only.
    Prefill,
    /// Decode of what others prefilled.
    Decode,
}

impl RoleKind {
    /// Value of the label `llm-d.ai/role`: who does both is a `decode`, as in the guides.
    pub fn label(self) -> &'static str {
        match self {
            Self::Both | Self::Decode => "decode",
            Self::Prefill => "prefill",
        }
    }
}

/// Equal model servers.
#[derive(Debug, Clone, PartialEq)]
pub struct Role {
    /// What they do.
    pub kind: RoleKind,
    /// How many there are.
    pub replicas: u32,
    /// Hosts of each; above 1 it is a `LeaderWorkerSet`.
    pub hosts: u32,
    /// The engine's flags.
    pub args: ServeArgs,
    /// Its environment besides what its features need.
    pub env: Vec<EnvVar>,
    /// Its image; the pinned one where none is named.
    pub image: Option<String>,
    /// Labels that its nodes must have.
    pub node_selector: Texts,
    /// What each host asks for.
    pub requests: Texts,
    /// What each host may take.
    pub limits: Texts,
    /// Volumes.
    pub volumes: Vec<VolumeFacts>,
    /// Seconds to finish requests before it is stopped.
    pub termination_grace_s: Option<u32>,
}

/// How the router picks an endpoint; each is one of the guides.
#[derive(Debug, Clone, PartialEq)]
pub enum RouterProfile {
    /// Load and approximate prefixes (optimized-baseline).
    LoadAware,
    /// Prefill and decode apart (pd-disaggregation).
    Disaggregated,
    /// Prefill and decode apart, each rank an endpoint (wide-ep-lws).
    WideExpertParallel,
    /// Prefixes on the GPU and in the host's memory (tiered-prefix-cache).
    Tiered {
        /// Blocks that the memory of a server's host holds.
        cpu_blocks: u64,
    },
    /// Prefixes as the engines report them (precise-prefix-cache-routing).
    Precise,
    /// Predicted latency (predicted-latency-routing).
    PredictedLatency {
        /// Requests carry objectives in headers.
        objectives: bool,
    },
}

/// Bounds of a `HorizontalPodAutoscaler` on the metric of llm-d's workload variant autoscaler (workload-autoscaling guide).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Autoscaling {
    /// Fewest replicas.
    pub min_replicas: u32,
    /// Most replicas.
    pub max_replicas: u32,
}

/// A load of equal requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Tokens of a prompt.
    pub input_len: u64,
    /// Tokens of an answer.
    pub output_len: u64,
    /// How they arrive.
    pub demand: Demand,
    /// Requests in all.
    pub requests: u64,
}

/// Bytes of KV cache in the memory of each server's host, and the router's blocks that they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offload {
    /// Bytes over all ranks of an engine.
    pub bytes: u64,
    /// Blocks of [`ROUTER_BLOCK_TOKENS`].
    pub blocks: u64,
}

/// Most ranks of a host, each with a port: beyond any host.
const RANKS_MAX: u32 = 1024;

/// Tokens of a block of the router's approximate prefix cache, where nothing else is given (llm-d-router ebab687,
/// `approx-prefix-cache-producer`).
pub const ROUTER_BLOCK_TOKENS: u64 = 16;

impl Offload {
    /// What holds so many tokens of this plan's model.
    pub fn of_tokens(plan: &MemoryPlan, tokens: u64) -> Option<Self> {
        Some(Self { bytes: tokens.checked_mul(engine_bytes_per_token(plan)?)?, blocks: tokens / ROUTER_BLOCK_TOKENS })
    }

    /// What so many bytes hold of it.
    pub fn of_bytes(plan: &MemoryPlan, bytes: u64) -> Option<Self> {
        let tokens = bytes.checked_div(engine_bytes_per_token(plan)?)?;
        Some(Self { bytes, blocks: tokens / ROUTER_BLOCK_TOKENS })
    }
}

/// Bytes that a token takes over the ranks that share a sequence.
fn engine_bytes_per_token(plan: &MemoryPlan) -> Option<u64> {
    let ranks = u64::from(plan.parallelism.tp) * u64::from(plan.parallelism.pp);
    plan.kv_cache.map(|kv| kv.bytes_per_token_per_gpu * ranks)
}

/// A text as far as a label may hold it: 63 characters, a letter or digit last.
fn label_value(text: &str) -> &str {
    let end = text.char_indices().nth(63).map_or(text.len(), |(end, _)| end);
    text[..end].trim_end_matches(|char: char| !char.is_ascii_alphanumeric())
}

/// JSON of an object.
fn object(value: serde_json::Value) -> Option<JsonObject> {
    match value {
        serde_json::Value::Object(map) => Some(map),
        _ => None,
    }
}

impl Role {
    /// Engines on one host each.
    pub fn new(kind: RoleKind, replicas: u32, args: ServeArgs) -> Self {
        let facts = Facts::built_in();
        let volumes = facts.volumes.single_host.clone();
        let mut role = Self {
            kind,
            replicas,
            hosts: 1,
            args,
            env: Vec::new(),
            image: None,
            node_selector: Texts::new(),
            requests: Texts::new(),
            limits: Texts::new(),
            volumes,
            termination_grace_s: None,
        };
        role.set_resource("nvidia.com/gpu", &role.gpus_per_host().to_string());
        role
    }

    /// GPUs of each host: TP x PP x DP over the hosts.
    pub fn gpus_per_host(&self) -> u32 {
        let size = |size: Option<NonZeroU32>| size.map_or(1, NonZeroU32::get);
        let args = &self.args;
        let gpus = u64::from(size(args.tensor_parallel_size))
            * u64::from(size(args.pipeline_parallel_size))
            * u64::from(size(args.data_parallel_size));
        u32::try_from(gpus.div_ceil(self.hosts.max(1).into())).unwrap_or(u32::MAX)
    }

    /// Engines, each with a port, of each host.
    pub fn ranks_per_host(&self) -> u32 {
        let local = self.args.data_parallel_size_local.unwrap_or(1);
        if self.args.data_parallel_multi_port_external_lb == Some(true) { local.clamp(1, RANKS_MAX) } else { 1 }
    }

    /// Asks for a resource, and limits it to the same.
    pub fn set_resource(&mut self, name: &str, quantity: &str) {
        self.requests.insert(name.to_owned(), quantity.to_owned());
        self.limits.insert(name.to_owned(), quantity.to_owned());
    }

    /// CPUs and memory asked for and allowed; an empty text sets nothing.
    #[must_use]
    pub fn with_host(mut self, cpu: (&str, &str), memory: (&str, &str)) -> Self {
        for (map, cpu, memory) in [(&mut self.requests, cpu.0, memory.0), (&mut self.limits, cpu.1, memory.1)] {
            for (name, quantity) in [("cpu", cpu), ("memory", memory)] {
                if !quantity.is_empty() {
                    map.insert(name.to_owned(), quantity.to_owned());
                }
            }
        }
        self
    }

    /// Spreads each engine over hosts of a group, a data-parallel rank a GPU, a port a rank.
    #[must_use]
    pub fn over_hosts(mut self, hosts: u32) -> Self {
        let facts = Facts::built_in();
        self.hosts = hosts.max(1);
        let ranks = self.args.data_parallel_size.map_or(1, NonZeroU32::get);
        self.args.data_parallel_size_local = Some(ranks / self.hosts);
        self.args.data_parallel_rpc_port = Some(facts.ports.data_parallel_rpc);
        self.args.data_parallel_multi_port_external_lb = Some(true);
        self.args.enable_expert_parallel.get_or_insert(true);
        self.image.get_or_insert_with(|| facts.images.engine_wide_ep.clone());
        self.volumes.clone_from(&facts.volumes.group);
        self.env.extend(facts.group_env.iter().map(|(name, value)| EnvVar::new(name, value)));
        self.set_resource("nvidia.com/gpu", &self.gpus_per_host().to_string());
        self
    }
}

impl Description {
    /// Engines that do both, behind a router that balances load and prefixes.
    pub fn aggregated(name: &str, model: &str, role: Role) -> Self {
        Self::new(name, model, vec![role], RouterProfile::LoadAware)
    }

    /// Prefill and decode apart, KV cache handed over with NIXL.
    pub fn disaggregated(name: &str, model: &str, mut prefill: Role, mut decode: Role) -> Self {
        let facts = Facts::built_in();
        let wide = prefill.ranks_per_host() > 1 || decode.ranks_per_host() > 1;
        for role in [&mut prefill, &mut decode] {
            let connector = json!({"kv_connector": "NixlConnector", "kv_role": "kv_both"});
            if role.args.kv_transfer_config.is_none() {
                role.args.kv_transfer_config = object(connector);
            }
            role.env.push(EnvVar::of_pod("VLLM_NIXL_SIDE_CHANNEL_HOST", "status.podIP"));
        }
        decode.args.port = Some(facts.ports.behind_proxy);
        // The proxy keeps connections for 90 s (Go's transport); a server that closes them earlier resets requests.
        prefill.env.push(EnvVar::new("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "120"));
        let router = if wide { RouterProfile::WideExpertParallel } else { RouterProfile::Disaggregated };
        Self::new(name, model, vec![decode, prefill], router)
    }

    fn new(name: &str, model: &str, roles: Vec<Role>, router: RouterProfile) -> Self {
        let facts = Facts::built_in();
        let label = |name: &str, value: &str| (format!("llm-d.ai/{name}"), value.to_owned());
        let labels = BTreeMap::from([
            label("model", label_value(model.rsplit('/').next().unwrap_or(model))),
            label("accelerator-variant", "gpu"),
            label("accelerator-vendor", "nvidia"),
        ]);
        let name_prefix = format!("{name}-nvidia-gpu-vllm-");
        let mut description = Self {
            service_account: format!("{name_prefix}sa"),
            name: name.to_owned(),
            name_prefix,
            namespace: name.to_owned(),
            model: model.to_owned(),
            labels,
            roles,
            router,
            recipes: facts.recipes.location.clone(),
            autoscaling: None,
            load: None,
            expected: Vec::new(),
        };
        for role in &mut description.roles {
            if role.ranks_per_host() > 1 {
                let port = *role.args.port.get_or_insert(facts.ports.server);
                let ranks = u16::try_from(role.ranks_per_host()).unwrap_or(u16::MAX);
                role.args.data_parallel_supervisor_port = Some(port.saturating_add(ranks));
            }
            let secret = super::render::secret();
            role.env.insert(0, secret);
        }
        description
    }

    /// Other names of objects.
    #[must_use]
    pub fn with_name_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.name_prefix);
        self.service_account = format!("{prefix}sa");
        self
    }

    /// The engines report their KV cache, and the router follows it. Block sizes agree by construction: the router's is the
    /// engine's.
    #[must_use]
    pub fn with_precise_prefixes(mut self, block_size: NonZeroU32) -> Self {
        let facts = Facts::built_in();
        let model = &self.model;
        for role in &mut self.roles {
            let port = role.args.port.unwrap_or(facts.ports.server);
            role.args.block_size = Some(block_size);
            role.args.kv_events_config = object(json!({
                "enable_kv_cache_events": true,
                "publisher": "zmq",
                "endpoint": "$(KV_EVENTS_ENDPOINT)",
                "topic": format!("kv@$(POD_IP):$(POD_PORT)@{model}"),
            }));
            role.env.extend([
                EnvVar::of_pod("NAMESPACE", "metadata.namespace"),
                EnvVar::of_pod("POD_IP", "status.podIP"),
                EnvVar::new("POD_PORT", port.to_string()),
                EnvVar::new("KV_EVENTS_ENDPOINT", format!("tcp://*:{}", facts.ports.kv_events)),
                EnvVar::new("DO_NOT_TRACK", "1"),
            ]);
        }
        self.router = RouterProfile::Precise;
        self
    }

    /// Blocks that leave the GPU are kept in the host's memory, and the router knows how many those are.
    #[must_use]
    pub fn with_offload(mut self, offload: Offload) -> Self {
        for role in &mut self.roles {
            role.args.kv_transfer_config = object(json!({
                "kv_connector": "OffloadingConnector",
                "kv_role": "kv_both",
                "kv_connector_extra_config": {"cpu_bytes_to_use": offload.bytes},
            }));
        }
        self.router = RouterProfile::Tiered { cpu_blocks: offload.blocks };
        self
    }

    /// Every label of an object, that of a role included.
    pub fn labels_of(&self, role: Option<RoleKind>) -> Texts {
        let mut labels = self.labels.clone();
        labels.insert("llm-d.ai/guide".to_owned(), self.name.clone());
        if let Some(role) = role {
            labels.insert("llm-d.ai/role".to_owned(), role.label().to_owned());
        }
        labels
    }

    /// Tokens of the engines' KV blocks, where they are given.
    pub fn block_size(&self) -> Option<u64> {
        self.roles.iter().find_map(|role| role.args.block_size).map(|size| size.get().into())
    }

    /// The longest request, where it is given.
    pub(super) fn max_model_len(&self) -> Option<u64> {
        self.roles.iter().find_map(|role| match role.args.max_model_len {
            Some(crate::engine::MaxModelLen::Tokens(tokens)) => Some(NonZeroU64::get(tokens)),
            _ => None,
        })
    }

    /// Ports on which requests reach a pod, one a rank.
    pub fn target_ports(&self) -> Vec<u16> {
        let ranks = self.roles.iter().map(Role::ranks_per_host).max().unwrap_or(1);
        let first = Facts::built_in().ports.server;
        (0..ranks).filter_map(|rank| first.checked_add(u16::try_from(rank).ok()?)).collect()
    }
}
