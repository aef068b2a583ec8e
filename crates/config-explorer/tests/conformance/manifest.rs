//! llm-d's files: overlays against what `kubectl kustomize` made of them, what we write against the guides, and the check
//! over all of them.

use std::collections::BTreeMap;
use std::path::Path;

use config_explorer::engine::ServeArgs;
use config_explorer::hardware::Accelerators;
use config_explorer::manifest::check::{Context, Input, Severity, check, read as read_inputs, serve_args};
use config_explorer::manifest::kubernetes::EnvVar;
use config_explorer::manifest::{
    self, Description, Offload, ProposalOptions, Proposals, Role, RoleKind, RouterProfile,
};
use config_explorer::model::{LoadOptions, Model};
use config_explorer::validate::model_in;
use serde_json::Value;

fn documents(text: &str) -> Vec<Value> {
    let documents = serde_saphyr::from_multiple::<Option<Value>>(text).expect("a guide is YAML");
    documents.into_iter().flatten().collect()
}

/// Documents by kind and name.
fn by_name(documents: Vec<Value>) -> BTreeMap<String, Value> {
    documents
        .into_iter()
        .map(|document| (format!("{}/{}", document["kind"], document["metadata"]["name"]), document))
        .collect()
}

/// Where two values differ: the path and both sides.
fn differences(path: &str, left: &Value, right: &Value, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let (a, b) = (a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
                differences(&format!("{path}/{key}"), a, b, found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (at, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}/{at}"), a, b, found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(format!("{path}: {a} | {b}")),
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
}

/// Folders of overlays, by the name of their rendered file without its ending.
fn overlays(folder: &Path, guides: &Path, found: &mut BTreeMap<String, std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the guides").flatten() {
        let path = entry.path();
        if path.is_dir() {
            overlays(&path, guides, found);
        }
    }
    if folder.join("kustomization.yaml").is_file() {
        let name = folder.strip_prefix(guides).expect("below the guides").display().to_string().replace('/', "_");
        found.insert(name, folder.to_owned());
    }
}

#[test]
fn overlays_resolve_as_kubectl_does() {
    let Some(data) = super::data() else { return };
    let guides = data.join("llm-d/guides");
    let mut folders = BTreeMap::new();
    overlays(&guides, &guides, &mut folders);
    let (mut same, mut wrong) = (0, Vec::new());
    for entry in std::fs::read_dir(data.join("llm-d/rendered")).expect("the rendered guides").flatten() {
        let name = entry.file_name().to_string_lossy().trim_end_matches(".yaml").to_owned();
        let expected = by_name(documents(&std::fs::read_to_string(entry.path()).expect("a rendered guide")));
        let Some(folder) = folders.get(&name) else {
            wrong.push(format!("{name}: no overlay"));
            continue;
        };
        let resolved = match manifest::resolve(folder, &read) {
            Ok(resolved) => by_name(resolved.documents),
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let mut found = Vec::new();
        let (expected, resolved) = (serde_json::to_value(expected), serde_json::to_value(resolved));
        differences("", &expected.expect("values"), &resolved.expect("values"), &mut found);
        same += usize::from(found.is_empty());
        wrong.extend(found.into_iter().map(|difference| format!("{name}: {difference}")));
    }
    println!("{same} overlays resolve to what kubectl rendered");
    // One overlay lies on a helper that is not among the guides here.
    wrong.retain(|line| !line.contains("helpers/mooncake-client/base: there is no kustomization.yaml"));
    assert_eq!((same, wrong.as_slice()), (79, [].as_slice()), "{}", wrong.join("\n"));
}

/// The models of the guides, from the data folder or the built-in catalogue.
fn model(data: &Path, id: &str) -> config_explorer::Result<Model> {
    // The configuration of DeepSeek-R1-0528 is that of DeepSeek-R1.
    let stored = if id == "deepseek-ai/DeepSeek-R1-0528" { "deepseek-ai/DeepSeek-R1" } else { id };
    match model_in(&data.join("models"), stored)? {
        Some(model) => Ok(model),
        None => Model::load(id, &LoadOptions { offline: true, ..LoadOptions::from_env(|_| None) }),
    }
}

/// Guides whose weights need more than 80 GB a GPU at their parallel sizes.
const LARGER_GPUS: [(&str, &str); 6] = [
    // gpt-oss-120b at TP 1 leaves 4.4 GiB of an H100, and one request of its length takes 4.8.
    ("pd-disaggregation_modelserver_gpu", "H200"),
    // Qwen3-VL-32B at TP 1 leaves 22 GiB of an H100, and one request of its length takes 32.
    ("multimodal-serving_e-disaggregation_modelserver_gpu_vllm_e-p-d", "H200"),
    ("wide-ep-lws_modelserver_gpu_vllm-deepseek-v4", "GB200"),
    ("wide-ep-lws_modelserver_gpu_vllm_dgx-cloud-gb200", "GB200"),
    ("wide-ep-lws", "H200"),
    ("agentic-serving_modelserver_gpu", "H200"),
];

/// Errors in the guides as they are rendered, and why they are right.
const EXPLAINED: [(&str, &str); 2] = [
    ("Error image-placeholder", "four are bases, which wait for an overlay that names an image"),
    (
        "Error node-too-small wide-ep-lws_modelserver_gpu_vllm_dgx-cloud-gb200",
        "its pods ask for 8 GPUs, and a GB200 tray has 4: no node can take them",
    ),
];

/// Findings over all guides, by kind.
const COUNTS: [(&str, usize); 4] = [
    ("Error image-placeholder", 4),
    ("Error node-too-small", 2),
    ("Note memory-not-checked", 49),
    ("Warning gpu-count", 1),
];

#[test]
fn the_guides_pass_the_check() {
    let Some(data) = super::data() else { return };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut errors = Vec::new();
    let mut planned = 0;
    let mut paths: Vec<_> =
        std::fs::read_dir(data.join("llm-d/rendered")).expect("the rendered guides").flatten().collect();
    paths.sort_by_key(std::fs::DirEntry::file_name);
    assert_eq!(paths.len(), 80);
    for entry in paths {
        let name = entry.file_name().to_string_lossy().trim_end_matches(".yaml").to_owned();
        let gpu = LARGER_GPUS.iter().find(|(prefix, _)| name.starts_with(prefix)).map_or("H100", |(_, gpu)| *gpu);
        let gpu = if name.contains("_amd_") { "MI300X" } else { gpu };
        let report = check(&read_inputs(&entry.path()).expect("a rendered guide"), &context(&data, gpu));
        planned += report.roles.len();
        for finding in report.findings {
            let line = format!("{:?} {} {name}: {}: {}", finding.severity, finding.code, finding.path, finding.message);
            println!("{line}");
            *counts.entry(format!("{:?} {}", finding.severity, finding.code)).or_default() += 1;
            if finding.severity == Severity::Error {
                errors.push(line);
            }
        }
    }
    println!("{planned} engines planned; {counts:#?}");
    let unexplained: Vec<_> =
        errors.iter().filter(|error| !EXPLAINED.iter().any(|(start, _)| error.starts_with(start))).collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    let counted: Vec<(&str, usize)> = counts.iter().map(|(code, count)| (code.as_str(), *count)).collect();
    assert_eq!(counted, COUNTS);
}

/// Errors and warnings in the guides' folders, where router and model servers are checked together, and why they are right.
const IN_FOLDERS: [(&str, &str, &str); 9] = [
    ("multimodal-serving", "Error image-placeholder", "a base"),
    ("optimized-baseline", "Error malformed", "gpt-oss names a patch that is not there"),
    ("pd-disaggregation", "Error image-placeholder", "a base"),
    ("precise-prefix-cache-routing", "Error image-placeholder", "a base"),
    ("tiered-prefix-cache", "Error malformed", "a helper that is not among the guides here"),
    ("tiered-prefix-cache", "Warning gpu-count", "a base"),
    (
        "tiered-prefix-cache",
        "Warning offload-blocks",
        "100 GiB hold 25,600 blocks of Qwen3-32B (256 KiB a token), and the router counts on 82,000 (for 160 KB a token)",
    ),
    ("tiered-prefix-cache", "Warning repeated-key", "`env` stands twice in a patch: kubectl drops the second"),
    ("wide-ep-lws", "Error malformed", "gke-a4 names a directory that is not there"),
];

#[test]
fn the_folders_of_the_guides_pass_the_check() {
    let Some(data) = super::data() else { return };
    let mut found = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(data.join("llm-d/guides")).expect("the guides").flatten() {
        let guide = entry.file_name().to_string_lossy().into_owned();
        let report = check(&read_inputs(&entry.path()).expect("a guide"), &context(&data, "H200"));
        for finding in report.findings.iter().filter(|finding| finding.severity != Severity::Note) {
            println!("{guide}: {finding:?}");
            found.insert((guide.clone(), format!("{:?} {}", finding.severity, finding.code)));
        }
    }
    let mut explained: Vec<_> =
        IN_FOLDERS.iter().map(|(guide, code, _)| ((*guide).to_owned(), (*code).to_owned())).collect();
    // DeepSeek-V4's servers take requests on one port, DeepSeek-R1's beside them on eight, as the router has it.
    explained.push(("wide-ep-lws".to_owned(), "Warning target-ports".to_owned()));
    assert_eq!(found.into_iter().collect::<Vec<_>>(), explained);
}

const ACCESS_LOG: &str = "--disable-access-log-for-endpoints=/health,/metrics,/v1/models";
const RECIPES: &str = "llm-d/guides/recipes";

fn args(text: &str) -> ServeArgs {
    ServeArgs::parse_shell(text).expect("flags of a guide")
}

fn qwen(name: &str, replicas: u32, flags: &str, memory: (&str, &str)) -> Description {
    let role = Role::new(RoleKind::Both, replicas, args(flags)).with_host(("8", "16"), memory);
    Description::aggregated(name, "Qwen/Qwen3-32B", role)
}

fn pd(extra: Option<&str>) -> Description {
    let flags = |tensor: u32| {
        args(&format!(
            "{ACCESS_LOG} --tensor-parallel-size={tensor} --block-size=128 --no-disable-hybrid-kv-cache-manager"
        ))
    };
    let mut prefill = Role::new(RoleKind::Prefill, 8, flags(1)).with_host(("8", "8"), ("16Gi", "16Gi"));
    let mut decode = Role::new(RoleKind::Decode, 2, flags(4)).with_host(("16", "16"), ("64Gi", "64Gi"));
    for role in [&mut prefill, &mut decode] {
        extra.iter().for_each(|name| role.set_resource(name, "1"));
    }
    let mut description = Description::disaggregated("pd-disaggregation", "openai/gpt-oss-120b", prefill, decode);
    description.labels.insert("llm-d.ai/engine-type".to_owned(), "vllm".to_owned());
    description
}

fn wide() -> Description {
    let connector = r#"{"kv_connector":"NixlConnector","kv_role":"kv_both","kv_load_failure_policy":"fail"}"#;
    let flags = format!(
        "--disable-access-log-for-endpoints=/health,/metrics --tensor-parallel-size 1 --data-parallel-size 16 \
         --moe-backend deep_gemm --kv-transfer-config '{connector}'"
    );
    let role = |kind, more: &str| {
        let mut role = Role::new(kind, 1, args(&format!("{flags} {more}"))).over_hosts(2);
        role.set_resource("ephemeral-storage", "1Ti");
        role.with_host(("32", ""), ("512Gi", "512Gi"))
    };
    let mut prefill = role(RoleKind::Prefill, "--gpu-memory-utilization 0.80 --all2all-backend deepep_high_throughput");
    prefill.env.push(EnvVar::new("VLLM_ENGINE_READY_TIMEOUT_S", "3000"));
    let mut decode = role(
        RoleKind::Decode,
        "--max-num-batched-tokens 256 --max-num-seqs 256 --enable-dbo --dbo-decode-token-threshold 32 \
         --all2all-backend deepep_low_latency",
    );
    decode.image = Some("ghcr.io/llm-d/llm-d-cuda-dev:sha-a1bcf21".to_owned());
    decode.env.extend([EnvVar::new("VLLM_USE_DEEP_GEMM", "1"), EnvVar::new("NVSHMEM_SYMMETRIC_SIZE", "16G")]);
    let mut description = Description::disaggregated("wide-ep-lws", "deepseek-ai/DeepSeek-R1-0528", prefill, decode)
        .with_name_prefix("wide-ep-llm-d-");
    "deepseek-r1".clone_into(&mut description.service_account);
    description.labels.insert("llm-d.ai/inference-serving".to_owned(), "true".to_owned());
    description
}

/// The typed descriptions of seven guides, by the names of their rendered files.
fn guides() -> Vec<(&'static str, &'static str, Description)> {
    let two = format!("{ACCESS_LOG} --tensor-parallel-size=2");
    let memory = ("96Gi", "128Gi");
    let mut tiered = qwen("tiered-prefix-cache", 4, "--tensor-parallel-size=2", ("200Gi", "400Gi"))
        .with_name_prefix("gpu-vllm-")
        .with_offload(Offload { bytes: 107_374_182_400, blocks: 82_000 });
    for role in &mut tiered.roles {
        role.termination_grace_s = Some(130);
        role.volumes
            .iter_mut()
            .filter(|volume| volume.name == "shm")
            .for_each(|volume| volume.memory = Some(String::new()));
    }
    let longer = r#"--max-model-len=131072 --hf-overrides='{"rope_scaling":{"rope_type":"yarn","factor":3.2,"original_max_position_embeddings":40960}}'"#;
    let mut predicted = qwen("optimized-baseline", 10, &format!("{two} {longer}"), memory);
    predicted.router = RouterProfile::PredictedLatency { objectives: false };
    vec![
        (
            "optimized-baseline_modelserver_gpu_vllm_base",
            "optimized-baseline",
            qwen("optimized-baseline", 8, &two, memory),
        ),
        ("pd-disaggregation_modelserver_gpu_vllm_base", "pd-disaggregation", pd(None)),
        ("pd-disaggregation_modelserver_gpu_vllm_coreweave", "pd-disaggregation", pd(Some("rdma/ib"))),
        ("wide-ep-lws_modelserver_gpu_vllm_base", "wide-ep-lws", wide()),
        ("tiered-prefix-cache_modelserver_gpu_vllm_native_cpu_base", "tiered-prefix-cache-cpu", tiered),
        (
            "precise-prefix-cache-routing_modelserver_gpu_vllm_base",
            "precise-prefix-cache-routing",
            qwen("precise-prefix-cache-routing", 8, &two, memory)
                .with_name_prefix("precise-prefix-cache-routing-gpu-vllm-")
                .with_precise_prefixes(64.try_into().expect("not 0")),
        ),
        ("predicted-latency-routing_modelserver_gpu_vllm_base", "predicted-latency", predicted),
    ]
}

/// Where what is written differs from the guides on purpose.
const DELIBERATE: [&str; 7] = [
    "quantities are texts, as Kubernetes stores them",
    "named lists (variables, ports, volumes) are in an order of their own",
    "commands are compared as what vLLM reads of them: flags in the order of vLLM's table, without a shell where none is needed",
    "variables that only feed the script of a group (MAX_TOKENS, DP_SIZE_LOCAL, TP_SIZE) are written into it",
    "defaults of Kubernetes are not written (restartPolicy: Always of a pod, empty resources)",
    "volumes that nothing mounts, and enableServiceLinks, are not written",
    "service accounts of groups are labelled and mount no token, as those of single hosts",
];

fn normalise(key: &str, value: &mut Value, hosts: u64) {
    match value {
        Value::Object(map) => {
            if matches!(key, "limits" | "requests") {
                map.values_mut().filter(|value| value.is_number()).for_each(|value| *value = value.to_string().into());
            }
            if map.get("kind") == Some(&"ServiceAccount".into()) && map["metadata"]["name"] == "deepseek-r1" {
                map.retain(|key, _| key != "automountServiceAccountToken");
                map["metadata"].as_object_mut().expect("metadata").retain(|key, _| key == "name");
            }
            let container = Value::Object(map.clone());
            if let Some(args) = serve_args(&container, hosts) {
                map.retain(|key, _| key != "args" && key != "command");
                map.insert("command".to_owned(), args.to_command("").into());
                map.insert("model".to_owned(), args.model.into());
            }
            if map.contains_key("containers") {
                let mounted = container.to_string();
                if let Some(Value::Array(volumes)) = map.get_mut("volumes") {
                    let mounts = |volume: &Value| mounted.matches(&format!("\"name\":{}", volume["name"])).count() > 1;
                    volumes.retain(mounts);
                }
                map.retain(|key, _| key != "enableServiceLinks" && key != "restartPolicy");
            }
            map.retain(|key, value| key != "resources" || value.as_object().is_none_or(|map| !map.is_empty()));
            map.iter_mut().for_each(|(key, value)| normalise(key, value, hosts));
        }
        Value::Array(items) => {
            items.retain(|item| {
                !matches!(item["name"].as_str(), Some("MAX_TOKENS" | "DP_SIZE_LOCAL" | "TP_SIZE")) || key != "env"
            });
            items.iter_mut().for_each(|item| normalise("", item, hosts));
            if matches!(key, "env" | "ports" | "volumes" | "volumeMounts") {
                items.sort_by_key(|item| item["name"].to_string());
            }
        }
        _ => {}
    }
}

fn normalised(documents: Vec<Value>) -> Value {
    let mut documents = by_name(documents);
    for document in documents.values_mut() {
        let hosts = document.pointer("/spec/leaderWorkerTemplate/size").and_then(Value::as_u64).unwrap_or(1);
        normalise("", document, hosts);
    }
    serde_json::to_value(documents).expect("values")
}

#[test]
fn descriptions_render_to_the_guides() {
    let Some(data) = super::data() else { return };
    println!("{} deliberate differences: {DELIBERATE:#?}", DELIBERATE.len());
    let mut found = Vec::new();
    for (name, values, mut description) in guides() {
        let text = std::fs::read_to_string(data.join(format!("llm-d/rendered/{name}.yaml"))).expect("a rendered guide");
        let expected = normalised(documents(&text));
        description.recipes = data.canonicalize().expect("the data").join(RECIPES).display().to_string();
        let files = manifest::write_files(&description).expect("files");
        let folder = tempfile::TempDir::new().expect("a folder");
        for (path, text) in &files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        let rendered = std::fs::read_to_string(folder.path().join("rendered.yaml")).expect("a file");
        for document in documents(&rendered) {
            manifest::kubernetes::Document::read(document).expect("fields that are known");
        }
        differences(name, &expected, &normalised(documents(&rendered)), &mut found);

        let mut overlay = manifest::resolve(&folder.path().join("modelserver"), &read).expect("an overlay").documents;
        for document in &mut overlay {
            document["metadata"].as_object_mut().expect("metadata").shift_remove("namespace");
        }
        differences(&format!("{name} overlay"), &expected, &normalised(overlay), &mut found);

        let router = std::fs::read_to_string(folder.path().join("router.values.yaml")).expect("a file");
        let guide = data.join("llm-d/guides");
        let paths = glob(&guide, &format!("{values}.values.yaml"));
        let theirs = documents(&std::fs::read_to_string(&paths[0]).expect("values of a guide")).remove(0);
        differences(&format!("{name} router"), &picker(&theirs), &picker(&documents(&router).remove(0)), &mut found);

        let report = check(&read_inputs(folder.path()).expect("files"), &context(&data, "H200"));
        found.extend(report.findings.iter().map(|finding| format!("{name} check: {finding:?}")));
        println!("{name}: {} files, {} engines planned", files.len(), report.roles.len());
    }
    // The guide's own figure, which it makes of 160 KB a token where Qwen3-32B has 256 KiB.
    found.retain(|line| !line.contains("offload-blocks"));
    // The guide sizes it for contexts of 256K; ours is the deployment's own length.
    found.retain(|line| !line.ends_with("maxPrefixTokensToMatch: 262144.0 | 131072.0"));
    assert_eq!(found, [""; 0], "{}", found.join("\n"));
}

fn context<'a>(data: &'a Path, gpu: &str) -> Context<'a> {
    let accelerators = Accelerators::built_in();
    Context {
        accelerators,
        accelerator: Some(accelerators.find(gpu).expect("in the catalogue")),
        gpu_memory_gib: None,
        gpus_per_node: None,
        engine: None,
        goal: None,
        model: Box::leak(Box::new(|id: &str| model(data, id))),
    }
}

