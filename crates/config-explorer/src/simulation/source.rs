//! The clients: one request after the other, in the order in which they are sent.
//!
//! A session starts when its first request is sent, and sends each further one when the one before has ended. What a
//! request holds depends on the number of its session and its turn; when it is sent may depend on the server.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::NS_PER_S;
use super::arrivals::{GapDraws, Schedule, Times};
use super::contents::{Contents, Numbers, Session, Turn};
use super::engine::{NewRequest, Segment};
use super::random::Purpose;
use super::traffic::Traffic;
use crate::Result;
use crate::workload::{Arrivals, Gaps};

/// A request on its way.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    /// Its number, from 0, in the order of sending.
    pub(super) request: u32,
    /// When the client sent it, ns.
    pub(super) time: u64,
    pub(super) input: u32,
    pub(super) output: u32,
    /// A place in the traffic's classes.
    pub(super) class: u16,
    /// What the requests of a conversation have in common.
    pub(super) session: u32,
    turn: Turn,
}

impl Sent {
    /// The prompt. Segments are not empty.
    pub(super) fn prompt(&self) -> &[Segment] {
        self.turn.prompt.segments()
    }

    /// The request as an engine takes it.
    pub(super) fn new_request(&self) -> NewRequest<'_> {
        let (output_text, output_start) = self.turn.answer;
        NewRequest {
            output_start,
            priority: self.turn.priority,
            ..NewRequest::new(self.prompt(), output_text, self.output)
        }
    }
}

/// When sessions start.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
enum Clock {
    /// Time of the next arrival and, where the number of sessions under way is limited, since when each place is free.
    /// All ns.
    Open { next: Option<u64>, times: Times, places: Option<BinaryHeap<Reverse<u64>>> },
    /// Times at which clients start, ns.
    Closed { due: BinaryHeap<Reverse<u64>>, think_time_s: Numbers },
}

impl Clock {
    /// When the next session starts, ns; none without a place or a client that is free.
    fn start(&self) -> Option<u64> {
        match self {
            Self::Open { next, places: None, .. } => *next,
            Self::Open { next, places: Some(places), .. } => Some((*next)?.max(places.peek()?.0)),
            Self::Closed { due, .. } => due.peek().map(|due| due.0),
        }
    }

    /// The next session, whose number is given, has started.
    fn started(&mut self, number: u32) {
        match self {
            Self::Open { next, times, places } => {
                *next = times.next(number + 1);
                places.as_mut().map(BinaryHeap::pop);
            }
            Self::Closed { due, .. } => {
                due.pop();
            }
        }
    }

    /// A session is over. Since when another one can start for it, ns; none if that does not matter.
    fn over(&mut self, request: u32, now: u64) -> Option<u64> {
        match self {
            Self::Open { places, .. } => {
                places.as_mut()?.push(Reverse(now));
                Some(now)
            }
            Self::Closed { due, think_time_s } => {
                let start = later(now, think_time_s.value(u64::from(request)));
                due.push(Reverse(start));
                Some(start)
            }
        }
    }
}

/// Where requests come from.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// Most requests and most sessions.
    requests: u32,
    sessions: u32,
    /// Nothing is sent from here on, ns.
    until: u64,
    /// Requests and sessions so far.
    taken: u32,
    started: u32,
    expected: usize,
    clock: Clock,
    contents: Contents,
    has_sessions: bool,
    /// Sessions with when they go on, ns.
    pausing: BinaryHeap<Reverse<(u64, Session)>>,
    /// Sessions that go on after a request that is under way.
    waiting: HashMap<u32, Session>,
    /// The next request and its session, if one is known.
    next: Option<(Sent, Session)>,
}

