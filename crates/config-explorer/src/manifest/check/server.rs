//! From documents to the engines and routers in them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::autoscaler::Autoscaler;
use super::{Findings, Input, Place, script};
use crate::engine::{ServeArgs, Version};
use crate::hardware::Vendor;

/// Resources that are no accelerator.
const PLAIN_RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Resources that are GPUs, and whose.
const GPU_RESOURCES: [(&str, Vendor); 2] = [("nvidia.com/gpu", Vendor::Nvidia), ("amd.com/gpu", Vendor::Amd)];
const PORT_DEFAULT: u64 = 8000;

/// What was found in all inputs.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) servers: Vec<Server>,
    pub(super) routers: Vec<Router>,
    pub(super) autoscalers: Vec<Autoscaler>,
    /// Kind and name of everything that runs pods.
    pub(super) workloads: BTreeSet<String>,
}

/// Equal engines.
#[derive(Default)]
pub(super) struct Server {
    pub(super) place: Place,
    /// Value of `llm-d.ai/role`.
    pub(super) role: Option<String>,
    pub(super) replicas: u64,
    /// Pods of each engine.
    pub(super) hosts: u64,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) env: BTreeMap<String, String>,
    /// Ports of the container by name.
    pub(super) ports: BTreeMap<String, u64>,
    /// GPUs of each pod.
    pub(super) gpus: Option<u64>,
    /// Whose GPUs they are, where that is known.
    pub(super) vendor: Option<Vendor>,
    /// It has accelerators that are no GPUs, or claims them.
    pub(super) other_devices: bool,
    pub(super) memory_limit_bytes: Option<f64>,
    pub(super) image: Option<String>,
    /// The flags; `None` where the engine is not vLLM.
    pub(super) args: Option<ServeArgs>,
    pub(super) proxy: Option<Proxy>,
    /// Probes and the port they ask.
    pub(super) probes: Vec<(&'static str, Value)>,
    pub(super) node_product: Option<String>,
    /// It is a command, with no Kubernetes around it.
    pub(super) bare: bool,
}

/// The routing proxy of a decode pod.
#[derive(Clone, Copy)]
pub(super) struct Proxy {
    pub(super) port: u64,
    pub(super) target: Option<u64>,
    pub(super) ranks: u64,
}

/// The values of a router, or its configuration alone.
#[derive(Default)]
pub(super) struct Router {
    pub(super) place: Place,
    pub(super) config: Option<String>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) target_ports: Option<Vec<u64>>,
    pub(super) replicas: Option<u64>,
}

impl Server {
    pub(super) fn version(&self) -> Option<Version> {
        let (name, tag) = self.image.as_deref()?.rsplit_once(':')?;
        // Other images carry versions of their own.
        name.ends_with("vllm/vllm-openai").then(|| tag.parse().ok())?
    }

    /// Tensor x pipeline ranks of an engine.
    pub(super) fn ranks_per_engine(args: &ServeArgs) -> u64 {
        let size = |size: Option<std::num::NonZeroU32>| size.map_or(1, |size| u64::from(size.get()));
        size(args.tensor_parallel_size) * size(args.pipeline_parallel_size)
    }

    /// Ports on which its engines listen.
    pub(super) fn listens(&self) -> Vec<u64> {
        let Some(args) = &self.args else { return Vec::new() };
        let first = args.port.map_or(PORT_DEFAULT, u64::from);
        let local = u64::from(args.data_parallel_size_local.unwrap_or(1)).clamp(1, 1024);
        let ranks = if args.data_parallel_multi_port_external_lb == Some(true) { local } else { 1 };
        (first..first + ranks).collect()
    }

    /// Ports on which requests reach its engines: a proxy may have more than its engine, which lead nowhere.
    pub(super) fn entries(&self) -> Vec<u64> {
        let listens = self.listens();
        let Some(proxy) = self.proxy else { return listens };
        let most = if listens.is_empty() { 1024 } else { listens.len() as u64 };
        (proxy.port..proxy.port.saturating_add(proxy.ranks.clamp(1, most))).collect()
    }

