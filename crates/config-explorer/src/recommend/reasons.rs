//! Why configurations were rejected, what is missing, and what would flip the choice.

use std::collections::BTreeMap;

use super::answer::{Flip, Margin, NearestMiss, Neighbour, Rejected};
use super::fleet::{Engines, Fleet, aggregated, disaggregated, excess};
use super::query::{Demand, PoolShare, Query, RankBy};
use super::rank::{Basis, Scored};
use super::space::candidates;
use super::watch::Watch;
use crate::engine::ServeArgs;
use crate::serving::{Latencies, Load};
use crate::workload::Objective;

/// Kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    CannotRun,
    DoesNotFit,
    TooSlowIdle,
    TooSlowLoaded,
    TooFewGpus,
    MissesSimulated,
    MissesMeasured,
}

impl Class {
    fn words(self) -> &'static str {
        match self {
            Self::CannotRun => "cannot run",
            Self::DoesNotFit => "does not fit in memory",
            Self::TooSlowIdle => "misses an objective even for a single request",
            Self::TooSlowLoaded => "misses an objective under this load, with all GPUs there are",
            Self::TooFewGpus => "cannot carry the load with all GPUs there are",
            Self::MissesSimulated => "misses an objective in the simulation",
            Self::MissesMeasured => "missed an objective when it was measured",
        }
    }
}

/// A configuration in words.
#[derive(Debug, Clone)]
pub(super) struct Place(String);

impl Place {
    pub(super) fn of(query: &Query<'_>, variant: usize, share: usize, serve: &ServeArgs) -> Self {
        let sizes = [
            ("TP", serve.tensor_parallel_size),
            ("PP", serve.pipeline_parallel_size),
            ("DP", serve.data_parallel_size),
        ];
        let mut words: Vec<_> = sizes.iter().filter_map(|(name, size)| Some(format!("{name} {}", (*size)?))).collect();
        if serve.enable_expert_parallel == Some(true) {
            words.push("EP".to_owned());
        }
        let base = &query.variants[0];
        let variant = &query.variants[variant];
        let flags = variant.serve.to_command("");
        let others: Vec<_> = flags.iter().skip(3).cloned().collect();
        let base_flags = base.serve.to_command("");
        if variant.model.id != base.model.id {
            words.push(format!("of {}", variant.model.id));
        }
        words.push(format!("on {}", query.pool[share].accelerator.name));
        if flags != base_flags && !others.is_empty() {
            words.push(format!("with {}", others.join(" ")));
        }
        Self(words.join(" "))
    }
}

/// Why one configuration is none.
#[derive(Debug, Clone)]
pub(super) struct Rejection {
    class: Class,
    example: String,
}

impl Rejection {
    pub(super) fn new(class: Class, place: &Place, detail: &str) -> Self {
        Self { class, example: format!("{}: {detail}", place.0) }
    }

    /// Of the largest fleet of a pool, which misses the objectives.
    pub(super) fn of_fleet(query: &Query<'_>, largest: &Fleet<'_>) -> Self {
        let one = match *largest {
            Fleet::Aggregated(engines) => Fleet::Aggregated(Engines { replicas: 1, ..engines }),
            pools @ Fleet::Disaggregated { .. } => pools,
        };
        let idle = one.latencies(query, Load::Closed { clients: 1.0, requests: None });
        let loaded = query.traffic().ok().and_then(|traffic| largest.latencies(query, traffic.load));
        let name = fleet_name(query, largest);
        let missed = |latencies: &Option<Latencies>| missed(query, latencies.as_ref()?);
        let slow_idle = idle.is_some_and(|latencies| {
            let met =
                |objective: &Objective| objective.is_met_by(latencies.value(objective.quantity, query.output_tokens));
            !query.objectives.0.iter().filter(|objective| objective.comparison.is_upper_bound()).all(met)
        });
        let (class, detail) = if slow_idle {
            (Class::TooSlowIdle, missed(&idle))
        } else if loaded.is_none_or(|latencies| latencies.saturated) {
            let most =
                loaded.map(|latencies| format!("it serves {} requests/s at most", rounded(latencies.requests_per_s)));
            (Class::TooFewGpus, most)
        } else {
            (Class::TooSlowLoaded, missed(&loaded))
        };
        Self { class, example: format!("{name}: {}", detail.unwrap_or_else(|| class.words().to_owned())) }
    }
}

/// The first objective that is missed, in words.
fn missed(query: &Query<'_>, latencies: &Latencies) -> Option<String> {
    query.objectives.0.iter().find_map(|objective| {
        let value = latencies.value(objective.quantity, query.output_tokens);
        let value = value.filter(|value| !objective.is_met_by(Some(*value)))?;
        Some(format!("{objective} is missed with {}", rounded(value)))
    })
}

