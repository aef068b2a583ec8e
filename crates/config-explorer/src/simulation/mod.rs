//! Discrete-event simulation of a deployment.
//!
//! - [`engine`]: one vLLM engine core (scheduler and KV cache) without time.

pub mod engine;
