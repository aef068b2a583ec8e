//! What a simulation says of objectives: whether they are met, and the goodput.

use super::NS_PER_MS;
use super::outcome::{FinishedRequests, Outcome};
use crate::workload::{Objectives, Quantity};

/// Requests that meet every objective for themselves: a limit on any statistic of a latency is taken as a limit on each
/// request's own (its mean gap between tokens for ITL). Rates are of all requests and do not count here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goodput {
    /// Such requests per second.
    pub requests_per_s: f64,
    /// Their part of the requests that were sent, 0 to 1; one that was not answered meets nothing.
    pub share: f64,
}

impl FinishedRequests {
    /// A latency of one request, ms; `None` where it has none (a single token has no time per token) or for a rate.
    pub fn latency_ms(&self, at: usize, quantity: Quantity) -> Option<f64> {
        let ms = |from: u64, to: u64| (to - from) as f64 / NS_PER_MS;
        let (first, last) = (self.first_token_ns[at], self.last_token_ns[at]);
        match quantity {
            Quantity::Ttft(_) => Some(ms(self.sent_ns[at], first)),
            Quantity::E2e(_) => Some(ms(self.sent_ns[at], last)),
            Quantity::Tpot(_) | Quantity::Itl(_) => {
                let gaps = self.output_tokens[at].saturating_sub(1);
                (gaps > 0).then(|| ms(first, last) / f64::from(gaps))
            }
            Quantity::Throughput | Quantity::Requests => None,
        }
    }

    /// Whether a request meets every limit on a latency that it has.
    fn meets(&self, at: usize, objectives: &Objectives) -> bool {
        objectives.0.iter().all(|objective| {
            let value = self.latency_ms(at, objective.quantity);
            value.is_none_or(|value| objective.comparison.holds(value, objective.limit))
        })
    }
}

impl Outcome {
    /// The value that an objective limits.
    pub fn quantity(&self, quantity: Quantity) -> Option<f64> {
        match quantity {
            Quantity::Ttft(statistic) => self.finished.ttft_ms().get(statistic),
            Quantity::Tpot(statistic) => self.finished.tpot_ms().get(statistic),
            Quantity::Itl(statistic) => self.itl_ms.get(statistic),
            Quantity::E2e(statistic) => self.finished.e2e_ms().get(statistic),
            Quantity::Throughput => Some(self.output_tokens_per_s()),
            Quantity::Requests => Some(self.requests_per_s()),
        }
    }

    /// The requests that meet the objectives, of all that were `sent`.
    pub fn goodput(&self, objectives: &Objectives, sent: u32) -> Goodput {
        let good = (0..self.finished.len()).filter(|&at| self.finished.meets(at, objectives)).count();
        Goodput {
            requests_per_s: if self.duration_s > 0.0 { good as f64 / self.duration_s } else { 0.0 },
            share: good as f64 / f64::from(sent.max(1)),
        }
    }
}