impl Rejection {
    /// Of a fleet that missed an objective in better evidence than an estimate.
    pub(super) fn of_evidence(query: &Query<'_>, scored: &Scored<'_>) -> Self {
        let class =
            if matches!(scored.basis, Basis::Measured(..)) { Class::MissesMeasured } else { Class::MissesSimulated };
        let detail =
            missed(query, &scored.latencies).unwrap_or_else(|| "more requests arrive than it serves".to_owned());
        Self { class, example: format!("{}: {detail}", fleet_name(query, &scored.fleet)) }
    }
}

/// Reasons by class, most frequent first.
pub(super) fn counted(rejections: &[Rejection]) -> Vec<Rejected> {
    let mut classes: BTreeMap<Class, Rejected> = BTreeMap::new();
    for rejection in rejections {
        let class = classes.entry(rejection.class).or_insert_with(|| Rejected {
            reason: rejection.class.words().to_owned(),
            count: 0,
            example: rejection.example.clone(),
        });
        class.count += 1;
    }
    let mut classes: Vec<_> = classes.into_values().collect();
    classes.sort_by_key(|class| std::cmp::Reverse(class.count));
    classes
}

/// A deployment in words: `4 x TP 2 on H100-SXM-80GB`.
pub(super) fn fleet_name(query: &Query<'_>, fleet: &Fleet<'_>) -> String {
    let engines = |engines: Engines<'_>| {
        let candidate = engines.candidate;
        let place = Place::of(query, candidate.variant, candidate.share, &candidate.serve);
        format!("{} x {}", engines.replicas, place.0)
    };
    match fleet {
        Fleet::Aggregated(both) => engines(*both),
        Fleet::Disaggregated { prefill, decode } => {
            format!("prefill {}, decode {}", engines(*prefill), engines(*decode))
        }
    }
}

/// Three digits.
pub(super) fn rounded(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}").chars().take(5).collect() }
}

/// How far each objective is from its limit. `worse` are the factors of the worse end of the 80 % interval of times.
pub(super) fn margins(query: &Query<'_>, latencies: &Latencies, worse: Worse) -> Vec<Margin> {
    let margin = |objective: &Objective| {
        let predicted = latencies.value(objective.quantity, query.output_tokens);
        let room = |value: f64| {
            let room =
                if objective.comparison.is_upper_bound() { objective.limit - value } else { value - objective.limit };
            100.0 * room / objective.limit
        };
        let factor = match objective.quantity.metric() {
            "ttft" => worse.ttft,
            "tpot" | "itl" => worse.tpot,
            "e2e" => worse.ttft.max(worse.tpot),
            _ => 1.0,
        };
        Margin {
            objective: objective.to_string(),
            predicted,
            percent: predicted.map(room).filter(|room| room.is_finite()),
            met_at_interval_end: objective.is_met_by(predicted.map(|value| value * factor)),
        }
    };
    query.objectives.0.iter().map(margin).collect()
}

/// Worse ends of the 80 % intervals of times, as factors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Worse {
    pub(super) ttft: f64,
    pub(super) tpot: f64,
}

impl Worse {
    pub(super) const NONE: Self = Self { ttft: 1.0, tpot: 1.0 };
}

/// How many times the GPUs there are is looked at where they do not do.
const MORE: [u32; 5] = [2, 4, 8, 16, 32];

/// The fleet that comes closest, and what would do. Where no engine fits, what would fit in a larger pool.
pub(super) fn nearest_miss(query: &Query<'_>, missed: &[(Fleet<'_>, Latencies)]) -> Option<NearestMiss> {
    let far = |latencies: &Latencies| excess(query, latencies);
    let Some((fleet, closest)) = missed.iter().min_by(|(_, one), (_, other)| far(one).total_cmp(&far(other))) else {
        return larger_pool(query);
    };
    let mut it_would_take = Vec::new();
    let enough = MORE.iter().find_map(|times| {
        let larger = Query { pool: larger(query, *times), rank_by: RankBy::Cost, ..query.clone() };
        match *fleet {
            Fleet::Aggregated(engines) => aggregated(&larger, engines.candidate).ok(),
            Fleet::Disaggregated { prefill, decode } => {
                disaggregated(&larger, prefill.candidate, decode.candidate).ok()
            }
        }
    });
    if let Some(enough) = enough.filter(|enough| enough.fleet.gpus() > fleet.gpus()) {
        it_would_take.push(format!("{} GPUs instead of {}", enough.fleet.gpus(), fleet.gpus()));
    }
    if let Demand::Rate(rate) = query.demand {
        let held = fleet.max_rate(query);
        if held > 0.0 && held < rate {
            it_would_take.push(format!("{} requests/s instead of {}", rounded(held), rounded(rate)));
        }
    }
    for objective in &query.objectives.0 {
        let value = closest.value(objective.quantity, query.output_tokens);
        if let Some(value) = value.filter(|value| !objective.is_met_by(Some(*value))) {
            it_would_take.push(format!("{} instead of {}", rounded(value), objective));
        }
    }
    Some(NearestMiss {
        configuration: fleet_name(query, fleet),
        margin: margins(query, closest, Worse::NONE),
        saturated: closest.saturated,
        it_would_take,
    })
}

