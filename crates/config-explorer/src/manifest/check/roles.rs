//! Rules on engines: each by itself, and prefill with decode.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::server::{Server, number};
use super::{CheckedRole, Context, Findings, Models, flags};
use crate::Error;
use crate::deployment::{Nodes, Parallelism};
use crate::engine::{EngineRules, EngineSettings, JsonObject, ServeArgs};
use crate::hardware::Accelerator;
use crate::memory::{self, PlanRequest};
use crate::model::Model;
use crate::serving::Engine;
use crate::units::GIB;

/// Environment by which vLLM takes lengths beyond the model's (vLLM `config/model.py`).
const LONG_LENGTHS: &str = "VLLM_ALLOW_LONG_MAX_MODEL_LEN";

/// An engine that was planned.
pub(super) struct Planned {
    pub(super) role: CheckedRole,
    /// It under the load that was given, or why it cannot be predicted.
    pub(super) engine: Option<std::result::Result<Engine, String>>,
}

/// Checks an engine, and plans it where its model and accelerator are known.
pub(super) fn check(
    server: &Server,
    context: &Context<'_>,
    models: &Models<'_>,
    findings: &mut Findings,
) -> Option<Planned> {
    let args = server.args.as_ref()?;
    flags::check(server, args, context.engine.or_else(|| server.version()), findings);
    ports(server, findings);
    let accelerator = accelerator(server, context, findings);
    let gpus_right = gpus(server, args, accelerator, context, findings);
    offload(server, findings);
    plan(server, args, accelerator, gpus_right, context, models, findings)
}

fn ports(server: &Server, findings: &mut Findings) {
    let Some(args) = &server.args else { return };
    let mut listens: BTreeSet<u64> = server.listens().into_iter().collect();
    if let (Some(proxy), Some(first)) = (server.proxy, listens.first().copied()) {
        if let Some(target) = proxy.target.filter(|target| *target != first) {
            findings.error(
                "port-mismatch",
                &server.place,
                "initContainers",
                format!("the routing proxy sends to port {target}, and the engine listens on {first}"),
                format!("start the engine with `--port {target}`, or point the proxy at {first}"),
            );
        }
        if listens.contains(&proxy.port) {
            findings.error(
                "port-mismatch",
                &server.place,
                "args",
                format!("the routing proxy and the engine of a pod both listen on port {}", proxy.port),
                "give the engine another `--port`, such as 8200",
            );
        }
    }
    listens.extend(args.data_parallel_supervisor_port.map(u64::from));
    // What asks the proxy is answered by the engine behind it.
    listens.extend(server.proxy.map(|proxy| proxy.port));
    for (probe, port) in &server.probes {
        let asked = match port.as_str() {
            Some(name) if name.parse::<u64>().is_err() => server.ports.get(name).copied(),
            _ => number(Some(port)),
        };
        match asked {
            None => findings.error(
                "port-mismatch",
                &server.place,
                probe,
                format!("it asks port {port}, which the container does not name"),
                "name the port in the container's `ports`",
            ),
            Some(asked) if !listens.contains(&asked) => {
                let listens: Vec<_> = listens.iter().map(u64::to_string).collect();
                findings.error(
                    "port-mismatch",
                    &server.place,
                    probe,
                    format!("it asks port {asked}, and the engine listens on {}", listens.join(", ")),
                    "give `--port`, the container's port and the probe the same number",
                );
            }
            Some(_) => {}
        }
    }
}

/// The accelerator that the engine gets; `None` if it is not known, or is none of ours.
fn accelerator<'a>(server: &Server, context: &Context<'a>, findings: &mut Findings) -> Option<&'a Accelerator> {
    if !server.bare && server.vendor.is_none() && server.gpus.is_none() {
        return None;
    }
    let selected = server.node_product.as_deref().and_then(|product| context.accelerators.find(product).ok());
    let accelerator = context.accelerator.or(selected)?;
    if server.vendor.is_some_and(|vendor| vendor != accelerator.vendor) {
        let message = format!("the pods ask for other GPUs than {}: memory was not checked", accelerator.name);
        findings.note("memory-not-checked", &server.place, "resources", message, "check with `--gpu` of their kind");
        return None;
    }
    Some(accelerator)
}