impl Source {
    /// # Errors
    /// What [`Traffic::check`] refuses.
    pub(super) fn new(traffic: &Traffic) -> Result<Self> {
        traffic.check()?;
        let (seed, workload) = (traffic.seed, &traffic.workload);
        let sessions = traffic.starts();
        let requests = workload.requests.unwrap_or(u32::MAX - 1);
        let at_once = |count: u32| std::iter::repeat_n(Reverse(0), count.min(sessions) as usize).collect();
        let gap_draws = |gaps: Gaps| Box::new(GapDraws::new(gaps, seed));
        let open = |mut times: Times, concurrency: Option<u32>| Clock::Open {
            next: times.next(0),
            times,
            places: concurrency.map(at_once),
        };
        let clock = match (&workload.arrivals, &traffic.trace) {
            (Some(Arrivals::Open { rate_per_s, gaps, concurrency }), _) => {
                open(Times::Rate { mean_s: 1.0 / rate_per_s, last_s: 0.0, gaps: gap_draws(*gaps) }, *concurrency)
            }
            (Some(Arrivals::Schedule { stages, cycle, gaps, concurrency }), _) => {
                let schedule = Schedule::new(stages, *cycle);
                open(Times::Schedule { schedule, due: 0.0, gaps: gap_draws(*gaps) }, *concurrency)
            }
            (Some(Arrivals::Closed { clients, think_time_s }), _) => Clock::Closed {
                due: at_once(*clients),
                think_time_s: Numbers::new(think_time_s, seed, Purpose::ClientThinkTime),
            },
            (None, Some(trace)) => open(Times::Trace(trace.clone()), None),
            // Refused before.
            (None, None) => open(
                Times::Schedule { schedule: Schedule::new(&[], false), due: 0.0, gaps: gap_draws(Gaps::Constant) },
                None,
            ),
        };
        let contents = Contents::new(traffic)?;
        let bound = workload.requests.or(traffic.trace.as_ref().map(|trace| trace.len() as u32));
        let mut source = Self {
            requests,
            sessions,
            until: workload.duration_s.map_or(u64::MAX, |duration| (duration * NS_PER_S) as u64),
            taken: 0,
            started: 0,
            expected: bound.unwrap_or(0) as usize,
            clock,
            has_sessions: contents.has_sessions(),
            contents,
            pausing: BinaryHeap::new(),
            waiting: HashMap::new(),
            next: None,
        };
        source.find_next();
        Ok(source)
    }

    /// When the next request is sent, ns; `None` until a request ends or if there are no more.
    pub(super) fn next_time(&self) -> Option<u64> {
        self.next.as_ref().map(|(next, _)| next.time)
    }

    /// Whether the end of a request can bring another one forward.
    pub(super) fn follows_ends(&self) -> bool {
        self.has_sessions || !matches!(self.clock, Clock::Open { places: None, .. })
    }

    /// Requests taken so far.
    pub(super) fn taken(&self) -> u32 {
        self.taken
    }

    /// About how many requests there will be, where it is known; 0 otherwise.
    pub(super) fn expected_requests(&self) -> usize {
        self.expected
    }

    /// All requests of an open load were taken.
    pub(super) fn is_exhausted(&self) -> bool {
        let more = || self.next.is_some() || !self.pausing.is_empty() || !self.waiting.is_empty();
        let waits = || match &self.clock {
            Clock::Open { next, .. } => self.started < self.sessions && next.is_some_and(|next| next < self.until),
            Clock::Closed { .. } => true,
        };
        self.taken == self.requests || !(more() || waits())
    }

    /// Takes the next request if it is sent by `now`.
    pub(super) fn take(&mut self, now: u64) -> Option<Sent> {
        let (sent, session) = self.next.take_if(|(next, _)| next.time <= now)?;
        self.taken += 1;
        if session.is_new() {
            self.clock.started(self.started);
            self.started += 1;
        } else {
            self.pausing.pop();
        }
        if self.has_sessions
            && let Some(session) = self.contents.after(&session, &sent.turn)
        {
            self.waiting.insert(sent.request, session);
        }
        self.find_next();
        Some(sent)
    }