    pub(super) fn is_prefill(&self) -> bool {
        self.role.as_deref() == Some("prefill")
    }

    pub(super) fn is_decode(&self) -> bool {
        matches!(self.role.as_deref(), Some("decode" | "both" | "prefill-decode"))
    }
}

/// Finds what is in an input.
pub(super) fn gather(input: &Input, gathered: &mut Gathered, findings: &mut Findings) {
    match input {
        Input::Unreadable { file, reason, template } => {
            let place = Place { file: file.clone(), object: String::new() };
            if *template {
                findings.note(
                    "template",
                    &place,
                    "",
                    "a Helm template is not read",
                    "check what `helm template` renders",
                );
            } else {
                findings.error("malformed", &place, "", reason, "correct the file");
            }
        }
        Input::Command(words) => {
            let place = Place { file: "command".to_owned(), object: String::new() };
            let args = parse_words(words, &BTreeMap::new(), &place, findings);
            let server = Server { args, replicas: 1, hosts: 1, bare: true, place, ..Server::default() };
            if server.args.is_some() {
                gathered.servers.push(server);
            }
        }
        Input::Documents { file, documents, remote, repeated } => {
            for (file, reason) in repeated {
                let place = Place { file: file.clone(), object: String::new() };
                let message = format!("an object has a key twice, and only one of them counts: {reason}");
                findings.warning("repeated-key", &place, "", message, "join the two");
            }
            for address in remote {
                let place = Place { file: file.clone(), object: String::new() };
                let fix = "check what `kubectl kustomize` renders, or name a local copy";
                findings.note("remote", &place, "", format!("`{address}` is on another machine and was not read"), fix);
            }
            documents.iter().for_each(|document| self::document(file, document, gathered, findings));
            selected(file, documents, findings);
        }
    }
}

fn document(file: &str, document: &Value, gathered: &mut Gathered, findings: &mut Findings) {
    let kind = text(document, "/kind").unwrap_or_default();
    let name = text(document, "/metadata/name").unwrap_or_default();
    let object = if kind.is_empty() { String::new() } else { format!("{kind}/{name}") };
    let place = Place { file: file.to_owned(), object };
    match kind {
        "Deployment" | "StatefulSet" | "ReplicaSet" | "DaemonSet" | "Job" => {
            selector(document, &place, findings);
            gathered.workloads.insert(place.object.clone());
            workload(document, "/spec/template", 1, &place, gathered, findings);
        }
        "Pod" => workload(document, "", 1, &place, gathered, findings),
        "LeaderWorkerSet" => {
            let template = "/spec/leaderWorkerTemplate";
            gathered.workloads.insert(place.object.clone());
            let size = number(document.pointer(template).and_then(|template| template.get("size"))).unwrap_or(1);
            workload(document, &format!("{template}/workerTemplate"), size, &place, gathered, findings);
        }
        "HorizontalPodAutoscaler" | "ScaledObject" => gathered.autoscalers.push(Autoscaler::read(document, &place)),
        "List" => {
            let items = document.get("items").and_then(Value::as_array);
            items.into_iter().flatten().for_each(|item| self::document(file, item, gathered, findings));
        }
        "ConfigMap" => {
            let data = document.get("data").and_then(Value::as_object);
            let configs = data.into_iter().flatten().filter_map(|(_, text)| text.as_str());
            let configs = configs.filter(|text| text.contains("kind: EndpointPickerConfig"));
            gathered.routers.extend(configs.map(|config| Router {
                place: place.clone(),
                config: Some(config.to_owned()),
                ..Router::default()
            }));
        }
        "EndpointPickerConfig" => {
            let config = Some(document.to_string());
            gathered.routers.push(Router { place, config, ..Router::default() });
        }
        "" if document.get("router").is_some() => router(document, &place, gathered, findings),
        "" if ["decode", "prefill", "modelArtifacts"].iter().any(|key| document.get(*key).is_some()) => {
            for role in ["decode", "prefill"] {
                modelservice(document, role, &place, gathered, findings);
            }
        }
        _ => {}
    }
}

pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// A whole number, written as one or as a text.
pub(super) fn number(value: Option<&Value>) -> Option<u64> {
    let value = value?;
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// Bytes of a Kubernetes quantity: `64Gi`, `1.5G`, `1e9`.
pub(super) fn quantity(value: Option<&Value>) -> Option<f64> {
    let value = value?;
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let text = text.trim();
    let powers = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50)];
    let binary = powers.iter().find_map(|(suffix, power)| Some((text.strip_suffix(suffix)?, 2_f64.powi(*power))));
    let decimal = [("m", -3), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15)];
    let decimal = decimal.iter().find_map(|(suffix, power)| Some((text.strip_suffix(suffix)?, 10_f64.powi(*power))));
    let (figure, factor) = binary.or(decimal).unwrap_or((text, 1.0));
    let figure: f64 = figure.parse().ok()?;
    Some(figure * factor).filter(|bytes| bytes.is_finite())
}

pub(super) fn texts(value: Option<&Value>) -> BTreeMap<String, String> {
    let map = value.and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn selector(document: &Value, place: &Place, findings: &mut Findings) {
    let wanted = texts(document.pointer("/spec/selector/matchLabels"));
    let labels = texts(document.pointer("/spec/template/metadata/labels"));
    for (key, value) in wanted {
        if labels.get(&key) != Some(&value) {
            let found = labels.get(&key).map_or_else(|| "do not have it".to_owned(), |found| format!("say `{found}`"));
            findings.error(
                "selector-mismatch",
                place,
                "spec.selector.matchLabels",
                format!("the selector wants `{key}: {value}`, and the pods' labels {found}"),
                "give selector and template the same labels",
            );
        }
    }
}

/// Services that select nothing, though there are pods beside them.
fn selected(file: &str, documents: &[Value], findings: &mut Findings) {
    let template = |document: &Value| {
        let pod = ["/spec/template", "/spec/leaderWorkerTemplate/workerTemplate"]
            .iter()
            .find_map(|path| document.pointer(path))?;
        Some(texts(pod.pointer("/metadata/labels")))
    };
    let pods: Vec<_> = documents.iter().filter_map(template).collect();
    for service in documents.iter().filter(|document| text(document, "/kind") == Some("Service")) {
        let wanted = texts(service.pointer("/spec/selector"));
        let fits = |labels: &BTreeMap<String, String>| wanted.iter().all(|(key, value)| labels.get(key) == Some(value));
        if !wanted.is_empty() && !pods.is_empty() && !pods.iter().any(fits) {
            let name = text(service, "/metadata/name").unwrap_or_default();
            let place = Place { file: file.to_owned(), object: format!("Service/{name}") };
            findings.warning(
                "service-selects-nothing",
                &place,
                "spec.selector",
                "no pod of this file has these labels",
                "give the selector labels of the pods",
            );
        }
    }
}

fn workload(
    document: &Value,
    template: &str,
    hosts: u64,
    place: &Place,
    gathered: &mut Gathered,
    findings: &mut Findings,
) {
    let Some(pod) = document.pointer(template) else { return };
    let labels = texts(pod.pointer("/metadata/labels"));
    let replicas = document.pointer("/spec/replicas").map_or(Some(1), |replicas| number(Some(replicas))).unwrap_or(1);
    let Some(spec) = pod.get("spec") else { return };
    let server = Server {
        place: place.clone(),
        role: labels.get("llm-d.ai/role").cloned(),
        replicas,
        hosts: hosts.max(1),
        labels,
        ..Server::default()
    };
    pod_servers(spec, &server, gathered, findings);
}

/// The engines of a pod.
fn pod_servers(spec: &Value, base: &Server, gathered: &mut Gathered, findings: &mut Findings) {
    let list = |key: &str| spec.get(key).and_then(Value::as_array).into_iter().flatten();
    let proxy = list("initContainers").chain(list("containers")).find_map(self::proxy);
    let selectors = texts(spec.get("nodeSelector"));
    let labels = &crate::manifest::Facts::built_in().node_labels;
    let node_product = labels.values().find_map(|label| selectors.get(label)).cloned();
    for container in list("containers").filter(|container| self::proxy(container).is_none()) {
        let server = Server {
            place: base.place.clone(),
            role: base.role.clone(),
            labels: base.labels.clone(),
            replicas: base.replicas,
            hosts: base.hosts,
            proxy,
            node_product: node_product.clone(),
            ..Server::default()
        };
        gathered.servers.extend(engine(container, server, findings));
    }
}

/// The routing proxy, if a container is one.
fn proxy(container: &Value) -> Option<Proxy> {
    let image = text(container, "/image").unwrap_or_default();
    let is_proxy = text(container, "/name") == Some("routing-proxy")
        || ["disagg-sidecar", "routing-sidecar"].iter().any(|name| image.contains(name));
    if !is_proxy {
        return None;
    }
    let words = words(container, "args");
    let value = |names: &[&str]| {
        let inline = words.iter().find_map(|word| {
            let (name, value) = word.split_once('=')?;
            names.contains(&name.trim_start_matches('-')).then(|| value.parse().ok())?
        });
        inline.or_else(|| {
            let at = words.iter().position(|word| names.contains(&word.trim_start_matches('-')))?;
            words.get(at + 1)?.parse().ok()
        })
    };
    Some(Proxy {
        port: value(&["port"]).unwrap_or(PORT_DEFAULT),
        target: value(&["vllm-port", "model-server-port", "decoder-port"]),
        ranks: value(&["data-parallel-size"]).unwrap_or(1),
    })
}

fn words(container: &Value, key: &str) -> Vec<String> {
    let list = container.get(key).and_then(Value::as_array);
    let word = |word: &Value| word.as_str().map_or_else(|| word.to_string(), str::to_owned);
    list.into_iter().flatten().map(word).collect()
}

/// `$(NAME)` as Kubernetes replaces it.
fn replace_env(word: &str, env: &BTreeMap<String, String>) -> String {
    let mut result = String::new();
    let mut rest = word;
    while let Some(start) = rest.find("$(") {
        let (before, tail) = rest.split_at(start);
        result.push_str(before);
        let inner = &tail[2..];
        match inner.find(')').and_then(|end| Some((end, env.get(&inner[..end])?))) {
            Some((end, value)) => {
                result.push_str(value);
                rest = &inner[end + 1..];
            }
            None => {
                result.push_str("$(");
                rest = inner;
            }
        }
    }
    result + rest
}

fn engine(container: &Value, mut server: Server, findings: &mut Findings) -> Option<Server> {
    let env = container.get("env").and_then(Value::as_array);
    for variable in env.into_iter().flatten() {
        if let (Some(name), Some(value)) = (text(variable, "/name"), text(variable, "/value")) {
            let value = replace_env(value, &server.env);
            server.env.insert(name.to_owned(), value);
        }
    }
    server.image = text(container, "/image").map(str::to_owned);
    let mut words = words(container, "command");
    let has_command = !words.is_empty();
    words.extend(self::words(container, "args"));
    let words: Vec<String> = words.iter().map(|word| replace_env(word, &server.env)).collect();
    let image_is_vllm = server.image.as_deref().is_some_and(|image| image.contains("vllm"));
    let joined = words.join(" ");
    let starts_vllm = (joined.contains("vllm") && joined.contains("serve")) || joined.contains("vllm.entrypoints");
    let is_entry_point = !has_command && image_is_vllm && !words.is_empty();
    if joined.contains("launch render") || !starts_vllm && !is_entry_point {
        return None;
    }
    if server.image.as_deref().is_some_and(|image| image.starts_with("REPLACE_")) {
        findings.error(
            "image-placeholder",
            &server.place,
            "image",
            "the image is a placeholder that no component replaced",
            "add the component of an image, such as recipes/modelserver/components/images/gpu-vllm",
        );
        // A base that waits for its overlay has no flags yet.
        return None;
    }
    devices(container, &mut server);
    let ports = container.get("ports").and_then(Value::as_array);
    for port in ports.into_iter().flatten() {
        if let (Some(name), Some(port)) = (text(port, "/name"), number(port.get("containerPort"))) {
            server.ports.insert(name.to_owned(), port);
        }
    }
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        if let Some(port) = container.get(probe).and_then(|probe| probe.pointer("/httpGet/port")) {
            server.probes.push((probe, port.clone()));
        }
    }
    let variables = group_variables(&server.env, server.hosts);
    server.args = parse_words(&words, &variables, &server.place, findings);
    server.args.is_some().then_some(server)
}

