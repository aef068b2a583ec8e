//! One engine core and its clock, or several in lockstep.
//!
//! The engine core schedules a batch, hands it to the device, and waits for the oldest output when as many batches are
//! in flight as may be (two with asynchronous scheduling). What arrives meanwhile is seen when it is back. The device
//! runs one batch after the other. Ranks in lockstep schedule at the same moment, and a step lasts as long as the longest
//! of theirs; a rank without work computes a dummy batch.

use std::collections::VecDeque;

use super::config::StepTimer;
use super::gateway::{Gateway, Scrape};
use super::requests::{LiveId, NONE, Place, Requests, Stage};
use crate::engine::SchedulerRules;
use crate::simulation::engine::{Batch, Finished, Load, NewRequest, RequestId, Scheduler, SchedulerConfig, StepOutput};
use crate::simulation::histogram::Histogram;
use crate::simulation::timeline::{State, Timeline};
use crate::{Error, Result};

/// What an engine core is told; it takes it in between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// A request arrived. Void if its slot has another serial.
    Add { live: LiveId, serial: u32 },
    /// The KV of a request has arrived.
    Loaded(RequestId),
    /// The blocks of a finished request need not be held any more.
    Release(RequestId),
    /// There is nothing to load for a request: its prompt is to be computed.
    Recompute(RequestId),
    /// The client of a request has gone, or the transfer of its KV has failed.
    Abort(RequestId),
}

/// What an output tells about a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Told {
    FirstToken(LiveId),
    Finished(LiveId, Finished, Place),
}

/// What scheduling changed outside of the engine.
#[derive(Debug, Default)]
pub(super) struct Scheduled {
    pub(super) admitted: Vec<LiveId>,
    pub(super) loads: Vec<(LiveId, Load)>,
}

/// What an engine does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing, until it is told something.
    Idle,
    /// It takes the oldest output when the device has it.
    Waits,
    /// It is between two steps.
    Between,
}

/// A scheduler and what is known of its requests.
struct Rank {
    scheduler: Scheduler,
    /// Batches in flight; empty ones stand for dummies.
    flights: VecDeque<Batch>,
    /// Requests in flight by their slots in the scheduler.
    lives: Vec<LiveId>,
    inbox: Vec<Message>,
    /// What it said of itself with its last output.
    reported: State,
    /// Time of the last output with tokens, ns.
    last_output: u64,
    /// Preemptions since the last token or message, and the time of that, ns.
    futile: (u32, u64),
}

impl Rank {
    fn new(config: &SchedulerConfig, rules: SchedulerRules, exact: bool, announces: bool) -> Result<Self> {
        let mut scheduler = Scheduler::new(config.clone(), rules)?;
        scheduler.set_exact(exact);
        if announces {
            scheduler.announce_cache_events();
        }
        Ok(Self {
            scheduler,
            flights: VecDeque::new(),
            lives: Vec::new(),
            inbox: Vec::new(),
            reported: State::default(),
            last_output: 0,
            futile: (0, 0),
        })
    }

    fn state(&self) -> State {
        State {
            running: self.scheduler.running().len() as u32,
            waiting: self.scheduler.num_waiting() as u32,
            blocks: self.scheduler.config().num_gpu_blocks - 1 - self.scheduler.num_free_blocks(),
        }
    }

    /// Nobody holds a block: not those that run, load, have loaded or are held for others.
    fn is_empty(&self) -> bool {
        self.scheduler.num_free_blocks() == self.scheduler.config().num_gpu_blocks - 1
    }

    /// What does not add a request.
    fn obey(&mut self, message: Message) {
        match message {
            Message::Add { .. } => {}
            Message::Loaded(id) => self.scheduler.finish_load(id),
            Message::Release(id) => self.scheduler.release(id),
            Message::Recompute(id) => self.scheduler.lose_remote(id),
            Message::Abort(id) => {
                self.scheduler.abort(id);
            }
        }
    }

    fn has_requests(&self) -> bool {
        self.scheduler.running().len() > 0 || self.scheduler.num_waiting() > 0
    }
}

