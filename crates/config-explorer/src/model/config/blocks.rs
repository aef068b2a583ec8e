//! Models whose config lists blocks, not layers of one build: Nemotron-H (one mixer a layer) and Nemotron NAS (an
//! attention and a feed-forward chosen for each layer).

use super::{Attention, Context, FeedForward, Layer, MAX_COUNT, attention, feed_forward};
use crate::Result;
use crate::model::AttentionHeads;
use crate::model::fields::Fields;

/// Number of decoder layers.
pub(super) fn layer_count(text: &Fields<'_>) -> Result<usize> {
    let blocks = block_types(text, "layers_block_type", "hybrid_override_pattern");
    match blocks {
        Some(blocks) if blocks.len() as u64 > MAX_COUNT => {
            Err(text.error("layers_block_type", format!("has {} layers, above what any model has", blocks.len())))
        }
        Some(blocks) if !blocks.is_empty() => Ok(blocks.len()),
        _ => text
            .required(&["num_hidden_layers", "n_layer", "n_layers", "num_layers"], MAX_COUNT)
            .map(|layers| layers as usize),
    }
}

/// The layers of a model of blocks; `None` for any other.
pub(super) fn layers(context: &Context<'_>, warnings: &mut Vec<String>) -> Result<Option<Vec<Layer>>> {
    let text = &context.text;
    if let Some(blocks) = text.objects("block_configs") {
        if blocks.len() < context.layers {
            return Err(
                text.error("block_configs", format!("has {} blocks for {} layers", blocks.len(), context.layers))
            );
        }
        return blocks[..context.layers].iter().map(|block| nas_layer(context, block)).collect::<Result<_>>().map(Some);
    }
    let Some(types) = block_types(text, "layers_block_type", "hybrid_override_pattern") else { return Ok(None) };
    one_mixer_layers(context, &types, warnings).map(Some)
}

/// Layers that have one mixer each.
pub(super) fn one_mixer_layers(
    context: &Context<'_>,
    types: &[&str],
    warnings: &mut Vec<String>,
) -> Result<Vec<Layer>> {
    let (mut layers, mut dense) = (Vec::with_capacity(types.len()), 0);
    for block in types {
        layers.push(match *block {
            "mamba" | "M" => {
                Layer { attention: Attention::Mamba(attention::mamba(context)?), feed_forward: FeedForward::None }
            }
            "moe" | "E" => {
                let moe = feed_forward::moe(context)?;
                let moe =
                    moe.ok_or_else(|| context.text.error("n_routed_experts", "is missing, and layers have experts"))?;
                Layer { attention: Attention::None, feed_forward: FeedForward::Moe(moe) }
            }
            "mlp" | "-" => {
                let intermediate_size = feed_forward::dense_size(context, dense, false)?;
                dense += 1;
                let feed_forward = FeedForward::Dense { intermediate_size, gated: context.family.gated };
                Layer { attention: Attention::None, feed_forward }
            }
            other => {
                if !matches!(other, "attention" | "*") {
                    let warning = format!("blocks of type `{other}` are not known and counted as full attention");
                    if !warnings.contains(&warning) {
                        warnings.push(warning);
                    }
                }
                Layer { attention: Attention::Full(attention::heads(context, 0)?), feed_forward: FeedForward::None }
            }
        });
    }
    Ok(layers)
}

/// Types of blocks, from a list or from a string with a letter for each.
pub(super) fn block_types<'a>(text: &Fields<'a>, list: &str, pattern: &str) -> Option<Vec<&'a str>> {
    if let Some(types) = text.list(list) {
        return Some(types.iter().map(|name| name.as_str().unwrap_or_default()).collect());
    }
    let letters = text.string(pattern)?;
    Some(letters.char_indices().map(|(at, letter)| &letters[at..at + letter.len_utf8()]).collect())
}

/// One block of Nemotron NAS (`DeciLM`).
fn nas_layer(context: &Context<'_>, block: &Fields<'_>) -> Result<Layer> {
    let text = &context.text;
    let part = |name: &str| block.object(name).ok_or_else(|| block.error(name, "is missing"));
    let (attention, ffn) = (part("attention")?, part("ffn")?);
    let query_heads = text.required(&["num_attention_heads"], MAX_COUNT)?;
    let attention = if attention.flag("no_op") {
        Attention::None
    } else if attention.flag("replace_with_linear") {
        Attention::Projection
    } else {
        let group = attention.required(&["n_heads_in_group"], MAX_COUNT)?;
        let head_dim = match text.size(&["head_dim"], MAX_COUNT)? {
            Some(width) if width > 0 => width,
            _ => (context.hidden_size / query_heads).max(1),
        };
        let kv_heads = (query_heads / group).max(1);
        Attention::Full(AttentionHeads { query_heads, kv_heads, head_dim, value_head_dim: head_dim })
    };
    let feed_forward = if ffn.flag("no_op") {
        FeedForward::None
    } else if ffn.flag("replace_with_linear") {
        FeedForward::Projection
    } else {
        let multiple = ffn.float("ffn_mult").filter(|multiple| (0.0..=64.0).contains(multiple));
        let multiple = multiple.ok_or_else(|| ffn.error("ffn_mult", "is missing or not a number up to 64"))?;
        // vLLM (`nemotron_nas.py`): two thirds of the multiple, up to the next 256.
        let intermediate_size = ((2.0 * multiple * context.hidden_size as f64 / 3.0) as u64).next_multiple_of(256);
        FeedForward::Dense { intermediate_size, gated: context.family.gated }
    };
    Ok(Layer { attention, feed_forward })
}
