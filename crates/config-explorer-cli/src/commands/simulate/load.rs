//! What arrives.

use std::path::PathBuf;

use clap::Args;
use config_explorer::recommend::Shard;
use config_explorer::serving;
use config_explorer::simulation::{EQUAL_OUTPUTS_SPREAD, Outcome, Traffic};
use config_explorer::workload::{
    Arrivals, Distribution, Gaps, LengthDistribution, Load, Objectives, PrefixSharing, Workload, WorkloadSpec,
};

use crate::arguments;

/// What arrives.
#[derive(Debug, Args)]
#[command(next_help_heading = "Load")]
pub(super) struct LoadArgs {
    /// Length of a prompt, tokens.
    #[arg(long, value_name = "TOKENS", required_unless_present = "workload", conflicts_with = "workload")]
    input_len: Option<u32>,

    /// Mean length of an output, tokens.
    #[arg(long, value_name = "TOKENS", required_unless_present = "workload", conflicts_with = "workload")]
    output_len: Option<u32>,

    /// Clients over the whole deployment, each sending its next request when the last one ends.
    #[arg(long, value_name = "N", alias = "batch-size", group = "arrivals")]
    concurrency: Option<u32>,

    /// Requests per second over the whole deployment, arriving at random.
    #[arg(long, value_name = "R", group = "arrivals")]
    rate: Option<f64>,

    /// Search the highest rate that meets `--slo`.
    #[arg(long, group = "arrivals", requires = "slo")]
    pub(super) find_max_rate: bool,

    /// File with a workload (this project's, inference-perf's or GuideLLM's) or a trace.
    #[arg(long, value_name = "FILE", group = "arrivals")]
    workload: Option<PathBuf>,

    /// Requests of the whole run; by default 2,000, and at least ten of every client.
    #[arg(
        long,
        value_name = "N",
        conflicts_with_all = ["find_max_rate", "workload"],
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    requests: Option<u32>,

    /// Share of every prompt that all prompts have in common.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, conflicts_with = "workload")]
    prefix_hit_rate: f64,

    /// Where the random numbers start; equal seeds give equal results.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Simulate again with the seeds that follow, one run for each in `--shard-out`; the first is printed.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        requires = "shard_out",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    repetitions: u64,

    /// Simulate one part of the repetitions, such as 0/4: the first of four.
    #[arg(long, value_name = "I/N", requires = "shard_out")]
    shard: Option<Shard>,

    /// Write each repetition as a run, for `runs`: a `.parquet` file. Parts are read together from their folder.
    #[arg(long, value_name = "FILE.parquet", conflicts_with = "find_max_rate")]
    pub(super) shard_out: Option<PathBuf>,
}

/// Requests of a run that does not say how many.
const REQUESTS: u32 = 2_000;
/// Requests of each client.
const WAVES: u32 = 10;

/// The load that was asked for.
pub(super) struct ResolvedLoad {
    /// What is simulated.
    pub(super) traffic: Traffic,
    /// The same for the steady state, without prefix hits; one request per second stands for what is searched.
    pub(super) steady: serving::Traffic,
    /// What was assumed, and what a file says that is left out.
    pub(super) notes: Vec<String>,
}

impl LoadArgs {
    /// The seeds of the repetitions of this part.
    pub(super) fn seeds(&self) -> config_explorer::Result<Vec<u64>> {
        let holds = |repetition: &u64| self.shard.is_none_or(|shard| shard.holds(*repetition as usize));
        let seeds: Vec<_> = (0..self.repetitions).filter(holds).map(|place| self.seed.wrapping_add(place)).collect();
        if seeds.is_empty() {
            let reason = "there are fewer repetitions than parts: raise `--repetitions`".to_owned();
            return Err(config_explorer::Error::InvalidSetting { setting: "--shard".to_owned(), reason });
        }
        Ok(seeds)
    }

    /// Reads and checks it.
    pub(super) fn resolve(&self) -> config_explorer::Result<ResolvedLoad> {
        match &self.workload {
            Some(path) => {
                let (traffic, notes) = arguments::workload::read(path, self.seed)?;
                let steady = serving::Traffic { prefix_hit_rate: 0.0, ..traffic.steady_state()? };
                Ok(ResolvedLoad { traffic, steady, notes })
            }
            None => self.given(f64::from(self.input_len.unwrap_or(0)), f64::from(self.output_len.unwrap_or(0))),
        }
    }

