//! What the router knows of an endpoint and of a request.

use std::collections::BTreeMap;

use super::prefix::block_hashes;

/// The label that holds an endpoint's role (`prefill`, `decode`, …).
pub const ROLE_LABEL: &str = "llm-d.ai/role";

/// An endpoint as it was deployed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Endpoint {
    /// Name of the pod.
    pub name: String,
    /// Its namespace; may be empty.
    pub namespace: String,
    /// `host:port`, which the headers of disaggregation carry.
    pub address: String,
    /// Labels of the pod.
    pub labels: BTreeMap<String, String>,
}

impl Endpoint {
    /// `namespace/name`, as Kubernetes writes it; without a namespace it starts with the slash.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// The metrics of one endpoint as they were last scraped. Never scraped, all are zero, which counts as idle.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// Requests in the engine's waiting queue.
    pub waiting: u64,
    /// Requests that run in the engine.
    pub running: u64,
    /// Used part of the KV cache, 0 to 1.
    pub kv_usage: f64,
    /// `LoRA` adapters that are loaded.
    pub active_models: Vec<String>,
    /// `LoRA` adapters that requests wait for.
    pub waiting_models: Vec<String>,
    /// Most adapters that can be loaded at once.
    pub max_active_models: u64,
    /// Tokens of a KV block; 0 where unknown.
    pub cache_block_size_tokens: usize,
    /// KV blocks of the engine; 0 where unknown.
    pub cache_blocks: usize,
    /// When they were scraped, in ms on the clock of [`View::now_ms`]; `None` if never.
    pub scraped_at_ms: Option<f64>,
}

impl Metrics {
    /// Takes over one scrape. A missing metric keeps its old value, but the age of all is reset.
    pub fn scrape(&mut self, waiting: Option<f64>, running: Option<f64>, kv_usage: Option<f64>, now_ms: f64) {
        // Gauges are floating point numbers; the router cuts off their fraction.
        self.waiting = waiting.map_or(self.waiting, |value| value as u64);
        self.running = running.map_or(self.running, |value| value as u64);
        self.kv_usage = kv_usage.unwrap_or(self.kv_usage);
        self.scraped_at_ms = Some(now_ms);
    }
}

/// What the router itself has sent to an endpoint and not seen finished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Requests.
    pub requests: i64,
    /// Tokens.
    pub tokens: i64,
}

/// How much of a prompt an endpoint is believed to have cached.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PrefixMatch {
    /// Blocks that match, weighted by the tier that holds them.
    pub match_blocks: f64,
    /// Blocks of the prompt.
    pub total_blocks: usize,
    /// Tokens of a block.
    pub block_size_tokens: usize,
    /// Blocks that match, each counted as one.
    pub cached_blocks: usize,
}

impl PrefixMatch {
    /// The matching part of the prompt, 0 to 1.
    pub fn ratio(&self) -> f64 {
        if self.total_blocks == 0 { 0.0 } else { self.match_blocks / self.total_blocks as f64 }
    }
}

/// The latency that a predictor foresees on one endpoint. All times in ms.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LatencyPrediction {
    /// TTFT meets its objective.
    pub ttft_valid: bool,
    /// TPOT meets its objective.
    pub tpot_valid: bool,
    /// Objective minus prediction of TTFT.
    pub ttft_headroom_ms: f64,
    /// Objective minus prediction of TPOT.
    pub tpot_headroom_ms: f64,
    /// Predicted TTFT.
    pub ttft_ms: f64,
    /// Predicted TPOT.
    pub tpot_ms: f64,
    /// Requests that run there.
    pub dispatched: u64,
}

/// All that scorers and filters read of an endpoint.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// As last scraped.
    pub metrics: Metrics,
    /// As counted by the router.
    pub in_flight: InFlight,
    /// Tokens of the request at hand that the endpoint would have to compute.
    pub uncached_request_tokens: i64,
    /// What each prefix producer says of the request at hand, by the producer's place; `None` where it says nothing.
    pub prefix: Vec<Option<PrefixMatch>>,
    /// What the latency predictor says of the request at hand.
    pub latency: Option<LatencyPrediction>,
}

impl State {
    /// What the prefix producer at a place says.
    pub fn prefix(&self, place: usize) -> Option<&PrefixMatch> {
        self.prefix.get(place)?.as_ref()
    }
}

/// All endpoints at one moment; a candidate is an index into both lists.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The endpoints.
    pub endpoints: &'a [Endpoint],
    /// Their states, in the same order.
    pub states: &'a [State],
    /// The time in ms.
    pub now_ms: f64,
}

/// A prompt, as far as the router reads it.
pub trait Prompt {
    /// Appends the chained hashes of the blocks of one prompt after the other, the last block of each possibly partial,
    /// at most `max_blocks` in all, and to `ends` the length of `hashes` after each prompt.
    fn block_hashes(
        &self,
        request: &Request<'_>,
        block_size_tokens: usize,
        max_blocks: usize,
        hashes: &mut Vec<u64>,
        ends: &mut Vec<usize>,
    );
}

/// Prompts as lists of token ids.
impl Prompt for &[Vec<u32>] {
    fn block_hashes(
        &self,
        request: &Request<'_>,
        block_size_tokens: usize,
        max_blocks: usize,
        hashes: &mut Vec<u64>,
        ends: &mut Vec<usize>,
    ) {
        let start = hashes.len();
        for tokens in *self {
            let left = max_blocks.saturating_sub(hashes.len() - start);
            block_hashes(request.model, request.cache_salt, tokens, block_size_tokens, left, hashes);
            ends.push(hashes.len());
        }
    }
}

/// A request as the router sees it.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Distinguishes requests; the key of all chance.
    pub id: u64,
    /// Name of the model or adapter.
    pub model: &'a str,
    /// Isolates the prefix cache of tenants.
    pub cache_salt: &'a str,
    /// Headers, names in lower case.
    pub headers: &'a [(String, String)],
    /// Tokens of all its prompts.
    pub token_count: i64,
    /// The content to hash.
    pub prompt: &'a dyn Prompt,
    /// Has images, audio or video.
    pub multimodal: bool,
    /// Higher is served first; below 0 it may be shed.
    pub priority: i64,
    /// The client's limit of output tokens.
    pub max_output_tokens: Option<i64>,
}

impl Request<'_> {
    /// A request of nothing.
    pub const EMPTY: Request<'static> = Request {
        id: 0,
        model: "",
        cache_salt: "",
        headers: &[],
        token_count: 0,
        prompt: &NO_PROMPT,
        multimodal: false,
        priority: 0,
        max_output_tokens: None,
    };

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

const NO_PROMPT: &[Vec<u32>] = &[];
