//! One engine and its clock.
//!
//! The engine core schedules a batch, hands it to the device, and waits for the oldest output when as many batches are
//! in flight as may be (two with asynchronous scheduling). Requests that arrive meanwhile are seen when it is back. The
//! device runs one batch after the other.

use std::collections::VecDeque;

use super::engine::{Batch, RequestId, Scheduler, SchedulerConfig, StepOutput};
use super::histogram::Histogram;
use super::outcome::{FinishedRequests, Outcome};
use super::source::{Sent, Source};
use super::timeline::{State, Timeline};
use super::traffic::Traffic;
use crate::engine::SchedulerRules;
use crate::{Error, Result};

/// How long the device takes for a batch.
pub trait StepTimer {
    /// Microseconds from the start of a step to its output, the engine's own work included where the device waits for
    /// it. Above 0 and finite. [`Batch::decodes`] and [`Batch::chunks`] are all that may matter: how decodes are spread
    /// over [`Batch::requests`] and [`Batch::cruising`] says nothing.
    fn step_us(&mut self, batch: &Batch) -> f64;
}

impl<F: FnMut(&Batch) -> f64> StepTimer for F {
    fn step_us(&mut self, batch: &Batch) -> f64 {
        self(batch)
    }
}

/// What stands before the engine core and handles one request after the other: HTTP, tokenisation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FrontEnd {
    /// Microseconds of a request.
    pub request_us: f64,
    /// Microseconds of a token of its prompt.
    pub prompt_token_us: f64,
}

/// How to simulate.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SimulationOptions {
    /// What stands before the engine.
    pub front_end: FrontEnd,
    /// Every step touches every request. The outcome is the same, only later.
    pub exact: bool,
}

/// Simulates an engine until every request is answered.
///
/// # Errors
/// [`Error::InvalidSetting`] for settings that cannot run, for traffic that cannot be drawn from, and for a request that
/// the engine takes but can never finish because its blocks do not fit in the cache (vLLM would wait for ever).
/// Speculative decoding, pipeline stages and KV transfer are refused: nothing here accepts drafts or times stages.
pub fn simulate(
    config: SchedulerConfig,
    rules: SchedulerRules,
    traffic: &Traffic,
    options: &SimulationOptions,
    timer: impl StepTimer,
) -> Result<Outcome> {
    for (setting, given) in [
        ("speculation", config.speculation.is_some()),
        ("pipeline_parallel_size", config.pipeline_parallel_size > 1),
        ("kv_role", config.kv_role.is_some()),
    ] {
        if given {
            let reason = "the simulation of a single engine does not cover it yet: leave it out".to_owned();
            return Err(Error::InvalidSetting { setting: setting.to_owned(), reason });
        }
    }
    let mut scheduler = Scheduler::new(config, rules)?;
    scheduler.set_exact(options.exact);
    let source = Source::new(traffic, options.front_end)?;
    Simulation {
        scheduler,
        timer,
        finished: FinishedRequests::with_capacity(source.expected_requests()),
        source,
        now: 0,
        device_free: 0,
        flights: VecDeque::new(),
        spare: Vec::new(),
        slots: Vec::new(),
        output: StepOutput::default(),
        last_output: 0,
        rejected: 0,
        saturated: false,
        itl: Histogram::default(),
        timeline: Timeline::new(),
        steps: 0,
        is_open: traffic.is_open(),
    }
    .run()
}

/// What is known of a request in a slot of the scheduler. One row, as one request is looked at in any slot.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    request: u32,
    input: u32,
    class: u16,
    sent: u64,
    admitted: u64,
    first_token: u64,
}

/// A batch on the device and when its output is there, ns.
struct Flight {
    batch: Batch,
    end: u64,
}

struct Simulation<T> {
    scheduler: Scheduler,
    timer: T,
    source: Source,
    /// Time of the engine core, ns.
    now: u64,
    /// When the device is done with all it was given, ns.
    device_free: u64,
    flights: VecDeque<Flight>,
    spare: Vec<Batch>,
    slots: Vec<Slot>,
    output: StepOutput,
    /// Time of the last output with tokens, ns.
    last_output: u64,
    finished: FinishedRequests,
    rejected: u32,
    saturated: bool,
    itl: Histogram,
    timeline: Timeline,
    steps: u64,
    is_open: bool,
}

