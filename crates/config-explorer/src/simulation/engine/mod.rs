//! One vLLM engine core: the V1 scheduler and its KV cache, token for token, without time.
//!
//! In: requests (a prompt is a list of [`Segment`]s; nobody holds tokens) and, after each step, how many drafts were
//! accepted. Out: a [`Batch`] per step (who computes how many tokens) and a [`StepOutput`] (first tokens, finished
//! requests). Whoever owns the clock calls [`Scheduler::schedule`], lets the device run, and calls
//! [`Scheduler::process_output`] as [`Scheduler::processes_next`] says. Requests that only decode are left alone, and
//! [`Scheduler::decode_run`] and [`Scheduler::advance_decode`] take many steps at once while all do; `cruise` says how
//! this gives what touching every request in every step gives.
//!
//! Follows `vllm/v1/core/sched/scheduler.py` and `vllm/v1/core/`; what differs between versions is
//! [`SchedulerRules`](crate::engine::SchedulerRules), data. `tests/conformance/scheduler.rs` replays recorded
//! scenarios of vLLM's own scheduler; the invariants are in `docs/invariants.md`.
//!
//! Read `schedule` and `admission` (the first half of a step), `output` (the second), then `kv_cache` and `prefix_hits`;
//! `cruise` last.

mod admission;
mod batch;
mod block_pool;
mod config;
mod content;
mod cruise;
mod invariants;
mod kv_cache;
mod output;
mod prefix_hits;
#[cfg(test)]
mod properties;
mod requests;
mod schedule;
mod scheduler;
mod waiting_queue;

pub use batch::{Admission, Batch, FinishReason, Finished, Late, Load, Scheduled, StepOutput};
pub use block_pool::CacheEvent;
pub use config::{GroupAttention, KvGroup, KvRole, Policy, SchedulerConfig, Speculation};
pub(super) use content::Content;
pub use content::Segment;
pub use cruise::DecodeRun;
pub use requests::{NewRequest, RequestId};
pub use scheduler::Scheduler;
