//! Why vLLM would refuse to run a model over so many tensor-parallel ranks.
//!
//! In: an [`Architecture`], a size, whether experts are divided whole. Out: the first reason that vLLM would stop for,
//! in the order in which it looks: heads (`ModelConfig.verify_with_parallel_config`), then what its parallel layers
//! assert when they are built (`QKVParallelLinear`, `VocabParallelEmbedding`, `FusedMoE`, `MambaMixer2`), then what
//! quantised layers do (`validate_fp8_block_shape`, the group checks of AWQ, GPTQ and NVFP4).

use super::sharding::VOCABULARY_MULTIPLE;
use super::{Architecture, Attention, FeedForward, Layer};

/// Why this model cannot run over `tensor_parallel_size` ranks; `None` if it can. With `expert_parallel`, whole experts
/// are spread over ranks and not divided.
pub fn tensor_parallel_problem(
    architecture: &Architecture,
    tensor_parallel_size: u64,
    expert_parallel: bool,
) -> Option<String> {
    let ranks = tensor_parallel_size;
    if ranks == 0 {
        return Some("there has to be at least one rank".to_owned());
    }
    let distinct = distinct_layers(architecture);
    let heads = distinct.iter().find_map(|(_, layer)| heads_problem(&layer.attention, ranks));
    heads
        .or_else(|| {
            let rows = architecture.vocab_size.next_multiple_of(VOCABULARY_MULTIPLE);
            indivisible(rows, ranks, "rows of the padded vocabulary")
        })
        .or_else(|| distinct.iter().find_map(|(_, layer)| width_problem(&layer.feed_forward, ranks, expert_parallel)))
        .or_else(|| {
            let mut layers = distinct.iter();
            layers.find_map(|(index, layer)| format_problem(architecture, *index, layer, ranks, expert_parallel))
        })
        .or_else(|| {
            let heads = architecture.vision.as_ref()?.heads;
            let reason = indivisible(heads, ranks, "heads of the vision tower")?;
            Some(format!("{reason} (`--mm-encoder-tp-mode data` keeps the tower whole)"))
        })
}

/// The layers, each kind once, with the index of its first.
fn distinct_layers(architecture: &Architecture) -> Vec<(usize, &Layer)> {
    let mut distinct: Vec<(usize, &Layer)> = Vec::new();
    for (index, layer) in architecture.layers.iter().enumerate() {
        if distinct.iter().all(|(_, known)| *known != layer) {
            distinct.push((index, layer));
        }
    }
    distinct
}

fn indivisible(count: u64, ranks: u64, what: &str) -> Option<String> {
    (!count.is_multiple_of(ranks)).then(|| format!("{count} {what} cannot be divided by {ranks}"))
}

fn heads_problem(attention: &Attention, ranks: u64) -> Option<String> {
    match attention {
        Attention::Mla(mla) | Attention::MlaSparse { mla, .. } => {
            indivisible(mla.query_heads, ranks, "attention heads")
        }
        Attention::CompressedSparse(attention) => indivisible(attention.query_heads, ranks, "attention heads")
            .or_else(|| indivisible(attention.o_groups, ranks, "groups of the output projection")),
        Attention::Linear(linear) => indivisible(linear.key_heads, ranks, "key heads of linear attention")
            .or_else(|| indivisible(linear.value_heads, ranks, "value heads of linear attention")),
        Attention::Mamba(mamba) if mamba.version == 1 => {
            indivisible(mamba.inner_size, ranks, "channels of the Mamba mixer")
        }
        Attention::Mamba(mamba) => indivisible(mamba.heads, ranks, "heads of the Mamba mixer").or_else(|| {
            // A single group is repeated on every rank.
            if mamba.groups == 1 { None } else { indivisible(mamba.groups, ranks, "groups of the Mamba mixer") }
        }),
        _ => {
            let heads = attention.heads()?;
            indivisible(heads.query_heads, ranks, "attention heads").or_else(|| {
                let fits = heads.kv_heads.is_multiple_of(ranks) || ranks.is_multiple_of(heads.kv_heads);
                (!fits).then(|| format!("{} key/value heads neither divide nor are divided by {ranks}", heads.kv_heads))
            })
        }
    }
}

fn width_problem(feed_forward: &FeedForward, ranks: u64, expert_parallel: bool) -> Option<String> {
    match feed_forward {
        FeedForward::None | FeedForward::Projection => None,
        FeedForward::Dense { intermediate_size, .. } => indivisible(*intermediate_size, ranks, "columns of the MLP"),
        FeedForward::Moe(moe) => {
            if ranks > moe.experts {
                return Some(format!("{ranks} ranks are more than the {} experts", moe.experts));
            }
            let experts =
                if expert_parallel { None } else { indivisible(moe.intermediate_size, ranks, "columns of an expert") };
            experts.or_else(|| indivisible(moe.shared_intermediate_size, ranks, "columns of the shared expert"))
        }
    }
}

/// Whether a rank's share of a matrix splits a block or a group that has one scale.
fn format_problem(
    architecture: &Architecture,
    index: usize,
    layer: &Layer,
    ranks: u64,
    expert_parallel: bool,
) -> Option<String> {
    let quantisation = &architecture.checkpoint.quantisation;
    quantisation.method()?;
    let family = architecture.checkpoint.family;
    let format = |module: &str| quantisation.format_of(&format!("layers.{index}.{module}"));
    let split = |size: u64, multiple: u64, what: &str| {
        let reason = || format!("{size} {what} on each of {ranks} ranks split the {multiple} that share a scale");
        (ranks > 1 && !size.is_multiple_of(multiple)).then(reason)
    };
    let inputs = |module: &str, size: u64, what: &str| split(size, format(module).input_multiple(), what);
    // vLLM merges the other layers that are divided by output, and since 0.13 lets these split a block (pull request
    // 30836).
    let outputs = |module: &str, size: u64, what: &str| split(size, format(module).output_multiple(), what);
    let attention = match &layer.attention {
        Attention::Mla(mla) | Attention::MlaSparse { mla, .. } => {
            let heads = mla.query_heads / ranks;
            let values = heads * mla.v_head_dim;
            let decompressed = heads * mla.qk_nope_head_dim + values;
            outputs("self_attn.kv_b_proj", decompressed, "outputs of the latent's projection")
                .or_else(|| inputs("self_attn.o_proj", values, "inputs of the attention's output projection"))
        }
        attention => attention.heads().and_then(|heads| {
            let module = format!("{}.{}", family.attention, family.output);
            let values = heads.query_heads / ranks * heads.value_head_dim;
            inputs(&module, values, "inputs of the attention's output projection")
        }),
    };
    attention.or_else(|| match &layer.feed_forward {
        FeedForward::None | FeedForward::Projection => None,
        FeedForward::Dense { intermediate_size, .. } => {
            inputs(family.mlp[2], intermediate_size / ranks, "inputs of the MLP's down projection")
        }
        FeedForward::Moe(moe) => {
            let [up, down] = family.expert_projections();
            let share = if expert_parallel { moe.intermediate_size } else { moe.intermediate_size / ranks };
            outputs(&up, share, "outputs of an expert's projections")
                .or_else(|| inputs(&down, share, "inputs of an expert's down projection"))
                .or_else(|| {
                    let down = format!("{}.{}", family.shared, family.shared_names[2]);
                    let share = moe.shared_intermediate_size / ranks;
                    inputs(&down, share, "inputs of the shared expert's down projection")
                })
        }
    })
}

#[cfg(test)]
mod tests;
