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
//! - [`memory`]: weights, activation, overhead and KV cache blocks of each rank; the plan, its explanation and the
//!   smallest changes that make it fit.
//! - [`simulation`]: discrete-event simulation: the scheduler and KV cache of an engine core.
//!
//! A module may use those before it in this list; nothing points back (`tests/layering.rs` checks it).

pub mod deployment;
pub mod engine;
mod error;
pub mod hardware;
pub mod memory;
pub mod model;
pub mod simulation;
pub mod units;

pub use error::{Error, HubFailure, Result};
