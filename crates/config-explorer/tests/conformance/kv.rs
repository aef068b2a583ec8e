//! The KV cache planner against vLLM's own, case by case.

use serde_json::Value;

use crate::data;
use kv_conformance::{ANSWERS, answered};

#[path = "../../examples/kv_conformance.rs"]
#[expect(dead_code, reason = "the program around the answers is not called here")]
mod kv_conformance;

/// What an answer leaves out: log lines, the text of errors and the tensors.
const LEFT_OUT: [&str; 4] = ["log", "message", "tensors", "workers"];

/// A stage without layers, on which vLLM itself crashes.
const CRASH: &str = "pp2_empty_stage";
/// The estimate of this case was recorded with the memory, not with the override that is checked.
const OVERRIDE: &str = "llama8b_override";
const ESTIMATE: &str = "est_max_len_and_needed_bytes";

#[test]
fn every_case_is_answered_as_by_vllm() {
    let Some(data) = data() else { return };
    let text = std::fs::read_to_string(data.join("vllm-kv/cases.json")).unwrap();
    let recorded: Value = serde_json::from_str(&text).unwrap();
    let computed = answered(recorded.clone()).unwrap();
    let pairs = |key: &str| {
        let list = |file: &Value| file[key].as_array().unwrap().clone();
        list(&recorded).into_iter().zip(list(&computed)).collect::<Vec<_>>()
    };

    let (mut answers, mut differences) = (0, Vec::new());
    for (recorded, computed) in pairs("cases") {
        let name = recorded["name"].as_str().unwrap();
        for (version, _) in ANSWERS.iter().filter(|_| name != CRASH) {
            let expected = comparable(&recorded["expected"][version], name);
            let answer = comparable(&computed["expected"][version], name);
            answers += 1;
            if answer != expected {
                differences.push(format!("{name} {version}\n  expected {expected}\n  answered {answer}"));
            }
        }
    }
    for (recorded, computed) in pairs("hybrid_block_size_0_19_1") {
        answers += 1;
        if recorded["output"] != computed["output"] {
            let (expected, answer) = (&recorded["output"], &computed["output"]);
            differences.push(format!("{}\n  expected {expected}\n  answered {answer}", recorded["name"]));
        }
    }
    assert!(answers > 0, "the file has no cases");
    assert!(differences.is_empty(), "{} of {answers}\n{}", differences.len(), differences.join("\n"));
}

/// An answer without what is left out; of a refused grouping, only the class of the error.
fn comparable(answer: &Value, name: &str) -> Value {
    let mut answer = answer.clone();
    if let Some(fields) = answer.as_object_mut() {
        fields.retain(|key, _| !LEFT_OUT.contains(&key.as_str()));
        if name == OVERRIDE {
            fields.remove(ESTIMATE);
        }
        if let Some(Value::String(error)) = fields.get_mut("groups_error") {
            error.truncate(error.find(':').unwrap_or(error.len()));
        }
    }
    answer
}
