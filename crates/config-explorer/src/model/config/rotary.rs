//! Tables of the rotary embedding: vLLM's `get_rope` (`vllm/model_executor/layers/rotary_embedding/`).

use super::Context;
use super::length::rope_parameters;
use crate::Result;
use crate::model::fields::{MAX_LENGTH, MAX_WIDTH};
use crate::model::{Attention, Layer, RotaryTable};

/// Positions of interleaved multimodal embeddings beyond the text's: video frames (`MRotaryEmbedding`).
const MULTIMODAL_POSITIONS: u64 = 4;

/// The tables that a model keeps: one for each kind of rotary embedding among its layers.
///
/// `length` is the longest sequence, scaling included.
pub(super) fn tables(context: &Context<'_>, layers: &[Layer], length: Option<u64>) -> Result<Vec<RotaryTable>> {
    let text = &context.text;
    let ropes = rope_parameters(text);
    let learned_positions = context.family.position_embedding.is_some() || text.flag("alibi");
    let Some(length) = length.filter(|_| !learned_positions) else {
        return Ok(Vec::new());
    };
    let head_dim = layers.iter().find_map(|layer| match layer.attention {
        Attention::Mla(mla) | Attention::MlaSparse { mla, .. } => Some(mla.qk_rope_head_dim),
        attention => attention.heads().map(|heads| heads.head_dim),
    });
    let Some(head_dim) = head_dim else {
        return Ok(Vec::new());
    };
    let share = |name| ropes.iter().find_map(|rope| rope.float(name)).or_else(|| text.float(name));
    let width = match (text.size(&["rotary_dim"], MAX_WIDTH)?, share("partial_rotary_factor")) {
        (Some(width), _) => width,
        (None, Some(share)) => (head_dim as f64 * share.clamp(0.0, 1.0)) as u64,
        (None, None) => head_dim,
    };
    let multimodal = ropes.iter().any(|rope| rope.has("mrope_section"));
    let positions = (length * if multimodal { MULTIMODAL_POSITIONS } else { 1 }).min(MAX_LENGTH);
    // Gemma 3: sliding-window layers rotate at a frequency of their own, unscaled.
    let local = text.has("rope_local_base_freq") || ropes.len() > 1;
    Ok(vec![RotaryTable { positions, width }; 1 + usize::from(local)])
}
