//! The prefix-cache table: key of a block's content -> the blocks that hold it, earliest first.
//!
//! Open addressing, linear probing, deletion by shifting back. A slot is 8 bytes: a block and the low half of its key,
//! so that probing hardly ever looks at the nodes of other blocks. Blocks of equal content form a ring; the table points
//! at the earliest.

/// Key of a block that holds no cached content.
pub(super) const NO_KEY: u64 = 0;
const EMPTY: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Node {
    key: u64,
    previous: u32,
    next: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Slot {
    /// Low half of the key.
    tag: u32,
    block: u32,
}

#[derive(Debug, Clone)]
pub(super) struct PrefixIndex {
    slots: Vec<Slot>,
    nodes: Vec<Node>,
    len: u32,
}

/// Equal content; where entries lie in the table depends on its history.
impl PartialEq for PrefixIndex {
    fn eq(&self, other: &Self) -> bool {
        self.nodes == other.nodes && self.nodes.iter().all(|node| self.get(node.key) == other.get(node.key))
    }
}

impl PrefixIndex {
    /// For `num_blocks` blocks. At most every second slot is taken.
    pub(super) fn new(num_blocks: u32) -> Self {
        Self {
            slots: vec![Slot { tag: 0, block: EMPTY }; (num_blocks as usize * 2).next_power_of_two()],
            nodes: vec![Node { key: NO_KEY, previous: EMPTY, next: EMPTY }; num_blocks as usize],
            len: 0,
        }
    }

    /// Distinct keys.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Key under which a block is held, or [`NO_KEY`].
    pub(super) fn key(&self, block: u32) -> u64 {
        self.nodes[block as usize].key
    }

    /// The earliest block with this key.
    pub(super) fn get(&self, key: u64) -> Option<u32> {
        let block = self.slots[self.slot(key)].block;
        (block != EMPTY).then_some(block)
    }

    /// Adds a block that is not held yet.
    pub(super) fn insert(&mut self, key: u64, block: u32) {
        debug_assert!(key != NO_KEY && self.key(block) == NO_KEY);
        let slot = self.slot(key);
        let first = self.slots[slot].block;
        if first == EMPTY {
            self.slots[slot] = Slot { tag: key as u32, block };
            self.nodes[block as usize] = Node { key, previous: block, next: block };
            self.len += 1;
        } else {
            let last = self.nodes[first as usize].previous;
            self.nodes[block as usize] = Node { key, previous: last, next: first };
            self.nodes[last as usize].next = block;
            self.nodes[first as usize].previous = block;
        }
    }

    /// Removes a block that is held.
    pub(super) fn remove(&mut self, block: u32) {
        let Node { key, previous, next } = self.nodes[block as usize];
        debug_assert!(key != NO_KEY);
        let slot = self.slot(key);
        self.nodes[block as usize] = Node { key: NO_KEY, previous: EMPTY, next: EMPTY };
        if next == block {
            self.empty_slot(slot);
            self.len -= 1;
            return;
        }
        self.nodes[previous as usize].next = next;
        self.nodes[next as usize].previous = previous;
        if self.slots[slot].block == block {
            self.slots[slot].block = next;
        }
    }

    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.slots.len() - 1)
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }

    /// The slot that holds `key`, or the empty one where it belongs.
    fn slot(&self, key: u64) -> usize {
        let tag = key as u32;
        let mut slot = self.home(tag);
        loop {
            let Slot { tag: other, block } = self.slots[slot];
            if block == EMPTY || (other == tag && self.key(block) == key) {
                return slot;
            }
            slot = self.after(slot);
        }
    }

    /// Empties a slot and moves later entries back so that no probe ends early.
    fn empty_slot(&mut self, mut empty: usize) {
        let mask = self.slots.len() - 1;
        let mut slot = self.after(empty);
        while self.slots[slot].block != EMPTY {
            // The entry may move if its home is not between the empty slot and its own.
            let moved = slot.wrapping_sub(self.home(self.slots[slot].tag)) & mask;
            if moved >= slot.wrapping_sub(empty) & mask {
                self.slots[empty] = self.slots[slot];
                empty = slot;
            }
            slot = self.after(slot);
        }
        self.slots[empty].block = EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a map of lists. Few keys with equal low bits, so that rings and probe chains are long.
        #[test]
        fn agrees_with_a_map_of_lists(steps in prop::collection::vec((0u32..32, 1u64..12), 0..300)) {
            let mut index = PrefixIndex::new(32);
            let mut model: HashMap<u64, Vec<u32>> = HashMap::new();
            let mut held = [NO_KEY; 32];
            for (block, key) in steps {
                let key = (key << 40) | (key % 3);
                let old = std::mem::replace(&mut held[block as usize], NO_KEY);
                if old == NO_KEY {
                    index.insert(key, block);
                    model.entry(key).or_default().push(block);
                    held[block as usize] = key;
                } else {
                    index.remove(block);
                    let blocks = model.get_mut(&old).unwrap();
                    blocks.retain(|&other| other != block);
                    if blocks.is_empty() {
                        model.remove(&old);
                    }
                }
                prop_assert_eq!(index.len() as usize, model.len());
                for key in 1..12 {
                    let key = (key << 40) | (key % 3);
                    prop_assert_eq!(index.get(key), model.get(&key).map(|blocks| blocks[0]));
                }
            }
        }
    }
}
