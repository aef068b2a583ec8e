//! Which attention each layer has.

use serde_json::Value;

use super::{Attention, Context, DType, MAX_COUNT, MAX_LENGTH, MAX_WIDTH};
use crate::Result;
use crate::model::fields::Fields;
use crate::model::{AttentionHeads, CompressedSparse, GatedDeltaNet, Mamba, Mla, SparseIndexer};

const QUERY_HEADS: [&str; 4] = ["num_attention_heads", "n_head", "n_heads", "num_heads"];
/// In vLLM's order (`get_total_num_kv_heads`).
const KV_HEADS: [&str; 5] =
    ["n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups"];
const HEAD_DIM: [&str; 3] = ["head_dim", "attention_head_dim", "kv_channels"];

/// What a layer does with the tokens before, without its sizes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Full,
    Sliding,
    Chunked,
    Linear,
    Mamba,
}

/// The attention of each layer.
pub(super) fn attentions(context: &Context<'_>, warnings: &mut Vec<String>) -> Result<Vec<Attention>> {
    let text = &context.text;
    if text.list("compress_ratios").is_some() {
        return compressed_sparse(context);
    }
    if text.object("sparse_attention_config").is_some_and(|sparse| sparse.flag("use_sparse_attention")) {
        warnings.push(
            "block-sparse attention keeps every token's keys and values: it is counted as full attention; its index \
             keys and projections are not counted"
                .to_owned(),
        );
    }
    let kinds = kinds(context, warnings)?;
    let mla = text.has("kv_lora_rank").then(|| mla(context)).transpose()?;
    let mut attentions = Vec::with_capacity(kinds.len());
    for (layer, kind) in kinds.iter().enumerate() {
        attentions.push(match (kind, mla) {
            (Kind::Linear, _) => Attention::Linear(linear(context)?),
            (Kind::Mamba, _) => Attention::Mamba(mamba(context)?),
            (_, Some(mla)) => match sparse_indexer(context, layer)? {
                Some(indexer) => Attention::MlaSparse { mla, indexer },
                None => Attention::Mla(mla),
            },
            (Kind::Full, None) => Attention::Full(full_heads(context, layer)?),
            (Kind::Sliding, None) => match window(text)? {
                Some(window) => Attention::SlidingWindow { heads: sliding_heads(context, layer)?, window },
                None => Attention::Full(heads(context, layer)?),
            },
            (Kind::Chunked, None) => {
                let chunk = text.required(&["attention_chunk_size"], MAX_LENGTH)?;
                Attention::ChunkedLocal { heads: heads(context, layer)?, chunk }
            }
        });
    }
    share_kv_cache(context, &kinds, &mut attentions)?;
    Ok(attentions)
}

