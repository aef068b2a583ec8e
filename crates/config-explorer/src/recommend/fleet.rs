//! How many engines the load needs within the objectives, and what rate they hold.

use super::query::{Demand, Query, RankBy};
use super::space::Candidate;
use crate::latency::StepTimes;
use crate::serving::{Deployment, Latencies, Load, Traffic, latencies};
use crate::workload::Objective;

/// Engines of a role: how many of which.
#[derive(Debug, Clone, Copy)]
pub(super) struct Engines<'a> {
    pub(super) candidate: &'a Candidate,
    pub(super) replicas: u32,
}

impl Engines<'_> {
    pub(super) fn gpus(&self) -> u32 {
        self.candidate.gpus() * self.replicas
    }
}

/// A deployment of candidates.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fleet<'a> {
    Aggregated(Engines<'a>),
    Disaggregated { prefill: Engines<'a>, decode: Engines<'a> },
}

impl<'a> Fleet<'a> {
    /// Roles with their engines, prefill before decode.
    pub(super) fn roles(&self) -> Vec<(&'static str, Engines<'a>)> {
        match *self {
            Self::Aggregated(engines) => vec![("both", engines)],
            Self::Disaggregated { prefill, decode } => vec![("prefill", prefill), ("decode", decode)],
        }
    }

    pub(super) fn gpus(&self) -> u32 {
        self.roles().iter().map(|(_, engines)| engines.gpus()).sum()
    }

    /// Dollars of an hour; `None` if one of the accelerators has no price.
    pub(super) fn usd_per_hour(&self, query: &Query<'_>) -> Option<f64> {
        self.roles()
            .iter()
            .map(|(_, engines)| {
                let price = query.prices.of(query.pool[engines.candidate.share].accelerator)?;
                Some(price.usd_per_hour * f64::from(engines.gpus()))
            })
            .sum()
    }

    pub(super) fn deployment(&self, query: &'a Query<'_>) -> crate::Result<Deployment<'a>> {
        let role = |engines: Engines<'a>| engines.candidate.engine.role(engines.replicas, query.calibration);
        Ok(match *self {
            Self::Aggregated(engines) => Deployment::Aggregated(role(engines)?),
            Self::Disaggregated { prefill, decode } => {
                Deployment::Disaggregated { prefill: role(prefill)?, decode: role(decode)? }
            }
        })
    }

    /// What it does under a load; `None` where a request does not fit.
    pub(super) fn latencies(&self, query: &Query<'_>, load: Load) -> Option<Latencies> {
        let roles = self.roles();
        let steps: Vec<&StepTimes> = roles.iter().map(|(_, engines)| &engines.candidate.step).collect();
        let traffic = Traffic { load, ..query.traffic().ok()? };
        latencies(&self.deployment(query).ok()?, &steps, &traffic).ok()
    }

    /// With `change` more engines of one role: one fleet for each role. None has a role without engines.
    pub(super) fn resized(&self, change: i32) -> Vec<Self> {
        let resized = |engines: Engines<'a>| {
            let replicas = engines.replicas.checked_add_signed(change).filter(|replicas| *replicas > 0)?;
            Some(Engines { replicas, ..engines })
        };
        match *self {
            Self::Aggregated(engines) => resized(engines).map(Self::Aggregated).into_iter().collect(),
            Self::Disaggregated { prefill, decode } => {
                let prefills = resized(prefill).map(|prefill| Self::Disaggregated { prefill, decode });
                let decodes = resized(decode).map(|decode| Self::Disaggregated { prefill, decode });
                prefills.into_iter().chain(decodes).collect()
            }
        }
    }

    /// The same engines, and as many.
    pub(super) fn is(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.roles(), other.roles());
        ours.len() == theirs.len()
            && ours.iter().zip(&theirs).all(|((_, one), (_, other))| {
                std::ptr::eq(one.candidate, other.candidate) && one.replicas == other.replicas
            })
    }

    /// The step budget of some engine is not the default one.
    pub(super) fn has_other_budget(&self) -> bool {
        self.roles().iter().any(|(_, engines)| engines.candidate.has_other_budget)
    }

    /// The pool has enough GPUs.
    pub(super) fn is_within(&self, query: &Query<'_>) -> bool {
        let taken = |share: usize| {
            let of_share = |(_, engines): &(_, Engines<'_>)| (engines.candidate.share == share).then(|| engines.gpus());
            self.roles().iter().filter_map(of_share).sum::<u32>()
        };
        query.pool.iter().enumerate().all(|(place, share)| taken(place) <= share.gpus)
    }

    /// Requests per second that it serves at most, whatever they take.
    pub(super) fn most_per_s(&self, query: &Query<'_>) -> Option<f64> {
        Some(self.latencies(query, Load::Open { rate_per_s: 1e9 })?.requests_per_s)
    }

    /// Requests per second that it holds within the objectives of latency, Poisson arrivals.
    pub(super) fn max_rate(&self, query: &Query<'_>) -> f64 {
        // Halvings: 0.02 % of the most that it can serve.
        const STEPS: u32 = 12;
        let Some(most) = self.most_per_s(query) else { return 0.0 };
        let (mut held, mut too_much) = (0.0, most);
        for _ in 0..STEPS {
            let rate = f64::midpoint(held, too_much);
            let within = self
                .latencies(query, Load::Open { rate_per_s: rate })
                .is_some_and(|latencies| is_quick_enough(query, &latencies));
            if within { held = rate } else { too_much = rate }
        }
        held
    }
}

