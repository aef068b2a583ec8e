//! Who gets a request: llm-d's router with its flow control, or a plain proxy.

use super::config::{EngineRole, Routing};
use super::requests::{Live, LiveId};
use crate::Result;
use crate::simulation::NS_PER_MS;
use crate::simulation::engine::{CacheEvent, Content};
use crate::simulation::random::{Draws, Purpose};
use crate::simulation::router::{
    Detector, Endpoint, FlowControl, FlowControlConfig, Item, Metrics, Prompt, QueueOutcome, Refusal, Request, Router,
    RouterConfig, View, admits_without_flow_control, partition, pool_saturation,
};

/// The replicas of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    /// Which one answers.
    pub(super) decode: u32,
    /// Which one computes the prompt before.
    pub(super) prefill: Option<u32>,
}

/// What the gateway says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Sent(Choice),
    /// It waits.
    Queued,
    /// HTTP 429.
    Overload,
    /// HTTP 503.
    Unavailable,
}

impl Verdict {
    fn of(outcome: QueueOutcome, no_endpoints: bool) -> Self {
        match outcome.status(no_endpoints) {
            Some((_, 429)) => Self::Overload,
            _ => Self::Unavailable,
        }
    }
}

/// What a replica tells when it is scraped.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Scrape {
    pub(super) waiting: u32,
    pub(super) running: u32,
    /// Used part of the KV cache, 0 to 1.
    pub(super) kv_usage: f64,
    pub(super) block_size: u32,
    pub(super) blocks: u32,
}

#[expect(clippy::large_enum_variant, reason = "there is one in a simulation")]
enum Policy {
    Router(Routed),
    Proxy(Proxy),
}

pub(super) struct Gateway {
    policy: Policy,
    /// Replicas that can be chosen: those that answer, and those that only compute prompts for them.
    pools: [Vec<u32>; 2],
    roles: Vec<EngineRole>,
}

/// A proxy that knows nothing about prompts and metrics. What it keeps, it keeps for each pool.
enum Proxy {
    RoundRobin { turns: [usize; 2] },
    LeastRequests { in_flight: Vec<u32> },
    Random { draws: Box<[Draws; 2]> },
}

impl Proxy {
    fn pick(&mut self, pool: usize, candidates: &[u32], live: &Live) -> Option<u32> {
        let count = candidates.len();
        let at = match self {
            _ if count == 0 => return None,
            Self::RoundRobin { turns } => {
                turns[pool] += 1;
                (turns[pool] - 1) % count
            }
            Self::Random { draws } => {
                let draw = draws[pool].uniforms(u64::from(live.request))[usize::from(live.retried)];
                (draw * count as f64) as usize
            }
            Self::LeastRequests { in_flight } => {
                let least = (0..count).min_by_key(|&at| in_flight[candidates[at] as usize])?;
                in_flight[candidates[least] as usize] += 1;
                least
            }
        };
        candidates.get(at).copied()
    }
}

/// llm-d's router and what surrounds it.
struct Routed {
    router: Router,
    detector: Option<Detector>,
    /// The endpoints that can be chosen, by stage.
    parts: [Vec<usize>; 3],
    flow_control: Option<FlowControl>,
    ttl_ms: f64,
    next_expiry_ms: f64,
    /// It has a precise index.
    is_precise: bool,
    /// Tokens of the engines' blocks.
    unit: u32,
}

/// A prompt as the router hashes it.
struct Prefix<'a> {
    content: &'a Content,
    unit: u32,
}

impl Prompt for Prefix<'_> {
    fn block_hashes(
        &self,
        _: &Request<'_>,
        block_size_tokens: usize,
        max_blocks: usize,
        hashes: &mut Vec<u64>,
        ends: &mut Vec<usize>,
    ) {
        let block = u32::try_from(block_size_tokens).unwrap_or(u32::MAX).max(1);
        self.content.prompt_keys(block, self.unit, max_blocks, hashes);
        ends.push(hashes.len());
    }
}

impl Routed {
    fn new(config: &RouterConfig, endpoints: Vec<Endpoint>, unit: u32, seed: u64) -> Result<Self> {
        let mut router = Router::new(config, endpoints, seed)?;
        let flow_control = config.flow_control_settings();
        let is_precise = router.precise_indexes_mut().next().is_some();
        Ok(Self {
            detector: config.detector().copied(),
            parts: partition(router.endpoints()),
            ttl_ms: flow_control.as_ref().map_or(0.0, |settings| settings.wait.default_ms),
            next_expiry_ms: 0.0,
            flow_control: flow_control.map(FlowControl::new),
            is_precise,
            router,
            unit,
        })
    }

