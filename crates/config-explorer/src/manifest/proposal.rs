//! From a recommendation to a deployment.
//!
//! In: what `recommend -o json` printed, and nothing else: the model, the engines' commands, their GPUs and the load. Out: a
//! [`Description`] of the configuration of some rank.

use std::num::NonZeroU32;

use serde::Deserialize;
use serde_json::Value;

use super::description::{Autoscaling, Description, Load, Offload, ROUTER_BLOCK_TOKENS, Role, RoleKind};
use super::facts::Facts;
use super::kubernetes::Texts;
use crate::engine::{MaxModelLen, ServeArgs, Version};
use crate::hardware::{Accelerator, Accelerators, Vendor};
use crate::recommend::Demand;
use crate::units::GIB;
use crate::{Error, Result};

/// Schema of the answers that are read.
const SCHEMA: &str = "config-explorer/recommend/v1";
/// Longest name of a deployment. A pod's name, with the role, the index in its group and a hash behind it, may have 63
/// characters (RFC 1123).
const NAME_LENGTH_MAX: usize = 24;
/// Requests of a measurement for each user, and seconds of one at a rate: beyond what warming up hides.
const REQUESTS_PER_USER: f64 = 10.0;
const RATE_DURATION_S: f64 = 300.0;

/// What `recommend` answered.
#[derive(Debug, Clone, Deserialize)]
pub struct Proposals {
    engine_version: Version,
    load: Option<AnsweredLoad>,
    recommendations: Vec<Proposal>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct AnsweredLoad {
    input_tokens: f64,
    output_tokens: f64,
    rate_per_s: Option<f64>,
    users: Option<f64>,
}

#[derive(Debug, Clone, Deserialize)]
struct Proposal {
    rank: usize,
    roles: Vec<ProposedRole>,
    #[serde(default)]
    margin: Vec<Expected>,
}

#[derive(Debug, Clone, Deserialize)]
struct Expected {
    objective: String,
    predicted: Option<f64>,
}

#[derive(Debug, Clone, Deserialize)]
struct ProposedRole {
    role: ProposedKind,
    model: String,
    gpu: String,
    gpus_per_node: NonZeroU32,
    replicas: u32,
    kv_bytes_per_token_per_gpu: Option<u64>,
    command: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ProposedKind {
    Both,
    Prefill,
    Decode,
}

impl From<ProposedKind> for RoleKind {
    fn from(kind: ProposedKind) -> Self {
        match kind {
            ProposedKind::Both => Self::Both,
            ProposedKind::Prefill => Self::Prefill,
            ProposedKind::Decode => Self::Decode,
        }
    }
}

/// How the router knows which prefixes an engine holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PrefixCache {
    /// By what it sent where.
    Approximate,
    /// By what the engines report.
    Precise,
    /// By what it sent where, on the GPU and in so many GiB of each host's memory.
    Tiered {
        /// GiB over all ranks of an engine.
        offload_gib: f64,
    },
}

/// What a recommendation leaves open.
#[derive(Debug, Clone)]
pub struct ProposalOptions {
    /// Name of the deployment; by default the model's.
    pub name: Option<String>,
    /// Its namespace; by default its name.
    pub namespace: Option<String>,
    /// How prefixes are followed.
    pub prefix_cache: PrefixCache,
    /// Bounds of the replicas of each role.
    pub autoscaling: Option<Autoscaling>,
    /// What each pod asks for besides, such as `rdma/ib`.
    pub resources: Texts,
    /// Labels that the nodes must have.
    pub node_selector: Texts,
}

impl Default for ProposalOptions {
    fn default() -> Self {
        Self {
            name: None,
            namespace: None,
            prefix_cache: PrefixCache::Approximate,
            autoscaling: None,
            resources: Texts::new(),
            node_selector: Texts::new(),
        }
    }
}

fn invalid(setting: &str, reason: impl Into<String>) -> Error {
    Error::InvalidSetting { setting: setting.to_owned(), reason: reason.into() }
}

impl Proposals {
    /// Reads an answer of `recommend`. `place` names it in errors.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything else.
    pub fn read(answer: Value, place: &str) -> Result<Self> {
        let malformed = |reason: String| Error::Malformed { place: place.to_owned(), reason };
        match answer.get("schema").and_then(Value::as_str) {
            Some(SCHEMA) => serde_json::from_value(answer).map_err(|error| malformed(error.to_string())),
            other => {
                let found = other.map_or_else(|| "no schema".to_owned(), |schema| format!("`{schema}`"));
                Err(malformed(format!("it has {found}, and is not what `recommend -o json` prints ({SCHEMA})")))
            }
        }
    }

