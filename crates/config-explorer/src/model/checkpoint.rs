//! How a checkpoint names and lays out the tensors of an architecture: what a family's `config.json` leaves unsaid.
//!
//! In: `model_type`. Out: a row of [`FAMILIES`]: module names, biases, norms, the layout of experts, and the values of
//! fields that a config may leave out. Names are those of the published checkpoints (their safetensors headers);
//! missing values are those of the Hugging Face `transformers` configuration class of that `model_type`. A family that
//! is not listed is read as Llama's.

mod families;

use families::FAMILIES;

use super::{DType, Quantisation};

/// How a checkpoint holds the weights of an architecture.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Names and layout.
    pub(super) family: &'static Family,
    /// What this model has, of what not every model of the family has.
    pub(super) extras: Extras,
    /// The formats of the weights.
    pub quantisation: Quantisation,
}

impl Default for Checkpoint {
    /// A Llama-like checkpoint, not quantised.
    fn default() -> Self {
        Self { family: Family::fallback(), extras: Extras::default(), quantisation: Quantisation::default() }
    }
}

/// Norms of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum QkNorm {
    /// None with weights.
    #[default]
    None,
    /// One vector as wide as a head, for all heads.
    PerHead,
    /// One vector as wide as all heads.
    AllHeads,
}

/// Gate on the attention's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum OutputGate {
    /// None.
    #[default]
    None,
    /// The query projection is twice as wide (Qwen3-Next).
    InQuery,
    /// `g_proj`, one value a head (Step).
    PerHead,
    /// `g_proj`, one value for every value of the output (Kimi K3).
    PerValue,
}

/// Parameters that depend on the config, not only on the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a parameter that a model has or has not")]
pub(super) struct Extras {
    /// Query, key and value projections have biases.
    pub(super) qkv_bias: bool,
    /// The attention's output projection has a bias.
    pub(super) output_bias: bool,
    /// The feed-forward has biases.
    pub(super) mlp_bias: bool,
    /// Norms of queries and keys.
    pub(super) qk_norm: QkNorm,
    /// Gate on the attention's output.
    pub(super) output_gate: OutputGate,
    /// One learned sink a query head, in full and in sliding-window layers.
    pub(super) sinks: [bool; 2],
    /// Full attention layers use the key as the value and store no `v_proj` (Gemma 4).
    pub(super) key_is_value: bool,
    /// The router has a bias that only selects experts (DeepSeek-V3).
    pub(super) correction_bias: bool,
    /// The convolution of a Mamba mixer has a bias.
    pub(super) conv_bias: bool,
    /// The projections of a Mamba mixer have biases.
    pub(super) mamba_bias: bool,
    /// The gate of a KDA layer is one matrix; else two of low rank (Kimi).
    pub(super) full_rank_gate: bool,
    /// Rows and width per layer of an embedding for each layer (Gemma 3n and 4 E-models).
    pub(super) per_layer_embedding: Option<(u64, u64)>,
    /// Rows of a learned position embedding.
    pub(super) positions: u64,
}

/// Query, key and value projections.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Qkv {
    /// `q_proj`, `k_proj`, `v_proj`.
    Separate,
    /// One matrix of this name.
    Fused(&'static str),
}

/// How the routed experts are laid out; names are below the layer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Experts {
    /// Matrices of each expert under `module.*`: gate, up, down.
    Separate {
        /// The module.
        module: &'static str,
        /// Names of gate, up and down projection.
        names: [&'static str; 3],
    },
    /// One tensor for the gate and up projections of all experts, one for the down projections. Quantised (but for
    /// MXFP4), exporters write matrices of each expert under `module.*`.
    Fused {
        /// The module, for quantised experts.
        module: &'static str,
        /// Gate and up projections.
        gate_up: &'static str,
        /// Down projections.
        down: &'static str,
        /// Inputs stand before outputs.
        inputs_first: bool,
    },
    /// One tensor each for the gate, up and down projections of all experts.
    Stacked {
        /// Names of gate, up and down projection.
        names: [&'static str; 3],
    },
}

/// How linear attention is laid out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LinearLayout {
    /// `in_proj_qkvz` and `in_proj_ba` (Qwen3-Next).
    Fused,
    /// `in_proj_qkv`, `in_proj_z`, `in_proj_a`, `in_proj_b` (Qwen3.5).
    Separate,
    /// Kimi Delta Attention.
    Kda,
}

