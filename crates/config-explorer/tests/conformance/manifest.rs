//! llm-d's files: overlays against what `kubectl kustomize` made of them, what we write against the guides, and the check
//! over all of them.

use std::collections::BTreeMap;
use std::path::Path;

use config_explorer::hardware::Accelerators;
use config_explorer::manifest;
use config_explorer::manifest::check::{Context, Severity, check, read as read_inputs};
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
const LARGER_GPUS: [(&str, &str); 4] = [
    ("wide-ep-lws_modelserver_gpu_vllm-deepseek-v4", "GB200"),
    ("wide-ep-lws_modelserver_gpu_vllm_dgx-cloud-gb200", "GB200"),
    ("wide-ep-lws", "H200"),
    ("agentic-serving_modelserver_gpu", "H200"),
];

#[test]
fn the_guides_pass_the_check() {
    let Some(data) = super::data() else { return };
    let accelerators = Accelerators::built_in();
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
        let report = check(
            &read_inputs(&entry.path()).expect("a rendered guide"),
            &Context {
                accelerators,
                accelerator: Some(accelerators.find(gpu).expect("in the catalogue")),
                gpu_memory_gib: None,
                gpus_per_node: None,
                engine: None,
                model: &|id| model(&data, id),
            },
        );
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
    assert_eq!(errors, [""; 0]);
}