/// An engine core, or several in lockstep.
pub(super) struct Engine {
    pub(super) group: usize,
    /// The replica it belongs to.
    pub(super) replica: u32,
    ranks: Vec<Rank>,
    /// When it fails, ns, the next time last.
    pub(super) downs: Vec<u64>,
    /// Counts its lives: what was planned for an earlier one is void.
    pub(super) epoch: u32,
    phase: Phase,
    /// Time of the core, ns. While it waits, the time of its last output.
    now: u64,
    /// When its next output is there or, between two steps, when it is; `u64::MAX` if it is idle.
    pub(super) due: u64,
    /// When the device is done with all it was given, ns.
    device_free: u64,
    /// When the outputs of the batches in flight are there, ns.
    ends: VecDeque<u64>,
    spare: Vec<Batch>,
    pub(super) itl: Histogram,
    pub(super) timeline: Timeline,
    pub(super) steps: u64,
}

/// What an engine needs from outside while it steps.
pub(super) struct Context<'a, T> {
    pub(super) timer: &'a mut T,
    pub(super) requests: &'a mut Requests,
    pub(super) gateway: &'a mut Gateway,
    /// The first moment at which anything could touch the engine.
    pub(super) horizon: u64,
    /// How long blocks are held that nobody comes for, ns.
    pub(super) hold_ns: u64,
}

/// Preemptions without a token that are no coincidence.
const FUTILE: u32 = 1000;

impl Engine {
    pub(super) fn new(
        group: usize,
        replica: u32,
        ranks: u32,
        config: &SchedulerConfig,
        rules: SchedulerRules,
        exact: bool,
        announces: bool,
    ) -> Result<Self> {
        Ok(Self {
            group,
            replica,
            ranks: (0..ranks).map(|_| Rank::new(config, rules, exact, announces)).collect::<Result<_>>()?,
            downs: Vec::new(),
            epoch: 0,
            phase: Phase::Idle,
            now: 0,
            due: u64::MAX,
            device_free: 0,
            ends: VecDeque::new(),
            spare: Vec::new(),
            itl: Histogram::default(),
            timeline: Timeline::new(),
            steps: 0,
        })
    }

    /// It fails: what it held is lost.
    pub(super) fn reset(
        &mut self,
        config: &SchedulerConfig,
        rules: SchedulerRules,
        exact: bool,
        announces: bool,
        now: u64,
    ) -> Result<()> {
        self.advance(now);
        for rank in &mut self.ranks {
            *rank = Rank::new(config, rules, exact, announces)?;
        }
        (self.phase, self.due, self.device_free) = (Phase::Idle, u64::MAX, now);
        self.epoch += 1;
        self.ends.clear();
        Ok(())
    }

    /// Between two steps, or without any: it can take in at once what it is told.
    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    pub(super) fn tell(&mut self, rank: u32, message: Message) {
        self.ranks[rank as usize].inbox.push(message);
    }

    /// Its time, ns.
    pub(super) fn clock(&self) -> u64 {
        self.now
    }

    /// What is known of a request that is aborted is forgotten at once.
    pub(super) fn abort(&mut self, place: Place) {
        let rank = &mut self.ranks[place.rank as usize];
        rank.lives[place.id as usize] = NONE;
        rank.inbox.push(Message::Abort(place.id));
    }

