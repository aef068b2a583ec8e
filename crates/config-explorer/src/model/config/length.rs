//! How long a sequence may be: vLLM's `_get_and_verify_max_len` (`vllm/config/model.py`).

use super::{Context, MAX_LENGTH};
use crate::Result;
use crate::model::fields::Fields;

/// Fields that hold a length; the smallest applies.
pub(super) const LENGTH_FIELDS: [&str; 9] = [
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
];

/// The longest sequence, and the one served where none is asked for.
pub(super) fn max_model_len(context: &Context<'_>) -> Result<(Option<u64>, Option<u64>)> {
    let text = &context.text;
    let mut length: Option<u64> = None;
    for field in LENGTH_FIELDS {
        length = [length, text.size(&[field], MAX_LENGTH)?].into_iter().flatten().min();
    }
    if let Some(model_max_length) = text.size(&["model_max_length"], MAX_LENGTH)?.filter(|length| *length > 0) {
        length = Some(model_max_length);
    }
    let ropes = rope_parameters(text);
    let mut factor = 1.0;
    for rope in &ropes {
        let kind = rope_type(rope);
        // Gemma 3's length is already scaled.
        if matches!(kind, "su" | "longrope" | "llama3")
            || text.string("model_type").unwrap_or_default().contains("gemma3")
        {
            continue;
        }
        factor = rope.float("factor").unwrap_or(factor);
        if kind == "yarn" {
            length = rope.size(&["original_max_position_embeddings"], MAX_LENGTH)?.or(length);
        }
    }
    let length = length.map(|length| (length as f64 * factor).clamp(0.0, MAX_LENGTH as f64) as u64);
    let default = if ropes.iter().any(|rope| rope_type(rope) == "longrope") {
        text.size(&["original_max_position_embeddings"], MAX_LENGTH)?.or(length)
    } else {
        length
    };
    Ok((length, default))
}

/// `rope_scaling` or `rope_parameters`, one for the model or one for each type of layer.
pub(super) fn rope_parameters<'a>(text: &Fields<'a>) -> Vec<Fields<'a>> {
    let Some(rope) = text.object("rope_parameters").or_else(|| text.object("rope_scaling")) else {
        return Vec::new();
    };
    let by_layer_type: Vec<_> = rope.names().filter_map(|name| rope.object(name)).collect();
    if by_layer_type.is_empty() { vec![rope] } else { by_layer_type }
}

fn rope_type<'a>(rope: &Fields<'a>) -> &'a str {
    rope.string("rope_type").or_else(|| rope.string("type")).unwrap_or("default")
}
