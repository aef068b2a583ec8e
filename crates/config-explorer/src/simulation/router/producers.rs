//! What is cached where, for the request at hand.
//!
//! Rules: llm-d-router ebab687, `dataproducer/approximateprefix/plugin.go` and `dataproducer/preciseprefixcache`.

use std::collections::HashMap;

use super::endpoint::{PrefixMatch, Request, State};
use super::prefix::{ApproximateIndex, PreciseIndex};

/// Blocks below this size are raised to it (`minBlockSizeTokens`).
const MIN_BLOCK_SIZE_TOKENS: usize = 64;

/// A producer of prefix matches.
#[derive(Debug, Clone)]
pub enum PrefixProducer {
    /// Remembers what was sent where.
    Approximate(Approximate),
    /// Is told by the engines.
    Precise(Precise),
}

/// The hashes of the requests between being scored and being sent.
type Pending = HashMap<u64, (Vec<u64>, Vec<usize>)>;

/// The approximate producer.
#[derive(Debug, Clone)]
pub struct Approximate {
    auto_tune: bool,
    block_size_tokens: usize,
    max_blocks: usize,
    max_tokens: usize,
    capacity_blocks: usize,
    /// Blocks are at least this large.
    pub min_block_size_tokens: usize,
    index: ApproximateIndex,
    pending: Pending,
    matches: Vec<usize>,
    spare: (Vec<u64>, Vec<usize>),
}

impl Approximate {
    /// Capacity of an endpoint that neither its metrics nor the parameters tell.
    const DEFAULT_CAPACITY_BLOCKS: usize = 31_250;

    pub(super) fn new(
        auto_tune: bool,
        block_size_tokens: usize,
        max_blocks: usize,
        max_tokens: usize,
        capacity_blocks: usize,
    ) -> Self {
        Self {
            auto_tune,
            block_size_tokens,
            max_blocks,
            max_tokens,
            capacity_blocks,
            min_block_size_tokens: MIN_BLOCK_SIZE_TOKENS,
            index: ApproximateIndex::new(0),
            pending: HashMap::new(),
            matches: Vec::new(),
            spare: Default::default(),
        }
    }

    /// Tokens of a block: of the first candidate's metrics where they tell, else of the parameters.
    pub fn block_size_tokens(&self, first: Option<&State>) -> usize {
        let scraped = first.map_or(0, |state| state.metrics.cache_block_size_tokens);
        let size = if self.auto_tune && scraped > 0 { scraped } else { self.block_size_tokens };
        size.max(self.min_block_size_tokens)
    }

    fn max_blocks(&self, block_size_tokens: usize) -> usize {
        match (self.max_tokens, self.max_blocks) {
            (0, 0) => usize::MAX,
            (0, blocks) => blocks,
            (tokens, _) => tokens / block_size_tokens.max(1),
        }
    }

    /// Blocks that an endpoint is believed to keep: its GPU's count, though that counts smaller blocks.
    fn capacity(&self, state: &State) -> usize {
        match (state.metrics.cache_blocks, self.capacity_blocks) {
            (blocks, _) if self.auto_tune && blocks > 0 => blocks,
            (_, 0) => Self::DEFAULT_CAPACITY_BLOCKS,
            (_, blocks) => blocks,
        }
    }
}

/// The precise producer.
#[derive(Debug, Clone)]
pub struct Precise {
    block_size_tokens: usize,
    speculative_ttl_ms: Option<f64>,
    /// What engines have announced.
    pub index: PreciseIndex,
    pending: Pending,
    matches: Vec<usize>,
}

impl Precise {
    /// Tokens of a block.
    pub fn block_size_tokens(&self) -> usize {
        self.block_size_tokens
    }

    pub(super) fn new(block_size_tokens: usize, speculative_ttl_ms: Option<f64>) -> Self {
        let index = PreciseIndex::new(0);
        Self { block_size_tokens, speculative_ttl_ms, index, pending: HashMap::new(), matches: Vec::new() }
    }
}