/// GPUs that each pod needs against those it asks for. False where they do not agree.
fn gpus(
    server: &Server,
    args: &ServeArgs,
    accelerator: Option<&Accelerator>,
    context: &Context<'_>,
    findings: &mut Findings,
) -> bool {
    let ranks = Server::ranks_per_engine(args);
    let data = args.data_parallel_size.map_or(1, |size| u64::from(size.get()));
    if let Some(local) = args.data_parallel_size_local.map(u64::from).filter(|local| *local > 0)
        && server.hosts > 1
        && local.saturating_mul(server.hosts) != data
    {
        findings.error(
            "invalid-parallelism",
            &server.place,
            "args",
            format!("{} hosts of {local} data-parallel ranks are not the {data} of --data-parallel-size", server.hosts),
            "make the size of the group times --data-parallel-size-local the same as --data-parallel-size",
        );
        return false;
    }
    let all = ranks.saturating_mul(data);
    let needed = args.data_parallel_size_local.map(u64::from).filter(|local| *local > 0).map_or_else(
        || all.div_ceil(server.hosts * args.nnodes.map_or(1, |nodes| u64::from(nodes.get()))),
        |local| ranks.saturating_mul(local),
    );
    let Some(given) = server.gpus else { return true };
    if given < needed {
        findings.error(
            "gpu-count",
            &server.place,
            "resources.limits",
            format!("the engine needs {needed} GPUs in each pod (TP x PP x DP), and the pod gets {given}"),
            format!("ask for {needed} GPUs, or give smaller parallel sizes"),
        );
        return false;
    }
    if given > needed {
        findings.warning(
            "gpu-count",
            &server.place,
            "resources.limits",
            format!("the engine uses {needed} of the {given} GPUs of each pod (TP x PP x DP)"),
            format!("ask for {needed} GPUs, or give larger parallel sizes"),
        );
    }
    let per_node = context.gpus_per_node.or(accelerator.map(|accelerator| accelerator.gpus_per_node));
    if let Some(per_node) = per_node.map(u64::from).filter(|per_node| given > *per_node) {
        findings.error(
            "node-too-small",
            &server.place,
            "resources.limits",
            format!("a pod asks for {given} GPUs, and a node has {per_node}"),
            "spread the engine over a group of hosts (LeaderWorkerSet), or name `--gpus-per-node`",
        );
        return false;
    }
    true
}

fn object_at<'a>(config: &'a JsonObject, key: &str) -> Option<&'a Value> {
    config.get(key).or_else(|| config.get("kv_connector_extra_config")?.get(key))
}

/// Bytes of KV cache that the engine keeps in the memory of its host.
pub(super) fn offload_bytes(server: &Server) -> Option<f64> {
    let args = server.args.as_ref()?;
    let config = args.kv_transfer_config.as_ref();
    let given = config.and_then(|config| object_at(config, "cpu_bytes_to_use")).and_then(Value::as_f64);
    let flag = args.kv_offloading_size.map(|gib| gib * GIB);
    // LMCache: GiB for each worker.
    let is_lmcache =
        config.and_then(|config| config.get("kv_connector")?.as_str()).is_some_and(|name| name.contains("LMCache"));
    let lmcache = || {
        let gib: f64 = server.env.get("LMCACHE_MAX_LOCAL_CPU_SIZE").filter(|_| is_lmcache)?.parse().ok()?;
        Some(gib * GIB * Server::ranks_per_engine(args) as f64)
    };
    given.or(flag).or_else(lmcache)
}

fn offload(server: &Server, findings: &mut Findings) {
    let Some(bytes) = offload_bytes(server) else { return };
    if let Some(limit) = server.memory_limit_bytes.filter(|limit| bytes > *limit) {
        findings.error(
            "offload-size",
            &server.place,
            "resources.limits.memory",
            format!(
                "{:.0} GiB of KV cache are kept in the host's memory, and the pod gets {:.0} GiB",
                bytes / GIB,
                limit / GIB
            ),
            "raise the pod's memory limit, or offload less",
        );
    }
}

