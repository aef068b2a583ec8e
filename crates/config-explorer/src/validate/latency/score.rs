//! How far predictions are from measurements, by group.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::{MeasuredCase, MeasuredRun, Method, Observation, fit};
use crate::Result;
use crate::latency::{Calibration, IntervalQuantiles, Regime};
use crate::serving::{Load, Prediction};

/// Errors of one quantity over the rows of a group, percent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, schemars::JsonSchema)]
pub struct RelativeErrors {
    /// Rows.
    pub rows: usize,
    /// Median of the absolute errors.
    pub median_percent: f64,
    /// Their mean.
    pub mean_percent: f64,
    /// Share of the rows within 20 %.
    pub within_20_percent: f64,
    /// Median of the signed errors: below 0 the prediction is too low.
    pub bias_percent: f64,
}

impl RelativeErrors {
    /// Of logarithms of predicted over measured; `None` without any.
    pub fn of(residuals: impl Iterator<Item = f64>) -> Option<Self> {
        let mut signed: Vec<f64> = residuals.map(|residual| 100.0 * residual.exp_m1()).collect();
        signed.sort_by(f64::total_cmp);
        let mut absolute: Vec<f64> = signed.iter().map(|error| error.abs()).collect();
        absolute.sort_by(f64::total_cmp);
        let rows = absolute.len();
        (rows > 0).then(|| Self {
            rows,
            median_percent: absolute[rows / 2],
            mean_percent: absolute.iter().sum::<f64>() / rows as f64,
            within_20_percent: 100.0 * absolute.iter().filter(|error| **error <= 20.0).count() as f64 / rows as f64,
            bias_percent: signed[rows / 2],
        })
    }
}

/// Errors of the rows of a group.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct LatencyAccuracy {
    /// What the rows have in common.
    pub group: String,
    /// Mean time per output token.
    pub tpot: Option<RelativeErrors>,
    /// Mean time to first token; bursts left out, where it is queueing.
    pub ttft: Option<RelativeErrors>,
    /// Output tokens per second.
    pub throughput: Option<RelativeErrors>,
    /// Share of the measurements within the 80 % intervals, percent: TPOT and TTFT.
    pub within_interval_percent: (Option<f64>, Option<f64>),
}

/// What a row groups by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveOut {
    /// The model.
    Model,
    /// The accelerator.
    Gpu,
}

impl LeaveOut {
    /// The group of a row.
    pub fn group(self, row: &MeasuredRun) -> &str {
        match self {
            Self::Model => &row.model,
            Self::Gpu => &row.gpu,
        }
    }
}

/// A row with what was predicted for it.
#[derive(Debug, Clone, Copy)]
pub struct Scored<'a> {
    /// The row.
    pub row: &'a MeasuredRun,
    /// The prediction.
    pub prediction: &'a Prediction,
}

fn residual(predicted: Option<f64>, measured: Option<f64>) -> Option<f64> {
    let residual = (predicted? / measured?).ln();
    residual.is_finite().then_some(residual)
}

impl Scored<'_> {
    fn tpot(&self) -> Option<f64> {
        residual(Some(self.prediction.tpot_ms.mean), self.row.tpot_mean_ms)
    }

    fn ttft(&self) -> Option<f64> {
        let counts = !matches!(self.row.load, Some(Load::Burst { .. })) && !self.row.shares_prefixes;
        residual(self.prediction.ttft_ms.map(|ttft| ttft.mean), self.row.ttft_mean_ms.filter(|_| counts))
    }

    fn throughput(&self) -> Option<f64> {
        residual(Some(self.prediction.throughput.output_tokens_per_s), self.row.output_tokens_per_s)
    }

    /// Measured or predicted: requests arrive faster than they are finished.
    fn falls_behind(&self, rate_per_s: f64) -> bool {
        // A run ends with requests still under way, so a little less is finished than arrives.
        const FINISHED_MIN: f64 = 0.95;
        let behind = |finished: f64| finished < FINISHED_MIN * rate_per_s;
        self.prediction.saturated || self.row.requests_per_s.is_some_and(behind)
    }

    /// How requests arrive, what is beyond the calibration apart.
    fn load(&self) -> &'static str {
        match self.row.load {
            _ if self.row.shares_prefixes => "prefix sharing",
            Some(Load::Open { rate_per_s }) if self.falls_behind(rate_per_s) => "open loop, saturated",
            Some(Load::Open { .. }) => "open loop, below saturation",
            Some(Load::Burst { .. }) => "burst",
            _ if self.prediction.regime == Regime::Extrapolated => "closed loop, extrapolated",
            _ => "closed loop",
        }
    }
}

