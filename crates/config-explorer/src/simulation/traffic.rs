//! What clients send: a workload made complete, so that it can be drawn from.

use super::random::{Draws, Purpose, unbounded};
use crate::workload::{Gaps, LengthDistribution, LengthShape, LoadKind, Workload};
use crate::{Error, Result};
use rand_distr::{Distribution, Gamma};

/// Requests, their lengths and their arrivals. Equal seeds give equal requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Traffic {
    /// Tokens of a prompt, a shared prefix included.
    pub input: LengthDistribution,
    /// Tokens of an answer.
    pub output: LengthDistribution,
    /// What prompts have in common; nothing without it.
    pub shared_prefix: Option<SharedPrefix>,
    /// When they are sent.
    pub arrivals: Arrivals,
    /// How many are sent.
    pub requests: u32,
    /// Where the random numbers start.
    pub seed: u64,
}

/// Groups of prompts; those of a group start with the same tokens. Every request draws its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedPrefix {
    /// Groups, at least 1.
    pub groups: u32,
    /// Tokens that a group shares; of a shorter prompt, all.
    pub tokens: u32,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrivals {
    /// At a rate, whatever the server does.
    Open {
        /// Requests per second; infinite to send all at once.
        rate_per_s: f64,
        /// How the gaps vary.
        gaps: Gaps,
        /// Most requests in flight: what is due beyond waits at the client, unsent.
        concurrency: Option<u32>,
    },
    /// By clients that send their next request when the last one has ended. All start at time zero.
    Closed {
        /// How many.
        clients: u32,
        /// Seconds between the last token and the next request.
        think_time_s: f64,
    },
}

fn refuse<T>(setting: &str, reason: impl Into<String>) -> Result<T> {
    Err(Error::InvalidSetting { setting: setting.to_owned(), reason: reason.into() })
}

impl Traffic {
    /// Completes a workload. A closed loop thinks for no time.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if lengths, the load or the tokens that are shared are not given.
    pub fn of(workload: &Workload, gaps: Gaps, requests: u32, seed: u64) -> Result<Self> {
        let Some(input) = workload.input else { return refuse("input", "the length of the prompts is not given") };
        let Some(output) = workload.output else { return refuse("output", "the length of the answers is not given") };
        let load = &workload.load;
        let arrivals = match (load.kind, load.rate_per_s, load.concurrency) {
            (Some(LoadKind::Open), Some(rate_per_s), limit) => {
                Arrivals::Open { rate_per_s, gaps, concurrency: limit.map(|limit| limit.round() as u32) }
            }
            (Some(LoadKind::Closed), _, Some(clients)) => {
                Arrivals::Closed { clients: clients.round() as u32, think_time_s: 0.0 }
            }
            (Some(LoadKind::Burst), ..) => Arrivals::Open { rate_per_s: f64::INFINITY, gaps, concurrency: None },
            _ => return refuse("load", "neither a rate nor a number of clients is given"),
        };
        let shared_prefix = match (workload.prefix.groups.or(workload.prefix.prefixes), workload.prefix.shared_tokens) {
            (None, None) => None,
            (groups, Some(tokens)) => {
                let groups = u32::try_from(groups.unwrap_or(1)).unwrap_or(u32::MAX);
                Some(SharedPrefix { groups, tokens: tokens.round() as u32 })
            }
            (Some(_), None) => return refuse("prefix", "how many tokens the prompts of a group share is not given"),
        };
        let traffic = Self { input, output, shared_prefix, arrivals, requests, seed };
        traffic.check()?;
        Ok(traffic)
    }

