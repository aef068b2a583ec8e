//! The highest rate at which a deployment meets its objectives.
//!
//! Bisection over the rate of Poisson arrivals. Every rate is offered the same requests with the same gaps, only closer
//! together (common random numbers), so that answers at two rates differ by the rate alone. Whether an objective is met
//! is decided with confidence: from the spread of ten consecutive parts of the run, which sees that requests that follow
//! each other fare alike. The part before them, in which the engines fill, does not count. A run that cannot tell, or in
//! which requests take longer and longer, is made longer.

use super::outcome::{FinishedRequests, Outcome};
use crate::workload::{Objective, Objectives, Quantity, Statistic};
use crate::{Error, Result};

/// Requests of the first run at a rate.
const REQUESTS_FIRST: u32 = 2_000;
/// Requests of the longest run; then the mean decides.
const REQUESTS_MOST: u32 = 32_000;
/// Parts of a run that count, after one that does not.
const PARTS: usize = 10;
/// A run has settled where the requests of its last parts take at most this much longer than those of the parts before.
const GROWTH: f64 = 1.1;
/// Quantile of Student's t with nine degrees of freedom that leaves 5 % above it.
const T_95: f64 = 1.833;
/// Width of the final bracket, relative.
const TOLERANCE: f64 = 0.01;
/// Share of the first rate below which nothing is met because requests are too slow alone.
const ALONE: f64 = 1e-3;
/// Rounds of bisection: 2^-20 of any bracket is below the tolerance.
const ROUNDS: usize = 20;

/// The answer: the bracket, and what lies beyond it.
#[derive(Debug, Clone, PartialEq)]
pub struct MaxRate {
    /// The highest rate that was found to meet the objectives, requests per second; 0 if none does.
    pub rate_per_s: f64,
    /// The lowest rate that was found not to.
    pub beyond_per_s: f64,
    /// What is not met there.
    pub binds: Vec<String>,
    /// What was found at `rate_per_s`; `None` at 0.
    pub outcome: Option<Outcome>,
    /// Simulations that were needed.
    pub simulations: u32,
    /// Requests of the longest one.
    pub requests: u32,
}

/// What a run says of the objectives.
enum Verdict {
    Met,
    NotMet(Vec<String>),
    /// Not enough requests to tell.
    Unsure(Vec<String>),
}

/// Finds it. `simulate` runs a number of requests at a rate; `start` is a rate to begin with, such as the most that the
/// steady state serves.
///
/// # Errors
/// [`Error::InvalidSetting`] without a limit on a latency from above; those of `simulate`.
pub fn find_max_rate(
    objectives: &Objectives,
    start: f64,
    mut simulate: impl FnMut(f64, u32) -> Result<Outcome>,
) -> Result<MaxRate> {
    if objectives.0.is_empty() || !objectives.0.iter().all(is_upper_limit) {
        return Err(Error::InvalidSetting {
            setting: "--slo".to_owned(),
            reason: "the highest rate needs limits on latencies from above, such as `ttft:p99<2s;tpot:p50<50ms`"
                .to_owned(),
        });
    }
    let mut found = MaxRate {
        rate_per_s: 0.0,
        beyond_per_s: f64::INFINITY,
        binds: Vec::new(),
        outcome: None,
        simulations: 0,
        requests: 0,
    };
    let mut rate = start;
    for _ in 0..ROUNDS {
        let mut requests = REQUESTS_FIRST;
        loop {
            let outcome = simulate(rate, requests)?;
            found.simulations += 1;
            found.requests = found.requests.max(requests);
            let missed = match verdict(&outcome, objectives, requests) {
                Verdict::Unsure(_) if requests < REQUESTS_MOST => {
                    requests = (requests * 4).min(REQUESTS_MOST);
                    continue;
                }
                Verdict::Met => Vec::new(),
                Verdict::NotMet(missed) | Verdict::Unsure(missed) => missed,
            };
            if missed.is_empty() {
                found.rate_per_s = rate;
                found.outcome = Some(outcome);
            } else {
                found.beyond_per_s = rate;
                found.binds = missed;
            }
            break;
        }
        if found.beyond_per_s.is_finite() && found.beyond_per_s - found.rate_per_s <= TOLERANCE * found.beyond_per_s {
            break;
        }
        if found.rate_per_s <= 0.0 && found.beyond_per_s < ALONE * start {
            break;
        }
        rate = if found.beyond_per_s.is_finite() {
            f64::midpoint(found.rate_per_s, found.beyond_per_s)
        } else {
            rate * 2.0
        };
    }
    Ok(found)
}

fn is_upper_limit(objective: &Objective) -> bool {
    use crate::workload::Comparison::{Less, LessOrEqual};
    matches!(objective.comparison, Less | LessOrEqual) && objective.quantity.statistic().is_some()
}

fn verdict(outcome: &Outcome, objectives: &Objectives, sent: u32) -> Verdict {
    let overload = || vec!["more arrives than can be served: requests take longer and longer".to_owned()];
    let e2e = part_means(&outcome.finished, sent, |at| outcome.finished.latency_ms(at, Quantity::E2e(Statistic::Mean)));
    let mean = |parts: &[f64]| parts.iter().sum::<f64>() / parts.len().max(1) as f64;
    let (earlier, later) = e2e.split_at(e2e.len() / 2);
    if mean(later) > GROWTH * mean(earlier) {
        // That more waits than runs may be a moment's chance, where few run.
        return if outcome.saturated { Verdict::NotMet(overload()) } else { Verdict::Unsure(overload()) };
    }
    let (mut missed, mut unsure, mut doubtful) = (Vec::new(), Vec::new(), false);
    for objective in &objectives.0 {
        let value = outcome.quantity(objective.quantity);
        let text = || match value {
            Some(value) => format!("{objective} (it is {value:.1} ms)"),
            None => format!("{objective} (nothing was measured)"),
        };
        match surely_met(outcome, objective, sent) {
            Some(true) => {}
            Some(false) => missed.push(text()),
            None => {
                doubtful = true;
                if !objective.is_met_by(value) {
                    unsure.push(text());
                }
            }
        }
    }
    match (missed.is_empty(), doubtful) {
        (false, _) => Verdict::NotMet(missed),
        (true, true) => Verdict::Unsure(unsure),
        (true, false) => Verdict::Met,
    }
}

