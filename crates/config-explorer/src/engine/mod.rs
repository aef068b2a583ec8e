//! vLLM as data.
//!
//! In: a version (`vllm@0.19.0`) and `vllm serve` arguments. Out: [`EngineRules`] (the defaults and the memory accounting
//! of that version, read from `data/engines.toml`).

mod rules;
mod scheduler_rules;
mod version;

pub use rules::{
    AccountingBasis, ActivationRules, BatchDefault, BudgetRules, Core, DefaultSettings, EngineRules, KvCacheRules,
    NonTorch, Sampler, TokensReported,
};
pub use scheduler_rules::SchedulerRules;
pub use version::Version;
