//! Discrete-event simulation of a deployment: what requests live through between the client and their last token.
//!
//! In: what the clients send ([`Traffic`]), the settings of an engine ([`engine::SchedulerConfig`]), and how long its
//! device takes for a batch ([`StepTimer`]). Out: [`Outcome`], the times of every request and the state of the engine
//! over time. Follows the step loop of `vllm/v1/engine/core.py` (`step`, `step_with_batch_queue`); the clock counts
//! nanoseconds.
//!
//! - [`engine`]: one vLLM engine core (scheduler and KV cache) without time.
//! - `traffic`, `arrivals`, `contents`, `source`: what is sent, when, and by whom; `summary`: its means. `random`: where
//!   chance comes from.
//! - [`router`]: llm-d's router, request by request, from a real `EndpointPickerConfig`.
//! - `single`: one engine and its clock.
//! - `outcome`, `histogram`, `timeline`: what is written down.

mod arrivals;
mod contents;
pub mod engine;
mod histogram;
mod outcome;
#[cfg(test)]
mod properties;
mod random;
pub mod router;
mod single;
mod source;
mod summary;
mod timeline;
mod traffic;

pub use outcome::{FinishedRequests, Outcome};
pub use single::{FrontEnd, SimulationOptions, StepTimer, simulate};
pub use summary::TrafficSummary;
pub use timeline::Interval;
pub use traffic::Traffic;

/// Nanoseconds of a second.
const NS_PER_S: f64 = 1e9;
/// Nanoseconds of a millisecond.
const NS_PER_MS: f64 = 1e6;
