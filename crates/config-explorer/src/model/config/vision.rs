//! The vision tower of a multimodal model.

use super::{Context, MAX_COUNT, MAX_WIDTH};
use crate::Result;
use crate::model::fields::{Fields, MAX_VOCABULARY};
use crate::model::{Vision, VisionKind};

/// Largest width of a tower.
const MAX_TOWER_WIDTH: u64 = 1 << 16;
/// Largest number of patches merged into one token, per side, and of inner layers with a merger of their own.
const MAX_MERGED: u64 = 32;

/// Values that Qwen's vision configs may leave out (`Qwen3VLVisionConfig`).
const QWEN_DEFAULTS: &[(&str, u64)] = &[
    ("intermediate_size", 4304),
    ("num_heads", 16),
    ("patch_size", 16),
    ("spatial_merge_size", 2),
    ("temporal_patch_size", 2),
    ("num_position_embeddings", 2304),
];
/// Values that Pixtral's configs may leave out (`PixtralVisionConfig`).
const PIXTRAL_DEFAULTS: &[(&str, u64)] = &[
    ("hidden_size", 1024),
    ("intermediate_size", 4096),
    ("num_hidden_layers", 24),
    ("num_attention_heads", 16),
    ("patch_size", 16),
];
/// `MoonViT` has biases unless it says otherwise.
const MOONVIT_DEFAULTS: &[(&str, u64)] = &[("attn_bias", 1)];

/// The vision tower, where the config describes one.
pub(super) fn vision(context: &Context<'_>, warnings: &mut Vec<String>) -> Option<Vision> {
    let root = &context.root;
    let thinker = root.object("thinker_config");
    let Some(fields) = root.object("vision_config").or_else(|| thinker.as_ref()?.object("vision_config")) else {
        if ["image_token_index", "image_token_id"].iter().any(|name| root.has(name))
            || root.strings("architectures").any(|name| name.starts_with("Llama4ForConditional"))
        {
            warnings.push("the config does not describe the vision tower; its weights are not counted".to_owned());
        }
        return None;
    };
    let model_type = fields.string("model_type").filter(|name| !name.is_empty()).or_else(|| root.string("model_type"));
    let (kind, defaults) = match model_type.unwrap_or_default() {
        "pixtral" => (VisionKind::Pixtral, PIXTRAL_DEFAULTS),
        "siglip_vision_model" | "clip_vision_model" => (VisionKind::Siglip, &[][..]),
        "qwen2_vl" => (VisionKind::QwenVl, &[][..]),
        "qwen2_5_vl" => (VisionKind::Qwen25Vl, &[][..]),
        name if name.starts_with("qwen3") => (VisionKind::QwenVl, QWEN_DEFAULTS),
        "llama4_vision_model" => (VisionKind::Llama4, &[][..]),
        "gemma4_vision" => (VisionKind::Gemma4, &[][..]),
        name if name == "moonvit" || fields.has("vt_hidden_size") => (VisionKind::MoonVit, MOONVIT_DEFAULTS),
        name => {
            warnings.push(format!("vision tower `{name}` is not known; its weights are counted as SigLIP's"));
            (VisionKind::Siglip, &[][..])
        }
    };
    let fields = fields.with_defaults(defaults);
    // What is wrong with a tower does not keep the text model from being sized.
    let vision = tower(context, &fields, kind).ok().flatten();
    if vision.is_none() {
        warnings.push("the config does not give the vision tower's sizes; its weights are not counted".to_owned());
    }
    vision
}