/// The files of this name below a folder.
fn glob(folder: &Path, name: &str) -> Vec<std::path::PathBuf> {
    let entries: Vec<_> = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()).collect();
    let inner = entries.iter().filter(|path| path.is_dir()).flat_map(|path| glob(path, name));
    entries.iter().filter(|path| path.file_name().is_some_and(|found| found == name)).cloned().chain(inner).collect()
}

/// The router's configuration in values, numbers as floats.
fn picker(values: &Value) -> Value {
    fn floats(value: &mut Value) {
        match value {
            Value::Object(map) => map.values_mut().for_each(floats),
            Value::Array(items) => items.iter_mut().for_each(floats),
            Value::Number(number) => *value = number.as_f64().expect("a number").into(),
            _ => {}
        }
    }
    let epp = &values["router"]["epp"];
    let file = epp["pluginsConfigFile"].as_str().expect("a name");
    let mut config = documents(epp["pluginsCustomConfig"][file].as_str().expect("a configuration")).remove(0);
    floats(&mut config);
    config
}

/// A schema that refuses what it does not name.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            let open = map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
            if map.contains_key("properties") && !map.contains_key("additionalProperties") && !open {
                map.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
            map.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[test]
fn what_is_written_is_valid() {
    let Some(data) = super::data() else { return };
    let schema = |file: &str, version: &str| {
        let text = std::fs::read_to_string(data.join("llm-d/schemas").join(file)).expect("a schema");
        let mut document = documents(&text).remove(0);
        let versions = document["spec"]["versions"].as_array_mut().expect("versions");
        let mut schema = versions.iter_mut().find(|found| found["name"] == version).expect("the version")["schema"]
            ["openAPIV3Schema"]
            .take();
        close(&mut schema);
        jsonschema::validator_for(&schema).expect("a schema")
    };
    let groups = schema("leaderworkerset.x-k8s.io_leaderworkersets.yaml", "v1");
    let pools = schema("inference.networking.k8s.io_inferencepools.yaml", "v1");
    let modelservice =
        std::fs::read(data.join("llm-d/schemas/llm-d-modelservice.values.schema.json")).expect("a schema");
    let modelservice =
        jsonschema::validator_for(&serde_json::from_slice(&modelservice).expect("JSON")).expect("a schema");
    let mut valid = 0;
    let guides = guides().into_iter().map(|(name, _, description)| (name, description));
    for (name, description) in guides.chain(proposals().into_iter().map(|(name, _, description)| (name, description))) {
        for (path, text) in manifest::write_files(&description).expect("files") {
            if !path.contains(".yaml") {
                continue;
            }
            for document in documents(&text) {
                // Patches are parts of objects.
                if document.get("apiVersion").is_some() && !path.starts_with("modelserver/") {
                    manifest::kubernetes::Document::read(document.clone()).expect("fields that are known");
                }
                let validator = match document["kind"].as_str() {
                    Some("LeaderWorkerSet") => &groups,
                    Some("InferencePool") => &pools,
                    None if path.contains("modelservice") => &modelservice,
                    _ => continue,
                };
                let errors: Vec<_> = validator
                    .iter_errors(&document)
                    .map(|error| format!("{}: {error}", error.instance_path()))
                    .collect();
                assert!(errors.is_empty(), "{name} {path}: {errors:#?}");
                valid += 1;
            }
        }
    }
    println!("{valid} documents are valid");
    let groups = 2 * (2 + 2 + 1);
    assert_eq!(valid, 2 * (7 + 5) + groups, "values and a pool each; groups in an overlay and rendered");
}

/// Deployments of recommendations, with the GPU that they are for: one pool and two, on one host each and on several.
fn proposals() -> Vec<(&'static str, &'static str, Description)> {
    let role = |role: &str, model: &str, gpu: &str, flags: &str| {
        serde_json::json!({
            "role": role, "model": model, "gpu": gpu, "gpus_per_node": 8, "replicas": 2,
            "kv_bytes_per_token_per_gpu": null, "command": format!("vllm serve {model} {flags}"),
        })
    };
    let (qwen, oss, deepseek) = ("Qwen/Qwen3-32B", "openai/gpt-oss-120b", "deepseek-ai/DeepSeek-R1");
    let wide = "--tensor-parallel-size 1 --data-parallel-size 16 --enable-expert-parallel";
    let answers = [
        ("aggregated", "H100", vec![role("both", qwen, "H100", "--tensor-parallel-size 2")]),
        (
            "pools",
            "H100",
            vec![
                role("prefill", qwen, "H100", "--tensor-parallel-size 1 --max-model-len 30720"),
                role("decode", qwen, "H100", "--tensor-parallel-size 4"),
            ],
        ),
        ("experts", "H100", vec![role("both", oss, "H100", "--data-parallel-size 2 --enable-expert-parallel")]),
        ("wide", "H200", vec![role("prefill", deepseek, "H200", wide), role("decode", deepseek, "H200", wide)]),
        ("group", "H200", vec![role("both", deepseek, "H200", wide)]),
    ];
    let describe = |roles: Vec<Value>| {
        let answer = serde_json::json!({
            "schema": "config-explorer/recommend/v1",
            "engine_version": "0.23.0",
            "load": {"input_tokens": 1000.0, "output_tokens": 300.0, "rate_per_s": 10.0, "users": null},
            "recommendations": [{"rank": 1, "roles": roles}],
        });
        let proposals = Proposals::read(answer, "answer").expect("an answer");
        proposals.describe(1, &ProposalOptions::default(), Accelerators::built_in()).expect("a deployment")
    };
    answers.into_iter().map(|(name, gpu, roles)| (name, gpu, describe(roles))).collect()
}

/// The engines' flags by role.
fn served(documents: &[Value]) -> BTreeMap<String, ServeArgs> {
    let mut served = BTreeMap::new();
    for document in documents {
        let hosts = document.pointer("/spec/leaderWorkerTemplate/size").and_then(Value::as_u64).unwrap_or(1);
        let pod = ["/spec/template", "/spec/leaderWorkerTemplate/workerTemplate"];
        let Some(pod) = pod.iter().find_map(|path| document.pointer(path)) else { continue };
        for container in pod["spec"]["containers"].as_array().expect("containers") {
            let args = serve_args(container, hosts).expect("an engine");
            served.insert(pod["metadata"]["labels"]["llm-d.ai/role"].to_string(), args);
        }
    }
    served
}

#[test]
fn guides_with_patches_are_the_proposal() {
    let Some(data) = super::data() else { return };
    let guides = data.canonicalize().expect("the data").join("llm-d/guides");
    let mut stood_up = 0;
    for (name, gpu, description) in proposals() {
        let files: BTreeMap<String, String> = manifest::write_files(&description).expect("files").into_iter().collect();
        let Some(scenario) = files.get("standup/scenario.yaml") else {
            // No guide has one group of hosts that does both.
            assert_eq!(name, "group");
            continue;
        };
        let kustomize = &documents(scenario)[0]["scenario"][0]["kustomize"];
        let guide = kustomize["guideName"].as_str().expect("a guide");
        let folder = tempfile::TempDir::new().expect("a folder");
        let wrapper = serde_json::json!({
            "resources": [guides.join(guide).join("modelserver/gpu/vllm/base")],
            "patches": kustomize["patches"],
        });
        std::fs::write(folder.path().join("kustomization.yaml"), wrapper.to_string()).expect("a file");
        let resolved = manifest::resolve(folder.path(), &read).expect("an overlay").documents;
        assert_eq!(served(&resolved), served(&documents(&files["rendered.yaml"])), "{name}");
        let inputs =
            [Input::Documents { file: name.to_owned(), documents: resolved, remote: Vec::new(), repeated: Vec::new() }];
        let report = check(&inputs, &context(&data, gpu));
        assert!(report.findings.is_empty() && !report.roles.is_empty(), "{name}: {:#?}", report.findings);
        stood_up += 1;
    }
    println!("{stood_up} guides with patches run what was proposed");
    assert_eq!(stood_up, 4);
}
