//! Which requests may pass when endpoints are saturated, and in which order.
//!
//! In go requests with priority and flow, and the endpoints' states; out comes the next request to schedule, or who is
//! turned away. Rules: llm-d-router ebab687, `pkg/epp/flowcontrol` and `pkg/epp/framework/plugins/flowcontrol`.

use std::collections::{BTreeMap, HashMap};

use super::chance::{Chance, Purpose};
use super::endpoint::{Endpoint, ROLE_LABEL, Request, State, View};

/// Measures how full endpoints are; 1 is full.
#[derive(Debug, Clone, Copy)]
pub enum Detector {
    /// By queue and KV cache, as scraped.
    Utilization {
        /// Queue length that is full.
        queue: f64,
        /// KV usage that is full.
        kv_usage: f64,
        /// Age from which metrics count as full.
        stale_ms: f64,
        /// Part by which an endpoint may exceed the limits where the detector is a filter.
        headroom: f64,
    },
    /// By requests or tokens in flight, or the larger of both.
    Concurrency {
        /// Requests of a full endpoint; `None` where tokens decide.
        requests: Option<f64>,
        /// Tokens of a full endpoint; `None` where requests decide.
        tokens: Option<f64>,
        /// Part by which an endpoint may exceed the limits where the detector is a filter.
        headroom: f64,
    },
}

impl Detector {
    /// Saturation of some endpoints, not limited to 1; nobody is full. A mean over endpoints, except that requests alone or
    /// tokens alone are the sum over the sum of limits, which is the same.
    pub fn saturation(&self, states: &[State], candidates: &[usize], now_ms: f64) -> f64 {
        if candidates.is_empty() {
            return 1.0;
        }
        let sum: f64 = candidates.iter().map(|&at| self.of(&states[at], now_ms)).sum();
        sum / candidates.len() as f64
    }

    fn of(&self, state: &State, now_ms: f64) -> f64 {
        match *self {
            Self::Utilization { queue, kv_usage, .. } => {
                if self.stale(state, now_ms) {
                    return 1.0;
                }
                (state.metrics.waiting as f64 / queue).max(state.metrics.kv_usage / kv_usage)
            }
            Self::Concurrency { requests, tokens, .. } => {
                let part = |count: i64, limit: Option<f64>| limit.map_or(0.0, |limit| count as f64 / limit);
                part(state.in_flight.requests, requests).max(part(state.in_flight.tokens, tokens))
            }
        }
    }

    fn stale(&self, state: &State, now_ms: f64) -> bool {
        let Self::Utilization { stale_ms, .. } = *self else { return false };
        state.metrics.scraped_at_ms.is_none_or(|at| now_ms - at > stale_ms)
    }

    /// Whether an endpoint passes where the detector is a filter.
    pub fn has_room(&self, state: &State, now_ms: f64) -> bool {
        match *self {
            Self::Utilization { queue, kv_usage, headroom, .. } => {
                !self.stale(state, now_ms)
                    && (state.metrics.waiting as f64) < queue * (1.0 + headroom)
                    && state.metrics.kv_usage < kv_usage * (1.0 + headroom)
            }
            Self::Concurrency { requests, tokens, headroom } => {
                let below = |count: i64, limit: Option<f64>| {
                    limit.is_none_or(|limit| (count as f64) < (limit * (1.0 + headroom)).trunc())
                };
                below(state.in_flight.requests, requests) && below(state.in_flight.tokens, tokens)
            }
        }
    }

    /// As a filter, keeps all where none has room.
    pub fn fails_open(&self) -> bool {
        matches!(self, Self::Utilization { .. })
    }
}

/// Up to which saturation each priority may pass.
#[derive(Debug, Clone)]
pub enum UsageLimit {
    /// The same for all.
    Static {
        /// The ceiling.
        ceiling: f64,
    },
    /// Falls from the highest to the lowest priority.
    PriorityHoldback {
        /// Ceiling of the lowest.
        min: f64,
        /// Ceiling of the highest.
        max: f64,
        /// Falls with the number of the priority, not with its rank.
        by_value: bool,
    },
    /// Lets the lower priorities pass now and then.
    SoftReflective {
        /// Calls so far in which some priority was held back or let pass by turns.
        ticks: u64,
    },
}

