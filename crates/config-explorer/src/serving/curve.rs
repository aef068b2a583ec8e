//! How a deployment answers from a light load to saturation.

use schemars::JsonSchema;
use serde::Serialize;

use super::estimate::{Deployment, estimate};
use super::prediction::{Bound, Prediction};
use super::traffic::{Load, Traffic};
use crate::Result;

/// What grows along a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoadKind {
    /// Clients, each sending its next request when the last one ends.
    Concurrency,
    /// Poisson arrivals, requests per second.
    Rate,
}

/// One load and what is predicted for it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CurvePoint {
    /// Clients, or requests per second.
    pub load: f64,
    /// Mean time to first token.
    pub ttft_mean_ms: f64,
    /// Its 80 % interval.
    pub ttft_interval_80_ms: [f64; 2],
    /// Mean time per output token.
    pub tpot_mean_ms: f64,
    /// Its 80 % interval.
    pub tpot_interval_80_ms: [f64; 2],
    /// Mean time from sending a request to its last token.
    pub e2e_mean_ms: f64,
    /// Output tokens of the deployment.
    pub output_tokens_per_s: f64,
    /// Output tokens of each GPU.
    pub output_tokens_per_s_per_gpu: f64,
    /// What binds.
    pub bound_by: Bound,
}

impl CurvePoint {
    /// `None` beyond saturation.
    fn of(load: f64, prediction: &Prediction) -> Option<Self> {
        Some(Self {
            load,
            ttft_mean_ms: prediction.ttft_ms?.mean,
            ttft_interval_80_ms: prediction.interval_80.ttft_mean_ms?,
            tpot_mean_ms: prediction.tpot_ms.mean,
            tpot_interval_80_ms: prediction.interval_80.tpot_mean_ms,
            e2e_mean_ms: prediction.e2e_ms?.mean,
            output_tokens_per_s: prediction.throughput.output_tokens_per_s,
            output_tokens_per_s_per_gpu: prediction.throughput.output_tokens_per_s_per_gpu,
            bound_by: prediction.bound_by,
        })
    }
}

/// More clients than any deployment of this size is asked to serve.
const CLIENTS_MAX: f64 = 65_536.0;
/// Where throughput grows by less than this part of what the clients grow by, more of them only wait.
const GAIN_LEAST: f64 = 0.02;
/// Loads of a curve over the rate, as shares of the most that is served. Queues grow without bound towards 1.
const RATE_SHARES: [f64; 16] = [0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.84, 0.88, 0.92, 0.95, 0.97];

/// The curve of a deployment for requests of the traffic's lengths; its load does not matter.
///
/// Over the clients it ends where more of them only wait; over the rate just below saturation.
///
/// # Errors
/// As [`estimate`].
pub fn curve(deployment: &Deployment<'_>, traffic: &Traffic, kind: LoadKind) -> Result<Vec<CurvePoint>> {
    match kind {
        LoadKind::Concurrency => over_clients(deployment, traffic),
        LoadKind::Rate => over_rates(deployment, traffic),
    }
}

fn over_clients(deployment: &Deployment<'_>, traffic: &Traffic) -> Result<Vec<CurvePoint>> {
    let mut points: Vec<CurvePoint> = Vec::new();
    // 1, 2, 3, 4, 6, 8, 12, 16, ...
    let powers = std::iter::successors(Some(1.0), |power| Some(power * 2.0));
    let loads = powers.flat_map(|power: f64| if power < 2.0 { vec![power] } else { vec![power, power * 1.5] });
    for clients in loads.take_while(|clients| *clients <= CLIENTS_MAX) {
        let prediction = estimate(deployment, &Traffic { load: Load::Closed { clients, requests: None }, ..*traffic })?;
        let Some(point) = CurvePoint::of(clients, &prediction) else { break };
        let waits = points.last().is_some_and(|last| {
            let gain = point.output_tokens_per_s / last.output_tokens_per_s - 1.0;
            gain < GAIN_LEAST * (clients / last.load - 1.0)
        });
        points.push(point);
        if waits {
            break;
        }
    }
    Ok(points)
}

fn over_rates(deployment: &Deployment<'_>, traffic: &Traffic) -> Result<Vec<CurvePoint>> {
    // No deployment serves this, so that the answer is the most there is.
    const BEYOND: f64 = 1e8;
    let at = |rate_per_s: f64| estimate(deployment, &Traffic { load: Load::Open { rate_per_s }, ..*traffic });
    let most = at(BEYOND)?.throughput.requests_per_s;
    let mut points = Vec::new();
    for share in RATE_SHARES {
        points.extend(CurvePoint::of(share * most, &at(share * most)?));
    }
    Ok(points)
}
