//! config-explorer: a model, an accelerator, a workload and objectives go in; a configuration that is proven to fit
//! comes out, and everything in between is a pure function.
//!
//! Reading guide. Start with three files: [`model::Architecture`] (`model/architecture.rs`: what a model is),
//! [`memory`] (`memory/mod.rs`: what vLLM allocates for it on each GPU) and `data/engines.toml` (what each version of
//! vLLM does differently). Then, left to right, as the data flow:
//!
//! - [`model`]: a Hugging Face id, a directory or a GGUF file becomes a [`model::Model`]: a list of layers and the
//!   tensors that hold their weights.
//! - [`hardware`]: the accelerators, their names, memory, bandwidths and prices.
//! - [`engine`]: vLLM as data: `vllm serve` arguments, defaults and accounting rules by version.
//! - [`deployment`]: how engines are laid out over GPUs.
//! - [`workload`]: lengths, arrivals, shared prefixes and objectives.
//! - [`reports`]: benchmark results of every tool become [`reports::Run`]s.
//! - [`explore`]: filters, scenarios, Pareto fronts and comparisons of runs.
//! - [`memory`]: weights, activation, overhead and KV cache blocks of each rank; the plan, its explanation and the
//!   smallest changes that make it fit.
//! - [`latency`]: the time of one engine step, operator by operator.
//! - [`serving`]: what a deployment does under a load, in its steady state.
//! - [`simulation`]: what a request lives through between the client and its last token, step by step.
//! - [`recommend`]: the cheapest configuration that meets the objectives, and reasons to believe it.
//! - [`plot`]: pictures of plans and measurements as SVG, PNG or an interactive page.
//! - [`manifest`]: llm-d's files, written from a description, read back, and checked before they are applied.
//! - [`validate`]: predictions beside what real servers printed.
//!
//! ```
//! use config_explorer::deployment::{Nodes, Parallelism};
//! use config_explorer::engine::{EngineRules, EngineSettings, ServeArgs};
//! use config_explorer::hardware::Accelerators;
//! use config_explorer::memory::{self, PlanRequest};
//! use config_explorer::model::{LoadOptions, Model};
//!
//! let options = LoadOptions { offline: true, ..LoadOptions::from_env(|_| None) };
//! let model = Model::load("Qwen/Qwen3-32B", &options)?;
//! let accelerator = Accelerators::built_in().find("H100")?;
//! let rules = EngineRules::of("0.19.1".parse()?)?;
//!
//! let serve = ServeArgs::parse_shell("vllm serve Qwen/Qwen3-32B --tensor-parallel-size 2 --max-model-len 16k")?;
//! let total_gib = accelerator.memory_gib;
//! let request = PlanRequest {
//!     settings: EngineSettings::resolve(&serve, &rules, &model.architecture, total_gib, &accelerator.name)?,
//!     parallelism: Parallelism::from_args(&serve)?,
//!     nodes: Nodes { count: Some(1), gpus_per_node: accelerator.gpus_per_node },
//!     concurrency: None,
//!     model: &model,
//!     accelerator,
//!     total_gib,
//!     rules: &rules,
//! };
//! let plan = memory::plan(&request);
//! assert!(plan.fits);
//! assert_eq!(plan.kv_cache.map(|kv| kv.tokens_as_logged), Some(297_936));
//! # Ok::<(), config_explorer::Error>(())
//! ```
//!
//! A module may use those before it in this list; nothing points back (`tests/layering.rs` checks it).

pub mod deployment;
pub mod engine;
mod error;
pub mod explore;
pub mod hardware;
pub mod latency;
pub mod manifest;
pub mod memory;
pub mod model;
pub mod plot;
pub mod recommend;
pub mod reports;
pub mod serving;
pub mod simulation;
pub mod units;
pub mod validate;
pub mod workload;
mod yaml;

pub use error::{Error, HubFailure, Result};
