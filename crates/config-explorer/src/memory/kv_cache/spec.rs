//! What one layer caches on one rank, and the bytes of one block of it (a page).

/// Bytes a token takes in the `fp8_ds_mla` format: 512 FP8 latents, four FP32 scales and 64 BF16 rotary values
/// (vLLM's `v1/attention/backends/mla/flashmla_sparse.py`).
const FP8_DS_MLA_TOKEN_BYTES: u64 = 656;

/// Keys and values of an attention layer on one rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvHeads {
    /// Key/value heads of this rank.
    pub kv_heads: u64,
    /// Width of a key head.
    pub head_dim: u64,
    /// Width of a value head.
    pub value_head_dim: u64,
    /// Bytes of an element.
    pub element_bytes: u64,
}

impl KvHeads {
    /// Bytes that one token takes.
    pub fn token_bytes(&self) -> u64 {
        let width = self.head_dim.saturating_add(self.value_head_dim);
        self.kv_heads.saturating_mul(width).saturating_mul(self.element_bytes)
    }
}

/// Attention that forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalAttention {
    /// The last so many tokens, the current one included.
    SlidingWindow(u64),
    /// The tokens of the same chunk, which has this many.
    Chunked(u64),
}

/// `--kv-cache-dtype` as an MLA layer records it; a sparse indexer records none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MlaCacheType {
    /// `auto`.
    Auto,
    /// `fp8` and its variants.
    Fp8,
    /// `fp8_ds_mla`, the packed format of sparse MLA.
    Fp8DsMla,
}

/// The kind of a cache, with what decides its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    /// Every token of every request.
    Full {
        /// The heads.
        heads: KvHeads,
        /// The attention is local, although every token is kept.
        local: Option<LocalAttention>,
    },
    /// The tokens that local attention still sees.
    Local {
        /// The heads.
        heads: KvHeads,
        /// How far it sees.
        local: LocalAttention,
    },
    /// One latent vector a token, the same on every tensor-parallel rank; also the keys of a sparse indexer.
    Mla {
        /// Width of the vector.
        head_dim: u64,
        /// Bytes of an element.
        element_bytes: u64,
        /// The type it was asked to be cached in.
        cache_type: Option<MlaCacheType>,
    },
    /// The state of a Mamba or linear-attention layer: one a request, whatever its length.
    Mamba {
        /// Bytes of the state. Two shapes of as many bytes count as one.
        state_bytes: u64,
        /// Further states kept for speculative tokens.
        speculative_blocks: u64,
    },
}

/// What one layer caches on one rank (`KVCacheSpec`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvCacheSpec {
    /// Tokens of a block.
    pub block_size: u64,
    /// Bytes that a page is padded to.
    pub padded_page_bytes: Option<u64>,
    /// The kind of cache.
    pub kind: CacheKind,
}

impl KvCacheSpec {
    /// Bytes of one block in this layer (`page_size_bytes`).
    pub fn page_bytes(&self) -> u64 {
        let bytes = match self.kind {
            CacheKind::Full { heads, .. } | CacheKind::Local { heads, .. } => {
                self.block_size.saturating_mul(heads.token_bytes())
            }
            CacheKind::Mla { cache_type: Some(MlaCacheType::Fp8DsMla), .. } => {
                self.block_size.saturating_mul(FP8_DS_MLA_TOKEN_BYTES)
            }
            CacheKind::Mla { head_dim, element_bytes, .. } => {
                self.block_size.saturating_mul(head_dim).saturating_mul(element_bytes)
            }
            CacheKind::Mamba { state_bytes, .. } => state_bytes,
        };
        bytes.max(self.padded_page_bytes.unwrap_or(0))
    }
}
