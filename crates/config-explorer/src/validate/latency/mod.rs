//! Latency: predictions beside measured operating points, and the calibration that is fitted to them.
//!
//! In: a table of measured runs ([`MeasuredRuns`]) and the configs of their models ([`MeasuredModels`]). Out: the
//! prediction of every row, its error by group ([`LatencyAccuracy`]), the same with each model or GPU left out of the
//! fit ([`leave_one_out`]), and a calibration ([`fit`]) with what the data tell of each coefficient.

mod case;
mod fit;
mod method;
mod runs;
mod score;
mod simulated;

pub use case::{MeasuredCase, MeasuredModels};
pub use fit::{Coefficient, FittedCoefficient, Observation, fit, interval};
pub use method::Method;
pub use runs::{LengthsSent, MeasuredRun, MeasuredRuns};
pub use score::{LatencyAccuracy, LeaveOut, RelativeErrors, Scored, intervals, leave_one_out, observation};
