//! What arrives at a deployment.

use crate::{Error, Result};

/// Longest length: longer than any context, and short enough to keep every product finite. The most of a load likewise.
const TOKENS_MAX: f64 = 1e9;
const LOAD_MAX: f64 = 1e9;

/// How requests arrive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// So many clients, each sending its next request when the last one ends.
    Closed {
        /// Clients over the whole deployment.
        clients: f64,
        /// Requests of the whole run, the initial burst of all clients included; `None`: for ever, so that the burst
        /// does not count.
        requests: Option<f64>,
    },
    /// Poisson arrivals.
    Open {
        /// Requests per second over the whole deployment.
        rate_per_s: f64,
    },
    /// All requests at once.
    Burst {
        /// How many.
        requests: f64,
    },
}

/// What arrives at a deployment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traffic {
    /// Mean length of a prompt, tokens.
    pub input_tokens: f64,
    /// Mean length of an output, tokens.
    pub output_tokens: f64,
    /// Share of the prompt's tokens that the prefix cache holds.
    pub prefix_hit_rate: f64,
    /// How requests arrive.
    pub load: Load,
}

impl Traffic {
    /// Checks the quantities.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for a length below one token, a load that is not above 0, or a hit rate outside of 0
    /// to 1.
    pub fn new(input_tokens: f64, output_tokens: f64, prefix_hit_rate: f64, load: Load) -> Result<Self> {
        let invalid =
            |setting: &str, reason: String| Err(Error::InvalidSetting { setting: setting.to_owned(), reason });
        for (setting, tokens) in [("--input-len", input_tokens), ("--output-len", output_tokens)] {
            if !(1.0..=TOKENS_MAX).contains(&tokens) {
                return invalid(setting, format!("{tokens} must be at least 1 token"));
            }
        }
        if !(0.0..=1.0).contains(&prefix_hit_rate) {
            return invalid("--prefix-hit-rate", format!("{prefix_hit_rate} must be between 0 and 1"));
        }
        let (setting, load_size, least) = match load {
            Load::Closed { clients, .. } => ("--concurrency", clients, 1.0),
            Load::Open { rate_per_s } => ("--rate", rate_per_s, f64::MIN_POSITIVE),
            Load::Burst { requests } => ("--requests", requests, 1.0),
        };
        if !(least..=LOAD_MAX).contains(&load_size) {
            return invalid(setting, format!("{load_size} must be above 0"));
        }
        if let Load::Closed { clients, requests: Some(requests) } = load
            && !(clients..=LOAD_MAX * LOAD_MAX).contains(&requests)
        {
            return invalid("--requests", format!("{requests} must be at least the {clients} clients"));
        }
        Ok(Self { input_tokens, output_tokens, prefix_hit_rate, load })
    }
}
