//! From a question to files: what is written passes the program's own check, is the same from a saved answer, and loses nothing.

use std::path::Path;
use std::process::Output;

use assert_cmd::cargo::cargo_bin_cmd;
use tempfile::TempDir;

/// A question whose answer is one pool, or two, on one host each or on several; and the GPU that it is about.
const QUESTIONS: [(&str, &str, &str); 7] = [
    ("aggregated", "H100", "Qwen/Qwen3-32B --gpus H100:16 --rate 10 --disaggregation never --tp 2"),
    ("disaggregated", "H100", "Qwen/Qwen3-32B --gpus H100:16 --rate 10 --disaggregation always"),
    ("experts", "H100", "openai/gpt-oss-120b --gpus H100:16 --rate 20 --disaggregation never"),
    (
        "wide",
        "H200",
        "deepseek-ai/DeepSeek-R1 --gpus H200:32 --rate 5 --disaggregation always --tp 1 --dp 16 --enable-expert-parallel",
    ),
    (
        "group",
        "H200",
        "deepseek-ai/DeepSeek-R1 --gpus H200:32 --rate 5 --disaggregation never --tp 1 --dp 16 --enable-expert-parallel",
    ),
    (
        "ranks",
        "H200",
        "deepseek-ai/DeepSeek-R1 --gpus H200:16 --rate 5 --disaggregation always --tp 1 --dp 8 --enable-expert-parallel",
    ),
    ("older", "H100", "Qwen/Qwen3-32B --gpus H100:16 --rate 10 --engine vllm@0.19.1"),
];
const LOAD: &str = "--offline --input-len 1000 --output-len 300 --slo ttft:p99<8s";

fn run(home: &Path, arguments: &str, stdin: &str) -> Output {
    let mut command = cargo_bin_cmd!("config-explorer");
    command.env_clear().env("HOME", home).current_dir(home).args(arguments.split_whitespace());
    command.write_stdin(stdin).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the program prints UTF-8")
}

/// Runs a command that succeeds, and gives what it prints.
fn succeed(home: &Path, arguments: &str, stdin: &str) -> String {
    let output = run(home, arguments, stdin);
    assert_eq!(output.status.code(), Some(0), "{arguments}\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).to_owned()
}

/// All files below a folder, by their paths in it.
fn files(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            found.extend(files(&entry.path()).into_iter().map(|(path, text)| (format!("{name}/{path}"), text)));
        } else {
            found.push((name, std::fs::read_to_string(entry.path()).expect("a text")));
        }
    }
    found.sort();
    found
}

#[test]
fn recommendations_become_files_that_pass_the_check() {
    let home = TempDir::new().expect("a temporary directory");
    let home = home.path();
    for (name, gpu, question) in QUESTIONS {
        let answer = succeed(home, &format!("recommend {question} {LOAD} -o json --deploy {name}"), "");
        let checked = succeed(home, &format!("check {name} --gpu {gpu} --offline -o json"), "");
        let checked: serde_json::Value = serde_json::from_str(&checked).expect("JSON");
        // The overlays' bases are on another machine; all else was checked.
        let mut codes: Vec<_> =
            checked["findings"].as_array().expect("findings").iter().map(|found| &found["code"]).collect();
        codes.dedup();
        assert!(codes.iter().all(|code| *code == "remote"), "{name}: {checked:#}");
        let planned: Vec<_> = checked["roles"].as_array().expect("roles").iter().map(|role| &role["fits"]).collect();
        assert!(!planned.is_empty() && planned.iter().all(|fits| *fits == true), "{name}: {checked:#}");
        let rendered = std::fs::read_to_string(home.join(name).join("rendered.yaml")).expect("a file");
        // Only the version that the guides pin is known to have all of their flags.
        let image = if name == "older" { "vllm/vllm-openai:v0.19.1\n" } else { ":v0" };
        assert!(rendered.contains(image), "{name}: {rendered}");
        assert_eq!(rendered.contains("--disable-access-log-for-endpoints"), name != "older", "{name}");
        let grouped = matches!(name, "wide" | "group");
        assert_eq!(rendered.contains("kind: LeaderWorkerSet"), grouped, "{name}");
        assert_eq!(rendered.contains("-prefill"), matches!(name, "disaggregated" | "wide" | "ranks"), "{name}");
        // What was predicted stands where it is measured.
        let readme = std::fs::read_to_string(home.join(name).join("README.md")).expect("a file");
        assert!(readme.contains("\n- ttft:p99<8000ms: "), "{readme}");
        // The saved answer gives the same files.
        succeed(home, &format!("deploy - --out again-{name}"), &answer);
        assert_eq!(files(&home.join(name)), files(&home.join(format!("again-{name}"))), "{name}");
    }
}

