//! Multi-token-prediction (draft) layers that a config declares.

use super::{Attention, Context, FeedForward, Layer, MAX_COUNT, attention, blocks, feed_forward};
use crate::Result;

/// Fields that count draft layers, the one that says what the checkpoint holds first.
const COUNTS: [&str; 3] = ["num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules"];

/// The draft layers: built as the last decoder layer that sees everything.
pub(super) fn layers(context: &Context<'_>, layers: &[Layer]) -> Result<Vec<Layer>> {
    let text = &context.text;
    let count = text.size(&COUNTS, MAX_COUNT)?.unwrap_or(0);
    if count == 0 {
        return Ok(Vec::new());
    }
    if let Some(types) = blocks::block_types(text, "mtp_layers_block_type", "mtp_hybrid_override_pattern") {
        // Unknown types were reported for the decoder layers, which have the same.
        return blocks::one_mixer_layers(context, &types[..types.len().min(MAX_COUNT as usize)], &mut Vec::new());
    }
    let sees_all = |layer: &&Layer| {
        !matches!(
            layer.attention,
            Attention::None
                | Attention::Linear(_)
                | Attention::Mamba(_)
                | Attention::SlidingWindow { .. }
                | Attention::Projection
        )
    };
    let Some(mut layer) = layers.iter().rev().find(sees_all).or(layers.last()).copied() else { return Ok(Vec::new()) };
    match &mut layer.attention {
        // A draft layer has an indexer of its own, though decoder layers may share one.
        Attention::MlaSparse { indexer, .. } => *indexer = Some(attention::indexer(text)?),
        Attention::Shared { heads, .. } => layer.attention = Attention::Full(*heads),
        _ => {}
    }
    if let Some(last) = layers.last() {
        layer.feed_forward = last.feed_forward;
    }
    if context.family.light_mtp {
        if let Some(sliding) = layers.iter().find(|layer| matches!(layer.attention, Attention::SlidingWindow { .. })) {
            layer.attention = sliding.attention;
        }
        let intermediate_size = feed_forward::dense_size(context, 0, false)?;
        layer.feed_forward = FeedForward::Dense { intermediate_size, gated: context.family.gated };
    }
    Ok(vec![layer; count as usize])
}