/// The pool with so many times its GPUs.
fn larger<'a>(query: &Query<'a>, times: u32) -> Vec<PoolShare<'a>> {
    query.pool.iter().map(|share| PoolShare { gpus: share.gpus.saturating_mul(times), ..*share }).collect()
}

/// The smallest multiple of the pool in which the demand can be met.
fn larger_pool(query: &Query<'_>) -> Option<NearestMiss> {
    MORE.iter().find_map(|times| {
        let larger = Query { pool: larger(query, *times), top: 1, ..query.clone() };
        let (candidates, _) = candidates(&larger, &larger.traffic().ok()?, &Watch::NONE);
        let fleets = candidates.iter().filter_map(|candidate| aggregated(&larger, candidate).ok());
        let best = fleets.min_by_key(|sized| sized.fleet.gpus())?;
        let configuration = fleet_name(&larger, &best.fleet);
        Some(NearestMiss {
            margin: margins(&larger, &best.latencies, Worse::NONE),
            saturated: false,
            it_would_take: vec![format!("{} GPUs: {configuration}", best.fleet.gpus())],
            configuration,
        })
    })
}

fn dollars(value: f64) -> String {
    format!("${value:.2}")
}

/// Why the winner comes before each other.
pub(super) fn neighbours(query: &Query<'_>, winner: &Scored<'_>, others: &[Scored<'_>]) -> Vec<Neighbour> {
    let reason = |other: &Scored<'_>| {
        let (ours, theirs) = (winner.fleet.gpus(), other.fleet.gpus());
        match (winner.usd_per_hour, other.usd_per_hour) {
            (Some(our_usd), Some(their_usd)) if their_usd > our_usd * 1.000_001 => format!(
                "{} an hour instead of {}{}",
                dollars(their_usd),
                dollars(our_usd),
                if theirs == ours { String::new() } else { format!(": {theirs} GPUs instead of {ours}") }
            ),
            (None, _) | (_, None) if theirs > ours => format!("{theirs} GPUs instead of {ours}"),
            _ if other.max_rate < winner.max_rate => format!(
                "holds {} requests/s within the objectives instead of {}",
                rounded(other.max_rate),
                rounded(winner.max_rate)
            ),
            _ => "as good, and less simple".to_owned(),
        }
    };
    others
        .iter()
        .map(|other| Neighbour { configuration: fleet_name(query, &other.fleet), reason: reason(other) })
        .collect()
}

/// What would flip the choice: the demand that outgrows the winner, and prices at which another one would be cheaper.
pub(super) fn flips(query: &Query<'_>, winner: &Scored<'_>, others: &[Scored<'_>]) -> Vec<Flip> {
    let mut flips = Vec::new();
    if let Demand::Rate(rate) = query.demand {
        let percent = (100.0 * (winner.max_rate / rate - 1.0)).round();
        // None, where the simulation holds a little more than the steady state does.
        let more = if percent >= 1.0 { format!("{percent} %") } else { "any".to_owned() };
        flips.push(Flip {
            assumption: format!("{more} more requests, or steps that take as much longer than predicted"),
            then: "the first choice misses an objective and needs another engine".to_owned(),
        });
    }
    let accelerator = |scored: &Scored<'_>| {
        let roles = scored.fleet.roles();
        let names: Vec<_> = roles.iter().map(|(_, e)| &query.pool[e.candidate.share].accelerator.name).collect();
        names.iter().all(|name| *name == names[0]).then(|| names[0].clone())
    };
    // The best of each other accelerator: the highest price that would do.
    let mut told = vec![accelerator(winner)];
    for other in others {
        let (Some(our_usd), Some(their_usd)) = (winner.usd_per_hour, other.usd_per_hour) else { continue };
        let theirs = accelerator(other);
        let Some(name) = theirs.clone().filter(|_| !told.contains(&theirs)) else { continue };
        told.push(theirs);
        let gpus = f64::from(other.fleet.gpus());
        flips.push(Flip {
            assumption: format!(
                "an hour of {name} below {} instead of {}",
                dollars(our_usd / gpus),
                dollars(their_usd / gpus)
            ),
            then: fleet_name(query, &other.fleet),
        });
    }
    flips
}
