//! The loop over everything that happens.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::config::{Cluster, EngineGroup, EngineRole, FrontEnd, Routing, SimulationOptions, StepTimer};
use super::engine::{Context, Engine, Message, Scheduled, Told};
use super::gateway::{Choice, Gateway, Verdict};
use super::requests::{LiveId, NONE, Place, Requests, Stage};
use super::transfer::Links;
use crate::simulation::NS_PER_S;
use crate::simulation::engine::{Finished, KvRole, StepOutput};
use crate::simulation::histogram::Histogram;
use crate::simulation::outcome::{EngineOutcome, FinishedRequests, Outcome, Rejected, Transfers};
use crate::simulation::router::{Endpoint, PrefixProducer, ROLE_LABEL};
use crate::simulation::source::{Sent, Source};
use crate::simulation::timeline::{State, Timeline};
use crate::simulation::traffic::Traffic;
use crate::{Error, Result};

/// Time between two scrapes of the engines' metrics, ns (the least that llm-d's router takes).
const SCRAPE_NS: u64 = 50_000_000;
/// Every how many scrapes ranks in lockstep tell their API server how many requests they have (`DPCoordinator`, 100 ms).
const SCRAPES_OF_RANKS: u64 = 2;
/// Time between two looks of flow control at its queues, ns.
const POLL_NS: u64 = 1_000_000;

/// Simulates a cluster until every request has its answer or its refusal.
///
/// # Errors
/// [`Error::InvalidSetting`] for a cluster without engines, settings that cannot run, traffic that cannot be drawn from,
/// a router's configuration that does not fit the engines, and for requests that an engine takes but can never finish
/// because their blocks do not fit in the cache (vLLM would go on for ever). Speculative decoding and pipeline stages are
/// refused: nothing here accepts drafts or times stages.
pub fn simulate<T: StepTimer>(cluster: Cluster<T>, traffic: &Traffic, options: &SimulationOptions) -> Result<Outcome> {
    Simulation::new(cluster, traffic, options)?.run()
}

/// A replica: one endpoint.
struct Replica {
    name: String,
    group: usize,
    /// Its engine cores: the first one and how many. More than one are ranks that do not go in lockstep.
    first: u32,
    cores: u32,
    /// Its API server's count of requests of each rank: waiting and running.
    counts: Vec<(u32, u32)>,
    is_up: bool,
    /// When its front end is done with the last request, ns.
    front_end_free: u64,
    answered: u32,
    prefilled: u32,
}

/// What is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A replica fails.
    Down(u32),
    /// The router hears of it.
    Noticed(u32),
    /// A replica takes requests.
    Up(u32),
    /// A request is through the front end of the replica that works on it.
    Deliver(LiveId, u32),
    /// The KV of a request has arrived.
    Loaded(LiveId, u32),
    /// Nobody has come for the prompt's blocks of a request: they are given back.
    Expire(LiveId, u32),
    /// The same where the request has ended: engine, its epoch, rank, request.
    Release(u32, u32, u32, u32),
    /// Flow control looks at its queues.
    Poll,
}

#[expect(clippy::struct_excessive_bools, reason = "they say independent things")]
struct Simulation<T> {
    groups: Vec<EngineGroup<T>>,
    options: SimulationOptions,
    engines: Vec<Engine>,
    replicas: Vec<Replica>,
    requests: Requests,
    gateway: Gateway,
    links: Option<Links>,
    source: Source,
    now: u64,
    /// When engines go on, and which.
    due: BinaryHeap<Reverse<(u64, u32)>>,
    /// Time, order of planning, what.
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    planned: u64,
    /// Engines that schedule now.
    ready: Vec<u32>,
    /// The next scrape, ns; `u64::MAX` if nobody reads metrics.
    next_scrape: u64,
    is_polling: bool,
    /// What an engine does can touch another one before the next request or event.
    is_coupled: bool,
    follows_ranks: bool,
    is_open: bool,
    output: StepOutput,
    told: Vec<Told>,
    scheduled: Scheduled,
    finished: FinishedRequests,
    rejected: Rejected,
    failed: u32,
    retried: u32,
    saturated: bool,
    /// Time of the last token of a request, ns.
    last_token: u64,
    transfers: Transfers,
    transfer_times: Histogram,
    /// Requests that wait at the router over time.
    queue: Timeline,
}

