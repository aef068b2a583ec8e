//! What a simulation wrote down.

use super::NS_PER_MS;
use super::timeline::Interval;
use crate::workload::Statistics;

/// One row for each finished request, in the order in which they finished: 58 bytes a row. Times in nanoseconds since
/// the start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FinishedRequests {
    /// Number of the request in the order of sending, from 0.
    pub request: Vec<u32>,
    /// Its class: a place in [`Traffic::classes`](super::Traffic::classes).
    pub class: Vec<u16>,
    /// Tokens of the prompt.
    pub input_tokens: Vec<u32>,
    /// Tokens generated.
    pub output_tokens: Vec<u32>,
    /// Tokens of the prompt found in the prefix cache at first admission.
    pub cached_tokens: Vec<u32>,
    /// Times it was preempted.
    pub preemptions: Vec<u32>,
    /// The engine that answered it; engines are numbered as in [`Outcome::engines`].
    pub engine: Vec<u32>,
    /// When the client sent it, for the first time if it was sent twice.
    pub sent_ns: Vec<u64>,
    /// When a scheduler first admitted it: that of the engine that computed the prompt.
    pub admitted_ns: Vec<u64>,
    /// When its first token came.
    pub first_token_ns: Vec<u64>,
    /// When its last token came.
    pub last_token_ns: Vec<u64>,
}

impl FinishedRequests {
    pub(super) fn with_capacity(requests: usize) -> Self {
        Self {
            request: Vec::with_capacity(requests),
            class: Vec::with_capacity(requests),
            input_tokens: Vec::with_capacity(requests),
            output_tokens: Vec::with_capacity(requests),
            cached_tokens: Vec::with_capacity(requests),
            preemptions: Vec::with_capacity(requests),
            engine: Vec::with_capacity(requests),
            sent_ns: Vec::with_capacity(requests),
            admitted_ns: Vec::with_capacity(requests),
            first_token_ns: Vec::with_capacity(requests),
            last_token_ns: Vec::with_capacity(requests),
        }
    }

    fn retain(&mut self, keep: &[bool]) {
        fn only<T: Copy>(column: &mut Vec<T>, keep: &[bool]) {
            let mut kept = keep.iter();
            column.retain(|_| kept.next().is_some_and(|keep| *keep));
        }
        let Self { request, class, input_tokens, output_tokens, cached_tokens, preemptions, engine, .. } = self;
        for column in [request, input_tokens, output_tokens, cached_tokens, preemptions, engine] {
            only(column, keep);
        }
        only(class, keep);
        for column in [&mut self.sent_ns, &mut self.admitted_ns, &mut self.first_token_ns, &mut self.last_token_ns] {
            only(column, keep);
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.request.len()
    }

    /// Whether none finished.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty()
    }

    /// Milliseconds between two columns.
    fn between(from: &[u64], to: &[u64]) -> Statistics {
        Statistics::of_sample(from.iter().zip(to).map(|(&from, &to)| (to - from) as f64 / NS_PER_MS).collect())
    }

    /// Time to first token: from sending to the first token, ms.
    pub fn ttft_ms(&self) -> Statistics {
        Self::between(&self.sent_ns, &self.first_token_ns)
    }

    /// End to end: from sending to the last token, ms.
    pub fn e2e_ms(&self) -> Statistics {
        Self::between(&self.sent_ns, &self.last_token_ns)
    }

    /// From sending to the first admission by the scheduler, ms.
    pub fn queueing_ms(&self) -> Statistics {
        Self::between(&self.sent_ns, &self.admitted_ns)
    }

    /// Time per output token: from the first token to the last, over the tokens after the first, ms. Requests of one
    /// token have none.
    pub fn tpot_ms(&self) -> Statistics {
        let times = self.first_token_ns.iter().zip(&self.last_token_ns).zip(&self.output_tokens);
        let longer = times.filter(|&(_, &tokens)| tokens > 1);
        let per_token =
            longer.map(|((&first, &last), &tokens)| (last - first) as f64 / NS_PER_MS / f64::from(tokens - 1));
        Statistics::of_sample(per_token.collect())
    }

    /// Prompt tokens.
    pub fn total_input_tokens(&self) -> u64 {
        sum(&self.input_tokens)
    }

    /// Generated tokens.
    pub fn total_output_tokens(&self) -> u64 {
        sum(&self.output_tokens)
    }