/// Variables of a container, with those that a group of hosts sets on its first.
fn group_variables(env: &BTreeMap<String, String>, hosts: u64) -> BTreeMap<String, String> {
    let mut variables = env.clone();
    for (name, value) in [
        ("LWS_GROUP_SIZE", hosts.to_string()),
        ("LWS_WORKER_INDEX", "0".to_owned()),
        ("LWS_LEADER_ADDRESS", "leader".to_owned()),
    ] {
        variables.entry(name.to_owned()).or_insert(value);
    }
    variables
}

/// The flags with which a container starts vLLM on the first of so many hosts; `None` if it does not, or they cannot be read.
pub fn serve_args(container: &Value, hosts: u64) -> Option<ServeArgs> {
    let server = Server { hosts, ..Server::default() };
    engine(container, server, &mut Findings::default())?.args
}

fn devices(container: &Value, server: &mut Server) {
    for part in ["limits", "requests"] {
        let resources = container.get("resources").and_then(|resources| resources.get(part)).and_then(Value::as_object);
        for (name, value) in resources.into_iter().flatten() {
            if let Some((_, vendor)) = GPU_RESOURCES.iter().find(|(gpu, _)| gpu == name) {
                server.gpus = server.gpus.or_else(|| number(Some(value)));
                server.vendor = Some(*vendor);
            } else if !PLAIN_RESOURCES.contains(&name.as_str()) && !name.contains("rdma") && !name.contains("efa") {
                server.other_devices = true;
            }
        }
    }
    server.other_devices |= container.pointer("/resources/claims").is_some();
    server.memory_limit_bytes = quantity(container.pointer("/resources/limits/memory"));
}

