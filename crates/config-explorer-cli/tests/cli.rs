//! Whole commands: exit status, stdout and stderr as a user sees them.

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin_cmd;
use tempfile::TempDir;

/// Accelerators that no change of the catalogue touches.
const ACCELERATORS: &str = r#"
[[accelerator]]
name = "X9-80GB"
vendor = "nvidia"
architecture = "Test"
form_factor = "sxm"
aliases = ["X9", "a|b, \"c\""]
memory_gib = 79.18
nominal_gb = 80
memory_bandwidth_gb_per_s = 3350
peak_bf16_tflops = 989
inter_node_gb_per_s = 50
gpus_per_node = 8
watts = 700
source = "made up"
"#;

/// A Llama of two layers.
const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
    "intermediate_size": 14336, "num_hidden_layers": 2, "num_attention_heads": 32, "num_key_value_heads": 8,
    "max_position_embeddings": 8192, "vocab_size": 128256, "torch_dtype": "bfloat16"}"#;

/// One server that told everything and one that told little; what they printed is made up.
const START_UPS: &str = "\
id,model,vllm,engine,gpu,gpu_total_gib,tp,util,max_num_batched_tokens,max_num_seqs,weights_gib,activation_gib,kv_gib,kv_tokens
1,test/two,0.19.0,V1,X9,79.19,1,0.9,8192,1024,2.8,1.9,66.0,8000000
2,test/other,,V1,,,,,,,,,,
";

/// The log of a server with the model above; what it printed is made up.
const LOG: &str = "\
INFO [utils.py:233] non-default args: {'model_tag': 'test/two', 'gpu_memory_utilization': 0.8}
INFO [core.py:101] Initializing a V1 LLM engine (v0.19.0) with config: model='test/two', dtype=torch.bfloat16, max_seq_len=4096
INFO [gpu_model_runner.py:1] Model loading took 2.80 GiB memory and 5.1 seconds
INFO [gpu_worker.py:1] Available KV cache memory: 58.11 GiB
INFO [kv_cache_utils.py:1] GPU KV cache size: 7,000,000 tokens
INFO [kv_cache_utils.py:1] Maximum concurrency for 4,096 tokens per request: 1,708.98x
";

/// The program in a home of its own, with a file of accelerators, a model, a table of start-ups and a log.
struct Program {
    home: TempDir,
}

impl Program {
    fn new() -> Self {
        let home = TempDir::new().expect("a temporary directory");
        std::fs::create_dir_all(home.path().join("models/test--two")).expect("the directory can be written");
        for (name, text) in [
            ("x9.toml", ACCELERATORS),
            ("models/test--two/config.json", CONFIG),
            ("starts.csv", START_UPS),
            ("vllm.log", LOG),
        ] {
            std::fs::write(home.path().join(name), text).expect("the directory can be written");
        }
        Self { home }
    }

    fn home(&self) -> &Path {
        self.home.path()
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = cargo_bin_cmd!("config-explorer");
        command.env_clear().env("HOME", self.home()).current_dir(self.home()).args(arguments.split_whitespace());
        command
    }

    fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().expect("the program starts")
    }

    /// What a command printed and how it ended, without what differs between machines and versions.
    fn transcript(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program prints UTF-8");
        let transcript = format!(
            "$ config-explorer {arguments}\nexit status: {}\n--- stdout\n{}--- stderr\n{}",
            output.status.code().expect("the program was not killed"),
            text(output.stdout),
            text(output.stderr),
        );
        transcript
            .replace(self.home().to_str().expect("a UTF-8 path"), "[HOME]")
            .replace(env!("CARGO_PKG_VERSION"), "[VERSION]")
    }
}

macro_rules! snapshot {
    ($name:literal, $arguments:expr) => {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!($name, Program::new().transcript($arguments));
        });
    };
}

#[test]
fn help_and_version() {
    snapshot!("help", "--help");
    snapshot!("no_arguments", "");
    snapshot!("version", "--version");
    snapshot!("accelerators_help", "accelerators --help");
}