    /// Requests that run and that wait, those in the inboxes included.
    pub(super) fn load(&self) -> (usize, usize) {
        let of = |rank: &Rank| (rank.scheduler.running().len(), rank.scheduler.num_waiting() + rank.inbox.len());
        self.ranks.iter().map(of).fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1))
    }

    /// What a rank said last of its requests: waiting and running.
    pub(super) fn reported(&self, rank: usize) -> (u32, u32) {
        (self.ranks[rank].reported.waiting, self.ranks[rank].reported.running)
    }

    /// What a scrape finds, all ranks together.
    pub(super) fn scrape(&self) -> Scrape {
        let reported = self.ranks.iter().fold(State::default(), |sum, rank| State {
            running: sum.running + rank.reported.running,
            waiting: sum.waiting + rank.reported.waiting,
            blocks: sum.blocks + rank.reported.blocks,
        });
        let config = self.ranks[0].scheduler.config();
        Scrape {
            waiting: reported.waiting,
            running: reported.running,
            kv_usage: f64::from(reported.blocks) / self.blocks() as f64,
            block_size: config.block_size,
            blocks: config.num_gpu_blocks,
        }
    }

    /// Blocks for data of all ranks.
    pub(super) fn blocks(&self) -> u64 {
        let of = |rank: &Rank| u64::from(rank.scheduler.config().num_gpu_blocks) - 1;
        self.ranks.iter().map(of).sum()
    }

    /// Moves the clock; until then the state is what it is now.
    fn advance(&mut self, time: u64) {
        debug_assert!(time >= self.now, "INV-10: the clock goes back");
        let mut state = State::default();
        for rank in &self.ranks {
            let State { running, waiting, blocks } = rank.state();
            (state.running, state.waiting) = (state.running + running, state.waiting + waiting);
            state.blocks += blocks;
        }
        self.timeline.advance(time, state, 0);
        self.now = time;
    }

    /// The simulation ends.
    pub(super) fn close(&mut self, now: u64) {
        self.advance(now.max(self.now));
        // It may have been told of the end of the last request during a step.
        for rank in &mut self.ranks {
            std::mem::take(&mut rank.inbox).into_iter().for_each(|message| rank.obey(message));
        }
        debug_assert!(self.ranks.iter().all(|rank| !rank.has_requests()), "INV-1: an engine holds requests at the end");
    }

    /// Takes the oldest output, which is due, if the engine waits for one.
    pub(super) fn take_output(
        &mut self,
        requests: &Requests,
        gateway: &mut Gateway,
        output: &mut StepOutput,
        told: &mut Vec<Told>,
        index: u32,
    ) {
        let now = std::mem::replace(&mut self.due, u64::MAX);
        if self.phase == Phase::Waits {
            self.advance(now);
            self.ends.pop_front();
            for at in 0..self.ranks.len() {
                let rank = &mut self.ranks[at];
                let Some(batch) = rank.flights.pop_front() else { continue };
                if batch.num_tokens > 0 {
                    rank.scheduler.process_output(&batch, now, |_| 0, output);
                    self.deliver(at, requests, output, told, index);
                }
                self.spare.push(batch);
            }
        }
        self.phase = Phase::Between;
        let announces = gateway.follows_caches();
        for rank in &mut self.ranks {
            rank.reported = rank.state();
            if announces {
                publish(rank, self.replica, gateway);
            }
        }
    }

    fn deliver(&mut self, at: usize, requests: &Requests, output: &StepOutput, told: &mut Vec<Told>, index: u32) {
        let (now, rank) = (self.now, &mut self.ranks[at]);
        if output.num_tokens > 0 {
            rank.futile = (0, now);
        }
        // A token that is sampled for another engine is nobody's.
        let mut tokens = output.num_tokens;
        for &id in &output.first_tokens {
            let live = rank.lives[id as usize];
            if live == NONE || requests[live].stage == Stage::Prefill {
                tokens -= 1;
            } else {
                told.push(Told::FirstToken(live));
            }
        }
        self.timeline.advance(now, State::default(), tokens);
        let irregular = output.first_tokens.len() + output.late.len();
        self.itl.add(now - rank.last_output, u64::from(output.num_requests) - irregular as u64);
        for late in &output.late {
            self.itl.add(now - late.since, 1);
        }
        rank.last_output = now;
        for &finished in &output.finished {
            let live = rank.lives[finished.id as usize];
            if live != NONE {
                let place = Place { engine: index, rank: at as u32, id: finished.id };
                told.push(Told::Finished(live, finished, place));
            } else if finished.held {
                rank.inbox.push(Message::Release(finished.id));
            }
        }
    }

    /// Takes in what has arrived and schedules, from `now` on, until it has to wait. Then [`Engine::due`] says when it goes
    /// on.
    pub(super) fn schedule<T: StepTimer>(
        &mut self,
        now: u64,
        index: u32,
        context: &mut Context<'_, T>,
        scheduled: &mut Scheduled,
    ) -> Result<()> {
        self.advance(now);
        for at in 0..self.ranks.len() {
            self.take_in(at, index, context.requests)?;
        }
        loop {
            if !self.ranks.iter().any(Rank::has_requests) {
                self.wait();
                return Ok(());
            }
            if self.take_decode_run(context) {
                (self.phase, self.due) = (Phase::Between, self.now);
                return Ok(());
            }
            if self.step(context, scheduled)? {
                return Ok(());
            }
        }
    }

    /// Until the oldest output, or for ever.
    fn wait(&mut self) {
        (self.phase, self.due) = match self.ends.front() {
            Some(&end) => (Phase::Waits, end.max(self.now)),
            None => (Phase::Idle, u64::MAX),
        };
    }

    fn take_in(&mut self, at: usize, index: u32, requests: &mut Requests) -> Result<()> {
        let rank = &mut self.ranks[at];
        if !rank.inbox.is_empty() {
            rank.futile = (0, self.now);
        }
        for message in std::mem::take(&mut rank.inbox) {
            match message {
                Message::Add { live, serial } if requests.is_current(live, serial) => {
                    let request = &mut requests[live];
                    let computes_for_other = request.stage == Stage::Prefill;
                    let new = NewRequest {
                        arrival: self.now,
                        priority: request.priority,
                        output_start: request.content.output_start,
                        remote_decode: computes_for_other,
                        remote_prefill: request.held.is_some(),
                        ..NewRequest::new(
                            &request.content.prompt,
                            request.content.output_id,
                            if computes_for_other { 1 } else { request.output },
                        )
                    };
                    let id = rank.scheduler.add_request(&new)?;
                    request.place = Some(Place { engine: index, rank: at as u32, id });
                    if id as usize == rank.lives.len() {
                        rank.lives.push(live);
                    } else {
                        rank.lives[id as usize] = live;
                    }
                }
                message => rank.obey(message),
            }
        }
        Ok(())
    }

    /// Takes the steps ahead that only decode, up to the horizon; tells whether there were any.
    fn take_decode_run<T: StepTimer>(&mut self, context: &mut Context<'_, T>) -> bool {
        let Self { ranks, replica, downs, now, device_free, ends, spare, timeline, itl, .. } = self;
        let fails_at = downs.last().copied().unwrap_or(u64::MAX);
        let [rank] = &mut ranks[..] else { return false };
        let run = rank.scheduler.decode_run();
        if run.steps == 0 {
            return false;
        }
        let count = rank.scheduler.running().len() as u32;
        let total = rank.scheduler.config().num_gpu_blocks - 1;
        let waiting = rank.scheduler.num_waiting() as u32;
        let mut batch = spare.pop().unwrap_or_default();
        batch.requests.clear();
        (batch.cruising, batch.num_tokens) = (count, count);
        let announces = context.gateway.follows_caches();
        // A step's blocks are only known after it.
        let mut pending: Option<u64> = None;
        let mut taken = 0;
        while taken < run.steps && *now < context.horizon {
            if announces && taken > 0 {
                publish(rank, *replica, context.gateway);
            }
            let done = rank.scheduler.advance_decode(1, |decoded| {
                batch.cruising_context = decoded;
                let end = (*device_free).max(*now) + step_ns(context.timer.step_us(&batch));
                let due = ends.front().copied().unwrap_or(end);
                if due > fails_at {
                    // It will never be there.
                    return None;
                }
                *device_free = end;
                // The batches in flight are all alike; only their ends differ.
                if let Some(oldest) = ends.front_mut() {
                    *oldest = end;
                }
                pending = Some(due);
                Some(due)
            });
            let Some(due) = pending.take().filter(|_| done > 0) else { break };
            let state = State { running: count, waiting, blocks: total - rank.scheduler.num_free_blocks() };
            timeline.advance(due, state, count);
            itl.add(due - rank.last_output, u64::from(count));
            if due < context.horizon {
                // Else it is not said before somebody could ask; then the core is back.
                rank.reported = state;
            }
            (*now, rank.last_output, rank.futile) = (due, due, (0, due));
            taken += 1;
        }
        spare.push(batch);
        self.steps += u64::from(taken);
        taken > 0
    }

    /// Schedules a batch; tells whether the core then waits rather than schedule another one.
    fn step<T: StepTimer>(&mut self, context: &mut Context<'_, T>, scheduled: &mut Scheduled) -> Result<bool> {
        let (mut longest_us, mut num_idle, mut preempts) = (0.0_f64, 0, false);
        for rank in &mut self.ranks {
            let mut batch = self.spare.pop().unwrap_or_default();
            rank.scheduler.schedule(&mut batch);
            for admission in &batch.admitted {
                let live = rank.lives[admission.id as usize];
                if let Some(live) = (live != NONE).then_some(live) {
                    scheduled.admitted.push(live);
                }
            }
            for &load in &batch.loads {
                scheduled.loads.push((rank.lives[load.id as usize], load));
            }
            if batch.num_tokens > 0 {
                longest_us = longest_us.max(context.timer.step_us(&batch));
            } else {
                num_idle += 1;
            }
            preempts |= !batch.preempted.is_empty();
            rank.futile.0 += batch.preempted.len() as u32;
            rank.flights.push_back(batch);
        }
        if num_idle == self.ranks.len() {
            if self.ranks.iter().all(|rank| rank.flights.iter().all(|batch| batch.num_tokens == 0)) {
                return self.stall(preempts, context.requests);
            }
            self.ends.push_back(self.now);
        } else {
            if num_idle > 0 {
                let dummy = Batch { cruising: 1, num_tokens: 1, ..Batch::default() };
                longest_us = longest_us.max(context.timer.step_us(&dummy));
            }
            self.device_free = self.device_free.max(self.now) + step_ns(longest_us);
            self.ends.push_back(self.device_free);
            self.steps += 1;
        }
        if preempts {
            self.check_room(context.requests, context.hold_ns)?;
        }
        let queued = self.ends.len();
        let waits = |rank: &Rank| rank.flights.back().is_none_or(|last| rank.scheduler.processes_next(queued, last));
        let waits = self.ranks.iter().all(waits);
        if waits {
            self.wait();
        }
        Ok(waits)
    }

    /// Nothing could be scheduled, and nothing is in flight. Whoever waits, waits for a transfer or for ever.
    fn stall(&mut self, preempts: bool, requests: &Requests) -> Result<bool> {
        for rank in &mut self.ranks {
            self.spare.extend(rank.flights.drain(..));
        }
        self.ends.clear();
        for rank in &self.ranks {
            let stuck = !preempts && rank.is_empty() && rank.scheduler.running().len() == 0;
            if let Some(id) = rank.scheduler.first_waiting().filter(|_| stuck) {
                return Err(does_not_fit(rank, id, requests));
            }
        }
        if !preempts {
            self.wait();
        }
        Ok(!preempts)
    }

    /// A request that alone is preempted for want of blocks can never go on. Nor can those that only preempt each other,
    /// or themselves, while nothing is held for other engines any more.
    fn check_room(&self, requests: &Requests, hold_ns: u64) -> Result<()> {
        for rank in &self.ranks {
            let alone = rank.is_empty() && rank.scheduler.running().len() == 0;
            let (preemptions, since) = rank.futile;
            let futile = preemptions > FUTILE && self.now - since > hold_ns && !rank.scheduler.loads();
            let stuck = alone || futile;
            if let Some(&id) = rank.flights.back().and_then(|batch| batch.preempted.last()).filter(|_| stuck) {
                return Err(does_not_fit(rank, id, requests));
            }
        }
        Ok(())
    }
}

/// At the end of a step, the core says what happened to its cache (`Scheduler.update_from_output`).
fn publish(rank: &mut Rank, replica: u32, gateway: &mut Gateway) {
    for event in rank.scheduler.take_cache_events() {
        gateway.cache_event(replica, event);
    }
}

fn does_not_fit(rank: &Rank, id: RequestId, requests: &Requests) -> Error {
    let blocks = rank.scheduler.config().num_gpu_blocks - 1;
    let request = &requests[rank.lives[id as usize]];
    let (number, tokens) = (request.request, request.input + rank.scheduler.generated(id));
    Error::InvalidSetting {
        setting: "num_gpu_blocks".to_owned(),
        reason: format!(
            "request {number} needs more than the {blocks} blocks of the KV cache at {tokens} tokens, and vLLM would wait \
             for ever: give the cache more memory or lower `max_model_len`"
        ),
    }
}

/// At least one nanosecond, so that the clock goes on.
fn step_ns(us: f64) -> u64 {
    debug_assert!(us.is_finite() && us > 0.0, "a step takes {us} us");
    ((us * 1e3) as u64).max(1)
}
