//! Discrete-event simulation of a deployment: what requests live through between the client and their last token.
//!
//! In: what the clients send ([`Traffic`]) and a [`Cluster`]: the settings of its engines
//! ([`engine::SchedulerConfig`]), how long their devices take for a batch ([`StepTimer`]), and how requests find them.
//! Out: [`Outcome`], the times of every request and the state of the engines over time.
//!
//! - [`engine`]: one vLLM engine core (scheduler and KV cache) without time.
//! - `traffic`, `arrivals`, `contents`, `source`: what is sent, when, and by whom; `summary`: its means. `random`: where
//!   chance comes from.
//! - [`router`]: llm-d's router, request by request, from a real `EndpointPickerConfig`.
//! - `cluster`: engines and their clocks behind a router; one engine is a cluster of one.
//! - `outcome`, `histogram`, `timeline`: what is written down.

mod arrivals;
mod cluster;
mod contents;
pub mod engine;
mod histogram;
mod outcome;
#[cfg(test)]
mod properties;
mod random;
pub mod router;
mod source;
mod summary;
mod timeline;
mod traffic;

pub use cluster::{
    Cluster, DataParallel, EngineGroup, EngineRole, Failure, FrontEnd, KvTransfer, Routing, SimulationOptions,
    StepTimer, simulate,
};
pub use outcome::{EngineOutcome, FinishedRequests, Outcome, Rejected, Transfers};
pub use summary::TrafficSummary;
pub use timeline::Interval;
pub use traffic::Traffic;

/// Nanoseconds of a second.
const NS_PER_S: f64 = 1e9;
/// Nanoseconds of a millisecond.
const NS_PER_MS: f64 = 1e6;
