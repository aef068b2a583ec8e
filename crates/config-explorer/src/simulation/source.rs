//! The clients: one request after the other, in the order in which they are sent.

use std::collections::VecDeque;

use super::NS_PER_S;
use super::engine::Segment;
use super::random::{Draws, Purpose};
use super::traffic::{Arrivals, GapDraws, Lengths, SharedPrefix, Traffic};

/// A request on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// Its number, from 0.
    pub(super) request: u32,
    /// When the client sent it, ns.
    pub(super) time: u64,
    pub(super) input: u32,
    pub(super) output: u32,
    /// Text that its group shares and how much of it; none is 0 tokens.
    shared: Segment,
    own_text: u32,
}

impl Sent {
    /// The prompt: what is shared, then what is not.
    pub(super) fn prompt(&self) -> [Segment; 2] {
        [self.shared, Segment { id: self.own_text, start: 0, len: self.input - self.shared.len }]
    }

    pub(super) fn output_text(&self) -> u32 {
        self.own_text + 1
    }
}

/// When the next request is sent.
#[derive(Debug, Clone)]
enum Clock {
    /// Time of the next arrival in seconds, the gaps, and, where the number of requests in flight is limited, since when
    /// (ns, ascending) each place is free.
    Open { next_s: f64, gaps: Box<GapDraws>, places: Option<VecDeque<u64>> },
    /// Times at which clients send, ascending.
    Closed { due: VecDeque<u64>, think: u64 },
}

/// Where requests come from.
#[derive(Debug, Clone)]
pub(super) struct Source {
    requests: u32,
    /// Requests sent so far, the next one included.
    sent: u32,
    clock: Clock,
    input: Lengths,
    output: Lengths,
    prefix: SharedPrefix,
    groups: Draws,
    /// The next request, if one is known.
    next: Option<Sent>,
}

impl Source {
    /// The traffic has been checked.
    pub(super) fn new(traffic: &Traffic) -> Self {
        let seed = traffic.seed;
        let at_once = |count: u32| std::iter::repeat_n(0, count.min(traffic.requests) as usize).collect();
        let clock = match traffic.arrivals {
            Arrivals::Open { rate_per_s, gaps, concurrency } => {
                let mut gaps = Box::new(GapDraws::new(gaps, rate_per_s, seed));
                Clock::Open { next_s: gaps.before(0), gaps, places: concurrency.map(at_once) }
            }
            Arrivals::Closed { clients, think_time_s } => {
                Clock::Closed { due: at_once(clients), think: (think_time_s * NS_PER_S) as u64 }
            }
        };
        let mut source = Self {
            requests: traffic.requests,
            sent: 0,
            clock,
            input: Lengths::new(traffic.input, seed, Purpose::InputLength),
            output: Lengths::new(traffic.output, seed, Purpose::OutputLength),
            prefix: traffic.shared_prefix.unwrap_or(SharedPrefix { groups: 0, tokens: 0 }),
            groups: Draws::new(seed, Purpose::PrefixGroup),
            next: None,
        };
        source.find_next();
        source
    }

    /// When the next request is sent, ns; `None` until a request ends or if there are no more.
    pub(super) fn next_time(&self) -> Option<u64> {
        self.next.as_ref().map(|next| next.time)
    }

    /// Whether the end of a request can bring another one forward.
    pub(super) fn follows_ends(&self) -> bool {
        !matches!(self.clock, Clock::Open { places: None, .. })
    }

    /// Requests taken so far.
    pub(super) fn taken(&self) -> u32 {
        self.sent - u32::from(self.next.is_some())
    }

    /// All requests were taken.
    pub(super) fn is_exhausted(&self) -> bool {
        self.taken() == self.requests
    }

    /// Takes the next request if it is sent by `now`.
    pub(super) fn take(&mut self, now: u64) -> Option<Sent> {
        let next = self.next.take_if(|next| next.time <= now)?;
        self.find_next();
        Some(next)
    }

    /// A request has ended.
    pub(super) fn ended(&mut self, now: u64) {
        match &mut self.clock {
            Clock::Open { places, .. } => places.iter_mut().for_each(|places| places.push_back(now)),
            Clock::Closed { due, think } => due.push_back(now.saturating_add(*think)),
        }
        if self.next.is_none() {
            self.find_next();
        }
    }

    fn find_next(&mut self) {
        if self.sent == self.requests {
            return;
        }
        let request = u64::from(self.sent);
        let time = match &mut self.clock {
            Clock::Open { next_s, gaps, places } => {
                let free = match places.as_mut().map(VecDeque::pop_front) {
                    None => 0,
                    Some(Some(free)) => free,
                    Some(None) => return,
                };
                let due = (*next_s * NS_PER_S) as u64;
                *next_s += gaps.before(request + 1);
                due.max(free)
            }
            Clock::Closed { due, .. } => match due.pop_front() {
                Some(due) => due,
                None => return,
            },
        };
        let (input, output) = (self.input.of(request), self.output.of(request));
        // Texts: 0 is taken, then the groups', then two of each request.
        let SharedPrefix { groups, tokens } = self.prefix;
        let group = if groups > 1 { (self.groups.uniforms(request)[0] * f64::from(groups)) as u32 } else { 0 };
        self.next = Some(Sent {
            request: self.sent,
            time,
            input,
            output,
            shared: Segment { id: 1 + group, start: 0, len: tokens.min(input) },
            own_text: 1 + groups + 2 * self.sent,
        });
        self.sent += 1;
    }
}
