//! The engine's invariants, by their numbers in `docs/invariants.md`.

use super::batch::Batch;
use super::block_pool::{NO_KEY, NULL_BLOCK};
use super::cruise::Runner;
use super::requests::{RequestId, Status};
use super::scheduler::Scheduler;

impl Scheduler {
    /// In debug builds: what is cheap after every half step, everything after every 64th.
    pub(super) fn debug_check(&self, batch: &Batch) {
        if cfg!(debug_assertions) {
            self.check_limits(batch);
            if self.scheduled_steps.is_multiple_of(64) {
                self.check_invariants();
            }
        }
    }

    /// Asserts INV-1 to INV-4 over the whole state.
    pub(super) fn check_invariants(&self) {
        self.check_requests();
        self.check_blocks();
    }

    /// INV-7: budgets and limits.
    fn check_limits(&self, batch: &Batch) {
        let tokens = batch.cruising + batch.requests.iter().map(|scheduled| scheduled.tokens).sum::<u32>();
        assert!(tokens == batch.num_tokens && tokens <= self.config.max_num_batched_tokens, "INV-7: token budget");
        assert!(self.running.len() <= self.config.max_num_seqs as usize, "INV-7: max_num_seqs");
    }

    /// INV-1 and INV-4.
    fn check_requests(&self) {
        let requests = &self.requests;
        let unfinished = self.running.len() + self.num_waiting();
        assert_eq!(requests.added(), self.finished + unfinished as u64, "INV-1: every request is somewhere");
        let queued =
            |id: RequestId| !matches!(requests[id].status, Status::Vacant | Status::Finished | Status::Running);
        assert!(self.waiting.iter().chain(self.blocked.iter()).all(queued), "INV-1: waiting requests wait");
        let running = |runner: &Runner| requests[runner.id].status == Status::Running;
        assert!(self.running.iter().all(running), "INV-1: running requests run");
        for (id, request) in requests.iter() {
            if request.status == Status::Vacant {
                assert!(!self.kv.is_allocated(id), "INV-1: a free slot holds no blocks");
                continue;
            }
            assert!(request.known <= request.end || request.status == Status::Finished, "INV-4: past its end");
            let target = request.known + request.placeholders + self.num_drafts();
            assert!(request.computed <= target, "INV-4: request {id} computed tokens that nobody knows");
            assert!(request.stale <= request.in_flight, "INV-4: stale output is in flight");
            if request.status == Status::Running {
                for (group, table) in self.kv.groups.iter().zip(self.kv.tables(id)) {
                    let slots = table.blocks.len() as u32 * group.block_size;
                    assert!(self.computed_tokens(id) <= slots, "INV-4: request {id} computes without a block");
                }
            }
        }
    }

    /// INV-2 and INV-3.
    fn check_blocks(&self) {
        let pool = &self.kv.pool;
        let mut uses = vec![0u32; self.config.num_gpu_blocks as usize];
        let tables = self.requests.iter().flat_map(|(id, _)| self.kv.tables(id));
        let late = self.late_frees.iter().flat_map(|(_, groups)| groups);
        for blocks in tables.map(|table| &table.blocks).chain(late) {
            for &block in blocks {
                uses[block as usize] += 1;
            }
        }
        let mut free = 0;
        for block in pool.free_blocks() {
            free += 1;
            assert_eq!(uses[block as usize], 0, "INV-3: block {block} is free and in use");
        }
        let mut taken = 0;
        for (block, references) in pool.references() {
            assert_eq!(uses[block as usize], references, "INV-2: references of block {block}");
            assert!(references <= 1 || pool.key(block) != NO_KEY, "INV-3: block {block} is shared without content");
            taken += u32::from(references > 0);
        }
        assert_eq!(free, pool.num_free(), "INV-2: length of the free queue");
        assert_eq!(free + taken + 1, self.config.num_gpu_blocks, "INV-2: free + used + null = all");
        assert_eq!(pool.key(NULL_BLOCK), NO_KEY, "INV-3: the null block holds content");
    }
}
