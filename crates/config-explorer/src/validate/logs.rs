//! A server's own start-up log, V0 to today: what it was started with and what it printed of its memory.

use std::sync::LazyLock;

use regex_lite::Regex;
use serde::Serialize;
use serde_json::Value;

use super::start_ups::set;
use super::{Printed, python, rules_of};
use crate::Result;
use crate::engine::{Core, EngineRules, FLAGS, ServeArgs, Version};
use crate::memory::MemoryPlan;

/// Lines are read up to this length; vLLM's own are at most a tenth of it.
const LINE_BYTES_MAX: usize = 1 << 16;

/// What a server's log tells.
#[derive(Debug, Clone)]
pub struct StartUpLog {
    /// Model, where it is told.
    pub model: Option<String>,
    /// Version, where it is told.
    pub version: Option<Version>,
    /// Generation of the engine.
    pub core: Core,
    /// What is told of its command.
    pub args: ServeArgs,
    /// Memory of the GPU.
    pub gpu_total_gib: Option<f64>,
    /// What rank 0 printed.
    pub printed: Printed,
    /// Tokens of an attention block in a hybrid model.
    pub attention_block_size: Option<f64>,
    /// Settings that could not be read, and why.
    pub problems: Vec<String>,
}

/// A printed figure beside the prediction.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Comparison {
    /// The figure, with its unit last.
    pub quantity: &'static str,
    /// As it stands in the log.
    pub logged: f64,
    /// As it is planned.
    pub predicted: f64,
    /// Predicted minus logged.
    pub difference: f64,
}

/// A figure of the log and where it goes. The first group of the expression is the number.
struct Pattern {
    expression: Regex,
    place: fn(&mut StartUpLog) -> &mut Option<f64>,
}

/// The lines that hold figures, as the releases spell them.
static PATTERNS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    type Place = fn(&mut StartUpLog) -> &mut Option<f64>;
    const NUMBER: &str = r"(-?[0-9][0-9,]*(?:\.[0-9]+)?)";
    let table: [(&str, Place); 22] = [
        (r"total_gpu_memory \(#GiB\)", |log| &mut log.gpu_total_gib),
        (r"on device[^(]*\([0-9.]+/# GiB\)", |log| &mut log.gpu_total_gib),
        (r"Loading model weights took # G", |log| &mut log.printed.weights_gib),
        (r"Model loading took # G", |log| &mut log.printed.weights_gib),
        (r"model weights take #GiB", |log| &mut log.printed.weights_gib),
        (r"Actual usage is # GiB for weight", |log| &mut log.printed.weights_gib),
        (r"activation peak memory takes #GiB", |log| &mut log.printed.activation_gib),
        (r"# GiB for peak activation", |log| &mut log.printed.activation_gib),
        (r"torch peak memory increase: #GiB", |log| &mut log.printed.activation_gib),
        (r"non_torch_memory takes #GiB", |log| &mut log.printed.non_torch_gib),
        (r"# GiB for non-torch", |log| &mut log.printed.non_torch_gib),
        (r"non-torch forward increase memory: #GiB", |log| &mut log.printed.non_torch_gib),
        (r"Graph capturing finished in .*took # GiB", |log| &mut log.printed.cuda_graph_gib),
        (r"# GiB for CUDAGraph", |log| &mut log.printed.cuda_graph_gib),
        (r"reserved for KV Cache is #GiB", |log| &mut log.printed.kv_gib),
        (r"Available KV cache memory: # GiB", |log| &mut log.printed.kv_gib),
        (r"GPU KV cache size: # tokens", |log| &mut log.printed.tokens),
        (r"# (?:GPU|cuda) blocks: #", |log| &mut log.printed.blocks),
        (r"num_gpu_blocks is: #", |log| &mut log.printed.blocks),
        (r"Maximum concurrency for [0-9,]+ tokens per request: #x", |log| &mut log.printed.concurrency),
        (r"Setting attention block size to # tokens", |log| &mut log.attention_block_size),
        (r"total GPU memory: #GiB", |log| &mut log.gpu_total_gib),
    ];
    let pattern = |(text, place): (&str, Place)| {
        // The last `#` stands for the number.
        let (before, after) = text.rsplit_once('#').expect("every pattern has a number");
        let expression = Regex::new(&format!("{before}{NUMBER}{after}")).expect("the patterns are expressions");
        Pattern { expression, place }
    };
    table.into_iter().map(pattern).collect()
});