fn refuse<T>(setting: &str, reason: &str) -> Result<T> {
    Err(Error::InvalidSetting { setting: setting.to_owned(), reason: reason.to_owned() })
}

fn check<T>(cluster: &Cluster<T>) -> Result<()> {
    for group in &cluster.groups {
        for (setting, given) in [
            ("speculation", group.scheduler.speculation.is_some()),
            ("pipeline_parallel_size", group.scheduler.pipeline_parallel_size > 1),
        ] {
            if given {
                return refuse(setting, "the simulation does not cover it yet: leave it out");
            }
        }
        if group.data_parallel.ranks == 0 {
            return refuse("data_parallel", "an engine has at least one rank");
        }
        if !group.starts_s.iter().all(|&start| is_time(start)) {
            return refuse("starts_s", "must be at least 0 and below 10^9 seconds");
        }
        for failure in &group.failures {
            let ordered = failure.up_s > failure.down_s && (is_time(failure.up_s) || failure.up_s == f64::INFINITY);
            if failure.replica >= group.replicas || !is_time(failure.down_s) || !ordered {
                return refuse(
                    "failures",
                    "a failure names a replica of its group and ends after it began, at times from 0 to 10^9 seconds",
                );
            }
        }
    }
    let has = |role: EngineRole| cluster.groups.iter().any(|group| group.role == role && group.replicas > 0);
    if !has(EngineRole::Both) && !has(EngineRole::Decode) {
        return refuse("replicas", "no engine answers requests: give a group that is not for prefill alone a replica");
    }
    match cluster.transfer {
        None if has(EngineRole::Prefill) => refuse("transfer", "engines for prefill need a way to send the KV cache"),
        Some(kv)
            if !(kv.bandwidth_bytes_per_s > 0.0
                && (0.0..1e9).contains(&kv.bytes_per_token)
                && is_time(kv.base_latency_s)) =>
        {
            refuse("transfer", "needs a bandwidth above 0, bytes per token and a latency of at least 0")
        }
        _ => Ok(()),
    }
}

fn is_time(seconds: f64) -> bool {
    (0.0..1e9).contains(&seconds)
}

fn ns(seconds: f64) -> u64 {
    (seconds * NS_PER_S) as u64
}

/// Tokens of the engines' KV blocks, which a precise index must be able to follow.
fn block_size<T>(cluster: &Cluster<T>) -> Result<u32> {
    let unit = cluster.groups.first().map_or(1, |group| group.scheduler.block_size);
    let Routing::Router(config) = &cluster.routing else { return Ok(unit) };
    for plugin in config.plugins.values() {
        let Some(PrefixProducer::Precise(precise)) = &plugin.prefix else { continue };
        let size = precise.block_size_tokens();
        let fits = |group: &EngineGroup<T>| {
            group.scheduler.block_size == unit && size.is_multiple_of(group.scheduler.block_size as usize)
        };
        if !cluster.groups.iter().all(fits) {
            let reason = format!(
                "the engines' blocks must be of one size, and the router's blocks of {size} tokens a multiple of it: set                  `block_size` of the engines or `tokenProcessorConfig.blockSize`"
            );
            return Err(Error::InvalidSetting { setting: plugin.name.clone(), reason });
        }
    }
    Ok(unit)
}

