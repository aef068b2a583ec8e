//! Requests that decode without any event are left alone.
//!
//! A request in the steady state of decoding gains one token a step and changes nothing else, but for a block now and
//! then. While it is in that state it cruises: it is part of every batch, but no step touches it. Its row holds the
//! counters as they were after step `last_step`; it is as many tokens further as steps were scheduled since. The running
//! list says in which step it needs attention: when it fills or needs a block, and before its last token, where it
//! leaves the state. A step costs one comparison for each cruising request.
//!
//! When everybody cruises and nobody can enter, whole runs of steps are taken at once. The result of all this is that of
//! steps that touch every request, to the order of the free queue (INV-9); [`Scheduler::set_exact`] asks for those.
//!
//! Only one full-attention group under first come, first served, without speculation and pipeline stages, cruises.

use super::config::{GroupAttention, Policy, SchedulerConfig};
use super::requests::{RequestId, Status};
use super::scheduler::Scheduler;

/// A place in the running list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Runner {
    pub(super) id: RequestId,
    /// The step in which a cruising request needs attention; 0 if it does not cruise.
    pub(super) due: u64,
}

/// How far the engine runs without any event of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeRun {
    /// Steps; 0 if the next step is more than a decode step.
    pub steps: u32,
    /// Requests may be added meanwhile without any effect on these steps.
    pub absorbs_arrivals: bool,
}

pub(super) fn can_cruise(config: &SchedulerConfig) -> bool {
    config.policy == Policy::Fcfs
        && config.speculation.is_none()
        && config.pipeline_parallel_size == 1
        && matches!(config.kv_groups[..], [group] if group.attention == GroupAttention::Full)
}

impl Scheduler {
    /// Whether every step touches every request and no step is skipped. The results are the same, only later.
    pub fn set_exact(&mut self, exact: bool) {
        self.leave_all(0);
        self.cruises = !exact && can_cruise(&self.config);
    }

    /// All batches that can be in flight before a step is scheduled are: only then does a step follow a step.
    pub(super) fn is_pipeline_full(&self) -> bool {
        self.batches_in_flight() + 1 == u64::from(self.config.batches_in_flight())
    }

    /// Whether the request at a place of the running list cruises in the step that is being scheduled: attends to it if
    /// it needs attention, and lets others begin if they are in the steady state.
    pub(super) fn cruise(&mut self, at: usize) -> bool {
        let Runner { id, due } = self.running[at];
        if due > 0 {
            self.catch_up(id);
            let stays = self.attend(at);
            if !stays {
                self.leave(at);
            }
            return stays;
        }
        if !self.is_steady(id) || !self.attend(at) {
            return false;
        }
        let request = &mut self.requests[id];
        request.last_step = self.scheduled_steps;
        request.cruises = true;
        self.cruising_context += u64::from(request.computed);
        true
    }

    /// It got one token from the last output, and one more is in flight if steps are scheduled ahead.
    fn is_steady(&self, id: RequestId) -> bool {
        let request = &self.requests[id];
        let ahead = u32::from(self.config.async_scheduling);
        request.known > request.prompt_len
            && !request.is_chunk
            && request.computed + 1 == request.known + ahead
            && request.in_flight == ahead
            && request.last_output == self.clock
            && request.placeholders == ahead
            && (ahead == 0 || request.last_step == self.scheduled_steps)
    }

    /// Fills and takes the blocks that a request in the steady state needs in the step that is being scheduled, and finds
    /// the step of its next attention. `false`, without a change, if it cannot go on alone.
    fn attend(&mut self, at: usize) -> bool {
        let id = self.running[at].id;
        let (known, computed) = (self.requests[id].known, self.requests[id].computed);
        let steps = self.requests[id].end - known - 1;
        if steps == 0 {
            return false;
        }
        let need = self.need(computed, 1, 0);
        if self.kv.blocks_needed(id, need).is_none_or(|blocks| blocks > self.kv.pool.num_free()) {
            return false;
        }
        self.kv.allocate(id, need);
        self.cache_blocks(id, need.tokens.min(known));
        let table = &self.kv.tables(id)[0];
        let block_size = self.kv.span.tokens;
        let mut quiet = table.blocks.len() as u32 * block_size - computed;
        if self.kv.caching {
            quiet = quiet.min((table.cached + 1) * block_size - known);
        }
        self.running[at].due = self.scheduled_steps + 1 + u64::from(steps.min(quiet));
        true
    }

    /// Brings the counters of a cruising request up to the last step. Between steps only: when all batches that can be in
    /// flight are.
    pub(super) fn catch_up(&mut self, id: RequestId) {
        debug_assert!(self.is_pipeline_full(), "a request is looked at in the middle of a step");
        let request = &mut self.requests[id];
        let behind = (self.scheduled_steps - request.last_step) as u32;
        request.known += behind;
        request.computed += behind;
        request.last_step = self.scheduled_steps;
    }

    /// The request at a place of the running list, whose counters are up to date, does not cruise any more.
    fn leave(&mut self, at: usize) {
        let id = self.running[at].id;
        self.running[at].due = 0;
        let request = &mut self.requests[id];
        request.cruises = false;
        request.last_output = self.clock;
        self.cruising_context -= u64::from(request.computed);
        if self.config.async_scheduling {
            self.left.push(id);
        }
    }

