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

/// The program in a home of its own, with a file of accelerators.
struct Program {
    home: TempDir,
}

impl Program {
    fn new() -> Self {
        let home = TempDir::new().expect("a temporary directory");
        std::fs::write(home.path().join("x9.toml"), ACCELERATORS).expect("the directory can be written");
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
