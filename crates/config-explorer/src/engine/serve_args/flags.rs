//! The flags of `vllm serve` that this program knows: one row each.
//!
//! Names, short forms and value kinds are those of vLLM 0.33 (`engine/arg_utils.py`, `entrypoints/openai/cli_args.py`)
//! and, where a release dropped a flag, of the last one that had it. The table is also the type: [`ServeArgs`] has one
//! optional field a row.

use std::num::{NonZeroU32, NonZeroU64};

use super::values::{
    DTypeChoice, FlagKind, FlagValue, Fraction, JsonObject, KvCacheDType, MambaCacheMode, MaxModelLen, MultimodalLimits,
};
use crate::{Error, Result};

/// One flag.
#[derive(Debug)]
pub struct Flag {
    /// The field of [`ServeArgs`], which is the flag's name with underscores.
    pub field: &'static str,
    /// Other spellings, with their dashes.
    pub aliases: &'static [&'static str],
    /// What it takes.
    pub kind: FlagKind,
    /// Memory planning reads it.
    pub planning: bool,
    help: &'static str,
    read: fn(&mut ServeArgs, &[String]) -> Result<(), String>,
    pub(super) words: fn(&ServeArgs) -> Option<Vec<String>>,
}

impl Flag {
    /// The name without its dashes: `max-model-len`.
    pub fn name(&self) -> String {
        self.field.replace('_', "-")
    }

    /// One line of help.
    pub fn help(&self) -> &'static str {
        self.help.trim()
    }

    /// The flag by one of its spellings, with the dashes, and whether it is the `--no-` form.
    pub fn find(spelling: &str) -> Option<(&'static Self, bool)> {
        let negated = spelling.strip_prefix("--no-").or_else(|| spelling.strip_prefix("--no_"));
        let find = |field: &str| FLAGS.iter().find(|flag| flag.field == field);
        let by_name = |name: &str| find(&name.replace('-', "_"));
        if let Some(flag) = negated.and_then(by_name).filter(|flag| flag.kind == FlagKind::Switch) {
            return Some((flag, true));
        }
        let flag = spelling.strip_prefix("--").and_then(by_name);
        let flag = flag.or_else(|| FLAGS.iter().find(|flag| flag.aliases.contains(&spelling)));
        flag.map(|flag| (flag, false))
    }

    /// The only flag whose name begins so (`--max-num-seq`), as `argparse` has it.
    pub(super) fn find_abbreviated(spelling: &str) -> Option<(&'static Self, bool)> {
        let typed = spelling.strip_prefix("--")?.replace('-', "_");
        let (prefix, negated) = typed.strip_prefix("no_").map_or((typed.as_str(), false), |rest| (rest, true));
        let fits = |flag: &&Self| flag.field.starts_with(prefix) && (!negated || flag.kind == FlagKind::Switch);
        let mut fitting = FLAGS.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(flag), None) => Some((flag, negated)),
            _ => None,
        }
    }

    /// A one-letter flag and the value that is written to it: `-O3`.
    pub(super) fn find_attached(word: &str) -> Option<(&'static Self, &str)> {
        let (spelling, value) = word.split_at_checked(2)?;
        let flag = FLAGS.iter().find(|flag| flag.aliases.contains(&spelling))?;
        Some((flag, value))
    }

    /// Whether some arguments set it.
    pub fn is_set(&self, args: &ServeArgs) -> bool {
        (self.words)(args).is_some()
    }

    /// Copies the flag's value, where it is set.
    ///
    /// # Errors
    /// Those of [`Flag::set`].
    pub fn copy(&self, from: &ServeArgs, to: &mut ServeArgs) -> Result<()> {
        (self.words)(from).map_or(Ok(()), |words| self.set(to, &words))
    }

    /// Sets the flag to the words behind it; `true` or `false` for a switch.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] where the words are not a value of this flag.
    pub fn set(&self, args: &mut ServeArgs, words: &[String]) -> Result<()> {
        (self.read)(args, words)
            .map_err(|reason| Error::InvalidSetting { setting: format!("--{}", self.name()), reason })
    }
}

