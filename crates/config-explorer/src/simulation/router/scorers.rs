//! How good a candidate is, from 0 to 1.
//!
//! In go the request, the endpoints and the candidates; out comes one score a candidate, which the profile limits to 0
//! to 1 and weighs. Formulas: llm-d-router ebab687, `pkg/epp/framework/plugins/scheduling/scorer`.

use std::collections::HashMap;
use std::hash::RandomState;

use super::endpoint::{LatencyPrediction, Request, View};
use super::lru::Lru;
use super::session::Sessions;

/// A scorer with its parameters and what it remembers.
#[derive(Debug, Clone)]
pub enum Scorer {
    /// The shortest waiting queue scores 1, the longest 0.
    Queue,
    /// The same on running requests.
    Running,
    /// The unused part of the KV cache.
    KvCache,
    /// 0.5 for an empty queue, down to 0 at a threshold.
    LoadAware {
        /// Queue length that scores 0.
        threshold: f64,
    },
    /// By requests in flight, relative to the busiest candidate.
    ActiveRequest {
        /// Requests up to which an endpoint counts as idle.
        idle_threshold: i64,
        /// Score of the least busy of the busy ones.
        max_busy_score: f64,
    },
    /// By tokens in flight, with those of the request.
    TokenLoad {
        /// Tokens that score 0.
        threshold_tokens: f64,
    },
    /// The cached part of the prompt.
    Prefix {
        /// Weight of the absolute length against the ratio.
        length_weight: f64,
        /// Matched tokens that count as full length.
        length_scale_tokens: f64,
        /// Place of the prefix producer.
        producer: usize,
    },
    /// Where a prompt that nobody has cached went longest ago.
    NoHitLru(NoHitLru),
    /// How well a range of lengths on a label fits.
    ContextLength {
        /// The label.
        label: String,
    },
    /// By predicted latency.
    Latency(Latency),
    /// 1 for the endpoint of the session.
    Session(Sessions),
    /// 1 where the adapter is loaded, 0.8 where it has room, 0.6 where it is being loaded.
    Lora,
}

impl Scorer {
    /// Appends the raw score of each candidate, not limited to 0 to 1.
    pub fn score(&mut self, request: &Request<'_>, view: View<'_>, candidates: &[usize], scores: &mut Vec<f64>) {
        let states = candidates.iter().map(|&at| &view.states[at]);
        match self {
            Self::Queue => relative(states.map(|state| state.metrics.waiting), scores),
            Self::Running => relative(states.map(|state| state.metrics.running), scores),
            Self::KvCache => scores.extend(states.map(|state| 1.0 - state.metrics.kv_usage)),
            Self::LoadAware { threshold } => {
                scores.extend(
                    states.map(|state| 0.5 * (1.0 - (state.metrics.waiting as f64).min(*threshold) / *threshold)),
                );
            }
            Self::ActiveRequest { idle_threshold, max_busy_score } => {
                let most = states.clone().map(|state| state.in_flight.requests).max().unwrap_or_default();
                scores.extend(states.map(|state| match state.in_flight.requests {
                    idle if idle <= *idle_threshold => 1.0,
                    busy => (most - busy) as f64 / most as f64 * *max_busy_score,
                }));
            }
            Self::TokenLoad { threshold_tokens } => scores.extend(states.map(|state| {
                let tokens = (state.in_flight.tokens + state.uncached_request_tokens) as f64;
                1.0 - tokens.min(*threshold_tokens) / *threshold_tokens
            })),
            Self::Prefix { length_weight, length_scale_tokens, producer } => scores.extend(states.map(|state| {
                let Some(found) = state.prefix(*producer).filter(|found| found.total_blocks > 0) else { return 0.0 };
                let tokens = found.match_blocks * found.block_size_tokens as f64;
                let length = if tokens > 0.0 { (tokens / *length_scale_tokens).min(1.0).powi(2) } else { 0.0 };
                let length = if *length_weight > 0.0 { *length_weight * length } else { 0.0 };
                length + (1.0 - *length_weight) * found.ratio()
            })),
            Self::NoHitLru(plugin) => plugin.score(request, view, candidates, scores),
            Self::ContextLength { label } => scores.extend(candidates.iter().map(|&at| {
                let Some(range) = view.endpoints[at].labels.get(label) else { return 0.5 };
                parse_range(range).map_or(0.0, |range| range_score(request.token_count, range))
            })),
            Self::Latency(plugin) => plugin.score(view, candidates, scores),
            Self::Session(sessions) => {
                let chosen = sessions.choose(request, view, candidates);
                scores.extend(candidates.iter().map(|&at| f64::from(u8::from(Some(at) == chosen))));
            }
            Self::Lora => scores.extend(states.map(|state| {
                let metrics = &state.metrics;
                let has = |list: &[String]| list.iter().any(|model| model == request.model);
                if has(&metrics.active_models) {
                    1.0
                } else if ((metrics.active_models.len() + metrics.waiting_models.len()) as u64)
                    < metrics.max_active_models
                {
                    0.8
                } else if has(&metrics.waiting_models) {
                    0.6
                } else {
                    0.0
                }
            })),
        }
    }
}

