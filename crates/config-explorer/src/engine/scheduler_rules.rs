//! How the scheduler of a version of vLLM behaves where versions differ: `[version.scheduler]` of `data/engines.toml`.

use serde::Deserialize;

/// Behaviours of `v1/core/sched/scheduler.py` and of the KV cache manager that changed between versions. Each flag is
/// one behaviour; `false` is what 0.19.1 does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent behaviour of a version, read from a table")]
pub struct SchedulerRules {
    /// Freed blocks that hold no cached content go to the front of the free queue; else all go to the back.
    pub unhashed_blocks_freed_first: bool,
    /// A batch without tokens takes a place in the batch queue; else the oldest batch is processed at once.
    pub empty_batches_queued: bool,
    /// The admission gate counts a sliding-window or chunked-local group only up to what one request can hold.
    pub window_admission_cap: bool,
    /// `long_prefill_token_threshold` does not apply while only one request exists.
    pub threshold_spares_lone_request: bool,
    /// Under the priority policy, a request that preempts itself does not end the pass over the running list.
    pub priority_pass_continues: bool,
    /// With EAGLE or MTP a block's hash covers the token after it; else the last hit block is dropped.
    pub hash_covers_next_token: bool,
    /// Lookahead slots of the drafter are taken at admission too.
    pub lookahead_on_admission: bool,
    /// A request admitted with one token to compute is padded to a full row of drafts.
    pub pads_admitted_decode: bool,
    /// A preempted request waits for its output in flight, which changes no counter any more.
    pub stale_output_tracked: bool,
    /// Blocks below a window are given back by tokens processed; else by tokens scheduled.
    pub skipped_blocks_by_processed_tokens: bool,
    /// Output caches blocks up to the tokens processed, with speculation too; else asynchronous output caches blocks
    /// up to the tokens sampled.
    pub processed_tokens_cached: bool,
    /// A remote load leaves the blocks that prefills in flight still need.
    pub loads_reserve_prefills: bool,
    /// Requests that wait for remote KV are looked at first; else, under the priority policy, the better head is.
    pub blocked_requests_first: bool,
    /// A KV consumer with several batches in flight frees the blocks of a request in flight when its batch is done.
    pub in_flight_blocks_freed_late: bool,
    /// Mamba "align" prefill stops at every position whose state is worth caching (block edges, shared prefixes).
    pub mamba_prefill_stops: bool,
    /// `watermark` and `prefill_schedule_interval` exist.
    pub admission_settings: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineRules;

    fn rules(version: &str) -> SchedulerRules {
        EngineRules::of(version.parse().unwrap()).unwrap().scheduler
    }

    #[test]
    fn generations_follow_the_older_version() {
        assert_eq!(rules("0.8.0"), rules("0.23.0"));
        assert_eq!(rules("0.24.0"), rules("0.26.0"));
        assert_eq!(rules("0.27.0"), rules("0.32.0"));
        assert_ne!(rules("0.23.0"), rules("0.24.0"));
        assert_ne!(rules("0.26.0"), rules("0.27.0"));
        assert_ne!(rules("0.32.0"), rules("0.33.0"));
    }
}
