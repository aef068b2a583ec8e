//! vLLM as data.
//!
//! In: a version (`vllm@0.19.0`) and `vllm serve` arguments. Out: [`EngineRules`] (the defaults and the memory accounting
//! of that version, read from `data/engines.toml`) and [`ServeArgs`] (what was typed, which prints back as a command).

mod rules;
mod scheduler_rules;
mod serve_args;
mod settings;
mod version;

pub use rules::{
    AccountingBasis, ActivationRules, BatchDefault, BudgetRules, Core, CudaGraphRules, DefaultSettings, EngineRules,
    KvCacheRules, Mxfp4Padding, NonTorch, Sampler, TokensReported,
};
pub use scheduler_rules::SchedulerRules;
pub use serve_args::{
    DTypeChoice, FLAGS, Flag, FlagHistory, FlagKind, Fraction, JsonObject, KvCacheDType, MambaCacheMode, MaxModelLen,
    MultimodalLimits, ServeArgs, join_command,
};
pub use settings::{EngineSettings, Speculative};
pub use version::Version;