/// The kind of each layer.
fn kinds(context: &Context<'_>, warnings: &mut Vec<String>) -> Result<Vec<Kind>> {
    let Context { text, layers, .. } = context;
    let layers = *layers;
    let pattern = |is_full: &dyn Fn(u64) -> bool, other: Kind| -> Vec<Kind> {
        (0..layers as u64).map(|layer| if is_full(layer) { Kind::Full } else { other }).collect()
    };
    if let Some(linear) = text.object("linear_attn_config") {
        warnings.push(
            "Kimi Delta Attention is counted as Gated DeltaNet with as many key as value heads, which has the same state"
                .to_owned(),
        );
        // Layers are numbered from 1.
        let full = indices(linear.list("full_attn_layers"));
        return Ok(pattern(&|layer| full.contains(&(layer + 1)), Kind::Linear));
    }
    if let Some(types) = text.list("layer_types") {
        if types.len() < layers {
            return Err(text.error("layer_types", format!("has {} elements for {layers} layers", types.len())));
        }
        return Ok(types[..layers]
            .iter()
            .map(|name| layer_type(name.as_str().unwrap_or_default(), warnings))
            .collect());
    }
    if let Some(sliding) = text.sizes("hybrid_layer_pattern", layers, 1)? {
        return Ok(pattern(&|layer| sliding[layer as usize] == 0, Kind::Sliding));
    }
    if let Some(types) = text.sizes("attn_type_list", layers, 1)?
        && types.contains(&0)
    {
        warnings.push("lightning attention is counted as linear attention without a convolution".to_owned());
        return Ok(pattern(&|layer| types[layer as usize] == 1, Kind::Linear));
    }
    if let Some(list) = text.list("attn_layer_indices") {
        let full = indices(Some(list));
        return Ok(pattern(&|layer| full.contains(&layer), Kind::Mamba));
    }
    if let Some(period) = positive(text, "attn_layer_period")? {
        let offset = text.size(&["attn_layer_offset"], MAX_COUNT)?.unwrap_or(0);
        return Ok(pattern(&|layer| layer % period == offset % period, Kind::Mamba));
    }
    if !QUERY_HEADS.iter().any(|name| text.has(name)) && ["state_size", "ssm_cfg"].iter().any(|name| text.has(name)) {
        return Ok(vec![Kind::Mamba; layers]);
    }
    if text.has("linear_num_value_heads") {
        let interval = positive(text, "full_attention_interval")?.unwrap_or(4);
        return Ok(pattern(&|layer| (layer + 1) % interval == 0, Kind::Linear));
    }
    if text.size(&["attention_chunk_size"], MAX_LENGTH)?.is_some() {
        // Llama 4: layers without rotary embedding (0 in the list) see everything.
        if let Some(rope) = text.list("no_rope_layers").filter(|list| !list.is_empty()) {
            let rope: Vec<bool> = rope.iter().map(|value| value.as_u64() != Some(0)).collect();
            return Ok(pattern(&|layer| !rope.get(layer as usize).copied().unwrap_or(true), Kind::Chunked));
        }
        let interval = positive(text, "no_rope_layer_interval")?.unwrap_or(4);
        return Ok(pattern(&|layer| (layer + 1) % interval == 0, Kind::Chunked));
    }
    if window(text)?.is_none() {
        return Ok(vec![Kind::Full; layers]);
    }
    // `LLLG`: three local layers, a global one.
    if let Some(letters) = text.string("sliding_window_pattern").filter(|letters| !letters.is_empty()) {
        let letters: Vec<char> = letters.chars().collect();
        return Ok(pattern(&|layer| letters[layer as usize % letters.len()] == 'G', Kind::Sliding));
    }
    for name in ["_sliding_window_pattern", "sliding_window_pattern"] {
        if let Some(period) = positive(text, name)? {
            return Ok(pattern(&|layer| (layer + 1) % period == 0, Kind::Sliding));
        }
    }
    // Qwen2: the layers below `max_window_layers` see everything.
    if text.flag("use_sliding_window")
        && let Some(full) = text.size(&["max_window_layers"], MAX_COUNT)?
    {
        return Ok(pattern(&|layer| layer < full, Kind::Sliding));
    }
    Ok(vec![Kind::Sliding; layers])
}

/// The numbers of a list.
fn indices(list: Option<&[Value]>) -> Vec<u64> {
    list.unwrap_or_default().iter().filter_map(Value::as_u64).collect()
}

fn layer_type(name: &str, warnings: &mut Vec<String>) -> Kind {
    match name {
        "sliding_attention" | "local_attention" => Kind::Sliding,
        "chunked_attention" => Kind::Chunked,
        "linear_attention" => Kind::Linear,
        "mamba" => Kind::Mamba,
        "full_attention" | "attention" | "global_attention" | "deepseek_sparse_attention" => Kind::Full,
        _ => {
            let warning = format!("layers of type `{name}` are not known and counted as full attention");
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
            Kind::Full
        }
    }
}

/// The sliding window; `None` where it is switched off.
fn window(text: &Fields<'_>) -> Result<Option<u64>> {
    if text.is_off("use_sliding_window") {
        return Ok(None);
    }
    Ok(text.size(&["sliding_window", "sliding_window_size"], MAX_LENGTH)?.filter(|window| *window > 0))
}

/// Heads as the common fields give them.
pub(super) fn heads(context: &Context<'_>, layer: usize) -> Result<AttentionHeads> {
    let text = &context.text;
    let query_heads = match text.size_at(&QUERY_HEADS, layer, MAX_COUNT)? {
        Some(heads) if heads > 0 => heads,
        _ => text.required(&QUERY_HEADS, MAX_COUNT)?,
    };
    let one_kv_head = text.flag("multi_query") && !text.flag("new_decoder_architecture");
    let kv_heads = match text.size_at(&KV_HEADS, layer, MAX_COUNT)? {
        _ if one_kv_head => 1,
        Some(heads) if heads > 0 => heads,
        _ => query_heads,
    };
    let head_dim = match text.size_at(&HEAD_DIM, layer, MAX_COUNT)? {
        Some(width) if width > 0 => width,
        _ if context.hidden_size < query_heads => return Err(text.error(QUERY_HEADS[0], "is above `hidden_size`")),
        _ => context.hidden_size / query_heads,
    };
    let value_head_dim = positive(text, "v_head_dim")?.unwrap_or(head_dim);
    Ok(AttentionHeads { query_heads, kv_heads, head_dim, value_head_dim })
}

/// Heads of a layer that sees everything, which Gemma 4 gives wider ones.
fn full_heads(context: &Context<'_>, layer: usize) -> Result<AttentionHeads> {
    let text = &context.text;
    let mut heads = heads(context, layer)?;
    if let Some(width) = positive(text, "global_head_dim")? {
        heads.head_dim = width;
        heads.value_head_dim = width;
    }
    if text.flag("attention_k_eq_v")
        && let Some(kv_heads) = positive(text, "num_global_key_value_heads")?
    {
        heads.kv_heads = kv_heads;
    }
    Ok(heads)
}

