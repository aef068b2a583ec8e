//! The first half of a step: what runs next (`Scheduler.schedule`). The pass over the waiting queue is in `admission`.

use super::batch::{Batch, Scheduled};
use super::config::Policy;
use super::kv_cache::Need;
use super::requests::{RequestId, Status};
use super::scheduler::Scheduler;

/// What is left of a step while it is put together.
pub(super) struct Pass {
    /// Tokens.
    pub(super) budget: u32,
    /// Most tokens of one request; 0 is no limit.
    pub(super) threshold: u32,
    /// Prefill waits for a later step.
    pub(super) defers_prefill: bool,
    /// A running request's prefill was scheduled.
    pub(super) prefill: bool,
    /// Any prefill was scheduled.
    pub(super) any_prefill: bool,
}

impl Pass {
    /// Each takes one token.
    fn count_cruising(&mut self, count: u32, batch: &mut Batch) {
        batch.cruising += count;
        self.budget -= count;
    }
}

impl Scheduler {
    /// Schedules the next step into `batch`, which is cleared first. An empty batch means that nothing can run now.
    pub fn schedule(&mut self, batch: &mut Batch) {
        batch.clear();
        self.kv.start_step();
        self.refused = None;
        let mut pass = Pass {
            budget: self.config.max_num_batched_tokens,
            threshold: self.threshold(),
            defers_prefill: self.defers_prefill(),
            prefill: false,
            any_prefill: false,
        };
        self.schedule_running(batch, &mut pass);
        if batch.preempted.is_empty() {
            self.schedule_waiting(batch, &mut pass);
        }
        self.commit(batch, &pass);
        self.debug_check(batch);
    }

    fn threshold(&self) -> u32 {
        let lone = self.running.len() + self.waiting.len() <= 1;
        if lone && self.rules.threshold_spares_lone_request { 0 } else { self.config.long_prefill_token_threshold }
    }

    /// `prefill_schedule_interval` steps have not passed since the last prefill, something decodes, and the queue is not
    /// what holds the engine back.
    fn defers_prefill(&self) -> bool {
        let interval = u64::from(self.config.prefill_schedule_interval);
        interval > 1
            && !self.capacity_bound
            && self.last_prefill_step.is_some_and(|step| self.scheduled_steps + 1 < step + interval)
            && self.running.iter().any(|runner| !self.requests[runner.id].is_chunk)
    }

    fn schedule_running(&mut self, batch: &mut Batch, pass: &mut Pass) {
        let cruises = self.cruises && self.is_pipeline_full();
        if !cruises {
            self.leave_all(0);
        }
        let (step, lookahead) = (self.scheduled_steps + 1, self.lookahead());
        let mut at = 0;
        loop {
            let ahead = self.running.iter().skip(at).take(pass.budget as usize);
            let count = ahead.take_while(|runner| runner.due > step).count();
            pass.count_cruising(count as u32, batch);
            at += count;
            if at >= self.running.len() || pass.budget == 0 {
                break;
            }
            if cruises && self.cruise(at) {
                pass.count_cruising(1, batch);
                at += 1;
                continue;
            }
            let id = self.running[at].id;
            let tokens = self.running_tokens(id, pass);
            if tokens == 0 {
                at += 1;
                continue;
            }
            let need = self.need(self.requests[id].computed, tokens, lookahead);
            if !self.make_room(id, need, &mut at, batch, pass) {
                let preempted_itself = self.requests[id].status == Status::Preempted;
                if preempted_itself && self.rules.priority_pass_continues && self.config.policy == Policy::Priority {
                    continue;
                }
                break;
            }
            self.kv.allocate(id, need);
            self.cache_blocks(id, need.tokens.min(self.requests[id].known));
            let drafts = self.take_drafts(id, tokens);
            self.push(batch, pass, id, tokens, drafts);
            pass.prefill |= self.requests[id].is_chunk;
            at += 1;
        }
        // Who is not a part of every batch does not cruise.
        self.leave_all(at);
        batch.cruising_context = self.cruising_context;
        pass.any_prefill |= pass.prefill;
    }

