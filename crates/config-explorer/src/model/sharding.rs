//! Which share of a tensor a rank loads.
//!
//! In: a [`TensorGroup`], from headers or from the architecture, and the layer it belongs to. Out: how vLLM splits it
//! over tensor- and expert-parallel ranks, by the parallel linear layers that its model classes use
//! (`vllm/model_executor/layers/linear.py`, `vocab_parallel_embedding.py`, `fused_moe/layer.py`, `mamba/`).

use super::{Architecture, Attention, AttentionHeads, Layer, Mamba, Part, TensorGroup};

/// Rows of the vocabulary are padded to a multiple of this before they are divided (vLLM,
/// `DEFAULT_VOCAB_PADDING_SIZE`).
pub(super) const VOCABULARY_MULTIPLE: u64 = 64;

/// How a tensor is split over ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharding {
    /// Every rank holds it whole: norms, routers, low-rank down-projections, scales of whole matrices.
    Replicated,
    /// Its outputs (query heads, inner width) are divided.
    Column,
    /// Its inputs are divided.
    Row,
    /// `divided` outputs are split evenly, `grouped` ones by whole groups (key/value heads, groups of Mamba-2), which
    /// repeat where there are more ranks than groups.
    Grouped {
        /// Outputs split evenly.
        divided: u64,
        /// Outputs that come in groups.
        grouped: u64,
        /// Number of groups.
        groups: u64,
    },
    /// Its rows are padded, then divided.
    Vocabulary,
    /// Of experts: divided by expert under expert parallelism; else every expert is divided in its inner width, or not
    /// at all.
    Experts {
        /// Tensor parallelism divides the inner width.
        divided: bool,
    },
}

/// How many ranks share the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankSplit {
    /// Tensor-parallel ranks.
    pub tensor_parallel: u64,
    /// Ranks over which whole experts are spread: tensor- times data-parallel ones with expert parallelism, else 1.
    pub expert_parallel: u64,
    /// Every rank holds the whole vision tower (`--mm-encoder-tp-mode data`).
    pub encoder_data_parallel: bool,
}

/// Linear layers whose outputs are divided.
#[rustfmt::skip]
const COLUMN: [&str; 35] = [
    "q_proj", "gate_proj", "up_proj", "gate_up_proj", "w1", "w3", "fc1", "c_fc", "dense_h_to_4h", "q_b_proj",
    "kv_b_proj", "wq_b", "wo_a", "in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "in_proj_qkvz", "in_proj_ba",
    "g_proj", "f_b_proj", "b_proj", "g_b_proj", "conv1d", "q_conv1d", "k_conv1d", "v_conv1d", "k_proj", "v_proj",
    "per_layer_model_projection", "input_linear", "linear_fc1", "qkv", "index_q_proj", "linear_1",
];
/// Linear layers whose inputs are divided.
#[rustfmt::skip]
const ROW: [&str; 14] = [
    "o_proj", "out_proj", "down_proj", "w2", "fc2", "c_proj", "dense", "dense_4h_to_h", "wo", "wo_b",
    "output_linear", "linear_fc2", "proj", "linear_2",
];
/// Query, key and value in one matrix.
const FUSED_QKV: [&str; 6] = ["qkv_proj", "c_attn", "query_key_value", "W_pack", "Wqkv", "wqkv"];
/// Parameters that follow the heads.
const PER_HEAD: [&str; 6] = ["A_log", "D", "dt_bias", "sinks", "attn_sink", "attention_sink_bias"];
/// Embeddings and heads whose rows are the vocabulary.
#[rustfmt::skip]
const VOCABULARY: [&str; 9] = [
    "embed_tokens", "embed_tokens_per_layer", "embeddings", "embed", "wte", "word_embeddings", "embed_in", "lm_head",
    "head",
];
/// Names of tensors below a linear layer, beside [`PER_HEAD`].
#[rustfmt::skip]
const TENSORS: [&str; 20] = [
    "weight", "bias", "weight_scale", "weight_scale_inv", "weight_scale_2", "weight_packed", "weight_shape",
    "weight_zero_point", "weight_g_idx", "weight_global_scale", "input_scale", "input_global_scale", "qweight",
    "qzeros", "scales", "g_idx", "SCB", "k_scale", "v_scale", "scale",
];

