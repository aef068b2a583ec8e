//! Where a tensor belongs, from its name in a checkpoint.
//!
//! The names are those of the model classes of transformers and of the checkpoints published for vLLM. A name that
//! none of them explains is part of the encoder: towers and projectors are what models name as they like.

use super::Part;

/// Modules that only wrap the decoder.
const WRAPPERS: &[&str] =
    &["model", "language_model", "text_model", "backbone", "transformer", "decoder", "gpt_neox", "llm", "thinker"];

/// The list of decoder layers.
const LAYERS: &[&str] = &["layers", "h", "blocks"];

/// Multi-token-prediction modules that stand beside the decoder layers.
const MTP: &[&str] = &["mtp", "mtp_layers"];

/// What the first stage holds: token and position embeddings, and the per-layer embeddings of Gemma's E-models.
const EMBEDDINGS: &[&str] = &[
    "embed_tokens",
    "embed_tokens_per_layer",
    "per_layer_model_projection",
    "per_layer_projection_norm",
    "embeddings",
    "embedding",
    "embed",
    "embed_in",
    "embed_positions",
    "tok_embeddings",
    "word_embeddings",
    "word_embeddings_layernorm",
    "project_in",
    "wte",
    "wpe",
];

const FINAL_NORMS: &[&str] =
    &["norm", "norm_f", "ln_f", "final_layernorm", "final_layer_norm", "final_norm", "project_out"];

const HEADS: &[&str] = &["lm_head", "head", "output", "output_layer", "embed_out"];

/// The part of a model with `decoder_layers` layers that the tensor belongs to, and its path below that part.
///
/// A layer index past the decoder is a multi-token-prediction layer, as DeepSeek-V3 and GLM store them.
pub(super) fn locate(name: &str, decoder_layers: u32) -> (Part, &str) {
    let path = decoder_path(name);
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    if LAYERS.contains(&first)
        && let Some((layer, module)) = numbered(rest)
    {
        return match layer.checked_sub(decoder_layers) {
            None => (Part::Layer(layer), module),
            Some(mtp_layer) => (Part::Mtp(mtp_layer), module),
        };
    }
    if MTP.contains(&first) {
        let inner = LAYERS.iter().find_map(|list| rest.strip_prefix(list)?.strip_prefix('.')).unwrap_or(rest);
        // What stands beside the layers (`mtp.fc`, `mtp.norm`) is loaded with the first of them.
        return numbered(inner).map_or((Part::Mtp(0), rest), |(layer, module)| (Part::Mtp(layer), module));
    }
    let part = if EMBEDDINGS.contains(&first) {
        Part::Embedding
    } else if FINAL_NORMS.contains(&first) {
        Part::FinalNorm
    } else if HEADS.contains(&first) {
        Part::Head
    } else {
        Part::Encoder
    };
    (part, path)
}

/// The name without the modules that wrap the decoder.
fn decoder_path(name: &str) -> &str {
    // ChatGLM calls its decoder an encoder; elsewhere an encoder is the audio or vision tower.
    let mut path = name.strip_prefix("transformer.encoder.").unwrap_or(name);
    while let Some((first, rest)) = path.split_once('.')
        && WRAPPERS.contains(&first)
    {
        path = rest;
    }
    path
}

/// `17.mlp.gate` as 17 and `mlp.gate`.
fn numbered(path: &str) -> Option<(u32, &str)> {
    let (index, module) = path.split_once('.')?;
    Some((index.parse().ok()?, module))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_family_are_located() {
        for (name, part, module) in [
            ("model.layers.3.self_attn.q_proj.weight", Part::Layer(3), "self_attn.q_proj.weight"),
            ("model.language_model.layers.0.mlp.gate.weight", Part::Layer(0), "mlp.gate.weight"),
            ("language_model.model.layers.1.feed_forward.router.weight", Part::Layer(1), "feed_forward.router.weight"),
            ("backbone.layers.2.mixer.A_log", Part::Layer(2), "mixer.A_log"),
            ("transformer.h.3.attn.c_attn.bias", Part::Layer(3), "attn.c_attn.bias"),
            ("transformer.encoder.layers.3.mlp.dense.weight", Part::Layer(3), "mlp.dense.weight"),
            ("model.decoder.layers.0.fc1.weight", Part::Layer(0), "fc1.weight"),
            ("layers.2.attention.wq.weight", Part::Layer(2), "attention.wq.weight"),
            ("model.layers.4.eh_proj.weight", Part::Mtp(0), "eh_proj.weight"),
            ("model.layers.5.mlp.experts.*.up_proj.weight", Part::Mtp(1), "mlp.experts.*.up_proj.weight"),
            ("mtp.layers.1.mlp.gate.weight", Part::Mtp(1), "mlp.gate.weight"),
            ("mtp.0.ffn.gate.weight", Part::Mtp(0), "ffn.gate.weight"),
            ("model.mtp_layers.0.token_layernorm.weight", Part::Mtp(0), "token_layernorm.weight"),
            ("mtp.fc.weight", Part::Mtp(0), "fc.weight"),
            ("model.embed_tokens.weight", Part::Embedding, "embed_tokens.weight"),
            ("model.language_model.embed_tokens.weight", Part::Embedding, "embed_tokens.weight"),
            ("backbone.embeddings.weight", Part::Embedding, "embeddings.weight"),
            ("transformer.wpe.weight", Part::Embedding, "wpe.weight"),
            ("transformer.word_embeddings.weight", Part::Embedding, "word_embeddings.weight"),
            ("lm_head.weight", Part::Head, "lm_head.weight"),
            ("language_model.lm_head.weight", Part::Head, "lm_head.weight"),
            ("output.weight", Part::Head, "output.weight"),
            ("model.norm.weight", Part::FinalNorm, "norm.weight"),
            ("transformer.ln_f.bias", Part::FinalNorm, "ln_f.bias"),
            ("backbone.norm_f.weight", Part::FinalNorm, "norm_f.weight"),
            ("model.visual.blocks.0.attn.qkv.weight", Part::Encoder, "visual.blocks.0.attn.qkv.weight"),
            (
                "vision_tower.transformer.layers.0.attention.q_proj.weight",
                Part::Encoder,
                "vision_tower.transformer.layers.0.attention.q_proj.weight",
            ),
            ("vision_model.model.layers.0.mlp.fc1.weight", Part::Encoder, "vision_model.model.layers.0.mlp.fc1.weight"),
            ("multi_modal_projector.linear_1.weight", Part::Encoder, "multi_modal_projector.linear_1.weight"),
            (
                "model.embed_vision.embedding_projection.weight",
                Part::Encoder,
                "embed_vision.embedding_projection.weight",
            ),
            ("model.encoder.layers.0.fc1.weight", Part::Encoder, "encoder.layers.0.fc1.weight"),
        ] {
            assert_eq!(locate(name, 4), (part, module), "{name}");
        }
    }

    #[test]
    fn odd_names_do_not_panic() {
        for name in ["", ".", "model", "model.", "layers.", "layers.x.y", "layers.99999999999.y", "mtp", "mtp.layers."]
        {
            locate(name, 4);
        }
    }
}
