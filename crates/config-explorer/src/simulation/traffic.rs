//! What clients send: a workload that can be drawn from.

use std::sync::Arc;

use super::setup::{CLIENT_THINK_S, EQUAL_OUTPUTS_SPREAD};
use crate::serving::{self, Load};
use crate::workload::{
    Arrivals, Class, Distribution, Gaps, LengthDistribution, LengthShape, LoadKind, Prefix, Trace, Workload,
    WorkloadFile, WorkloadSpec,
};
use crate::{Error, Result};

/// Requests, their lengths and their arrivals. Equal seeds give equal requests.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traffic {
    /// What is sent, and when.
    pub workload: WorkloadSpec,
    /// The requests that [`WorkloadSpec::trace`] names: their lengths, and their arrivals where the workload gives none.
    pub trace: Option<Arc<Trace>>,
    /// Where the random numbers start.
    pub seed: u64,
}

/// Texts that no request has: the constant one and that of the system prompt.
pub(super) const FIRST_TEXT: u32 = 2;

fn refuse<T>(setting: &str, reason: impl Into<String>) -> Result<T> {
    Err(Error::InvalidSetting { setting: setting.to_owned(), reason: reason.into() })
}

impl Traffic {
    /// What a file holds, as read by [`read_workload`](crate::workload::read_workload).
    pub fn of_file(file: WorkloadFile, seed: u64) -> Self {
        Self { workload: file.workload, trace: file.trace, seed }
    }

    /// So many independent requests of the steady state's mean lengths, under its load. The share of the prompts that a
    /// cache holds is common to all of them. In a closed loop, outputs vary by [`EQUAL_OUTPUTS_SPREAD`].
    pub fn steady(steady: &serving::Traffic, requests: u32, seed: u64) -> Self {
        let serving::Traffic { input_tokens, output_tokens, prefix_hit_rate, load } = *steady;
        let (input, output) = (input_tokens.round().max(1.0), output_tokens.round().max(1.0));
        let shared = ((prefix_hit_rate * input) as u32).min((input as u32).saturating_sub(1));
        let open = |rate_per_s| Arrivals::Open { rate_per_s, gaps: Gaps::Poisson, concurrency: None };
        let (output, arrivals) = match load {
            Load::Closed { clients, .. } => {
                let lengths = LengthDistribution::gaussian(output, EQUAL_OUTPUTS_SPREAD * output);
                let clients = clients.round() as u32;
                (lengths.into(), Arrivals::Closed { clients, think_time_s: Distribution::fixed(CLIENT_THINK_S) })
            }
            Load::Open { rate_per_s } => (Distribution::fixed(output), open(rate_per_s)),
            Load::Burst { .. } => (Distribution::fixed(output), open(f64::INFINITY)),
        };
        let workload = WorkloadSpec {
            requests: Some(requests),
            arrivals: Some(arrivals),
            input: Some(Distribution::fixed(input - f64::from(shared))),
            output: Some(output),
            prefix: (shared > 0).then(|| Prefix { tokens: shared, ..Prefix::default() }),
            ..WorkloadSpec::default()
        };
        Self { workload, trace: None, seed }
    }

    /// Completes a workload as reports give it. A closed loop thinks for no time. The prompts' lengths there include what
    /// is shared.
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
                Arrivals::Closed { clients: clients.round() as u32, think_time_s: Distribution::fixed(0.0) }
            }
            (Some(LoadKind::Burst), ..) => Arrivals::Open { rate_per_s: f64::INFINITY, gaps, concurrency: None },
            _ => return refuse("load", "neither a rate nor a number of clients is given"),
        };
        let prefix = match (workload.prefix.groups.or(workload.prefix.prefixes), workload.prefix.shared_tokens) {
            (None, None) => None,
            (groups, Some(tokens)) => {
                let groups = u32::try_from(groups.unwrap_or(1)).unwrap_or(u32::MAX);
                Some(Prefix { tokens: tokens.round() as u32, groups, ..Prefix::default() })
            }
            (Some(_), None) => return refuse("prefix", "how many tokens the prompts of a group share is not given"),
        };
        let shared = prefix.map_or(0.0, |prefix| f64::from(prefix.tokens));
        if shared > 0.0 && input.mean <= shared {
            return refuse("prefix", "the prompts are not longer than what they share");
        }
        let less = |tokens: Option<f64>| tokens.map(|tokens| (tokens - shared).max(1.0));
        let own = LengthDistribution { mean: input.mean - shared, min: less(input.min), max: less(input.max), ..input };
        let workload = WorkloadSpec {
            requests: Some(requests),
            arrivals: Some(arrivals),
            input: Some(own.into()),
            output: Some(output.into()),
            prefix,
            ..WorkloadSpec::default()
        };
        let traffic = Self { workload, trace: None, seed };
        traffic.check()?;
        Ok(traffic)
    }

    /// The classes of requests, at least one, in the order of their numbers.
    pub fn classes(&self) -> Vec<Class> {
        self.workload.classes(self.trace.as_deref())
    }

    /// Whether requests come whatever the server does, and not all at once.
    pub fn is_open(&self) -> bool {
        self.workload.arrivals.as_ref().map_or(self.trace.is_some(), Arrivals::is_open)
    }

    /// Refuses what cannot be drawn from, and what never ends.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`], with the field.
    pub fn check(&self) -> Result<()> {
        self.workload.check(self.trace.as_deref())?;
        if self.shared_texts()? + u64::from(self.starts()) >= u64::from(u32::MAX) {
            return refuse("requests", "and prefix groups are too many: together they must be below 2^32");
        }
        Ok(())
    }

    /// Texts that are not one request's (one session's) alone, [`FIRST_TEXT`] included.
    pub(super) fn shared_texts(&self) -> Result<u64> {
        if let Some(trace) = &self.trace {
            return Ok(u64::from(FIRST_TEXT) + u64::from(trace.texts()));
        }
        let prefixes = self.workload.contents()?.into_iter().filter_map(|contents| contents.prefix);
        let texts = |prefix: Prefix| u64::from(prefix.groups) * (1 + u64::from(prefix.prompts_per_group.unwrap_or(0)));
        Ok(u64::from(FIRST_TEXT) + prefixes.map(texts).sum::<u64>())
    }

    /// Most requests (sessions, where there are sessions) that can start.
    pub(super) fn starts(&self) -> u32 {
        let WorkloadSpec { requests, sessions, .. } = self.workload;
        // The duration ends what has neither; it is checked to end before.
        let unlimited = 1 << 30;
        let starts = [requests, sessions].into_iter().flatten().min().unwrap_or(unlimited);
        self.trace.as_ref().map_or(starts, |trace| starts.min(trace.len() as u32))
    }
}

