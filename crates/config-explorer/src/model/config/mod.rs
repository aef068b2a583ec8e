//! `config.json` as data: from the names each family uses to an [`Architecture`].
//!
//! In: the text of `config.json`, and of `hf_quant_config.json` where the repository has one. Out: the layers, one by
//! one, and what surrounds them. Which attention and feed-forward a layer has is decided on fields, in the order in
//! which vLLM's model classes read them (`vllm/config/model.py`, `vllm/model_executor/models/`); what a family leaves
//! out of its config is in the table of `checkpoint`. Nothing is executed.

mod attention;
mod blocks;
mod feed_forward;
mod length;
mod mtp;
mod rotary;
mod vision;

use super::checkpoint::{Extras, Family, OutputGate, QkNorm};
use super::fields::{Fields, MAX_COUNT, MAX_LENGTH, MAX_VOCABULARY, MAX_WIDTH, parse_json};
use super::{Architecture, Attention, Checkpoint, DType, FeedForward, Layer, Quantisation};
use crate::Result;

/// What a repository's configuration files say.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedConfig {
    /// The model.
    pub architecture: Architecture,
    /// Assumptions that were made, for the user.
    pub warnings: Vec<String>,
}

/// What is read from, and known before the layers are.
struct Context<'a> {
    /// The whole file.
    root: Fields<'a>,
    /// The text model's part of it, which is the whole in models without others.
    text: Fields<'a>,
    family: &'static Family,
    hidden_size: u64,
    layers: usize,
    dtype: DType,
}

/// Names of the text model's part in multimodal configs.
const TEXT_CONFIGS: [&str; 5] = ["text_config", "llm_config", "language_config", "language_model", "thinker_config"];

/// Reads `config.json`, and `hf_quant_config.json` where the repository has one. `place` names the file in errors.
///
/// # Errors
/// [`Malformed`](crate::Error::Malformed), naming the field, for text that is not JSON, and for fields that are missing or impossible.
pub fn parse_config(config: &str, hf_quant_config: Option<&str>, place: &str) -> Result<ParsedConfig> {
    let config = parse_json(config, place)?;
    let root = Fields::new(&config, place)?;
    let mut text = root.clone();
    while let Some(nested) = TEXT_CONFIGS.iter().find_map(|name| text.object(name)) {
        text = nested;
    }
    let mut warnings = Vec::new();
    let model_type = text.string("model_type").or_else(|| root.string("model_type")).unwrap_or_default();
    let family = Family::of(model_type).unwrap_or_else(|| {
        warnings.push(format!(
            "`model_type` `{model_type}` is not known: its layers are read from the config's fields as those of a \
             Llama-like model"
        ));
        Family::fallback()
    });
    let text = text.with_defaults(family.defaults);
    let hidden_size = text.required(&["hidden_size", "n_embd", "d_model", "model_dim"], MAX_WIDTH)?;
    let layers = blocks::layer_count(&text)?;
    let context = Context { dtype: dtype(&text, &root), root, text, family, hidden_size, layers };
    context.architecture(model_type, hf_quant_config, warnings)
}

