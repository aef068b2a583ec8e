//! The plan as it is printed: the JSON of `config-explorer plan` (schema `config-explorer/plan/v1`).

use schemars::JsonSchema;
use serde::Serialize;

use super::ActivationPhase;
use crate::deployment::Parallelism;
use crate::engine::AccountingBasis;
use crate::model::{ModelSource, WeightsSource};

/// What one layout of one model on one accelerator needs and holds.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct MemoryPlan {
    /// The model.
    pub model: ModelSummary,
    /// The engine and the settings that decided.
    pub engine: EngineSummary,
    /// The accelerator.
    pub accelerator: AcceleratorSummary,
    /// The layout.
    pub parallelism: ParallelismSummary,
    /// GPUs of the layout.
    pub gpus: u32,
    /// Memory of the rank that limits; `null` for a layout that cannot run.
    pub memory_per_gpu: Option<MemoryPerGpu>,
    /// What each pipeline stage allocates on a GPU, first stage first; empty for a layout that cannot run.
    pub ranks: Vec<RankMemory>,
    /// KV cache of each data-parallel rank; `null` where there is none.
    pub kv_cache: Option<KvCacheSummary>,
    /// Longest `--max-model-len` at which one request fits, bounded by the model's own limit.
    pub max_model_len_that_fits: u64,
    /// The engine starts, and holds the requests that were asked for.
    pub fits: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Whether the accounting of this version was checked against real servers.
    pub accounting_basis: AccountingBasis,
    /// The smallest single changes that make it fit, or add most KV cache; each was planned.
    pub suggestions: Vec<Suggestion>,
    /// Assumptions and oddities.
    pub warnings: Vec<String>,
}

/// What the model is.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ModelSummary {
    /// Hugging Face id or path.
    pub id: String,
    /// Commit, where known.
    pub revision: Option<String>,
    /// Where the description was found.
    pub source: ModelSource,
    /// Class name.
    pub architecture: String,
    /// Elements of the checkpoint (packed containers count as what they pack where the architecture tells).
    pub parameters: u64,
    /// Where the tensors came from.
    pub weights_source: WeightsSource,
    /// Longest sequence, tokens.
    pub max_position_embeddings: Option<u64>,
    /// Compute type.
    pub dtype: String,
    /// Quantisation method of the checkpoint.
    pub quantization: Option<String>,
    /// Layers by kind of attention.
    pub layers: Vec<LayerSummary>,
    /// Mixture of experts, where the model has one.
    pub experts: Option<ExpertsSummary>,
}

/// Layers that are alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LayerSummary {
    /// `full`, `sliding_window`, `chunked_local`, `mla`, `mla_sparse`, `linear`, `mamba`, `shared` or `none`.
    pub attention: &'static str,
    /// Layers of this kind.
    pub count: u64,
    /// Key/value heads, where the layer has any.
    pub kv_heads: Option<u64>,
    /// Width of a key head (of the cached latent for MLA).
    pub head_dim: Option<u64>,
    /// Tokens of the window or chunk.
    pub window: Option<u64>,
}

/// A mixture of experts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ExpertsSummary {
    /// Routed experts of a layer.
    pub routed: u64,
    /// Experts that a token uses.
    pub per_token: u64,
    /// Layers with experts.
    pub layers: u64,
}

/// The engine and the settings that decided.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct EngineSummary {
    /// `vllm`.
    pub name: &'static str,
    /// Version whose defaults and accounting apply.
    pub version: String,
    /// Resolved settings.
    pub settings: SettingsSummary,
}

/// Resolved settings.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SettingsSummary {
    /// `--gpu-memory-utilization`
    pub gpu_memory_utilization: f64,
    /// `--max-model-len`, tokens.
    pub max_model_len: u64,
    /// `--max-num-batched-tokens`
    pub max_num_batched_tokens: u64,
    /// `--max-num-seqs`
    pub max_num_seqs: u64,
    /// Tokens of a block of the attention layers.
    pub block_size: u64,
    /// `--kv-cache-dtype` as given.
    pub kv_cache_dtype: String,
    /// Type in which keys and values are stored.
    pub kv_cache_dtype_resolved: String,
    /// `--quantization` at run time, where it differs from the checkpoint's.
    pub quantization: Option<String>,
    /// `--enforce-eager`
    pub enforce_eager: bool,
    /// Prefix caching is on.
    pub enable_prefix_caching: bool,
    /// Scheduling runs ahead of the device.
    pub async_scheduling: bool,
}

/// The accelerator.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AcceleratorSummary {
    /// Name in the table.
    pub name: String,
    /// Memory that the driver reports.
    pub memory_gib: f64,
}

/// Parallel sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ParallelismSummary {
    /// Tensor.
    pub tp: u32,
    /// Pipeline.
    pub pp: u32,
    /// Data.
    pub dp: u32,
    /// Ranks that share the experts; 1 without expert parallelism.
    pub ep: u32,
    /// Decode context.
    pub dcp: u32,
}

impl From<Parallelism> for ParallelismSummary {
    fn from(parallelism: Parallelism) -> Self {
        Self {
            tp: parallelism.tensor(),
            pp: parallelism.pipeline(),
            dp: parallelism.data(),
            ep: parallelism.expert_ranks(),
            dcp: parallelism.decode_context(),
        }
    }
}

/// Memory of one GPU, GiB. `weights + activation + non_torch + kv_cache` (and `cuda_graph`, where this version counts it)
/// make up `requested`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct MemoryPerGpu {
    /// What the driver reports.
    pub total_gib: f64,
    /// What the engine may use: `gpu_memory_utilization` x total.
    pub requested_gib: f64,
    /// Weights.
    pub weights_gib: f64,
    /// Peak activation, the experts' workspaces included.
    pub activation_gib: f64,
    /// The phase that makes that peak.
    pub activation_bound_by: ActivationPhase,
    /// Workspaces of the experts, part of `activation_gib`.
    pub moe_workspace_gib: f64,
    /// CUDA context, NCCL and libraries.
    pub non_torch_gib: f64,
    /// CUDA graphs.
    pub cuda_graph_gib: f64,
    /// The graphs are taken from `requested_gib` (since vLLM 0.20); else they lie outside of it.
    pub cuda_graph_in_budget: bool,
    /// What is left for the KV cache; negative: the shortfall.
    pub kv_cache_gib: f64,
}

/// Memory of one GPU of a pipeline stage, GiB.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct RankMemory {
    /// Weights.
    pub weights_gib: f64,
    /// Peak activation.
    pub activation_gib: f64,
    /// What is left for the KV cache; negative: the shortfall.
    pub kv_cache_gib: f64,
}

/// KV cache of each data-parallel rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct KvCacheSummary {
    /// Bytes that one more token of context takes on a GPU, averaged over a full-length request.
    pub bytes_per_token_per_gpu: u64,
    /// Tokens of a block.
    pub block_size: u64,
    /// Blocks of the engine: the fewest of all ranks.
    pub num_blocks: u64,
    /// Tokens that full-length requests can hold at once.
    pub tokens: u64,
    /// What this version prints as "GPU KV cache size".
    pub tokens_as_logged: u64,
    /// Blocks of one request of `max_model_len`.
    pub blocks_per_request: u64,
    /// Memory of one request of `max_model_len`.
    pub request_gib: f64,
    /// Requests of `max_model_len` that fit at once, per data-parallel rank.
    pub max_concurrency: f64,
    /// KV cache groups.
    pub groups: u64,
}

/// A change that was planned and works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Suggestion {
    /// The flag to set, as `vllm serve` spells it.
    pub change: String,
    /// What it brings.
    pub effect: String,
}