    /// Part of the prompt tokens found in the prefix cache, 0 to 1.
    pub fn prefix_hit_rate(&self) -> f64 {
        sum(&self.cached_tokens) as f64 / self.total_input_tokens().max(1) as f64
    }

    /// Preemptions of all requests.
    pub fn total_preemptions(&self) -> u64 {
        sum(&self.preemptions)
    }
}

fn sum(column: &[u32]) -> u64 {
    column.iter().map(|&value| u64::from(value)).sum()
}

/// The outcome of a simulation.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Every finished request.
    pub finished: FinishedRequests,
    /// Requests that were refused.
    pub rejected: Rejected,
    /// Requests whose engine failed before their last token.
    pub failed: u32,
    /// Requests that were sent a second time because their engine had failed.
    pub retried: u32,
    /// Seconds from the start to the last token.
    pub duration_s: f64,
    /// Steps that held tokens, over all engines.
    pub steps: u64,
    /// The load is an open one of a finite rate.
    pub is_open: bool,
    /// More requests waited than ran when the last one of an open load arrived: the engines do not keep up, and times
    /// depend on how long the load lasts.
    pub saturated: bool,
    /// Gaps between tokens as the client gets them, ms: one for each token after a request's first.
    pub itl_ms: Statistics,
    /// KV caches loaded from other engines.
    pub transfers: Transfers,
    /// All engines over time: their sums, and the mean part of their KV blocks.
    pub timeline: Vec<Interval>,
    /// Every engine.
    pub engines: Vec<EngineOutcome>,
}

/// Requests that were refused, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rejected {
    /// The prompt fills `max_model_len` (HTTP 400).
    pub too_long: u32,
    /// The router sheds load: a full queue, a wait too long, a priority below 0 (HTTP 429).
    pub overload: u32,
    /// No engine to choose (HTTP 503).
    pub unavailable: u32,
}

impl Rejected {
    /// All of them.
    pub fn total(self) -> u32 {
        self.too_long + self.overload + self.unavailable
    }
}

/// KV caches loaded from other engines.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transfers {
    /// How many were completed.
    pub count: u32,
    /// Tokens of these.
    pub tokens: u64,
    /// How long they took, ms.
    pub time_ms: Statistics,
}

/// What one engine did.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineOutcome {
    /// Its pod.
    pub name: String,
    /// Its group, as in the cluster.
    pub group: usize,
    /// Requests that it answered.
    pub answered: u32,
    /// Prompts that it computed for other engines.
    pub prefilled: u32,
    /// Steps that held tokens.
    pub steps: u64,
    /// Its state over time, in the intervals of [`Outcome::timeline`].
    pub timeline: Vec<Interval>,
}

impl Outcome {
    /// Finished requests per second.
    pub fn requests_per_s(&self) -> f64 {
        self.per_s(self.finished.len() as u64)
    }

    /// Generated tokens per second.
    pub fn output_tokens_per_s(&self) -> f64 {
        self.per_s(self.finished.total_output_tokens())
    }

    /// Prompt and generated tokens per second.
    pub fn total_tokens_per_s(&self) -> f64 {
        self.per_s(self.finished.total_input_tokens() + self.finished.total_output_tokens())
    }

    /// The outcome between the first and the last `ends` requests that were sent, where the engines fill and run empty, as
    /// if the rest were `requests_per_s`. What is pooled over all requests (ITL, the timeline) stays.
    pub(crate) fn settled(mut self, ends: u32, requests_per_s: impl Fn(&FinishedRequests) -> f64) -> Self {
        let last = self.finished.request.iter().max().copied().unwrap_or(0).saturating_sub(ends);
        let keep: Vec<bool> = self.finished.request.iter().map(|&request| (ends..=last).contains(&request)).collect();
        if keep.contains(&true) {
            self.finished.retain(&keep);
        }
        let rate = requests_per_s(&self.finished);
        if rate > 0.0 {
            self.duration_s = self.finished.len() as f64 / rate;
        }
        self
    }

    fn per_s(&self, count: u64) -> f64 {
        if self.duration_s > 0.0 { count as f64 / self.duration_s } else { 0.0 }
    }

    /// Mean over time of a quantity of the engine's state.
    pub fn mean_over_time(&self, quantity: impl Fn(&Interval) -> f64) -> f64 {
        Interval::mean(&self.timeline, quantity)
    }
}