impl UsageLimit {
    /// A ceiling for each priority, the highest first.
    pub fn ceilings(&mut self, saturation: f64, priorities: &[i64]) -> Vec<f64> {
        let last = priorities.len().saturating_sub(1) as f64;
        match self {
            Self::Static { ceiling } => vec![*ceiling; priorities.len()],
            Self::PriorityHoldback { min, max, by_value } => {
                let (highest, lowest) = match priorities {
                    [first, .., last] => (*first as f64, *last as f64),
                    _ => (0.0, 0.0),
                };
                let below = |(rank, &priority): (usize, &i64)| match *by_value {
                    true if highest > lowest => (highest - priority as f64) / (highest - lowest),
                    false if last > 0.0 => rank as f64 / last,
                    _ => 0.0,
                };
                priorities.iter().enumerate().map(|band| *max - (*max - *min) * below(band)).collect()
            }
            Self::SoftReflective { ticks } => {
                let free = |rank: usize| rank == 0 || saturation < 1.0 - rank as f64 * saturation / last;
                let mut others = 0.0;
                if saturation < 1.0 && !(0..priorities.len()).all(free) {
                    let period = (saturation / (1.0 - saturation)).round().max(1.0) as u64;
                    *ticks += 1;
                    others = f64::from(u8::from(ticks.is_multiple_of(period)));
                }
                (0..priorities.len()).map(|rank| if free(rank) { 1.0 } else { others }).collect()
            }
        }
    }
}

/// A request that waits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Item {
    /// The request.
    pub id: u64,
    /// When it was put into its queue, ms.
    pub enqueued_ms: f64,
    /// When the router received it, ms.
    pub received_ms: f64,
    /// How long it may wait; not above 0 means for ever.
    pub ttl_ms: f64,
    /// Objective of TTFT that came with it; `None` where none did, or no valid one.
    pub ttft_objective_ms: Option<i64>,
    /// Size.
    pub bytes: u64,
}

/// The objective of TTFT that a request's headers carry: whole ms, not negative.
pub fn ttft_objective_ms(request: &Request<'_>) -> Option<i64> {
    let value: i64 = slo_header(request, "ttft")?.trim().parse().ok()?;
    // Larger ones do not fit into the router's nanoseconds.
    (0..=i64::MAX / 1_000_000).contains(&value).then_some(value)
}

/// `x-llm-d-slo-KIND-ms`, or its old name.
fn slo_header<'a>(request: &'a Request<'_>, kind: &str) -> Option<&'a str> {
    let names = [format!("x-llm-d-slo-{kind}-ms"), format!("x-slo-{kind}-ms")];
    names.iter().find_map(|name| request.header(name))
}

/// The order inside of one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordering {
    /// By arrival.
    Fcfs,
    /// By the end of the time they may wait.
    Edf,
    /// By the moment their objective of TTFT is missed.
    SloDeadline,
}

impl Ordering {
    /// When an item is due, ms; `None` for never.
    pub fn deadline_ms(self, item: &Item) -> Option<f64> {
        match self {
            Self::Fcfs => None,
            Self::Edf => (item.ttl_ms > 0.0).then_some(item.enqueued_ms + item.ttl_ms),
            Self::SloDeadline => item.ttft_objective_ms.map(|objective| item.received_ms + objective as f64),
        }
    }

    /// What items are ordered by, in whole microseconds.
    fn key(self, item: &Item) -> (i64, i64) {
        let whole = |ms: f64| (ms * 1000.0).round() as i64;
        let second = if self == Self::SloDeadline { item.received_ms } else { item.enqueued_ms };
        (self.deadline_ms(item).map_or(i64::MAX, whole), whole(second))
    }

    /// Whether `a` goes before `b`; something goes before nothing.
    pub fn less(self, a: Option<&Item>, b: Option<&Item>) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => self.key(a) < self.key(b),
            (a, _) => a.is_some() && b.is_none(),
        }
    }
}

