//! What a model computes: a list of layers, each with its attention and its feed-forward.

use super::{Checkpoint, DType};

/// A decoder, layer by layer, with whatever stands around it.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// Class name (`architectures[0]`), e.g. `Qwen3ForCausalLM`.
    pub name: String,
    /// `model_type` of the text model.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden_size: u64,
    /// Rows of the embedding.
    pub vocab_size: u64,
    /// Longest sequence the config allows, in tokens, scaled rotary embeddings included (vLLM's derived
    /// `max_model_len`); `None` where the config names no length.
    pub max_position_embeddings: Option<u64>,
    /// Sequence length vLLM takes where `--max-model-len` is not given: the above, or for `LongRoPE` models the length
    /// they were first trained on (vLLM pull request 27431, 0.11.1 and later).
    pub default_max_model_len: Option<u64>,
    /// Compute type the config declares; `F32` checkpoints are run in 16 bits by default, which `engine` decides.
    pub dtype: DType,
    /// The decoder layers.
    pub layers: Vec<Layer>,
    /// Multi-token-prediction layers that the config declares (loaded with speculative decoding only).
    pub mtp_layers: Vec<Layer>,
    /// Tables of the rotary embedding, which every rank keeps whole.
    pub rotary: Vec<RotaryTable>,
    /// The LM head is the embedding.
    pub tied_embeddings: bool,
    /// Vision tower of a multimodal model.
    pub vision: Option<Vision>,
    /// KV cache type that the checkpoint asks for (`kv_cache_scheme`, `kv_cache_quant_algo`), which vLLM follows when
    /// `--kv-cache-dtype auto`.
    pub kv_cache_dtype: Option<DType>,
    /// Why the KV cache of this model is not modelled, where it is not.
    pub not_modelled: Option<String>,
    /// How its checkpoint names, lays out and quantises the tensors.
    pub checkpoint: Checkpoint,
}

/// Cosines and sines of every position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotaryTable {
    /// Rows.
    pub positions: u64,
    /// Elements of a row: as many as the part of a head that is rotated has.
    pub width: u64,
}

/// One decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// The token mixer.
    pub attention: Attention,
    /// The channel mixer.
    pub feed_forward: FeedForward,
}

/// Heads of an attention layer, of the whole model (not of a rank).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionHeads {
    /// Query heads.
    pub query_heads: u64,
    /// Key/value heads.
    pub kv_heads: u64,
    /// Width of a key head.
    pub head_dim: u64,
    /// Width of a value head.
    pub value_head_dim: u64,
}

/// Multi-head latent attention (DeepSeek-V2 and later).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mla {
    /// Query heads.
    pub query_heads: u64,
    /// Rank of the query's low-rank projection; `None` if the query is projected directly.
    pub q_lora_rank: Option<u64>,
    /// Width of the cached latent.
    pub kv_lora_rank: u64,
    /// Width of the part of a key head without rotary embedding.
    pub qk_nope_head_dim: u64,
    /// Width of the shared rotary part, cached beside the latent.
    pub qk_rope_head_dim: u64,
    /// Width of a value head.
    pub v_head_dim: u64,
}

/// Compressed sparse attention (DeepSeek-V4): one shared key/value head, compressed over blocks of tokens. Its weights
/// are known, its cache is not modelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressedSparse {
    /// Query heads.
    pub query_heads: u64,
    /// Width of a head.
    pub head_dim: u64,
    /// Rank of the query's low-rank projection.
    pub q_lora_rank: u64,
    /// Rank of the output's low-rank projection, per group.
    pub o_lora_rank: u64,
    /// Groups of the output projection.
    pub o_groups: u64,
    /// The indexer.
    pub indexer: SparseIndexer,
    /// Tokens compressed into one; 0 for a layer that sees only its window.
    pub compress_ratio: u64,
}

/// Indexer of sparse MLA (DeepSeek-V3.2, GLM-5): a second, small key cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SparseIndexer {
    /// Index heads.
    pub heads: u64,
    /// Width of an index head.
    pub head_dim: u64,
    /// Tokens attended to.
    pub top_k: u64,
}

/// Gated DeltaNet (Qwen3-Next, Qwen3.5): linear attention with a constant state per sequence. Kimi Delta Attention
/// keeps the state of one with as many key as value heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatedDeltaNet {
    /// Key heads.
    pub key_heads: u64,
    /// Value heads.
    pub value_heads: u64,
    /// Width of a key head.
    pub key_head_dim: u64,
    /// Width of a value head.
    pub value_head_dim: u64,
    /// Width of the causal convolution.
    pub conv_kernel: u64,
    /// Type of the recurrent state.
    pub state_dtype: DType,
}

/// Mamba or Mamba-2 mixer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mamba {
    /// 1 or 2.
    pub version: u8,
    /// Inner width (Mamba-2: heads x `head_dim`).
    pub inner_size: u64,
    /// Heads (Mamba-2; 0 for Mamba-1).
    pub heads: u64,
    /// Width of a head (Mamba-2; 0 for Mamba-1).
    pub head_dim: u64,
    /// Width of the state.
    pub state_size: u64,
    /// Groups of B and C (Mamba-2; 1 for Mamba-1).
    pub groups: u64,
    /// Width of the causal convolution.
    pub conv_kernel: u64,
    /// Chunk of the scan, which prefix caching must respect.
    pub chunk_size: Option<u64>,
    /// Type of the recurrent state; `None`: the compute type.
    pub state_dtype: Option<DType>,
}

