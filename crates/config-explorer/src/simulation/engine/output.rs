//! The second half of a step: what its output changes (`Scheduler.update_from_output`).

use super::batch::{Batch, FinishReason, Late, Scheduled, StepOutput};
use super::requests::{RequestId, Status};
use super::scheduler::Scheduler;

impl Scheduler {
    /// Takes in the output of the oldest batch in flight at the time `now` of the caller's clock, which is later than
    /// that of the output before.
    /// `accepted` tells how many of the drafts of a request were
    /// accepted; it is called, in the order of the batch, for every unfinished request that had drafts to verify.
    pub fn process_output(
        &mut self,
        batch: &Batch,
        now: u64,
        mut accepted: impl FnMut(&Scheduled) -> u32,
        output: &mut StepOutput,
    ) {
        output.clear();
        if batch.num_tokens == 0 {
            return;
        }
        self.processed_steps += 1;
        self.drain_late_frees();
        // Those that ceased to cruise since are a part of the batch like any other, in their places.
        let mut left = std::mem::take(&mut self.left);
        left.sort_unstable_by_key(|&id| self.requests[id].entry);
        output.num_tokens = batch.cruising - left.len() as u32;
        output.num_requests = output.num_tokens;
        let mut next = 0;
        for scheduled in &batch.requests {
            let entry = self.requests[scheduled.id].entry;
            while next < left.len() && self.requests[left[next]].entry < entry {
                self.take_output(&Scheduled::decode(left[next]), now, &mut accepted, output);
                next += 1;
            }
            self.take_output(scheduled, now, &mut accepted, output);
        }
        for &id in &left[next..] {
            self.take_output(&Scheduled::decode(id), now, &mut accepted, output);
        }
        left.clear();
        self.left = left;
        self.clock = now;
        if !output.finished.is_empty() {
            self.refused = None;
            let requests = &self.requests;
            self.running.retain(|runner| requests[runner.id].status == Status::Running);
            // Only now, so that no slot is vacant while the running list is read.
            for finished in &output.finished {
                self.forget_if_done(finished.id);
            }
        }
        self.debug_check(batch);
    }

    fn take_output(
        &mut self,
        scheduled: &Scheduled,
        now: u64,
        accepted: &mut impl FnMut(&Scheduled) -> u32,
        output: &mut StepOutput,
    ) {
        let id = scheduled.id;
        let request = &mut self.requests[id];
        if request.cruises {
            // It began to, and this is its token.
            output.num_tokens += 1;
            output.num_requests += 1;
            return;
        }
        request.in_flight -= scheduled.tokens;
        let is_stale = request.stale > 0;
        if is_stale {
            request.stale -= scheduled.tokens;
        }
        if request.status == Status::Finished {
            self.forget_if_done(id);
            return;
        }
        if !scheduled.samples {
            return;
        }
        let accepted = if scheduled.drafts > 0 { accepted(scheduled).min(scheduled.drafts) } else { 0 };
        if !is_stale || !self.config.produces_kv() {
            self.deliver(scheduled, now, accepted, is_stale, output);
        }
    }

    /// Adds the sampled tokens of one request.
    fn deliver(&mut self, scheduled: &Scheduled, now: u64, accepted: u32, is_stale: bool, output: &mut StepOutput) {
        let next_drafts = self.num_drafts();
        let id = scheduled.id;
        let request = &mut self.requests[id];
        let rejected = scheduled.drafts - accepted;
        if rejected > 0 && !is_stale {
            request.computed = request.computed.saturating_sub(rejected);
            request.placeholders = request.placeholders.saturating_sub(rejected);
        }
        if request.known == request.prompt_len {
            output.first_tokens.push(id);
        } else if request.last_output != self.clock {
            output.late.push(Late { id, since: request.last_output });
        }
        request.last_output = now;
        output.num_requests += 1;
        let sampled = (1 + accepted).min(request.end - request.known);
        request.known += sampled;
        output.num_tokens += sampled;
        let had_placeholders = request.placeholders > 0;
        if !is_stale {
            if self.rules.processed_tokens_cached {
                // Accepted drafts after the stop token.
                request.computed = request.computed.saturating_sub(1 + accepted - sampled);
            }
            request.placeholders = request.placeholders.saturating_sub(sampled);
        }
        // Blocks that the new tokens complete enter the cache, short of tokens that may still be rejected.
        let (caches, uncertain) = if self.rules.processed_tokens_cached {
            (!is_stale && (had_placeholders || self.config.speculation.is_some()), request.in_flight)
        } else {
            (self.config.async_scheduling, request.placeholders)
        };
        let certain = request.computed.saturating_sub(uncertain);
        let finished = request.known == request.end;
        if !finished && !self.config.async_scheduling && !request.is_chunk {
            request.drafts = next_drafts;
        }
        if caches && request.status == Status::Running && self.cache_blocks(id, certain) {
            self.refused = None;
        }
        if finished {
            self.finish(id, output);
        }
    }

    fn finish(&mut self, id: RequestId, output: &mut StepOutput) {
        let reason = if self.requests.is_stopped(id) { FinishReason::Stop } else { FinishReason::Length };
        if self.requests[id].status != Status::Running {
            self.leave_queues(id);
        }
        self.finished += 1;
        let request = &mut self.requests[id];
        request.status = Status::Finished;
        let processed = request.computed.saturating_sub(request.in_flight);
        let held = self.requests.info[id as usize].remote_decode && self.kv.is_allocated(id);
        if held {
            // What no reader needs is not held (`_connector_finished`).
            self.kv.drop_skipped(id, processed);
        } else {
            self.free_blocks(id);
        }
        output.finished.push(self.summary(id, reason, held));
    }

    fn drain_late_frees(&mut self) {
        while self.late_frees.front().is_some_and(|(step, _)| *step <= self.processed_steps) {
            self.refused = None;
            let (_, groups) = self.late_frees.pop_front().unwrap_or_default();
            for blocks in groups {
                self.kv.pool.release(blocks.into_iter().rev());
            }
        }
    }
}