    /// A request has been answered.
    pub(super) fn ended(&mut self, request: u32, now: u64) {
        let session = if self.has_sessions { self.waiting.remove(&request) } else { None };
        let Some(session) = session else { return self.over(request, now) };
        let due = later(now, self.contents.think_time_s(&session));
        if due >= self.until {
            return self.over(request, now);
        }
        self.pausing.push(Reverse((due, session)));
        self.find_before(due);
    }

    /// A request was refused or lost: its session does not go on.
    pub(super) fn failed(&mut self, request: u32, now: u64) {
        self.waiting.remove(&request);
        self.over(request, now);
    }

    fn over(&mut self, request: u32, now: u64) {
        if let Some(start) = self.clock.over(request, now) {
            self.find_before(start);
        }
    }

    /// Something is due at a time, maybe before the next request that is known.
    fn find_before(&mut self, time: u64) {
        if self.next.as_ref().is_none_or(|(next, _)| time <= next.time) {
            self.find_next();
        }
    }

    fn find_next(&mut self) {
        self.next = None;
        if self.taken == self.requests {
            return;
        }
        let start = self.clock.start().filter(|&start| start < self.until && self.started < self.sessions);
        let pausing = self.pausing.peek().map(|Reverse(next)| *next);
        let (time, session) = match (start, pausing) {
            (None, None) => return,
            (start, Some((due, session))) if start.is_none_or(|start| due <= start) => (due, session),
            (Some(start), _) => (start, self.contents.begin(self.started)),
            (None, Some(next)) => next,
        };
        let turn = self.contents.turn(&session);
        let sent = Sent {
            request: self.taken,
            time,
            input: turn.input,
            output: turn.output,
            class: turn.class,
            session: turn.session,
            turn,
        };
        self.next = Some((sent, session));
    }
}

