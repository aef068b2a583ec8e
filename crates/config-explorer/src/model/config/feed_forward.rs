//! Which feed-forward each layer has.

use serde_json::Value;

use super::{Context, FeedForward, MAX_COUNT, MAX_WIDTH};
use crate::Result;
use crate::model::Moe;
use crate::model::fields::{Fields, MAX_EXPERTS};

/// In vLLM's order (`get_num_experts`).
const EXPERTS: [&str; 4] = ["num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts"];
const EXPERTS_PER_TOKEN: [&str; 7] = [
    "num_experts_per_tok",
    "num_experts_per_token",
    "experts_per_token",
    "moe_top_k",
    "top_k_experts",
    "moe_topk",
    "moe_k",
];
const INTERMEDIATE: [&str; 5] = ["intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "inner_hidden_size"];
const MOE_INTERMEDIATE: [&str; 3] = ["moe_intermediate_size", "expert_intermediate_size", "moe_ffn_hidden_size"];
/// Largest sum of the experts' widths in a layer (Kimi K3 has 896 x 3072).
const MAX_EXPERTS_WIDTH: u64 = 1 << 24;

/// The feed-forward of each layer.
pub(super) fn feed_forwards(context: &Context<'_>) -> Result<Vec<FeedForward>> {
    let Context { text, layers, .. } = context;
    let moe = moe(context)?;
    let shared_cache = text.size(&["num_kv_shared_layers"], MAX_COUNT)?.unwrap_or(0) as usize;
    let is_sparse = sparse_layers(text, *layers)?;
    (0..*layers)
        .map(|layer| match moe {
            Some(moe) if is_sparse(layer) => Ok(FeedForward::Moe(moe)),
            _ => {
                let mut intermediate_size = dense_size(context, layer, moe.is_some())?;
                // Gemma 4 E-models: layers without a cache of their own have a wider MLP instead.
                if text.flag("use_double_wide_mlp") && shared_cache > 0 && layer + shared_cache >= *layers {
                    intermediate_size *= 2;
                }
                Ok(FeedForward::Dense { intermediate_size, gated: context.family.gated })
            }
        })
        .collect()
}

/// Inner width of a dense MLP.
pub(super) fn dense_size(context: &Context<'_>, layer: usize, beside_experts: bool) -> Result<u64> {
    let text = &context.text;
    if beside_experts && let Some(size) = text.size(&["dense_intermediate_size", "intermediate_size_mlp"], MAX_WIDTH)? {
        return Ok(size);
    }
    match text.size_at(&INTERMEDIATE, layer, MAX_WIDTH)? {
        Some(size) if size > 0 => Ok(size),
        // GPT-2 and its like leave out four times the width.
        _ if !context.family.gated => Ok((4 * context.hidden_size).min(MAX_WIDTH)),
        _ => text.required(&INTERMEDIATE, MAX_WIDTH),
    }
}

/// The mixture of experts of a layer that has one.
pub(super) fn moe(context: &Context<'_>) -> Result<Option<Moe>> {
    let text = &context.text;
    if text.is_off("enable_moe_block") {
        return Ok(None);
    }
    let Some(experts) = text.size_at(&EXPERTS, 0, MAX_EXPERTS)?.filter(|experts| *experts > 1) else {
        return Ok(None);
    };
    let intermediate_size = match text.size_at(&MOE_INTERMEDIATE, 0, MAX_WIDTH)? {
        Some(size) if size > 0 => size,
        _ => text.required(&INTERMEDIATE, MAX_WIDTH)?,
    };
    let shared_intermediate_size = shared_size(context, intermediate_size)?;
    if experts * intermediate_size + shared_intermediate_size > MAX_EXPERTS_WIDTH {
        let reason = format!("{experts} experts of width {intermediate_size} are more than any model has");
        return Err(text.error(EXPERTS[0], reason));
    }
    let experts_per_token = match text.size_at(&EXPERTS_PER_TOKEN, 0, MAX_COUNT)? {
        Some(count) if count > 0 => count,
        _ => text.required(&EXPERTS_PER_TOKEN, MAX_COUNT)?,
    };
    let expert_hidden_size = text.size(&["moe_latent_size", "routed_expert_hidden_size"], MAX_WIDTH)?;
    Ok(Some(Moe {
        experts,
        experts_per_token,
        intermediate_size,
        shared_intermediate_size,
        gated: context.family.gated,
        expert_hidden_size: expert_hidden_size.filter(|size| *size > 0).unwrap_or(context.hidden_size),
    }))
}

/// Inner width of the experts that see every token.
fn shared_size(context: &Context<'_>, expert_size: u64) -> Result<u64> {
    let text = &context.text;
    // Gemma 4 runs the dense MLP beside the experts.
    if text.flag("enable_moe_block") {
        return dense_size(context, 0, false);
    }
    let experts = text.size(&["n_shared_experts", "num_shared_experts", "moe_num_shared_experts"], MAX_COUNT)?;
    if let Some(size) = text.size(&["moe_shared_expert_intermediate_size"], MAX_WIDTH)? {
        return Ok(size * experts.unwrap_or(1));
    }
    for name in ["shared_expert_intermediate_size", "share_expert_dim", "shared_intermediate_size"] {
        if let Some(size) = text.size(&[name], MAX_WIDTH)? {
            return Ok(size);
        }
    }
    Ok(experts.unwrap_or(0) * expert_size)
}

/// Which layers of a model with experts have them.
fn sparse_layers(text: &Fields<'_>, layers: usize) -> Result<Box<dyn Fn(usize) -> bool>> {
    let indices = |name: &str| -> Option<Vec<usize>> {
        Some(text.list(name)?.iter().filter_map(|value| Some(value.as_u64()? as usize)).collect())
    };
    if let Some(types) = text.list("mlp_layer_types") {
        let sparse: Vec<bool> = types.iter().map(|name| name.as_str() == Some("sparse")).collect();
        return Ok(Box::new(move |layer| sparse.get(layer).copied().unwrap_or(true)));
    }
    if let Some(list) = text.string("moe_layers_enum") {
        let sparse: Vec<usize> = list.split(',').filter_map(|number| number.trim().parse().ok()).collect();
        return Ok(Box::new(move |layer| sparse.contains(&layer)));
    }
    if let Some(sparse) = indices("moe_layers") {
        return Ok(Box::new(move |layer| sparse.contains(&layer)));
    }
    if text.value("moe_layer_freq").is_some_and(Value::is_array) {
        let sparse = text.sizes("moe_layer_freq", layers, 1)?.unwrap_or_default();
        return Ok(Box::new(move |layer| sparse.get(layer) == Some(&1)));
    }
    let positive = |names: &[&str]| -> Result<Option<usize>> {
        Ok(text.size(names, MAX_COUNT)?.filter(|value| *value > 0).map(|value| value as usize))
    };
    if let Some(step) = positive(&["interleave_moe_layer_step", "decoder_sparse_step"])? {
        let dense = indices("mlp_only_layers").unwrap_or_default();
        return Ok(Box::new(move |layer| (layer + 1) % step == 0 && !dense.contains(&layer)));
    }
    if let Some(period) = positive(&["expert_layer_period"])? {
        let offset = text.size(&["expert_layer_offset"], MAX_COUNT)?.unwrap_or(0) as usize;
        return Ok(Box::new(move |layer| layer % period == offset % period));
    }
    let first = text.size(&["first_k_dense_replace", "moe_layer_start_index"], MAX_COUNT)?.unwrap_or(0) as usize;
    let period = positive(&["moe_layer_freq", "moe_layer_interval"])?.unwrap_or(1);
    Ok(Box::new(move |layer| layer >= first && layer % period == 0))
}
