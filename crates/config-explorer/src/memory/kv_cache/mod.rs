//! vLLM's KV cache planner, exact to the block.
//!
//! In: what each layer of each pipeline stage caches on one rank ([`KvCacheSpec`]; [`ModelKvCache::new`] derives it from
//! an architecture), the settings that matter ([`KvCacheRequest`]) and the rules of the version
//! ([`KvCacheRules`](crate::engine::KvCacheRules)). Out: a [`KvCacheLayout`] (layers in groups that share a pool of
//! blocks), which for the bytes available on each stage gives a [`KvCachePlan`] (blocks, concurrency, tokens as the log
//! prints them, longest length), or a [`KvCacheRefusal`], where vLLM refuses to start.
//!
//! Follows vLLM's `v1/core/kv_cache_utils.py` (`kv_cache_planning.py` since 0.33) and `v1/kv_cache_interface.py`; the
//! block size of hybrid models, `models/config.py` (`platforms/interface.py` since 0.20).
//!
//! ```
//! use config_explorer::engine::EngineRules;
//! use config_explorer::memory::kv_cache::{
//!     CacheKind, KvCacheLayout, KvCacheRequest, KvCacheSpec, KvHeads, MaxModelLen,
//! };
//!
//! // Llama-3.1-8B on one GPU with 20 GiB for the KV cache.
//! let heads = KvHeads { kv_heads: 8, head_dim: 128, value_head_dim: 128, element_bytes: 2 };
//! let layer = KvCacheSpec { block_size: 16, padded_page_bytes: None, kind: CacheKind::Full { heads, local: None } };
//! let request = KvCacheRequest::new(MaxModelLen::Fixed(32_768), 8_192);
//! let rules = EngineRules::of("0.19.1".parse()?)?.kv_cache;
//!
//! let layout = KvCacheLayout::new(&[vec![layer; 32]], &request, &rules)?;
//! let plan = layout.plan(&[20 << 30])?;
//! assert_eq!((plan.num_blocks, plan.tokens_reported, plan.max_concurrency), (10_240, 163_840, 5.0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod blocks;
mod from_architecture;
mod groups;
mod hybrid;
mod planner;
mod refusal;
mod spec;
#[cfg(test)]
mod tests;

pub use from_architecture::{KvCacheSettings, ModelKvCache};
pub use groups::{GroupPages, KvCacheGroup};
pub use hybrid::{HybridBlockSizes, HybridModel};
pub use planner::{KvCacheLayout, KvCachePlan, KvCacheRequest, MaxModelLen, StageKvCache};
pub use refusal::KvCacheRefusal;
pub use spec::{CacheKind, KvCacheSpec, KvHeads, LocalAttention, MlaCacheType};
