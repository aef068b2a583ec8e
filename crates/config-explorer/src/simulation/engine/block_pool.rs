//! The pool of KV blocks: reference counts, the queue of free blocks in the order of their reuse, and the prefix-cache
//! table from the key of a block's content to the blocks that hold it (`v1/core/block_pool.py`).
//!
//! Time goes into cache misses: all that is known of a block is one row of 24 bytes, and the table is a list of buckets,
//! each a chain through those rows.

/// The block that stands for tokens without data; never handed out. Ends a chain.
pub(super) const NULL_BLOCK: u32 = 0;
/// Key of a block that holds no cached content.
pub(super) const NO_KEY: u64 = 0;

#[derive(Debug, Clone, Copy)]
struct Block {
    key: u64,
    /// The block in the same bucket that was cached before this one.
    older: u32,
    /// Neighbours in the ring of free blocks.
    previous: u32,
    next: u32,
    references: u32,
}

#[derive(Debug, Clone)]
pub(super) struct BlockPool {
    /// Entry 0, the null block's, is the head of the ring of free blocks: the next one to be taken follows it.
    blocks: Vec<Block>,
    num_free: u32,
    /// By the low bits of the key, the block cached last.
    buckets: Vec<u32>,
    /// Freed blocks without content go to the front.
    unhashed_first: bool,
    /// What entered and left the cache, if anybody wants to know.
    pub(super) events: Option<Vec<CacheEvent>>,
}

/// What a KV cache tells to those who follow it (`kv_events`): of every block, also where another one has equal content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheEvent {
    /// A block was cached under a key.
    Stored(u64),
    /// A block with a key left the cache.
    Removed(u64),
}

/// Equal free queues and equal content; the order of different keys in a bucket has no meaning.
impl PartialEq for BlockPool {
    fn eq(&self, other: &Self) -> bool {
        let row = |block: &Block| (block.key, block.previous, block.next, block.references);
        let same = |one: &Block, other_block: &Block| {
            row(one) == row(other_block) && (one.key == NO_KEY || self.cached(one.key) == other.cached(one.key))
        };
        self.blocks.len() == other.blocks.len() && self.blocks.iter().zip(&other.blocks).all(|(a, b)| same(a, b))
    }
}

impl BlockPool {
    pub(super) fn new(num_blocks: u32, unhashed_first: bool) -> Self {
        let blocks = (0..num_blocks).map(|block| Block {
            key: NO_KEY,
            older: NULL_BLOCK,
            previous: block.checked_sub(1).unwrap_or(num_blocks - 1),
            next: (block + 1) % num_blocks,
            references: 0,
        });
        Self {
            blocks: blocks.collect(),
            num_free: num_blocks - 1,
            buckets: vec![NULL_BLOCK; (num_blocks as usize * 2).next_power_of_two()],
            unhashed_first,
            events: None,
        }
    }

    pub(super) fn num_free(&self) -> u32 {
        self.num_free
    }

    /// Distinct keys. Looks at every block.
    pub(super) fn num_keys(&self) -> u32 {
        let earliest = |&(at, block): &(u32, &Block)| block.key != NO_KEY && self.cached(block.key) == Some(at);
        (0..).zip(&self.blocks).filter(earliest).count() as u32
    }

    /// Key under which a block is cached, or [`NO_KEY`].
    pub(super) fn key(&self, block: u32) -> u64 {
        self.blocks[block as usize].key
    }

    fn bucket(&self, key: u64) -> usize {
        key as usize & (self.buckets.len() - 1)
    }

    /// The block that was cached first under a key, in use or free.
    pub(super) fn cached(&self, key: u64) -> Option<u32> {
        let (mut at, mut first) = (self.buckets[self.bucket(key)], None);
        while at != NULL_BLOCK {
            let block = &self.blocks[at as usize];
            first = if block.key == key { Some(at) } else { first };
            at = block.older;
        }
        first
    }

    /// Caches a block that is not cached yet.
    pub(super) fn cache(&mut self, key: u64, block: u32) {
        let bucket = self.bucket(key);
        let older = std::mem::replace(&mut self.buckets[bucket], block);
        let entry = &mut self.blocks[block as usize];
        debug_assert!(key != NO_KEY && entry.key == NO_KEY, "INV-3: block {block} is cached twice");
        (entry.key, entry.older) = (key, older);
        if let Some(events) = &mut self.events {
            events.push(CacheEvent::Stored(key));
        }
    }

    /// Takes a block out of the cache, if it is in it.
    fn forget(&mut self, block: u32) {
        let Block { key, older, .. } = self.blocks[block as usize];
        if key == NO_KEY {
            return;
        }
        self.blocks[block as usize].key = NO_KEY;
        if let Some(events) = &mut self.events {
            events.push(CacheEvent::Removed(key));
        }
        let bucket = self.bucket(key);
        let mut at = self.buckets[bucket];
        if at == block {
            self.buckets[bucket] = older;
            return;
        }
        while self.blocks[at as usize].older != block {
            at = self.blocks[at as usize].older;
        }
        self.blocks[at as usize].older = older;
    }

    pub(super) fn is_free(&self, block: u32) -> bool {
        block != NULL_BLOCK && self.blocks[block as usize].references == 0
    }

    /// Takes the next free block; its content leaves the cache. The caller has checked that one is free.
    pub(super) fn take(&mut self) -> u32 {
        let block = self.blocks[0].next;
        self.unlink(block);
        self.forget(block);
        self.blocks[block as usize].references = 1;
        block
    }