/// Which flow of a priority is served next.
#[derive(Debug, Clone)]
pub enum Fairness {
    /// The flow whose first request goes before those of all others.
    GlobalStrict,
    /// One request of each flow in turn, by name.
    RoundRobin {
        /// The flow served last.
        last: Option<String>,
    },
    /// The flow that got least service, with regard to how long its first request waits.
    ProgramAware(LeastAttainedService),
}

/// A flow as fairness sees it.
#[derive(Debug, Clone, Copy)]
pub struct Flow<'a> {
    /// Name of the flow.
    pub id: &'a str,
    /// Its first request.
    pub head: Option<&'a Item>,
}

impl Fairness {
    /// The flow to serve; `None` where no flow has a request. Of equal ones the first.
    pub fn pick(&mut self, flows: &[Flow<'_>], ordering: Ordering, now_ms: f64) -> Option<usize> {
        let waiting = || (0..flows.len()).filter(|&at| flows[at].head.is_some());
        match self {
            Self::GlobalStrict => {
                waiting().reduce(|best, at| if ordering.less(flows[at].head, flows[best].head) { at } else { best })
            }
            Self::RoundRobin { last } => {
                let mut order: Vec<usize> = (0..flows.len()).collect();
                order.sort_by_key(|&at| flows[at].id);
                let start = order.iter().position(|&at| last.as_deref() == Some(flows[at].id)).map_or(0, |at| at + 1);
                let start = start % order.len().max(1);
                order.rotate_left(start);
                let chosen = order.into_iter().find(|&at| flows[at].head.is_some());
                *last = chosen.map(|at| flows[at].id.to_owned());
                chosen
            }
            Self::ProgramAware(service) => {
                let seen: Vec<_> = waiting()
                    .filter_map(|at| {
                        let waited_ms = (now_ms - flows[at].head?.enqueued_ms).trunc();
                        Some((at, service.attained(flows[at].id, now_ms), waited_ms))
                    })
                    .collect();
                let range = |value: fn(&(usize, f64, f64)) -> f64| {
                    let values = || seen.iter().map(value);
                    (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max))
                };
                let (services, waits) = (range(|seen| seen.1), range(|seen| seen.2));
                let score = |seen: &(usize, f64, f64)| {
                    service.service_weight * (1.0 - normalized(seen.1, services))
                        + service.wait_weight * normalized(seen.2, waits)
                };
                seen.iter().reduce(|best, next| if score(next) > score(best) { next } else { best }).map(|seen| seen.0)
            }
        }
    }
}

/// Where a value lies in a range, 0 to 1; 0 in an empty range.
pub fn normalized(value: f64, (min, max): (f64, f64)) -> f64 {
    if max > min { (value - min) / (max - min) } else { 0.0 }
}

/// The service each program got, which fades.
#[derive(Debug, Clone)]
pub struct LeastAttainedService {
    /// Weight of little service.
    pub service_weight: f64,
    /// Weight of a long wait.
    pub wait_weight: f64,
    /// Time in which service fades to half; 0 keeps it.
    pub half_life_s: f64,
    attained: HashMap<String, (f64, f64)>,
}

impl LeastAttainedService {
    /// No service yet.
    pub fn new(service_weight: f64, wait_weight: f64, half_life_s: f64) -> Self {
        Self { service_weight, wait_weight, half_life_s, attained: HashMap::new() }
    }

    /// Service of a program at a time.
    pub fn attained(&self, program: &str, now_ms: f64) -> f64 {
        let Some(&(service, at_ms)) = self.attained.get(program) else { return 0.0 };
        if self.half_life_s > 0.0 {
            service * 0.5_f64.powf((now_ms - at_ms) / 1000.0 / self.half_life_s)
        } else {
            service
        }
    }

    /// Adds service.
    pub fn add(&mut self, program: &str, service: f64, now_ms: f64) {
        let service = self.attained(program, now_ms) + service;
        self.attained.insert(program.to_owned(), (service, now_ms));
    }

    /// Service of a finished request: an output token counts as two of the prompt.
    pub fn cost(prompt_tokens: i64, output_tokens: i64) -> f64 {
        (prompt_tokens + 2 * output_tokens) as f64
    }
}

