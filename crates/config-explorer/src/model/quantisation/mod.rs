//! How the weights are quantised.
//!
//! In: `quantization_config` of `config.json` (in whichever part it stands), or `hf_quant_config.json`, or the method of
//! `vllm serve --quantization`. Out: a [`Quantisation`], which answers one question: in which [`WeightFormat`] is the
//! weight of this module stored? Follows the exporters' own formats: DeepSeek (FP8 blocks), `AutoAWQ`, `AutoGPTQ`,
//! compressed-tensors, NVIDIA Model Optimizer, bitsandbytes, and `OpenAI`'s MXFP4.

mod format;
mod parse;
mod pattern;

use std::collections::BTreeMap;

pub use format::{Nvfp4Layout, Scaling, WeightFormat};
use pattern::Scoped;

use super::DType;
use crate::{Error, Result};

/// Where a checkpoint with an 8-bit KV cache stores the cache's scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum KvScales {
    /// It does not.
    #[default]
    None,
    /// `k_proj.k_scale` and `v_proj.v_scale` (Model Optimizer).
    OnProjections,
    /// `k_scale` and `v_scale` of the attention (compressed-tensors).
    OnAttention,
}

/// The quantisation of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantisation {
    method: Option<String>,
    /// Format of the linear layers that no rule names.
    default: WeightFormat,
    /// What is said about modules of one decoder layer; the first that matches applies.
    layer_rules: BTreeMap<u32, Vec<(Scoped, WeightFormat)>>,
    /// What is said about modules of any layer, or of none.
    general_rules: Vec<(Scoped, WeightFormat)>,
    /// Leaves vision and audio towers alone.
    text_only: bool,
    kv_scales: KvScales,
    kv_cache_dtype: Option<DType>,
}

/// Linear layers that exporters leave in 16 bits without listing them: the head, routers and gates, the projection
/// in front of a draft layer, and the weights of a sparse indexer.
const UNQUANTISED: [&str; 9] = [
    "lm_head",
    "head",
    "gate",
    "router",
    "shared_expert_gate",
    "weights_proj",
    "eh_proj",
    "embed_tokens",
    "embedding_projection",
];

/// Different entries that are looked at, of one layer and of none; published lists have some ten.
const MAX_RULES: usize = 1 << 10;

/// Modules whose path begins so belong to a vision or audio tower.
const ENCODERS: [&str; 8] = [
    "visual",
    "vision",
    "multi_modal_projector",
    "mm_projector",
    "embed_vision",
    "audio",
    "embed_audio",
    "patch_merge_mlp",
];

impl Default for Quantisation {
    /// No quantisation.
    fn default() -> Self {
        Self {
            method: None,
            default: WeightFormat::Plain,
            layer_rules: BTreeMap::new(),
            general_rules: Vec::new(),
            text_only: false,
            kv_scales: KvScales::None,
            kv_cache_dtype: None,
        }
    }
}

impl Quantisation {
    /// Quantisation of a 16-bit checkpoint while it is loaded (`--quantization fp8` or `bitsandbytes`).
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for a method that does not quantise while loading.
    pub fn while_loading(method: &str) -> Result<Self> {
        let default = match method {
            "fp8" => WeightFormat::ONLINE_FP8,
            "bitsandbytes" => WeightFormat::BitsAndBytes4 { double: false },
            _ => {
                return Err(Error::InvalidSetting {
                    setting: "--quantization".to_owned(),
                    reason: format!(
                        "`{method}` needs a checkpoint in that format; `fp8` and `bitsandbytes` quantise a 16-bit one"
                    ),
                });
            }
        };
        Ok(Self { method: Some(method.to_owned()), default, ..Self::default() })
    }

    /// Adds that the routed experts are stored in MXFP4, where nothing else was said of them (`expert_dtype`).
    pub(super) fn experts_in_mxfp4(&mut self) {
        self.add_rule("experts", WeightFormat::Mxfp4, &mut Vec::new());
    }

    /// The method, as the configuration names it; `None` for a checkpoint that is not quantised.
    pub fn method(&self) -> Option<&str> {
        self.method.as_deref()
    }

    /// Type of the KV cache that the checkpoint asks for.
    pub fn kv_cache_dtype(&self) -> Option<DType> {
        self.kv_cache_dtype
    }

    /// Linear layers quantise their inputs to 8-bit integers (W8A8).
    pub fn int8_activations(&self) -> bool {
        matches!(self.default, WeightFormat::Scaled { element: DType::I8, .. })
    }

    /// Where the scales of the KV cache are stored.
    pub(super) fn kv_scales(&self) -> KvScales {
        self.kv_scales
    }

    /// Format of the weight of a linear layer, by its path in the checkpoint without `.weight`:
    /// `model.layers.3.self_attn.q_proj`, `layers.3.mlp.experts.*.up_proj` (any expert), `lm_head`. What stands before
    /// `layers` does not matter.
    pub fn format_of(&self, path: &str) -> WeightFormat {
        if self.method.is_none() || (self.text_only && ENCODERS.iter().any(|prefix| path.starts_with(prefix))) {
            return WeightFormat::Plain;
        }
        let path = pattern::below_prefixes(path, ".");
        let in_layer = path.strip_prefix("layers.").and_then(|rest| {
            let (layer, module) = rest.split_once('.')?;
            Some((layer.parse().ok()?, module))
        });
        let (layer, module) = in_layer.map_or((None, path), |(layer, module)| (Some(layer), module));
        let rules = layer.and_then(|layer| self.layer_rules.get(&layer)).into_iter().flatten();
        let named = rules.chain(&self.general_rules).find(|(rule, _)| rule.matches(layer, module, path));
        match named {
            Some((_, format)) => *format,
            None if module.split('.').any(|component| UNQUANTISED.contains(&component)) => WeightFormat::Plain,
            None => self.default,
        }
    }

    /// Adds a rule behind those already there. An entry that cannot be understood is reported.
    fn add_rule(&mut self, entry: &str, format: WeightFormat, warnings: &mut Vec<String>) {
        let Some(rule) = Scoped::parse(entry) else {
            warnings.push(format!(
                "the quantisation names modules by `{entry}`, which is not understood; they are taken as the rest"
            ));
            return;
        };
        let rules = match rule.layer {
            Some(layer) => self.layer_rules.entry(layer).or_default(),
            None => &mut self.general_rules,
        };
        if rules.len() < MAX_RULES && rules.iter().all(|(known, _)| *known != rule) {
            rules.push((rule, format));
        }
    }
}

#[cfg(test)]
mod tests;
