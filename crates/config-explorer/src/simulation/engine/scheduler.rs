//! The state of one engine core and what the outside does to it; `schedule` and `output` hold the two halves of a step.

use std::collections::VecDeque;

use super::batch::{Batch, FinishReason, Finished, Scheduled};
use super::block_pool::CacheEvent;
use super::config::{Policy, SchedulerConfig};
use super::cruise::{Runner, can_cruise};
use super::kv_cache::KvCache;
use super::requests::{NewRequest, RequestId, Requests, Status};
use super::waiting_queue::WaitingQueue;
use crate::engine::SchedulerRules;
use crate::{Error, Result};

/// Scheduler and KV cache of one engine core (one data-parallel rank). It knows no time: the caller decides when a step
/// begins and when its output arrives.
#[derive(Debug, Clone, PartialEq)]
pub struct Scheduler {
    pub(super) config: SchedulerConfig,
    pub(super) rules: SchedulerRules,
    pub(super) requests: Requests,
    pub(super) kv: KvCache,
    pub(super) waiting: WaitingQueue,
    /// Requests that wait for remote KV, or did so in the last pass (`skipped_waiting`).
    pub(super) blocked: WaitingQueue,
    pub(super) running: Vec<Runner>,
    /// Requests may cruise.
    pub(super) cruises: bool,
    /// The last step scheduled held only requests that cruise.
    pub(super) all_cruised: bool,
    /// Computed tokens of the requests that cruise.
    pub(super) cruising_context: u64,
    /// Requests that ceased to cruise while a batch that holds them is in flight.
    pub(super) left: Vec<RequestId>,
    /// Steps scheduled that held tokens.
    pub(super) scheduled_steps: u64,
    /// Of these, steps whose output was processed.
    pub(super) processed_steps: u64,
    /// Step that held the last prefill; before all others at first, so that the first prefill need not wait.
    pub(super) last_prefill_step: Option<u64>,
    /// The last pass that could admit left requests waiting.
    pub(super) capacity_bound: bool,
    /// Blocks of requests in flight, and the step after which each may be used again.
    pub(super) late_frees: VecDeque<(u64, Vec<Vec<u32>>)>,
    /// Since the last pass over the waiting queue, only the admission gate keeps its head out, and nothing that could
    /// open it happened. Holds the hash of the first block that the head did not find in the cache, 0 if there is none.
    pub(super) refused: Option<u64>,
    pub(super) finished: u64,
    /// The caller's clock at the last output.
    pub(super) clock: u64,
    /// Entries into the running list.
    pub(super) entries: u64,
    pub(super) scratch: Scratch,
}

/// Buffers without meaning between calls.
#[derive(Debug, Clone, Default)]
pub(super) struct Scratch {
    pub(super) passed_over: Vec<RequestId>,
    pub(super) put_back: Vec<RequestId>,
}

impl PartialEq for Scratch {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Scheduler {
    /// An engine core without requests.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for values no engine could run with, and for settings this version does not have.
    pub fn new(config: SchedulerConfig, rules: SchedulerRules) -> Result<Self> {
        config.check()?;
        if !rules.admission_settings && (config.watermark > 0.0 || config.prefill_schedule_interval > 1) {
            return Err(Error::InvalidSetting {
                setting: "watermark, prefill_schedule_interval".to_owned(),
                reason: "this version of vLLM does not have them".to_owned(),
            });
        }
        Ok(Self {
            kv: KvCache::new(&config, &rules),
            waiting: WaitingQueue::new(config.policy),
            blocked: WaitingQueue::new(config.policy),
            requests: Requests::default(),
            running: Vec::new(),
            cruises: can_cruise(&config),
            all_cruised: false,
            cruising_context: 0,
            left: Vec::new(),
            entries: 0,
            scheduled_steps: 0,
            processed_steps: 0,
            last_prefill_step: None,
            capacity_bound: false,
            late_frees: VecDeque::new(),
            refused: None,
            finished: 0,
            clock: 0,
            scratch: Scratch::default(),
            config,
            rules,
        })
    }

    /// The settings.
    pub fn config(&self) -> &SchedulerConfig {
        &self.config
    }