    /// Refuses what cannot be drawn from.
    pub(super) fn check(&self) -> Result<()> {
        for (setting, lengths) in [("input", self.input), ("output", self.output)] {
            check_lengths(setting, lengths)?;
        }
        // Every request has two texts of its own, and a text is a number of 32 bits.
        let texts = u64::from(self.requests) * 2 + u64::from(self.shared_prefix.map_or(0, |prefix| prefix.groups)) + 1;
        if self.requests == 0 || texts >= u64::from(u32::MAX) {
            return refuse("requests", "must be at least 1 and, with half of the prefix groups, below 2^31");
        }
        if self.shared_prefix.is_some_and(|prefix| prefix.groups == 0) {
            return refuse("prefix", "must be at least one group");
        }
        match self.arrivals {
            Arrivals::Open { rate_per_s, .. } if rate_per_s.is_nan() || rate_per_s <= 0.0 => {
                refuse("rate", "must be above 0 requests per second")
            }
            Arrivals::Open { gaps: Gaps::Gamma { cv }, .. } if !(cv > 0.0 && cv.is_finite()) => {
                refuse("gaps", "the coefficient of variation must be above 0 and finite")
            }
            Arrivals::Open { concurrency: Some(0), .. } | Arrivals::Closed { clients: 0, .. } => {
                refuse("concurrency", "must be at least 1")
            }
            Arrivals::Closed { think_time_s, .. } if !(0.0..1e9).contains(&think_time_s) => {
                refuse("think time", "must be at least 0 and below 10^9 seconds")
            }
            _ => Ok(()),
        }
    }
}

fn check_lengths(setting: &str, lengths: LengthDistribution) -> Result<()> {
    let LengthDistribution { shape, mean, stddev, min, max } = lengths;
    let in_range = |tokens: f64| (0.0..=f64::from(1u32 << 30)).contains(&tokens);
    if ![Some(mean), stddev, min, max].into_iter().flatten().all(in_range) || min > max.or(Some(f64::INFINITY)) {
        return refuse(setting, "lengths must lie between 0 and 2^30 tokens, the shortest not above the longest");
    }
    match shape {
        LengthShape::Fixed => Ok(()),
        LengthShape::Uniform if min.is_some() && max.is_some() => Ok(()),
        LengthShape::Uniform => refuse(setting, "a uniform distribution needs its shortest and longest length"),
        LengthShape::Gaussian | LengthShape::Lognormal if stddev.is_some() && mean > 0.0 => Ok(()),
        LengthShape::Gaussian | LengthShape::Lognormal => {
            refuse(setting, "a normal or lognormal distribution needs a mean above 0 and a standard deviation")
        }
        LengthShape::Other => refuse(setting, "the distribution of the lengths is not known: give its shape"),
    }
}

/// Draws lengths.
#[derive(Debug, Clone)]
pub(super) struct Lengths {
    distribution: LengthDistribution,
    /// Mean and standard deviation of the logarithm.
    log: (f64, f64),
    draws: Draws,
}

impl Lengths {
    /// The distribution has been checked.
    pub(super) fn new(distribution: LengthDistribution, seed: u64, purpose: Purpose) -> Self {
        let mean = distribution.mean;
        let variance = (1.0 + (distribution.stddev.unwrap_or(0.0) / mean).powi(2)).ln();
        Self { distribution, log: (mean.ln() - variance / 2.0, variance.sqrt()), draws: Draws::new(seed, purpose) }
    }

    /// Tokens of a request: at least 1, rounded.
    pub(super) fn of(&mut self, request: u64) -> u32 {
        let LengthDistribution { shape, mean, stddev, min, max } = self.distribution;
        let (min, max) = (min.unwrap_or(1.0).max(1.0), max.unwrap_or(f64::from(1u32 << 30)));
        let tokens = match shape {
            LengthShape::Fixed | LengthShape::Other => return mean.round().max(1.0) as u32,
            LengthShape::Uniform => {
                let (first, last) = (min.ceil(), max.floor());
                first + (self.draws.uniforms(request)[0] * (last - first + 1.0)).floor()
            }
            LengthShape::Gaussian => mean + stddev.unwrap_or(0.0) * self.draws.normal(request),
            LengthShape::Lognormal => (self.log.0 + self.log.1 * self.draws.normal(request)).exp(),
        };
        tokens.min(max).max(min).round() as u32
    }
}

