//! How many blocks one request needs.

use super::{CacheKind, KvCacheSpec, LocalAttention};
use crate::engine::MambaCacheMode;

/// What the blocks of a request depend on besides its length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BlockDemand {
    /// Tokens that may be scheduled and not yet settled.
    pub(super) in_flight_tokens: u64,
    /// Ranks that the tokens are dealt over.
    pub(super) decode_context_parallel_size: u64,
    /// States kept.
    pub(super) mamba_cache_mode: MambaCacheMode,
    /// With [`MambaCacheMode::All`], states of speculative tokens come on top.
    pub(super) mamba_all_adds_speculative: bool,
}

impl BlockDemand {
    /// Blocks that one request of `len` tokens may hold in a layer (`max_memory_usage_bytes` over the page).
    pub(super) fn blocks(&self, spec: &KvCacheSpec, len: u64) -> u64 {
        let block_size = spec.block_size;
        match spec.kind {
            CacheKind::Full { .. } | CacheKind::Mla { .. } => {
                len.div_ceil(self.decode_context_parallel_size).div_ceil(block_size)
            }
            // A window may begin inside a block: one more.
            CacheKind::Local { local: LocalAttention::SlidingWindow(window), .. } => {
                let tokens = window.saturating_sub(1).saturating_add(self.in_flight_tokens);
                tokens.min(len).div_ceil(block_size) + 1
            }
            CacheKind::Local { local: LocalAttention::Chunked(chunk), .. } => {
                chunk.saturating_add(self.in_flight_tokens).min(len).div_ceil(block_size)
            }
            CacheKind::Mamba { speculative_blocks, .. } => match self.mamba_cache_mode {
                MambaCacheMode::None => speculative_blocks.saturating_add(1),
                MambaCacheMode::Align => speculative_blocks.saturating_add(2),
                MambaCacheMode::All if self.mamba_all_adds_speculative => {
                    len.div_ceil(block_size).saturating_add(speculative_blocks)
                }
                MambaCacheMode::All => len.div_ceil(block_size),
            },
        }
    }
}
