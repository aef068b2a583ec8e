//! Block tables of requests and how they grow and shrink (`v1/core/kv_cache_manager.py`,
//! `single_type_kv_cache_manager.py`). Looking up cached prefixes is in `prefix_hits`.

use super::block_pool::{BlockPool, NULL_BLOCK};
use super::config::{GroupAttention, KvGroup, SchedulerConfig};
use super::content::{BlockSpan, cache_key};
use super::prefix_hits::KvKind;
use super::requests::RequestId;
use crate::engine::SchedulerRules;

/// Blocks of one request in one group, in the order of its tokens.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct BlockTable {
    /// Null blocks stand for tokens that no layer of the group looks at any more.
    pub(super) blocks: Vec<u32>,
    /// Leading blocks that are in the cache, or were null when their turn came.
    pub(super) cached: u32,
    /// Leading blocks known to be null.
    dropped: u32,
    /// Aligned Mamba: the block of the state before the last one.
    previous_state: Option<u32>,
}

/// Slots that a request needs to run a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    /// Tokens computed before the step, here or elsewhere.
    pub(super) computed: u32,
    /// Tokens after the step.
    pub(super) tokens: u32,
    /// Tokens after the step with lookahead, within `max_model_len`.
    pub(super) slots: u32,
}

/// The KV cache of one engine.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct KvCache {
    pub(super) pool: BlockPool,
    pub(super) groups: Vec<KvGroup>,
    pub(super) kinds: Vec<KvKind>,
    /// What the hash of a block covers.
    pub(super) span: BlockSpan,
    pub(super) caching: bool,
    /// The last hit block is computed again (the drafter needs its hidden states).
    pub(super) drops_last_hit: bool,
    by_processed_tokens: bool,
    /// Tokens of a group that one request can hold while it is prefilled, beyond its window.
    admission_cap_tokens: Option<u32>,
    max_model_len: u32,
    /// By request, then group.
    tables: Vec<BlockTable>,
    /// By request: its tables hold blocks.
    allocated: Vec<bool>,
    /// By group: blocks found for the request that was looked up last.
    pub(super) hits: Vec<Vec<u32>>,
    /// Mamba states cached in this step: they are written only when the step runs.
    step_keys: Vec<u64>,
}

impl KvCache {
    pub(super) fn new(config: &SchedulerConfig, rules: &SchedulerRules) -> Self {
        let eagle = config.speculation.is_some_and(|speculation| speculation.eagle);
        let lookahead = eagle && rules.hash_covers_next_token && config.enable_prefix_caching;
        let in_flight = config.max_num_batched_tokens.saturating_mul(config.batches_in_flight());
        Self {
            pool: BlockPool::new(config.num_gpu_blocks, rules.unhashed_blocks_freed_first),
            kinds: KvKind::of(&config.kv_groups),
            span: BlockSpan { tokens: config.block_size, lookahead: u32::from(lookahead) },
            caching: config.enable_prefix_caching,
            drops_last_hit: eagle && !lookahead,
            by_processed_tokens: rules.skipped_blocks_by_processed_tokens,
            admission_cap_tokens: rules.window_admission_cap.then_some(in_flight),
            max_model_len: config.max_model_len,
            tables: Vec::new(),
            allocated: Vec::new(),
            hits: vec![Vec::new(); config.kv_groups.len()],
            step_keys: Vec::new(),
            groups: config.kv_groups.clone(),
        }
    }

    /// Makes room for the tables of a request.
    pub(super) fn insert(&mut self, id: RequestId) {
        if id as usize == self.allocated.len() {
            self.allocated.push(false);
            self.tables.resize_with(self.allocated.len() * self.groups.len(), BlockTable::default);
        }
    }

    pub(super) fn start_step(&mut self) {
        self.step_keys.clear();
    }

    pub(super) fn is_allocated(&self, id: RequestId) -> bool {
        self.allocated[id as usize]
    }

    /// By group.
    pub(super) fn tables(&self, id: RequestId) -> &[BlockTable] {
        let groups = self.groups.len();
        &self.tables[id as usize * groups..][..groups]
    }

    /// Blocks to take from the pool so that a request can run: missing ones, and hits that lie in the free queue.
    /// Without tables, the hits are those found last. `None`: must wait for a state written in this step.
    pub(super) fn blocks_needed(&self, id: RequestId, need: Need) -> Option<u32> {
        (0..self.groups.len()).try_fold(0, |sum, group| Some(sum + self.group_needs(id, group, need, false)?))
    }

