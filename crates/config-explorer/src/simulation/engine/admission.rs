//! Who enters the running list (the second pass of `Scheduler.schedule`).

use super::batch::{Admission, Batch, Load};
use super::config::Policy;
use super::cruise::Runner;
use super::kv_cache::Need;
use super::requests::{RequestId, Status};
use super::schedule::Pass;
use super::scheduler::Scheduler;

/// What a look at the head of the waiting queues came to.
enum Head {
    /// It left the queue (admitted, loading or passed over); look at the next.
    Next,
    /// Nobody behind it is looked at in this step.
    Stop,
}

impl Scheduler {
    /// Admits requests while the budget lasts. The first that cannot be admitted ends the pass.
    pub(super) fn schedule_waiting(&mut self, batch: &mut Batch, pass: &mut Pass) {
        let mut passed_over = std::mem::take(&mut self.scratch.passed_over);
        let mut put_back = std::mem::take(&mut self.scratch.put_back);
        while pass.budget > 0 && self.running.len() < self.config.max_num_seqs as usize {
            let Some((id, from_blocked)) = self.head() else { break };
            match self.requests[id].status {
                Status::Loading => {
                    self.pop(from_blocked);
                    passed_over.push(id);
                    continue;
                }
                Status::Loaded => self.promote(id),
                _ => {}
            }
            if self.awaits_stale_output(id) {
                self.pop(from_blocked);
                put_back.push(id);
                continue;
            }
            match self.try_admit(id, from_blocked, &mut passed_over, batch, pass) {
                Head::Next => {}
                Head::Stop => break,
            }
        }
        if !put_back.is_empty() {
            self.refused = None;
        }
        for id in passed_over.drain(..).rev() {
            self.blocked.push_front(id, &self.requests.info[id as usize]);
        }
        if !pass.defers_prefill {
            self.capacity_bound = !self.waiting.is_empty();
        }
        for id in put_back.drain(..).rev() {
            self.waiting.push_front(id, &self.requests.info[id as usize]);
        }
        self.scratch.passed_over = passed_over;
        self.scratch.put_back = put_back;
    }

    /// The request to look at next, and whether it is in the blocked queue.
    pub(super) fn head(&self) -> Option<(RequestId, bool)> {
        let blocked = self.blocked.first().map(|id| (id, true));
        let waiting = self.waiting.first().map(|id| (id, false));
        if let (Some((one, _)), Some((other, _))) = (blocked, waiting)
            && self.config.policy == Policy::Priority
            && !self.rules.blocked_requests_first
            && self.requests.info[other as usize].urgency() < self.requests.info[one as usize].urgency()
        {
            return waiting;
        }
        blocked.or(waiting)
    }

    fn pop(&mut self, from_blocked: bool) {
        let queue = if from_blocked { &mut self.blocked } else { &mut self.waiting };
        queue.pop();
    }

    /// The KV of a request has arrived: it is cached from now on, and the last token is computed to sample the next.
    fn promote(&mut self, id: RequestId) {
        self.cache_blocks(id, self.requests[id].computed);
        let preempted = self.requests.info[id as usize].preemptions > 0;
        let request = &mut self.requests[id];
        request.status = if preempted { Status::Preempted } else { Status::Waiting };
        request.computed = request.computed.min(request.known - 1);
        let computed = request.computed;
        self.requests.info[id as usize].cached_tokens.get_or_insert(computed);
    }

    /// Output from before the preemption of a request is in flight and will be delivered; resumed now, the request could
    /// sample the same position again. A KV producer drops such output instead.
    fn awaits_stale_output(&self, id: RequestId) -> bool {
        self.requests[id].stale > 0 && !self.config.produces_kv()
    }

