//! What a model computes: a list of layers, each with its attention and its feed-forward.

use super::DType;

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
    /// Longest sequence the config allows, in tokens.
    pub max_position_embeddings: Option<u64>,
    /// Compute type the config declares; `F32` checkpoints are run in 16 bits by default, which `engine` decides.
    pub dtype: DType,
    /// The decoder layers.
    pub layers: Vec<Layer>,
    /// Multi-token-prediction layers that the config declares (loaded with speculative decoding only).
    pub mtp_layers: Vec<Layer>,
    /// The LM head is the embedding.
    pub tied_embeddings: bool,
    /// Vision tower of a multimodal model.
    pub vision: Option<Vision>,
    /// KV cache type that the checkpoint asks for (`kv_cache_scheme`, `kv_cache_quant_algo`), which vLLM follows when
    /// `--kv-cache-dtype auto`.
    pub kv_cache_dtype: Option<DType>,
    /// Why the KV cache of this model is not modelled, where it is not.
    pub not_modelled: Option<String>,
}

/// One decoder layer.
#[derive(Debug, Clone, PartialEq)]
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

/// Gated DeltaNet (Qwen3-Next, Qwen3.5): linear attention with a constant state per sequence.
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
    /// Inner width (Mamba-2: heads x head_dim).
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
        /// The indexer, which caches a key of its own.
        indexer: SparseIndexer,
    },
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

/// The channel mixer of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedForward {
    /// None.
    None,
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

/// A vision tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vision {
    /// Layers.
    pub layers: u64,
    /// Width.
    pub hidden_size: u64,
    /// Inner width of its MLP.
    pub intermediate_size: u64,
    /// Heads.
    pub heads: u64,
    /// Width of its output after the projector, in the text model's space.
    pub output_size: u64,
    /// Side of a patch, in pixels.
    pub patch_size: u64,
    /// Patches merged into one token, per side.
    pub merge_size: u64,
}