/// A time, ns, so many seconds later.
fn later(time: u64, seconds: f64) -> u64 {
    time.saturating_add((seconds * NS_PER_S) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::workload::{
        ClassSpec, Distribution, LengthDistribution, Prefix, Stage, Trace, TraceFormat, TraceSource, WorkloadSpec,
    };

    fn source(workload: WorkloadSpec) -> Source {
        Source::new(&Traffic { workload, trace: None, seed: 5 }).unwrap()
    }

    fn clients(clients: u32) -> Arrivals {
        Arrivals::Closed { clients, think_time_s: LengthDistribution::uniform(0.0, 2.0).into() }
    }

    fn sessions() -> WorkloadSpec {
        WorkloadSpec {
            requests: Some(200),
            arrivals: Some(clients(3)),
            system_prompt_tokens: 10,
            input: Some(LengthDistribution::uniform(5.0, 50.0).into()),
            output: Some(LengthDistribution::lognormal(20.0, 20.0).into()),
            prefix: Some(Prefix { tokens: 7, groups: 3, ..Prefix::default() }),
            session: Some(crate::workload::Session {
                turns: LengthDistribution::uniform(1.0, 6.0).into(),
                think_time_s: LengthDistribution::gaussian(1.0, 1.0).into(),
                context_tokens: Distribution::fixed(3.0),
                max_context_tokens: Some(400),
            }),
            ..WorkloadSpec::default()
        }
    }

    /// What is sent to a server that takes so long for a request, in the order of sending.
    fn served(mut source: Source, latency_ns: impl Fn(&Sent) -> u64) -> Vec<Sent> {
        let mut sent: Vec<Sent> = Vec::new();
        let mut busy = BinaryHeap::new();
        loop {
            let end = busy.peek().map(|Reverse((end, _))| *end);
            match (source.next_time(), end) {
                (Some(ready), end) if end.is_none_or(|end| ready < end) => {
                    let next = source.take(ready).unwrap();
                    assert!(sent.last().is_none_or(|last| last.time <= next.time), "the clients' clock goes back");
                    busy.push(Reverse((ready + latency_ns(&next), next.request)));
                    sent.push(next);
                }
                (_, Some(end)) => {
                    let Reverse((_, request)) = busy.pop().unwrap();
                    source.ended(request, end);
                }
                (_, None) => return sent,
            }
        }
    }

    /// The requests of each session.
    fn by_session(sent: &[Sent]) -> BTreeMap<u32, Vec<&Sent>> {
        let mut sessions: BTreeMap<_, Vec<_>> = BTreeMap::new();
        sent.iter().for_each(|sent| sessions.entry(sent.session).or_default().push(sent));
        sessions
    }

    #[test]
    fn turns_start_with_all_before_them() {
        let sent = served(source(sessions()), |_| 1_000_000);
        assert_eq!(sent.len(), 200);
        let sessions = by_session(&sent);
        assert!(sessions.values().any(|turns| turns.len() > 3));
        for turns in sessions.values() {
            for pair in turns.windows(2) {
                let [before, next] = [&pair[0], &pair[1]];
                let lens =
                    |sent: &Sent| sent.prompt().iter().map(|segment| (segment.id, segment.len)).collect::<Vec<_>>();
                let (one, other) = (lens(before), lens(next));
                assert_eq!(one[..2], other[..2]);
                assert!(one[2].0 == other[2].0 && other[2].1 >= one[2].1 + before.output + 5);
                assert_eq!(before.turn.answer, one[2]);
                assert_eq!(next.input, other.iter().map(|(_, len)| len).sum::<u32>());
                assert!(next.input + next.output <= 400);
            }
        }
    }

    #[test]
    fn contents_do_not_depend_on_the_server() {
        let quick = served(source(sessions()), |_| 1000);
        let slow = served(source(sessions()), |sent| 3_000_000_000 + u64::from(sent.request % 7) * 1_000_000_000);
        let (quick, slow) = (by_session(&quick), by_session(&slow));
        let mut compared = 0;
        for (session, turns) in &quick {
            for (one, other) in turns.iter().zip(slow.get(session).into_iter().flatten()) {
                assert_eq!((one.prompt(), one.output), (other.prompt(), other.output));
                compared += 1;
            }
        }
        assert!(compared > 100, "{compared}");
    }

    #[test]
    fn a_failed_request_ends_its_session() {
        let mut source = source(WorkloadSpec { arrivals: Some(clients(1)), ..sessions() });
        let mut sessions = Vec::new();
        while let Some(ready) = source.next_time() {
            let sent = source.take(ready).unwrap();
            sessions.push(sent.session);
            source.failed(sent.request, ready);
        }
        assert!(sessions.into_iter().eq(0..200));
    }

    #[test]
    fn loads_end_when_they_should() {
        let of = |arrivals: Option<Arrivals>| WorkloadSpec {
            arrivals,
            session: None,
            requests: None,
            duration_s: Some(10.0),
            ..sessions()
        };
        let stage = |rate_per_s, duration_s| Stage { rate_per_s, duration_s, ..Stage::default() };
        let schedule = |stages: &[Stage], cycle| {
            Some(Arrivals::Schedule { stages: stages.to_vec(), cycle, gaps: Gaps::Constant, concurrency: None })
        };
        // 5 requests a second for a second, then a second of none.
        let cycle = served(source(of(schedule(&[stage(5.0, 1.0), stage(0.0, 1.0)], true))), |_| 1);
        assert_eq!(cycle.len(), 25);
        let once = served(source(of(schedule(&[stage(5.0, 1.0)], false))), |_| 1);
        assert_eq!(once.len(), 5);
        let closed = served(source(of(Some(clients(2)))), |_| 500_000_000);
        assert!((5..20).contains(&closed.len()) && closed.iter().all(|sent| sent.time < 10_000_000_000));
        let few = served(source(WorkloadSpec { sessions: Some(4), ..sessions() }), |_| 1);
        assert_eq!(by_session(&few).len(), 4);
        let open = |concurrency| Some(Arrivals::Open { rate_per_s: 100.0, gaps: Gaps::Poisson, concurrency });
        let capped = served(source(of(open(Some(2)))), |_| 1_000_000_000);
        assert!((19..=20).contains(&capped.len()), "{}", capped.len());
        let mut exhausted = source(WorkloadSpec { duration_s: Some(1.0), ..of(open(None)) });
        while let Some(ready) = exhausted.next_time() {
            assert!(!exhausted.is_exhausted());
            exhausted.take(ready).unwrap();
        }
        assert!(exhausted.is_exhausted());
    }

    #[test]
    fn classes_have_their_shares_and_contents() {
        let class = |name: &str, share, tokens, priority| ClassSpec {
            name: name.to_owned(),
            share: Some(share),
            priority,
            output: Some(Distribution::fixed(tokens)),
            ..ClassSpec::default()
        };
        let workload = WorkloadSpec {
            session: None,
            requests: Some(4000),
            classes: vec![class("chat", 3.0, 10.0, 0), class("batch", 1.0, 90.0, 2)],
            ..sessions()
        };
        let sent = served(source(workload), |_| 1);
        let batch: Vec<_> = sent.iter().filter(|sent| sent.class == 1).collect();
        assert!((900..1100).contains(&batch.len()), "{}", batch.len());
        assert!(batch.iter().all(|sent| sent.output == 90 && sent.new_request().priority == 2));
        // Groups of different classes have texts of their own.
        let texts = |class| {
            let of_class = sent.iter().filter(move |sent| sent.class == class);
            of_class.map(|sent| sent.prompt()[1].id).collect::<std::collections::BTreeSet<_>>()
        };
        assert!(texts(0).len() == 3 && texts(0).is_disjoint(&texts(1)));
    }

    #[test]
    fn traces_are_replayed() {
        let text = "{\"timestamp\": 1000, \"input_length\": 1300, \"output_length\": 5, \"hash_ids\": [7, 9, 11]}\n\
                    {\"timestamp\": 3000, \"input_length\": 1100, \"output_length\": 6, \"hash_ids\": [7, 9, 12]}\n\
                    {\"timestamp\": 3500, \"input_length\": 600, \"output_length\": 7}\n";
        let trace = Trace::read(text.as_bytes(), TraceFormat::Mooncake, "trace", &TraceSource::default()).unwrap();
        let traffic = Traffic { trace: Some(Arc::new(trace)), ..Traffic::default() };
        let sent = served(Source::new(&traffic).unwrap(), |_| 1);
        assert!(sent.iter().map(|sent| sent.time).eq([0, 2_000_000_000, 2_500_000_000]));
        let lens = |sent: &Sent| sent.prompt().iter().map(|segment| (segment.start, segment.len)).collect::<Vec<_>>();
        assert_eq!(lens(&sent[0]), [(0, 1300)]);
        // The third block is the fourth that was seen.
        assert_eq!(lens(&sent[1]), [(0, 1024), (1536, 76)]);
        assert_eq!(sent[0].prompt()[0].id, sent[1].prompt()[0].id);
        assert_eq!(lens(&sent[2]), [(0, 600)]);
        let summary = traffic.summary(u32::MAX).unwrap();
        assert_eq!((summary.requests, summary.input_tokens, summary.output_tokens), (3, 1000.0, 6.0));
        assert!((summary.prefix_hit_rate_bound - 1024.0 / 3000.0).abs() < 1e-12);
    }

    #[test]
    fn means_are_those_of_what_is_sent() {
        let summary = Traffic { workload: sessions(), trace: None, seed: 5 }.summary(1000).unwrap();
        let sent = served(source(sessions()), |_| 0);
        let mean = |tokens: fn(&Sent) -> u32| sent.iter().map(|sent| f64::from(tokens(sent))).sum::<f64>() / 200.0;
        assert_eq!(summary.requests, 200);
        assert!((summary.input_tokens - mean(|sent| sent.input)).abs() < 1e-9);
        assert!((summary.output_tokens - mean(|sent| sent.output)).abs() < 1e-9);
        assert!((0.5..0.9).contains(&summary.prefix_hit_rate_bound), "{summary:?}");
        assert_eq!((summary.rate_per_s, summary.clients), (None, Some(3)));
    }
}
