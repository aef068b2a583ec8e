//! What arrives.

use clap::Args;
use config_explorer::serving;
use config_explorer::simulation::{Arrivals, CLIENT_THINK_S, EQUAL_OUTPUTS_SPREAD, SharedPrefix, Traffic};
use config_explorer::workload::{Gaps, LengthDistribution, LengthShape, Load, PrefixSharing, Workload};

/// What arrives.
#[derive(Debug, Args)]
#[command(next_help_heading = "Load")]
pub(super) struct LoadArgs {
    /// Length of a prompt, tokens.
    #[arg(long, value_name = "TOKENS")]
    pub(super) input_len: u32,

    /// Mean length of an output, tokens.
    #[arg(long, value_name = "TOKENS")]
    pub(super) output_len: u32,

    /// Clients over the whole deployment, each sending its next request when the last one ends.
    #[arg(long, value_name = "N", alias = "batch-size", group = "arrivals")]
    concurrency: Option<u32>,

    /// Requests per second over the whole deployment, arriving at random.
    #[arg(long, value_name = "R", group = "arrivals")]
    rate: Option<f64>,

    /// Search the highest rate that meets `--slo`.
    #[arg(long, group = "arrivals", requires = "slo")]
    pub(super) find_max_rate: bool,

    /// Requests of the whole run; by default 2,000, and at least ten of every client.
    #[arg(long, value_name = "N", conflicts_with = "find_max_rate", value_parser = clap::value_parser!(u32).range(1..))]
    requests: Option<u32>,

    /// Share of every prompt that all prompts have in common.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    prefix_hit_rate: f64,

    /// Where the random numbers start; equal seeds give equal results.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// Requests of a run that does not say how many.
const REQUESTS: u32 = 2_000;
/// Requests of each client.
const WAVES: u32 = 10;

impl LoadArgs {
    /// The load as the steady state takes it; one request per second stands for what is searched.
    pub(super) fn steady(&self, prefix_hit_rate: f64) -> config_explorer::Result<serving::Traffic> {
        let load = match self.concurrency {
            Some(clients) => serving::Load::Closed {
                clients: f64::from(clients),
                requests: Some(f64::from(self.requests_of(clients).max(clients))),
            },
            None => serving::Load::Open { rate_per_s: self.rate.unwrap_or(1.0) },
        };
        serving::Traffic::new(f64::from(self.input_len), f64::from(self.output_len), prefix_hit_rate, load)
    }

    /// The same for traffic that was simulated.
    pub(super) fn steady_of(
        &self,
        traffic: &Traffic,
        prefix_hit_rate: f64,
    ) -> config_explorer::Result<serving::Traffic> {
        let steady = self.steady(prefix_hit_rate)?;
        Ok(match traffic.arrivals {
            Arrivals::Open { rate_per_s, .. } => {
                serving::Traffic { load: serving::Load::Open { rate_per_s }, ..steady }
            }
            Arrivals::Closed { .. } => steady,
        })
    }

    fn requests_of(&self, clients: u32) -> u32 {
        self.requests.unwrap_or(REQUESTS.max(clients.saturating_mul(WAVES)))
    }

    /// What is simulated.
    pub(super) fn traffic(&self) -> config_explorer::Result<Traffic> {
        // Checks the numbers.
        self.steady(self.prefix_hit_rate)?;
        Ok(match self.concurrency {
            Some(clients) => {
                let mean = f64::from(self.output_len);
                Traffic {
                    output: LengthDistribution::gaussian(mean, EQUAL_OUTPUTS_SPREAD * mean),
                    arrivals: Arrivals::Closed { clients, think_time_s: CLIENT_THINK_S },
                    ..self.traffic_at(1.0, self.requests_of(clients))
                }
            }
            None => self.traffic_at(self.rate.unwrap_or(1.0), self.requests_of(0)),
        })
    }

    /// Poisson arrivals of so many requests.
    pub(super) fn traffic_at(&self, rate_per_s: f64, requests: u32) -> Traffic {
        let shared = (self.prefix_hit_rate * f64::from(self.input_len)) as u32;
        Traffic {
            input: LengthDistribution::fixed(f64::from(self.input_len)),
            output: LengthDistribution::fixed(f64::from(self.output_len)),
            shared_prefix: (shared > 0).then_some(SharedPrefix { groups: 1, tokens: shared }),
            arrivals: Arrivals::Open { rate_per_s, gaps: Gaps::Poisson, concurrency: None },
            requests,
            seed: self.seed,
        }
    }

    /// What was assumed of the lengths.
    pub(super) fn note(traffic: &Traffic) -> Option<String> {
        (traffic.output.shape == LengthShape::Gaussian).then(|| {
            format!(
                "outputs vary by {:.0} %: clients with exactly equal ones stay in lock-step, which measured ones do not",
                100.0 * EQUAL_OUTPUTS_SPREAD
            )
        })
    }
}

/// The traffic in the words of a report.
pub(super) fn workload(traffic: &Traffic) -> Workload {
    let (rate, clients) = match traffic.arrivals {
        Arrivals::Open { rate_per_s, concurrency, .. } => (Some(rate_per_s), concurrency),
        Arrivals::Closed { clients, .. } => (None, Some(clients)),
    };
    let prefix = traffic.shared_prefix.map_or_else(PrefixSharing::default, |prefix| PrefixSharing {
        groups: Some(prefix.groups.into()),
        shared_tokens: Some(f64::from(prefix.tokens)),
        ..PrefixSharing::default()
    });
    Workload {
        input: Some(traffic.input),
        output: Some(traffic.output),
        dataset: Some("random".to_owned()),
        prefix,
        turns: None,
        load: Load::of(rate, clients.map(f64::from), Some(traffic.requests.into())),
    }
}