impl<T: StepTimer> Simulation<T> {
    fn run(mut self) -> Result<Outcome> {
        loop {
            self.let_in()?;
            if self.scheduler.running().len() == 0 && self.scheduler.num_waiting() == 0 {
                if let Some(flight) = self.flights.pop_front() {
                    self.take_output(flight);
                } else if let Some(ready) = self.source.next_ready() {
                    self.wait_until(ready);
                } else {
                    break;
                }
                continue;
            }
            self.take_decode_run();
            // Those that came during the run.
            self.let_in()?;
            self.step()?;
        }
        let config = self.scheduler.config();
        let taken = self.source.taken() as usize;
        debug_assert!(taken == self.finished.len() + self.rejected as usize, "INV-1: a request is lost");
        Ok(Outcome {
            duration_s: self.last_output as f64 / super::NS_PER_S,
            steps: self.steps,
            rejected: self.rejected,
            saturated: self.saturated,
            itl_ms: self.itl.statistics_ms(),
            timeline: self.timeline.intervals(config.num_gpu_blocks - 1),
            finished: self.finished,
        })
    }

    /// Moves the clock; until then the engine's state is what it is now.
    fn wait_until(&mut self, time: u64) {
        debug_assert!(time >= self.now, "INV-10: the clock goes back");
        let state = State {
            running: self.scheduler.running().len() as u32,
            waiting: self.scheduler.num_waiting() as u32,
            blocks: self.scheduler.config().num_gpu_blocks - 1 - self.scheduler.num_free_blocks(),
        };
        self.timeline.advance(time, state, 0);
        self.now = time;
    }

    /// Gives the engine core what has arrived.
    fn let_in(&mut self) -> Result<()> {
        while let Some(sent) = self.source.take(self.now) {
            if self.source.is_exhausted() {
                self.saturated = self.is_open && self.scheduler.num_waiting() > self.scheduler.running().len();
            }
            self.add(sent)?;
        }
        Ok(())
    }

    fn add(&mut self, sent: Sent) -> Result<()> {
        // The server answers with an error (`InputProcessor._validate_model_input`).
        if sent.input >= self.scheduler.config().max_model_len {
            self.rejected += 1;
            self.source.failed(sent.request, self.now);
            return Ok(());
        }
        let id = self.scheduler.add_request(&sent.new_request())?;
        let slot = Slot {
            request: sent.request,
            input: sent.input,
            class: sent.class,
            sent: sent.time,
            admitted: u64::MAX,
            first_token: 0,
        };
        if id as usize == self.slots.len() {
            self.slots.push(slot);
        } else {
            self.slots[id as usize] = slot;
        }
        Ok(())
    }

    /// Takes the steps ahead that only decode, up to the next arrival.
    fn take_decode_run(&mut self) {
        let run = self.scheduler.decode_run();
        if run.steps == 0 {
            return;
        }
        let count = self.scheduler.running().len() as u32;
        let total = self.scheduler.config().num_gpu_blocks - 1;
        let waiting = self.scheduler.num_waiting() as u32;
        let mut batch = self.spare.pop().unwrap_or_default();
        batch.requests.clear();
        (batch.cruising, batch.num_tokens) = (count, count);
        let Self { scheduler, timer, source, now, device_free, flights, timeline, itl, last_output, .. } = self;
        let arrival = source.next_ready().unwrap_or(u64::MAX);
        // A step's blocks are only known after it.
        let mut pending: Option<u64> = None;
        let mut taken = 0;
        while taken < run.steps && *now < arrival {
            let done = scheduler.advance_decode(1, |context| {
                batch.cruising_context = context;
                let end = (*device_free).max(*now) + step_ns(timer.step_us(&batch));
                *device_free = end;
                // The batches in flight are all alike; only their ends differ.
                let due = flights.front_mut().map_or(end, |flight| std::mem::replace(&mut flight.end, end));
                pending = Some(due);
                Some(due)
            });
            let Some(due) = pending.take().filter(|_| done > 0) else { break };
            let state = State { running: count, waiting, blocks: total - scheduler.num_free_blocks() };
            timeline.advance(due, state, count);
            itl.add(due - *last_output, u64::from(count));
            (*now, *last_output) = (due, due);
            taken += 1;
        }
        self.steps += u64::from(taken);
        self.spare.push(batch);
    }