#[test]
fn wrong_usage() {
    snapshot!("unknown_command", "plann");
    snapshot!("unknown_flag", "accelerators --gpus");
    snapshot!("unknown_format", "accelerators -o xml");
    snapshot!("unknown_schema", "schema plann");
}

#[test]
fn accelerators_in_every_format() {
    snapshot!("accelerators_table", "accelerators x9 --accelerators x9.toml");
    snapshot!("accelerators_json", "accelerators x9 --accelerators x9.toml -o json");
    snapshot!("accelerators_yaml", "accelerators x9 --accelerators x9.toml -o yaml");
    snapshot!("accelerators_csv", "accelerators x9 --accelerators x9.toml -o csv");
    snapshot!("accelerators_markdown", "accelerators x9 --accelerators x9.toml --output markdown");
}

#[test]
fn accelerators_that_are_not_there() {
    snapshot!("accelerators_none", "accelerators abacus -o json");
    snapshot!("accelerators_missing_file", "accelerators --accelerators missing.toml");
}

#[test]
fn models() {
    snapshot!("models_table", "models deepseek-v3.2");
    snapshot!("models_json", "models deepseek-v3.2 -o json");
    snapshot!("models_none", "models abacus");
}

#[test]
fn start_ups_in_every_format() {
    snapshot!("validate_memory_table", "validate memory starts.csv --models models --accelerators x9.toml");
    snapshot!("validate_memory_csv", "validate memory starts.csv --models models --accelerators x9.toml -o csv");
    snapshot!("validate_memory_json", "validate memory starts.csv --models models --accelerators x9.toml -o json");
    snapshot!(
        "validate_memory_markdown",
        "validate memory starts.csv --models models --accelerators x9.toml -o markdown"
    );
    snapshot!("validate_memory_skip", "validate memory starts.csv --models models --accelerators x9.toml --skip 1");
    snapshot!("validate_memory_no_table", "validate memory x9.toml --models models");
}

#[test]
fn logs_of_servers() {
    snapshot!("validate_logs_table", "validate logs vllm.log --gpu x9 --models models --accelerators x9.toml");
    snapshot!(
        "validate_logs_flags",
        "validate logs vllm.log --gpu x9 --models models --accelerators x9.toml --tp 2 -o csv"
    );
    snapshot!("validate_logs_no_model", "validate logs x9.toml --gpu x9 --accelerators x9.toml");
}

#[test]
fn schemas() {
    snapshot!("schema_list", "schema");
    snapshot!("schema_list_json", "schema -o json");
    snapshot!("schema_accelerators", "schema accelerators");
}

#[test]
fn completions_of_every_shell_name_the_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = Program::new().run(&format!("completions {shell}"));
        assert!(output.status.success(), "{shell}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("accelerators"), "{shell}");
    }
}

/// A reader that goes away (`| head`) is no failure.
#[cfg(unix)]
#[test]
fn a_closed_pipe_is_no_error() {
    use std::process::Stdio;

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("config-explorer"));
    let output = command.arg("accelerators").stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn plans() {
    let qwen = "plan Qwen/Qwen3-32B --gpu H100 --offline";
    snapshot!("plan_fits", &format!("{qwen} --tp 2"));
    snapshot!("plan_json", &format!("{qwen} --tp 2 --engine vllm@0.19.1 -o json"));
    snapshot!("plan_explained", &format!("{qwen} --tp 2 --pp 2 --engine vllm@0.19.1 --explain"));
    snapshot!("plan_does_not_fit", qwen);
    snapshot!("plan_wrong_tensor_parallel_size", &format!("{qwen} -tp 3"));
    snapshot!("plan_too_few_gpus", &format!("{qwen} --tp 8 --nodes 1 --gpus-per-node 4"));
    snapshot!("plan_sweep", &format!("{qwen} --sweep --max-gpus 4 -o csv"));
    snapshot!("plan_kv_cache_beyond_the_device", &format!("{qwen} --kv-cache-memory-bytes 20G"));
    snapshot!("plan_for_more_requests", &format!("{qwen} --tp 2 --concurrency 64"));
    snapshot!(
        "plan_draft_layers",
        "plan deepseek-ai/DeepSeek-V3 --gpu H200 --tp 8 --offline --speculative-config {\"method\":\"mtp\",\"num_speculative_tokens\":1}"
    );
    snapshot!("plan_hybrid", "plan Qwen/Qwen3.5-27B --gpu H100 --tp 4 --engine vllm@0.19.1 --offline");
    snapshot!("plan_experts", "plan deepseek-ai/DeepSeek-R1 --gpu H200 --dp 16 --enable-expert-parallel --offline");
}