#[test]
fn options_change_what_is_written() {
    let home = TempDir::new().expect("a temporary directory");
    let home = home.path();
    let answer = succeed(home, &format!("recommend {} {LOAD} -o json", QUESTIONS[0].2), "");
    for (name, options, expected) in [
        ("precise", "--prefix-cache precise", &["render.yaml: kind: Service", "router.values.yaml: blockSize: 64"][..]),
        (
            "tiered",
            "--prefix-cache tiered --offload-gib 50",
            // 50 GiB hold 204,800 tokens of 256 KiB; the pod has them besides its 64 GiB for each of two GPUs.
            &["router.values.yaml: lruCapacityPerServer: 12800", "rendered.yaml: memory: 178Gi"],
        ),
        ("scaled", "--autoscaling 1:4", &["autoscaling.yaml: maxReplicas: 4"]),
        (
            "network",
            "--resource rdma/ib=1 --node-selector nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3",
            &["rendered.yaml: rdma/ib: \"1\"", "rendered.yaml: nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3"],
        ),
        (
            "named",
            "--name chat --namespace team",
            &["rendered.yaml: name: chat-nvidia-gpu-vllm-decode", "README.md: -n team"],
        ),
    ] {
        succeed(home, &format!("deploy - --out {name} {options}"), &answer);
        let checked = run(home, &format!("check {name} --gpu H100 --offline"), "");
        assert_eq!(checked.status.code(), Some(0), "{name}: {}", text(&checked.stdout));
        for line in expected {
            let (file, part) = line.split_once(": ").expect("a file and a part");
            let written = std::fs::read_to_string(home.join(name).join(file)).expect("a file");
            assert!(written.contains(part), "{name}: {file} lacks `{part}`:\n{written}");
        }
    }
    // Prefill and decode share no host's memory.
    let pools = succeed(home, &format!("recommend {} {LOAD} -o json", QUESTIONS[1].2), "");
    let refused = run(home, "deploy - --out pools --prefix-cache precise", &pools);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(!home.join("pools").exists());
}

#[test]
fn pools_on_different_accelerators_select_their_nodes() {
    let home = TempDir::new().expect("a temporary directory");
    let home = home.path();
    let question = "Qwen/Qwen3-32B --gpus H100:1,H200:1 --rate 2 --disaggregation always";
    succeed(home, &format!("recommend {question} {LOAD} --deploy mixed"), "");
    let rendered = std::fs::read_to_string(home.join("mixed/rendered.yaml")).expect("a file");
    for product in ["NVIDIA-H100-80GB-HBM3", "NVIDIA-H200"] {
        assert_eq!(rendered.matches(&format!("nvidia.com/gpu.product: {product}\n")).count(), 1, "{rendered}");
    }
}

#[test]
fn nothing_is_lost() {
    let home = TempDir::new().expect("a temporary directory");
    let home = home.path();
    let answer = succeed(home, &format!("recommend {} {LOAD} -o json", QUESTIONS[0].2), "");
    succeed(home, "deploy - --out out", &answer);
    let before = files(&home.join("out"));
    assert!(succeed(home, "deploy - --out out", &answer).contains("wrote 0 files to out, 12 are unchanged"));
    let edited = home.join("out/router.values.yaml");
    std::fs::write(&edited, "router: {}\n").expect("the folder can be written");
    std::fs::remove_file(home.join("out/README.md")).expect("the folder can be written");
    let refused = run(home, "deploy - --out out", &answer);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("such as router.values.yaml: nothing was written"),
        "{}",
        text(&refused.stderr)
    );
    assert!(!home.join("out/README.md").exists());
    assert_eq!(std::fs::read_to_string(&edited).expect("a file"), "router: {}\n");
    let forced = succeed(home, "deploy - --out out --overwrite -o csv", &answer);
    assert!(forced.contains("out/router.values.yaml,overwritten\n") && forced.contains("out/README.md,written\n"));
    assert_eq!(files(&home.join("out")), before);
}