/// The sizes of the tower; `None` if they are not all there.
fn tower(context: &Context<'_>, fields: &Fields<'_>, kind: VisionKind) -> Result<Option<Vision>> {
    let size = |names: &[&str], max| -> Result<Option<u64>> { Ok(fields.size(names, max)?.filter(|size| *size > 0)) };
    // Qwen2-VL calls its width `embed_dim`, and its output's `hidden_size`.
    let Some(hidden_size) = size(&["embed_dim", "hidden_size", "vt_hidden_size", "width"], MAX_TOWER_WIDTH)? else {
        return Ok(None);
    };
    let Some(layers) = size(&["num_hidden_layers", "depth", "vt_num_hidden_layers", "layers"], MAX_COUNT)? else {
        return Ok(None);
    };
    let heads = size(&["num_attention_heads", "num_heads", "vt_num_attention_heads"], MAX_COUNT)?.unwrap_or(1);
    let intermediate_size = match size(&["intermediate_size", "vt_intermediate_size"], MAX_WIDTH)? {
        Some(size) => size,
        None => (hidden_size * size(&["mlp_ratio"], MAX_COUNT)?.unwrap_or(4)).min(MAX_WIDTH),
    };
    let patch_size = size(&["patch_size"], MAX_COUNT)?.unwrap_or(14);
    let image_side = size(&["image_size"], MAX_COUNT)?.unwrap_or(0) / patch_size;
    let positions = match kind {
        VisionKind::Siglip => image_side * image_side,
        VisionKind::Llama4 => image_side * image_side + 1,
        VisionKind::QwenVl => size(&["num_position_embeddings"], MAX_VOCABULARY)?.unwrap_or(0),
        VisionKind::Gemma4 => 2 * size(&["position_embedding_size"], MAX_VOCABULARY)?.unwrap_or(0),
        VisionKind::MoonVit => {
            size(&["init_pos_emb_height"], MAX_COUNT)?.unwrap_or(64)
                * size(&["init_pos_emb_width"], MAX_COUNT)?.unwrap_or(64)
        }
        VisionKind::Pixtral | VisionKind::Qwen25Vl => 0,
    };
    let head_dim = match size(&["qkv_hidden_size"], MAX_WIDTH)? {
        Some(width) => (width / heads).max(1),
        None => size(&["head_dim"], MAX_COUNT)?.unwrap_or(hidden_size / heads),
    };
    Ok(Some(Vision {
        kind,
        layers,
        hidden_size,
        intermediate_size,
        heads,
        head_dim,
        output_size: size(&["out_hidden_size", "text_hidden_size"], MAX_WIDTH)?.unwrap_or(context.hidden_size),
        projector_size: size(&["projector_output_dim", "vision_output_dim"], MAX_WIDTH)?.unwrap_or(hidden_size),
        patch_size,
        temporal_patch_size: size(&["temporal_patch_size"], MAX_COUNT)?.unwrap_or(1),
        merge_size: merge_size(context, fields, image_side)?,
        positions,
        deepstack_layers: fields
            .list("deepstack_visual_indexes")
            .map_or(0, |layers| layers.len() as u64)
            .min(MAX_MERGED),
        biases: fields.flag("attn_bias"),
    }))
}

/// Patches merged into one token, per side.
fn merge_size(context: &Context<'_>, fields: &Fields<'_>, image_side: u64) -> Result<u64> {
    let root = &context.root;
    for fields in [fields, root] {
        if let Some(size) =
            fields.size(&["spatial_merge_size", "pooling_kernel_size"], MAX_MERGED)?.filter(|size| *size > 0)
        {
            return Ok(size);
        }
    }
    let compression = fields.object("img_token_compression_config");
    if let Some(size) =
        compression.map(|fields| fields.size(&["spatial_merge_size"], MAX_MERGED)).transpose()?.flatten()
    {
        return Ok(size.max(1));
    }
    if let Some(sides) = fields.sizes("merge_kernel_size", 1, MAX_MERGED)? {
        return Ok(sides[0].max(1));
    }
    // Llama 4 shuffles pixels by a ratio; Gemma 3 pools to a number of tokens.
    if let Some(ratio) = fields.float("pixel_shuffle_ratio").filter(|ratio| (0.05..=1.0).contains(ratio)) {
        return Ok((1.0 / ratio).round() as u64);
    }
    let side = root.size(&["mm_tokens_per_image"], MAX_WIDTH)?.unwrap_or(0).isqrt();
    Ok(image_side.checked_div(side).unwrap_or(1).clamp(1, MAX_MERGED))
}
