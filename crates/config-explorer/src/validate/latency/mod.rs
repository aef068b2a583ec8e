//! Latency: predictions beside measured operating points, and the calibration that is fitted to them.
//!
//! In: a table of measured runs ([`MeasuredRuns`]) and the configs of their models ([`MeasuredModels`]). Out: the
//! prediction of every row, its error by group ([`LatencyAccuracy`]) and their order ([`RankingAccuracy`]), the same with
//! each model or GPU left out of the fit ([`predict_unseen`]), and a calibration ([`fit`]) with what the data tell of each
//! coefficient ([`Coverage`]).

mod case;
mod choice;
mod coverage;
mod fit;
mod imported;
mod method;
mod ranking;
mod runs;
mod score;
mod simulated;

pub use case::{MeasuredCase, MeasuredModels};
pub use choice::ChoiceAccuracy;
pub use coverage::{Coverage, Held, leave_groups_out, unidentified};
pub use fit::{Coefficient, FittedCoefficient, Observation, fit};
pub use method::Method;
pub use ranking::RankingAccuracy;
pub use runs::{LengthsSent, MeasuredRun, MeasuredRuns};
pub use score::{
    LatencyAccuracy, LeaveOut, RelativeErrors, Scored, intervals, intervals_by, leave_one_out, observation,
    predict_unseen,
};