/// The length that overridden rotary embeddings reach (`rope_scaling` of `--hf-overrides`).
fn overridden_length(args: &ServeArgs) -> Option<u64> {
    let overrides = args.hf_overrides.as_ref()?;
    if let Some(length) = overrides.get("max_position_embeddings").and_then(Value::as_u64) {
        return Some(length);
    }
    let scaling = ["rope_scaling", "rope_parameters"].iter().find_map(|key| overrides.get(*key))?;
    let figure = |key: &str| scaling.get(key).and_then(Value::as_f64);
    let length = figure("factor")? * figure("original_max_position_embeddings")?;
    (length.is_finite() && length >= 1.0).then_some(length as u64)
}

fn plan(
    server: &Server,
    args: &ServeArgs,
    accelerator: Option<&Accelerator>,
    gpus_right: bool,
    context: &Context<'_>,
    models: &Models<'_>,
    findings: &mut Findings,
) -> Option<Planned> {
    let place = &server.place;
    let parallelism = match Parallelism::from_args(args) {
        Ok(parallelism) => parallelism,
        Err(error) => {
            findings.error("invalid-parallelism", place, "args", error.to_string(), "give sizes that go together");
            return None;
        }
    };
    let mut unchecked = |reason: String, fix: &str| {
        findings.note("memory-not-checked", place, "", reason, fix);
        None
    };
    if args.mm_encoder_only == Some(true) {
        return unchecked("the engine holds the encoder only, which is not planned".to_owned(), "");
    }
    let Some(accelerator) = accelerator else {
        if server.other_devices || !server.bare && server.gpus.is_none() {
            return unchecked("it does not run on GPUs that are known here: memory was not planned".to_owned(), "");
        }
        if server.vendor.is_some() && context.accelerator.is_some() {
            return None;
        }
        return unchecked("no accelerator is known: memory was not planned".to_owned(), "name it with `--gpu`");
    };
    let Some(id) = args.model.as_deref() else {
        return unchecked("the command names no model: memory was not planned".to_owned(), "name the model");
    };
    let found = models.get(id);
    let model = match &*found {
        Ok(model) => model,
        Err(reason) => return unchecked(format!("{reason}: memory was not planned"), ""),
    };
    let model = long_enough(model, server, args);
    let version = context.engine.or_else(|| server.version());
    let rules = version.map_or_else(|| Ok(EngineRules::of_default_version()), EngineRules::of);
    let total_gib = context.gpu_memory_gib.unwrap_or(accelerator.memory_gib);
    let settings = rules.and_then(|rules| {
        let settings = EngineSettings::resolve(args, &rules, &model.architecture, total_gib, &accelerator.name)?;
        Ok((rules, settings))
    });
    let (rules, settings) = match settings {
        Ok(resolved) => resolved,
        Err(error) => {
            let length = matches!(&error, Error::InvalidSetting { setting, .. } if setting == "--max-model-len");
            let code = if length { "max-model-len" } else { "invalid-flag" };
            let fix =
                if length { "give a shorter length, or scale the rotary embeddings" } else { "correct the value" };
            findings.error(code, place, "args", error.to_string(), fix);
            return None;
        }
    };
    let per_node = context.gpus_per_node.unwrap_or(accelerator.gpus_per_node);
    let request = PlanRequest {
        model: &model,
        accelerator,
        total_gib,
        rules: &rules,
        settings,
        parallelism,
        nodes: Nodes { count: None, gpus_per_node: per_node },
        concurrency: None,
    };
    let mut plan = memory::plan(&request);
    if let Some(reason) = plan.reason.clone().filter(|_| gpus_right) {
        if let Some(unknown) = &model.architecture.not_modelled {
            findings.note("memory-not-checked", place, "", unknown, "");
        } else if plan.memory_per_gpu.is_none() {
            findings.error("invalid-parallelism", place, "args", reason, "give sizes that the model can be split into");
        } else {
            plan.suggestions = memory::suggest(&request, &plan);
            let fix: Vec<_> = plan.suggestions.iter().map(|suggestion| suggestion.change.as_str()).collect();
            let fix = if fix.is_empty() { "more or larger GPUs".to_owned() } else { fix.join(", or ") };
            findings.error("does-not-fit", place, "", format!("on {}: {reason}", accelerator.name), fix);
        }
    }
    let (file, path) = (place.file.clone(), place.object.clone());
    let engine = context.goal.as_ref().filter(|_| plan.fits).and_then(|goal| {
        let limit = request.settings.max_model_len.or(model.architecture.max_position_embeddings);
        let tokens = goal.traffic.input_tokens + goal.traffic.output_tokens;
        match limit.filter(|limit| tokens > *limit as f64) {
            Some(limit) => {
                let message =
                    format!("requests of {tokens} tokens with their output are refused: at most {limit} are taken");
                findings.error("objective-missed", place, "args", message, "raise `--max-model-len`");
                None
            }
            None => Some(Engine::new(&request, &goal.traffic).map_err(|error| error.to_string())),
        }
    });
    let role =
        CheckedRole { file, path, role: server.role.clone(), replicas: server.replicas, replicas_max: None, plan };
    Some(Planned { role, engine })
}