/// What a draft layer has around the decoder layer, and where the checkpoint stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MtpLayout {
    /// Nowhere: the config declares draft layers that were not published, or there are none.
    Absent,
    /// As layers behind the last, with embedding and head of their own (DeepSeek-V3, GLM).
    NextLayers,
    /// Under `mtp`, with norms and a projection before the first layer (Qwen3-Next, Qwen3.5).
    Qwen,
    /// Under `mtp`, with norms and a projection in the first layer, a norm in the last (Nemotron 3).
    Nemotron,
    /// Layers with norms and a projection (`MiMo`).
    MiMo,
}

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of a family that is or is not so")]
pub(super) struct Family {
    /// Values of `model_type` of the text model.
    pub(super) model_types: &'static [&'static str],
    /// Values of fields that a config may leave out; booleans as 0 and 1.
    pub(super) defaults: &'static [(&'static str, u64)],
    /// The MLPs have gate projections.
    pub(super) gated: bool,
    /// Config fields that say whether QKV, output and MLP projections have biases.
    pub(super) bias_fields: [&'static str; 3],
    /// Norms of queries and keys, unless `use_qk_norm` is false.
    pub(super) qk_norm: QkNorm,
    /// Embedding.
    pub(super) embedding: &'static str,
    /// Learned position embedding, and rows it has beside the positions.
    pub(super) position_embedding: Option<(&'static str, u64)>,
    /// Norm behind the last layer.
    pub(super) final_norm: &'static str,
    /// LM head.
    pub(super) head: &'static str,
    /// The LM head has a bias.
    pub(super) head_bias: bool,
    /// Norms have biases.
    pub(super) norm_bias: bool,
    /// Norms around attention.
    pub(super) attention_norms: &'static [&'static str],
    /// Norms around the feed-forward.
    pub(super) feed_forward_norms: &'static [&'static str],
    /// Further norms of layers with experts.
    pub(super) moe_norms: &'static [&'static str],
    /// One scalar a layer.
    pub(super) layer_scalar: Option<&'static str>,
    /// Attention module.
    pub(super) attention: &'static str,
    /// Query, key and value projections.
    pub(super) qkv: Qkv,
    /// Output projection of attention.
    pub(super) output: &'static str,
    /// Gate and up projection of the MLP in one matrix.
    pub(super) gate_up: Option<&'static str>,
    /// Gate, up and down projection of the MLP, below the layer.
    pub(super) mlp: [&'static str; 3],
    /// Router.
    pub(super) router: &'static str,
    /// Type of the router's weight, where it is not the model's.
    pub(super) router_dtype: Option<DType>,
    /// Router and experts have biases.
    pub(super) moe_bias: bool,
    /// Bias that only selects experts.
    pub(super) correction_bias: &'static str,
    /// Vectors beside the router: as wide as the model, and one value an expert.
    pub(super) router_scales: Option<[&'static str; 2]>,
    /// Routed experts.
    pub(super) experts: Experts,
    /// Module of the experts that see every token.
    pub(super) shared: &'static str,
    /// Gate, up and down projection in it.
    pub(super) shared_names: [&'static str; 3],
    /// Gate of the shared experts, one value a token.
    pub(super) shared_gate: Option<&'static str>,
    /// Projections into the experts' own width and back.
    pub(super) latent: [&'static str; 2],
    /// Linear attention.
    pub(super) linear: LinearLayout,
    /// Draft layers.
    pub(super) mtp: MtpLayout,
    /// Draft layers are sliding-window layers with a dense MLP, whatever the decoder layers are.
    pub(super) light_mtp: bool,
    /// Type of the scales of FP8 blocks.
    pub(super) block_scale_dtype: DType,
}

impl Family {
    /// The family of a `model_type`.
    pub(super) fn of(model_type: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.model_types.contains(&model_type))
    }

    /// Paths below the layer of the up and down projections of a quantised expert.
    pub(super) fn expert_projections(&self) -> [String; 2] {
        match self.experts {
            Experts::Separate { module, names: [_, up, down] } => [up, down].map(|name| format!("{module}.*.{name}")),
            Experts::Fused { module, .. } => ["up_proj", "down_proj"].map(|name| format!("{module}.*.{name}")),
            Experts::Stacked { names: [_, up, down] } => [up, down].map(str::to_owned),
        }
    }

    /// The family that unknown ones are read as.
    pub(super) fn fallback() -> &'static Self {
        &FAMILIES[0]
    }
}

impl Checkpoint {
    /// The norms of queries and keys span all heads, so that tensor-parallel ranks exchange their sums of squares.
    pub fn norm_spans_heads(&self) -> bool {
        self.extras.qk_norm == QkNorm::AllHeads
    }

    /// The attention's output is multiplied by a gate as wide as itself.
    pub fn gated_output(&self) -> bool {
        matches!(self.extras.output_gate, OutputGate::InQuery | OutputGate::PerValue)
    }
}