    /// The behaviours of its version.
    pub fn rules(&self) -> &SchedulerRules {
        &self.rules
    }

    /// Adds a request to the waiting queue.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for an empty prompt or nothing to generate. Prompts beyond `max_model_len` are taken,
    /// as the engine core takes them: refusing them is up to the server in front of it.
    pub fn add_request(&mut self, new: &NewRequest<'_>) -> Result<RequestId> {
        let id = self.requests.insert(new, self.config.max_model_len)?;
        self.kv.insert(id);
        self.waiting.push(id, &self.requests.info[id as usize]);
        // First come, first served: a head that is refused stays the head.
        if self.config.policy == Policy::Priority {
            self.refused = None;
        }
        Ok(id)
    }

    /// Ends a request whose client has gone; between steps, as the engine core takes such messages. `None` if it is
    /// finished already.
    pub fn abort(&mut self, id: RequestId) -> Option<Finished> {
        let status = self.requests[id].status;
        match status {
            Status::Vacant | Status::Finished => return None,
            Status::Running => {
                if let Some(at) = self.running.iter().position(|runner| runner.id == id) {
                    self.stop_cruising(at);
                    self.running.remove(at);
                }
            }
            Status::Waiting | Status::Preempted | Status::Loading | Status::Loaded => self.leave_queues(id),
        }
        self.refused = None;
        self.finished += 1;
        self.requests[id].status = Status::Finished;
        // Blocks that are being written by a transfer are kept until it ends.
        if status != Status::Loading {
            self.free_blocks(id);
        }
        let finished = self.summary(id, FinishReason::Abort, false);
        self.forget_if_done(id);
        Some(finished)
    }

    /// The KV that a request was loading has arrived: the next pass over the waiting queue may admit it.
    pub fn finish_load(&mut self, id: RequestId) {
        self.refused = None;
        match self.requests[id].status {
            Status::Loading => self.requests[id].status = Status::Loaded,
            // Aborted meanwhile.
            Status::Finished => self.release(id),
            _ => {}
        }
    }

    /// The blocks that a waiting request was to load are gone: it computes its prompt. Nothing changes where it loads
    /// already, or has loaded.
    pub fn lose_remote(&mut self, id: RequestId) {
        if matches!(self.requests[id].status, Status::Waiting | Status::Preempted) {
            self.refused = None;
            self.requests.info[id as usize].remote_prefill = false;
        }
    }

    /// Gives back the blocks that a finished request held for another engine.
    pub fn release(&mut self, id: RequestId) {
        if self.requests[id].status == Status::Finished {
            self.refused = None;
            self.free_blocks(id);
            self.forget_if_done(id);
        }
    }

    /// Sets which generated token of a request is its stop token, if it has not come yet. Between steps only.
    pub fn set_stop(&mut self, id: RequestId, stop_at: Option<u32>) {
        if stop_at.is_none_or(|tokens| tokens > self.generated(id)) {
            if let Some(at) = self.running.iter().position(|runner| runner.id == id) {
                self.stop_cruising(at);
            }
            self.requests.set_stop(id, stop_at, self.config.max_model_len);
        }
    }

    /// Blocks that no request uses, cached or not.
    pub fn num_free_blocks(&self) -> u32 {
        self.kv.pool.num_free()
    }

    /// Entries of the prefix-cache table, over all groups.
    pub fn num_cached_blocks(&self) -> u32 {
        self.kv.pool.num_keys()
    }

    /// From here on, says what enters and leaves the prefix cache.
    pub fn announce_cache_events(&mut self) {
        self.kv.pool.events.get_or_insert_default();
    }

    /// What entered and left the prefix cache since this was last asked, in order; nothing unless it is to be announced.
    pub fn take_cache_events(&mut self) -> impl Iterator<Item = CacheEvent> {
        self.kv.pool.events.iter_mut().flat_map(|events| events.drain(..))
    }

    /// Requests in the running list, in order.
    pub fn running(&self) -> impl ExactSizeIterator<Item = RequestId> {
        self.running.iter().map(|runner| runner.id)
    }