/// How vLLM splits the tensors of a group.
pub fn sharding(group: &TensorGroup, architecture: &Architecture) -> Sharding {
    let (module, tensor) = split_tensor(&group.module);
    let name = module.rsplit('.').next().unwrap_or(module);
    if is_expert(module) {
        return Sharding::Experts { divided: expert_is_divided(group, name, tensor) };
    }
    if VOCABULARY.contains(&name) && matches!(group.part, Part::Embedding | Part::Head | Part::Mtp(_)) {
        return Sharding::Vocabulary;
    }
    // Scales of a whole matrix, and the record of its shape.
    if group.shape.iter().product::<u64>() <= 2 && !PER_HEAD.contains(&tensor) {
        return Sharding::Replicated;
    }
    match (linear_sharding(module, name, tensor, layer_of(group.part, architecture)), tensor) {
        (Sharding::Row, _) if tensor == "bias" || has_one_input(group, tensor) => Sharding::Replicated,
        (Sharding::Column | Sharding::Grouped { .. }, "g_idx" | "weight_g_idx") => Sharding::Replicated,
        (linear, _) => linear,
    }
}

/// Bytes of a group that the fullest rank holds.
pub fn rank_bytes(group: &TensorGroup, architecture: &Architecture, split: RankSplit) -> u64 {
    let RankSplit { tensor_parallel, expert_parallel, encoder_data_parallel } = split;
    let ranks = tensor_parallel.max(1);
    if group.part == Part::Encoder && encoder_data_parallel {
        return group.count * group.bytes;
    }
    match sharding(group, architecture) {
        Sharding::Replicated => group.count * group.bytes,
        Sharding::Column | Sharding::Row => group.count * group.bytes.div_ceil(ranks),
        Sharding::Grouped { divided, grouped, groups } => {
            let rows = divided.div_ceil(ranks) + grouped / groups.max(1) * (groups / ranks).max(1);
            group.count * group.bytes.saturating_mul(rows).div_ceil((divided + grouped).max(1))
        }
        Sharding::Vocabulary => {
            let rows = group.shape.first().copied().unwrap_or(1).max(1);
            let padded = rows.next_multiple_of(VOCABULARY_MULTIPLE).div_ceil(ranks);
            group.count * group.bytes.saturating_mul(padded).div_ceil(rows)
        }
        Sharding::Experts { divided } => {
            if expert_parallel > 1 {
                // One tensor an expert, or one for all of them.
                let (experts, bytes) = match group.count {
                    1 => (group.shape.first().copied().unwrap_or(1).max(1), group.bytes),
                    experts => (experts, experts * group.bytes),
                };
                bytes.saturating_mul(experts.div_ceil(expert_parallel)).div_ceil(experts)
            } else {
                group.count * if divided { group.bytes.div_ceil(ranks) } else { group.bytes }
            }
        }
    }
}

/// The layer a part stands for.
fn layer_of(part: Part, architecture: &Architecture) -> Option<&Layer> {
    match part {
        Part::Layer(index) => architecture.layers.get(index as usize),
        Part::Mtp(index) => architecture.mtp_layers.get(index as usize).or(architecture.mtp_layers.last()),
        Part::Embedding | Part::FinalNorm | Part::Head | Part::Encoder => None,
    }
}

/// A module's path and the name of its tensor; the latter is empty where the tensor has the module's own name
/// (experts of one tensor).
fn split_tensor(path: &str) -> (&str, &str) {
    // bitsandbytes keeps its scales below the weight.
    if let Some(at) = path.find(".weight.") {
        return (&path[..at], &path[at + 1..]);
    }
    match path.rsplit_once('.') {
        Some((module, tensor)) if TENSORS.contains(&tensor) || PER_HEAD.contains(&tensor) => (module, tensor),
        _ => (path, ""),
    }
}

