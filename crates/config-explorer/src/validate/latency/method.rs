//! How rows are predicted.

use rayon::prelude::*;

use super::{MeasuredCase, MeasuredRun};
use crate::Result;
use crate::latency::Calibration;
use crate::serving::Prediction;

/// How a prediction is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The steady-state solution.
    Estimate,
    /// The simulation of every request of the row's run.
    Simulate,
}

impl Method {
    /// What is predicted for every row, or why nothing is; each with the calibration that `calibration` gives it.
    pub fn predict<'a>(
        self,
        rows: &[MeasuredRun],
        cases: &[Result<MeasuredCase>],
        calibration: impl Fn(&MeasuredRun) -> &'a Calibration + Sync,
    ) -> Vec<std::result::Result<Prediction, String>> {
        let measured = rows.par_iter().zip(cases);
        let prediction = |(row, case): (&MeasuredRun, &Result<MeasuredCase>)| {
            let case = case.as_ref().map_err(ToString::to_string)?;
            self.predict_one(row, case, calibration(row)).map_err(|error| error.to_string())
        };
        // Rows differ a thousandfold in work.
        measured.with_max_len(1).map(prediction).collect()
    }

    /// What is predicted for one row.
    pub(super) fn predict_one(
        self,
        row: &MeasuredRun,
        case: &MeasuredCase,
        calibration: &Calibration,
    ) -> Result<Prediction> {
        match self {
            Self::Estimate => case.predict(calibration),
            Self::Simulate => case.simulate(row, calibration),
        }
    }

    /// What it predicts over what the steady state does, TPOT and TTFT; 1 where it predicts nothing.
    pub(super) fn over_steady_state(
        self,
        row: &MeasuredRun,
        case: &MeasuredCase,
        calibration: &Calibration,
    ) -> [f64; 2] {
        let ratio = || {
            let (steady, simulated) = (case.predict(calibration).ok()?, case.simulate(row, calibration).ok()?);
            let ttft = simulated.ttft_ms?.mean / steady.ttft_ms?.mean;
            Some([simulated.tpot_ms.mean / steady.tpot_ms.mean, ttft])
        };
        match self {
            Self::Estimate => [1.0; 2],
            Self::Simulate => ratio().unwrap_or([1.0; 2]),
        }
    }
}