#[test]
fn an_answer_that_is_not_written_is_still_given() {
    let home = TempDir::new().expect("a temporary directory");
    let home = home.path();
    let question = "Qwen/Qwen3-32B --gpus H100:16 --rate 1 --disaggregation never --tp 16";
    let output = run(home, &format!("recommend {question} {LOAD} --deploy files"), "");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stdout).contains("--tensor-parallel-size 16"), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("a rank has to stand in one host"), "{}", text(&output.stderr));
    assert!(!home.join("files").exists());
}

#[test]
fn what_is_no_recommendation_is_refused() {
    let home = TempDir::new().expect("a temporary directory");
    let home = home.path();
    let answer = succeed(home, &format!("recommend {} {LOAD} -o json", QUESTIONS[0].2), "");
    let none = run(
        home,
        "recommend Qwen/Qwen3-32B --gpus L40S:1 --rate 1 --offline --input-len 1 --output-len 1 -o json --deploy none",
        "",
    );
    assert_eq!(none.status.code(), Some(3));
    assert!(!home.join("none").exists(), "there is nothing to write");
    let path = answer.replace("\"model\": \"Qwen/Qwen3-32B\"", "\"model\": \"/models/qwen\"");
    let flag = answer.replace("--tensor-parallel-size 2", "--tensor-parallel-size two");
    let over_hosts = answer.replace("--tensor-parallel-size 2", "--tensor-parallel-size 16");
    let older = answer
        .replace("--tensor-parallel-size 2", "--data-parallel-size 16")
        .replace("\"engine_version\": \"0.23.0\"", "\"engine_version\": \"0.19.1\"");
    let no_version = answer.replace("\"engine_version\": \"0.23.0\"", "\"engine_version\": \"new\"");
    let other_maker = answer.replace("H100-SXM-80GB", "MI300X");
    for (arguments, stdin, status, said) in [
        ("deploy -", "no JSON", 1, "- is no JSON"),
        ("deploy -", "{}", 1, "it has no schema"),
        ("deploy -", "{\"schema\": \"config-explorer/plan/v1\"}", 1, "`config-explorer/plan/v1`"),
        ("deploy -", "{\"schema\": \"config-explorer/recommend/v1\"}", 1, "missing field"),
        ("deploy -", text(&none.stdout), 2, "the answer has 0 recommendations"),
        ("deploy - --rank 9", &answer, 2, "there is no rank 9"),
        ("deploy - --name Chat", &answer, 2, "lower-case"),
        ("deploy - --name 4chat", &answer, 2, "begin with a letter"),
        ("deploy - --namespace ../x", &answer, 2, "lower-case"),
        ("deploy - --autoscaling 4:1", &answer, 2, "1 <= MIN <= MAX"),
        ("deploy - --prefix-cache tiered --offload-gib 0.0000001", &answer, 2, "hold no token"),
        ("deploy -", &path, 2, "this is a path"),
        ("deploy -", &flag, 2, "--tensor-parallel-size"),
        ("deploy -", &over_hosts, 2, "a rank has to stand in one host"),
        ("deploy -", &older, 2, "groups of hosts are written for vLLM 0.23.0 and newer"),
        ("deploy -", &no_version, 1, "new"),
        ("deploy -", &other_maker, 2, "only for NVIDIA's"),
        ("deploy missing.json", "", 1, "missing.json"),
    ] {
        let refused = run(home, arguments, stdin);
        let told = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(status), "{arguments}: {told}");
        assert!(told.contains(said), "{arguments}: {told}");
    }
    assert_eq!(files(home), [], "nothing was written");
}