/// Whether a module belongs to routed experts.
fn is_expert(module: &str) -> bool {
    let mut components = module.split('.');
    // Step and Gemma 4 keep the experts' tensors in `moe` itself, Granite in `block_sparse_moe`.
    let in_moe = module.strip_prefix("moe.").is_some_and(|name| name.ends_with("_proj"))
        || module.strip_prefix("block_sparse_moe.").is_some_and(|name| name.ends_with("put_linear"));
    in_moe || components.any(|component| component == "experts")
}

/// Whether tensor parallelism divides a tensor of experts: not scalars, and not what is as wide as the model.
fn expert_is_divided(group: &TensorGroup, name: &str, tensor: &str) -> bool {
    let of_all_experts = group.count == 1;
    let dimensions = group.shape.len() - usize::from(of_all_experts && !group.shape.is_empty());
    let matrix = name.trim_end_matches("_blocks").trim_end_matches("_scales").trim_end_matches("_bias");
    let bias = tensor == "bias" || name.ends_with("_bias");
    if ROW.contains(&matrix) {
        dimensions > 1 && !bias && !has_one_input(group, tensor)
    } else {
        dimensions > 1 || bias
    }
}

/// How the linear layer of this name is split.
fn linear_sharding(module: &str, name: &str, tensor: &str, layer: Option<&Layer>) -> Sharding {
    let attention = layer.map(|layer| &layer.attention);
    if let Some(Attention::Mamba(mamba)) = attention
        && ["mixer", "mamba"].iter().any(|mixer| module.starts_with(mixer))
    {
        return mamba_sharding(mamba, name, tensor);
    }
    // Every rank selects tokens for all heads.
    if module.contains("indexer.") {
        return Sharding::Replicated;
    }
    if let Some(AttentionHeads { query_heads, kv_heads, head_dim, value_head_dim }) =
        attention.and_then(Attention::heads)
    {
        let [key, value] = [kv_heads * head_dim, kv_heads * value_head_dim];
        if matches!(name, "k_proj" | "v_proj") {
            return Sharding::Grouped { divided: 0, grouped: key, groups: kv_heads };
        }
        if FUSED_QKV.contains(&name) {
            return Sharding::Grouped { divided: query_heads * head_dim, grouped: key + value, groups: kv_heads };
        }
    }
    // Elsewhere (vision towers, Kimi Delta Attention) keys and values have as many heads as queries.
    if COLUMN.contains(&name) || FUSED_QKV.contains(&name) || PER_HEAD.contains(&tensor) {
        Sharding::Column
    } else if ROW.contains(&name) {
        Sharding::Row
    } else {
        Sharding::Replicated
    }
}

fn mamba_sharding(mamba: &Mamba, name: &str, tensor: &str) -> Sharding {
    let Mamba { version, inner_size, heads, groups, state_size, .. } = *mamba;
    let grouped = 2 * groups * state_size;
    match (version, name) {
        (2, "in_proj") => Sharding::Grouped { divided: 2 * inner_size + heads, grouped, groups },
        (2, "conv1d") => Sharding::Grouped { divided: inner_size, grouped, groups },
        (_, "out_proj" | "x_proj") => Sharding::Row,
        (_, "in_proj" | "conv1d" | "dt_proj" | "norm") => Sharding::Column,
        _ if PER_HEAD.contains(&tensor) => Sharding::Column,
        _ => Sharding::Replicated,
    }
}

/// Whether a tensor of scales has one value for all inputs, so that dividing the inputs leaves it whole.
fn has_one_input(group: &TensorGroup, tensor: &str) -> bool {
    match tensor {
        "weight_scale" | "weight_scale_inv" | "weight_zero_point" => {
            group.shape.len() < 2 || group.shape.last() == Some(&1)
        }
        "scales" | "qzeros" => group.shape.first() == Some(&1),
        "SCB" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
