//! Calibration: bounded multipliers and engine times, fitted to measured runs.
//!
//! Gauss-Newton with Levenberg's damping on the logarithms of the coefficients. Residuals are logarithms of predicted
//! over measured TPOT and TTFT under a soft-L1 loss, so that single odd runs weigh little; a ridge prior holds every
//! coefficient at its neutral value, the kernels' own benchmark, so that what the data cannot tell stays there
//! (the reference's 5.1).

use std::collections::BTreeMap;

use nalgebra::{Cholesky, DMatrix, DVector};
use rayon::prelude::*;

use super::MeasuredCase;
use crate::latency::{Calibration, EngineTime, Multiplier, StepTimes, generation};
use crate::serving::{Load, OperatingPoint, operating_point};

/// A case and what was measured.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// The case.
    pub case: &'a MeasuredCase,
    /// Measured mean time per output token.
    pub tpot_ms: f64,
    /// Measured mean time to first token, where it counts.
    pub ttft_ms: Option<f64>,
    /// What a simulation makes of the case over what the steady state does: TPOT and TTFT. The steady state times these
    /// stands for the simulation, which is too slow for a fit; 1 fits the steady state itself.
    pub simulated: [f64; 2],
}

/// One coefficient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coefficient {
    /// Of the engine.
    Engine(EngineTime),
    /// Of the kernels of a generation.
    Kernel(String, Multiplier),
}

/// What a fit says of one coefficient.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedCoefficient {
    /// Which.
    pub coefficient: Coefficient,
    /// Its value.
    pub value: f64,
    /// Its value without measurements.
    pub neutral: f64,
    /// Share of what is known of it that comes from the data, the rest from the prior: near 0 the data cannot tell it.
    pub identified: f64,
}

/// Strength of the prior against the data, chosen by the errors of models left out (docs/latency.md says what the choice
/// is worth): TPOT MAPE 9.1 % at 0.2, 8.5 % at 0.4, 8.3 % at 0.6, 8.2 % at 0.8, where fewer rows are within 20 %.
const PRIOR: f64 = 0.6;
/// Standard deviation that the prior allows a coefficient, on the logarithm.
const DEVIATION: f64 = 0.3;
/// The same for engine times that no kernel benchmark contains.
const FREE_DEVIATION: f64 = 1.0;
/// Weight of a TTFT against a TPOT (the reference's 5.1): it is measured with four times the scatter.
const TTFT_WEIGHT: f64 = 0.5;
/// Scale of the soft-L1 loss.
const LOSS: f64 = 0.07;
/// A coefficient stays within this factor of its neutral value.
pub(super) const BOUND: f64 = 8.0;
const ITERATIONS: usize = 12;
const DIFFERENCE: f64 = 0.01;

impl Coefficient {
    fn deviation(&self) -> f64 {
        match self {
            Self::Engine(
                EngineTime::Request
                | EngineTime::RequestPerStream
                | EngineTime::EagerLayer
                | EngineTime::EagerExperts
                | EngineTime::RoutingEvenness,
            ) => FREE_DEVIATION,
            _ => DEVIATION,
        }
    }

    fn neutral(&self) -> f64 {
        match self {
            Self::Engine(time) => time.neutral_us(),
            Self::Kernel(_, multiplier) => multiplier.neutral(),
        }
    }

    fn get(&self, calibration: &Calibration) -> f64 {
        match self {
            Self::Engine(time) => calibration.engine_time_us(*time),
            Self::Kernel(generation, multiplier) => calibration.multiplier(generation, *multiplier),
        }
    }

    fn set(&self, calibration: &mut Calibration, value: f64) {
        match self {
            Self::Engine(time) => calibration.engine_us.insert(*time, value),
            Self::Kernel(generation, multiplier) => {
                calibration.generation.entry(generation.clone()).or_default().insert(*multiplier, value)
            }
        };
    }

    /// Logarithm of its value over the neutral one.
    fn deviation_of(&self, calibration: &Calibration) -> f64 {
        (self.get(calibration) / self.neutral()).ln()
    }
}

