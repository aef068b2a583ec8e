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

/// Two results of `vllm bench serve`, made up, as `--append-result` writes them.
const RESULTS: &str = r#"{"date": "20260102-030405", "model_id": "test/two", "tp": "2", "num_prompts": 100, "request_rate": "inf", "max_concurrency": 16, "duration": 50.0, "completed": 98, "total_input_tokens": 98000, "total_output_tokens": 9800, "output_throughput": 196.0, "mean_ttft_ms": 200.0, "mean_tpot_ms": 20.0}
{"date": "20260102-040405", "model_id": "test/two", "tp": "2", "num_prompts": 100, "request_rate": "inf", "max_concurrency": 32, "duration": 30.0, "completed": 100, "total_input_tokens": 100000, "total_output_tokens": 10000, "output_throughput": 333.0, "mean_ttft_ms": 300.0, "mean_tpot_ms": 25.0}
"#;

/// Two classes, one of them conversations, in a day of two stages.
const WORKLOAD: &str = "\
requests: 150
arrivals:
  schedule:
    cycle: true
    stages:
      - { rate_per_s: 1, to_rate_per_s: 6, duration_s: 20 }
      - { burst: 10, rate_per_s: 6, duration_s: 10 }
prefix: { tokens: 500, groups: 5, popularity: shuffled }
slo: ttft:p99<2s
classes:
  - name: chat
    share: 3
    input: { mean: 300, stddev: 100, min: 10, max: 2000 }
    output: 60
    session: { turns: 3, think_time_s: 1 }
  - { name: batch, share: 1, priority: 10, input: 3000, output: 20 }
";

/// Seven requests, of which some share a prefix or a session.
const TRACE: &str = "\
arrival_s,input_tokens,output_tokens,prefix_group,prefix_tokens,session
0.0,1200,100,a,1000,
0.5,1300,100,a,1000,
1.0,400,50,,,s
1.5,1100,20,b,1000,
3.0,600,50,,,s
3.2,1250,100,a,1000,
4.0,900,50,,,s
";

/// A schedule that starts again for ever.
const ENDLESS: &str = "\
arrivals: { schedule: { cycle: true, stages: [{ rate_per_s: 5, duration_s: 10 }] } }
input: 100
output: 10
";

/// A server of the model above, with a flag misspelt.
const SERVER: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: two}
spec:
  selector: {matchLabels: {llm-d.ai/guide: two}}
  template:
    metadata: {labels: {llm-d.ai/guide: two}}
    spec:
      containers:
      - name: modelserver
        image: vllm/vllm-openai:v0.19.0
        command: [/bin/sh, -c, 'exec vllm serve models/test--two --max-num-sequs ${SEQS:-8}']
        resources: {limits: {nvidia.com/gpu: 1}}
";

/// The program in a home of its own, with a file of accelerators, a model, a table of start-ups and a log.
struct Program {
    home: TempDir,
}