    /// Schedules a batch and, if the core does not schedule another one first, waits for the oldest output.
    fn step(&mut self) -> Result<()> {
        let mut batch = self.spare.pop().unwrap_or_default();
        self.scheduler.schedule(&mut batch);
        for admission in &batch.admitted {
            let slot = &mut self.slots[admission.id as usize];
            slot.admitted = slot.admitted.min(self.now);
        }
        let mut end = self.now;
        if batch.num_tokens > 0 {
            end = self.device_free.max(self.now) + step_ns(self.timer.step_us(&batch));
            self.device_free = end;
            self.steps += 1;
        } else if self.flights.iter().all(|flight| flight.batch.num_tokens == 0) {
            self.check_progress(&batch)?;
        }
        let outgrown = batch.preempted.last().copied().filter(|_| self.scheduler.running().len() == 0);
        if let Some(id) = outgrown {
            return Err(self.does_not_fit(id));
        }
        let waits = self.scheduler.processes_next(self.flights.len() + 1, &batch);
        self.flights.push_back(Flight { batch, end });
        if waits && let Some(flight) = self.flights.pop_front() {
            self.take_output(flight);
        }
        Ok(())
    }

    /// Nothing runs and nothing is in flight: whoever waits, waits for ever.
    fn check_progress(&self, batch: &Batch) -> Result<()> {
        match self.scheduler.first_waiting() {
            Some(id) if batch.preempted.is_empty() && self.scheduler.running().len() == 0 => Err(self.does_not_fit(id)),
            _ => Ok(()),
        }
    }

    fn does_not_fit(&self, id: RequestId) -> Error {
        let blocks = self.scheduler.config().num_gpu_blocks - 1;
        let slot = &self.slots[id as usize];
        let tokens = slot.input + self.scheduler.generated(id);
        Error::InvalidSetting {
            setting: "num_gpu_blocks".to_owned(),
            reason: format!(
                "request {} needs more than the {blocks} blocks of the KV cache at {tokens} tokens, and vLLM would wait for \
                 ever: give the cache more memory or lower `max_model_len`",
                slot.request
            ),
        }
    }

    fn take_output(&mut self, flight: Flight) {
        let Flight { batch, end } = flight;
        let now = end.max(self.now);
        let is_empty = batch.num_tokens == 0;
        self.wait_until(now);
        self.scheduler.process_output(&batch, now, |_| 0, &mut self.output);
        self.spare.push(batch);
        if is_empty {
            return;
        }
        let output = &self.output;
        self.timeline.advance(now, State::default(), output.num_tokens);
        let irregular = output.first_tokens.len() + output.late.len();
        self.itl.add(now - self.last_output, u64::from(output.num_requests) - irregular as u64);
        for late in &output.late {
            self.itl.add(now - late.since, 1);
        }
        self.last_output = now;
        for &id in &output.first_tokens {
            self.slots[id as usize].first_token = now;
        }
        for finished in &output.finished {
            let slot = &self.slots[finished.id as usize];
            debug_assert!(
                slot.sent <= slot.admitted && slot.admitted < slot.first_token && slot.first_token <= now,
                "INV-11: sent, admitted, first token, last token"
            );
            self.finished.request.push(slot.request);
            self.finished.class.push(slot.class);
            self.finished.input_tokens.push(slot.input);
            self.finished.output_tokens.push(finished.generated);
            self.finished.cached_tokens.push(finished.cached_tokens.unwrap_or(0));
            self.finished.preemptions.push(finished.preemptions);
            self.finished.sent_ns.push(slot.sent);
            self.finished.admitted_ns.push(slot.admitted);
            self.finished.first_token_ns.push(slot.first_token);
            self.finished.last_token_ns.push(now);
            self.source.ended(slot.request, now);
        }
    }
}

/// At least one nanosecond, so that the clock goes on.
fn step_ns(us: f64) -> u64 {
    debug_assert!(us.is_finite() && us > 0.0, "a step takes {us} us");
    ((us * 1e3) as u64).max(1)
}