/// Heads of a sliding-window layer, which MiMo-V2 and Step have fields of their own for.
pub(super) fn sliding_heads(context: &Context<'_>, layer: usize) -> Result<AttentionHeads> {
    let mut heads = heads(context, layer)?;
    let other = context.text.object("attention_other_setting");
    let fields = other.as_ref().unwrap_or(&context.text);
    let names: [&[&str]; 4] = match other {
        Some(_) => [&["num_attention_heads"], &["num_attention_groups"], &["head_dim"], &["head_dim"]],
        None => [
            &["swa_num_attention_heads"],
            &["swa_num_key_value_heads"],
            &["swa_head_dim"],
            &["swa_v_head_dim", "swa_head_dim"],
        ],
    };
    let sizes = [&mut heads.query_heads, &mut heads.kv_heads, &mut heads.head_dim, &mut heads.value_head_dim];
    for (size, names) in sizes.into_iter().zip(names) {
        *size = fields.size(names, MAX_COUNT)?.filter(|value| *value > 0).unwrap_or(*size);
    }
    Ok(heads)
}

fn mla(context: &Context<'_>) -> Result<Mla> {
    let text = &context.text;
    Ok(Mla {
        query_heads: text.required(&QUERY_HEADS, MAX_COUNT)?,
        q_lora_rank: text.size(&["q_lora_rank"], MAX_WIDTH)?.filter(|rank| *rank > 0),
        kv_lora_rank: text.required(&["kv_lora_rank"], MAX_WIDTH)?,
        qk_nope_head_dim: text.required(&["qk_nope_head_dim"], MAX_COUNT)?,
        qk_rope_head_dim: text.required(&["qk_rope_head_dim"], MAX_COUNT)?,
        v_head_dim: text.required(&["v_head_dim"], MAX_COUNT)?,
    })
}

/// The indexer of a sparse MLA layer: `None` for a layer without one, `Some(None)` for one that shares an earlier
/// layer's selection.
#[expect(clippy::option_option, reason = "not sparse, sparse by another layer's indexer, sparse by its own")]
fn sparse_indexer(context: &Context<'_>, layer: usize) -> Result<Option<Option<SparseIndexer>>> {
    let text = &context.text;
    if !text.has("index_topk") || !text.has("index_head_dim") {
        return Ok(None);
    }
    // vLLM (`deepseek_v2.py`) computes from `index_topk_freq` and its offset what `indexer_types` spells out.
    let shared = if let Some(types) = text.list("indexer_types") {
        types.get(layer).and_then(Value::as_str) == Some("shared")
    } else {
        let period = positive(text, "index_topk_freq")?.unwrap_or(1);
        let offset = text.size(&["index_skip_topk_offset"], MAX_COUNT)?.unwrap_or(2);
        (layer as u64 + 1).saturating_sub(offset) % period != 0
    };
    Ok(Some(if shared { None } else { Some(indexer(text)?) }))
}

/// An indexer, as its fields give it.
pub(super) fn indexer(text: &Fields<'_>) -> Result<SparseIndexer> {
    Ok(SparseIndexer {
        heads: text.required(&["index_n_heads"], MAX_COUNT)?,
        head_dim: text.required(&["index_head_dim"], MAX_COUNT)?,
        top_k: text.required(&["index_topk"], MAX_LENGTH)?,
    })
}

fn compressed_sparse(context: &Context<'_>) -> Result<Vec<Attention>> {
    let Context { text, layers, .. } = context;
    let ratios = text.sizes("compress_ratios", *layers, MAX_LENGTH)?.unwrap_or_default();
    let attention = CompressedSparse {
        query_heads: text.required(&QUERY_HEADS, MAX_COUNT)?,
        head_dim: text.required(&["head_dim"], MAX_COUNT)?,
        q_lora_rank: text.required(&["q_lora_rank"], MAX_WIDTH)?,
        o_lora_rank: text.required(&["o_lora_rank"], MAX_COUNT)?,
        o_groups: text.required(&["o_groups"], MAX_COUNT)?,
        indexer: indexer(text)?,
        compress_ratio: 0,
    };
    Ok(ratios
        .into_iter()
        .map(|compress_ratio| Attention::CompressedSparse(CompressedSparse { compress_ratio, ..attention }))
        .collect())
}