/// The token mixer of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// None: the layer is a feed-forward only (Nemotron-H) or its attention was removed (Nemotron NAS).
    None,
    /// One square matrix in place of attention (Nemotron NAS); nothing is cached.
    Projection,
    /// Every earlier token.
    Full(AttentionHeads),
    /// The last `window` tokens.
    SlidingWindow {
        /// The heads.
        heads: AttentionHeads,
        /// Tokens seen, the current one included.
        window: u64,
    },
    /// The tokens of the same chunk (Llama 4).
    ChunkedLocal {
        /// The heads.
        heads: AttentionHeads,
        /// Tokens of a chunk.
        chunk: u64,
    },
    /// Multi-head latent attention.
    Mla(Mla),
    /// Multi-head latent attention over the tokens an indexer selects.
    MlaSparse {
        /// The latent attention.
        mla: Mla,
        /// The indexer, which caches a key of its own; `None`: the layer uses what an earlier indexer selected
        /// (GLM-5.2), and has neither its weights nor its cache.
        indexer: Option<SparseIndexer>,
    },
    /// Compressed sparse attention.
    CompressedSparse(CompressedSparse),
    /// Linear attention with a constant state.
    Linear(GatedDeltaNet),
    /// Mamba or Mamba-2.
    Mamba(Mamba),
    /// Attention over the KV cache that an earlier layer wrote (Gemma 3n and Gemma 4 E-models).
    Shared {
        /// The heads.
        heads: AttentionHeads,
        /// Index of the layer whose cache is read.
        with_layer: u32,
    },
}

impl Attention {
    /// The heads, of the kinds that have query, key and value heads.
    pub fn heads(&self) -> Option<AttentionHeads> {
        match *self {
            Self::Full(heads)
            | Self::SlidingWindow { heads, .. }
            | Self::ChunkedLocal { heads, .. }
            | Self::Shared { heads, .. } => Some(heads),
            _ => None,
        }
    }
}

/// The channel mixer of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedForward {
    /// None.
    None,
    /// One square matrix (Nemotron NAS).
    Projection,
    /// One MLP.
    Dense {
        /// Inner width.
        intermediate_size: u64,
        /// Has a gate projection (`SwiGLU`, `GeGLU`).
        gated: bool,
    },
    /// A mixture of experts.
    Moe(Moe),
}

/// A mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moe {
    /// Routed experts.
    pub experts: u64,
    /// Experts chosen for a token.
    pub experts_per_token: u64,
    /// Inner width of a routed expert.
    pub intermediate_size: u64,
    /// Inner width of the experts that see every token, summed; 0 if there are none.
    pub shared_intermediate_size: u64,
    /// Has gate projections.
    pub gated: bool,
    /// Width the experts work in, where the layer first projects down to it (Nemotron 3 Super); else `hidden_size`.
    pub expert_hidden_size: u64,
}

/// Kind of a vision tower: what its blocks are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VisionKind {
    /// `SigLIP` (Gemma 3), CLIP: biased projections, two-layer MLP.
    Siglip,
    /// Pixtral (Mistral Small): gated MLP, no biases.
    Pixtral,
    /// Qwen2-VL and Qwen3-VL: fused, biased QKV, two-layer MLP, merger.
    QwenVl,
    /// Qwen2.5-VL: fused, biased QKV, gated MLP, merger.
    Qwen25Vl,
    /// Llama 4.
    Llama4,
    /// Gemma 4: gated MLP, four norms a block.
    Gemma4,
    /// `MoonViT` (Kimi-VL, Kimi K2.5): fused QKV, two-layer MLP, merger.
    MoonVit,
}

/// A vision tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vision {
    /// What its blocks are made of.
    pub kind: VisionKind,
    /// Layers.
    pub layers: u64,
    /// Width.
    pub hidden_size: u64,
    /// Inner width of its MLP.
    pub intermediate_size: u64,
    /// Heads.
    pub heads: u64,
    /// Width of a head (heads x `head_dim` is `hidden_size` in most towers).
    pub head_dim: u64,
    /// Width of its output after the projector, in the text model's space.
    pub output_size: u64,
    /// Width inside the projector, where it is not a multiple of the tower's (Llama 4).
    pub projector_size: u64,
    /// Side of a patch, in pixels.
    pub patch_size: u64,
    /// Frames of a patch.
    pub temporal_patch_size: u64,
    /// Patches merged into one token, per side.
    pub merge_size: u64,
    /// Rows of the position embedding; 0 for rotary positions only.
    pub positions: u64,
    /// Inner layers whose output gets a merger of its own (Qwen3-VL).
    pub deepstack_layers: u64,
    /// Its matrices have biases, where that is a matter of configuration (`MoonViT`).
    pub biases: bool,
}