    /// Tokens that a running request can use in this step.
    fn running_tokens(&self, id: RequestId, pass: &Pass) -> u32 {
        let request = &self.requests[id];
        // Even if all drafts in flight are rejected, the tokens in flight reach `max_tokens`.
        if request.placeholders > 0 && request.computed + 2 >= request.length_end + request.placeholders {
            return 0;
        }
        if pass.defers_prefill && request.is_chunk {
            return 0;
        }
        let mut tokens = (request.known + request.drafts + request.placeholders).saturating_sub(request.computed);
        if pass.threshold > 0 {
            tokens = tokens.min(pass.threshold);
        }
        tokens = tokens.min(pass.budget).min((self.config.max_model_len - 1).saturating_sub(request.computed));
        self.align_prefill(id, request.computed, tokens)
    }

    /// Preempts requests until a running request has the blocks it needs. `at` keeps its place in the running list.
    fn make_room(&mut self, id: RequestId, need: Need, at: &mut usize, batch: &mut Batch, pass: &mut Pass) -> bool {
        let in_flight = if self.rules.skipped_blocks_by_processed_tokens { self.requests[id].in_flight } else { 0 };
        loop {
            self.kv.drop_skipped(id, need.computed.saturating_sub(in_flight));
            if self.kv.blocks_needed(id, need).is_some_and(|blocks| blocks <= self.kv.pool.num_free()) {
                return true;
            }
            let victim_at = self.victim();
            self.stop_cruising(victim_at);
            let victim = self.running[victim_at].id;
            if self.is_written(victim) {
                return false;
            }
            self.running.remove(victim_at);
            if self.config.policy == Policy::Priority {
                let withdrawn = batch.withdraw(victim);
                pass.budget += withdrawn.unwrap_or(0);
                // The older rule forgets requests that were passed over without being scheduled.
                let before = if self.rules.priority_pass_continues { victim_at < *at } else { withdrawn.is_some() };
                *at -= usize::from(before);
            }
            self.preempt(victim);
            batch.preempted.push(victim);
            if victim == id {
                return false;
            }
        }
    }

    /// Place in the running list of the request to preempt.
    fn victim(&self) -> usize {
        if self.config.policy == Policy::Fcfs {
            return self.running.len() - 1;
        }
        let key = |at: usize| {
            let info = &self.requests.info[self.running[at].id as usize];
            (info.priority, info.arrival)
        };
        (1..self.running.len()).fold(0, |worst, at| if key(at) > key(worst) { at } else { worst })
    }

    fn preempt(&mut self, id: RequestId) {
        self.free_blocks(id);
        let request = &mut self.requests[id];
        request.status = Status::Preempted;
        request.computed = 0;
        request.drafts = 0;
        if self.rules.stale_output_tracked {
            request.placeholders = 0;
            request.stale = request.in_flight;
        }
        let info = &mut self.requests.info[id as usize];
        info.preemptions += 1;
        self.waiting.push_front(id, info);
    }

    pub(super) fn num_drafts(&self) -> u32 {
        self.config.speculation.map_or(0, |speculation| speculation.num_tokens)
    }

    /// Slots that the drafter of EAGLE and MTP writes ahead.
    pub(super) fn lookahead(&self) -> u32 {
        self.config.speculation.map_or(0, |speculation| if speculation.eagle { speculation.num_tokens } else { 0 })
    }

    pub(super) fn need(&self, computed: u32, tokens: u32, lookahead: u32) -> Need {
        let tokens = computed + tokens;
        Need { computed, tokens, slots: (tokens + lookahead).min(self.config.max_model_len) }
    }

    /// Puts the blocks that the first `tokens` tokens fill into the prefix cache; tells whether there were any.
    pub(super) fn cache_blocks(&mut self, id: RequestId, tokens: u32) -> bool {
        let any = self.kv.has_uncached_block(id, tokens);
        if any {
            let known = self.requests[id].known;
            let hashes = self.requests.block_hashes(id, known, self.kv.span);
            self.kv.cache(id, tokens, hashes);
        }
        any
    }