/// The model with the length that the command allows it.
fn long_enough(model: &Model, server: &Server, args: &ServeArgs) -> Model {
    let mut model = model.clone();
    let allowed = server.env.get(LONG_LENGTHS).is_some_and(|value| value == "1");
    if allowed {
        model.architecture.max_position_embeddings = None;
    } else if let Some(length) = overridden_length(args) {
        model.architecture.max_position_embeddings = Some(length);
    }
    model
}

fn connector(server: &Server) -> Option<String> {
    let config = server.args.as_ref()?.kv_transfer_config.as_ref()?;
    Some(config.get("kv_connector").and_then(Value::as_str).unwrap_or_default().to_owned())
}

/// Rules between the roles of a deployment: servers of the same file with the same `llm-d.ai/guide`.
pub(super) fn together(servers: &[Server], findings: &mut Findings) {
    let mut groups: BTreeMap<(&str, Option<&String>), Vec<&Server>> = BTreeMap::new();
    for server in servers {
        groups.entry((&server.place.file, server.labels.get("llm-d.ai/guide"))).or_default().push(server);
    }
    for group in groups.into_values() {
        let (prefill, decode): (Vec<&Server>, Vec<&Server>) = (
            group.iter().copied().filter(|server| server.is_prefill()).collect(),
            group.iter().copied().filter(|server| server.is_decode()).collect(),
        );
        if prefill.is_empty() || decode.is_empty() {
            continue;
        }
        for server in prefill.iter().chain(&decode).filter(|server| connector(server).is_none()) {
            findings.error(
                "kv-connector-missing",
                &server.place,
                "args",
                "prefill and decode are apart, and this engine has no connector to hand over KV cache",
                "add `--kv-transfer-config '{\"kv_connector\":\"NixlConnector\",\"kv_role\":\"kv_both\"}'`",
            );
        }
        for server in decode.iter().filter(|server| server.proxy.is_none()) {
            findings.warning(
                "routing-proxy-missing",
                &server.place,
                "initContainers",
                "prefill and decode are apart, and nothing in the decode pod asks for prefill elsewhere",
                "add the routing proxy (recipes/modelserver/base/single-host/pd/vllm)",
            );
        }
        let Some(first) = prefill.first() else { continue };
        for server in &decode {
            let (Some(ours), Some(theirs)) = (connector(server), connector(first)) else { continue };
            if ours != theirs {
                findings.error(
                    "kv-connector-mismatch",
                    &server.place,
                    "args",
                    format!("decode uses `{ours}`, and prefill uses `{theirs}`"),
                    "give both the same connector",
                );
                continue;
            }
            let (Some(decode), Some(prefill)) = (&server.args, &first.args) else { continue };
            if decode.block_size != prefill.block_size {
                let size = |args: &ServeArgs| {
                    args.block_size.map_or_else(|| "the default".to_owned(), |size| size.to_string())
                };
                findings.warning(
                    "block-size-mismatch",
                    &server.place,
                    "args",
                    format!("decode has KV blocks of {} tokens, and prefill of {}", size(decode), size(prefill)),
                    "give both the same `--block-size`",
                );
            }
        }
    }
}