impl<T: StepTimer> Simulation<T> {
    fn new(mut cluster: Cluster<T>, traffic: &Traffic, options: &SimulationOptions) -> Result<Self> {
        check(&cluster)?;
        if !is_time(options.hold_s) {
            return refuse("hold_s", "must be at least 0 and below 10^9 seconds");
        }
        let (mut endpoints, mut roles, mut replicas) = (Vec::new(), Vec::new(), Vec::new());
        let mut cores = 0;
        for (at, group) in cluster.groups.iter_mut().enumerate() {
            if group.role != EngineRole::Both {
                group.scheduler.kv_role.get_or_insert(KvRole::Both);
            }
            let mut labels = group.labels.clone();
            if let Some(role) = group.role.label() {
                labels.entry(ROLE_LABEL.to_owned()).or_insert_with(|| role.to_owned());
            }
            let parallel = group.data_parallel;
            for replica in 0..group.replicas {
                let name = format!("{}-{replica}", group.name);
                let address = format!("{name}:8000");
                endpoints.push(Endpoint { name: name.clone(), labels: labels.clone(), address, ..Endpoint::default() });
                roles.push(group.role);
                let own = if parallel.lockstep { 1 } else { parallel.ranks };
                replicas.push(Replica {
                    name,
                    group: at,
                    first: cores,
                    cores: own,
                    counts: vec![(0, 0); parallel.ranks as usize],
                    is_up: true,
                    front_end_free: 0,
                    answered: 0,
                    prefilled: 0,
                });
                cores += own;
            }
        }
        let unit = block_size(&cluster)?;
        let gateway = Gateway::new(&cluster.routing, endpoints, roles, unit, traffic.seed)?;
        let mut engines = Vec::with_capacity(cores as usize);
        for (at, replica) in replicas.iter().enumerate() {
            let group = &cluster.groups[replica.group];
            let ranks = if group.data_parallel.lockstep { group.data_parallel.ranks } else { 1 };
            for _ in 0..replica.cores {
                let follows = gateway.follows_caches();
                let config = &group.scheduler;
                engines.push(Engine::new(
                    replica.group,
                    at as u32,
                    ranks,
                    config,
                    group.rules,
                    options.exact,
                    follows,
                )?);
            }
        }
        let follows_ranks =
            cluster.groups.iter().any(|group| group.data_parallel.lockstep && group.data_parallel.ranks > 1);
        let source = Source::new(traffic)?;
        let mut simulation = Self {
            is_coupled: source.follows_ends() || cluster.transfer.is_some(),
            next_scrape: if gateway.scrapes() || follows_ranks { 0 } else { u64::MAX },
            finished: FinishedRequests::with_capacity(source.expected_requests()),
            links: cluster.transfer.map(|kv| Links::new(kv, replicas.len())),
            groups: cluster.groups,
            options: *options,
            engines,
            replicas,
            requests: Requests::default(),
            gateway,
            source,
            now: 0,
            due: BinaryHeap::new(),
            events: BinaryHeap::new(),
            planned: 0,
            ready: Vec::new(),
            is_polling: false,
            follows_ranks,
            is_open: traffic.is_open(),
            output: StepOutput::default(),
            told: Vec::new(),
            scheduled: Scheduled::default(),
            rejected: Rejected::default(),
            failed: 0,
            retried: 0,
            saturated: false,
            last_token: 0,
            transfers: Transfers::default(),
            transfer_times: Histogram::default(),
            queue: Timeline::new(),
        };
        simulation.plan_lives();
        Ok(simulation)
    }

    /// Start-up, failures and recoveries.
    fn plan_lives(&mut self) {
        let mut first = 0;
        for at in 0..self.groups.len() {
            let replicas = self.groups[at].replicas;
            for (replica, start_s) in (first..first + replicas).zip(self.groups[at].starts_s.clone()) {
                let start_up = ns(start_s);
                if start_up > 0 {
                    self.replicas[replica as usize].is_up = false;
                    self.gateway.set_known(replica, false);
                    self.plan(start_up, Event::Up(replica));
                }
            }
            for failure in self.groups[at].failures.clone() {
                let replica = first + failure.replica;
                self.plan(ns(failure.down_s), Event::Down(replica));
                let Replica { first, cores, .. } = self.replicas[replica as usize];
                for core in first..first + cores {
                    let downs = &mut self.engines[core as usize].downs;
                    downs.insert(downs.partition_point(|&later| later > ns(failure.down_s)), ns(failure.down_s));
                }
                if failure.up_s.is_finite() {
                    self.plan(ns(failure.up_s), Event::Up(replica));
                }
            }
            first += replicas;
        }
    }

    fn plan(&mut self, time: u64, event: Event) {
        self.planned += 1;
        self.events.push(Reverse((time, self.planned, event)));
    }