impl LatencyAccuracy {
    /// Errors of some rows.
    pub fn of(group: String, rows: &[Scored<'_>]) -> Self {
        let within = |held: Vec<bool>| {
            let count = held.len();
            (count > 0).then(|| 100.0 * held.into_iter().filter(|held| *held).count() as f64 / count as f64)
        };
        let holds = |[low, high]: [f64; 2], measured: f64| (low..=high).contains(&measured);
        let tpot = rows
            .iter()
            .filter(|row| row.tpot().is_some())
            .filter_map(|scored| Some(holds(scored.prediction.interval_80.tpot_mean_ms, scored.row.tpot_mean_ms?)));
        let ttft = rows
            .iter()
            .filter(|row| row.ttft().is_some())
            .filter_map(|scored| Some(holds(scored.prediction.interval_80.ttft_mean_ms?, scored.row.ttft_mean_ms?)));
        Self {
            group,
            tpot: RelativeErrors::of(rows.iter().filter_map(Scored::tpot)),
            ttft: RelativeErrors::of(rows.iter().filter_map(Scored::ttft)),
            throughput: RelativeErrors::of(rows.iter().filter_map(Scored::throughput)),
            within_interval_percent: (within(tpot.collect()), within(ttft.collect())),
        }
    }

    /// Errors of the credible rows: by load, and of the closed loop by GPU, model, precision, prompt length and
    /// concurrency; rows in quarantine apart.
    pub fn by_group(rows: &[Scored<'_>]) -> Vec<Self> {
        let (credible, quarantined): (Vec<Scored<'_>>, Vec<_>) =
            rows.iter().partition(|scored| scored.row.quarantine.is_empty());
        let mut groups: BTreeMap<(usize, String), Vec<Scored<'_>>> = BTreeMap::new();
        for scored in credible {
            let row = scored.row;
            groups.entry((0, scored.load().to_owned())).or_default().push(scored);
            if scored.load() != "closed loop" {
                continue;
            }
            let precision = if row.precision.is_empty() { "as the config" } else { &row.precision };
            let [tensor, ..] = row.layout;
            let mut keys = vec![
                (1, format!("GPU {}", row.gpu)),
                (2, format!("model {}", row.model)),
                (3, format!("precision {precision}")),
                (4, format!("TP {tensor}")),
            ];
            if let Some((input, _)) = row.lengths {
                keys.push((5, format!("input <= {:>6}", (input.max(1.0) as u64).next_power_of_two())));
            }
            if let Some(Load::Closed { clients, .. }) = row.load {
                keys.push((6, format!("concurrency <= {:>5}", (clients.max(1.0) as u64).next_power_of_two())));
            }
            for key in keys {
                groups.entry(key).or_default().push(scored);
            }
        }
        let mut accuracy: Vec<Self> = groups.into_iter().map(|((_, group), rows)| Self::of(group, &rows)).collect();
        if !quarantined.is_empty() {
            accuracy.push(Self::of("in quarantine".to_owned(), &quarantined));
        }
        accuracy
    }
}

/// Clients from which an API server that is not modelled limits TTFT, which is then not fitted.
const CLIENTS_MAX: f64 = 256.0;

/// The observation of a row that a fit may use: credible, closed loop, one engine of plain tensor or expert parallelism.
pub fn observation<'a>(row: &MeasuredRun, case: &'a MeasuredCase) -> Option<Observation<'a>> {
    let Some(Load::Closed { clients, .. }) = row.load else { return None };
    let [_, pipeline, data, _, replicas] = row.layout;
    if !row.quarantine.is_empty() || row.shares_prefixes || pipeline * data * replicas != 1 {
        return None;
    }
    let (input, output) = row.lengths?;
    let queues = clients * (input + output / 2.0) > case.kv_tokens;
    let ttft_ms = row.ttft_mean_ms.filter(|_| !queues && clients <= CLIENTS_MAX);
    Some(Observation { case, tpot_ms: row.tpot_mean_ms?, ttft_ms, simulated: [1.0; 2] })
}

/// A calibration for a method without each group in turn.
pub fn leave_one_out(
    rows: &[(&MeasuredRun, &MeasuredCase)],
    by: LeaveOut,
    method: Method,
) -> BTreeMap<String, Calibration> {
    let known: Vec<_> = rows
        .par_iter()
        .with_max_len(1)
        .filter_map(|(row, case)| {
            let observation = observation(row, case)?;
            let simulated = method.over_steady_state(row, case, Calibration::built_in());
            Some((*row, Observation { simulated, ..observation }))
        })
        .collect();
    let mut groups: BTreeMap<String, Calibration> = BTreeMap::new();
    for (row, _) in &known {
        groups.entry(by.group(row).to_owned()).or_default();
    }
    for (group, calibration) in &mut groups {
        let others = known.iter().filter(|(row, _)| by.group(row) != group);
        let observations: Vec<_> = others.map(|(_, observation)| *observation).collect();
        *calibration = fit(&observations, &format!("all but {group}")).0;
    }
    groups
}

/// Each row predicted by a calibration that has not seen its group, with intervals from the other groups' errors. A row of
/// a group that no fit could use is predicted by the built-in calibration.
pub fn predict_unseen(rows: &[(&MeasuredRun, &MeasuredCase)], by: LeaveOut, method: Method) -> Vec<Result<Prediction>> {
    let mut calibrations = leave_one_out(rows, by, method);
    let predict_all = |calibrations: &BTreeMap<String, Calibration>| -> Vec<Result<Prediction>> {
        let calibration = |row: &MeasuredRun| calibrations.get(by.group(row)).unwrap_or(Calibration::built_in());
        // Simulations differ a thousandfold in work.
        let each = rows.par_iter().with_max_len(1);
        each.map(|(row, case)| method.predict_one(row, case, calibration(row))).collect()
    };
    let unseen = predict_all(&calibrations);
    let fitted = rows.iter().zip(&unseen).filter_map(|((row, case), prediction)| {
        observation(row, case)?;
        Some(Scored { row, prediction: prediction.as_ref().ok()? })
    });
    let fitted: Vec<Scored<'_>> = fitted.collect();
    for (group, calibration) in &mut calibrations {
        let others: Vec<Scored<'_>> = fitted.iter().filter(|scored| by.group(scored.row) != group).copied().collect();
        calibration.interval = intervals_by(&others, by, "of groups left out of the fit");
    }
    predict_all(&calibrations)
}

/// [`intervals_by`] the models that were left out.
pub fn intervals(unseen: &[Scored<'_>], basis: &str) -> BTreeMap<Regime, IntervalQuantiles> {
    intervals_by(unseen, LeaveOut::Model, basis)
}

/// The intervals of each regime, from predictions of rows whose group the calibration had not seen.
///
/// The next case is of a group that is not among these. So each group counts the same, however many rows it has, and an
/// interval reaches beyond the mean of the groups' quantiles by the standard error of that mean.
pub fn intervals_by<'a>(unseen: &[Scored<'a>], by: LeaveOut, basis: &str) -> BTreeMap<Regime, IntervalQuantiles> {
    // A few rows make no distribution.
    const ROWS_MIN: usize = 20;
    const GROUPS_MIN: usize = 3;
    let mut regimes: BTreeMap<Regime, Vec<Scored<'a>>> = BTreeMap::new();
    for scored in unseen {
        regimes.entry(scored.prediction.regime).or_default().push(*scored);
    }
    let normal = regimes.get(&Regime::Normal).cloned().unwrap_or_default();
    let of_regime = |rows: &[Scored<'a>]| {
        let count = rows.iter().filter(|row| row.tpot().is_some()).count();
        let quantities: [fn(&Scored<'a>) -> Option<f64>; 2] = [Scored::tpot, Scored::ttft];
        let [tpot, ttft] = quantities.map(|residual| factors(rows, by, residual).zip(factors(&normal, by, residual)));
        // Few groups say little of another one, which may be as far off as in the normal regime.
        let hull = |((own, groups), (normal, _)): (([f64; 2], usize), ([f64; 2], usize))| match groups {
            ..GROUPS_MIN => [own[0].min(normal[0]), own[1].max(normal[1])],
            _ => own,
        };
        let quantiles =
            IntervalQuantiles { ttft: hull(ttft?), tpot: hull(tpot?), basis: format!("{count} rows {basis}") };
        (count >= ROWS_MIN).then_some(quantiles)
    };
    regimes.iter().filter_map(|(regime, rows)| Some((*regime, of_regime(rows)?))).collect()
}

/// Factors on a prediction between which 80 % of the measurements of another group are expected, and the groups they
/// rest on.
fn factors<'a>(
    rows: &[Scored<'a>],
    by: LeaveOut,
    residual: fn(&Scored<'a>) -> Option<f64>,
) -> Option<([f64; 2], usize)> {
    const ROWS_OF_GROUP_MIN: usize = 5;
    let mut groups: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for scored in rows {
        // Measured over predicted.
        groups.entry(by.group(scored.row)).or_default().extend(residual(scored).map(|residual| -residual));
    }
    groups.retain(|_, residuals| residuals.len() >= ROWS_OF_GROUP_MIN);
    let bound = |rank: f64, outwards: f64| {
        let quantiles: Vec<f64> = groups
            .values()
            .map(|residuals| {
                let mut sorted = residuals.clone();
                sorted.sort_by(f64::total_cmp);
                sorted[(rank * (sorted.len() - 1) as f64).round() as usize]
            })
            .collect();
        let count = quantiles.len() as f64;
        let mean = quantiles.iter().sum::<f64>() / count;
        let squares: f64 = quantiles.iter().map(|quantile| (quantile - mean).powi(2)).sum();
        let error = if count > 1.0 { (squares / (count - 1.0) / count).sqrt() } else { 0.0 };
        ((mean + outwards * error).exp() * 1000.0).round() / 1000.0
    };
    (!groups.is_empty()).then(|| ([bound(0.1, -1.0), bound(0.9, 1.0)], groups.len()))
}
