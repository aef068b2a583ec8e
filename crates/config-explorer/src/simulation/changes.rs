//! Replicas that start late or fail during a run, and what the clients see from one change to the next.

use std::str::FromStr;

use super::NS_PER_S;
use super::cluster::Failure;
use super::deployment::{DeploymentOptions, SimulatedDeployment};
use super::outcome::Outcome;
use crate::workload::{Quantity, Statistic, Statistics};
use crate::{Error, Result};

/// A replica and a time: `REPLICA@SECONDS` or `REPLICA@SECONDS:SECONDS`.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaTime {
    /// Its name, such as `engine-3`, or only its number among those that answer.
    pub replica: String,
    /// Seconds after the start.
    pub at_s: f64,
    /// For how many seconds; `None`: for good.
    pub for_s: Option<f64>,
}

impl FromStr for ReplicaTime {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (replica, times) = text.split_once('@')?;
            let (at, length) = times.split_once(':').map_or((times, None), |(at, length)| (at, Some(length)));
            let for_s = length.map(|length| length.parse().ok().ok_or(())).transpose().ok()?;
            Some(Self { replica: replica.to_owned(), at_s: at.parse().ok()?, for_s })
        };
        parse().ok_or_else(|| Error::InvalidSetting {
            setting: text.to_owned(),
            reason: "is not REPLICA@SECONDS or REPLICA@SECONDS:SECONDS, such as engine-3@60:120".to_owned(),
        })
    }
}

/// A part of a run, from a change of its engines to the next one.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// Its start, seconds.
    pub start_s: f64,
    /// What happens then.
    pub change: String,
    /// Requests sent in it that were answered.
    pub requests: usize,
    /// Their time to first token, ms.
    pub ttft_ms: Statistics,
    /// Their time from sending to the last token, ms.
    pub e2e_ms: Statistics,
}

impl SimulatedDeployment {
    /// The pool and the number of a replica.
    fn replica(&self, name: &str) -> Result<(usize, u32)> {
        let number = |text: &str, pool: usize| {
            let replica = text.parse().ok().filter(|&replica| replica < self.pools[pool].replicas)?;
            Some((pool, replica))
        };
        // A number alone is of those that answer, the last pool.
        let alone = self.pools.len().checked_sub(1).and_then(|last| number(name, last));
        let mut named = (0..self.pools.len()).filter_map(|pool| {
            let rest = name.strip_prefix(self.pools[pool].name())?.strip_prefix('-')?;
            number(rest, pool)
        });
        alone.or_else(|| named.next()).ok_or_else(|| {
            let pools = self.pools.iter().map(|pool| format!("{0}-0 to {0}-{1}", pool.name(), pool.replicas - 1));
            Error::InvalidSetting {
                setting: name.to_owned(),
                reason: format!("is no replica; there are {}", pools.collect::<Vec<_>>().join(", ")),
            }
        })
    }

    /// For every pool, when its replicas start and fail.
    pub(super) fn lives(&self, options: &DeploymentOptions) -> Result<Vec<(Vec<f64>, Vec<Failure>)>> {
        let mut lives: Vec<_> = self.pools.iter().map(|pool| (vec![0.0; pool.replicas as usize], Vec::new())).collect();
        for start in &options.starts {
            let (pool, replica) = self.replica(&start.replica)?;
            if start.for_s.is_some() {
                return Err(Error::InvalidSetting {
                    setting: start.replica.clone(),
                    reason: "a start has one time, REPLICA@SECONDS".to_owned(),
                });
            }
            lives[pool].0[replica as usize] = start.at_s;
        }
        for failure in &options.failures {
            let (pool, replica) = self.replica(&failure.replica)?;
            let up_s = failure.for_s.map_or(f64::INFINITY, |length| failure.at_s + length);
            lives[pool].1.push(Failure { replica, down_s: failure.at_s, up_s });
        }
        Ok(lives)
    }

    /// The run in parts, from one start, failure or recovery to the next; empty where nothing changes.
    ///
    /// # Errors
    /// Those of [`simulate`](Self::simulate) for the options.
    pub fn phases(&self, options: &DeploymentOptions, outcome: &Outcome) -> Result<Vec<Phase>> {
        let mut changes = Vec::new();
        for (pool, (starts, failures)) in self.pools.iter().zip(self.lives(options)?) {
            let name = |replica: u32| format!("{}-{replica}", pool.name());
            let late = (0..).zip(starts).filter(|start| start.1 > 0.0);
            changes.extend(late.map(|(replica, at_s)| (at_s, format!("{} starts", name(replica)))));
            for Failure { replica, down_s, up_s } in failures {
                changes.push((down_s, format!("{} fails", name(replica))));
                changes.push((up_s, format!("{} is back", name(replica))));
            }
        }
        changes.retain(|change| change.0 < outcome.duration_s);
        changes.sort_by(|one, other| one.0.total_cmp(&other.0));
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let mut phases: Vec<(f64, String)> = vec![(0.0, "the start".to_owned())];
        for (at_s, change) in changes {
            match phases.last_mut() {
                Some(last) if last.0 >= at_s => last.1 = format!("{}, {change}", last.1),
                _ => phases.push((at_s, change)),
            }
        }
        let ends: Vec<f64> = phases.iter().skip(1).map(|phase| phase.0).chain([f64::INFINITY]).collect();
        let finished = &outcome.finished;
        let phase = |((start_s, change), end_s): ((f64, String), f64)| {
            let sent_s = |&at: &usize| finished.sent_ns[at] as f64 / NS_PER_S;
            let rows: Vec<usize> = (0..finished.len()).filter(|at| (start_s..end_s).contains(&sent_s(at))).collect();
            let latency = |quantity: Quantity| {
                Statistics::of_sample(rows.iter().filter_map(|&at| finished.latency_ms(at, quantity)).collect())
            };
            let [ttft_ms, e2e_ms] = [Quantity::Ttft(Statistic::Mean), Quantity::E2e(Statistic::Mean)].map(latency);
            Phase { start_s, change, requests: rows.len(), ttft_ms, e2e_ms }
        };
        Ok(phases.into_iter().zip(ends).map(phase).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_and_its_times_are_read() {
        let read = |text: &str| text.parse::<ReplicaTime>().ok().map(|time| (time.replica, time.at_s, time.for_s));
        assert_eq!(read("engine-3@60:2.5"), Some(("engine-3".to_owned(), 60.0, Some(2.5))));
        assert_eq!(read("3@60"), Some(("3".to_owned(), 60.0, None)));
        for wrong in ["", "3", "3@", "3@x", "3@6:", "3@6:x"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