    /// All requests of a batch that was just scheduled, in order, those that cruise included.
    pub fn expand(&self, batch: &Batch) -> Vec<Scheduled> {
        let mut named = batch.requests.iter().copied().peekable();
        let scheduled = |runner: &Runner| {
            let id = runner.id;
            if runner.due > 0 {
                return Some(Scheduled {
                    id,
                    context: self.computed_tokens(id) - 1,
                    tokens: 1,
                    drafts: 0,
                    samples: true,
                });
            }
            named.next_if(|scheduled| scheduled.id == id)
        };
        self.running.iter().filter_map(scheduled).collect()
    }

    /// The request that is looked at first when requests are admitted.
    pub fn first_waiting(&self) -> Option<RequestId> {
        self.head().map(|(id, _)| id)
    }

    /// Whether a request loads KV.
    pub fn loads(&self) -> bool {
        self.blocked.iter().any(|id| self.requests[id].status == Status::Loading)
    }

    /// Requests that wait, those that load KV included.
    pub fn num_waiting(&self) -> usize {
        self.waiting.len() + self.blocked.len()
    }

    /// Tokens of a request that are computed or in flight.
    pub fn computed_tokens(&self, id: RequestId) -> u32 {
        let request = &self.requests[id];
        let behind = if request.cruises { self.scheduled_steps - request.last_step } else { 0 };
        request.computed + behind as u32
    }

    /// Tokens that a request has generated.
    pub fn generated(&self, id: RequestId) -> u32 {
        let request = &self.requests[id];
        let ahead = u64::from(self.config.batches_in_flight()) - 1;
        let behind = if request.cruises { self.processed_steps + ahead - request.last_step } else { 0 };
        request.known + behind as u32 - request.prompt_len
    }

    /// Batches scheduled that hold tokens and whose output was not processed.
    pub fn batches_in_flight(&self) -> u64 {
        self.scheduled_steps - self.processed_steps
    }

    /// Whether the oldest batch is processed now, or the next one is scheduled first: the step loop of the engine core
    /// (`step_with_batch_queue`). `queued` batches, the last of which is `last`, are in flight.
    pub fn processes_next(&self, queued: usize, last: &Batch) -> bool {
        let room = queued < self.config.batches_in_flight() as usize;
        let fills = last.num_tokens > 0
            || (self.rules.empty_batches_queued && !(self.running.is_empty() && self.num_waiting() == 0));
        !(room && fills)
    }

    pub(super) fn leave_queues(&mut self, id: RequestId) {
        self.waiting.remove(id, &self.requests.info[id as usize]);
        self.blocked.remove(id, &self.requests.info[id as usize]);
    }

    /// Gives a request's blocks back, at once or, where a batch in flight may still write them while another engine
    /// fills them, when that batch is done.
    pub(super) fn free_blocks(&mut self, id: RequestId) {
        if !self.kv.is_allocated(id) {
            return;
        }
        if self.is_written(id) {
            let blocks = self.kv.detach(id);
            self.late_frees.push_back((self.scheduled_steps, blocks));
        } else {
            self.kv.free(id);
        }
    }

    /// A batch in flight writes blocks of the request, and freeing them must wait for it.
    pub(super) fn is_written(&self, id: RequestId) -> bool {
        self.rules.in_flight_blocks_freed_late
            && self.config.consumes_kv()
            && self.config.batches_in_flight() > 1
            && self.requests[id].last_step > self.processed_steps
    }

    pub(super) fn summary(&self, id: RequestId, reason: FinishReason, held: bool) -> Finished {
        let info = &self.requests.info[id as usize];
        Finished {
            id,
            reason,
            generated: self.generated(id),
            preemptions: info.preemptions,
            cached_tokens: info.cached_tokens,
            held,
        }
    }

    /// Frees the slot of a finished request to which nothing refers any more.
    pub(super) fn forget_if_done(&mut self, id: RequestId) {
        let done = self.requests[id].status == Status::Finished
            && self.requests[id].in_flight == 0
            && !self.kv.is_allocated(id);
        if done {
            self.requests.remove(id);
        }
    }
}