/// For the shapes that have one: the two parameters that their draws use.
pub(super) fn parameters(lengths: &LengthDistribution) -> (f64, f64) {
    let LengthDistribution { shape, mean, stddev, .. } = *lengths;
    let stddev = stddev.unwrap_or(0.0);
    match shape {
        // Mean and standard deviation of the logarithm.
        LengthShape::Lognormal => {
            let variance = (1.0 + (stddev / mean).powi(2)).ln();
            (mean.ln() - variance / 2.0, variance.sqrt())
        }
        // Exponent and smallest value, from the mean a x / (a - 1) and the variance x^2 a / ((a - 1)^2 (a - 2)).
        LengthShape::Pareto => {
            let exponent = 1.0 + (1.0 + (mean / stddev).powi(2)).sqrt();
            (exponent, mean * (exponent - 1.0) / exponent)
        }
        _ => (mean, stddev),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Popularity, Stage};

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let good = WorkloadSpec {
            input: Some(Distribution::fixed(10.0)),
            output: Some(Distribution::fixed(10.0)),
            arrivals: Some(Arrivals::Closed { clients: 1, think_time_s: Distribution::fixed(0.0) }),
            requests: Some(1),
            ..WorkloadSpec::default()
        };
        let check = |workload: &WorkloadSpec| Traffic { workload: workload.clone(), ..Traffic::default() }.check();
        assert!(check(&good).is_ok());
        let open = |rate_per_s, gaps| Some(Arrivals::Open { rate_per_s, gaps, concurrency: None });
        let schedule = |stages: &[Stage], cycle| {
            Some(Arrivals::Schedule { stages: stages.to_vec(), cycle, gaps: Gaps::Poisson, concurrency: None })
        };
        let pause = Stage { duration_s: 9.0, ..Stage::default() };
        let burst = Stage { burst: 9.0, ..Stage::default() };
        let lengths = LengthDistribution { min: Some(9.0), max: Some(8.0), ..LengthDistribution::fixed(8.0) };
        let prefix = Prefix { tokens: 3, ..Prefix::default() };
        let cases = [
            (WorkloadSpec { requests: Some(0), ..good.clone() }, "requests"),
            (WorkloadSpec { requests: None, ..good.clone() }, "never ends"),
            (WorkloadSpec { requests: Some(u32::MAX), ..good.clone() }, "too many"),
            (WorkloadSpec { input: None, ..good.clone() }, "not given"),
            (WorkloadSpec { arrivals: None, ..good.clone() }, "neither a rate"),
            (WorkloadSpec { duration_s: Some(f64::NAN), ..good.clone() }, "duration_s"),
            (WorkloadSpec { input: Some(Distribution::fixed(f64::NAN)), ..good.clone() }, "input"),
            (WorkloadSpec { output: Some(lengths.into()), ..good.clone() }, "output"),
            (WorkloadSpec { prefix: Some(Prefix { groups: 0, ..prefix }), ..good.clone() }, "prefix.groups"),
            (
                WorkloadSpec {
                    prefix: Some(Prefix { popularity: Popularity::Zipf { exponent: f64::NAN }, ..prefix }),
                    ..good.clone()
                },
                "exponent",
            ),
            (WorkloadSpec { arrivals: open(0.0, Gaps::Poisson), ..good.clone() }, "above 0 requests per second"),
            (WorkloadSpec { arrivals: open(1.0, Gaps::Gamma { cv: 0.0 }), ..good.clone() }, "variation"),
            (WorkloadSpec { arrivals: open(1.0, Gaps::Weibull { shape: None, cv: None }), ..good.clone() }, "Weibull"),
            (WorkloadSpec { arrivals: schedule(&[], true), ..good.clone() }, "send nothing"),
            (WorkloadSpec { arrivals: schedule(&[pause], true), ..good.clone() }, "send nothing"),
            (WorkloadSpec { arrivals: schedule(&[burst], true), ..good.clone() }, "longer than 0 seconds"),
            (WorkloadSpec { arrivals: schedule(&[burst, pause], true), requests: None, ..good.clone() }, "never ends"),
            (
                WorkloadSpec {
                    arrivals: Some(Arrivals::Closed { clients: 0, think_time_s: Distribution::fixed(0.0) }),
                    ..good.clone()
                },
                "concurrency",
            ),
        ];
        for (bad, expected) in cases {
            let error = check(&bad).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}, not {expected}");
        }
        assert!(check(&WorkloadSpec { arrivals: schedule(&[burst], false), requests: None, ..good }).is_ok());
    }
}
