//! The pre-flight check: files that are right pass, and each mistake is found, alone.

use std::path::{Path, PathBuf};

use config_explorer::hardware::Accelerators;
use config_explorer::latency::Calibration;
use config_explorer::manifest::check::{Context, Goal, Input, Report, Severity, check};
use config_explorer::model::{LoadOptions, Model};
use config_explorer::serving::{Load, Traffic};
use proptest::prelude::*;

const GROUP: &[&str] = &["group.yaml"];
const AGGREGATED: &[&str] = &["aggregated.yaml", "aggregated.values.yaml"];
const APART: &[&str] = &["apart.yaml", "apart.values.yaml"];
const PRECISE: &[&str] = &["precise.yaml", "precise.values.yaml"];
const TIERED: &[&str] = &["aggregated.yaml", "tiered.values.yaml"];
const SCALED: &[&str] = &["aggregated.yaml", "autoscaler.yaml"];
const MODELSERVICE: &[&str] = &["modelservice.values.yaml"];

/// A mistake: in which of the files, what is replaced by what, and what must be found.
const MISTAKES: &[(&[&str], &str, &str, &str)] = &[
    (
        AGGREGATED,
        "matchLabels: {llm-d.ai/guide: small, llm-d.ai/role: decode}",
        "matchLabels: {app: small}",
        "error selector-mismatch",
    ),
    (AGGREGATED, "selector: {llm-d.ai/guide: small}", "selector: {app: other}", "warning service-selects-nothing"),
    (AGGREGATED, "--tensor-parallel-size=2", "--tensor-parallel-size=4", "error gpu-count"),
    (AGGREGATED, "nvidia.com/gpu: 2", "nvidia.com/gpu: 4", "warning gpu-count"),
    (MODELSERVICE, "{tensor: 2}", "{tensor: 3}", "error invalid-parallelism"),
    (MODELSERVICE, "{tensor: 2}", "{tensor: 16}", "error node-too-small"),
    (AGGREGATED, "Qwen/Qwen3-8B", "Qwen/Qwen3-235B-A22B", "error does-not-fit"),
    (AGGREGATED, "--max-model-len=32768", "--max-model-len=65536", "error max-model-len"),
    (AGGREGATED, "containerPort: 8000", "containerPort: 9000", "error port-mismatch"),
    (AGGREGATED, "/v1/models, port: http", "/v1/models, port: web", "error port-mismatch"),
    (AGGREGATED, "--max-num-seqs", "--max-nun-seqs", "error unknown-flag"),
    (AGGREGATED, "--max-num-seqs", "--of-another-engine", "note unknown-flag"),
    (AGGREGATED, "--max-num-seqs=64", "--swap-space=4", "error unknown-flag"),
    (AGGREGATED, "--max-num-seqs=64", "--num-scheduler-steps=8", "error unknown-flag"),
    (AGGREGATED, "v0.23.0", "latest", ""),
    (AGGREGATED, "cpu_bytes_to_use\": 10737418240", "cpu_bytes_to_use\": 107374182400", "error offload-size"),
    (
        AGGREGATED,
        "metadata:\n  name: small-decode",
        "metadata: {}\nmetadata:\n  name: small-decode",
        "warning repeated-key",
    ),
    (APART, "args: [--port=8000, --vllm-port=8200", "args: [--port=8000, --vllm-port=8300", "error port-mismatch"),
    (APART, "--port=8200, --block-size=128", "--port=8200, --block-size=64", "warning block-size-mismatch"),
    (
        APART,
        "--port=8200, --block-size=128, --kv-transfer-config, '{\"kv_connector\": \"NixlConnector\"",
        "--port=8200, --block-size=128, --kv-transfer-config, '{\"kv_connector\": \"MooncakeConnector\"",
        "error kv-connector-mismatch",
    ),
    (APART, "replicas: 1", "replicas: 2", "warning router-replicas"),
    (
        APART,
        "deciderPluginName: always-disagg-pd-decider",
        "deciderPluginName: sometimes-disagg-pd-decider",
        "error dangling-reference",
    ),
    (GROUP, "{name: LOCAL, value: \"8\"}", "{name: LOCAL, value: \"4\"}", "warning gpu-count"),
    (GROUP, "LWS_GROUP_SIZE * LOCAL", "LWS_GROUP_SIZE + LOCAL", "error invalid-parallelism"),
    (GROUP, "--data-parallel-size-local $LOCAL", "--data-parallel-size-local $GPUS", "note unresolved-variable"),
    (GROUP, "--data-parallel-supervisor-port 8008", "--data-parallel-supervisor-port 8009", "error port-mismatch"),
    (
        AGGREGATED,
        "matchLabels: {llm-d.ai/guide: small}",
        "matchLabels: {llm-d.ai/guide: smal}",
        "error pool-selects-nothing",
    ),
    (AGGREGATED, "number: 8000", "number: 8080", "error target-ports"),
    (AGGREGATED, "pluginsConfigFile: plugins.yaml", "pluginsConfigFile: plugin.yaml", "error config-file"),
    (AGGREGATED, "pluginRef: prefix", "pluginRef: prefix-cache-scorer", "error dangling-reference"),
    (AGGREGATED, "type: prefix-cache-scorer", "type: prefix-cash-scorer", "error unknown-plugin"),
    (AGGREGATED, "weight: 3", "weight: much", "error router-config"),
    (AGGREGATED, "llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1", "warning deprecated"),
    (PRECISE, "blockSize: 64", "blockSize: 16", "error block-size-mismatch"),
    (PRECISE, "tcp://*:5556", "tcp://*:5557", "error kv-events-port"),
    (
        PRECISE,
        "--kv-events-config={\"enable_kv_cache_events\":true,\"publisher\":\"zmq\",\"endpoint\":\"$(ENDPOINT)\"}",
        "--enable-prefix-caching",
        "error kv-events-missing",
    ),
    (TIERED, "lruCapacityPerServer: 4000", "lruCapacityPerServer: 82000", "warning offload-blocks"),
    (MODELSERVICE, "{tensor: 2}", "{tensor: 2, pipeline: 2}", "error unknown-key"),
    (MODELSERVICE, "--max-model-len=16384", "--gpu-memory-utilization=90", "error invalid-flag"),
    (MODELSERVICE, "create: true", "create: [", "error malformed"),
    (MODELSERVICE, "replicas: 2", "replicas: {{ .Values.replicas }}", "note template"),
    (SCALED, "name: small-decode\n  minReplicas", "name: small-decoder\n  minReplicas", "error autoscaler-target"),
    (SCALED, "minReplicas: 1", "minReplicas: 9", "error autoscaler-bounds"),
    (SCALED, "variant_name: small-decode", "variant_name: small-prefill", "warning autoscaler-metric"),
    (GROUP, "vllm/vllm-openai:v0.23.0", "REPLACE_MODEL_SERVER_IMAGE", "error image-placeholder"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/check")
}

fn run(inputs: &[Input]) -> Report {
    run_under(inputs, None)
}

/// Checks files under a load of prompts of 1,000 tokens and outputs of 300, so many a second.
fn run_at(inputs: &[Input], rate_per_s: f64, slo: &str) -> Report {
    let traffic = Traffic::new(1000.0, 300.0, 0.0, Load::Open { rate_per_s }).expect("a load");
    let objectives = slo.parse().expect("objectives");
    run_under(inputs, Some(Goal { traffic, objectives, calibration: Calibration::built_in() }))
}

fn run_under(inputs: &[Input], goal: Option<Goal<'_>>) -> Report {
    let accelerators = Accelerators::built_in();
    let options = LoadOptions { offline: true, ..LoadOptions::from_env(|_| None) };
    let context = Context {
        accelerators,
        accelerator: Some(accelerators.find("H100").expect("in the catalogue")),
        gpu_memory_gib: None,
        gpus_per_node: None,
        engine: None,
        goal,
        model: &|id| Model::load(id, &options),
    };
    check(inputs, &context)
}

/// Findings of some files, with the first occurrence of a text replaced in whichever has it.
fn findings(files: &[&str], from: &str, to: &str) -> Vec<String> {
    let mut replaced = from.is_empty();
    let inputs: Vec<Input> = files
        .iter()
        .map(|file| {
            let text = std::fs::read_to_string(folder().join(file)).expect("a file of the tests");
            let hit = !replaced && text.contains(from);
            replaced |= hit;
            let text = if hit { text.replacen(from, to, 1) } else { text };
            Input::parse(file, text.as_bytes())
        })
        .collect();
    assert!(replaced, "`{from}` is in none of {files:?}");
    let word = |severity| match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let report = run(&inputs);
    report.findings.iter().map(|finding| format!("{} {}", word(finding.severity), finding.code)).collect()
}

#[test]
fn files_that_are_right_pass() {
    for files in [GROUP, AGGREGATED, APART, PRECISE, TIERED, SCALED, MODELSERVICE] {
        assert_eq!(findings(files, "", ""), [""; 0], "{files:?}");
    }
}

#[test]
fn each_mistake_is_found_alone() {
    let mut wrong = Vec::new();
    for (files, from, to, expected) in MISTAKES {
        let found = findings(files, from, to);
        if found.join(", ") != *expected {
            wrong.push(format!("`{from}` -> `{to}`: expected {expected}, found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn roles_apart_need_a_connector_and_a_proxy() {
    let text = std::fs::read_to_string(folder().join("apart.yaml")).expect("a file of the tests");
    let connector = ", --kv-transfer-config, '{\"kv_connector\": \"NixlConnector\", \"kv_role\": \"kv_both\"}'";
    let report = run(&[Input::parse("apart.yaml", text.replace(connector, "").as_bytes())]);
    let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["kv-connector-missing", "kv-connector-missing"], "one each for prefill and decode");
    let text = text.replace("routing-proxy", "other").replace("llm-d-router-disagg-sidecar", "other");
    let report = run(&[Input::parse("apart.yaml", text.as_bytes())]);
    let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["routing-proxy-missing"]);
}

#[test]
fn prefill_needs_a_router_that_knows_of_it() {
    let text = |file: &str| std::fs::read_to_string(folder().join(file)).expect("a file of the tests");
    let values = text("aggregated.values.yaml").replace("guide: small", "guide: apart");
    let inputs = [Input::parse("apart.yaml", text("apart.yaml").as_bytes()), Input::parse("router", values.as_bytes())];
    let codes: Vec<_> = run(&inputs).findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["router-not-disaggregated"]);
}

#[test]
fn an_autoscaler_says_how_far_a_role_may_grow() {
    let text = |file: &str| std::fs::read_to_string(folder().join(file)).expect("a file of the tests");
    let scaler = Input::parse("autoscaler.yaml", text("autoscaler.yaml").as_bytes());
    let files = [Input::parse("aggregated.yaml", text("aggregated.yaml").as_bytes()), scaler.clone()];
    assert_eq!(run(&files).roles[0].replicas_max, Some(4));
    // What it scales may be in files that are not checked.
    assert!(run(&[scaler]).findings.is_empty());
}

#[test]
fn objectives_are_checked_for_one_pool_and_two() {
    let text = |file: &str| std::fs::read_to_string(folder().join(file)).expect("a file of the tests");
    let codes = |report: &Report| report.findings.iter().map(|finding| finding.code).collect::<Vec<_>>();
    for (file, kinds) in [("aggregated.yaml", 1), ("apart.yaml", 2)] {
        let of = |replicas: &str| {
            let text = text(file)
                .replace("  replicas: 2\n", "")
                .replace("\nspec:\n", &format!("\nspec:\n  replicas: {replicas}\n"));
            [Input::parse(file, text.as_bytes())]
        };
        let quiet = run_at(&of("1"), 1.0, "ttft:p99<2s;tpot:mean<40ms");
        assert_eq!(codes(&quiet), [""; 0], "{file}");
        let held: Vec<_> = quiet.objectives.iter().map(|objective| objective.objective.as_str()).collect();
        assert_eq!(held, ["ttft:p99<2000ms", "tpot:mean<40ms"], "{file}");
        assert!(
            quiet.objectives.iter().all(|objective| objective.holds && objective.path.matches('/').count() == kinds)
        );
        // Too much for one of each kind is carried by sixteen.
        let busy = run_at(&of("1"), 200.0, "ttft:p99<2s");
        assert_eq!(codes(&busy), ["objective-missed"], "{file}");
        assert!(!busy.objectives[0].holds && busy.objectives[0].predicted.is_none() && !busy.passes());
        assert!(run_at(&of("16"), 200.0, "ttft:p99<2s").passes(), "{file}");
        let quick = run_at(&of("1"), 1.0, "tpot:mean<1us");
        assert_eq!(codes(&quick), ["objective-missed"], "{file}");
        assert_eq!(codes(&run_at(&of("0"), 1.0, "ttft:p99<2s")), ["load-not-checked"], "{file}");
    }
}

#[test]
fn requests_that_are_too_long_are_a_missed_objective() {
    let words = "vllm serve Qwen/Qwen3-8B --max-model-len 1200".split(' ').map(str::to_owned).collect();
    let report = run_at(&[Input::Command(words)], 1.0, "");
    let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["objective-missed"]);
}

#[test]
fn flags_are_those_of_the_version() {
    let text = std::fs::read_to_string(folder().join("aggregated.yaml")).expect("a file of the tests");
    for (flag, version, expected) in [
        ("--moe-backend=triton", "v0.16.0", "vLLM 0.16.0 has no flag `--moe-backend` yet: 0.17.0 is the first with it"),
        ("--moe-backend=triton", "v0.17.0", ""),
        ("--swap-space=4", "v0.17.1", ""),
        ("--swap-space=4", "v0.18.0", "vLLM 0.18.0 has no flag `--swap-space` any more: 0.18.0 is without it"),
        // Nothing is said of a version that is not known.
        ("--swap-space=4", "latest", ""),
        ("--guided-decoding-backend=xgrammar", "v0.11.0", ""),
        (
            "--guided-decoding-backend=xgrammar",
            "v0.23.0",
            "vLLM 0.23.0 has no flag `--guided-decoding-backend` any more: 0.12.0 is without it",
        ),
    ] {
        let text = text.replace("--max-num-seqs=64", flag).replace("v0.23.0", version);
        let found: Vec<_> = run(&[Input::parse("file", text.as_bytes())]).findings;
        let messages: Vec<_> = found.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(messages.join("; "), expected, "{flag} {version}");
    }
}

#[test]
fn a_command_is_planned() {
    let words = "vllm serve Qwen/Qwen3-8B -tp 2".split(' ').map(str::to_owned).collect();
    let report = run(&[Input::Command(words)]);
    assert!(report.passes() && report.findings.is_empty(), "{report:?}");
    assert!(report.roles[0].plan.fits && report.roles[0].plan.gpus == 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        run(&[Input::parse("foreign.yaml", &bytes)]);
    }

    #[test]
    fn any_part_of_a_file_is_read(at in 0_usize..8, cut in any::<prop::sample::Index>(), junk in "[\\PC]{0,8}") {
        let files = [GROUP, AGGREGATED, APART, PRECISE, MODELSERVICE].concat();
        let bytes = std::fs::read(folder().join(files[at])).expect("a file of the tests");
        let cut = cut.index(bytes.len());
        let mangled = [&bytes[..cut], junk.as_bytes(), &bytes[(cut + junk.len()).min(bytes.len())..]].concat();
        run(&[Input::parse("cut.yaml", &bytes[..cut]), Input::parse("mangled.yaml", &mangled)]);
    }

    #[test]
    fn any_command_is_read(words in prop::collection::vec("(vllm|serve|--[a-z]{1,9}(=[0-9a-z{}\"]{0,6})?|[$(){}A-Z0-9-]{1,8})", 0..9)) {
        run(&[Input::Command(words)]);
    }
}