/// A version behind "LLM engine (v" or "API server version".
static VERSION: LazyLock<Regex> =
    LazyLock::new(|| expression(r"(?:LLM engine \(v|API server version:? v?)([0-9][^) ]*)"));
/// A field of the engine's configuration.
static FIELD: LazyLock<Regex> = LazyLock::new(|| expression(r"(?:^|[ (])([a-z_]+)=('[^']*'|[^ ,)]+)"));
/// The tag of a process that is not rank 0.
static OTHER_RANK: LazyLock<Regex> =
    LazyLock::new(|| expression(r"\([A-Za-z]*Worker[^)]*(?:TP|PP|EP|DP|rank=|\(ip=)0*[1-9]|\bWorker_(?:TP|PP)0*[1-9]"));

fn expression(text: &str) -> Regex {
    Regex::new(text).expect("the expression is part of the program")
}

impl StartUpLog {
    /// Reads a log: any bytes, of which only vLLM's lines count. A log of several servers is read up to the second.
    pub fn parse(log: &[u8]) -> Self {
        let mut found = Self {
            model: None,
            version: None,
            core: Core::V1,
            args: ServeArgs::default(),
            gpu_total_gib: None,
            printed: Printed::default(),
            attention_block_size: None,
            problems: Vec::new(),
        };
        let mut initialized = false;
        let mut given = ServeArgs::default();
        for line in log.split(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES_MAX)]);
            if OTHER_RANK.is_match(&line) {
                continue;
            }
            if let Some(version) = VERSION.captures(&line).and_then(|captures| captures.get(1)) {
                found.version = found.version.or_else(|| version.as_str().parse().ok());
            }
            if let Some((_, arguments)) = line.split_once("non-default args: ") {
                found.read_arguments(arguments, &mut given);
            }
            if let Some((before, config)) = line.split_once("with config: ").filter(|(text, _)| text.contains("engine"))
            {
                if initialized && found.printed != Printed::default() {
                    break;
                }
                initialized = true;
                found.core = if before.contains("V1") { Core::V1 } else { Core::V0 };
                found.read_config(config);
            }
            found.read_figures(&line);
        }
        // What was typed counts more than what the configuration made of it.
        match found.args_with(&given) {
            Ok(args) => found.args = args,
            Err(error) => found.problems.push(error.to_string()),
        }
        found
    }

    /// The dictionary behind "non-default args".
    fn read_arguments(&mut self, text: &str, given: &mut ServeArgs) {
        let Some(Value::Object(arguments)) = python::read(text) else { return };
        for (name, value) in arguments {
            match (name.as_str(), &value) {
                ("model" | "model_tag", Value::String(model)) => self.model = Some(model.clone()),
                _ => self.problems.extend(set(given, &name, &value)),
            }
        }
    }

    /// The fields behind "with config".
    fn read_config(&mut self, config: &str) {
        for captures in FIELD.captures_iter(config) {
            let value = captures[2].trim_matches('\'');
            let flag = match &captures[1] {
                "model" => {
                    self.model.get_or_insert_with(|| value.to_owned());
                    continue;
                }
                "max_seq_len" => "max_model_len",
                name @ ("dtype"
                | "tensor_parallel_size"
                | "pipeline_parallel_size"
                | "data_parallel_size"
                | "quantization"
                | "kv_cache_dtype"
                | "enforce_eager"
                | "enable_prefix_caching"
                | "enable_chunked_prefill") => name,
                _ => continue,
            };
            let value = value.trim_start_matches("torch.");
            if value != "None" {
                self.problems.extend(set(&mut self.args, flag, &Value::String(value.to_owned())));
            }
        }
    }

    fn read_figures(&mut self, line: &str) {
        for Pattern { expression, place } in PATTERNS.iter() {
            if let Some(number) = expression.captures(line).and_then(|captures| captures.get(1)) {
                let place = place(self);
                *place = place.or_else(|| number.as_str().replace(',', "").parse().ok());
            }
        }
    }

    /// The rules of the version that wrote the log; of the default version where it does not say.
    ///
    /// # Errors
    /// [`crate::Error::Unknown`] for a version older than the rules.
    pub fn rules(&self) -> Result<EngineRules> {
        rules_of(self.version, self.core)
    }

    /// The log's settings with those of a command over them.
    ///
    /// # Errors
    /// Those of [`crate::engine::Flag::set`].
    pub fn args_with(&self, typed: &ServeArgs) -> Result<ServeArgs> {
        let mut args = self.args.clone();
        FLAGS.iter().try_for_each(|flag| flag.copy(typed, &mut args))?;
        Ok(args)
    }

    /// Every printed figure beside the plan's; what the log does not say is left out.
    pub fn compare(&self, plan: &MemoryPlan) -> Vec<Comparison> {
        let rank = plan.ranks.first();
        let memory = plan.memory_per_gpu;
        let kv = plan.kv_cache;
        let printed = &self.printed;
        let figures = [
            ("weights_gib", printed.weights_gib, rank.map(|rank| rank.weights_gib)),
            ("activation_gib", printed.activation_gib, rank.map(|rank| rank.activation_gib)),
            ("non_torch_gib", printed.non_torch_gib, memory.map(|memory| memory.non_torch_gib)),
            ("cuda_graph_gib", printed.cuda_graph_gib, memory.map(|memory| memory.cuda_graph_gib)),
            ("kv_cache_gib", printed.kv_gib, rank.map(|rank| rank.kv_cache_gib)),
            ("attention_block_size", self.attention_block_size, kv.map(|kv| kv.block_size as f64)),
            ("num_blocks", printed.blocks, kv.map(|kv| kv.num_blocks as f64)),
            ("tokens", printed.tokens, kv.map(|kv| kv.tokens_as_logged as f64)),
            ("max_concurrency", printed.concurrency, kv.map(|kv| kv.max_concurrency)),
        ];
        let comparison = |(quantity, logged, predicted): (_, Option<f64>, Option<f64>)| {
            let (logged, predicted) = (logged?, predicted?);
            Some(Comparison { quantity, logged, predicted, difference: predicted - logged })
        };
        figures.into_iter().filter_map(comparison).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V1: &str = "\
INFO 04-01 10:00:00 [utils.py:233] non-default args: {'model_tag': 'meta-llama/Llama-3.1-8B-Instruct', 'model': \
'meta-llama/Llama-3.1-8B-Instruct', 'gpu_memory_utilization': 0.95, 'enable_prefix_caching': False, 'api_key': ['x']}
\u{1b}[0;36m(EngineCore pid=1)\u{1b}[0;0m INFO 04-01 [core.py:101] Initializing a V1 LLM engine (v0.19.0) with config: \
model='meta-llama/Llama-3.1-8B-Instruct', speculative_config=None, tokenizer='x', dtype=torch.bfloat16, \
max_seq_len=8192, tensor_parallel_size=2, pipeline_parallel_size=1, quantization=None, enforce_eager=False, \
kv_cache_dtype=auto, enable_prefix_caching=True
(Worker_TP1 pid=3) INFO [gpu_model_runner.py:1] Model loading took 9.99 GiB memory and 5.1 seconds
(Worker_TP0 pid=2) INFO [gpu_model_runner.py:1] Model loading took 7.51 GiB memory and 5.1 seconds
(Worker_TP0 pid=2) INFO [gpu_worker.py:1] Available KV cache memory: 63.76 GiB
(EngineCore pid=1) INFO [kv_cache_utils.py:1] GPU KV cache size: 1,044,688 tokens
(EngineCore pid=1) INFO [kv_cache_utils.py:1] Maximum concurrency for 8,192 tokens per request: 127.53x
(Worker_TP0 pid=2) INFO [gpu_model_runner.py:1] Graph capturing finished in 5 secs, took 0.91 GiB
(Worker_TP0 pid=2) INFO [gpu_worker.py:1] Free memory on device cuda:0 (78.68/79.19 GiB) on startup. Desired GPU memory \
utilization is (0.95, 75.23 GiB). Actual usage is 7.51 GiB for weight, 1.89 GiB for peak activation, 2.07 GiB for \
non-torch memory, and 0.91 GiB for CUDAGraph memory.
INFO [core.py:101] Initializing a V1 LLM engine (v0.20.0) with config: model='other/model', max_seq_len=1
INFO Model loading took 1.00 GiB
";

    const V0: &str = "\
INFO 01-01 [llm_engine.py:234] Initializing an LLM engine (v0.6.6.post1) with config: model='a/b', \
dtype=torch.float16, max_seq_len=4096, tensor_parallel_size=1, quantization=awq, use_cached_outputs=True,
INFO 01-01 [model_runner.py:1099] Loading model weights took 5.2273 GB
INFO 01-01 [worker.py:241] the current vLLM instance can use total_gpu_memory (23.58GiB) x gpu_memory_utilization \
(0.90) = 21.22GiB
INFO 01-01 [worker.py:241] model weights take 5.23GiB; non_torch_memory takes 0.08GiB; PyTorch activation peak memory \
takes 1.40GiB; the rest of the memory reserved for KV Cache is 14.51GiB.
INFO 01-01 [gpu_executor.py:76] # GPU blocks: 7429, # CPU blocks: 2048
INFO 01-01 [gpu_executor.py:80] Maximum concurrency for 4096 tokens per request: 29.02x
";

    #[test]
    fn a_v1_log_is_read_up_to_the_next_server() {
        let log = StartUpLog::parse(V1.as_bytes());
        assert_eq!(log.problems, Vec::<String>::new());
        assert_eq!(log.model.as_deref(), Some("meta-llama/Llama-3.1-8B-Instruct"));
        assert_eq!((log.version, log.core), ("0.19.0".parse().ok(), Core::V1));
        assert_eq!(log.gpu_total_gib, Some(79.19));
        let printed = Printed {
            weights_gib: Some(7.51),
            activation_gib: Some(1.89),
            non_torch_gib: Some(2.07),
            cuda_graph_gib: Some(0.91),
            kv_gib: Some(63.76),
            tokens: Some(1_044_688.0),
            blocks: None,
            concurrency: Some(127.53),
        };
        assert_eq!(log.printed, printed);
        let command = log.args.to_command("m").join(" ");
        for part in ["--tensor-parallel-size 2", "--max-model-len 8192", "--no-enable-prefix-caching", "0.95"] {
            assert!(command.contains(part), "{part} in {command}");
        }
        assert!(!command.contains("api"), "{command}");
    }

    #[test]
    fn a_v0_log_is_read() {
        let log = StartUpLog::parse(V0.as_bytes());
        assert_eq!((log.version, log.core), ("0.6.6".parse().ok(), Core::V0));
        assert_eq!(log.rules().unwrap().core, Core::V0);
        assert_eq!(log.gpu_total_gib, Some(23.58));
        let printed = Printed {
            weights_gib: Some(5.2273),
            activation_gib: Some(1.4),
            non_torch_gib: Some(0.08),
            cuda_graph_gib: None,
            kv_gib: Some(14.51),
            tokens: None,
            blocks: Some(7429.0),
            concurrency: Some(29.02),
        };
        assert_eq!(log.printed, printed);
    }

    #[test]
    fn the_command_overrides_the_log() {
        let mut typed = ServeArgs::default();
        set(&mut typed, "max_model_len", &Value::from(1024));
        let args = StartUpLog::parse(V1.as_bytes()).args_with(&typed).unwrap().to_command("m").join(" ");
        assert!(args.contains("--max-model-len 1024") && args.contains("--tensor-parallel-size 2"), "{args}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(noise in proptest::collection::vec(any::<u8>(), 0..300), at in 0..V1.len()) {
            let mut log = V1.as_bytes().to_vec();
            log.splice(at..at, noise);
            StartUpLog::parse(&log);
        }
    }
}