impl Context<'_> {
    fn architecture(
        &self,
        model_type: &str,
        hf_quant_config: Option<&str>,
        mut warnings: Vec<String>,
    ) -> Result<ParsedConfig> {
        let Self { root, text, family, .. } = self;
        let layers = if let Some(layers) = blocks::layers(self, &mut warnings)? {
            layers
        } else {
            let attentions = attention::attentions(self, &mut warnings)?;
            let layers = attentions.into_iter().zip(feed_forward::feed_forwards(self)?);
            layers.map(|(attention, feed_forward)| Layer { attention, feed_forward }).collect()
        };
        let (max_position_embeddings, default_max_model_len) = length::max_model_len(self)?;
        let quantisation = self.quantisation(hf_quant_config, &mut warnings)?;
        let name = root.strings("architectures").next().unwrap_or(model_type);
        if root.has("audio_config") || text.has("audio_config") {
            warnings.push("the audio tower's weights are not counted".to_owned());
        }
        let architecture = Architecture {
            name: name.to_owned(),
            model_type: model_type.to_owned(),
            hidden_size: self.hidden_size,
            vocab_size: match text.size(&["vocab_size", "n_vocab"], MAX_VOCABULARY)? {
                Some(vocab_size) if vocab_size > 0 => vocab_size,
                _ => root.required(&["vocab_size", "padded_vocab_size"], MAX_VOCABULARY)?,
            },
            max_position_embeddings,
            default_max_model_len,
            dtype: self.dtype,
            mtp_layers: mtp::layers(self, &layers)?,
            not_modelled: not_modelled(&layers),
            rotary: rotary::tables(self, &layers, max_position_embeddings)?,
            layers,
            tied_embeddings: self.either_flag("tie_word_embeddings"),
            vision: vision::vision(self, &mut warnings),
            kv_cache_dtype: quantisation.kv_cache_dtype(),
            checkpoint: Checkpoint { family, extras: self.extras()?, quantisation },
        };
        Ok(ParsedConfig { architecture, warnings })
    }

    /// A flag of the whole model: as the outer config says, else the text model's, else the family's.
    fn either_flag(&self, name: &str) -> bool {
        if self.root.has(name) { self.root.flag(name) } else { self.text.flag(name) }
    }

    /// `quantization_config` of the text model or of the whole, else `hf_quant_config.json`.
    fn quantisation(&self, hf_quant_config: Option<&str>, warnings: &mut Vec<String>) -> Result<Quantisation> {
        let block_scale_dtype = self.family.block_scale_dtype;
        let nested = self.text.object("quantization_config").or_else(|| self.text.object("compression_config"));
        let outer = self.root.object("quantization_config").or_else(|| self.root.object("compression_config"));
        let mut quantisation = if let Some(fields) = &outer {
            Quantisation::parse(fields, block_scale_dtype, false, warnings)?
        } else if let Some(fields) = &nested {
            Quantisation::parse(fields, block_scale_dtype, true, warnings)?
        } else if let Some(file) = hf_quant_config {
            let value = parse_json(file, "hf_quant_config.json")?;
            let fields = Fields::new(&value, "hf_quant_config.json")?;
            match fields.object("quantization") {
                Some(fields) => Quantisation::parse(&fields, block_scale_dtype, false, warnings)?,
                None => return Err(fields.error("quantization", "is missing")),
            }
        } else {
            Quantisation::default()
        };
        if self.text.string("expert_dtype") == Some("fp4") {
            quantisation.experts_in_mxfp4();
        }
        Ok(quantisation)
    }

    fn extras(&self) -> Result<Extras> {
        let Self { text, family, .. } = self;
        let [qkv_bias, output_bias, mlp_bias] = family.bias_fields.map(|field| text.flag(field));
        let qk_norm = if text.string("qk_norm_type") == Some("per_head") {
            QkNorm::PerHead
        } else if text.is_off("use_qk_norm") {
            QkNorm::None
        } else {
            family.qk_norm
        };
        let output_gate = if text.flag("attn_output_gate") {
            OutputGate::InQuery
        } else if text.flag("use_head_wise_attn_gate") {
            OutputGate::PerHead
        } else if text.flag("mla_use_output_gate") {
            OutputGate::PerValue
        } else {
            OutputGate::None
        };
        let correction_bias = text.string("topk_method") == Some("noaux_tc")
            || ["use_routing_bias", "use_moe_router_bias", "moe_router_enable_expert_bias"]
                .iter()
                .any(|flag| text.flag(flag));
        let per_layer_width = text.size(&["hidden_size_per_layer_input"], MAX_COUNT)?.filter(|width| *width > 0);
        let per_layer_embedding = match per_layer_width {
            Some(width) => Some((text.required(&["vocab_size_per_layer_input", "vocab_size"], MAX_VOCABULARY)?, width)),
            None => None,
        };
        Ok(Extras {
            qkv_bias,
            output_bias,
            mlp_bias,
            qk_norm,
            output_gate,
            sinks: [text.flag("add_full_attention_sink_bias"), text.flag("add_swa_attention_sink_bias")],
            key_is_value: text.flag("attention_k_eq_v"),
            correction_bias,
            conv_bias: text.flag("use_conv_bias") || text.flag("mamba_conv_bias"),
            mamba_bias: text.flag("mamba_proj_bias") || text.flag("use_bias"),
            full_rank_gate: text.object("linear_attn_config").is_some_and(|linear| linear.flag("use_full_rank_gate")),
            per_layer_embedding,
            positions: match family.position_embedding {
                Some(_) => text.required(&length::LENGTH_FIELDS, MAX_LENGTH)?,
                None => 0,
            },
        })
    }
}

/// `torch_dtype` or `dtype` of the text model or of the whole. Weights of a config that names none are 16-bit ones in
/// every checkpoint that was published so.
fn dtype(text: &Fields<'_>, root: &Fields<'_>) -> DType {
    let named =
        [text, root].into_iter().find_map(|fields| fields.string("torch_dtype").or_else(|| fields.string("dtype")));
    match named.and_then(DType::from_torch) {
        Some(dtype @ (DType::F16 | DType::F32 | DType::F64)) => dtype,
        _ => DType::BF16,
    }
}

/// Why the KV cache of these layers is not modelled.
fn not_modelled(layers: &[Layer]) -> Option<String> {
    layers.iter().any(|layer| matches!(layer.attention, Attention::CompressedSparse(_))).then(|| {
        "compressed sparse attention (DeepSeek-V4): its cache is kept in several groups of different compression, whose \
         size depends on the sequence length in a way that is not modelled"
            .to_owned()
    })
}

#[cfg(test)]
mod tests;