    fn saturation(&self, now_ms: f64) -> f64 {
        let view = View { endpoints: self.router.endpoints(), states: self.router.states(), now_ms };
        self.detector.as_ref().map_or(0.0, |detector| pool_saturation(detector, &self.parts, view))
    }

    fn choose(&mut self, live: &Live, now_ms: f64) -> Verdict {
        let prompt = Prefix { content: &live.content, unit: self.unit };
        let request = Request {
            id: u64::from(live.request),
            token_count: i64::from(live.input),
            prompt: &prompt,
            priority: priority(live),
            max_output_tokens: Some(i64::from(live.output)),
            ..Request::EMPTY
        };
        match self.router.schedule(&request, now_ms) {
            Ok(decision) => {
                let decode = decision.decode[0] as u32;
                let prefill = decision.prefill.first().map(|&at| at as u32).filter(|&at| at != decode);
                Verdict::Sent(Choice { decode, prefill })
            }
            Err(Refusal::NotAdmitted) => Verdict::Overload,
            Err(Refusal::NoEndpoint) => Verdict::Unavailable,
        }
    }
}

/// The router serves the highest number first, vLLM the lowest.
fn priority(live: &Live) -> i64 {
    -i64::from(live.priority)
}

/// Flow of every request.
const FLOW: &str = "";

impl Gateway {
    /// `endpoints` and `roles` are those of all replicas; all are known at first. `unit` is the size of the engines' KV
    /// blocks in tokens.
    pub(super) fn new(
        routing: &Routing,
        endpoints: Vec<Endpoint>,
        roles: Vec<EngineRole>,
        unit: u32,
        seed: u64,
    ) -> Result<Self> {
        let policy = match routing {
            Routing::Router(config) => Policy::Router(Routed::new(config, endpoints, unit, seed)?),
            Routing::RoundRobin => Policy::Proxy(Proxy::RoundRobin { turns: [0, 0] }),
            Routing::LeastRequests => Policy::Proxy(Proxy::LeastRequests { in_flight: vec![0; roles.len()] }),
            Routing::Random => {
                let draws = [Purpose::Decode, Purpose::Prefill].map(|purpose| Draws::new(seed, purpose));
                Policy::Proxy(Proxy::Random { draws: Box::new(draws) })
            }
        };
        let mut gateway = Self { policy, pools: Default::default(), roles };
        for replica in 0..gateway.roles.len() {
            gateway.pools[gateway.pool(replica)].push(replica as u32);
        }
        Ok(gateway)
    }

    fn pool(&self, replica: usize) -> usize {
        usize::from(self.roles[replica] == EngineRole::Prefill)
    }

    fn routed(&mut self) -> Option<&mut Routed> {
        match &mut self.policy {
            Policy::Router(routed) => Some(routed),
            Policy::Proxy(_) => None,
        }
    }

    /// Reads the metrics of the replicas.
    pub(super) fn scrapes(&self) -> bool {
        matches!(self.policy, Policy::Router(_))
    }

    /// Requests may wait here.
    pub(super) fn queues(&self) -> bool {
        matches!(&self.policy, Policy::Router(routed) if routed.flow_control.is_some())
    }

    /// Wants to know what enters and leaves the engines' caches.
    pub(super) fn follows_caches(&self) -> bool {
        matches!(&self.policy, Policy::Router(routed) if routed.is_precise)
    }

    /// A replica can be chosen from now on, or cannot.
    pub(super) fn set_known(&mut self, replica: u32, known: bool) {
        let pool = self.pool(replica as usize);
        let pool = &mut self.pools[pool];
        pool.retain(|&at| at != replica);
        if known {
            pool.insert(pool.partition_point(|&at| at < replica), replica);
        }
        let Some(routed) = self.routed() else { return };
        routed.router.set_alive(replica as usize, known);
        let alive = routed.router.alive();
        routed.parts = partition(routed.router.endpoints());
        for part in &mut routed.parts {
            part.retain(|at| alive.binary_search(at).is_ok());
        }
    }

    /// Takes over the metrics of a replica.
    pub(super) fn scraped(&mut self, replica: u32, scrape: Scrape, now: u64) {
        let metrics = self.routed().and_then(|routed| routed.router.metrics_mut(replica as usize));
        if let Some(metrics) = metrics {
            *metrics = Metrics {
                waiting: u64::from(scrape.waiting),
                running: u64::from(scrape.running),
                kv_usage: scrape.kv_usage,
                cache_block_size_tokens: scrape.block_size as usize,
                cache_blocks: scrape.blocks as usize,
                scraped_at_ms: Some(ms(now)),
                ..Metrics::default()
            };
        }
    }

