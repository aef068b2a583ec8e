//! Which candidates stay.
//!
//! Rules: llm-d-router ebab687, `pkg/epp/framework/plugins/scheduling/filter`.

use std::collections::BTreeMap;

use super::chance::{Chance, Purpose};
use super::endpoint::{Request, State, View};
use super::flow_control::Detector;
use super::scorers::parse_range;
use super::session::Sessions;

/// A filter with its parameters and what it remembers.
#[derive(Debug, Clone)]
pub enum Filter {
    /// By the values of one label.
    Label {
        /// The label.
        label: String,
        /// Values that pass.
        values: Vec<String>,
        /// Endpoints without the label pass.
        allows_no_label: bool,
    },
    /// By a selector of Kubernetes.
    Selector(Selector),
    /// By a range of prompt lengths on a label; endpoints without it pass.
    ContextLength {
        /// The label.
        label: String,
    },
    /// Keeps the endpoints that have most of the prompt cached, unless they are much busier.
    PrefixAffinity(PrefixAffinity),
    /// Keeps the endpoints that meet the objectives, or now and then the others.
    HeadroomTier {
        /// Probability of keeping the others.
        explore: f64,
        /// The plugin's number, so that two of them draw different numbers.
        salt: u64,
    },
    /// By metrics.
    Utilization {
        /// All must hold.
        conditions: Vec<(Metric, f64)>,
        /// Keeps all where none passes.
        fallback_on_empty: bool,
    },
    /// Endpoints that are not saturated.
    Unsaturated(Detector),
    /// The endpoint of the session.
    Session(Sessions),
}

/// A metric that a condition limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Requests in flight, as the router counts them.
    ActiveRequests,
    /// Requests that run.
    RunningRequests,
    /// Requests that wait.
    WaitingQueue,
    /// Used part of the KV cache.
    KvCacheUtilization,
}

impl Metric {
    fn of(self, state: &State) -> f64 {
        match self {
            Self::ActiveRequests => state.in_flight.requests as f64,
            Self::RunningRequests => state.metrics.running as f64,
            Self::WaitingQueue => state.metrics.waiting as f64,
            Self::KvCacheUtilization => state.metrics.kv_usage,
        }
    }
}

/// A label selector of Kubernetes.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    /// Values that must be equal.
    pub labels: BTreeMap<String, String>,
    /// Further conditions: key, operator, values.
    pub expressions: Vec<(String, Operator, Vec<String>)>,
}

/// Operator of a selector's condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// The value is in the list.
    In,
    /// The value is not in the list, or there is none.
    NotIn,
    /// There is a value.
    Exists,
    /// There is none.
    DoesNotExist,
}

impl Selector {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|(key, operator, values)| {
                let listed = labels.get(key).map(|value| values.contains(value));
                match operator {
                    Operator::In => listed == Some(true),
                    Operator::NotIn => listed != Some(true),
                    Operator::Exists => listed.is_some(),
                    Operator::DoesNotExist => listed.is_none(),
                }
            })
    }
}

/// Parameters of the filter by cached prefix.
#[derive(Debug, Clone, Copy)]
pub struct PrefixAffinity {
    /// Cached part of the prompt from which an endpoint is sticky; 0 turns the filter off.
    pub threshold: f64,
    /// Probability of keeping all.
    pub explore: f64,
    /// TTFT by which the best sticky endpoint may exceed the best other; 0 turns the check off.
    pub max_ttft_penalty_ms: f64,
    /// Tokens a second with which TTFT is estimated from tokens in flight; `None` takes the predictor's.
    pub prefill_tokens_per_s: Option<f64>,
    /// Place of the prefix producer.
    pub producer: usize,
    /// The plugin's number, so that two of them draw different numbers.
    pub salt: u64,
}

