//! What vLLM allocates on each GPU: weights, activation, overhead, and the KV cache blocks that are left.
//!
//! In: a [`PlanRequest`]: a model, an accelerator, the rules of a version, its settings and a layout. Out: a
//! [`MemoryPlan`], its arithmetic step by step ([`explain`]), the smallest changes that make it fit or add most KV cache
//! ([`suggest`]), or the plans of every layout up to a number of GPUs ([`sweep`]). Pure: no input or output.
//!
//! Follows vLLM's `v1/worker/gpu_worker.py` (`determine_available_memory`) and `v1/core/kv_cache_utils.py`; what differs
//! between versions is in `data/engines.toml`. The budget of every rank is
//!
//! ```text
//! KV cache = ceil(total x gpu_memory_utilization) - weights - activation - non-torch (- CUDA graphs, since 0.20)
//! ```

mod account;
mod activation;
mod allocator;
mod explain;
pub mod kv_cache;
mod overhead;
mod plan;
mod pool;
mod request;
mod suggest;
mod summary;
mod sweep;
mod weights;

pub use activation::{Activation, ActivationPhase};
pub use explain::{ExplainStep, explain};
pub use plan::plan;
pub use pool::{KvPool, kv_pool};
pub use request::PlanRequest;
pub use suggest::suggest;
pub use summary::{
    AcceleratorSummary, EngineSummary, ExpertsSummary, KvCacheSummary, LayerSummary, MemoryPerGpu, MemoryPlan,
    ModelSummary, ParallelismSummary, RankMemory, SettingsSummary, Suggestion,
};
pub use sweep::sweep;
