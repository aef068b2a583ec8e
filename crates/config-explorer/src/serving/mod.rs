//! What a deployment does under a load, in its steady state.
//!
//! In: a [`Deployment`] (engines that compute prompts and decode, or a pool for each) with the tokens its KV caches hold,
//! and [`Traffic`] (lengths, prefix hits, and a closed loop, Poisson arrivals or a burst). Out: a [`Prediction`]: TTFT,
//! TPOT, ITL and end-to-end times with percentiles, throughput, saturation, what binds, and 80 % intervals; or, for
//! searches, just the means of one engine ([`operating_point`]). Closed forms with one bracketed root each, which always
//! converge; no simulation. Pure: no input or output.
//!
//! The mean of a closed loop with a number of requests includes the burst in which all clients start, as benchmark
//! clients report it.

mod curve;
mod disaggregated;
mod engine;
mod estimate;
mod explain;
mod intervals;
mod lane;
mod open;
mod prediction;
mod steady;
mod traffic;

pub use curve::{CurvePoint, LoadKind, curve};
pub use engine::{Capacity, Engine};
pub(crate) use estimate::TRANSFER_EFFICIENCY;
pub use estimate::{Deployment, Latencies, OperatingPoint, Role, estimate, latencies, operating_point};
pub use explain::{ExplainedStep, StepKind, explain};
pub(crate) use lane::{FRONT_END_PER_TOKEN_US, FRONT_END_US};
pub use prediction::{Bound, Intervals, OperatorBreakdown, Prediction, Statistics, Throughput, Utilisation};
pub use traffic::{Load, Traffic};