/// The flags of a command, which may be wrapped in a shell. What cannot be read is a finding.
fn parse_words(
    words: &[String],
    variables: &BTreeMap<String, String>,
    place: &Place,
    findings: &mut Findings,
) -> Option<ServeArgs> {
    let shell = words.first().is_some_and(|word| ["sh", "bash"].contains(&word.rsplit('/').next().unwrap_or_default()));
    let script = if shell {
        words.iter().position(|word| word.starts_with('-') && word.ends_with('c')).and_then(|at| words.get(at + 1))
    } else {
        None
    };
    let parsed = match script {
        Some(script) => {
            let expanded = script::expand(script, &mut variables.clone());
            ServeArgs::parse_shell(&expanded).map_err(|error| (error, expanded.contains('$')))
        }
        None if shell => return None,
        None => ServeArgs::parse(words).map_err(|error| (error, words.iter().any(|word| word.contains("$(")))),
    };
    match parsed {
        Ok(args) => Some(args),
        Err((error, true)) => {
            let message = format!("the command has variables whose values are not known here: {error}");
            findings.note("unresolved-variable", place, "args", message, "set them in `env`, or write the values out");
            None
        }
        Err((error, false)) => {
            findings.error("invalid-flag", place, "args", error.to_string(), "correct the value");
            None
        }
    }
}