/// The objectives of latency are met.
fn is_quick_enough(query: &Query<'_>, latencies: &Latencies) -> bool {
    let value = |quantity| latencies.value(quantity, query.output_tokens);
    !latencies.saturated
        && query
            .objectives
            .0
            .iter()
            // A rate has no statistic.
            .filter(|objective| objective.quantity.statistic().is_some())
            .all(|objective| objective.is_met_by(value(objective.quantity)))
}

/// All objectives are met, and the load is carried.
pub(super) fn meets(query: &Query<'_>, latencies: &Latencies) -> bool {
    !latencies.saturated && query.objectives.are_met_by(|quantity| latencies.value(quantity, query.output_tokens))
}

/// How far a fleet is from the objectives: the largest quotient of value and limit, and beyond saturation what arrives
/// over what is served. 1 or less where all are met.
pub(super) fn excess(query: &Query<'_>, latencies: &Latencies) -> f64 {
    let overload = match query.demand {
        Demand::Rate(rate) if latencies.saturated => 1.0 + rate / latencies.requests_per_s,
        _ => 0.0,
    };
    let over = |objective: &Objective| {
        let value = latencies.value(objective.quantity, query.output_tokens).unwrap_or(f64::INFINITY);
        if objective.comparison.is_upper_bound() { value / objective.limit } else { objective.limit / value }
    };
    if overload > 0.0 {
        return overload;
    }
    query.objectives.0.iter().map(over).fold(0.0, f64::max)
}

/// A fleet that was sized, and what it does under the demand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sized<'a> {
    pub(super) fleet: Fleet<'a>,
    pub(super) latencies: Latencies,
}

/// What is left of the pool for a second role beside one.
fn most_beside(query: &Query<'_>, beside: Engines<'_>, other: &Candidate) -> u32 {
    let free = query.pool[other.share].gpus;
    let taken = if beside.candidate.share == other.share { beside.gpus() } else { 0 };
    free.saturating_sub(taken) / other.gpus()
}

/// A fleet and what it does under the demand, if it meets the objectives.
fn sized<'a>(query: &Query<'_>, fleet: Fleet<'a>) -> Option<Sized<'a>> {
    let latencies = fleet.latencies(query, query.traffic().ok()?.load)?;
    meets(query, &latencies).then_some(Sized { fleet, latencies })
}

/// The smallest number of replicas from 1 to `most` that meets the objectives; more replicas never make it worse.
fn fewest<'a>(query: &Query<'_>, most: u32, fleet: impl Fn(u32) -> Fleet<'a>) -> Option<Sized<'a>> {
    let mut best = sized(query, fleet(most))?;
    let (mut too_few, mut enough) = (0, most);
    while enough - too_few > 1 {
        let middle = u32::midpoint(too_few, enough);
        match sized(query, fleet(middle)) {
            Some(smaller) => (best, enough) = (smaller, middle),
            None => too_few = middle,
        }
    }
    Some(best)
}

/// The replicas that the query asks for of the `most` there can be: as few as will do for cost, else all.
fn chosen<'a>(query: &Query<'_>, most: u32, fleet: impl Fn(u32) -> Fleet<'a>) -> Option<Sized<'a>> {
    match query.rank_by {
        RankBy::Cost => fewest(query, most, fleet),
        RankBy::Throughput | RankBy::Latency => sized(query, fleet(most)),
    }
}

/// The engines of one kind that the demand needs.
///
/// # Errors
/// The largest fleet that the pool allows, which misses the objectives.
pub(super) fn aggregated<'a>(query: &Query<'_>, candidate: &'a Candidate) -> Result<Sized<'a>, Fleet<'a>> {
    let most = query.pool[candidate.share].gpus / candidate.gpus();
    let fleet = |replicas| Fleet::Aggregated(Engines { candidate, replicas });
    chosen(query, most, fleet).ok_or_else(|| fleet(most))
}

/// The engines of two kinds that the demand needs, those for prompts and those that decode.
///
/// # Errors
/// The split of the pool that comes closest, which misses the objectives; `None` if the pool has too few GPUs for both.
pub(super) fn disaggregated<'a>(
    query: &Query<'_>,
    prefill: &'a Candidate,
    decode: &'a Candidate,
) -> Result<Sized<'a>, Option<Fleet<'a>>> {
    let decodes_max = query.pool[decode.share].gpus / decode.gpus();
    let mut best: Option<(f64, Sized<'_>)> = None;
    let mut closest: Option<(f64, Fleet<'_>)> = None;
    for decodes in 1..=decodes_max {
        let decoding = Engines { candidate: decode, replicas: decodes };
        let most = most_beside(query, decoding, prefill);
        if most == 0 {
            break;
        }
        let fleet = |prefills| Fleet::Disaggregated {
            prefill: Engines { candidate: prefill, replicas: prefills },
            decode: decoding,
        };
        let Some(sized) = chosen(query, most, fleet) else {
            if best.is_none() {
                let latencies = query.traffic().ok().and_then(|traffic| fleet(most).latencies(query, traffic.load));
                let far = latencies.map_or(f64::INFINITY, |latencies| excess(query, &latencies));
                if closest.is_none_or(|(least, _)| far < least) {
                    closest = Some((far, fleet(most)));
                }
            }
            continue;
        };
        let badness = match query.rank_by {
            RankBy::Cost => sized.fleet.usd_per_hour(query).unwrap_or_else(|| f64::from(sized.fleet.gpus())),
            RankBy::Throughput => -sized.fleet.max_rate(query),
            RankBy::Latency => sized.latencies.e2e_ms.map_or(f64::INFINITY, |e2e| e2e.mean),
        };
        if best.as_ref().is_none_or(|(least, _)| badness < *least) {
            best = Some((badness, sized));
        }
    }
    best.map(|(_, sized)| sized).ok_or(closest.map(|(_, fleet)| fleet))
}