impl PrefixAffinity {
    /// An endpoint without a prediction is never faster; one without load has none.
    fn ttft_ms(&self, state: &State) -> f64 {
        match self.prefill_tokens_per_s {
            Some(rate) => state.in_flight.tokens as f64 / rate * 1000.0,
            None => state.latency.map_or(f64::MAX, |prediction| prediction.ttft_ms),
        }
    }

    fn apply(&self, chance: Chance, view: View<'_>, candidates: &mut Vec<usize>) {
        if candidates.len() <= 1 || self.threshold <= 0.0 || explores(chance, self.salt, self.explore) {
            return;
        }
        let ratio = |at: usize| view.states[at].prefix(self.producer).map_or(0.0, super::endpoint::PrefixMatch::ratio);
        let sticky = |at: usize| ratio(at) >= self.threshold;
        let (mut counts, mut best) = ([0_usize; 2], [f64::MAX; 2]);
        for &at in candidates.iter() {
            let side = usize::from(sticky(at));
            counts[side] += 1;
            best[side] = best[side].min(self.ttft_ms(&view.states[at]));
        }
        let [others, stuck] = counts;
        let too_slow = self.max_ttft_penalty_ms > 0.0 && others > 0 && best[1] - best[0] > self.max_ttft_penalty_ms;
        if stuck > 0 && !too_slow {
            candidates.retain(|&at| sticky(at));
        }
    }
}

/// Draws only where the outcome is open.
fn explores(chance: Chance, salt: u64, probability: f64) -> bool {
    let chance = Chance { seed: chance.seed ^ salt.rotate_left(32), ..chance };
    probability > 0.0 && (probability >= 1.0 || chance.stream(Purpose::Explore).unit() < probability)
}

impl Filter {
    /// Drops candidates.
    pub fn apply(&mut self, chance: Chance, request: &Request<'_>, view: View<'_>, candidates: &mut Vec<usize>) {
        let labels = |at: usize| &view.endpoints[at].labels;
        match self {
            Self::Label { label, values, allows_no_label } => candidates.retain(|&at| match labels(at).get(label) {
                Some(value) => values.contains(value),
                None => *allows_no_label,
            }),
            Self::Selector(selector) => candidates.retain(|&at| selector.matches(labels(at))),
            Self::ContextLength { label } => candidates.retain(|&at| {
                let Some(range) = labels(at).get(label) else { return true };
                parse_range(range).is_some_and(|(min, max)| (min..=max).contains(&request.token_count))
            }),
            Self::PrefixAffinity(filter) => filter.apply(chance, view, candidates),
            Self::HeadroomTier { explore, salt } => {
                let prediction = |at: usize| view.states[at].latency;
                if candidates.len() <= 1 || candidates.iter().all(|&at| prediction(at).is_none()) {
                    return;
                }
                let meets =
                    |at: usize| prediction(at).is_some_and(|p| p.ttft_headroom_ms >= 0.0 && p.tpot_headroom_ms >= 0.0);
                let good = candidates.iter().filter(|&&at| meets(at)).count();
                let keep_good = good > 0 && (good == candidates.len() || !explores(chance, *salt, *explore));
                candidates.retain(|&at| meets(at) == keep_good);
                candidates.sort_by_key(|&at| prediction(at).is_none());
            }
            Self::Utilization { conditions, fallback_on_empty } => {
                let passes = |&at: &usize| conditions.iter().all(|(metric, max)| metric.of(&view.states[at]) <= *max);
                if !*fallback_on_empty || candidates.iter().any(passes) {
                    candidates.retain(passes);
                }
            }
            Self::Unsaturated(detector) => {
                let passes = |&at: &usize| detector.has_room(&view.states[at], view.now_ms);
                if !detector.fails_open() || candidates.iter().any(passes) {
                    candidates.retain(passes);
                }
            }
            Self::Session(sessions) => {
                if let Some(chosen) = sessions.choose(request, view, candidates) {
                    candidates.retain(|&at| at == chosen);
                }
            }
        }
    }
}