    fn given(&self, input: f64, output: f64) -> config_explorer::Result<ResolvedLoad> {
        let requests = self.requests.unwrap_or(REQUESTS.max(self.concurrency.unwrap_or(0).saturating_mul(WAVES)));
        let load = match self.concurrency {
            Some(clients) => {
                serving::Load::Closed { clients: f64::from(clients), requests: Some(f64::from(requests.max(clients))) }
            }
            None => serving::Load::Open { rate_per_s: self.rate.unwrap_or(1.0) },
        };
        // Checks the numbers.
        let steady = serving::Traffic::new(input, output, self.prefix_hit_rate, load)?;
        let notes = self.concurrency.map(|_| {
            format!(
                "outputs vary by {:.0} %: clients with exactly equal ones stay in lock-step, which measured ones do not",
                100.0 * EQUAL_OUTPUTS_SPREAD
            )
        });
        let traffic = Traffic::steady(&steady, requests, self.seed);
        let steady = serving::Traffic { prefix_hit_rate: 0.0, ..steady };
        Ok(ResolvedLoad { traffic, steady, notes: notes.into_iter().collect() })
    }
}

fn poisson(rate_per_s: f64) -> Arrivals {
    Arrivals::Open { rate_per_s, gaps: Gaps::Poisson, concurrency: None }
}

impl ResolvedLoad {
    /// Poisson arrivals of so many requests, whose outputs are as long as their mean where they were equal.
    pub(super) fn traffic_at(&self, rate_per_s: f64, requests: u32) -> Traffic {
        let mut traffic = self.traffic.clone();
        if let (Some(Arrivals::Closed { .. }), None) = (&traffic.workload.arrivals, &traffic.trace)
            && self.is_plain()
        {
            traffic.workload.output = Some(Distribution::fixed(self.steady.output_tokens));
        }
        traffic.workload.arrivals = Some(poisson(rate_per_s));
        traffic.workload.requests = Some(requests);
        traffic
    }

    /// One kind of independent requests of one length.
    fn is_plain(&self) -> bool {
        let WorkloadSpec { session, classes, input, .. } = &self.traffic.workload;
        session.is_none()
            && classes.is_empty()
            && matches!(input, Some(Distribution::Shaped(lengths)) if *lengths == LengthDistribution::fixed(lengths.mean))
    }

    /// The load in the steady state, of traffic at a rate of its own and with the hits that were found.
    pub(super) fn steady_of(&self, traffic: &Traffic, prefix_hit_rate: f64) -> serving::Traffic {
        let load = match traffic.workload.arrivals {
            Some(Arrivals::Open { rate_per_s, .. }) if rate_per_s.is_finite() => serving::Load::Open { rate_per_s },
            _ => self.steady.load,
        };
        serving::Traffic { load, prefix_hit_rate, ..self.steady }
    }

    /// The objectives of the workload's file.
    pub(super) fn objectives(&self) -> Option<&Objectives> {
        self.traffic.workload.slo.as_ref()
    }
}

/// Requests that were sent.
pub(super) fn sent(outcome: &Outcome) -> u32 {
    outcome.finished.len() as u32 + outcome.rejected.total() + outcome.failed
}

/// The traffic in the words of a report.
pub(super) fn workload(traffic: &Traffic, sent: u32) -> Workload {
    let WorkloadSpec { arrivals, input, output, prefix, classes, session, system_prompt_tokens, .. } =
        &traffic.workload;
    let (rate, clients) = match arrivals {
        Some(Arrivals::Open { rate_per_s, concurrency, .. }) => (Some(*rate_per_s), *concurrency),
        Some(Arrivals::Closed { clients, .. }) => (None, Some(*clients)),
        Some(Arrivals::Schedule { .. }) | None => (None, None),
    };
    // Of what has several kinds of requests, only the lengths that were sent are known.
    let simple = traffic.trace.is_none() && classes.is_empty() && session.is_none();
    let lengths = |distribution: &Option<Distribution>| match distribution {
        Some(Distribution::Shaped(lengths)) if simple => Some(*lengths),
        _ => None,
    };
    let shared = f64::from(prefix.map_or(0, |prefix| prefix.tokens) + system_prompt_tokens);
    let more = |tokens: f64| tokens + shared;
    let whole = |own: LengthDistribution| LengthDistribution {
        mean: more(own.mean),
        min: own.min.map(more),
        max: own.max.map(more),
        ..own
    };
    let sharing = prefix.filter(|_| simple).map_or_else(PrefixSharing::default, |prefix| PrefixSharing {
        groups: Some(prefix.groups.into()),
        shared_tokens: Some(f64::from(prefix.tokens)),
        ..PrefixSharing::default()
    });
    Workload {
        input: lengths(input).map(whole),
        output: lengths(output),
        dataset: traffic.trace.is_none().then(|| "random".to_owned()),
        prefix: sharing,
        turns: None,
        load: Load::of(rate, clients.map(f64::from), Some(sent.into())),
    }
}