/// Whether an objective is met with 95 % confidence; `None` if the run cannot tell. A limit on a quantile holds if that
/// part of the requests keeps it.
fn surely_met(outcome: &Outcome, objective: &Objective, sent: u32) -> Option<bool> {
    // Gaps are pooled over all requests: there are enough of them.
    if let Quantity::Itl(_) = objective.quantity {
        return Some(objective.is_met_by(outcome.quantity(objective.quantity)));
    }
    let quantile = objective.quantity.statistic().and_then(Statistic::quantile);
    let means = part_means(&outcome.finished, sent, |at| {
        let value = outcome.finished.latency_ms(at, objective.quantity)?;
        Some(match quantile {
            Some(_) => f64::from(u8::from(objective.comparison.holds(value, objective.limit))),
            None => value,
        })
    });
    let [low, high] = interval(&means)?;
    match quantile {
        Some(quantile) if low >= quantile => Some(true),
        Some(quantile) if high < quantile => Some(false),
        None if objective.comparison.holds(high, objective.limit) => Some(true),
        None if !objective.comparison.holds(low, objective.limit) => Some(false),
        _ => None,
    }
}

/// Means over the parts of a run, by the order of sending.
fn part_means(finished: &FinishedRequests, sent: u32, value: impl Fn(usize) -> Option<f64>) -> Vec<f64> {
    let mut sums = [(0.0, 0_u32); PARTS + 1];
    for at in 0..finished.len() {
        let part = (finished.request[at] as usize * (PARTS + 1) / sent.max(1) as usize).min(PARTS);
        if let Some(value) = value(at) {
            sums[part].0 += value;
            sums[part].1 += 1;
        }
    }
    sums[1..].iter().filter(|(_, count)| *count > 0).map(|(sum, count)| sum / f64::from(*count)).collect()
}

/// Where the mean lies with 90 % confidence, and so on one side with 95 %.
fn interval(means: &[f64]) -> Option<[f64; 2]> {
    if means.len() < PARTS {
        return None;
    }
    let count = means.len() as f64;
    let mean = means.iter().sum::<f64>() / count;
    let variance = means.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let reach = T_95 * (variance / count).sqrt();
    Some([mean - reach, mean + reach])
}

#[cfg(test)]
mod tests {
    use super::super::engine::{Batch, SchedulerConfig};
    use super::super::{Cluster, SimulationOptions, Traffic, simulate};
    use super::*;
    use crate::engine::EngineRules;
    use crate::workload::{Arrivals, Distribution, Gaps, WorkloadSpec};

    /// An engine that takes 10 ms for a step of up to four requests of one token each: 400 requests per second.
    fn run(rate_per_s: f64, requests: u32) -> Result<Outcome> {
        let config = SchedulerConfig { max_num_seqs: 4, async_scheduling: false, ..SchedulerConfig::default() };
        let rules = EngineRules::of_default_version().scheduler;
        let workload = WorkloadSpec {
            input: Some(Distribution::fixed(10.0)),
            output: Some(Distribution::fixed(1.0)),
            arrivals: Some(Arrivals::Open { rate_per_s, gaps: Gaps::Poisson, concurrency: None }),
            requests: Some(requests),
            ..WorkloadSpec::default()
        };
        let traffic = Traffic { workload, trace: None, seed: 1 };
        simulate(Cluster::single(config, rules, |_: &Batch| 1e4), &traffic, &SimulationOptions::default())
    }

    #[test]
    fn the_highest_rate_lies_below_what_is_served_and_keeps_the_objective() {
        for start in [20.0, 2000.0] {
            let found = find_max_rate(&"ttft:p99<100ms".parse().unwrap(), start, run).unwrap();
            let MaxRate { rate_per_s, beyond_per_s, .. } = found;
            assert!(rate_per_s > 300.0 && beyond_per_s < 410.0, "{rate_per_s} to {beyond_per_s}: {:?}", found.binds);
            assert!(beyond_per_s / rate_per_s < 1.02 && !found.binds.is_empty());
            assert!(found.outcome.unwrap().finished.ttft_ms().get(Statistic::P99).unwrap() < 100.0);
        }
    }

    #[test]
    fn what_no_rate_meets_has_no_highest_rate() {
        let found = find_max_rate(&"ttft:p50<5ms".parse().unwrap(), 100.0, run).unwrap();
        assert!(found.rate_per_s <= 0.0 && found.outcome.is_none());
        assert!(found.binds[0].starts_with("ttft:p50<5ms"), "{:?}", found.binds);
    }

    #[test]
    fn objectives_that_any_low_rate_meets_are_refused() {
        for slo in ["", "throughput>5", "ttft:p99>5ms"] {
            assert!(find_max_rate(&slo.parse().unwrap(), 100.0, run).is_err(), "{slo}");
        }
    }
}