/// Makes [`ServeArgs`] and [`FLAGS`] from rows of `/// help`, `plan` (memory planning reads it) or `pass` (it does not),
/// the field with its type, and other spellings.
macro_rules! flags {
    ($(#[doc = $help:literal] $role:ident $field:ident: $type:ty $(, $alias:literal)*;)*) => {
        /// What was typed on a `vllm serve` command line, before any default applies.
        ///
        /// ```
        /// use config_explorer::engine::{ServeArgs, join_command};
        ///
        /// let args = ServeArgs::parse_shell("vllm serve Qwen/Qwen3-8B -tp 2 --max_model_len=32K")?;
        /// let command = join_command(&args.to_command("Qwen/Qwen3-8B"));
        /// assert_eq!(command, "vllm serve Qwen/Qwen3-8B --tensor-parallel-size 2 --max-model-len 32768");
        /// # Ok::<(), config_explorer::Error>(())
        /// ```
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct ServeArgs {
            /// The model: a Hugging Face id or a path.
            pub model: Option<String>,
            $(#[doc = $help] pub $field: Option<$type>,)*
            /// Flags that are not in the table, as they were typed: each with the words behind it.
            pub unknown: Vec<Vec<String>>,
        }

        /// Every flag, in the order in which a command prints them.
        pub const FLAGS: &[Flag] = &[$(Flag {
            field: stringify!($field),
            aliases: &[$($alias),*],
            kind: <$type as FlagValue>::KIND,
            planning: flags!(@ $role),
            help: $help,
            read: |args, words| {
                args.$field = Some(FlagValue::read_words(words)?);
                Ok(())
            },
            words: |args| args.$field.as_ref().map(FlagValue::words),
        }),*];
    };
    (@ plan) => { true };
    (@ pass) => { false };
}

flags! {
    // Parallelism
    /// GPUs over which every layer is split.
    plan tensor_parallel_size: NonZeroU32, "-tp", "--tp";
    /// Stages into which the layers are divided.
    plan pipeline_parallel_size: NonZeroU32, "-pp", "--pp";
    /// Engines with a KV cache of their own.
    plan data_parallel_size: NonZeroU32, "-dp", "--dp";
    /// Spread the experts over tensor- and data-parallel ranks.
    plan enable_expert_parallel: bool, "-ep";
    /// Ranks of a tensor-parallel group over which the KV cache is split by token.
    plan decode_context_parallel_size: NonZeroU32, "-dcp", "--dcp";
    /// Ranks over which a prompt is split.
    pass prefill_context_parallel_size: NonZeroU32, "-pcp";
    /// Data-parallel engines on this node.
    pass data_parallel_size_local: u32, "-dpl";
    /// Number of this data-parallel engine.
    pass data_parallel_rank: u32, "-dpn";
    /// Number of the first data-parallel engine of this node.
    pass data_parallel_start_rank: u32, "-dpr";
    /// Host of the first data-parallel engine.
    pass data_parallel_address: String, "-dpa";
    /// Port of the data-parallel coordinator.
    pass data_parallel_rpc_port: u16, "-dpp";
    /// What starts data-parallel engines: `mp` or `ray`.
    pass data_parallel_backend: String, "-dpb";
    /// One balancer for each node.
    pass data_parallel_hybrid_lb: bool, "-dph";
    /// Balancing outside of vLLM.
    pass data_parallel_external_lb: bool, "-dpe";
    /// One API server and port for each local engine.
    pass data_parallel_multi_port_external_lb: bool, "-dpm";
    /// Port of the health endpoints of all local engines.
    pass data_parallel_supervisor_port: u16;
    /// What starts the workers: `mp`, `ray`, `uni` or `external_launcher`.
    pass distributed_executor_backend: String;
    /// Nodes of one engine.
    pass nnodes: NonZeroU32, "-n";
    /// Number of this node.
    pass node_rank: u32, "-r";
    /// Host of the first node.
    pass master_addr: String;
    /// Port of the first node.
    pass master_port: u16;
    /// Kernels that exchange tokens between experts.
    pass all2all_backend: String;
    /// Move experts between ranks to level their load.
    pass enable_eplb: bool;
    /// Settings of the expert balancer.
    pass eplb_config: JsonObject;
    /// How experts are dealt to ranks.
    pass expert_placement_strategy: String;
    /// Read only the weights of a rank's own experts.
    pass enable_ep_weight_filter: bool;
    /// Overlap two halves of a batch.
    pass enable_dbo: bool;
    /// Fewest tokens of a decode batch that is halved.
    pass dbo_decode_token_threshold: u32;
    /// Fewest tokens of a prefill batch that is halved.
    pass dbo_prefill_token_threshold: u32;
    /// Use NCCL instead of the custom all-reduce.
    pass disable_custom_all_reduce: bool;
    /// Bind workers to the NUMA node of their GPU.
    pass numa_bind: bool;
    /// NUMA nodes to bind to, by GPU.
    pass numa_bind_nodes: String;
    /// CPUs to bind to, by GPU.
    pass numa_bind_cpus: String;

    // Model
    /// Longest request, prompt and output together.
    plan max_model_len: MaxModelLen;
    /// Element type of weights and activations.
    plan dtype: DTypeChoice;
    /// How the weights are quantised; what the checkpoint says by default.
    plan quantization: String, "-q";
    /// Run without CUDA graphs.
    plan enforce_eager: bool;
    /// Branch, tag or commit of the model.
    pass revision: String;
    /// Tokenizer, where it is not the model's.
    pass tokenizer: String;
    /// Branch, tag or commit of the tokenizer.
    pass tokenizer_revision: String;
    /// Which tokenizer to use.
    pass tokenizer_mode: String;
    /// Run code from the model's repository.
    pass trust_remote_code: bool;
    /// Config to use instead of the model's.
    pass hf_config_path: String;
    /// Fields that replace those of `config.json`.
    pass hf_overrides: JsonObject;
    /// `generate`, `pooling` or `draft`.
    pass runner: String;
    /// Turn the model into a pooling model.
    pass convert: String;
    /// Whose implementation of the model to use.
    pass model_impl: String;
    /// Ignore the model's sliding window and stop at its length.
    pass disable_sliding_window: bool;
    /// Most log probabilities of a token.
    pass max_logprobs: u32;
    /// Seed of the sampler.
    pass seed: u32;
    /// Give memory back when the engine sleeps.
    pass enable_sleep_mode: bool;
    /// Allocate through CUDA's virtual memory.
    pass enable_cumem_allocator: bool;
    /// Format of the weights.
    pass load_format: String;
    /// Folder to which the model is downloaded.
    pass download_dir: String;
    /// Settings of the model loader.
    pass model_loader_extra_config: JsonObject;
    /// Source of default sampling parameters.
    pass generation_config: String;
    /// Default sampling parameters.
    pass override_generation_config: JsonObject;

    // KV cache
    /// Share of each GPU's memory that the engine may use.
    plan gpu_memory_utilization: Fraction;
    /// Bytes of KV cache on each GPU, whatever the utilisation.
    plan kv_cache_memory_bytes: NonZeroU64;
    /// Tokens of a KV cache block.
    plan block_size: NonZeroU32;
    /// Element type of the KV cache.
    plan kv_cache_dtype: KvCacheDType;
    /// Blocks of KV cache, whatever the memory.
    plan num_gpu_blocks_override: NonZeroU64;
    /// Share blocks between requests with the same beginning.
    plan enable_prefix_caching: bool;
    /// Hash of a block.
    pass prefix_caching_hash_algo: String;
    /// Give sliding-window layers as many blocks as full attention.
    plan disable_hybrid_kv_cache_manager: bool;
    /// States of Mamba layers that prefix caching keeps.
    plan mamba_cache_mode: MambaCacheMode;
    /// Element type of a Mamba layer's convolution state.
    plan mamba_cache_dtype: DTypeChoice;
    /// Element type of a Mamba layer's recurrent state.
    plan mamba_ssm_cache_dtype: DTypeChoice;
    /// Tokens between the states that prefix caching keeps.
    pass mamba_block_size: NonZeroU32;
    /// Compute FP8 scales of keys and values while running.
    pass calculate_kv_scales: bool;
    /// CPU memory for KV cache, in GiB over all ranks.
    pass kv_offloading_size: f64;
    /// What moves KV cache to the CPU.
    pass kv_offloading_backend: String;
    /// CPU memory for swapped requests, in GiB for each GPU.
    pass swap_space: f64;
    /// Weights kept in CPU memory, in GiB for each GPU.
    pass cpu_offload_gb: f64;
    /// Connector that moves KV cache between engines.
    pass kv_transfer_config: JsonObject;
    /// Events about blocks for routers.
    pass kv_events_config: JsonObject;
    /// Connector that moves encoder outputs between engines.
    pass ec_transfer_config: JsonObject;

    // Scheduler
    /// Most tokens of a step.
    plan max_num_batched_tokens: NonZeroU64;
    /// Most requests of a step.
    plan max_num_seqs: NonZeroU32;
    /// Schedule the next step while the device works.
    plan async_scheduling: bool;
    /// Split long prompts over steps.
    plan enable_chunked_prefill: bool;
    /// `fcfs` or `priority`.
    pass scheduling_policy: String;
    /// Tokens above which a prompt counts as long.
    pass long_prefill_token_threshold: u32;
    /// Prompts in progress at once.
    pass max_num_partial_prefills: NonZeroU32;
    /// Long prompts in progress at once.
    pass max_long_partial_prefills: NonZeroU32;
    /// Tokens between two streamed answers.
    pass stream_interval: NonZeroU32;

    // Speculative decoding
    /// Speculative decoding.
    plan speculative_config: JsonObject, "-sc";
    /// `method` of `--speculative-config`.
    plan spec_method: String;
    /// `model` of `--speculative-config`.
    plan spec_model: String;
    /// `num_speculative_tokens` of `--speculative-config`.
    plan spec_tokens: NonZeroU32;

    // Multimodal
    /// Most items of each modality in a prompt.
    plan limit_mm_per_prompt: MultimodalLimits;
    /// Serve text only.
    plan language_model_only: bool;
    /// Serve the encoder only.
    pass mm_encoder_only: bool;
    /// Split the encoder's weights or its batch over ranks.
    pass mm_encoder_tp_mode: String;
    /// Options of the multimodal processor.
    pass mm_processor_kwargs: JsonObject;
    /// CPU memory of the multimodal processor's cache, in GiB.
    pass mm_processor_cache_gb: f64;
    /// Leave the encoder out of the memory profile.
    pass skip_mm_profiling: bool;

    // Kernels and compilation
    /// Attention kernels.
    pass attention_backend: String;
    /// Expert kernels.
    pass moe_backend: String;
    /// Compilation and CUDA graphs.
    pass compilation_config: JsonObject, "-cc";
    /// From 0 (fast start) to 3 (fast run).
    pass optimization_level: u32, "-O";
    /// Batch sizes for which graphs are captured.
    pass cudagraph_capture_sizes: Vec<u32>;
    /// Largest batch for which a graph is captured.
    pass max_cudagraph_capture_size: u32;
    /// Settings of one kind of hardware.
    pass additional_config: JsonObject;

    // LoRA
    /// Serve LoRA adapters.
    pass enable_lora: bool;
    /// Most adapters of a batch.
    pass max_loras: NonZeroU32;
    /// Largest rank of an adapter.
    pass max_lora_rank: NonZeroU32;
    /// Adapters, as `name=path`.
    pass lora_modules: Vec<String>;

    // Server
    /// Address to listen on.
    pass host: String;
    /// Port to listen on.
    pass port: u16;
    /// Names under which the model is served.
    pass served_model_name: Vec<String>;
    /// Processes of the API server.
    pass api_server_count: u32, "-asc";
    /// Run engines without an API server.
    pass headless: bool;
    /// YAML file with flags.
    pass config: String;
    /// File or text of the chat template.
    pass chat_template: String;
    /// Let the model choose tools.
    pass enable_auto_tool_choice: bool;
    /// How tool calls are read.
    pass tool_call_parser: String;
    /// How reasoning is read.
    pass reasoning_parser: String;
    /// Settings of structured outputs.
    pass structured_outputs_config: JsonObject;
    /// Log level of the HTTP server.
    pass uvicorn_log_level: String;
    /// No log line for each HTTP request.
    pass disable_uvicorn_access_log: bool;
    /// Paths whose requests are not logged.
    pass disable_access_log_for_endpoints: String;
    /// No log line for each request (vLLM before 0.11).
    pass disable_log_requests: bool;
    /// A log line for each request.
    pass enable_log_requests: bool;
    /// No statistics in the log.
    pass disable_log_stats: bool;
    /// Where traces are sent.
    pass otlp_traces_endpoint: String;
    /// Which modules are traced.
    pass collect_detailed_traces: String;
}
