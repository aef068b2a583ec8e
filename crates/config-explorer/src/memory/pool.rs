//! The KV cache as the engine's scheduler sees it: groups of layers that draw blocks from one pool.

use super::PlanRequest;
use super::account::{Accounting, CannotRun};
use super::kv_cache::KvCacheGroup;
use super::plan::shortfall;
use crate::engine::MambaCacheMode;
use crate::{Error, Result};

/// The blocks of one data-parallel rank.
#[derive(Debug, Clone, PartialEq)]
pub struct KvPool {
    /// Layers that share a block table.
    pub groups: Vec<KvCacheGroup>,
    /// Tokens of a block that prefix caching hashes.
    pub block_size: u64,
    /// Blocks, the null block among them.
    pub num_blocks: u64,
    /// Longest request, tokens.
    pub max_model_len: u64,
    /// Prefix caching is on.
    pub enable_prefix_caching: bool,
    /// States kept of Mamba and linear-attention layers.
    pub mamba_cache_mode: MambaCacheMode,
}

/// The pool of a layout.
///
/// # Errors
/// [`Error::InvalidSetting`] with the reason of [`plan`](super::plan()) for a layout that cannot run or does not fit.
pub fn kv_pool(request: &PlanRequest<'_>) -> Result<KvPool> {
    let refuse = |reason: String| Error::InvalidSetting { setting: "memory".to_owned(), reason };
    let accounting = Accounting::new(request).map_err(|CannotRun(reason)| refuse(reason))?;
    let kv = accounting.plan.as_ref().map_err(|refusal| refuse(shortfall(request, &accounting, refusal)))?;
    // The tokens of a block are dealt over the ranks of decode context parallelism.
    let ranks = u64::from(request.parallelism.decode_context());
    let mut groups = accounting.layout.groups().to_vec();
    for group in &mut groups {
        group.spec.block_size *= ranks;
    }
    Ok(KvPool {
        groups,
        block_size: accounting.cache.block_size * ranks,
        num_blocks: kv.num_blocks,
        max_model_len: kv.max_model_len,
        enable_prefix_caching: accounting.cache.enable_prefix_caching,
        mamba_cache_mode: accounting.cache.mamba_cache_mode,
    })
}