/// Turns requests away before they are scheduled.
#[derive(Debug, Clone, Copy)]
pub enum Admitter {
    /// Sheds requests below priority 0 with a probability of k times saturation to a power.
    Probabilistic {
        /// Queue length that is full.
        queue: f64,
        /// KV usage that is full.
        kv_usage: f64,
        /// Power.
        power: f64,
        /// Factor.
        k: f64,
    },
    /// Sheds requests below priority 0 that no endpoint can serve in time.
    LatencySlo,
}

impl Admitter {
    /// Whether a request may pass. `draw` is a random number in [0, 1); see [`Admitter::draw`].
    pub fn admits(&self, request: &Request<'_>, states: &[State], candidates: &[usize], draw: f64) -> bool {
        let mut states = candidates.iter().map(|&at| &states[at]);
        if request.priority >= 0 || candidates.is_empty() {
            return true;
        }
        match *self {
            Self::Probabilistic { queue, kv_usage, power, k } => {
                let of = |state: &State| (state.metrics.waiting as f64 / queue).max(state.metrics.kv_usage / kv_usage);
                let saturation = states.map(of).sum::<f64>() / candidates.len() as f64;
                draw >= (saturation.powf(power) * k).min(1.0)
            }
            Self::LatencySlo => {
                let objective =
                    |kind| slo_header(request, kind).and_then(|value| value.parse().ok()).unwrap_or(0.0_f64);
                let predicted = states.clone().any(|state| state.latency.is_some());
                let can_serve = |state: &State| {
                    state.metrics.kv_usage < 0.02
                        || state.metrics.running == 0
                        || state.latency.is_some_and(|latency| latency.ttft_valid && latency.tpot_valid)
                };
                !(objective("ttft") > 0.0 || objective("tpot") > 0.0) || !predicted || states.any(can_serve)
            }
        }
    }

    /// The random number for a request.
    pub fn draw(chance: Chance) -> f64 {
        chance.stream(Purpose::Admit).unit()
    }
}

/// Without flow control: requests below priority 0 are turned away while all is full.
pub fn admits_without_flow_control(priority: i64, saturation: f64) -> bool {
    priority >= 0 || saturation < 1.0
}

/// What became of a request in flow control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueOutcome {
    /// It was passed on.
    Dispatched,
    /// Its queue was full.
    RejectedCapacity,
    /// No endpoint exists.
    RejectedNoEndpoints,
    /// It waited too long for an endpoint with room.
    EvictedTtl,
    /// It waited too long for any endpoint.
    EvictedNoEndpoints,
    /// The client went away.
    EvictedContextCancelled,
    /// Something else, before it was queued.
    RejectedOther,
    /// Something else, while it was queued.
    EvictedOther,
}

impl QueueOutcome {
    /// The name of the error and the HTTP status the client sees; `None` if the request passed.
    pub fn status(self, pool_empty: bool) -> Option<(&'static str, u16)> {
        match self {
            Self::Dispatched => None,
            Self::RejectedCapacity => Some(("ResourceExhausted", 429)),
            Self::EvictedTtl if !pool_empty => Some(("ResourceExhausted", 429)),
            Self::RejectedNoEndpoints | Self::EvictedTtl | Self::EvictedNoEndpoints | Self::EvictedContextCancelled => {
                Some(("ServiceUnavailable", 503))
            }
            Self::RejectedOther | Self::EvictedOther => Some(("Internal", 500)),
        }
    }
}

/// How long requests may wait; 0 means for ever.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WaitBudget {
    /// While there are endpoints, ms.
    pub default_ms: f64,
    /// While there are none, ms.
    pub no_endpoint_ms: f64,
}

impl WaitBudget {
    /// What a request that waits since `since_ms` ends with, if it ends now. When the pool gets empty or has endpoints
    /// again, a fresh budget starts: `since_ms` is the later of that moment and its arrival.
    pub fn expires(&self, pool_empty: bool, since_ms: f64, now_ms: f64) -> (QueueOutcome, bool) {
        let (outcome, budget_ms) = match pool_empty {
            true => (QueueOutcome::EvictedNoEndpoints, self.no_endpoint_ms),
            false => (QueueOutcome::EvictedTtl, self.default_ms),
        };
        (outcome, budget_ms > 0.0 && now_ms - since_ms >= budget_ms)
    }
}