    /// What happened to the cache of a replica.
    pub(super) fn cache_event(&mut self, replica: u32, event: CacheEvent) {
        let Some(routed) = self.routed() else { return };
        for index in routed.router.precise_indexes_mut() {
            match event {
                CacheEvent::Stored(key) => index.stored(replica as usize, key),
                CacheEvent::Removed(key) => index.removed(replica as usize, key),
            }
        }
    }

    /// A request comes from a client.
    pub(super) fn arrive(&mut self, id: LiveId, live: &Live, now: u64) -> Verdict {
        let now_ms = ms(now);
        let routed = match &mut self.policy {
            Policy::Router(routed) => routed,
            Policy::Proxy(proxy) => {
                let [decode, prefill] = [0, 1].map(|pool| proxy.pick(pool, &self.pools[pool], live));
                let choice = decode.map(|decode| Choice { decode, prefill });
                return choice.map_or(Verdict::Unavailable, Verdict::Sent);
            }
        };
        let Some(flow_control) = &mut routed.flow_control else {
            let priority = priority(live);
            let admitted = priority >= 0 || admits_without_flow_control(priority, routed.saturation(now_ms));
            return if admitted { routed.choose(live, now_ms) } else { Verdict::Overload };
        };
        let item = Item {
            id: u64::from(id),
            enqueued_ms: now_ms,
            received_ms: now_ms,
            ttl_ms: routed.ttl_ms,
            ttft_objective_ms: None,
            // As the router estimates tokens: four bytes are one.
            bytes: 4 * u64::from(live.input),
        };
        match flow_control.enqueue(priority(live), FLOW, item) {
            QueueOutcome::Dispatched => Verdict::Queued,
            refused => Verdict::of(refused, routed.router.alive().is_empty()),
        }
    }

    /// Requests that wait for their turn.
    pub(super) fn waiting(&self) -> u64 {
        match &self.policy {
            Policy::Router(Routed { flow_control: Some(flow_control), .. }) => flow_control.waiting(),
            _ => 0,
        }
    }

    /// The next request whose turn it is; the caller goes on with [`choose`](Self::choose).
    pub(super) fn next(&mut self, now: u64) -> Option<LiveId> {
        let routed = self.routed()?;
        if routed.flow_control.as_ref()?.waiting() == 0 {
            return None;
        }
        let saturation = routed.saturation(ms(now));
        routed.flow_control.as_mut()?.next(saturation, ms(now)).map(|id| id as LiveId)
    }

    /// Chooses the replicas of a request whose turn it is.
    pub(super) fn choose(&mut self, live: &Live, now: u64) -> Verdict {
        self.routed().map_or(Verdict::Unavailable, |routed| routed.choose(live, ms(now)))
    }

    /// Turns away those that waited too long, once a second.
    pub(super) fn expire(&mut self, now: u64, mut ended: impl FnMut(LiveId, Verdict)) {
        let Some(routed) = self.routed() else { return };
        let now_ms = ms(now);
        if now_ms < routed.next_expiry_ms {
            return;
        }
        let interval_ms = FlowControlConfig::EXPIRY_INTERVAL_MS;
        routed.next_expiry_ms = ((now_ms / interval_ms).floor() + 1.0) * interval_ms;
        let no_endpoints = routed.router.alive().is_empty();
        if let Some(flow_control) = &mut routed.flow_control {
            for (id, outcome) in flow_control.expire(no_endpoints, now_ms) {
                ended(id as LiveId, Verdict::of(outcome, no_endpoints));
            }
        }
    }

    /// The first token of a request has come.
    pub(super) fn began(&mut self, live: &Live) {
        match &mut self.policy {
            Policy::Router(routed) => routed.router.answered(u64::from(live.request), false),
            Policy::Proxy(Proxy::LeastRequests { in_flight }) => leave(in_flight, live.prefill),
            Policy::Proxy(_) => {}
        }
    }

    /// A request that was sent has ended, well or not. `generated` tokens were delivered.
    pub(super) fn ended(&mut self, live: &Live, generated: u32, now: u64) {
        match &mut self.policy {
            Policy::Router(routed) => {
                routed.router.answered(u64::from(live.request), true);
                if let Some(flow_control) = &mut routed.flow_control {
                    flow_control.served(priority(live), FLOW, i64::from(live.input), i64::from(generated), ms(now));
                }
            }
            Policy::Proxy(Proxy::LeastRequests { in_flight }) => {
                leave(in_flight, live.decode);
                if live.first_token == 0 {
                    leave(in_flight, live.prefill);
                }
            }
            Policy::Proxy(_) => {}
        }
    }
}

fn leave(in_flight: &mut [u32], replica: u32) {
    if let Some(count) = in_flight.get_mut(replica as usize) {
        *count -= 1;
    }
}

fn ms(ns: u64) -> f64 {
    ns as f64 / NS_PER_MS
}