    /// One more request uses a cached block.
    pub(super) fn touch(&mut self, block: u32) {
        if block == NULL_BLOCK {
            return;
        }
        if self.blocks[block as usize].references == 0 {
            self.unlink(block);
        }
        self.blocks[block as usize].references += 1;
    }

    /// Gives blocks back, the first to be reused first. Null blocks are passed over.
    pub(super) fn release(&mut self, blocks: impl Iterator<Item = u32>) {
        let mut front = NULL_BLOCK;
        for block in blocks {
            if block == NULL_BLOCK {
                continue;
            }
            let entry = &mut self.blocks[block as usize];
            debug_assert!(entry.references > 0, "INV-3: block {block} is released twice");
            entry.references -= 1;
            if entry.references > 0 {
                continue;
            }
            if self.unhashed_first && entry.key == NO_KEY {
                self.link(front, block);
                front = block;
            } else {
                self.link(self.blocks[0].previous, block);
            }
        }
    }

    fn link(&mut self, previous: u32, block: u32) {
        let next = std::mem::replace(&mut self.blocks[previous as usize].next, block);
        self.blocks[next as usize].previous = block;
        self.blocks[block as usize].previous = previous;
        self.blocks[block as usize].next = next;
        self.num_free += 1;
    }

    fn unlink(&mut self, block: u32) {
        let Block { previous, next, .. } = self.blocks[block as usize];
        self.blocks[previous as usize].next = next;
        self.blocks[next as usize].previous = previous;
        self.num_free -= 1;
    }

    /// Free blocks in the order of their reuse.
    pub(super) fn free_blocks(&self) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(self.blocks[0].next), |&block| Some(self.blocks[block as usize].next))
            .take_while(|&block| block != NULL_BLOCK)
    }

    /// Blocks and how many requests use each, the null block left out.
    pub(super) fn references(&self) -> impl Iterator<Item = (u32, u32)> {
        (1..).zip(self.blocks[1..].iter().map(|block| block.references))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Take(u32),
        Cache(prop::sample::Index, u64),
        Touch(u64),
        Release(Vec<prop::sample::Index>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1u32..4).prop_map(Step::Take),
            (any::<prop::sample::Index>(), 1u64..20).prop_map(|(block, key)| Step::Cache(block, key)),
            (1u64..20).prop_map(Step::Touch),
            prop::collection::vec(any::<prop::sample::Index>(), 1..5).prop_map(Step::Release),
        ]
    }

    proptest! {
        /// INV-8: blocks are reused in the order in which they were given back (unhashed ones first, by rule). Against a
        /// plain list of free blocks.
        #[test]
        fn free_blocks_are_reused_in_order(
            unhashed_first: bool,
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut pool = BlockPool::new(12, unhashed_first);
            let mut free: VecDeque<u32> = (1..12).collect();
            let mut used: Vec<u32> = Vec::new();
            for step in steps {
                match step {
                    Step::Take(count) => for _ in 0..count.min(pool.num_free()) {
                        let block = pool.take();
                        prop_assert_eq!(free.pop_front(), Some(block));
                        used.push(block);
                    },
                    Step::Cache(block, key) => if !used.is_empty() && pool.key(*block.get(&used)) == NO_KEY {
                        pool.cache(key, *block.get(&used));
                    },
                    Step::Touch(key) => if let Some(block) = pool.cached(key) {
                        pool.touch(block);
                        free.retain(|&other| other != block);
                        used.push(block);
                    },
                    Step::Release(which) => {
                        let mut released = Vec::new();
                        for index in which {
                            if !used.is_empty() {
                                released.push(used.swap_remove(index.index(used.len())));
                            }
                        }
                        let mut front = Vec::new();
                        for (at, block) in released.iter().enumerate() {
                            if used.contains(block) || released[at + 1..].contains(block) {
                                continue;
                            }
                            if unhashed_first && pool.key(*block) == NO_KEY {
                                front.push(*block);
                            } else {
                                free.push_back(*block);
                            }
                        }
                        front.into_iter().rev().for_each(|block| free.push_front(block));
                        pool.release(released.into_iter());
                    }
                }
                prop_assert!(pool.free_blocks().eq(free.iter().copied()));
                prop_assert_eq!(pool.num_free() as usize, free.len());
            }
        }

        /// Against a map of lists. Few keys with equal low bits, so that chains are long.
        #[test]
        fn agrees_with_a_map_of_lists(steps in prop::collection::vec((1u32..33, 1u64..12), 0..300)) {
            let mut pool = BlockPool::new(33, false);
            let mut model: HashMap<u64, Vec<u32>> = HashMap::new();
            let mut held = [NO_KEY; 33];
            for (block, key) in steps {
                let key = (key << 40) | (key % 3);
                let old = std::mem::replace(&mut held[block as usize], NO_KEY);
                if old == NO_KEY {
                    pool.cache(key, block);
                    model.entry(key).or_default().push(block);
                    held[block as usize] = key;
                } else {
                    pool.forget(block);
                    let blocks = model.get_mut(&old).unwrap();
                    blocks.retain(|&other| other != block);
                    if blocks.is_empty() {
                        model.remove(&old);
                    }
                }
                prop_assert_eq!(pool.num_keys() as usize, model.len());
                for key in 1..12 {
                    let key = (key << 40) | (key % 3);
                    prop_assert_eq!(pool.cached(key), model.get(&key).map(|blocks| blocks[0]));
                }
            }
        }

    }
}
