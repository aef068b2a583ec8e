//! 80 % prediction intervals: quantiles of measured against predicted, by how far a case is from what was measured.

use super::steady::Steady;
use super::traffic::{Load, Traffic};
use crate::latency::{Configuration, KernelBasis, Regime, kernel_basis};

/// Factors on a prediction between which 80 % of the measurements lie.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reach {
    pub(super) ttft: [f64; 2],
    pub(super) tpot: [f64; 2],
    pub(super) regime: Regime,
    pub(super) basis: String,
    pub(super) warnings: Vec<String>,
}

/// Clients of one engine from which the API server, which is not modelled, limits.
const MANY_CLIENTS: f64 = 256.0;
/// Longest prompt in the calibration, tokens.
const LONGEST_PROMPT: f64 = 8192.0;

pub(super) fn interval(traffic: &Traffic, configuration: &Configuration<'_>, steady: &Steady) -> Reach {
    let mut warnings = configuration.decoder.not_validated();
    let accelerator = &configuration.accelerator.name;
    match kernel_basis(configuration.accelerator) {
        KernelBasis::Measured => {}
        KernelBasis::Generation => warnings.push(format!(
            "no kernel was measured on {accelerator}: another accelerator of its generation stands in, scaled by \
             bandwidth and peak"
        )),
        KernelBasis::Assumed => {
            warnings
                .push(format!("no kernel was measured on {accelerator} or its generation: efficiencies are assumed"));
        }
    }
    if !configuration.calibration.covers(configuration.accelerator) && warnings.is_empty() {
        warnings
            .push(format!("no end-to-end measurement of {accelerator} or its generation is behind the calibration"));
    }
    if configuration.parallelism.pipeline() > 1 || configuration.parallelism.data() > 1 {
        warnings.push("pipeline and data parallelism were not validated end to end".to_owned());
    }
    if traffic.input_tokens > LONGEST_PROMPT {
        warnings.push(format!("prompts longer than {LONGEST_PROMPT} tokens are beyond the calibration"));
    }
    if configuration.settings.speculative.is_some() {
        warnings.push("speculative decoding is not modelled: the estimate is without it".to_owned());
    }
    let clients = match traffic.load {
        Load::Closed { clients, .. } | Load::Burst { requests: clients } => clients,
        Load::Open { .. } => steady.running,
    };
    let prefilling = 1.0 - steady.decode_us / steady.tpot_us;
    let regime = if !warnings.is_empty() {
        Regime::Extrapolated
    } else if steady.capacity_bound || prefilling > 0.85 || clients >= MANY_CLIENTS {
        Regime::Loaded
    } else {
        Regime::Normal
    };
    let quantiles = configuration.calibration.interval(regime);
    Reach { ttft: quantiles.ttft, tpot: quantiles.tpot, regime, basis: quantiles.basis.clone(), warnings }
}