/// Engines of llm-d-modelservice's values.
fn modelservice(document: &Value, role: &str, place: &Place, gathered: &mut Gathered, findings: &mut Findings) {
    let Some(values) = document.get(role).filter(|values| values.get("create") != Some(&Value::Bool(false))) else {
        return;
    };
    if values.get("containers").is_none() {
        return;
    }
    let parallelism = values.get("parallelism").and_then(Value::as_object);
    let known = ["data", "dataLocal", "tensor", "workers"];
    for (key, _) in parallelism.into_iter().flatten().filter(|(key, _)| !known.contains(&key.as_str())) {
        findings.error(
            "unknown-key",
            place,
            &format!("{role}.parallelism.{key}"),
            format!("the chart refuses `{key}`: it knows {}", known.join(", ")),
            "write it as a flag in the container's `args`",
        );
    }
    let multinode = document.get("multinode") == Some(&Value::Bool(true));
    let size = |key: &str| number(values.pointer(&format!("/parallelism/{key}")));
    let mut labels = texts(document.pointer("/modelArtifacts/labels"));
    labels.insert("llm-d.ai/role".to_owned(), role.to_owned());
    let model = text(document, "/modelArtifacts/name").unwrap_or_default();
    let mut spec = values.clone();
    let tensor = size("tensor").unwrap_or(1);
    if let Some(Value::Array(containers)) = spec.get_mut("containers") {
        for container in containers {
            if text(container, "/modelCommand") == Some("vllmServe") {
                let mut command = vec!["vllm".to_owned(), "serve".to_owned(), model.to_owned()];
                let args = words(container, "args");
                if !args.iter().any(|word| word.starts_with("--tensor-parallel-size") || word == "-tp") {
                    command.push(format!("--tensor-parallel-size={tensor}"));
                }
                container["command"] = command.into();
            }
        }
    }
    let proxied = role == "decode"
        && document.get("prefill").is_some_and(|prefill| prefill.get("create") == Some(&Value::Bool(true)))
        && document.pointer("/routing/proxy/enabled") != Some(&Value::Bool(false));
    let before = gathered.servers.len();
    let base = Server {
        place: Place { file: place.file.clone(), object: role.to_owned() },
        role: Some(role.to_owned()),
        replicas: number(values.get("replicas")).unwrap_or(1),
        hosts: if multinode { size("workers").unwrap_or(1).max(1) } else { 1 },
        labels,
        ..Server::default()
    };
    pod_servers(&spec, &base, gathered, findings);
    for server in gathered.servers.iter_mut().skip(before) {
        if proxied {
            let port = number(document.pointer("/routing/servicePort")).unwrap_or(PORT_DEFAULT);
            let target = number(document.pointer("/routing/proxy/targetPort"));
            server.proxy = Some(Proxy { port, target, ranks: size("dataLocal").unwrap_or(1) });
        }
        // The chart asks for the GPUs that its parallelism needs.
        if server.gpus.is_none() && !server.other_devices {
            let local = size("dataLocal").or_else(|| size("data")).unwrap_or(1);
            server.gpus = tensor.checked_mul(local);
        }
    }
}

fn router(document: &Value, place: &Place, gathered: &mut Gathered, findings: &mut Findings) {
    let values = &document["router"];
    let epp = &values["epp"];
    let configs = epp.get("pluginsCustomConfig").and_then(Value::as_object);
    let file = text(epp, "/pluginsConfigFile");
    let config = file.and_then(|file| configs?.get(file));
    if let (Some(file), None, Some(configs)) = (file, config, configs.filter(|configs| !configs.is_empty())) {
        let names: Vec<_> = configs.keys().map(String::as_str).collect();
        findings.error(
            "config-file",
            place,
            "router.epp.pluginsConfigFile",
            format!("`{file}` is not in pluginsCustomConfig, which has {}", names.join(", ")),
            "name one of the files",
        );
    }
    let config = config.map(|config| config.as_str().map_or_else(|| config.to_string(), str::to_owned));
    let ports = values.pointer("/modelServers/targetPorts").and_then(Value::as_array);
    gathered.routers.push(Router {
        place: place.clone(),
        config,
        labels: values.pointer("/modelServers/matchLabels").map(|labels| texts(Some(labels))),
        target_ports: ports.map(|ports| ports.iter().filter_map(|port| number(port.get("number"))).collect()),
        replicas: number(epp.get("replicas")),
    });
}