/// (max - value) / (max - min); 1 where all are equal. A difference of one is stretched over the full range.
fn relative(values: impl Iterator<Item = u64> + Clone, scores: &mut Vec<f64>) {
    let max = values.clone().max().unwrap_or_default();
    let min = values.clone().min().unwrap_or_default();
    scores.extend(values.map(|value| if max == min { 1.0 } else { (max - value) as f64 / (max - min) as f64 }));
}

/// Spreads prompts that nobody has cached.
///
/// The rank counts all endpoints ever used, also those that are no candidates, so with several pools used ones soon
/// score 0.
#[derive(Debug, Clone)]
pub struct NoHitLru {
    /// Place of the prefix producer.
    pub producer: usize,
    capacity: usize,
    used: Lru<usize, RandomState>,
    cold: HashMap<u64, bool>,
    ranks: Vec<Option<usize>>,
}

impl NoHitLru {
    /// Nothing used yet; remembers `capacity` endpoints.
    pub fn new(capacity: usize) -> Self {
        Self { producer: 0, capacity, used: Lru::new(), cold: HashMap::new(), ranks: Vec::new() }
    }

    /// Endpoints that got such a prompt, the one longest ago first.
    pub fn order(&self) -> impl Iterator<Item = usize> {
        self.used.oldest_first()
    }

    fn score(&mut self, request: &Request<'_>, view: View<'_>, candidates: &[usize], scores: &mut Vec<f64>) {
        let hit = |&at: &usize| view.states[at].prefix(self.producer).is_some_and(|found| found.match_blocks > 0.0);
        let cold = !candidates.iter().any(hit);
        self.cold.insert(request.id, cold);
        if !cold || candidates.len() == 1 {
            scores.extend(candidates.iter().map(|_| if cold { 1.0 } else { 0.5 }));
            return;
        }
        self.ranks.clear();
        self.ranks.resize(view.endpoints.len(), None);
        for (rank, at) in self.used.oldest_first().enumerate() {
            if let Some(place) = self.ranks.get_mut(at) {
                *place = Some(rank);
            }
        }
        let unused = candidates.iter().filter(|&&at| self.ranks[at].is_none()).count();
        let mut next = 0;
        let last = candidates.len().saturating_sub(1) as f64;
        scores.extend(candidates.iter().map(|&at| {
            let rank = self.ranks[at].map_or_else(
                || {
                    next += 1;
                    next - 1
                },
                |rank| unused + rank,
            );
            (1.0 - rank as f64 / last).max(0.0)
        }));
    }

    /// A request was turned away.
    pub fn dropped(&mut self, request: u64) {
        self.cold.remove(&request);
    }

    /// A request was sent: a cold one moves its endpoints to the end of the order.
    pub fn sent(&mut self, request: u64, endpoints: impl Iterator<Item = usize>) {
        if self.cold.remove(&request) == Some(true) {
            endpoints.for_each(|endpoint| {
                self.used.touch(endpoint, self.capacity);
            });
        }
    }
}

/// Both ends of a range like `0-2048`; blanks around the numbers are ignored.
pub fn parse_range(text: &str) -> Option<(i64, i64)> {
    let (min, max) = text.split_once('-')?;
    let (min, max) = (min.trim().parse().ok()?, max.trim().parse().ok()?);
    (min <= max).then_some((min, max))
}

/// Above 0.3 to 1 inside of the range, the narrower and the farther from its end the better; below 0.3 outside, by
/// distance.
fn range_score(length: i64, (min, max): (i64, i64)) -> f64 {
    const OUTSIDE: f64 = 0.3;
    if (min..=max).contains(&length) {
        let width = max.saturating_sub(min) as f64;
        if width == 0.0 {
            return 1.0;
        }
        let inside = 0.7 / (1.0 + width / 10_000.0) + 0.3 * ((max - length) as f64 / width);
        return OUTSIDE + inside * (1.0 - OUTSIDE);
    }
    let distance = if length > max { length.saturating_sub(max) } else { min.saturating_sub(length) };
    OUTSIDE / (1.0 + distance as f64 / 1000.0)
}