    fn try_admit(
        &mut self,
        id: RequestId,
        from_blocked: bool,
        passed_over: &mut Vec<RequestId>,
        batch: &mut Batch,
        pass: &mut Pass,
    ) -> Head {
        let known = self.requests[id].known;
        let resumes_loaded = self.requests[id].computed > 0;
        let (found, missing) = if resumes_loaded { (self.requests[id].computed, 0) } else { self.find_prefix(id) };
        let remote = if resumes_loaded || !self.requests.info[id as usize].remote_prefill {
            0
        } else {
            self.requests[id].prompt_len.saturating_sub(found)
        };
        let (mut tokens, mut drafts) = (0, 0);
        if remote == 0 {
            if pass.defers_prefill && found + 1 < known {
                return Head::Stop;
            }
            tokens = known - found;
            if tokens == 1 && self.pads_to_drafts(found, batch, pass) {
                drafts = self.num_drafts();
                tokens += drafts;
                if tokens > pass.budget {
                    return Head::Stop;
                }
            }
            if pass.threshold > 0 {
                tokens = tokens.min(pass.threshold);
            }
            if !self.config.enable_chunked_prefill && tokens > pass.budget {
                return Head::Stop;
            }
            tokens = self.align_prefill(id, found, tokens.min(pass.budget));
            if tokens == 0 {
                return Head::Stop;
            }
        }
        let computed = found + remote;
        let watermark = if self.running.is_empty() { 0 } else { self.watermark_blocks() };
        let free = self.kv.pool.num_free();
        if self.config.scheduler_reserve_full_isl {
            let full = known.min(self.config.max_model_len);
            let blocks = self.kv.blocks_needed_to_admit(id, Need { computed, tokens: full, slots: full });
            if blocks.is_none_or(|blocks| blocks + watermark > free) {
                self.refused = blocks.map(|_| missing);
                return Head::Stop;
            }
        }
        self.kv.drop_skipped(id, computed);
        let lookahead = match self.rules.lookahead_on_admission {
            true if remote > 0 => 0,
            false if !resumes_loaded => 0,
            _ => self.lookahead(),
        };
        let need = self.need(computed, tokens, lookahead);
        let reserved = if remote > 0 { self.blocks_reserved_for_prefills(passed_over) } else { 0 };
        let free = self.kv.pool.num_free();
        if self.kv.blocks_needed(id, need).is_none_or(|blocks| blocks + watermark + reserved > free) {
            return Head::Stop;
        }
        self.pop(from_blocked);
        self.kv.allocate(id, need);
        self.requests[id].computed = computed;
        if remote > 0 {
            self.requests.info[id as usize].remote_prefill = false;
            self.requests[id].status = Status::Loading;
            batch.loads.push(Load { id, tokens: remote });
            passed_over.push(id);
            return Head::Next;
        }
        self.cache_blocks(id, need.tokens.min(known));
        self.entries += 1;
        self.running.push(Runner { id, due: 0 });
        let request = &mut self.requests[id];
        request.status = Status::Running;
        request.is_chunk = need.tokens < known;
        request.entry = self.entries;
        let info = &mut self.requests.info[id as usize];
        info.cached_tokens.get_or_insert(computed);
        batch.admitted.push(Admission { id, computed, resumed: info.preemptions > 0 });
        pass.any_prefill |= computed + 1 < known;
        self.push(batch, pass, id, tokens, drafts);
        Head::Next
    }

    /// Tokens found in the prefix cache, and the hash of the first block that was not (0 if none is missing).
    fn find_prefix(&mut self, id: RequestId) -> (u32, u64) {
        let known = self.requests[id].known;
        let hashes = if self.kv.caching { self.requests.block_hashes(id, known, self.kv.span) } else { &[] };
        let hit = self.kv.find_hits(known, hashes);
        let missing = hashes.get((hit.tokens / self.kv.span.tokens) as usize).copied().unwrap_or(0);
        self.requests.info[id as usize].shared_prefix = hit.junction;
        (hit.tokens, missing)
    }

    /// A request admitted to decode runs with a full row of placeholder drafts, so that the batch stays uniform; not
    /// beside a prefill, and not at the end of the model's length.
    fn pads_to_drafts(&self, found: u32, batch: &Batch, pass: &Pass) -> bool {
        self.rules.pads_admitted_decode
            && self.num_drafts() > 0
            && !pass.prefill
            && (found > 0 || !batch.requests.is_empty())
            && found + 2 + self.num_drafts() <= self.config.max_model_len
    }

    /// Blocks that prefills in flight (chunks and remote loads) still need for their known tokens. `passed_over` is the
    /// part of the blocked queue that this pass has seen.
    fn blocks_reserved_for_prefills(&self, passed_over: &[RequestId]) -> u32 {
        if !self.rules.loads_reserve_prefills {
            return 0;
        }
        let chunks = self.running().filter(|&id| self.requests[id].is_chunk);
        let loads = self.blocked.iter().chain(passed_over.iter().copied());
        chunks
            .chain(loads)
            .map(|id| {
                let full = self.requests[id].known.min(self.config.max_model_len);
                let computed = self.requests[id].computed;
                self.kv.blocks_needed_to_admit(id, Need { computed, tokens: full, slots: full }).unwrap_or(0)
            })
            .sum()
    }

    fn watermark_blocks(&self) -> u32 {
        (self.config.watermark * f64::from(self.config.num_gpu_blocks)) as u32
    }
}