    /// Ends cruising at a place of the running list, if the request there does.
    pub(super) fn stop_cruising(&mut self, at: usize) {
        if self.running[at].due > 0 {
            self.catch_up(self.running[at].id);
            self.leave(at);
        }
    }

    /// Ends cruising from a place of the running list on.
    pub(super) fn leave_all(&mut self, from: usize) {
        for at in from..self.running.len() {
            self.stop_cruising(at);
        }
    }

    /// How many of the next steps only decode the running requests and finish nobody. To be asked between steps.
    pub fn decode_run(&self) -> DecodeRun {
        let none = DecodeRun { steps: 0, absorbs_arrivals: false };
        let len = self.running.len() as u32;
        let full = len == self.config.max_num_seqs || len == self.config.max_num_batched_tokens;
        let closed = full || self.refused.is_some() || self.nobody_can_enter();
        // A step in flight may hold others too: finished ones.
        if !closed || len == 0 || !self.all_cruised || !self.left.is_empty() || !self.is_pipeline_full() {
            return none;
        }
        // The newest, which are the least likely to cruise, first.
        if self.running.iter().rev().any(|runner| runner.due == 0) {
            return none;
        }
        // How many steps passed since the last prefill matters to those who wait, and to arrivals.
        let throttles = self.config.prefill_schedule_interval > 1;
        if !self.late_frees.is_empty() || (throttles && !self.waiting.is_empty()) {
            return none;
        }
        let left = |runner: &Runner| {
            let request = &self.requests[runner.id];
            request.end - request.known - 1 - (self.scheduled_steps - request.last_step) as u32
        };
        let steps = self.running.iter().map(left).min().unwrap_or(0);
        // In as many steps as a block has tokens, every request takes one block.
        let block_steps = (self.kv.pool.num_free() / len).saturating_mul(self.kv.span.tokens);
        DecodeRun { steps: steps.min(block_steps), absorbs_arrivals: !throttles && (full || self.refused.is_some()) }
    }

    fn nobody_can_enter(&self) -> bool {
        self.waiting.is_empty() && self.blocked.iter().all(|id| self.requests[id].status == Status::Loading)
    }

    /// Takes `steps` decode steps, at most as many as [`decode_run`](Self::decode_run) says, with nothing but arrivals
    /// that it absorbs in between. `clock` is told the sum of the contexts before each step and answers with the time at
    /// which the output that is due then arrives, or `None` to stop. Returns how many steps were taken: fewer, too, if a
    /// request that waits would find a new block in the cache.
    pub fn advance_decode(&mut self, steps: u32, mut clock: impl FnMut(u64) -> Option<u64>) -> u32 {
        let mut taken = 0;
        while taken < steps && !self.fills_missing_block() {
            let Some(now) = clock(self.cruising_context) else { break };
            self.clock = now;
            let next = self.scheduled_steps + 1;
            for at in 0..self.running.len() {
                if self.running[at].due <= next {
                    let stays = self.cruise(at);
                    debug_assert!(stays, "more steps than the run has");
                }
            }
            self.scheduled_steps += 1;
            self.processed_steps += 1;
            self.cruising_context += self.running.len() as u64;
            taken += 1;
        }
        if taken > 0 {
            self.capacity_bound = !self.waiting.is_empty();
        }
        taken
    }

    /// The next step caches the block that the refused head of the queue misses.
    fn fills_missing_block(&mut self) -> bool {
        let Some(missing) = self.refused.filter(|&hash| hash != 0) else { return false };
        let next = self.scheduled_steps + 1;
        for at in 0..self.running.len() {
            let Runner { id, due } = self.running[at];
            if due <= next {
                self.catch_up(id);
                let known = self.requests[id].known;
                let fills = known.is_multiple_of(self.kv.span.tokens);
                if fills && self.requests.block_hashes(id, known, self.kv.span).last() == Some(&missing) {
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use crate::engine::EngineRules;

    #[test]
    fn a_run_stops_where_a_waiting_request_finds_its_block() {
        let config = SchedulerConfig { num_gpu_blocks: 7, async_scheduling: false, ..SchedulerConfig::default() };
        let rules = EngineRules::of_default_version().scheduler;
        let mut scheduler = Scheduler::new(config, rules).unwrap();
        let shared = Segment { id: 1, start: 0, len: 32 };
        let generated = Segment { id: Segment::CONSTANT, start: 0, len: 64 };
        scheduler.add_request(&NewRequest::new(&[shared], Segment::CONSTANT, 30)).unwrap();
        let (mut batch, mut output) = (Batch::default(), StepOutput::default());
        for step in 0..3 {
            if step == 2 {
                scheduler.add_request(&NewRequest::new(&[shared, generated], 2, 1)).unwrap();
            }
            scheduler.schedule(&mut batch);
            scheduler.process_output(&batch, step, |_| 0, &mut output);
        }
        // Of the second request's 6 blocks, 2 are in use by the first and 3 are free. When the first has generated 16
        // tokens, a third one is shared.
        let run = scheduler.decode_run();
        assert_eq!(run, DecodeRun { steps: 26, absorbs_arrivals: true });
        assert_eq!(scheduler.advance_decode(run.steps, |_| Some(3)), 13);
        scheduler.schedule(&mut batch);
        assert_eq!(batch.admitted, [Admission { id: 1, computed: 48, resumed: false }]);
    }
}
