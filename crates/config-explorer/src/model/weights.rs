//! The tensors of a checkpoint, grouped so that a 92,000-tensor model is a few thousand rows.

use std::collections::BTreeMap;

use super::DType;

/// Where the tensor list came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WeightsSource {
    /// Safetensors headers: bytes are exact.
    Safetensors,
    /// A GGUF header: bytes are exact.
    Gguf,
    /// Computed from the architecture.
    Architecture,
}

/// The part of the model that a tensor belongs to; it decides the pipeline stage that loads it, and whether it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Token (and position) embedding: first stage, and the last one too where the head is tied to it.
    Embedding,
    /// A decoder layer.
    Layer(u32),
    /// What follows the last layer: final norm.
    FinalNorm,
    /// The LM head.
    Head,
    /// A multi-token-prediction (draft) layer; loaded only with speculative decoding.
    Mtp(u32),
    /// Vision or audio tower and projector.
    Encoder,
}

/// Tensors of one part that are alike: same module, shape and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorGroup {
    /// Part of the model.
    pub part: Part,
    /// Module path below the part, expert indices replaced by `*`: `self_attn.q_proj.weight`,
    /// `mlp.experts.*.down_proj.weight`.
    pub module: String,
    /// Shape of one tensor, as stored (packed containers stay packed).
    pub shape: Vec<u64>,
    /// Stored element type.
    pub dtype: DType,
    /// Number of such tensors (the experts, for per-expert tensors; else 1).
    pub count: u64,
    /// Stored bytes of one tensor.
    pub bytes: u64,
}

impl TensorGroup {
    /// Elements of all tensors of the group, as stored.
    pub fn elements(&self) -> u64 {
        self.count * self.shape.iter().product::<u64>()
    }
}

/// All tensors of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    /// Where the list came from.
    pub source: WeightsSource,
    /// The tensors.
    pub groups: Vec<TensorGroup>,
}

impl Weights {
    /// Stored bytes of the checkpoint.
    pub fn bytes(&self) -> u64 {
        self.groups.iter().map(|group| group.count * group.bytes).sum()
    }

    /// Elements as stored, by element type.
    pub fn elements_by_dtype(&self) -> BTreeMap<DType, u64> {
        let mut elements = BTreeMap::new();
        for group in &self.groups {
            *elements.entry(group.dtype).or_insert(0) += group.elements();
        }
        elements
    }
}
