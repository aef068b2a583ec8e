//! How many requests and tokens the router has sent to each endpoint and not seen finished.
//!
//! Rules: llm-d-router ebab687, `pkg/epp/framework/plugins/requestcontrol/dataproducer/inflightload`.

use std::collections::HashMap;

use super::endpoint::{InFlight, PrefixMatch, Request};

#[derive(Debug, Clone, Copy)]
struct Entry {
    endpoint: usize,
    load: InFlight,
    prefill: bool,
}

/// The producer of the load in flight.
#[derive(Debug, Clone)]
pub struct InFlightLoad {
    /// Adds the output that is expected to the tokens of a request, and keeps them until its end.
    pub add_output: bool,
    /// Output tokens expected for a prompt token.
    pub output_ratio: f64,
    /// Most output tokens expected.
    pub max_output_tokens: Option<i64>,
    /// Place of the prefix producer.
    pub producer: usize,
    entries: HashMap<u64, Vec<Entry>>,
}

impl InFlightLoad {
    /// Nothing in flight.
    pub fn new(add_output: bool, output_ratio: f64, max_output_tokens: Option<i64>) -> Self {
        Self { add_output, output_ratio, max_output_tokens, producer: 0, entries: HashMap::new() }
    }

    /// Output tokens expected of a request.
    pub fn output_tokens(&self, request: &Request<'_>) -> i64 {
        let expected = (request.token_count.max(0) as f64 * self.output_ratio) as i64;
        let limits = [self.max_output_tokens, request.max_output_tokens.filter(|&limit| limit >= 0)];
        limits.into_iter().flatten().fold(expected, i64::min)
    }

    /// Tokens that an endpoint has to work on for a request.
    pub fn tokens(&self, request: &Request<'_>, found: Option<&PrefixMatch>) -> i64 {
        let output = if self.add_output { self.output_tokens(request) } else { 0 };
        uncached_tokens(request.token_count, found) + output
    }

    /// A request was sent to an endpoint for a profile. Returns the load to add there.
    pub fn sent(
        &mut self,
        request: &Request<'_>,
        endpoint: usize,
        found: Option<&PrefixMatch>,
        prefill: bool,
    ) -> InFlight {
        let load = InFlight { requests: 1, tokens: self.tokens(request, found) };
        self.entries.entry(request.id).or_default().push(Entry { endpoint, load, prefill });
        load
    }

    /// A request's answer starts or ends. Calls `release` with each endpoint and the load to take from it: at the start all
    /// of prefill and, unless output is counted, the tokens of the others; at the end the rest.
    pub fn answered(&mut self, request: u64, ended: bool, mut release: impl FnMut(usize, InFlight)) {
        let Some(entries) = self.entries.get_mut(&request) else { return };
        for Entry { endpoint, load, prefill } in entries {
            let requests = if ended || *prefill { load.requests } else { 0 };
            let tokens = if ended || *prefill || !self.add_output { load.tokens } else { 0 };
            load.requests -= requests;
            load.tokens -= tokens;
            release(*endpoint, InFlight { requests, tokens });
        }
        if ended {
            self.entries.remove(&request);
        }
    }
}

/// Tokens of a prompt that are not cached: whole blocks, so a cold prompt of 100 tokens counts 128 with blocks of 64, and
/// what lies beyond the blocks that were looked up.
pub fn uncached_tokens(tokens: i64, found: Option<&PrefixMatch>) -> i64 {
    let Some(found) = found else { return tokens };
    let block = found.block_size_tokens as i64;
    let missing = (found.total_blocks as f64 - found.match_blocks).max(0.0) * block as f64;
    missing as i64 + (tokens - found.total_blocks as i64 * block).max(0)
}

/// Tokens of a text, as the router estimates them without a tokenizer: a quarter of its bytes, rounded up.
pub fn estimated_tokens(bytes: usize) -> usize {
    bytes.div_ceil(4)
}
