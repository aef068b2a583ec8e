//! Which endpoint is believed to hold which blocks of prompts.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh64::xxh64;

use super::lru::Lru;

/// Block hashes are mixed already.
#[derive(Debug, Default, Clone)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh64(bytes, self.0);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

type ByHash = BuildHasherDefault<Identity>;

/// Token ids in blocks; the last one may be shorter.
pub fn split_blocks(tokens: &[u32], block_size_tokens: usize) -> impl Iterator<Item = &[u32]> {
    tokens.chunks(block_size_tokens.max(1))
}

/// Appends the hash of each block of a prompt, at most `max_blocks`, to `hashes`.
///
/// The chain starts at xxh64(model + salt); a block's hash is xxh64 over xxh64(its token ids as little-endian u32) and
/// the hash before it (llm-d-router ebab687, `dataproducer/prefixhash/hashing.go`).
pub fn block_hashes(
    model: &str,
    cache_salt: &str,
    tokens: &[u32],
    block_size_tokens: usize,
    max_blocks: usize,
    hashes: &mut Vec<u64>,
) {
    let mut previous = xxh64([model, cache_salt].concat().as_bytes(), 0);
    let mut bytes = Vec::with_capacity(4 * block_size_tokens.min(tokens.len()));
    for block in split_blocks(tokens, block_size_tokens).take(max_blocks) {
        bytes.clear();
        bytes.extend(block.iter().flat_map(|token| token.to_le_bytes()));
        let mut link = [0; 16];
        link[..8].copy_from_slice(&xxh64(&bytes, 0).to_le_bytes());
        link[8..].copy_from_slice(&previous.to_le_bytes());
        previous = xxh64(&link, 0);
        hashes.push(previous);
    }
}

/// Sets of endpoints by block hash: one table with a row of bits each.
#[derive(Debug, Clone, Default)]
struct Holders {
    rows: HashMap<u64, u32, ByHash>,
    bits: Vec<u64>,
    free: Vec<u32>,
    words: usize,
}

impl Holders {
    fn new(endpoints: usize) -> Self {
        Self { words: endpoints.div_ceil(64).max(1), ..Self::default() }
    }

    fn get(&self, hash: u64) -> &[u64] {
        match self.rows.get(&hash) {
            Some(&row) => &self.bits[row as usize * self.words..][..self.words],
            None => &[],
        }
    }

    fn insert(&mut self, hash: u64, endpoint: usize) {
        let (bits, free, words) = (&mut self.bits, &mut self.free, self.words);
        let row = *self.rows.entry(hash).or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                bits.resize(bits.len() + words, 0);
                (bits.len() / words - 1) as u32
            })
        });
        self.bits[row as usize * self.words + endpoint / 64] |= 1 << (endpoint % 64);
    }

    fn remove(&mut self, hash: u64, endpoint: usize) {
        let Some(&row) = self.rows.get(&hash) else { return };
        let bits = &mut self.bits[row as usize * self.words..][..self.words];
        bits[endpoint / 64] &= !(1 << (endpoint % 64));
        if bits.iter().all(|&word| word == 0) {
            self.rows.remove(&hash);
            self.free.push(row);
        }
    }

    /// Adds to `matches` how many blocks of a chain each endpoint holds, up to the first block that nobody holds. An
    /// endpoint with a hole in its chain is credited for later blocks as long as another one fills the hole.
    fn count(&self, chain: &[u64], matches: &mut [usize]) {
        for &hash in chain {
            let row = self.get(hash);
            if row.is_empty() {
                return;
            }
            for (word, &bits) in row.iter().enumerate() {
                let mut bits = bits;
                while bits != 0 {
                    if let Some(count) = matches.get_mut(word * 64 + bits.trailing_zeros() as usize) {
                        *count += 1;
                    }
                    bits &= bits - 1;
                }
            }
        }
    }

    fn remove_endpoint(&mut self, endpoint: usize) {
        let held = |hash: &&u64| self.get(**hash)[endpoint / 64] & 1 << (endpoint % 64) != 0;
        let hashes: Vec<u64> = self.rows.keys().filter(held).copied().collect();
        hashes.into_iter().for_each(|hash| self.remove(hash, endpoint));
    }
}

/// The approximate index: blocks of the prompts that the router has sent to an endpoint, the last used of them.
///
/// Never told what an engine drops. As in the router, all blocks of a prompt enter the table after the list has dropped
/// what exceeds its capacity, so the head of a chain longer than the capacity stays a false hit for ever
/// (llm-d-router ebab687, `dataproducer/approximateprefix/indexer.go`).
#[derive(Debug, Clone)]
pub struct ApproximateIndex {
    holders: Holders,
    recent: Vec<Lru<u64, ByHash>>,
}

impl ApproximateIndex {
    /// An empty index for a number of endpoints.
    pub fn new(endpoints: usize) -> Self {
        Self { holders: Holders::new(endpoints), recent: (0..endpoints).map(|_| Lru::new()).collect() }
    }