    fn run(mut self) -> Result<Outcome> {
        while let Some(now) = self.next_time() {
            debug_assert!(now >= self.now, "INV-10: the clock goes back");
            if self.gateway.queues() {
                let queued = State { waiting: self.gateway.waiting() as u32, ..State::default() };
                self.queue.advance(now, queued, 0);
            }
            self.now = now;
            self.take_outputs()?;
            while let Some(&Reverse((_, _, event))) = self.events.peek().filter(|event| event.0.0 <= now) {
                self.events.pop();
                self.happen(event)?;
            }
            while let Some(live) = self.links.as_mut().and_then(|links| links.take_done(now)) {
                self.leave_link(live);
            }
            if self.next_scrape <= now {
                self.scrape();
            }
            while let Some(sent) = self.source.take(now) {
                self.arrive(&sent)?;
            }
            self.schedule()?;
        }
        if self.requests.len() > 0 {
            let reason = "requests wait for each other's blocks, as vLLM would for ever: give the KV cache more memory";
            return refuse("num_gpu_blocks", reason);
        }
        Ok(self.outcome())
    }

    /// When something happens next; `None` when every request has ended, or none ever will.
    fn next_time(&self) -> Option<u64> {
        let next_sent = self.source.next_time();
        if self.requests.len() == 0 && next_sent.is_none() {
            return None;
        }
        let due = self.due.peek().map_or(u64::MAX, |due| due.0.0);
        // A scrape moves nobody: where only scrapes are left, whoever waits does so for ever.
        let moves = self.next_cause().min(due) < u64::MAX;
        moves.then(|| self.next_touch().min(due))
    }

    /// When something happens next that no engine decides.
    fn next_touch(&self) -> u64 {
        // Metrics of engines that do nothing do not change.
        let scrape = if self.requests.len() > 0 { self.next_scrape } else { u64::MAX };
        self.next_cause().min(scrape)
    }

    /// The same without scrapes.
    fn next_cause(&self) -> u64 {
        let sent = self.source.next_time().unwrap_or(u64::MAX);
        let event = self.events.peek().map_or(u64::MAX, |event| event.0.0);
        let left = self.links.as_ref().map_or(u64::MAX, Links::next);
        sent.min(event).min(left)
    }

    fn take_outputs(&mut self) -> Result<()> {
        while let Some(&Reverse((_, at))) = self.due.peek().filter(|due| due.0.0 <= self.now) {
            self.due.pop();
            let engine = &mut self.engines[at as usize];
            if engine.due != self.now {
                // It has failed since.
                continue;
            }
            engine.take_output(&self.requests, &mut self.gateway, &mut self.output, &mut self.told, at);
            self.ready.push(at);
            let mut told = std::mem::take(&mut self.told);
            for told in told.drain(..) {
                match told {
                    Told::FirstToken(live) => {
                        self.requests[live].first_token = self.now;
                        self.gateway.began(&self.requests[live]);
                    }
                    Told::Finished(live, finished, place) => self.finish(live, &finished, place)?,
                }
            }
            self.told = told;
        }
        Ok(())
    }

    /// An engine is done with a request.
    fn finish(&mut self, live: LiveId, finished: &Finished, place: Place) -> Result<()> {
        let request = &mut self.requests[live];
        request.preemptions += finished.preemptions;
        request.place = None;
        if request.stage == Stage::Prefill {
            request.cached = finished.cached_tokens;
            request.held = finished.held.then_some(place);
            request.stage = Stage::Decode;
            let decode = request.decode;
            self.replicas[request.prefill as usize].prefilled += 1;
            if finished.held {
                let expiry = Event::Expire(live, request.serial);
                self.plan(self.now + ns(self.options.hold_s), expiry);
            }
            return self.send(live, decode);
        }
        let now = self.now;
        debug_assert!(
            request.sent <= request.admitted && request.admitted < request.first_token && request.first_token <= now,
            "INV-11: sent, admitted, first token, last token"
        );
        debug_assert!(request.held.is_none(), "INV-12: the blocks of a loaded prompt are held for ever");
        let row = &mut self.finished;
        row.request.push(request.request);
        row.class.push(request.class);
        row.input_tokens.push(request.input);
        row.output_tokens.push(finished.generated);
        row.cached_tokens.push(request.cached.or(finished.cached_tokens).unwrap_or(0));
        row.preemptions.push(request.preemptions);
        row.engine.push(request.decode);
        row.sent_ns.push(request.sent);
        row.admitted_ns.push(request.admitted);
        row.first_token_ns.push(request.first_token);
        row.last_token_ns.push(now);
        self.last_token = now;
        self.replicas[request.decode as usize].answered += 1;
        self.gateway.ended(&self.requests[live], finished.generated, now);
        self.source.ended(self.requests[live].request, now);
        self.requests.remove(live);
        Ok(())
    }

