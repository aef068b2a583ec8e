//! Looking up the longest cached prefix of a request (`v1/core/kv_cache_coordinator.py`, `find_longest_cache_hit` of
//! the single-type managers).

use super::block_pool::NULL_BLOCK;
use super::config::{GroupAttention, KvGroup};
use super::content::cache_key;
use super::kv_cache::KvCache;

/// Groups that look at the same tokens: they are looked up together, so that a block counts only if all have it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct KvKind {
    attention: GroupAttention,
    groups: Vec<usize>,
}

impl KvKind {
    /// Full attention first: its hits can be cut to any length, so it needs one lookup only.
    pub(super) fn of(groups: &[KvGroup]) -> Vec<Self> {
        let mut kinds: Vec<Self> = Vec::new();
        for (at, group) in groups.iter().enumerate() {
            match kinds.iter_mut().find(|kind| kind.attention == group.attention) {
                Some(kind) => kind.groups.push(at),
                None => kinds.push(Self { attention: group.attention, groups: vec![at] }),
            }
        }
        kinds.sort_by_key(|kind| kind.attention != GroupAttention::Full);
        kinds
    }
}

/// A cached prefix; its blocks are in [`KvCache::hits`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PrefixHit {
    /// Tokens, whole blocks.
    pub(super) tokens: u32,
    /// End of the longest prefix that some kind has cached, if that is longer; else 0.
    pub(super) junction: u32,
}

impl KvCache {
    /// Looks up a request without blocks, `known` tokens long, whose blocks hash to `hashes`. At least one token is
    /// left to compute.
    pub(super) fn find_hits(&mut self, known: u32, hashes: &[u64]) -> PrefixHit {
        self.hits.iter_mut().for_each(Vec::clear);
        if !self.caching {
            return PrefixHit { tokens: 0, junction: 0 };
        }
        let mut kinds = std::mem::take(&mut self.kinds);
        let (mut limit, mut longest) = (known - 1, 0);
        for round in 0.. {
            let mut tokens = limit;
            for kind in &kinds {
                if kind.attention == GroupAttention::Full && round > 0 {
                    tokens = tokens / self.span.tokens * self.span.tokens;
                } else {
                    tokens = self.find_kind(kind, tokens, hashes) * self.span.tokens;
                    longest = longest.max(tokens);
                }
            }
            let settled = tokens >= limit || kinds.len() == 1;
            limit = limit.min(tokens);
            // With full attention and one other kind, one round settles both.
            if settled || (kinds.len() == 2 && kinds[0].attention == GroupAttention::Full) {
                break;
            }
        }
        std::mem::swap(&mut self.kinds, &mut kinds);
        let blocks = limit / self.span.tokens;
        let tokens = blocks * self.span.tokens;
        for hits in &mut self.hits {
            hits.truncate(blocks as usize);
        }
        PrefixHit { tokens, junction: if longest > tokens { longest } else { 0 } }
    }

    /// Finds the blocks of one kind within `limit` tokens; returns how many there are.
    fn find_kind(&mut self, kind: &KvKind, limit: u32, hashes: &[u64]) -> u32 {
        let blocks = (limit / self.span.tokens).min(hashes.len() as u32);
        let cached = |cache: &Self, at: u32| {
            kind.groups.iter().all(|&group| cache.pool.cached(cache_key(hashes[at as usize], group)).is_some())
        };
        // Blocks `first..end` are hits; the layers do not look at those before.
        let (first, mut end) = match kind.attention {
            GroupAttention::Full => (0, (0..blocks).find(|&at| !cached(self, at)).unwrap_or(blocks)),
            GroupAttention::ChunkedLocal { chunk } => {
                let first = limit / chunk * chunk / self.span.tokens;
                (first, (first..blocks).find(|&at| !cached(self, at)).unwrap_or(blocks.max(first)))
            }
            GroupAttention::SlidingWindow { window } => {
                let wanted = (window - 1).div_ceil(self.span.tokens) + u32::from(self.drops_last_hit);
                let (mut first, mut end) = (0, 0);
                for at in (0..blocks).rev() {
                    if !cached(self, at) {
                        end = 0;
                        continue;
                    }
                    if end == 0 {
                        end = at + 1;
                    }
                    if end - at >= wanted {
                        first = at;
                        break;
                    }
                }
                (first, end)
            }
            GroupAttention::Mamba { .. } => {
                let last = (0..blocks).rev().find(|&at| cached(self, at));
                last.map_or((0, 0), |at| (at, at + 1))
            }
        };
        if self.drops_last_hit && !matches!(kind.attention, GroupAttention::Mamba { .. }) {
            end = end.saturating_sub(1);
        }
        for &group in &kind.groups {
            self.hits[group].clear();
            self.hits[group].resize(first.min(end) as usize, NULL_BLOCK);
            for at in first..end {
                let block = self.pool.cached(cache_key(hashes[at as usize], group));
                self.hits[group].push(block.unwrap_or(NULL_BLOCK));
            }
        }
        end
    }
}