    /// [`blocks_needed`](Self::blocks_needed) of the admission gate: a window group never holds more than its window
    /// and the batches in flight.
    pub(super) fn blocks_needed_to_admit(&self, id: RequestId, need: Need) -> Option<u32> {
        (0..self.groups.len()).try_fold(0, |sum, group| Some(sum + self.group_needs(id, group, need, true)?))
    }

    fn group_needs(&self, id: RequestId, group: usize, need: Need, admission: bool) -> Option<u32> {
        let KvGroup { attention, block_size } = self.groups[group];
        let table = &self.tables(id)[group];
        let held = table.blocks.len() as u32;
        let slots = need.slots + block_size * attention.speculative_blocks();
        if self.allocated[id as usize] {
            if let GroupAttention::Mamba { aligned: true, speculative_blocks } = attention {
                return Some(u32::from(need.tokens.div_ceil(block_size) + speculative_blocks > held));
            }
            // Without a division where no block is missing, which is nearly always.
            return Some(if slots <= held * block_size { 0 } else { slots.div_ceil(block_size) - held });
        }
        let hits = &self.hits[group];
        let evicted = |hits: &[u32]| hits.iter().filter(|&&block| self.pool.is_free(block)).count() as u32;
        if let GroupAttention::Mamba { aligned, speculative_blocks } = attention {
            if hits.last().is_some_and(|&block| self.step_keys.contains(&self.pool.key(block))) {
                return None;
            }
            if aligned {
                let missing = need.tokens.div_ceil(block_size) + speculative_blocks > hits.len() as u32;
                return Some(if missing { 1 + speculative_blocks } else { 0 } + evicted(hits));
            }
        }
        let skipped = attention.skipped_tokens(need.computed) / block_size;
        let mut blocks = slots.div_ceil(block_size);
        if admission {
            blocks = blocks.min(self.admission_cap(group));
        }
        let present = skipped.max(hits.len() as u32);
        Some(blocks.saturating_sub(present) + evicted(&hits[hits.len().min(skipped as usize)..]))
    }

    fn admission_cap(&self, group: usize) -> u32 {
        let KvGroup { attention, block_size } = self.groups[group];
        let (Some(in_flight), Some((beyond, edge))) = (
            self.admission_cap_tokens,
            match attention {
                GroupAttention::SlidingWindow { window } => Some((window - 1, 1)),
                GroupAttention::ChunkedLocal { chunk } => Some((chunk, 0)),
                GroupAttention::Full | GroupAttention::Mamba { .. } => None,
            },
        ) else {
            return u32::MAX;
        };
        in_flight.saturating_add(beyond).min(self.max_model_len).div_ceil(block_size) + edge
    }

    /// Takes the blocks that [`blocks_needed`](Self::blocks_needed) counted; the caller has checked that they are free.
    pub(super) fn allocate(&mut self, id: RequestId, need: Need) {
        if !self.allocated[id as usize] {
            self.adopt_hits(id, need.computed);
        }
        let had_blocks = std::mem::replace(&mut self.allocated[id as usize], true);
        for group in 0..self.groups.len() {
            let KvGroup { attention, block_size } = self.groups[group];
            let at = id as usize * self.groups.len() + group;
            let (table, pool) = (&mut self.tables[at], &mut self.pool);
            if let GroupAttention::Mamba { aligned: true, speculative_blocks } = attention {
                table.extend_aligned(need.tokens.div_ceil(block_size), speculative_blocks, had_blocks, pool);
                continue;
            }
            let slots = need.slots + block_size * attention.speculative_blocks();
            while (table.blocks.len() as u32) * block_size < slots {
                table.blocks.push(pool.take());
            }
        }
    }

    fn adopt_hits(&mut self, id: RequestId, computed: u32) {
        for group in 0..self.groups.len() {
            let KvGroup { attention, block_size } = self.groups[group];
            let skipped = attention.skipped_tokens(computed) / block_size;
            let table = &mut self.tables[id as usize * self.groups.len() + group];
            let hits = self.hits[group].get(skipped as usize..).unwrap_or_default();
            debug_assert!(table.blocks.is_empty());
            table.blocks.resize(skipped as usize, NULL_BLOCK);
            table.blocks.extend_from_slice(hits);
            table.cached = table.blocks.len() as u32;
            for &block in hits {
                self.pool.touch(block);
            }
        }
    }

    /// Whether `tokens` fill a block of the request that is not in the cache.
    pub(super) fn has_uncached_block(&self, id: RequestId, tokens: u32) -> bool {
        self.caching
            && self.allocated[id as usize]
            && self.tables(id).iter().any(|table| (table.cached + 1) * self.span.tokens <= tokens)
    }