impl Program {
    fn new() -> Self {
        let home = TempDir::new().expect("a temporary directory");
        for folder in ["models/test--two", "results", "deploy"] {
            std::fs::create_dir_all(home.path().join(folder)).expect("the directory can be written");
        }
        for (name, text) in [
            ("x9.toml", ACCELERATORS),
            ("models/test--two/config.json", CONFIG),
            ("starts.csv", START_UPS),
            ("vllm.log", LOG),
            ("results/vllm.jsonl", RESULTS),
            ("results/again.jsonl", RESULTS),
            ("results/gpu.yaml", "gpu: X9\nn_gpu: 2\n"),
            ("results/cut.json", &RESULTS[..200]),
            ("results/README.md", "# Results\n"),
            ("workload.yaml", WORKLOAD),
            ("trace.csv", TRACE),
            ("empty.csv", "arrival_s,input_tokens,output_tokens\n"),
            ("corrupt.csv", "arrival_s,input_tokens,output_tokens\n0,100,10\n1,many,10\n2,100,10\n"),
            ("strict.yaml", "trace: { file: corrupt.csv, strict: true }\n"),
            ("endless.yaml", ENDLESS),
            (
                "standing.yaml",
                "requests: 9\narrivals: { schedule: { cycle: true, stages: [{ burst: 5 }] } }\ninput: 9\noutput: 9\n",
            ),
            ("deploy/server.yaml", SERVER),
            ("deploy/router.values.yaml", "router: {modelServers: {matchLabels: {llm-d.ai/guide: twos}}}\n"),
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
fn files_and_commands_are_checked() {
    snapshot!("check_table", "check deploy --gpu x9 --accelerators x9.toml");
    snapshot!("check_csv", "check deploy --gpu x9 --accelerators x9.toml -o csv");
    snapshot!("check_json", "check --gpu x9 --accelerators x9.toml -o json -- vllm serve models/test--two -tp 2");
    snapshot!("check_unknown_gpu", "check deploy/server.yaml");
    let load = "--gpu H100 --offline --input-len 1000 --output-len 300";
    let server = "-- vllm serve Qwen/Qwen3-32B --tensor-parallel-size 2";
    snapshot!("check_objectives", &format!("check {load} --rate 5 --slo ttft:p99<2s;tpot:mean<60ms {server}"));
    snapshot!("check_objectives_missed", &format!("check {load} --concurrency 64 --slo tpot:mean<10ms {server}"));
    snapshot!("check_objectives_saturated", &format!("check {load} --rate 500 --slo ttft:p99<2s {server}"));
    snapshot!("check_objectives_too_long", &format!("check {load} --rate 1 {server} --max-model-len 1200"));
    snapshot!("check_objectives_no_load", "check deploy --slo ttft:p99<2s");
    snapshot!("check_missing_file", "check missing.yaml");
    snapshot!("check_nothing", "check");
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
fn results_go_into_a_store() {
    snapshot!("runs_import_table", "runs import results");
    snapshot!("runs_import_json", "runs import results --store kept --set gpu=H100 -o json");
    snapshot!("runs_import_strict", "runs import results --strict");
    snapshot!("runs_import_wrong_column", "runs import results --set colour=blue");
    snapshot!("runs_import_no_path", "runs import missing");
    snapshot!("runs_import_no_store", "runs import results --store results/cut.json/runs.parquet");

    let program = Program::new();
    program.run("runs import results --strict");
    assert!(!program.home().join("runs.parquet").exists());
    program.run("runs import results");
    let again = program.transcript("runs import results/vllm.jsonl runs.parquet");
    assert!(again.contains("imported 0 runs, already known 2, now 2 in runs.parquet"), "{again}");
}

/// Five reports of the example sweep and a file that is cut off, in a folder `runs` of a new home.
fn with_runs() -> Program {
    let program = Program::new();
    let folder = program.home().join("runs");
    std::fs::create_dir_all(&folder).expect("the directory can be written");
    let sweep = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/sweep");
    for name in ["tp1x4_c016", "tp1x4_c064", "tp4x1_c016", "tp4x1_c064", "2p1d_c064"] {
        let name = format!("benchmark_report_v0.2,_{name}.yaml");
        std::fs::copy(sweep.join(&name), folder.join(&name)).expect("the example is there");
    }
    std::fs::write(folder.join("results.json"), r#"{"benchmarks": ["#).expect("the directory can be written");
    std::fs::write(folder.join("README.md"), "no result").expect("the directory can be written");
    program
}

macro_rules! runs_snapshot {
    ($name:literal, $arguments:expr) => {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!($name, with_runs().transcript($arguments));
        });
    };
}

#[test]
fn runs() {
    runs_snapshot!("runs_help", "runs --help");
    runs_snapshot!("runs_list", "runs list runs");
    runs_snapshot!("runs_list_columns", "runs list runs --columns file,ISL,Mean_TTFT_ms --sort Mean_TTFT_ms -o csv");
    runs_snapshot!("runs_list_json", "runs list runs/benchmark_report_v0.2,_2p1d_c064.yaml -o json");
    runs_snapshot!("runs_filter", "runs filter runs --where is_pd=false,concurrency>=64 --slo ttft:p99<=5s");
    runs_snapshot!("runs_scenarios", "runs scenarios runs");
    runs_snapshot!("runs_scenarios_bounded", "runs scenarios runs --by model,concurrency --bounded -o json");
    runs_snapshot!("runs_scenarios_missing", "runs scenarios runs --by layout,tp");
    runs_snapshot!("runs_pareto", "runs pareto runs -x tpot_mean_ms --slo ttft:mean<=1s");
    runs_snapshot!("runs_pareto_by", "runs pareto runs --and tpot_mean_ms --by layout -o markdown");
    runs_snapshot!("runs_compare", "runs compare tp=1 tp=4 runs --metrics ttft_mean_ms,out_tok_s_gpu,failure_rate");
    runs_snapshot!("runs_repeats", "runs repeats runs --min-count 1 --metrics tpot_mean_ms -o csv");
    runs_snapshot!(
        "runs_convert",
        "runs convert runs/benchmark_report_v0.2,_2p1d_c064.yaml --to benchmark-report/v0.2 -o json"
    );
    runs_snapshot!("runs_export", "runs export runs --where concurrency=64,tp=1 --format csv");
    runs_snapshot!("runs_plot", "runs plot pareto runs --out front.svg --slo ttft:p99<=2s");
}

#[test]
fn runs_that_are_not_there() {
    runs_snapshot!("runs_missing_folder", "runs list nowhere");
    runs_snapshot!("runs_no_results", "runs list x9.toml");
    runs_snapshot!("runs_filter_none", "runs filter runs --where gpu=A100");
    runs_snapshot!("runs_filter_unknown_column", "runs filter runs --where ttft_mean<=1");
    runs_snapshot!("runs_filter_no_number", "runs filter runs --where isl>=long");
    runs_snapshot!("runs_filter_wrong_objective", "runs filter runs --slo ttft<=1s");
    runs_snapshot!("runs_pareto_neutral", "runs pareto runs -x isl");
    runs_snapshot!("runs_plot_ending", "runs plot histogram runs --out front.pdf");
    runs_snapshot!("runs_plot_text", "runs plot histogram runs -x model --out front.svg");
    runs_snapshot!("runs_plot_scenario", "runs plot scenario runs --scenario 2 --out front.svg");
    runs_snapshot!("runs_compare_unknown", "runs compare tp=1 zz runs");
    runs_snapshot!("runs_compare_different_loads", "runs compare concurrency=16 tp=4,concurrency=64 runs");
    runs_snapshot!(
        "runs_convert_index",
        "runs convert runs/benchmark_report_v0.2,_2p1d_c064.yaml --to benchmark-report/v0.2 --index 1"
    );
    runs_snapshot!("runs_convert_no_result", "runs convert x9.toml --to benchmark-report/v0.2");
    runs_snapshot!("runs_convert_csv", "runs convert x9.toml --to benchmark-report/v0.2 -o csv");
}

/// What is exported is read again as the same runs.
#[test]
fn exported_runs_are_the_same_runs() {
    let program = with_runs();
    let json = |paths: &str| program.run(&format!("runs list {paths} -o json")).stdout;
    for format in ["csv", "parquet"] {
        let output = program.run(&format!("runs export runs --format {format} --out all.{format}"));
        assert!(output.status.success() && output.stdout.is_empty(), "{format}");
        assert_eq!(String::from_utf8(json(&format!("all.{format}"))), String::from_utf8(json("runs")));
    }
}

#[test]
fn pictures_are_written() {
    let program = with_runs();
    for (arguments, file) in [
        ("runs plot scenario runs --log-x", "a.svg"),
        ("runs plot tradeoff runs --theme dark", "b.html"),
        ("runs plot histogram runs --width 400 --height 300", "c.png"),
    ] {
        let output = program.run(&format!("{arguments} --out {file}"));
        assert_eq!((output.status.code(), output.stdout), (Some(0), Vec::new()), "{arguments}");
        assert!(std::fs::metadata(program.home().join(file)).unwrap().len() > 1000);
    }
    let output = program.run("plan Qwen/Qwen3-32B --gpu H100 --offline --tp 2 --plot plan.svg");
    assert!(output.status.success());
    assert!(std::fs::read_to_string(program.home().join("plan.svg")).unwrap().contains("KV cache"));
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
    // The model's own limit does not fit, these requests do.
    snapshot!("estimate_shorter_than_the_model", &format!("{qwen} --rate 1"));
    // The host takes most of a small model's step.
    let small = "estimate Qwen/Qwen3-0.6B --gpu H100 --offline --input-len 100 --output-len 1 --concurrency 1";
    snapshot!("estimate_small", small);
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
    snapshot!("estimate_too_long", &format!("{qwen} --gpu L4 --input-len 40000 --output-len 1 --rate 1"));
    snapshot!(
        "estimate_does_not_fit",
        "estimate meta-llama/Llama-3.3-70B-Instruct --gpu H100 --offline --input-len 1000 --output-len 200 --rate 1"
    );
    snapshot!(
        "estimate_limit_does_not_fit",
        "estimate Qwen/Qwen3-32B --offline --max-model-len 40960 --gpu H100 --input-len 1 --output-len 1 --rate 1"
    );
    snapshot!("estimate_unmeasured", &format!("{qwen} --gpu Gaudi3 --input-len 1000 --output-len 200 --rate 1"));
    snapshot!(
        "estimate_pools_saturated",
        &format!(
            "{qwen} --gpu H100 --input-len 8000 --output-len 10 --rate 90 --prefill-replicas 1 --decode-replicas 1"
        )
    );
    snapshot!(
        "estimate_two_loads",
        &format!("{qwen} --gpu H100 --input-len 1 --output-len 1 --rate 1 --concurrency 1")
    );
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
fn calibrations() {
    let program = with_runs();
    let snapshot = |name: &str, arguments: &str| {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(name, program.transcript(arguments));
        });
    };
    snapshot("calibrate", "calibrate runs --offline --out mine.toml");
    snapshot(
        "calibrate_estimate",
        "estimate Qwen/Qwen3-32B-FP8 --gpu H100 --tp 4 --offline --input-len 4096 --output-len 512 --concurrency 16 \
         --coefficients mine.toml -o csv",
    );
    snapshot("calibrate_nothing", "calibrate runs/benchmark_report_v0.2,_2p1d_c064.yaml --offline --out none.toml");
    assert!(!program.home().join("none.toml").exists());
}

#[test]
fn kernel_tables_that_are_not_there() {
    let qwen = "estimate Qwen/Qwen3-32B --offline --tp 2 --gpu H100 --input-len 1 --output-len 1 --rate 1";
    snapshot!("estimate_no_kernel_tables", &format!("{qwen} --kernel-tables missing"));
    snapshot!("estimate_other_kernel_tables", &format!("{qwen} --kernel-tables ."));
}

#[test]
fn recommendations() {
    let qwen = "recommend Qwen/Qwen3-32B --offline --input-len 1000 --output-len 300 --engine vllm@0.19.1";
    snapshot!(
        "recommend",
        &format!("{qwen} --gpus H100:16,H200:8 --rate 20 --slo ttft:p99<2s;tpot:mean<40ms --explain")
    );
    snapshot!("recommend_csv", &format!("{qwen} --gpus H100:8 --users 64 --disaggregation always -o csv"));
    snapshot!("recommend_too_few", &format!("{qwen} --gpus H100:4 --rate 100 --slo ttft:p95<1s"));
    snapshot!("recommend_nothing_fits", &format!("{qwen} --gpus L40S:1 --rate 0.1"));
    snapshot!("recommend_wrong_pool", &format!("{qwen} --gpus H100 --rate 1"));
    snapshot!("recommend_wrong_objective", &format!("{qwen} --gpus H100:8 --rate 1 --slo ttft<2s"));
    snapshot!("recommend_deployed", &format!("{qwen} --gpus H100:2 --rate 1 --top 1 --deploy files"));
    let search = "-- recommend Qwen/Qwen3-32B --gpus H100:64 --input-len 1000 --output-len 300 --rate 20";
    snapshot!(
        "job",
        &format!("job --shards 8 --parallelism 4 --namespace team --storage-class shared {search} --slo ttft:p99<2s")
    );
    snapshot!("job_of_a_shard", &format!("job --shards 8 {search} --shard 0/8"));
    snapshot!("job_of_another_command", "job --shards 8 -- plan Qwen/Qwen3-32B --gpu H100");
    snapshot!("job_of_a_wrong_command", "job --shards 8 -- recommend Qwen/Qwen3-32B --gpu H100");
    snapshot!("deploy_help", "deploy --help");
    snapshot!("deploy_nothing", "deploy");
    snapshot!("recommend_zero_rate", &format!("{qwen} --gpus H100:8 --rate 0"));
}

/// A workload of two kinds of lengths, made up.
const TWO_LENGTHS: &str = r#"
requests: 400
arrivals: { open: { rate_per_s: 4 } }
input: { values: [200, 3000], weights: [3, 1] }
output: { mean: 150, stddev: 40, min: 10, max: 400 }
slo: "ttft:p99<2s"
"#;

#[test]
fn recommendations_from_runs_and_workloads() {
    let program = with_runs();
    std::fs::write(program.home().join("workload.yaml"), TWO_LENGTHS).unwrap();
    let snapshot = |name: &str, arguments: &str| {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(name, program.transcript(arguments));
        });
    };
    let fp8 = "recommend Qwen/Qwen3-32B-FP8 --offline --engine vllm@0.19.1 --gpus H100:4";
    snapshot(
        "recommend_runs",
        &format!(
            "{fp8} --input-len 4096 --output-len 512 --users 24 --slo tpot:mean<20ms --disaggregation never --runs runs"
        ),
    );
    let qwen = "Qwen/Qwen3-32B --offline --engine vllm@0.19.1";
    snapshot("recommend_workload", &format!("recommend {qwen} --gpus H100:4 --workload workload.yaml"));
    snapshot(
        "recommend_workload_and_rate",
        &format!("recommend {qwen} --gpus H100:4 --workload workload.yaml --rate 1"),
    );
    snapshot("estimate_workload", &format!("estimate {qwen} --gpu H100 --tp 2 --workload workload.yaml"));
    snapshot(
        "recommend_no_simulation",
        &format!("{fp8} --input-len 1000 --output-len 9 --rate 1 --no-simulation -o csv"),
    );
}