    /// Drafts of a running request that `tokens` make room for; the others are lost.
    fn take_drafts(&mut self, id: RequestId, tokens: u32) -> u32 {
        let request = &mut self.requests[id];
        let drafts = std::mem::take(&mut request.drafts);
        (request.computed + tokens).saturating_sub(request.known + request.placeholders).min(drafts)
    }

    pub(super) fn push(&self, batch: &mut Batch, pass: &mut Pass, id: RequestId, tokens: u32, drafts: u32) {
        let context = self.requests[id].computed;
        batch.requests.push(Scheduled { id, context, tokens, drafts, samples: false });
        pass.budget -= tokens;
    }

    /// Counts the step: from here on its tokens are computed, as far as scheduling goes.
    fn commit(&mut self, batch: &mut Batch, pass: &Pass) {
        batch.num_tokens = batch.cruising + batch.requests.iter().map(|scheduled| scheduled.tokens).sum::<u32>();
        if batch.num_tokens == 0 {
            return;
        }
        self.scheduled_steps += 1;
        self.cruising_context += u64::from(batch.cruising);
        self.all_cruised = batch.requests.is_empty();
        let next_drafts = self.num_drafts();
        for scheduled in &mut batch.requests {
            let request = &mut self.requests[scheduled.id];
            request.last_step = self.scheduled_steps;
            request.computed += scheduled.tokens;
            request.in_flight += scheduled.tokens;
            scheduled.samples = request.computed >= request.known + request.placeholders;
            request.is_chunk = !scheduled.samples;
            if scheduled.samples && self.config.async_scheduling {
                request.placeholders += 1 + scheduled.drafts;
                request.drafts = next_drafts;
            }
        }
        if pass.any_prefill {
            self.last_prefill_step = Some(self.scheduled_steps);
        }
    }

    /// Tokens of a prefill chunk that starts at `start`, cut so that it ends where a Mamba state is to be cached
    /// (`_mamba_block_aligned_split`).
    pub(super) fn align_prefill(&self, id: RequestId, start: u32, tokens: u32) -> u32 {
        if !self.kv.is_aligned() {
            return tokens;
        }
        let known = self.requests[id].known;
        let prefill_end = self.requests[id].prompt_len.max(known - 1);
        if start >= prefill_end {
            return tokens;
        }
        let block = self.kv.span.tokens;
        let floor = |tokens: u32| tokens / block * block;
        let end = start + tokens;
        if !self.rules.mamba_prefill_stops {
            let eagle = self.config.speculation.is_some_and(|speculation| speculation.eagle);
            let last = if eagle { floor(known).saturating_sub(block) } else { floor(known) };
            return match end {
                _ if end < last => floor(tokens),
                _ if start < last && last < end => last - start,
                _ => tokens,
            };
        }
        let last = if self.kv.drops_last_hit {
            floor(known).saturating_sub(block)
        } else {
            floor(known.saturating_sub(self.kv.span.lookahead.max(1)))
        };
        let mut end = end;
        if end < prefill_end {
            let threshold = self.config.long_prefill_token_threshold;
            let longest = match threshold {
                0 => self.config.max_num_batched_tokens,
                _ => threshold.min(self.config.max_num_batched_tokens),
            };
            // A block longer than any chunk is computed in several.
            if floor(end) > start || block <= longest {
                end = floor(end);
            }
        }
        let junction = self.requests.info[id as usize].shared_prefix;
        let stops = [
            if start.is_multiple_of(block) { 0 } else { floor(start) + block },
            last,
            if start < junction && junction < end { start + floor(junction - start) } else { 0 },
        ];
        let stop = stops.into_iter().filter(|&stop| start < stop && stop < end).min().unwrap_or(end);
        stop.saturating_sub(start)
    }
}