/// What is queued, and how much may be; a limit of 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Bytes queued.
    pub bytes: u64,
    /// Requests queued.
    pub requests: u64,
    /// Most bytes.
    pub max_bytes: u64,
    /// Most requests.
    pub max_requests: u64,
}

impl Occupancy {
    /// Room for one more request of a size.
    pub fn has_room(&self, bytes: u64) -> bool {
        (self.max_bytes == 0 || self.bytes.saturating_add(bytes) <= self.max_bytes)
            && (self.max_requests == 0 || self.requests < self.max_requests)
    }
}

/// The endpoints of each stage, by role: prefill, decode, and both.
pub fn partition(endpoints: &[Endpoint]) -> [Vec<usize>; 3] {
    let mut parts = [const { Vec::new() }; 3];
    for (at, endpoint) in endpoints.iter().enumerate() {
        let part = match endpoint.labels.get(ROLE_LABEL).map_or("", String::as_str) {
            "prefill" | "encode-prefill" => 0,
            "decode" | "" => 1,
            "prefill-decode" | "both" | "encode-prefill-decode" => 2,
            _ => continue,
        };
        parts[part].push(at);
    }
    parts
}

/// Limits and policies of one priority.
#[derive(Debug, Clone)]
pub struct Band {
    /// Most bytes; 0 is no limit.
    pub max_bytes: u64,
    /// Most requests; 0 is no limit.
    pub max_requests: u64,
    /// Order inside of a flow.
    pub ordering: Ordering,
    /// Order among flows.
    pub fairness: Fairness,
}

/// The settings of flow control.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Limits over all priorities.
    pub total: Occupancy,
    /// Priorities that were named.
    pub bands: BTreeMap<i64, Band>,
    /// Any other.
    pub default_band: Band,
    /// Any other below 0.
    pub default_negative_band: Option<Band>,
    /// How long requests wait.
    pub wait: WaitBudget,
    /// Ceilings by priority.
    pub usage_limit: UsageLimit,
}

/// Items in order, equal ones by arrival.
type Queue = BTreeMap<((i64, i64), u64), Item>;

#[derive(Debug, Clone)]
struct Queues {
    band: Band,
    occupancy: Occupancy,
    flows: BTreeMap<String, Queue>,
}

/// The queues of all priorities.
#[derive(Debug, Clone)]
pub struct FlowControl {
    settings: Settings,
    total: Occupancy,
    queues: BTreeMap<std::cmp::Reverse<i64>, Queues>,
    /// Since when the pool is empty or not.
    regime: (bool, f64),
    arrivals: u64,
}

impl FlowControl {
    /// Empty queues.
    pub fn new(settings: Settings) -> Self {
        let total = settings.total;
        Self { settings, total, queues: BTreeMap::new(), regime: (false, f64::NEG_INFINITY), arrivals: 0 }
    }

    /// Requests that wait.
    pub fn waiting(&self) -> u64 {
        self.total.requests
    }

    /// Queues a request.
    pub fn enqueue(&mut self, priority: i64, flow: &str, item: Item) -> QueueOutcome {
        let settings = &self.settings;
        let queues = self.queues.entry(std::cmp::Reverse(priority)).or_insert_with(|| {
            let negative = settings.default_negative_band.as_ref().filter(|_| priority < 0);
            let band = settings.bands.get(&priority).or(negative).unwrap_or(&settings.default_band).clone();
            let (max_bytes, max_requests) = (band.max_bytes, band.max_requests);
            Queues {
                band,
                occupancy: Occupancy { max_bytes, max_requests, ..Occupancy::default() },
                flows: BTreeMap::new(),
            }
        });
        if !self.total.has_room(item.bytes) || !queues.occupancy.has_room(item.bytes) {
            return QueueOutcome::RejectedCapacity;
        }
        for occupancy in [&mut self.total, &mut queues.occupancy] {
            occupancy.bytes += item.bytes;
            occupancy.requests += 1;
        }
        self.arrivals += 1;
        let key = (queues.band.ordering.key(&item), self.arrivals);
        if !queues.flows.contains_key(flow) {
            queues.flows.insert(flow.to_owned(), BTreeMap::new());
        }
        if let Some(queue) = queues.flows.get_mut(flow) {
            queue.insert(key, item);
        }
        QueueOutcome::Dispatched
    }