    /// A request is refused or lost.
    fn end(&mut self, live: LiveId) {
        self.source.failed(self.requests[live].request, self.now);
        self.requests.remove(live);
    }

    fn arrive(&mut self, sent: &Sent) -> Result<()> {
        if self.source.is_exhausted() {
            let load = |engine: &Engine| engine.load();
            let (running, waiting) =
                self.engines.iter().map(load).fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1));
            self.saturated = self.is_open && waiting + self.gateway.waiting() as usize > running;
        }
        let live = self.requests.insert(sent);
        self.route(live)
    }

    fn route(&mut self, live: LiveId) -> Result<()> {
        let verdict = self.gateway.arrive(live, &self.requests[live], self.now);
        if verdict != Verdict::Queued {
            return self.follow(live, verdict);
        }
        self.dispatch()
    }

    /// Lets those pass whose turn it is, and looks again as long as somebody waits.
    fn dispatch(&mut self) -> Result<()> {
        while let Some(live) = self.gateway.next(self.now) {
            let verdict = self.gateway.choose(&self.requests[live], self.now);
            self.follow(live, verdict)?;
        }
        if self.gateway.waiting() > 0 && !self.is_polling {
            self.is_polling = true;
            self.plan((self.now / POLL_NS + 1) * POLL_NS, Event::Poll);
        }
        Ok(())
    }

    fn follow(&mut self, live: LiveId, verdict: Verdict) -> Result<()> {
        match verdict {
            Verdict::Sent(Choice { decode, prefill }) => {
                if prefill.is_some() && self.links.is_none() {
                    let reason = "the router has prompts computed apart from decode: say how the KV cache gets there";
                    return refuse("transfer", reason);
                }
                let request = &mut self.requests[live];
                request.stage = if prefill.is_some() { Stage::Prefill } else { Stage::Decode };
                request.decode = decode;
                request.prefill = prefill.unwrap_or(NONE);
                self.send(live, prefill.unwrap_or(decode))
            }
            Verdict::Queued => Ok(()),
            Verdict::Overload | Verdict::Unavailable => {
                let rejected = &mut self.rejected;
                *(if verdict == Verdict::Overload { &mut rejected.overload } else { &mut rejected.unavailable }) += 1;
                self.end(live);
                Ok(())
            }
        }
    }

    /// To the front end of a replica.
    fn send(&mut self, live: LiveId, replica: u32) -> Result<()> {
        let FrontEnd { request_us, prompt_token_us } = self.options.front_end;
        let work = (request_us * 1e3 + prompt_token_us * 1e3 * f64::from(self.requests[live].input)) as u64;
        let server = &mut self.replicas[replica as usize];
        if work > 0 && server.is_up {
            let done = self.now.max(server.front_end_free) + work;
            server.front_end_free = done;
            self.plan(done, Event::Deliver(live, self.requests[live].serial));
            return Ok(());
        }
        self.deliver(live)
    }

    /// From the front end to the engine core.
    fn deliver(&mut self, live: LiveId) -> Result<()> {
        let request = &self.requests[live];
        let is_prefill = request.stage == Stage::Prefill;
        let at = if is_prefill { request.prefill } else { request.decode } as usize;
        if !self.replicas[at].is_up {
            return if is_prefill { self.fall_back(live) } else { self.fail(live) };
        }
        let group = &self.groups[self.replicas[at].group];
        // The server answers with an error (`InputProcessor._validate_model_input`).
        if request.input >= group.scheduler.max_model_len {
            self.rejected.too_long += 1;
            self.let_go(live);
            self.gateway.ended(&self.requests[live], 0, self.now);
            self.end(live);
            return Ok(());
        }
        let replica = &mut self.replicas[at];
        let ranks = 0..replica.counts.len();
        let load = |&rank: &usize| 4 * u64::from(replica.counts[rank].0) + u64::from(replica.counts[rank].1);
        let rank = ranks.min_by_key(load).unwrap_or(0);
        replica.counts[rank].0 += 1;
        let lockstep = group.data_parallel.lockstep;
        let (core, rank) = if lockstep { (0, rank as u32) } else { (rank as u32, 0) };
        let message = Message::Add { live, serial: self.requests[live].serial };
        let core = replica.first + core;
        self.tell(core, rank, message);
        Ok(())
    }

    fn tell(&mut self, core: u32, rank: u32, message: Message) {
        let engine = &mut self.engines[core as usize];
        engine.tell(rank, message);
        self.wake(core);
    }

    fn wake(&mut self, core: u32) {
        if self.engines[core as usize].is_idle() && !self.ready.contains(&core) {
            self.ready.push(core);
        }
    }

    /// The engine that was to compute the prompt is gone: the one that answers does it.
    fn fall_back(&mut self, live: LiveId) -> Result<()> {
        let request = &mut self.requests[live];
        request.stage = Stage::Decode;
        request.place = None;
        request.serial = request.serial.wrapping_add(1);
        let decode = request.decode;
        self.send(live, decode)
    }

    /// A request's engine is gone.
    fn fail(&mut self, live: LiveId) -> Result<()> {
        self.let_go(live);
        self.gateway.ended(&self.requests[live], 0, self.now);
        let request = &mut self.requests[live];
        if self.options.retry && !request.retried {
            request.retried = true;
            request.restart();
            self.retried += 1;
            return self.route(live);
        }
        self.failed += 1;
        self.end(live);
        Ok(())
    }

    /// Ends what goes on for a request in the engines.
    fn let_go(&mut self, live: LiveId) {
        let loads = self.requests[live].is_loading;
        let (place, held) = (self.requests[live].place.take(), self.requests[live].held.take());
        if let Some(links) = &mut self.links {
            links.cancel(live, self.now);
        }
        if let Some(place) = place {
            self.engines[place.engine as usize].abort(place);
            if loads {
                // Its blocks are not written any more.
                self.engines[place.engine as usize].tell(place.rank, Message::Loaded(place.id));
            }
            self.wake(place.engine);
        }
        if let Some(Place { engine, rank, id }) = held {
            let epoch = self.engines[engine as usize].epoch;
            self.plan(self.now + ns(self.options.hold_s), Event::Release(engine, epoch, rank, id));
        }
    }

    fn happen(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Down(replica) => return self.go_down(replica),
            Event::Noticed(replica) => {
                if !self.replicas[replica as usize].is_up {
                    self.gateway.set_known(replica, false);
                }
            }
            Event::Up(replica) => {
                let state = &mut self.replicas[replica as usize];
                if !state.is_up {
                    state.is_up = true;
                    state.front_end_free = self.now;
                    // What the router knew of the one before is void, even if it has not heard of its end.
                    self.gateway.set_known(replica, false);
                    self.gateway.set_known(replica, true);
                }
            }
            Event::Deliver(live, serial) => {
                if self.requests.is_current(live, serial) {
                    return self.deliver(live);
                }
            }
            Event::Loaded(live, serial) => {
                if self.requests.is_current(live, serial) {
                    self.finish_load(live);
                }
            }
            Event::Expire(live, serial) => {
                if self.requests.is_current(live, serial) && !self.requests[live].is_loading {
                    self.expire(live);
                }
            }
            Event::Release(engine, epoch, rank, id) => {
                if self.engines[engine as usize].epoch == epoch {
                    self.tell(engine, rank, Message::Release(id));
                }
            }
            Event::Poll => {
                self.is_polling = false;
                let mut expired = Vec::new();
                self.gateway.expire(self.now, |live, verdict| expired.push((live, verdict)));
                for (live, verdict) in expired {
                    self.follow(live, verdict)?;
                }
                return self.dispatch();
            }
        }
        Ok(())
    }

    fn go_down(&mut self, replica: u32) -> Result<()> {
        let state = &mut self.replicas[replica as usize];
        for core in state.first..state.first + state.cores {
            self.engines[core as usize].downs.pop();
        }
        if !std::mem::replace(&mut state.is_up, false) {
            return Ok(());
        }
        let (first, cores, now) = (state.first, state.cores, self.now);
        state.counts.fill((0, 0));
        let group = &self.groups[state.group];
        let follows = self.gateway.follows_caches();
        for core in first..first + cores {
            self.engines[core as usize].reset(&group.scheduler, group.rules, self.options.exact, follows, now)?;
        }
        self.ready.retain(|core| !(first..first + cores).contains(core));
        self.plan((now / SCRAPE_NS + 1) * SCRAPE_NS, Event::Noticed(replica));
        let is_here = |place: &Place| (first..first + cores).contains(&place.engine);
        let ids: Vec<LiveId> = self.requests.ids().collect();
        for live in ids {
            let request = &mut self.requests[live];
            // What is gone needs no end.
            request.place = request.place.filter(|place| !is_here(place));
            let held_here = request.held.as_ref().is_some_and(is_here);
            if held_here {
                request.held = None;
            }
            match request.stage {
                Stage::Vacant | Stage::Queued => {}
                Stage::Prefill if request.prefill == replica && request.decode != replica => self.fall_back(live)?,
                _ if request.decode == replica || held_here => self.fail(live)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The bytes of a transfer are there; what remains is its latency.
    fn leave_link(&mut self, live: LiveId) {
        let base = self.links.as_ref().map_or(0, Links::base_ns);
        let serial = self.requests[live].serial;
        if base > 0 {
            self.plan(self.now + base, Event::Loaded(live, serial));
        } else {
            self.finish_load(live);
        }
    }

    /// The blocks of its prompt are gone before the engine that answers loads them: that one computes the prompt.
    fn expire(&mut self, live: LiveId) {
        let request = &mut self.requests[live];
        let (place, held) = (request.place, request.held.take());
        if let Some(Place { engine, rank, id }) = held {
            self.tell(engine, rank, Message::Release(id));
            if let Some(Place { engine, rank, id }) = place {
                self.tell(engine, rank, Message::Recompute(id));
            }
        }
    }

    fn finish_load(&mut self, live: LiveId) {
        let request = &mut self.requests[live];
        request.is_loading = false;
        self.transfers.count += 1;
        self.transfer_times.add(self.now - request.load_began, 1);
        self.transfers.tokens += u64::from(request.load_tokens);
        let (place, held) = (request.place, request.held.take());
        if let Some(Place { engine, rank, id }) = place {
            self.tell(engine, rank, Message::Loaded(id));
        }
        if let Some(Place { engine, rank, id }) = held {
            self.tell(engine, rank, Message::Release(id));
        }
    }

    /// The router reads the metrics of all engines that are up; ranks tell their API server.
    fn scrape(&mut self) {
        let tick = self.now / SCRAPE_NS;
        let time = tick * SCRAPE_NS;
        self.next_scrape = time + SCRAPE_NS;
        for at in 0..self.replicas.len() {
            let replica = &mut self.replicas[at];
            if !replica.is_up {
                continue;
            }
            if self.gateway.scrapes() {
                let cores = &self.engines[replica.first as usize..][..replica.cores as usize];
                let mut scrape = cores[0].scrape();
                for core in &cores[1..] {
                    let more = core.scrape();
                    scrape.waiting += more.waiting;
                    scrape.running += more.running;
                    scrape.kv_usage += more.kv_usage;
                }
                scrape.kv_usage /= cores.len() as f64;
                self.gateway.scraped(at as u32, scrape, time);
            }
            if self.follows_ranks && tick.is_multiple_of(SCRAPES_OF_RANKS) && replica.cores == 1 {
                let engine = &self.engines[replica.first as usize];
                for (rank, counts) in replica.counts.iter_mut().enumerate() {
                    *counts = engine.reported(rank);
                }
            }
        }
    }

    /// Engines that are between two steps, or have something to do again, take it up.
    fn schedule(&mut self) -> Result<()> {
        while !self.ready.is_empty() {
            let mut ready = std::mem::take(&mut self.ready);
            ready.sort_unstable();
            self.schedule_each(&ready)?;
            ready.clear();
            // Some may have been told something meanwhile.
            ready.append(&mut self.ready);
            self.ready = ready;
        }
        Ok(())
    }

    fn schedule_each(&mut self, ready: &[u32]) -> Result<()> {
        let touch = self.next_touch();
        let mut scheduled = std::mem::take(&mut self.scheduled);
        for (place, &at) in ready.iter().enumerate() {
            let horizon = match self.is_coupled {
                false => touch,
                // The others of now have not said yet when they go on.
                true if place + 1 < ready.len() || !self.ready.is_empty() => self.now,
                true => touch.min(self.due.peek().map_or(u64::MAX, |due| due.0.0)),
            };
            let engine = &mut self.engines[at as usize];
            let timer = &mut self.groups[engine.group].timer;
            let hold_ns = ns(self.options.hold_s);
            let mut context =
                Context { timer, requests: &mut self.requests, gateway: &mut self.gateway, horizon, hold_ns };
            engine.schedule(self.now, at, &mut context, &mut scheduled)?;
            if engine.due < u64::MAX {
                self.due.push(Reverse((engine.due, at)));
            }
            for live in scheduled.admitted.drain(..) {
                self.admitted(live);
            }
            for (live, load) in scheduled.loads.drain(..) {
                self.begin_load(live, load.tokens);
            }
        }
        self.scheduled = scheduled;
        Ok(())
    }

    fn admitted(&mut self, live: LiveId) {
        let request = &mut self.requests[live];
        request.admitted = request.admitted.min(self.now);
        // All of the prompt was in its cache: there is nothing to load.
        if let Some(Place { engine, rank, id }) = request.held.take() {
            self.tell(engine, rank, Message::Release(id));
        }
    }

    fn begin_load(&mut self, live: LiveId, tokens: u32) {
        let request = &mut self.requests[live];
        (request.is_loading, request.load_began, request.load_tokens) = (true, self.now, tokens);
        let to = request.decode;
        let from = request.held.map_or(to, |place| self.engines[place.engine as usize].replica);
        if let Some(links) = &mut self.links {
            links.start(live, from, to, tokens, self.now);
        }
    }

    fn outcome(mut self) -> Outcome {
        let sent = self.source.taken() as usize;
        let ended = self.finished.len() + (self.rejected.total() + self.failed) as usize;
        debug_assert!(sent == ended, "INV-1: of {sent} requests, {ended} have ended");
        let end = self.engines.iter().map(Engine::clock).fold(self.now, u64::max);
        let mut itl = Histogram::default();
        let (mut timeline, mut blocks, mut steps) = (Timeline::new(), 0, 0);
        timeline.advance(end, State::default(), 0);
        self.queue.advance(end, State::default(), 0);
        for engine in &mut self.engines {
            engine.close(end);
            itl.join(&engine.itl);
            timeline.join(&engine.timeline);
            blocks += engine.blocks();
            steps += engine.steps;
        }
        timeline.join(&self.queue);
        let engines = self.replicas.into_iter().map(|replica| {
            let cores = &self.engines[replica.first as usize..][..replica.cores as usize];
            let mut timeline = cores[0].timeline.clone();
            cores[1..].iter().for_each(|core| timeline.join(&core.timeline));
            EngineOutcome {
                name: replica.name,
                group: replica.group,
                answered: replica.answered,
                prefilled: replica.prefilled,
                steps: cores.iter().map(|core| core.steps).sum(),
                timeline: timeline.intervals(cores.iter().map(Engine::blocks).sum()),
            }
        });
        Outcome {
            engines: engines.collect(),
            finished: self.finished,
            rejected: self.rejected,
            failed: self.failed,
            retried: self.retried,
            duration_s: self.last_token as f64 / NS_PER_S,
            steps,
            is_open: self.is_open,
            saturated: self.saturated,
            itl_ms: itl.statistics_ms(),
            transfers: Transfers { time_ms: self.transfer_times.statistics_ms(), ..self.transfers },
            timeline: timeline.intervals(blocks),
        }
    }
}