#[test]
fn plans_that_cannot_be_made() {
    snapshot!("plan_unknown_gpu", "plan Qwen/Qwen3-32B --gpu H1000 --offline");
    snapshot!("plan_unknown_model", "plan nobody/Nothing --gpu H100 --offline");
    snapshot!("plan_beyond_the_model", "plan Qwen/Qwen3-32B --gpu H100 --max-model-len 1M --offline");
    snapshot!("plan_old_engine", "plan Qwen/Qwen3-32B --gpu H100 --engine vllm@0.2.0 --offline");
}

#[test]
fn estimates() {
    let qwen = "estimate Qwen/Qwen3-32B --gpu H100 --offline --engine vllm@0.19.1 --input-len 1000 --output-len 200";
    snapshot!("estimate_concurrency", &format!("{qwen} --tp 2 --concurrency 32"));
    snapshot!("estimate_json", &format!("{qwen} --tp 2 --rate 2 -o json"));
    snapshot!("estimate_csv", &format!("{qwen} --tp 2 --replicas 2 --rate 2 -o csv"));
    snapshot!("estimate_explained", &format!("{qwen} --tp 2 --concurrency 32 --explain"));
    snapshot!("estimate_saturated", &format!("{qwen} --tp 2 --rate 1000"));
    snapshot!(
        "estimate_pools",
        &format!("{qwen} --prefill-replicas 2 --prefill-tp 2 --decode-replicas 1 --decode-tp 4 --rate 4")
    );
    snapshot!("estimate_curve", &format!("{qwen} --curve --compare --tp=2 --compare --tp=4 -o csv"));
    snapshot!("estimate_curve_rate", &format!("{qwen} --tp 2 --curve=rate"));
}

#[test]
fn estimates_that_cannot_be_made() {
    let qwen = "estimate Qwen/Qwen3-32B --offline --tp 2";
    snapshot!("estimate_unknown_gpu", &format!("{qwen} --gpu H1000 --input-len 1 --output-len 1 --rate 1"));
    snapshot!("estimate_no_load", &format!("{qwen} --gpu H100 --input-len 1 --output-len 1"));
    snapshot!("estimate_zero_length", &format!("{qwen} --gpu H100 --input-len 0 --output-len 1 --rate 1"));
    snapshot!("estimate_zero_rate", &format!("{qwen} --gpu H100 --input-len 1 --output-len 1 --rate 0"));
    snapshot!("estimate_beyond_the_model", &format!("{qwen} --gpu H100 --input-len 50000 --output-len 1 --rate 1"));
    snapshot!(
        "estimate_unknown_picture",
        &format!("{qwen} --gpu H100 --input-len 1 --output-len 1 --curve --out curve.pdf")
    );
    snapshot!(
        "estimate_no_coefficients",
        &format!("{qwen} --gpu H100 --input-len 1 --output-len 1 --rate 1 --coefficients missing.toml")
    );
}

#[test]
fn a_curve_is_drawn_in_every_format() {
    let program = Program::new();
    for (name, start) in [("a.svg", b"<svg".as_slice()), ("a.png", b"\x89PNG"), ("a.html", b"<!doctype html>")] {
        let output = program.run(&format!(
            "estimate Qwen/Qwen3-32B --gpu H100 --offline --tp 2 --input-len 1000 --output-len 200 --curve --out {name}"
        ));
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let bytes = std::fs::read(program.home().join(name)).unwrap();
        assert!(bytes.to_ascii_lowercase().starts_with(&start.to_ascii_lowercase()), "{name}");
    }
}
