//! A measured case, simulated as its benchmark's client ran it (the reference, 3.2).

use super::{LengthsSent, MeasuredCase, MeasuredRun};
use crate::latency::{Calibration, StepTimes};
use crate::serving::{self, Load};
use crate::simulation::router::{LoadOptions, RouterConfig};
use crate::simulation::{
    CLIENT_THINK_S, DeploymentOptions, EQUAL_OUTPUTS_SPREAD, EngineRole, Routing, SimulatedDeployment, SimulatedPool,
    Traffic, simulated,
};
use crate::workload::{Arrivals, Distribution, Gaps, LengthDistribution, Prefix, WorkloadSpec};
use crate::{Error, Result};

/// Standard deviations of the logarithm of the lengths of `ShareGPT`'s prompts and answers.
const SHARE_GPT_DEVIATIONS: (f64, f64) = (1.0, 0.8);
/// Seconds of an open load whose number of requests is not known.
const OPEN_S: f64 = 120.0;
/// Fewest and most requests of such a load.
const OPEN_REQUESTS: (f64, f64) = (500.0, 20_000.0);
/// Any seed; the same for all, so that a figure is reproduced.
const SEED: u64 = 0;

impl MeasuredCase {
    /// What a simulation of the row predicts.
    ///
    /// # Errors
    /// Those of [`SimulatedDeployment::simulate`], and for lengths that cannot be drawn.
    pub fn simulate(&self, row: &MeasuredRun, calibration: &Calibration) -> Result<serving::Prediction> {
        // A plain service chooses at random.
        let routing = if row.routed {
            Routing::Router(Box::new(RouterConfig::load("", &LoadOptions::default(), "the router's default")?))
        } else {
            Routing::Random
        };
        let deployment = self.deployment(routing, calibration);
        let outcome = deployment.simulate(&self.sent(row), DeploymentOptions::default())?;
        if outcome.finished.is_empty() {
            return Err(Error::InvalidSetting {
                setting: "isl".to_owned(),
                reason: "no request is within the longest length".to_owned(),
            });
        }
        let gpus = f64::from(deployment.gpus());
        Ok(simulated(self.predict(calibration)?, &outcome, gpus, calibration))
    }

    /// The deployment that was measured, ready to be simulated.
    pub fn deployment(&self, routing: Routing, calibration: &Calibration) -> SimulatedDeployment {
        SimulatedDeployment {
            pools: vec![SimulatedPool {
                role: EngineRole::Both,
                engine: self.planned.clone(),
                step: StepTimes::compile(&self.engine.configuration(calibration)),
                replicas: self.replicas,
            }],
            routing,
            transfer: None,
        }
    }

    /// What the client of the row sent.
    fn sent(&self, row: &MeasuredRun) -> Traffic {
        let (input, output) = self.lengths(row);
        let whole = |count: f64| count.round().max(1.0) as u32;
        let open = |rate_per_s, gaps| Arrivals::Open { rate_per_s, gaps, concurrency: None };
        let (arrivals, requests) = match self.traffic.load {
            Load::Closed { clients, requests } => (
                Arrivals::Closed { clients: whole(clients), think_time_s: Distribution::fixed(CLIENT_THINK_S) },
                whole(requests.unwrap_or(clients)),
            ),
            Load::Open { rate_per_s } => {
                let (least, most) = OPEN_REQUESTS;
                let requests = row.requests.unwrap_or((rate_per_s * OPEN_S).clamp(least, most));
                let gaps = row.burstiness.map_or(Gaps::Poisson, |shape| Gaps::Gamma { cv: shape.powf(-0.5) });
                (open(rate_per_s, gaps), whole(requests))
            }
            Load::Burst { requests } => (open(f64::INFINITY, Gaps::Constant), whole(requests)),
        };
        let prefix = row.shared_prefix.map(|(groups, tokens)| Prefix { tokens, groups, ..Prefix::default() });
        // The lengths of prompts include what they share.
        let shared = prefix.map_or(0.0, |prefix| f64::from(prefix.tokens));
        let less = |tokens: f64| (tokens - shared).max(1.0);
        let own =
            LengthDistribution { mean: less(input.mean), min: input.min.map(less), max: input.max.map(less), ..input };
        let workload = WorkloadSpec {
            requests: Some(requests),
            arrivals: Some(arrivals),
            input: Some(own.into()),
            output: Some(output.into()),
            prefix,
            ..WorkloadSpec::default()
        };
        Traffic { workload, trace: None, seed: SEED }
    }

    /// The lengths that the client drew.
    fn lengths(&self, row: &MeasuredRun) -> (LengthDistribution, LengthDistribution) {
        let serving::Traffic { input_tokens: input, output_tokens: output, load, .. } = self.traffic;
        match row.lengths_sent {
            LengthsSent::Range { least, nominal: (input, output) } => (
                LengthDistribution::uniform(least * input, input),
                LengthDistribution::uniform((least * output).max(1.0), output.max(1.0)),
            ),
            LengthsSent::ShareGpt => {
                let lognormal = |mean: f64, deviation: f64| {
                    LengthDistribution::lognormal(mean, mean * deviation.powi(2).exp_m1().sqrt())
                };
                let (of_input, of_output) = SHARE_GPT_DEVIATIONS;
                // What a server accepts.
                let longest = Some(f64::from(self.planned.config.max_model_len) / 2.0);
                let cut = |lengths: LengthDistribution| LengthDistribution { max: longest, ..lengths };
                (cut(lognormal(input, of_input)), cut(lognormal(output, of_output)))
            }
            LengthsSent::Equal if matches!(load, Load::Closed { .. }) && output > 1.0 => {
                (LengthDistribution::fixed(input), LengthDistribution::gaussian(output, EQUAL_OUTPUTS_SPREAD * output))
            }
            LengthsSent::Equal => (LengthDistribution::fixed(input), LengthDistribution::fixed(output)),
        }
    }
}