    /// Whether anything was recommended.
    pub fn is_empty(&self) -> bool {
        self.recommendations.is_empty()
    }

    /// The deployment of a rank, from 1.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for a rank that is not there, a name that Kubernetes does not take, options that exclude
    /// each other, and configurations that are not written: one that the files of this module cannot express says which.
    pub fn describe(&self, rank: usize, options: &ProposalOptions, accelerators: &Accelerators) -> Result<Description> {
        let proposal = self.recommendations.iter().find(|proposal| proposal.rank == rank).ok_or_else(|| {
            let count = self.recommendations.len();
            invalid("--rank", format!("there is no rank {rank}: the answer has {count} recommendations"))
        })?;
        let first = proposal.roles.first().ok_or_else(|| invalid("roles", "the recommendation has no engine"))?;
        let model = hub_id(&first.model)?;
        let name = match &options.name {
            Some(name) if name.starts_with(|char: char| char.is_ascii_digit()) => {
                return Err(invalid("--name", "a service is called so: begin with a letter"));
            }
            Some(name) => checked_name("--name", name, NAME_LENGTH_MAX)?.to_owned(),
            None => name_of(model),
        };
        let mixed = proposal.roles.iter().any(|role| role.gpu != first.gpu);
        let mut roles = Vec::new();
        for proposed in &proposal.roles {
            let accelerator = accelerators.find(&proposed.gpu).ok();
            roles.push(self.role(proposed, accelerator, mixed, options)?);
        }
        let mut description = match <[Role; 2]>::try_from(roles) {
            Ok([one, other]) => pools(&name, model, one, other)?,
            Err(mut roles) => match (roles.pop(), roles.pop()) {
                (Some(role), None) if role.kind == RoleKind::Both => Description::aggregated(&name, model, role),
                _ => return Err(invalid("roles", "neither one kind of engine nor a prefill and a decode pool")),
            },
        };
        if let Some(namespace) = &options.namespace {
            checked_name("--namespace", namespace, 63)?.clone_into(&mut description.namespace);
        }
        description.autoscaling = options.autoscaling;
        description.load = self.load.and_then(load);
        let figure =
            |expected: &Expected| Some(format!("{}: {:.1} predicted", expected.objective, expected.predicted?));
        description.expected = proposal.margin.iter().filter_map(figure).collect();
        with_prefix_cache(description, first, options.prefix_cache)
    }