fn linear(context: &Context<'_>) -> Result<GatedDeltaNet> {
    let text = &context.text;
    if let Some(kda) = text.object("linear_attn_config") {
        let heads = kda.required(&["num_heads"], MAX_COUNT)?;
        let head_dim = kda.required(&["head_dim"], MAX_COUNT)?;
        return Ok(GatedDeltaNet {
            key_heads: heads,
            value_heads: heads,
            key_head_dim: head_dim,
            value_head_dim: head_dim,
            conv_kernel: kda.required(&["short_conv_kernel_size"], MAX_COUNT)?,
            state_dtype: DType::F32,
        });
    }
    if !text.has("linear_num_value_heads") {
        let heads = heads(context, 0)?;
        return Ok(GatedDeltaNet {
            key_heads: heads.query_heads,
            value_heads: heads.query_heads,
            key_head_dim: heads.head_dim,
            value_head_dim: heads.head_dim,
            conv_kernel: 1,
            state_dtype: DType::F32,
        });
    }
    Ok(GatedDeltaNet {
        key_heads: text.required(&["linear_num_key_heads"], MAX_COUNT)?,
        value_heads: text.required(&["linear_num_value_heads"], MAX_COUNT)?,
        key_head_dim: text.required(&["linear_key_head_dim"], MAX_COUNT)?,
        value_head_dim: text.required(&["linear_value_head_dim"], MAX_COUNT)?,
        conv_kernel: text.size(&["linear_conv_kernel_dim"], MAX_COUNT)?.filter(|width| *width > 0).unwrap_or(4),
        state_dtype: text.string("mamba_ssm_dtype").and_then(DType::from_torch).unwrap_or(context.dtype),
    })
}

/// A Mamba or Mamba-2 mixer, under the names of Nemotron-H, of Granite and Bamba, and of Mamba itself.
pub(super) fn mamba(context: &Context<'_>) -> Result<Mamba> {
    let text = &context.text;
    let heads = text.size(&["mamba_num_heads", "mamba_n_heads"], MAX_COUNT)?.filter(|heads| *heads > 0);
    let expand = text.size(&["expand", "mamba_expand"], MAX_COUNT)?.filter(|expand| *expand > 0).unwrap_or(2);
    let state_size = text.required(&["ssm_state_size", "mamba_d_state", "state_size"], MAX_COUNT)?;
    let conv_kernel = text.size(&["conv_kernel", "mamba_d_conv"], MAX_COUNT)?.filter(|width| *width > 0).unwrap_or(4);
    let expanded = (context.hidden_size * expand).min(MAX_WIDTH);
    let state_dtype = text.string("mamba_ssm_cache_dtype").and_then(DType::from_torch);
    // Mamba-2's own configs name their heads as attention does.
    let heads = match heads {
        None if text.has("head_dim") && text.has("n_groups") => {
            text.size(&["num_heads"], MAX_COUNT)?.filter(|heads| *heads > 0)
        }
        heads => heads,
    };
    let Some(heads) = heads else {
        return Ok(Mamba {
            version: 1,
            inner_size: text
                .size(&["intermediate_size"], MAX_WIDTH)?
                .filter(|_| text.has("state_size"))
                .unwrap_or(expanded),
            heads: 0,
            head_dim: 0,
            state_size,
            groups: 1,
            conv_kernel,
            chunk_size: None,
            state_dtype,
        });
    };
    let head_dim = match text.size(&["mamba_head_dim", "mamba_d_head"], MAX_COUNT) {
        Ok(Some(width)) if width > 0 => width,
        // Granite writes `auto`.
        _ if text.has("mamba_n_heads") => expanded / heads,
        _ => text.required(&["mamba_head_dim", "head_dim"], MAX_COUNT)?,
    };
    Ok(Mamba {
        version: 2,
        inner_size: heads * head_dim,
        heads,
        head_dim,
        state_size,
        groups: text.size(&["n_groups", "mamba_n_groups"], MAX_COUNT)?.filter(|groups| *groups > 0).unwrap_or(1),
        conv_kernel,
        chunk_size: text.size(&["chunk_size", "mamba_chunk_size"], MAX_LENGTH)?.filter(|size| *size > 0),
        state_dtype,
    })
}

/// Gemma 3n and 4: the last layers read the cache of the last earlier layer of their kind.
fn share_kv_cache(context: &Context<'_>, kinds: &[Kind], attentions: &mut [Attention]) -> Result<()> {
    let Some(shared) = positive(&context.text, "num_kv_shared_layers")? else { return Ok(()) };
    let first = kinds.len().saturating_sub(shared as usize);
    for layer in first..kinds.len() {
        let Some(with_layer) = kinds[..first].iter().rposition(|kind| *kind == kinds[layer]) else { continue };
        if let Some(heads) = attentions[layer].heads() {
            attentions[layer] = Attention::Shared { heads, with_layer: with_layer as u32 };
        }
    }
    Ok(())
}

/// A number that is there and not 0.
fn positive(text: &Fields<'_>, name: &str) -> Result<Option<u64>> {
    Ok(text.size(&[name], MAX_COUNT)?.filter(|value| *value > 0))
}