#[test]
fn parts_are_read_together() {
    let program = Program::new();
    std::fs::create_dir(program.home().join("parts")).unwrap();
    let qwen = "recommend Qwen/Qwen3-32B --offline --engine vllm@0.19.1 --gpus H100:8 --input-len 1000 --output-len 300 \
                --rate 8 --slo ttft:p99<2s";
    for part in ["0/2", "1/2"] {
        let out = format!("--shard {part} --shard-out parts/{}.parquet", &part[..1]);
        let output = program.run(&format!("{qwen} {out}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let json =
        |arguments: &str| -> serde_json::Value { serde_json::from_slice(&program.run(arguments).stdout).unwrap() };
    let whole = json(&format!("{qwen} -o json"));
    let merged = json("runs filter parts --where kind=simulated --slo ttft:p99<2s -o json");
    let costs = merged["runs"].as_array().unwrap().iter().map(|run| run["usd_per_hour"].as_f64().unwrap());
    let cheapest = costs.min_by(f64::total_cmp).unwrap();
    assert!((cheapest - whole["recommendations"][0]["usd_per_hour"].as_f64().unwrap()).abs() < 1e-9);

    let simulate = "simulate Qwen/Qwen3-32B --gpu H100 --offline --tp 2 --input-len 1000 --output-len 100 --rate 2 \
                    --requests 50 --repetitions 3";
    for part in ["0/2", "1/2"] {
        let out = format!("--shard {part} --shard-out seeds/{}.parquet", &part[..1]);
        std::fs::create_dir_all(program.home().join("seeds")).unwrap();
        assert!(program.run(&format!("{simulate} {out}")).status.success());
    }
    program.run(&format!("{simulate} --shard-out all.parquet"));
    let ids = |path: &str| {
        let listed = json(&format!("runs list {path} -o json"));
        let runs = listed["runs"].as_array().unwrap().clone();
        runs.iter().map(|run| run["id"].to_string()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(ids("seeds"), ids("all.parquet"));
    assert_eq!(ids("seeds").len(), 3);
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("recommend_wrong_shard", program.transcript(&format!("{qwen} --shard 2/2 --shard-out x.parquet")));
    });
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

#[test]
fn simulates() {
    let qwen =
        "simulate Qwen/Qwen3-32B --gpu H100 --offline --engine vllm@0.19.1 --input-len 1000 --output-len 100 --tp 2";
    snapshot!("simulate_rate", &format!("{qwen} --rate 2 --requests 200 --slo ttft:p99<2s;tpot:p50<50ms"));
    snapshot!("simulate_concurrency", &format!("{qwen} --concurrency 8 --requests 80"));
    snapshot!("simulate_json", &format!("{qwen} --rate 2 --requests 20 --prefix-hit-rate 0.5 -o json"));
    snapshot!("simulate_replicas", &format!("{qwen} --rate 4 --requests 200 --replicas 2"));
    snapshot!(
        "simulate_pools",
        &format!("{qwen} --rate 2 --requests 100 --prefill-replicas 1 --decode-replicas 1 -o csv")
    );
    snapshot!("simulate_saturated", &format!("{qwen} --rate 200 --requests 3000 --max-num-seqs 64"));
    snapshot!("simulate_missed", &format!("{qwen} --rate 2 --requests 200 --slo ttft:p50<1ms"));
    snapshot!("simulate_max_rate", &format!("{qwen} --find-max-rate --slo ttft:p99<2s;tpot:p50<50ms -o csv"));
    snapshot!("simulate_no_max_rate", &format!("{qwen} --find-max-rate --slo ttft:p99<1ms"));
}

#[test]
fn simulations_that_cannot_be_made() {
    let qwen = "simulate Qwen/Qwen3-32B --gpu H100 --offline --tp 2 --input-len 1000 --output-len 100";
    snapshot!("simulate_no_load", qwen);
    snapshot!("simulate_zero_rate", &format!("{qwen} --rate 0"));
    snapshot!("simulate_zero_replicas", &format!("{qwen} --rate 1 --replicas 0"));
    snapshot!("simulate_zero_requests", &format!("{qwen} --rate 1 --requests 0"));
    snapshot!("simulate_max_rate_without_objectives", &format!("{qwen} --find-max-rate"));
    snapshot!("simulate_max_rate_without_a_limit", &format!("{qwen} --find-max-rate --slo throughput>5"));
    snapshot!("simulate_no_router", &format!("{qwen} --rate 1 --router missing.yaml"));
    snapshot!("simulate_unknown_table", &format!("{qwen} --rate 1 --requests-out requests.txt"));
    snapshot!("simulate_larger_than_the_pool", &format!("{qwen} --rate 1 --num-gpu-blocks-override 40"));
    snapshot!(
        "simulate_does_not_fit",
        "simulate Qwen/Qwen3-32B --gpu L4 --offline --input-len 1000 --output-len 100 --rate 1"
    );
}

#[test]
fn workloads_and_traces_are_simulated() {
    let qwen = "simulate Qwen/Qwen3-32B --gpu H100 --offline --engine vllm@0.19.1 --tp 2";
    snapshot!("simulate_workload", &format!("{qwen} --workload workload.yaml --replicas 2"));
    snapshot!("simulate_trace", &format!("{qwen} --workload trace.csv"));
    snapshot!("simulate_corrupt_trace", &format!("{qwen} --workload corrupt.csv"));
    snapshot!("simulate_strict_trace", &format!("{qwen} --workload strict.yaml"));
    snapshot!("simulate_empty_trace", &format!("{qwen} --workload empty.csv"));
    snapshot!("simulate_endless_schedule", &format!("{qwen} --workload endless.yaml"));
    snapshot!("simulate_schedule_without_time", &format!("{qwen} --workload standing.yaml"));
}

#[test]
fn replicas_start_and_fail() {
    let qwen =
        "simulate Qwen/Qwen3-32B --gpu H100 --offline --engine vllm@0.19.1 --input-len 1000 --output-len 100 --tp 2";
    let two = format!("{qwen} --rate 8 --requests 400 --replicas 2 --router least-requests");
    snapshot!("simulate_failure", &format!("{two} --fail engine-0@20:10 --fail 1@45"));
    snapshot!("simulate_start", &format!("{two} --start engine-1@25"));
    snapshot!("simulate_nobody_answers", &format!("{two} --start 0@900 --start 1@900"));
    snapshot!("simulate_no_such_replica", &format!("{two} --fail engine-2@20"));
    snapshot!("simulate_no_such_time", &format!("{two} --fail engine-1"));
}

#[test]
fn simulated_runs_are_explored_like_measured_ones() {
    let program = Program::new();
    let simulate = "simulate Qwen/Qwen3-32B --gpu H100 --offline --tp 2 --input-len 1000 --output-len 100 --rate 2 \
                    --requests 100";
    let files = "--requests-out requests.csv --report simulated.yaml --plot cdf --out cdf.svg";
    let output = program.run(&format!("{simulate} {files}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let requests = std::fs::read_to_string(program.home.path().join("requests.csv")).unwrap();
    assert!(requests.lines().count() == 101 && requests.lines().skip(1).all(|line| line.starts_with("simulated,")));
    assert!(std::fs::read_to_string(program.home.path().join("cdf.svg")).unwrap().contains("Simulated."));
    let listed = program.run("runs list simulated.yaml -o json");
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["runs"][0]["kind"], "simulated");
    assert_eq!(listed["runs"][0]["gpu"], "H100-SXM-80GB");
}