/// Draws the gaps between arrivals.
#[derive(Debug, Clone)]
pub(super) struct GapDraws {
    gaps: Gaps,
    mean_s: f64,
    seed: u64,
    draws: Draws,
}

impl GapDraws {
    pub(super) fn new(gaps: Gaps, rate_per_s: f64, seed: u64) -> Self {
        Self { gaps, mean_s: 1.0 / rate_per_s, seed, draws: Draws::new(seed, Purpose::Gap) }
    }

    /// Seconds before a request.
    pub(super) fn before(&mut self, request: u64) -> f64 {
        self.mean_s
            * match self.gaps {
                Gaps::Constant => 1.0,
                Gaps::Poisson => -self.draws.uniforms(request)[0].ln(),
                Gaps::Gamma { cv } => {
                    let variance = cv * cv;
                    let mut rng = unbounded(self.seed, Purpose::Gap, request);
                    // The parameters have been checked.
                    Gamma::new(variance.recip(), variance).map_or(1.0, |gamma| gamma.sample(&mut rng))
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: impl Iterator<Item = f64>) -> (f64, f64) {
        let values: Vec<_> = values.collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (mean, variance.sqrt())
    }

    fn close(actual: f64, expected: f64, tolerance: f64) {
        assert!((actual / expected - 1.0).abs() < tolerance, "{actual} is not {expected}");
    }

    #[test]
    fn gaps_have_their_mean_and_variation() {
        for (gaps, cv) in [(Gaps::Poisson, 1.0), (Gaps::Gamma { cv: 2.0 }, 2.0), (Gaps::Gamma { cv: 0.5 }, 0.5)] {
            let mut draws = GapDraws::new(gaps, 4.0, 1);
            let (mean, stddev) = moments((0..40_000).map(|request| draws.before(request)));
            close(mean, 0.25, 0.03);
            close(stddev / mean, cv, 0.03);
        }
        assert!((GapDraws::new(Gaps::Constant, 4.0, 1).before(9) - 0.25).abs() < 1e-12);
    }

    #[test]
    fn lengths_have_their_mean_and_deviation() {
        for lengths in [LengthDistribution::gaussian(500.0, 80.0), LengthDistribution::lognormal(500.0, 400.0)] {
            let mut draws = Lengths::new(lengths, 3, Purpose::InputLength);
            let (mean, stddev) = moments((0..40_000).map(|request| f64::from(draws.of(request))));
            close(mean, 500.0, 0.02);
            close(stddev, lengths.stddev.unwrap(), 0.04);
        }
        let mut uniform = Lengths::new(LengthDistribution::uniform(3.0, 7.0), 3, Purpose::OutputLength);
        let drawn: std::collections::BTreeSet<_> = (0..500).map(|request| uniform.of(request)).collect();
        assert!(drawn.into_iter().eq(3..=7));
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let good = Traffic {
            input: LengthDistribution::fixed(10.0),
            output: LengthDistribution::fixed(10.0),
            shared_prefix: None,
            arrivals: Arrivals::Closed { clients: 1, think_time_s: 0.0 },
            requests: 1,
            seed: 0,
        };
        assert!(good.check().is_ok());
        let open = |rate_per_s, gaps| Arrivals::Open { rate_per_s, gaps, concurrency: None };
        for bad in [
            Traffic { requests: 0, ..good.clone() },
            Traffic { input: LengthDistribution::fixed(f64::NAN), ..good.clone() },
            Traffic { output: LengthDistribution { min: Some(9.0), max: Some(8.0), ..good.output }, ..good.clone() },
            Traffic { shared_prefix: Some(SharedPrefix { groups: 0, tokens: 3 }), ..good.clone() },
            Traffic { arrivals: open(0.0, Gaps::Poisson), ..good.clone() },
            Traffic { arrivals: open(1.0, Gaps::Gamma { cv: 0.0 }), ..good.clone() },
            Traffic { arrivals: Arrivals::Closed { clients: 0, think_time_s: 0.0 }, ..good.clone() },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