/// Logarithms of predicted over measured TPOT and TTFT of every observation; 0 where it does not count.
fn residuals(observations: &[Observation<'_>], calibration: &Calibration) -> DVector<f64> {
    let mut residuals = Vec::with_capacity(2 * observations.len());
    // Rows of one deployment stand together in most tables.
    let mut last: Option<(&MeasuredCase, StepTimes)> = None;
    for observation in observations {
        let case = observation.case;
        let step = match last.take() {
            Some((known, step)) if known.same_engine(case) => step,
            _ => StepTimes::compile(&case.engine.configuration(calibration)),
        };
        let point = operating_point(&step, case.kv_tokens, &case.traffic_of_engine());
        last = Some((case, step));
        let [tpot_ratio, ttft_ratio] = observation.simulated;
        let (tpot, ttft) = match point {
            Ok(OperatingPoint { tpot_mean_ms, ttft_mean_ms, .. }) => (
                (tpot_ratio * tpot_mean_ms / observation.tpot_ms).ln(),
                observation.ttft_ms.map_or(0.0, |measured| (ttft_ratio * ttft_mean_ms / measured).ln()),
            ),
            Err(_) => (0.0, 0.0),
        };
        residuals.push(tpot);
        residuals.push(if ttft.is_finite() { ttft } else { 0.0 });
    }
    DVector::from_vec(residuals)
}

/// Of the residuals, in their order.
fn weights() -> impl Iterator<Item = f64> {
    [1.0, TTFT_WEIGHT].into_iter().cycle()
}

/// Fits a calibration; the coefficients with what the data say of each.
pub fn fit(observations: &[Observation<'_>], source: &str) -> (Calibration, Vec<FittedCoefficient>) {
    let mut generations: Vec<String> =
        observations.iter().map(|observation| generation(&observation.case.engine.accelerator).to_owned()).collect();
    generations.sort();
    generations.dedup();
    let kernels = generations
        .iter()
        .flat_map(|generation| Multiplier::ALL.map(|multiplier| Coefficient::Kernel(generation.clone(), multiplier)));
    let coefficients: Vec<Coefficient> = EngineTime::ALL.map(Coefficient::Engine).into_iter().chain(kernels).collect();
    let mut accelerators: Vec<String> =
        observations.iter().map(|observation| observation.case.engine.accelerator.name.clone()).collect();
    accelerators.sort();
    accelerators.dedup();

    let mut calibration = Calibration { source: source.to_owned(), accelerators, ..Calibration::default() };
    let scale = PRIOR * (observations.len() as f64 / 50.0).sqrt();
    let prior =
        DVector::from_iterator(coefficients.len(), coefficients.iter().map(|c| (scale / c.deviation()).powi(2)));
    let cost = |residuals: &DVector<f64>, calibration: &Calibration| {
        let loss = |residual: &f64| 2.0 * LOSS.powi(2) * ((1.0 + (residual / LOSS).powi(2)).sqrt() - 1.0);
        let ridge = coefficients.iter().zip(&prior).map(|(c, weight)| weight * c.deviation_of(calibration).powi(2));
        residuals.iter().zip(weights()).map(|(residual, weight)| weight * loss(residual)).sum::<f64>()
            + ridge.sum::<f64>()
    };

    let mut found = residuals(observations, &calibration);
    let mut lowest = cost(&found, &calibration);
    let mut damping = 1e-3;
    let mut information = DVector::zeros(coefficients.len());
    for _ in 0..ITERATIONS {
        let robust = found.iter().map(|residual| (1.0 + (residual / LOSS).powi(2)).sqrt().recip());
        let weights =
            DVector::from_iterator(found.len(), robust.zip(weights()).map(|(robust, weight)| robust * weight));
        let columns: Vec<DVector<f64>> = coefficients
            .par_iter()
            .map(|coefficient| {
                let mut moved = calibration.clone();
                coefficient.set(&mut moved, coefficient.get(&calibration) * (1.0 + DIFFERENCE));
                (residuals(observations, &moved) - &found) / DIFFERENCE.ln_1p()
            })
            .collect();
        if columns.is_empty() {
            break;
        }
        let jacobian = DMatrix::from_columns(&columns);
        let weighted = DMatrix::from_diagonal(&weights) * &jacobian;
        let normal = jacobian.transpose() * &weighted;
        information = normal.diagonal();
        let deviations =
            DVector::from_iterator(coefficients.len(), coefficients.iter().map(|c| c.deviation_of(&calibration)));
        let gradient = -(weighted.transpose() * &found) - prior.component_mul(&deviations);
        let mut improved = false;
        for _ in 0..6 {
            let mut damped = normal.clone();
            for index in 0..coefficients.len() {
                let curvature = normal[(index, index)] + prior[index];
                damped[(index, index)] = curvature * (1.0 + damping) + 1e-9;
            }
            let Some(cholesky) = Cholesky::new(damped) else { break };
            let step = cholesky.solve(&gradient);
            let mut moved = calibration.clone();
            for (coefficient, step) in coefficients.iter().zip(&step) {
                let neutral = coefficient.neutral();
                let value = coefficient.get(&calibration) * step.clamp(-0.5, 0.5).exp();
                coefficient.set(&mut moved, value.clamp(neutral / BOUND, neutral * BOUND));
            }
            let residuals = residuals(observations, &moved);
            let reached = cost(&residuals, &moved);
            if reached < lowest {
                improved = (lowest - reached) / lowest > 2e-4;
                (calibration, found, lowest) = (moved, residuals, reached);
                damping *= 0.3;
                break;
            }
            damping *= 6.0;
        }
        if !improved {
            break;
        }
    }
    let fitted = coefficients
        .iter()
        .zip(information.iter().zip(&prior))
        .map(|(coefficient, (information, prior))| FittedCoefficient {
            coefficient: coefficient.clone(),
            value: coefficient.get(&calibration),
            neutral: coefficient.neutral(),
            identified: information / (information + prior),
        })
        .collect();
    (rounded(calibration), fitted)
}

/// Four digits: what a reader of the file can take in, and more than the data tell.
fn rounded(mut calibration: Calibration) -> Calibration {
    let round = |value: &mut f64| *value = format!("{value:.3e}").parse().unwrap_or(*value);
    calibration.engine_us.values_mut().for_each(round);
    calibration.generation.values_mut().flat_map(BTreeMap::values_mut).for_each(round);
    calibration
}

impl MeasuredCase {
    /// The same engines: only the traffic differs.
    fn same_engine(&self, other: &Self) -> bool {
        let (engine, other) = (&self.engine, &other.engine);
        engine.accelerator.name == other.accelerator.name
            && engine.parallelism == other.parallelism
            && engine.fp8_kv_cache == other.fp8_kv_cache
            && engine.settings == other.settings
            && engine.decoder == other.decoder
    }

    /// The traffic of one of its replicas.
    fn traffic_of_engine(&self) -> crate::serving::Traffic {
        let replicas = f64::from(self.replicas);
        let load = match self.traffic.load {
            Load::Closed { clients, requests } => {
                Load::Closed { clients: clients / replicas, requests: requests.map(|requests| requests / replicas) }
            }
            Load::Open { rate_per_s } => Load::Open { rate_per_s: rate_per_s / replicas },
            Load::Burst { requests } => Load::Burst { requests: requests / replicas },
        };
        crate::serving::Traffic { load, ..self.traffic }
    }
}
