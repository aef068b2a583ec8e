//! The layers of a model, grouped by what they cost, so that a configuration compiles in microseconds.

use super::Format;
use crate::model::{Architecture, Attention, FeedForward, Layer, Quantisation};
use crate::{Error, Result};

/// Number formats of the linear layers of a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerFormats {
    /// Projections around the attention.
    pub attention: Format,
    /// A dense feed-forward, and the experts that see every token.
    pub dense: Format,
    /// Routed experts.
    pub experts: Format,
}

impl LayerFormats {
    /// The same everywhere.
    pub const fn uniform(format: Format) -> Self {
        Self { attention: format, dense: format, experts: format }
    }
}

/// The layers of a model, grouped by what they cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoder {
    pub(super) hidden_size: f64,
    pub(super) vocab_size: f64,
    /// Distinct layers, with how many of each there are.
    pub(super) classes: Vec<(Layer, LayerFormats, f64)>,
    pub(super) layers: usize,
    /// The norms of queries and keys span all heads, so that ranks exchange their sums of squares.
    pub(super) norm_spans_heads: bool,
    /// The attention's output is gated by a second query projection.
    pub(super) gated_output: bool,
}

impl Decoder {
    /// The layers in the formats of their checkpoint.
    ///
    /// # Errors
    /// As [`Decoder::with_formats`].
    pub fn new(architecture: &Architecture) -> Result<Self> {
        Self::build(architecture, |layer, index| formats_of(&architecture.checkpoint.quantisation, layer, index))
    }

    /// The layers of a 16-bit checkpoint that is quantised while it is loaded.
    ///
    /// # Errors
    /// As [`Decoder::with_formats`].
    pub fn quantised(architecture: &Architecture, quantisation: &Quantisation) -> Result<Self> {
        Self::build(architecture, |layer, index| formats_of(quantisation, layer, index))
    }

    /// The layers in other formats than those of their checkpoint.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for an attention whose time is not modelled.
    pub fn with_formats(architecture: &Architecture, formats: LayerFormats) -> Result<Self> {
        Self::build(architecture, |_, _| formats)
    }

    fn build(architecture: &Architecture, formats: impl Fn(&Layer, usize) -> LayerFormats) -> Result<Self> {
        if let Some(reason) = &architecture.not_modelled {
            return Err(Error::InvalidSetting { setting: "MODEL".to_owned(), reason: reason.clone() });
        }
        let mut classes: Vec<(Layer, LayerFormats, f64)> = Vec::new();
        for (index, layer) in architecture.layers.iter().enumerate() {
            if matches!(layer.attention, Attention::CompressedSparse(_)) {
                return Err(Error::InvalidSetting {
                    setting: "MODEL".to_owned(),
                    reason: "the time of compressed sparse attention (DeepSeek-V4) is not modelled".to_owned(),
                });
            }
            let formats = formats(layer, index);
            match classes.iter_mut().find(|(known, of_known, _)| known == layer && *of_known == formats) {
                Some((.., count)) => *count += 1.0,
                None => classes.push((*layer, formats, 1.0)),
            }
        }
        Ok(Self {
            hidden_size: architecture.hidden_size as f64,
            vocab_size: architecture.vocab_size as f64,
            classes,
            layers: architecture.layers.len(),
            norm_spans_heads: architecture.checkpoint.norm_spans_heads(),
            gated_output: architecture.checkpoint.gated_output(),
        })
    }

    /// What of it rests on no end-to-end measurement, for the user.
    pub fn not_validated(&self) -> Vec<String> {
        let any = |test: fn(&Attention) -> bool| self.classes.iter().any(|(layer, ..)| test(&layer.attention));
        let mut parts = Vec::new();
        if any(|attention| matches!(attention, Attention::Linear(_) | Attention::Mamba(_))) {
            parts.push("linear attention");
        }
        if any(|attention| matches!(attention, Attention::MlaSparse { .. })) {
            parts.push("sparse attention");
        }
        if any(|attention| matches!(attention, Attention::ChunkedLocal { .. })) {
            parts.push("chunked attention");
        }
        if self
            .classes
            .iter()
            .any(|(_, formats, _)| [formats.attention, formats.dense, formats.experts].contains(&Format::Int4))
        {
            parts.push("4-bit integer weights");
        }
        parts.into_iter().map(|part| format!("the time of {part} was not validated end to end")).collect()
    }

    /// Decoder layers.
    pub fn layers(&self) -> usize {
        self.layers
    }
}

/// Formats of one layer in its checkpoint. A family that names its modules differently is covered by the rule for all
/// modules, which exporters write for everything but attention, routers and heads.
fn formats_of(quantisation: &Quantisation, layer: &Layer, index: usize) -> LayerFormats {
    let format = |module: &str| Format::of_weight(quantisation.format_of(&format!("layers.{index}.{module}")));
    let attention = match layer.attention {
        Attention::Linear(_) => "linear_attn.out_proj",
        Attention::Mamba(_) => "mixer.in_proj",
        _ => "self_attn.o_proj",
    };
    let dense = match layer.feed_forward {
        FeedForward::Moe(_) => "mlp.shared_experts.down_proj",
        _ => "mlp.down_proj",
    };
    LayerFormats { attention: format(attention), dense: format(dense), experts: format("mlp.experts.0.down_proj") }
}