    /// Puts the blocks that the first `tokens` tokens fill into the cache, as far as they are hashed.
    pub(super) fn cache(&mut self, id: RequestId, tokens: u32, hashes: &[u64]) {
        let full = (tokens / self.span.tokens).min(hashes.len() as u32);
        for group in 0..self.groups.len() {
            let table = &mut self.tables[id as usize * self.groups.len() + group];
            for at in table.cached..full {
                let block = table.blocks[at as usize];
                if block != NULL_BLOCK {
                    let key = cache_key(hashes[at as usize], group);
                    self.pool.cache(key, block);
                    if matches!(self.groups[group].attention, GroupAttention::Mamba { .. }) {
                        self.step_keys.push(key);
                    }
                }
            }
            table.cached = table.cached.max(full);
        }
    }

    /// Some layers do not look at all tokens.
    fn skips(&self) -> bool {
        self.groups.iter().any(|group| group.attention != GroupAttention::Full)
    }

    /// Some layers keep Mamba states at block edges.
    pub(super) fn is_aligned(&self) -> bool {
        self.groups.iter().any(|group| matches!(group.attention, GroupAttention::Mamba { aligned: true, .. }))
    }

    /// Gives back the blocks that lie wholly before what the next step looks at, once `tokens` are computed.
    pub(super) fn drop_skipped(&mut self, id: RequestId, tokens: u32) {
        if !self.skips() || !self.allocated[id as usize] {
            return;
        }
        for group in 0..self.groups.len() {
            let KvGroup { attention, block_size } = self.groups[group];
            let table = &mut self.tables[id as usize * self.groups.len() + group];
            let tokens = if self.by_processed_tokens {
                tokens
            } else {
                // States of draft tokens may be rolled back to.
                tokens.saturating_sub(attention.speculative_blocks())
            };
            let skipped = (attention.skipped_tokens(tokens) / block_size).min(table.blocks.len() as u32);
            let droppable = &mut table.blocks[..skipped as usize];
            // The older rule stops at the first null block and leaves what is before it.
            let first = if self.by_processed_tokens {
                table.dropped.min(skipped) as usize
            } else {
                droppable.iter().rposition(|&block| block == NULL_BLOCK).map_or(0, |null| null + 1)
            };
            self.pool.release(droppable[first..].iter().rev().copied());
            droppable[first..].fill(NULL_BLOCK);
            table.dropped = table.dropped.max(skipped);
            if let Some(state) = table.previous_state
                && matches!(attention, GroupAttention::Mamba { aligned: true, .. })
                && state + 1 < tokens.div_ceil(block_size)
            {
                let block = std::mem::replace(&mut table.blocks[state as usize], NULL_BLOCK);
                self.pool.release(std::iter::once(block));
            }
        }
    }

    /// Gives back all blocks of a request, its last ones to be reused first.
    pub(super) fn free(&mut self, id: RequestId) {
        self.allocated[id as usize] = false;
        for group in 0..self.groups.len() {
            let table = &mut self.tables[id as usize * self.groups.len() + group];
            self.pool.release(table.blocks.iter().rev().copied());
            table.clear();
        }
    }

    /// Takes the blocks of a request from its tables without giving them back, by group.
    pub(super) fn detach(&mut self, id: RequestId) -> Vec<Vec<u32>> {
        self.allocated[id as usize] = false;
        let groups = self.groups.len();
        let tables = &mut self.tables[id as usize * groups..][..groups];
        tables
            .iter_mut()
            .map(|table| {
                let blocks = std::mem::take(&mut table.blocks);
                table.clear();
                blocks
            })
            .collect()
    }
}

impl BlockTable {
    fn clear(&mut self) {
        self.blocks.clear();
        *self = Self { blocks: std::mem::take(&mut self.blocks), ..Self::default() };
    }

    /// Mamba "align": only the newest state, the one before it and those of drafts are blocks; `states` block edges
    /// are covered.
    fn extend_aligned(&mut self, states: u32, speculative: u32, had_blocks: bool, pool: &mut BlockPool) {
        let held = self.blocks.len() as u32;
        let wanted = states + speculative;
        if wanted <= held {
            return;
        }
        if had_blocks {
            self.previous_state = (held - speculative).checked_sub(1);
        } else if held > 0 {
            self.previous_state = Some(held - 1);
        }
        let newest = (wanted - speculative - 1) as usize;
        if self.blocks.len() < newest {
            self.blocks.resize(newest, NULL_BLOCK);
        }
        if had_blocks {
            // The blocks of drafts move behind the newest state.
            for at in (held - speculative) as usize..(held as usize).min(newest) {
                let block = std::mem::replace(&mut self.blocks[at], NULL_BLOCK);
                self.blocks.push(block);
            }
        }
        while (self.blocks.len() as u32) < wanted {
            self.blocks.push(pool.take());
        }
    }
}
