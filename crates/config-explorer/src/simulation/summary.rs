//! Means of what is sent, for models of the steady state.

use std::collections::{HashMap, HashSet};

use super::NS_PER_S;
use super::source::Source;
use super::traffic::Traffic;
use crate::Result;
use crate::serving;
use crate::workload::Arrivals;

/// Means of a workload's first requests, as a server would get them that answers at once.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TrafficSummary {
    /// Requests that were looked at: all, or as many as were asked for.
    pub requests: u32,
    /// Sessions that they are of; as many as requests where there are no sessions.
    pub sessions: u32,
    /// Mean tokens of a prompt.
    pub input_tokens: f64,
    /// Mean tokens of an answer.
    pub output_tokens: f64,
    /// Part of the prompt tokens, 0 to 1, that an earlier prompt or answer started with: what a prefix cache without
    /// limits, blocks and replicas would find. More cannot be found.
    pub prefix_hit_rate_bound: f64,
    /// Requests per second from the start to the last arrival, where arrivals do not wait for answers.
    pub rate_per_s: Option<f64>,
    /// Clients of a closed loop, or most requests in flight.
    pub clients: Option<u32>,
}

/// Requests whose means the steady state gets.
const SUMMARISED: u32 = 10_000;

impl Traffic {
    /// Its means, for models of the steady state. Prefix hits are the most that can be found
    /// ([`TrafficSummary::prefix_hit_rate_bound`]).
    ///
    /// # Errors
    /// As [`Traffic::check`].
    pub fn steady_state(&self) -> Result<serving::Traffic> {
        let means = self.summary(SUMMARISED)?;
        let requests = f64::from(self.workload.requests.unwrap_or(means.requests));
        let load = match (means.rate_per_s.filter(|rate| rate.is_finite() && *rate > 0.0), means.clients) {
            (Some(rate_per_s), _) => serving::Load::Open { rate_per_s },
            (None, Some(clients)) => serving::Load::Closed {
                clients: f64::from(clients).min(requests),
                requests: Some(requests.max(f64::from(clients))),
            },
            (None, None) => serving::Load::Burst { requests },
        };
        serving::Traffic::new(means.input_tokens, means.output_tokens.max(1.0), means.prefix_hit_rate_bound, load)
    }

    /// Draws up to `most` requests (at least one) and takes their means. Equal to what a simulation with the same seed
    /// sends, but for the order in closed loops.
    ///
    /// # Errors
    /// As [`Traffic::check`].
    pub fn summary(&self, most: u32) -> Result<TrafficSummary> {
        let mut source = Source::new(self)?;
        // How far each text has been seen. Texts are first seen from their start on: prompts of a session grow, and the
        // blocks of a trace are numbered as they come.
        let mut seen: HashMap<u32, u32> = HashMap::new();
        let mut sessions = HashSet::new();
        let (mut input, mut output, mut found) = (0, 0, 0);
        let mut last = 0;
        while source.taken() < most.max(1)
            && let Some(ready) = source.next_time()
        {
            let Some(sent) = source.take(ready) else { break };
            sessions.insert(sent.session);
            let mut goes_on = true;
            for segment in sent.prompt() {
                let end = seen.entry(segment.id).or_default();
                let known = if goes_on { end.saturating_sub(segment.start).min(segment.len) } else { 0 };
                goes_on &= known == segment.len;
                found += u64::from(known);
                *end = (*end).max(segment.start.saturating_add(segment.len));
            }
            let request = sent.new_request();
            let end = seen.entry(request.output_id).or_default();
            *end = (*end).max(request.output_start.saturating_add(sent.output));
            input += u64::from(sent.input);
            output += u64::from(sent.output);
            last = sent.time;
            source.ended(sent.request, sent.time);
        }
        let requests = source.taken();
        let mean = |sum: u64| sum as f64 / f64::from(requests.max(1));
        let clients = match self.workload.arrivals {
            Some(Arrivals::Closed { clients, .. }) => Some(clients),
            Some(Arrivals::Open { concurrency, .. } | Arrivals::Schedule { concurrency, .. }) => concurrency,
            None => None,
        };
        Ok(TrafficSummary {
            requests,
            sessions: sessions.len() as u32,
            input_tokens: mean(input),
            output_tokens: mean(output),
            prefix_hit_rate_bound: found as f64 / input.max(1) as f64,
            rate_per_s: (self.is_open() && last > 0).then(|| f64::from(requests) * NS_PER_S / last as f64),
            clients,
        })
    }
}