impl PrefixProducer {
    /// Makes room for a number of endpoints and forgets everything.
    pub fn reset(&mut self, endpoints: usize) {
        match self {
            Self::Approximate(producer) => producer.index = ApproximateIndex::new(endpoints),
            Self::Precise(producer) => producer.index = PreciseIndex::new(endpoints),
        }
    }

    /// Forgets an endpoint.
    pub fn remove_endpoint(&mut self, endpoint: usize) {
        match self {
            Self::Approximate(producer) => producer.index.remove_endpoint(endpoint),
            Self::Precise(producer) => producer.index.remove_endpoint(endpoint),
        }
    }

    /// Writes what each candidate has cached of a request to its state, at the producer's place.
    pub fn produce(
        &mut self,
        request: &Request<'_>,
        states: &mut [State],
        candidates: &[usize],
        place: usize,
        now_ms: f64,
    ) {
        let first = candidates.first().and_then(|&at| states.get(at));
        let (block_size_tokens, max_blocks) = match self {
            Self::Approximate(producer) => {
                let size = producer.block_size_tokens(first);
                (size, producer.max_blocks(size))
            }
            Self::Precise(producer) => (producer.block_size_tokens, usize::MAX),
        };
        let (mut hashes, mut ends) = match self {
            Self::Approximate(producer) => std::mem::take(&mut producer.spare),
            Self::Precise(_) => Default::default(),
        };
        hashes.clear();
        ends.clear();
        request.prompt.block_hashes(request, block_size_tokens, max_blocks, &mut hashes, &mut ends);
        if let Self::Precise(_) = self {
            // Engines cache full blocks only.
            let full = (request.token_count.max(0) as usize) / block_size_tokens;
            if ends.len() == 1 && full < hashes.len() {
                hashes.truncate(full);
                ends = vec![full];
            }
        }
        let matches = match self {
            Self::Approximate(producer) => &mut producer.matches,
            Self::Precise(producer) => &mut producer.matches,
        };
        let mut counts = std::mem::take(matches);
        counts.clear();
        counts.resize(states.len(), 0);
        let mut start = 0;
        for &end in &ends {
            let chain = &hashes[start..end];
            match self {
                Self::Approximate(producer) => producer.index.count(chain, &mut counts),
                Self::Precise(producer) => producer.index.count(chain, now_ms, &mut counts),
            }
            start = end;
        }
        for &at in candidates {
            let found = PrefixMatch {
                match_blocks: counts[at] as f64,
                total_blocks: hashes.len(),
                block_size_tokens,
                cached_blocks: counts[at],
            };
            if let Some(slot) = states[at].prefix.get_mut(place) {
                *slot = Some(found);
            }
        }
        match self {
            Self::Approximate(producer) => producer.matches = counts,
            Self::Precise(producer) => producer.matches = counts,
        }
        self.pending().insert(request.id, (hashes, ends));
    }

    fn pending(&mut self) -> &mut Pending {
        match self {
            Self::Approximate(producer) => &mut producer.pending,
            Self::Precise(producer) => &mut producer.pending,
        }
    }

    /// A request was sent to endpoints.
    pub fn sent(&mut self, request: u64, endpoints: impl Iterator<Item = usize>, states: &[State], now_ms: f64) {
        let Some((hashes, ends)) = self.pending().remove(&request) else { return };
        for endpoint in endpoints {
            let mut start = 0;
            for &end in &ends {
                let chain = &hashes[start..end];
                match self {
                    Self::Approximate(producer) => {
                        let capacity = states.get(endpoint).map_or(0, |state| producer.capacity(state));
                        producer.index.add(endpoint, chain, capacity);
                    }
                    Self::Precise(producer) => {
                        if let Some(ttl_ms) = producer.speculative_ttl_ms {
                            producer.index.sent(endpoint, chain, now_ms, ttl_ms);
                        }
                    }
                }
                start = end;
            }
        }
        if let Self::Approximate(producer) = self {
            producer.spare = (hashes, ends);
        }
    }

    /// A request was turned away.
    pub fn dropped(&mut self, request: u64) {
        self.pending().remove(&request);
    }
}