    /// Records a chain of blocks sent to an endpoint that keeps `capacity` blocks.
    pub fn add(&mut self, endpoint: usize, chain: &[u64], capacity: usize) {
        let Some(recent) = self.recent.get_mut(endpoint) else { return };
        for &hash in chain {
            if let Some(dropped) = recent.touch(hash, capacity) {
                self.holders.remove(dropped, endpoint);
            }
        }
        chain.iter().for_each(|&hash| self.holders.insert(hash, endpoint));
    }

    /// The endpoints that hold a block, in ascending order.
    pub fn get(&self, hash: u64) -> impl Iterator<Item = usize> {
        let row = self.holders.get(hash);
        (0..row.len() * 64).filter(move |&endpoint| row[endpoint / 64] & 1 << (endpoint % 64) != 0)
    }

    /// The number of blocks in an endpoint's list.
    pub fn len(&self, endpoint: usize) -> usize {
        self.recent.get(endpoint).map_or(0, Lru::len)
    }

    /// Nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.recent.iter().all(|recent| recent.len() == 0)
    }

    /// Forgets an endpoint.
    pub fn remove_endpoint(&mut self, endpoint: usize) {
        if let Some(recent) = self.recent.get_mut(endpoint) {
            *recent = Lru::new();
            self.holders.remove_endpoint(endpoint);
        }
    }

    /// Adds to `matches`, one place an endpoint, how many blocks of a chain each holds.
    pub fn count(&self, chain: &[u64], matches: &mut [usize]) {
        self.holders.count(chain, matches);
    }
}

/// The precise index: what engines announce that they have cached and dropped, plus what was just sent to them and will
/// be cached soon (speculative entries).
#[derive(Debug, Clone)]
pub struct PreciseIndex {
    announced: Holders,
    speculative: HashMap<(u64, usize), f64>,
    expiring: VecDeque<(f64, u64, usize)>,
}

impl PreciseIndex {
    /// An empty index for a number of endpoints.
    pub fn new(endpoints: usize) -> Self {
        Self { announced: Holders::new(endpoints), speculative: HashMap::new(), expiring: VecDeque::new() }
    }

    /// An engine has cached a block.
    pub fn stored(&mut self, endpoint: usize, hash: u64) {
        if endpoint / 64 < self.announced.words {
            self.announced.insert(hash, endpoint);
        }
    }

    /// An engine has dropped a block.
    pub fn removed(&mut self, endpoint: usize, hash: u64) {
        if endpoint / 64 < self.announced.words {
            self.announced.remove(hash, endpoint);
        }
    }

    /// An engine was started anew.
    pub fn remove_endpoint(&mut self, endpoint: usize) {
        if endpoint / 64 < self.announced.words {
            self.announced.remove_endpoint(endpoint);
        }
        self.speculative.retain(|&(_, holder), _| holder != endpoint);
    }

    /// A chain was sent to an endpoint at a time; until `now_ms + ttl_ms` it counts as cached there.
    pub fn sent(&mut self, endpoint: usize, chain: &[u64], now_ms: f64, ttl_ms: f64) {
        for &hash in chain {
            self.speculative.insert((hash, endpoint), now_ms + ttl_ms);
            self.expiring.push_back((now_ms + ttl_ms, hash, endpoint));
        }
    }

    /// Adds to `matches`, one place an endpoint, the length of the start of a chain that each holds without a hole.
    pub fn count(&mut self, chain: &[u64], now_ms: f64, matches: &mut [usize]) {
        while let Some(&(end, hash, endpoint)) = self.expiring.front().filter(|(end, ..)| *end <= now_ms) {
            self.expiring.pop_front();
            // A later use has prolonged the entry.
            if self.speculative.get(&(hash, endpoint)) == Some(&end) {
                self.speculative.remove(&(hash, endpoint));
            }
        }
        for (endpoint, count) in matches.iter_mut().enumerate() {
            let holds = |hash: u64| {
                let announced = self.announced.get(hash).get(endpoint / 64).copied().unwrap_or_default();
                announced & 1 << (endpoint % 64) != 0 || self.speculative.contains_key(&(hash, endpoint))
            };
            *count += chain.iter().take_while(|&&hash| holds(hash)).count();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_that_another_endpoint_fills_is_credited() {
        let mut index = ApproximateIndex::new(70);
        index.add(0, &[1, 2, 3], 10);
        index.add(69, &[1], 10);
        index.add(69, &[3], 10);
        let mut matches = vec![0; 70];
        index.count(&[1, 2, 3, 4, 1], &mut matches);
        assert_eq!((matches[0], matches[69]), (3, 2));
        index.remove_endpoint(0);
        assert_eq!(index.get(2).count(), 0);
        assert_eq!(index.get(3).collect::<Vec<_>>(), [69]);
    }

    #[test]
    fn a_precise_match_ends_at_a_hole_and_speculation_ends_in_time() {
        let mut index = PreciseIndex::new(2);
        index.stored(0, 1);
        index.stored(0, 3);
        index.sent(1, &[1, 2], 0.0, 2000.0);
        let mut matches = [0, 0];
        index.count(&[1, 2, 3], 1999.0, &mut matches);
        assert_eq!(matches, [1, 2]);
        index.removed(0, 1);
        matches = [0, 0];
        index.count(&[1, 2, 3], 2000.0, &mut matches);
        assert_eq!(matches, [0, 0]);
    }
}