    /// The next request to schedule. The first priority with requests whose ceiling is reached ends the search: nobody
    /// overtakes it.
    pub fn next(&mut self, saturation: f64, now_ms: f64) -> Option<u64> {
        if self.total.requests == 0 {
            return None;
        }
        let waiting = |queues: &&mut Queues| queues.occupancy.requests > 0;
        let priorities: Vec<i64> =
            self.queues.iter().filter(|(_, queues)| queues.occupancy.requests > 0).map(|(key, _)| key.0).collect();
        let ceilings = self.settings.usage_limit.ceilings(saturation, &priorities);
        if !gate_opens(saturation, &ceilings) {
            return None;
        }
        let queues = self.queues.values_mut().find(waiting)?;
        let chosen = {
            let flows: Vec<Flow<'_>> =
                queues.flows.iter().map(|(id, queue)| Flow { id, head: queue.values().next() }).collect();
            let at = queues.band.fairness.pick(&flows, queues.band.ordering, now_ms)?;
            flows[at].id.to_owned()
        };
        let (_, item) = queues.flows.get_mut(&chosen)?.pop_first()?;
        for occupancy in [&mut self.total, &mut queues.occupancy] {
            occupancy.bytes -= item.bytes;
            occupancy.requests -= 1;
        }
        Some(item.id)
    }

    /// A request of a flow is answered: its tokens count as service of the flow.
    pub fn served(&mut self, priority: i64, flow: &str, prompt_tokens: i64, output_tokens: i64, now_ms: f64) {
        let queues = self.queues.get_mut(&std::cmp::Reverse(priority));
        if let Some(Fairness::ProgramAware(service)) = queues.map(|queues| &mut queues.band.fairness) {
            service.add(flow, LeastAttainedService::cost(prompt_tokens, output_tokens), now_ms);
        }
    }

    /// Removes the requests that waited too long and returns each with what it ends with.
    pub fn expire(&mut self, pool_empty: bool, now_ms: f64) -> Vec<(u64, QueueOutcome)> {
        if self.regime.0 != pool_empty {
            self.regime = (pool_empty, now_ms);
        }
        let (wait, since_ms, total) = (self.settings.wait, self.regime.1, &mut self.total);
        let mut expired = Vec::new();
        for queues in self.queues.values_mut() {
            let occupancy = &mut queues.occupancy;
            for queue in queues.flows.values_mut() {
                queue.retain(|_, item| {
                    let (outcome, ends) = wait.expires(pool_empty, item.enqueued_ms.max(since_ms), now_ms);
                    if ends {
                        for occupancy in [&mut *total, &mut *occupancy] {
                            occupancy.bytes -= item.bytes;
                            occupancy.requests -= 1;
                        }
                        expired.push((item.id, outcome));
                    }
                    !ends
                });
            }
            queues.flows.retain(|_, queue| !queue.is_empty());
        }
        expired
    }
}

/// Saturation as flow control sees it: the fuller of the prefill and the decode pool, each with the endpoints that do both.
pub fn pool_saturation(detector: &Detector, parts: &[Vec<usize>; 3], view: View<'_>) -> f64 {
    let [prefill, decode, both] = parts;
    let pools = [prefill, decode].map(|pool| pool.iter().chain(both).copied().collect::<Vec<_>>());
    fullest(
        pools.iter().filter(|pool| !pool.is_empty()).map(|pool| detector.saturation(view.states, pool, view.now_ms)),
    )
}

/// Saturation of several pools: that of the fullest. No pool is a full one.
pub fn fullest(saturations: impl Iterator<Item = f64>) -> f64 {
    saturations.reduce(f64::max).unwrap_or(1.0)
}

/// Whether a request may pass, by the ceilings of the priorities with requests, the highest first: only the first counts.
pub fn gate_opens(saturation: f64, ceilings: &[f64]) -> bool {
    ceilings.first().is_some_and(|&ceiling| saturation < ceiling)
}