    fn role(
        &self,
        proposed: &ProposedRole,
        accelerator: Option<&Accelerator>,
        mixed: bool,
        options: &ProposalOptions,
    ) -> Result<Role> {
        let facts = Facts::built_in();
        if accelerator.is_some_and(|accelerator| accelerator.vendor != Vendor::Nvidia) {
            return Err(invalid("--deploy", format!("files for {} are not written: only for NVIDIA's", proposed.gpu)));
        }
        let mut args = ServeArgs::parse_shell(&proposed.command)?;
        // The guides' flags are those of the version that they pin; which older ones have them was not looked up.
        let older = self.engine_version < facts.versions.vllm;
        if !older {
            let quiet = &mut args.disable_access_log_for_endpoints;
            quiet.get_or_insert_with(|| facts.server.disable_access_log_for_endpoints.clone());
        }
        let size = |size: Option<NonZeroU32>| size.map_or(1, NonZeroU32::get);
        let ranks = size(args.tensor_parallel_size).saturating_mul(size(args.pipeline_parallel_size));
        let engines = size(args.data_parallel_size);
        let hosts = ranks.saturating_mul(engines).div_ceil(proposed.gpus_per_node.get());
        if hosts > 1 && (ranks > proposed.gpus_per_node.get() || !engines.is_multiple_of(hosts)) {
            return Err(invalid(
                "--deploy",
                format!(
                    "{engines} data-parallel ranks of {ranks} GPUs are not written over {hosts} hosts of {}: a rank has to \
                     stand in one host, and each host needs as many",
                    proposed.gpus_per_node
                ),
            ));
        }
        if hosts > 1 && older {
            let reason = format!("groups of hosts are written for vLLM {} and newer", facts.versions.vllm);
            return Err(invalid("--engine", reason));
        }
        if hosts > 1 {
            // What is not asked for is not turned on: a model without experts would not start.
            args.enable_expert_parallel.get_or_insert(false);
        }
        let mut role = Role::new(proposed.role.into(), proposed.replicas, args);
        if self.engine_version != facts.versions.vllm {
            role.image = Some(format!("{}:v{}", facts.images.engine_of_version, self.engine_version));
        }
        if hosts > 1 {
            role = role.over_hosts(hosts);
        }
        let gpus = role.gpus_per_host();
        let offload_gib = match options.prefix_cache {
            PrefixCache::Tiered { offload_gib } => offload_gib.ceil() as u32,
            _ => 0,
        };
        let each = |of_gpu: u32| of_gpu.saturating_mul(gpus);
        let memory = |of_gpu: u32| format!("{}Gi", each(of_gpu).saturating_add(offload_gib));
        let (cpu, memory_gib) = (&facts.per_gpu.cpu, &facts.per_gpu.memory_gib);
        let mut role = role.with_host(
            (&each(cpu.request).to_string(), &each(cpu.limit).to_string()),
            (&memory(memory_gib.request), &memory(memory_gib.limit)),
        );
        for (name, quantity) in &options.resources {
            role.set_resource(name, quantity);
        }
        role.node_selector.clone_from(&options.node_selector);
        if mixed {
            let product = accelerator.and_then(product).ok_or_else(|| {
                let reason = "prefill and decode are on different GPUs, and the label of their nodes is not known";
                invalid("--deploy", format!("{reason}: name {} in a file of `--accelerators`", proposed.gpu))
            })?;
            role.node_selector.extend(facts.node_labels.get("nvidia").map(|label| (label.clone(), product.to_owned())));
        }
        Ok(role)
    }
}

/// The label that NVIDIA's GPU feature discovery gives a node: the name of the device with dashes.
fn product(accelerator: &Accelerator) -> Option<&str> {
    accelerator.aliases.iter().map(String::as_str).find(|alias| alias.starts_with("NVIDIA-"))
}

/// A prefill and a decode pool.
fn pools(name: &str, model: &str, one: Role, other: Role) -> Result<Description> {
    let (mut prefill, mut decode) = match (one.kind, other.kind) {
        (RoleKind::Prefill, RoleKind::Decode) => (one, other),
        (RoleKind::Decode, RoleKind::Prefill) => (other, one),
        _ => return Err(invalid("roles", "two kinds of engines are not a prefill and a decode pool")),
    };
    if prefill.ranks_per_host() != decode.ranks_per_host() {
        return Err(invalid(
            "--deploy",
            format!(
                "prefill pods listen on {} ports and decode pods on {}, and a pool has one list of ports: use another rank",
                prefill.ranks_per_host(),
                decode.ranks_per_host()
            ),
        ));
    }
    let length = |role: &Role| match role.args.max_model_len {
        Some(MaxModelLen::Tokens(tokens)) => Some(tokens),
        _ => None,
    };
    // A request that one of the pools refuses is lost: both take the length of the shorter.
    let shortest = [&prefill, &decode].into_iter().filter_map(length).min();
    for role in [&mut prefill, &mut decode] {
        role.args.max_model_len = shortest.map(MaxModelLen::Tokens).or(role.args.max_model_len);
        // vLLM turns it off where there is a connector; the plan, and the guide, have it on.
        role.args.disable_hybrid_kv_cache_manager.get_or_insert(false);
    }
    Ok(Description::disaggregated(name, model, prefill, decode))
}

fn with_prefix_cache(description: Description, first: &ProposedRole, cache: PrefixCache) -> Result<Description> {
    if cache == PrefixCache::Approximate {
        return Ok(description);
    }
    if description.roles.len() > 1 || description.roles.iter().any(|role| role.hosts > 1) {
        let reason = "precise and tiered prefix caches are written for engines on one host that do both";
        return Err(invalid("--prefix-cache", reason));
    }
    let PrefixCache::Tiered { offload_gib } = cache else {
        let block_size = description.block_size().and_then(|size| u32::try_from(size).ok()).and_then(NonZeroU32::new);
        return Ok(description.with_precise_prefixes(block_size.unwrap_or(Facts::built_in().server.precise_block_size)));
    };
    let args = description.roles.first().map(|role| &role.args);
    let size = |size: Option<NonZeroU32>| size.map_or(1, |size| u64::from(size.get()));
    let ranks = args.map_or(1, |args| size(args.tensor_parallel_size) * size(args.pipeline_parallel_size));
    let bytes_per_token = first.kv_bytes_per_token_per_gpu.and_then(|bytes| bytes.checked_mul(ranks));
    let bytes = (offload_gib * GIB) as u64;
    let tokens = bytes_per_token.and_then(|per_token| bytes.checked_div(per_token));
    let tokens = tokens.filter(|tokens| *tokens > 0).ok_or_else(|| {
        invalid("--prefix-cache", format!("{offload_gib} GiB hold no token of this model's KV cache"))
    })?;
    Ok(description.with_offload(Offload { bytes, blocks: tokens / ROUTER_BLOCK_TOKENS }))
}

/// The load to measure with; `None` if it is none.
fn load(answered: AnsweredLoad) -> Option<Load> {
    let (demand, requests) = match (answered.rate_per_s, answered.users) {
        (Some(rate), _) if rate > 0.0 => (Demand::Rate(rate), rate * RATE_DURATION_S),
        (None, Some(users)) if users > 0.0 => (Demand::Users(users), users * REQUESTS_PER_USER),
        _ => return None,
    };
    let tokens = |mean: f64| mean.round() as u64;
    Some(Load {
        input_len: tokens(answered.input_tokens),
        output_len: tokens(answered.output_tokens),
        demand,
        requests: requests.ceil() as u64,
    })
}

/// The id of a repository on the hub: pods have no other place to load from.
fn hub_id(model: &str) -> Result<&str> {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
    let part = |part: &str| part.starts_with(|char: char| char.is_ascii_alphanumeric()) && part.chars().all(is_plain);
    if model.split('/').count() <= 2 && model.split('/').all(part) {
        return Ok(model);
    }
    let reason = "pods load the model from the hub, and this is a path: recommend with its Hugging Face id";
    Err(invalid(model, reason))
}

/// A name after a model, as Kubernetes takes it.
fn name_of(model: &str) -> String {
    let last = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    let plain: String = last.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).collect();
    // A service is called so, which begins with a letter (RFC 1035).
    let letter = if plain.starts_with(|char: char| char.is_ascii_digit()) { "m" } else { "" };
    let cut: String = letter.chars().chain(plain.chars()).take(NAME_LENGTH_MAX).collect();
    cut.trim_matches('-').to_owned()
}

/// A name that Kubernetes takes (RFC 1123).
fn checked_name<'a>(setting: &str, name: &'a str, longest: usize) -> Result<&'a str> {
    let is_end = |char: Option<char>| char.is_some_and(|char| char.is_ascii_lowercase() || char.is_ascii_digit());
    let fits = name.chars().all(|char| is_end(Some(char)) || char == '-');
    if fits && is_end(name.chars().next()) && is_end(name.chars().next_back()) && name.len() <= longest {
        return Ok(name);
    }
    let reason =
        format!("`{name}` is not 1 to {longest} lower-case letters, digits and dashes, with no dash at an end");
    Err(invalid(setting, reason))
}
