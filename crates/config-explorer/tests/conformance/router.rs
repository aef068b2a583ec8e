//! The router against the recorded cases of llm-d's own, and the configurations of llm-d's guides.

use std::path::{Path, PathBuf};

use config_explorer::simulation::router::{Endpoint, LoadOptions, ROLE_LABEL, Request, Router, RouterConfig};
use serde_json::Value;

use crate::data;

#[path = "../../examples/router_conformance/main.rs"]
#[expect(dead_code, reason = "the program around the answers is not called here")]
mod router_conformance;

#[test]
fn every_case_is_answered_as_by_the_router() {
    let Some(data) = data() else { return };
    let text = std::fs::read_to_string(data.join("router/vectors.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let cases = file["vectors"].as_array().unwrap();
    let lines = cases.iter().map(router_conformance::line);
    let wrong: Vec<_> = lines.filter(|line| line["equal"] != true).map(|line| line.to_string()).collect();
    assert!(!cases.is_empty(), "the file has no cases");
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn every_configuration_of_the_guides_loads_and_runs() {
    let Some(data) = data() else { return };
    let mut configs = Vec::new();
    for path in files(&data.join("llm-d/guides")) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        configs.extend(configs_in(&text).into_iter().map(|config| (path.display().to_string(), config)));
    }
    assert!(configs.len() >= 15, "only {} configurations found", configs.len());
    for (path, text) in &configs {
        let options = LoadOptions { strict: true, ..LoadOptions::default() };
        let config = RouterConfig::load(text, &options, path).unwrap();
        let endpoint = |role: &str| Endpoint {
            name: role.to_owned(),
            labels: [(ROLE_LABEL.to_owned(), role.to_owned())].into(),
            ..Endpoint::default()
        };
        let endpoints = ["encode", "prefill", "decode"].map(endpoint).to_vec();
        let mut router = Router::new(&config, endpoints, 1).unwrap();
        let prompts: &[Vec<u32>] = &[(0..1000).collect()];
        for id in 0..3 {
            let request = Request { id, token_count: 1000, prompt: &prompts, multimodal: true, ..Request::EMPTY };
            let decision = router.schedule(&request, id as f64).unwrap();
            assert!(!decision.decode.is_empty(), "{path}");
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The configurations in a file: each from its `apiVersion` to where the text is indented less.
fn configs_in(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let starts = (1..lines.len()).filter(|&at| lines[at].trim() == "kind: EndpointPickerConfig").map(|at| at - 1);
    starts
        .map(|start| {
            let width = indent(lines[start]);
            let inside = |line: &&&str| line.trim().is_empty() || (indent(line) >= width && !line.contains("```"));
            let body = lines[start..].iter().take_while(inside);
            body.map(|line| line.get(width..).unwrap_or_default()).collect::<Vec<_>>().join("\n")
        })
        .collect()
}