/// Parameters of the scorer by predicted latency.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// Weight of TTFT against TPOT.
    pub ttft_weight: f64,
    /// Weight of TPOT.
    pub tpot_weight: f64,
    /// Prefers the most headroom, not the least.
    pub most_headroom: bool,
    /// Weights of free KV cache, short queue and cached prefix where nothing is predicted.
    pub fallback_weights: [f64; 3],
    /// Place of the prefix producer.
    pub producer: usize,
}

impl Latency {
    /// Only one group of candidates is scored, the others get 0: those with headroom or without a prediction; else the
    /// idle ones; else those that miss TPOT only; else TTFT only; else the rest.
    fn score(&self, view: View<'_>, candidates: &[usize], scores: &mut Vec<f64>) {
        let prediction = |at: usize| view.states[at].latency;
        if candidates.iter().all(|&at| prediction(at).is_none()) {
            return self.fallback(view, candidates, scores);
        }
        let misses =
            |at: usize| prediction(at).map_or((false, false), |p| (p.ttft_headroom_ms < 0.0, p.tpot_headroom_ms < 0.0));
        let meets = |at: usize| misses(at) == (false, false);
        let idle = |at: usize| prediction(at).is_some_and(|p| p.dispatched == 0);
        let tpot_only = |at: usize| misses(at) == (false, true);
        let ttft_only = |at: usize| misses(at) == (true, false);
        let groups: [&dyn Fn(usize) -> bool; 5] = [&meets, &idle, &tpot_only, &ttft_only, &|_| true];
        let Some((rank, group)) = groups.iter().enumerate().find(|(_, group)| candidates.iter().any(|&at| group(at)))
        else {
            return;
        };
        self.score_group(view, candidates, group, rank == 0 && self.most_headroom, scores);
    }

    fn score_group(
        &self,
        view: View<'_>,
        candidates: &[usize],
        group: &dyn Fn(usize) -> bool,
        most: bool,
        scores: &mut Vec<f64>,
    ) {
        const EQUAL: f64 = 1e-9;
        let headroom = |at: usize| {
            let LatencyPrediction { ttft_headroom_ms, tpot_headroom_ms, .. } =
                view.states[at].latency.unwrap_or_default();
            [ttft_headroom_ms.abs(), tpot_headroom_ms.abs()]
        };
        let members = || candidates.iter().copied().filter(|&at| group(at));
        let range = |side: usize| {
            members().map(|at| headroom(at)[side]).fold((f64::MAX, f64::MIN), |(min, max), h| (min.min(h), max.max(h)))
        };
        let ranges = [range(0), range(1)].map(|(min, max)| (min, max - min));
        let sum = self.ttft_weight + self.tpot_weight;
        let mut weights = if sum <= 0.0 { [1.0, 0.0] } else { [self.ttft_weight / sum, self.tpot_weight / sum] };
        // A side on which all are equal must not narrow the scores.
        match ranges.map(|(_, width)| width > EQUAL) {
            [false, true] => weights = [0.0, 1.0],
            [true, false] => weights = [1.0, 0.0],
            _ => {}
        }
        scores.extend(candidates.iter().map(|&at| {
            if !group(at) {
                return 0.0;
            }
            let headroom = headroom(at);
            let normal = |side: usize| {
                let (min, width) = ranges[side];
                if width > EQUAL { (headroom[side] - min) / width } else { 0.5 }
            };
            let combined = weights[0] * normal(0) + weights[1] * normal(1);
            let wanted = if most { combined } else { 1.0 - combined };
            // Scores are whole hundredths, from 0.01 to 1.01.
            ((wanted * 100.0).trunc() + 1.0) / 100.0
        }));
    }

    fn fallback(&self, view: View<'_>, candidates: &[usize], scores: &mut Vec<f64>) {
        let sum: f64 = self.fallback_weights.iter().sum();
        let weights = if sum <= 0.0 { [1.0, 0.0, 0.0] } else { self.fallback_weights.map(|weight| weight / sum) };
        let longest = candidates.iter().map(|&at| view.states[at].metrics.waiting).max().unwrap_or_default();
        scores.extend(candidates.iter().map(|&at| {
            let state = &view.states[at];
            let waiting = state.metrics.waiting;
            let queue = if longest > 0 { (longest - waiting) as f64 / longest as f64 } else { 1.0 };
            let prefix = state.prefix(self.producer).map_or(0.0, super::endpoint::PrefixMatch::ratio);
            let score = weights[0] * (1.0 - state.metrics.kv_usage) + weights[1] * queue + weights[2] * prefix;
            (score * 100.0).round() / 100.0
        }));
    }
}
