//! Engines and their clocks, behind a router.
//!
//! In: a [`Cluster`], what the clients send, and [`SimulationOptions`]. Out: an [`Outcome`]. One engine is a cluster of
//! one.
//!
//! Time is an integer of nanoseconds. What happens at the same moment happens in this order: outputs of engines (in the
//! order of the engines); failures, recoveries, arrivals at engines and ends of transfers (in the order in which they
//! were planned); the router's scrape; requests from the clients; then the engines that are between two steps take in
//! what has arrived and schedule. An engine that only decodes goes ahead of the clock, up to the next moment at which
//! anything could touch it.
//!
//! - `config`: the cluster. `requests`: the requests in flight. `engine`: one engine core and its clock, after the step
//!   loop of `vllm/v1/engine/core.py` (`step`, `step_with_batch_queue`; ranks in lockstep: `DPEngineCoreProc`).
//! - `gateway`: who gets a request. `transfer`: KV caches on their way. `run`: the loop over all of it.

mod config;
mod engine;
mod gateway;
#[cfg(test)]
mod properties;
mod requests;
mod run;
mod transfer;

pub use config::{
    Cluster, DataParallel, EngineGroup, EngineRole, Failure, FrontEnd, KvTransfer, Routing, SimulationOptions,
    StepTimer,
};
pub use run::simulate;
