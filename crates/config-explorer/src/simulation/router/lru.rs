//! A list of keys in the order of their last use, with a limit.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone)]
struct Node<K> {
    key: K,
    older: u32,
    newer: u32,
}

/// Keys by last use. Touching and dropping are O(1); nodes are linked by index, so nothing is allocated per key.
#[derive(Debug, Clone)]
pub(super) struct Lru<K, S> {
    places: HashMap<K, u32, S>,
    nodes: Vec<Node<K>>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
}

impl<K: Copy + Eq + Hash, S: BuildHasher + Default> Lru<K, S> {
    pub(super) fn new() -> Self {
        Self { places: HashMap::default(), nodes: Vec::new(), free: Vec::new(), oldest: NONE, newest: NONE }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Makes a key the last used one. Returns the key that had to go, if there are more than `capacity` now.
    pub(super) fn touch(&mut self, key: K, capacity: usize) -> Option<K> {
        if let Some(&place) = self.places.get(&key) {
            self.unlink(place);
            self.append(place);
            return None;
        }
        let node = Node { key, older: NONE, newer: NONE };
        let place = match self.free.pop() {
            Some(place) => {
                self.nodes[place as usize] = node;
                place
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        self.places.insert(key, place);
        self.append(place);
        (self.len() > capacity).then(|| self.drop_oldest()).flatten()
    }

    /// Keys, the one unused for longest first.
    pub(super) fn oldest_first(&self) -> impl Iterator<Item = K> {
        let mut at = self.oldest;
        std::iter::from_fn(move || {
            let node = self.nodes.get(at as usize)?;
            at = node.newer;
            Some(node.key)
        })
    }

    fn drop_oldest(&mut self) -> Option<K> {
        let place = self.oldest;
        let key = self.nodes.get(place as usize)?.key;
        self.unlink(place);
        self.places.remove(&key);
        self.free.push(place);
        Some(key)
    }

    fn unlink(&mut self, place: u32) {
        let Node { older, newer, .. } = self.nodes[place as usize];
        match self.nodes.get_mut(older as usize) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
        match self.nodes.get_mut(newer as usize) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
    }

    fn append(&mut self, place: u32) {
        let older = self.newest;
        match self.nodes.get_mut(older as usize) {
            Some(node) => node.newer = place,
            None => self.oldest = place,
        }
        let node = &mut self.nodes[place as usize];
        (node.older, node.newer) = (older, NONE);
        self.newest = place;
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// As a plain list does it.
        #[test]
        fn is_a_list(keys in prop::collection::vec(0_u8..12, 0..200), capacity in 1_usize..8) {
            let (mut lru, mut list) = (Lru::<u8, RandomState>::new(), Vec::new());
            for key in keys {
                let dropped = lru.touch(key, capacity);
                list.retain(|&other| other != key);
                list.push(key);
                prop_assert_eq!(dropped, (list.len() > capacity).then(|| list.remove(0)));
                prop_assert_eq!(lru.oldest_first().collect::<Vec<_>>(), list.clone());
            }
        }
    }
}
