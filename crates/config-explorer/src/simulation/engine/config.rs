//! What a scheduler is built from.

use crate::{Error, Result};

/// Settings of one engine core, with vLLM's names and meaning. `num_gpu_blocks` and `kv_groups` are what `memory` plans.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "these are vLLM's own switches")]
pub struct SchedulerConfig {
    /// Longest sequence: prompt and output.
    pub max_model_len: u32,
    /// Most requests in the running list.
    pub max_num_seqs: u32,
    /// Token budget of a step.
    pub max_num_batched_tokens: u32,
    /// Tokens of a block that prefix caching hashes.
    pub block_size: u32,
    /// KV blocks, with the null block that holds no data.
    pub num_gpu_blocks: u32,
    /// KV cache groups; every group draws from the one pool.
    pub kv_groups: Vec<KvGroup>,
    /// Prefix caching is on.
    pub enable_prefix_caching: bool,
    /// A prompt may be computed over several steps.
    pub enable_chunked_prefill: bool,
    /// Most tokens of one request in a step; 0 is no limit.
    pub long_prefill_token_threshold: u32,
    /// Order of the waiting queue and choice of whom to preempt.
    pub policy: Policy,
    /// A step is scheduled while the one before it runs.
    pub async_scheduling: bool,
    /// Pipeline stages: batches in flight without asynchronous scheduling.
    pub pipeline_parallel_size: u32,
    /// A request is admitted only if all its known tokens fit, not just its next chunk.
    pub scheduler_reserve_full_isl: bool,
    /// Share of the blocks that admission leaves free while requests run.
    pub watermark: f64,
    /// Prefill and admission wait for this many executed steps after the last prefill; 1 is no wait.
    pub prefill_schedule_interval: u32,
    /// Speculative decoding.
    pub speculation: Option<Speculation>,
    /// Role in the transfer of KV caches between engines.
    pub kv_role: Option<KvRole>,
}

impl Default for SchedulerConfig {
    /// vLLM's defaults on a large device, without knowledge of a model: one full-attention group of 1,024 blocks.
    fn default() -> Self {
        Self {
            max_model_len: 8192,
            max_num_seqs: 1024,
            max_num_batched_tokens: 8192,
            block_size: 16,
            num_gpu_blocks: 1024,
            kv_groups: vec![KvGroup { attention: GroupAttention::Full, block_size: 16 }],
            enable_prefix_caching: true,
            enable_chunked_prefill: true,
            long_prefill_token_threshold: 0,
            policy: Policy::Fcfs,
            async_scheduling: true,
            pipeline_parallel_size: 1,
            scheduler_reserve_full_isl: true,
            watermark: 0.0,
            prefill_schedule_interval: 1,
            speculation: None,
            kv_role: None,
        }
    }
}

/// A set of layers whose KV cache is allocated alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvGroup {
    /// What its layers look at.
    pub attention: GroupAttention,
    /// Tokens of a block.
    pub block_size: u32,
}

/// What the layers of a KV group look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupAttention {
    /// Every earlier token.
    Full,
    /// The last `window` tokens.
    SlidingWindow {
        /// Tokens, the newest included.
        window: u32,
    },
    /// The tokens of the same chunk.
    ChunkedLocal {
        /// Tokens of a chunk.
        chunk: u32,
    },
    /// A recurrent state.
    Mamba {
        /// States are kept at block edges (`mamba_cache_mode` "align"); prefill chunks end there.
        aligned: bool,
        /// States of draft tokens.
        speculative_blocks: u32,
    },
}

impl GroupAttention {
    /// Leading tokens that the next step does not need, once `computed` tokens are computed.
    pub(super) fn skipped_tokens(self, computed: u32) -> u32 {
        match self {
            Self::Full => 0,
            Self::SlidingWindow { window } => (computed + 1).saturating_sub(window),
            Self::ChunkedLocal { chunk } => computed / chunk * chunk,
            Self::Mamba { .. } => computed.saturating_sub(1),
        }
    }

    /// Blocks that hold states of draft tokens.
    pub(super) fn speculative_blocks(self) -> u32 {
        match self {
            Self::Mamba { speculative_blocks, .. } => speculative_blocks,
            _ => 0,
        }
    }
}

/// Order of the waiting queue and choice of whom to preempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// First come, first served; the newest running request is preempted.
    Fcfs,
    /// Lowest priority value first, then arrival; the last of that order is preempted.
    Priority,
}

/// Speculative decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speculation {
    /// Draft tokens of a step (`num_speculative_tokens`).
    pub num_tokens: u32,
    /// The drafter has a KV cache of its own in the engine (EAGLE, MTP): it takes lookahead slots.
    pub eagle: bool,
}

/// Role in the transfer of KV caches between engines (`kv_role`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvRole {
    /// Prefill side: its blocks are read by others.
    Producer,
    /// Decode side: it loads blocks from others.
    Consumer,
    /// Both, as llm-d's guides configure NIXL.
    Both,
}

impl SchedulerConfig {
    /// Batches that are scheduled before the output of the first is processed (`max_concurrent_batches`).
    pub fn batches_in_flight(&self) -> u32 {
        self.pipeline_parallel_size + u32::from(self.async_scheduling)
    }

    pub(super) fn produces_kv(&self) -> bool {
        matches!(self.kv_role, Some(KvRole::Producer | KvRole::Both))
    }

    pub(super) fn consumes_kv(&self) -> bool {
        matches!(self.kv_role, Some(KvRole::Consumer | KvRole::Both))
    }

    /// Refuses values no engine could run with.
    pub(super) fn check(&self) -> Result<()> {
        let refuse = |setting: &str, reason: &str| {
            Err(Error::InvalidSetting { setting: setting.to_owned(), reason: reason.to_owned() })
        };
        for (setting, value) in [
            ("max_model_len", self.max_model_len),
            ("max_num_seqs", self.max_num_seqs),
            ("max_num_batched_tokens", self.max_num_batched_tokens),
            ("block_size", self.block_size),
            ("pipeline_parallel_size", self.pipeline_parallel_size),
            ("prefill_schedule_interval", self.prefill_schedule_interval),
        ] {
            if value == 0 {
                return refuse(setting, "must be at least 1");
            }
        }
        if self.num_gpu_blocks < 2 {
            return refuse("num_gpu_blocks", "must be at least 2: one block is the null block");
        }
        if !(0.0..1.0).contains(&self.watermark) {
            return refuse("watermark", "must be at least 0 and below 1");
        }
        if self.kv_groups.is_empty() {
            return refuse("kv_groups", "must hold at least one group");
        }
        for group in &self.kv_groups {
            if matches!(
                group.attention,
                GroupAttention::SlidingWindow { window: 0 } | GroupAttention::ChunkedLocal { chunk: 0 }
            ) {
                return refuse("kv_groups", "a window or chunk must hold at least 1 token");
            }
            if group.block_size == 0 {
                return refuse("kv_groups", "a block must hold at least 1 token");
            }
            if self.enable_prefix_caching && group.block_size != self.block_size {
                return refuse("kv_groups", "prefix caching needs every group's blocks as long as `block_size`");
            }
        }
        Ok(())
    }
}
