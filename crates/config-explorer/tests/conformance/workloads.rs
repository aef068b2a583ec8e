//! Recorded traces, and the workloads of llm-d's guides and of the tools' own result files.

use std::path::Path;

use config_explorer::simulation::Traffic;
use config_explorer::workload::{ReadOptions, Selection, TraceSource, parse_workload, read_workload};

use crate::data;

#[test]
fn traces_are_read_whole() {
    let Some(data) = data() else { return };
    for (file, requests, sharing) in [
        ("azure_llm_2023_code.csv", 8819, 0.0),
        ("azure_llm_2023_conv.csv", 19366, 0.0),
        ("mooncake_conversation_first2000.jsonl", 2000, 0.2),
    ] {
        let trace = TraceSource { strict: true, ..TraceSource::default() };
        let options = ReadOptions { trace, ..ReadOptions::default() };
        let read = read_workload(&data.join("traces").join(file), &options).unwrap();
        assert!(read.warnings.is_empty(), "{:?}", read.warnings);
        let summary = Traffic::of_file(read, 0).summary(u32::MAX).unwrap();
        println!("{file}: {summary:?}");
        assert_eq!(summary.requests, requests);
        assert!(summary.prefix_hit_rate_bound >= sharing, "{summary:?}");
    }
}

#[test]
fn workloads_of_other_tools_are_drawn_from() {
    let Some(data) = data() else { return };
    let guides = data.join("llm-d/guides");
    let formats = data.join("formats");
    for (path, stage) in [
        (guides.join("wide-ep-lws/inference-perf.yaml"), None),
        (guides.join("pd-disaggregation/benchmark-templates/tpu.yaml"), None),
        (guides.join("agentic-serving/benchmark-templates/guide.yaml"), None),
        (guides.join("agentic-serving/benchmark-templates/agentic-serving-nemotron-3-ultra.yaml"), None),
        (formats.join("inference-perf/inference-sim_training/config.yaml"), Some(1)),
    ] {
        let text = std::fs::read_to_string(&path).unwrap();
        // Templates are filled in before use.
        let text = text.replace("${CONCURRENCY_LEVEL}", "5").replace("${NUM_REQUESTS}", "100").replace("${SEED}", "12");
        show(&path, &text, stage);
    }
    let report = std::fs::read_to_string(formats.join("guidellm/guidellm_report_v2.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    show(&formats.join("guidellm"), &report["config"].to_string(), Some(0));
}

fn show(path: &Path, text: &str, stage: Option<usize>) {
    let selection = Selection { workload: None, stage };
    let (workload, warnings) = parse_workload(text.as_bytes(), &path.display().to_string(), &selection).unwrap();
    let summary = Traffic { workload, trace: None, seed: 1 }.summary(10_000).unwrap();
    println!("{}: {summary:?}\n  {}", path.display(), warnings.join("\n  "));
    assert!(warnings.iter().all(|warning| !warning.contains("unknown fields")), "{warnings:?}");
}
