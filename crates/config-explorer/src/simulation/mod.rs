//! Discrete-event simulation of a deployment: what requests live through between the client and their last token.
//!
//! In: what the clients send ([`Traffic`]) and a [`Cluster`]: the settings of its engines
//! ([`engine::SchedulerConfig`]), how long their devices take for a batch ([`StepTimer`]), and how requests find them.
//! [`SimulatedDeployment`] makes a cluster of what users describe. Out: [`Outcome`], the times of every request and the
//! state of the engines over time.
//!
//! - [`engine`]: one vLLM engine core (scheduler and KV cache) without time.
//! - `traffic`, `arrivals`, `contents`, `source`: what is sent, when, and by whom; `summary`: its means. `random`: where
//!   chance comes from.
//! - [`router`]: llm-d's router, request by request, from a real `EndpointPickerConfig`.
//! - `cluster`: engines and their clocks behind a router; one engine is a cluster of one.
//! - `setup`, `deployment`: engines from a memory plan and modelled step times, and pools of them; `changes`: when some of
//!   them start late or fail.
//! - `outcome`, `histogram`, `timeline`: what is written down; `prediction`, `objectives`, `report`, `requests_file`: what
//!   is made of it. `max_rate`: the highest rate that meets objectives.

mod arrivals;
mod changes;
mod cluster;
mod contents;
mod deployment;
pub mod engine;
mod histogram;
mod max_rate;
mod objectives;
mod outcome;
mod prediction;
#[cfg(test)]
mod properties;
mod random;
mod report;
mod requests_file;
pub mod router;
mod setup;
mod source;
mod summary;
mod timeline;
mod traffic;

pub use changes::{Phase, ReplicaTime};
pub use cluster::{
    Cluster, DataParallel, EngineGroup, EngineRole, Failure, FrontEnd, KvTransfer, Routing, SimulationOptions,
    StepTimer, simulate,
};
pub use deployment::{DeploymentOptions, SimulatedDeployment, SimulatedPool};
pub use max_rate::{MaxRate, find_max_rate};
pub use objectives::Goodput;
pub use outcome::{EngineOutcome, FinishedRequests, Outcome, Rejected, Transfers};
pub use prediction::{printed_statistics, simulated};
pub use report::run_of;
pub use requests_file::RequestsFormat;
pub use setup::{CLIENT_THINK_S, EQUAL_OUTPUTS_SPREAD, ModelledSteps, PlannedEngine, kv_transfer};
pub use summary::TrafficSummary;
pub use timeline::Interval;
pub use traffic::Traffic;

/// Nanoseconds of a second.
const NS_PER_S: f64 = 1e9;
/// Nanoseconds of a millisecond.
const NS_PER_MS: f64 = 1e6;
