//! How far predictions are from measurements, by group.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::{MeasuredCase, MeasuredRun, Method, Observation, fit, interval};
use crate::latency::{Calibration, Regime};
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

    /// How requests arrive, what is beyond the calibration apart.
    fn load(&self) -> &'static str {
        match self.row.load {
            _ if self.row.shares_prefixes => "prefix sharing",
            Some(Load::Open { .. }) if self.prediction.saturated => "open loop, saturated",
            Some(Load::Open { .. }) => "open loop",
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

/// The intervals of each regime, from predictions of rows whose group the calibration had not seen.
pub fn intervals(unseen: &[Scored<'_>], basis: &str) -> BTreeMap<Regime, crate::latency::IntervalQuantiles> {
    let mut residuals: BTreeMap<Regime, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    for scored in unseen {
        let of_regime = residuals.entry(scored.prediction.regime).or_default();
        of_regime.0.extend(scored.tpot());
        of_regime.1.extend(scored.ttft());
    }
    // A few rows make no distribution.
    const ROWS_MIN: usize = 20;
    let enough = residuals.into_iter().filter(|(_, (tpot, ttft))| tpot.len() >= ROWS_MIN && ttft.len() >= ROWS_MIN);
    enough
        .map(|(regime, (tpot, ttft))| (regime, interval(&tpot, &ttft, format!("{} rows {basis}", tpot.len()))))
        .collect()
}
