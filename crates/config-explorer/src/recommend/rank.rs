//! From candidates to the answer: cost, order, Pareto front.

use std::cmp::Ordering;

use rayon::prelude::*;

use super::answer::{
    Evidence, FrontPoint, Layout, MeasuredRun, Recommendation, Recommendations, RoleChoice, RouterChoice,
};
use super::finalists::{is_narrow_miss, latencies_of, narrow_misses, simulate_finalists, widen};
use super::fleet::{Engines, Fleet, Sized, aggregated, disaggregated, meets};
use super::measured::{MeasuredFleet, measured};
use super::query::{Demand, Disaggregation, Query, RankBy};
use super::reasons::{Rejection, Worse, counted, fleet_name, flips, margins, nearest_miss, neighbours};
use super::shard::considered;
use super::space::{Candidate, candidates, plan_request};
use super::watch::{Stage, Watch};
use crate::Result;
use crate::deployment::Parallelism;
use crate::engine::join_command;
use crate::explore::pareto_front_of;
use crate::memory::plan;
use crate::reports::Direction;
use crate::serving::{Latencies, Prediction, estimate};

/// Neighbours of the first choice that are told: as many as fit on a screen.
const NEIGHBOURS: usize = 8;

/// What is known of a fleet.
#[derive(Debug, Clone)]
pub(super) enum Basis {
    /// The steady state.
    Estimated,
    /// The steady state: a simulation was refused, for this reason.
    NotSimulated(String),
    /// A simulation.
    Simulated(Box<Prediction>),
    /// Runs.
    Measured(Box<Prediction>, Vec<MeasuredRun>),
}

impl Basis {
    pub(super) fn evidence(&self) -> Evidence {
        match self {
            Self::Estimated | Self::NotSimulated(_) => Evidence::Estimated,
            Self::Simulated(_) => Evidence::Simulated,
            Self::Measured(..) => Evidence::Measured,
        }
    }
}

/// A fleet with all it is ranked by.
#[derive(Debug, Clone)]
pub(super) struct Scored<'a> {
    pub(super) fleet: Fleet<'a>,
    /// What it does under the demand, by the best that is known.
    pub(super) latencies: Latencies,
    /// It meets the objectives.
    pub(super) meets: bool,
    pub(super) basis: Basis,
    pub(super) usd_per_hour: Option<f64>,
    pub(super) max_rate: f64,
}

impl<'a> Scored<'a> {
    fn estimated(query: &Query<'_>, fleet: Fleet<'a>) -> Option<Self> {
        let latencies = fleet.latencies(query, query.traffic().ok()?.load)?;
        Some(Self::of(query, Sized { fleet, latencies }))
    }

    fn of(query: &Query<'_>, Sized { fleet, latencies }: Sized<'a>) -> Self {
        Self {
            fleet,
            latencies,
            meets: meets(query, &latencies),
            basis: Basis::Estimated,
            usd_per_hour: fleet.usd_per_hour(query),
            max_rate: fleet.max_rate(query),
        }
    }

    /// Replaces the estimate by something better.
    pub(super) fn judge(&mut self, query: &Query<'_>, prediction: &Prediction, basis: Basis) {
        self.latencies = latencies_of(prediction);
        self.meets = meets(query, &self.latencies);
        self.basis = basis;
        if let (true, Demand::Rate(rate)) = (self.meets, query.demand) {
            self.max_rate = self.max_rate.max(rate);
        }
    }
}

/// Finds the configurations that meet the objectives, best first. None meets them where the answer has no
/// recommendation; then it has the nearest miss.
///
/// # Errors
/// [`crate::Error::InvalidSetting`] for lengths, a load or a pool that cannot be.
pub fn recommend(query: &Query<'_>) -> Result<Recommendations> {
    recommend_watched(query, &Watch::NONE)
}

/// As [`recommend`], followed by a [`Watch`]; a search that is stopped gives the best so far.
///
/// # Errors
/// As [`recommend`].
pub fn recommend_watched(query: &Query<'_>, watch: &Watch<'_>) -> Result<Recommendations> {
    query.check()?;
    let traffic = query.traffic()?;
    let (candidates, mut rejections) = candidates(query, &traffic, watch);
    query.keep_part(&mut rejections);
    let mut evaluated = rejections.len();
    let (mut scored, missed) = estimates(query, &candidates, watch);
    evaluated += scored.len() + missed.len();
    rejections.extend(missed.iter().map(|fleet| Rejection::of_fleet(query, fleet)));

    let hopeful: Vec<_> = if query.simulate {
        let smaller = scored.iter().flat_map(|scored| narrow_misses(query, &scored.fleet));
        let largest = missed.iter().copied().filter(|fleet| !fleet.has_other_budget() && is_narrow_miss(query, fleet));
        smaller.chain(largest).filter_map(|fleet| Scored::estimated(query, fleet)).collect()
    } else {
        Vec::new()
    };
    scored.extend(hopeful);
    let (fleets, told) = measured(query, &candidates)?;
    for fleet in fleets {
        measure(query, &mut scored, fleet);
    }
    scored.sort_by(|one, other| order(query, one, other));
    let simulated = match query.simulate {
        true => simulate_finalists(query, &mut scored, watch)?,
        false => 0,
    };

    let mut refuted = Vec::new();
    for scored in scored.iter().filter(|scored| !scored.meets && scored.basis.evidence() != Evidence::Estimated) {
        refuted.push((scored.fleet, scored.latencies));
        // What an estimate had rejected already is not counted twice.
        if !missed.iter().any(|fleet| fleet.is(&scored.fleet)) {
            rejections.push(Rejection::of_evidence(query, scored));
        }
    }
    let considered =
        if query.keep_all { scored.iter().map(|scored| considered(query, scored)).collect() } else { Vec::new() };
    scored.retain(|scored| scored.meets);
    let feasible = scored.len();
    let distinct = distinct(scored);
    let pareto = front(query, &distinct);
    let recommendations = distinct
        .par_iter()
        .take(query.top)
        .enumerate()
        .map(|(index, scored)| recommendation(query, index + 1, scored))
        .collect::<Result<Vec<_>>>()?;
    let (neighbours, flips) = match distinct.split_first() {
        Some((winner, others)) => {
            (neighbours(query, winner, &others[..others.len().min(NEIGHBOURS)]), flips(query, winner, others))
        }
        None => (Vec::new(), Vec::new()),
    };
    // A search that was stopped has not seen what is nearest.
    let nearest_miss = if distinct.is_empty() && !watch.is_stopped() {
        let unseen: Vec<_> = missed.iter().filter(|fleet| !refuted.iter().any(|(seen, _)| seen.is(fleet))).collect();
        refuted.extend(unseen.into_iter().filter_map(|fleet| Some((*fleet, fleet.latencies(query, traffic.load)?))));
        nearest_miss(query, &refuted)
    } else {
        None
    };
    Ok(Recommendations {
        evaluated,
        feasible,
        simulated,
        measured: query.measured.map(|_| told),
        complete: !watch.is_stopped(),
        nearest_miss,
        recommendations,
        pareto,
        rejected: counted(&rejections),
        neighbours,
        flips,
        considered,
    })
}

/// Puts a fleet that was measured in the place of predictions: of itself, and where it missed also of those that have no
/// more engines of the same layout. One engine more is then looked at.
fn measure<'a>(query: &Query<'_>, scored: &mut Vec<Scored<'a>>, measured: MeasuredFleet<'a>) {
    let MeasuredFleet { fleet, prediction, runs } = measured;
    let Some(mut judged) = Scored::estimated(query, fleet) else { return };
    judged.judge(query, &prediction, Basis::Measured(Box::new(prediction.clone()), runs));
    let misses = !judged.meets;
    scored.retain(|known| {
        let is_other = layout_of(&known.fleet) != layout_of(&fleet);
        let sizes = known.fleet.roles().into_iter().zip(fleet.roles());
        let is_larger = sizes.clone().any(|((_, one), (_, other))| one.replicas > other.replicas);
        let is_same_size = sizes.clone().all(|((_, one), (_, other))| one.replicas == other.replicas);
        is_other || known.basis.evidence() == Evidence::Measured || is_larger || (!misses && !is_same_size)
    });
    if misses {
        add_larger(query, scored, &fleet);
    }
    scored.push(judged);
}

/// Looks at one engine more than a fleet that missed, where the cost is what counts.
pub(super) fn add_larger<'a>(query: &Query<'_>, scored: &mut Vec<Scored<'a>>, fleet: &Fleet<'a>) {
    if query.rank_by != RankBy::Cost {
        return;
    }
    for larger in fleet.resized(1) {
        if larger.is_within(query) && !scored.iter().any(|known| known.fleet.is(&larger)) {
            scored.extend(Scored::estimated(query, larger));
        }
    }
}

/// The fleets that meet the objectives by estimate, and the largest ones of the kinds that do not.
fn estimates<'a>(
    query: &Query<'_>,
    candidates: &'a [Candidate],
    watch: &Watch<'_>,
) -> (Vec<Scored<'a>>, Vec<Fleet<'a>>) {
    let mut kinds = Vec::new();
    if query.disaggregation != Disaggregation::Always {
        kinds.extend(candidates.iter().map(|candidate| (candidate, None)));
    }
    if query.disaggregation != Disaggregation::Never {
        kinds.extend(pairs(candidates).into_iter().map(|(prefill, decode)| (prefill, Some(decode))));
    }
    query.keep_part(&mut kinds);
    let outcomes = watch.map(Stage::Deployments, kinds, |(candidate, decode)| {
        let sized = match decode {
            None => aggregated(query, candidate).map_err(Some),
            Some(decode) => disaggregated(query, candidate, decode),
        };
        sized.map(|sized| Scored::of(query, sized))
    });
    let (mut scored, mut missed) = (Vec::new(), Vec::new());
    for outcome in outcomes.into_iter().flatten() {
        match outcome {
            Ok(fleet) => scored.push(fleet),
            // A pool that is too small for both roles is no deployment.
            Err(fleet) => missed.extend(fleet),
        }
    }
    (scored, missed)
}

/// Pairs of engines for prompts and for decoding: the same checkpoint in the same KV cache format, which is what moves.
fn pairs(candidates: &[Candidate]) -> Vec<(&Candidate, &Candidate)> {
    let mut pairs = Vec::new();
    for prefill in candidates {
        for decode in candidates {
            // The budget of a step is for prompts.
            if prefill.variant == decode.variant && !decode.has_other_budget {
                pairs.push((prefill, decode));
            }
        }
    }
    pairs
}

/// Better first; what does not meet the objectives by the best that is known stands where it would if it did. A price that
/// is not known makes GPUs the cost, of all. At the same cost, runs outrank predictions, one pool is simpler than two.
pub(super) fn order(query: &Query<'_>, one: &Scored<'_>, other: &Scored<'_>) -> Ordering {
    let cost = || match (one.usd_per_hour, other.usd_per_hour) {
        (Some(one), Some(other)) => one.total_cmp(&other),
        _ => one.fleet.gpus().cmp(&other.fleet.gpus()),
    };
    let measured = || {
        let is_measured = |scored: &Scored<'_>| scored.basis.evidence() == Evidence::Measured;
        is_measured(other).cmp(&is_measured(one))
    };
    let simple = || one.fleet.roles().len().cmp(&other.fleet.roles().len());
    let rate = || other.max_rate.total_cmp(&one.max_rate);
    let latency = || mean_ms(one).total_cmp(&mean_ms(other));
    // Another budget than the engine's own is for what is cheaper or better with it.
    let plain = || one.fleet.has_other_budget().cmp(&other.fleet.has_other_budget());
    match query.rank_by {
        RankBy::Cost => {
            cost().then_with(measured).then_with(simple).then_with(plain).then_with(rate).then_with(latency)
        }
        RankBy::Throughput => rate().then_with(simple).then_with(cost).then_with(latency),
        RankBy::Latency => latency().then_with(simple).then_with(cost).then_with(rate),
    }
}

fn mean_ms(scored: &Scored<'_>) -> f64 {
    scored.latencies.e2e_ms.map_or(f64::INFINITY, |e2e| e2e.mean)
}

/// The engines of a fleet but for their flags and how many they are.
pub(super) fn layout_of(fleet: &Fleet<'_>) -> Vec<(&'static str, usize, Parallelism)> {
    let role = |(role, engines): &(&'static str, Engines<'_>)| {
        (*role, engines.candidate.share, engines.candidate.parallelism())
    };
    fleet.roles().iter().map(role).collect()
}

/// What is the same engine but for its flags counts once, at its best.
fn distinct(scored: Vec<Scored<'_>>) -> Vec<Scored<'_>> {
    let mut seen = std::collections::HashSet::new();
    scored.into_iter().filter(|scored| seen.insert(layout_of(&scored.fleet))).collect()
}

/// What nothing beats in cost, mean latency and rate.
fn front(query: &Query<'_>, scored: &[Scored<'_>]) -> Vec<FrontPoint> {
    let priced = scored.iter().all(|scored| scored.usd_per_hour.is_some());
    let gpus = |scored: &Scored<'_>| f64::from(scored.fleet.gpus());
    let costs: Vec<f64> =
        scored.iter().map(|scored| scored.usd_per_hour.filter(|_| priced).unwrap_or_else(|| gpus(scored))).collect();
    let times: Vec<f64> = scored.iter().map(|scored| mean_ms(scored)).collect();
    let rates: Vec<f64> = scored.iter().map(|scored| scored.max_rate).collect();
    let front = pareto_front_of(&[(&costs, Direction::Lower), (&times, Direction::Lower), (&rates, Direction::Higher)]);
    let mut rows = front.rows;
    rows.sort_by(|&one, &other| costs[one].total_cmp(&costs[other]).then(times[one].total_cmp(&times[other])));
    rows.into_iter()
        .map(|row| FrontPoint {
            configuration: fleet_name(query, &scored[row].fleet),
            gpus: scored[row].fleet.gpus(),
            usd_per_hour: scored[row].usd_per_hour,
            e2e_mean_ms: times[row],
            max_rate_within_slo: rates[row],
            evidence: scored[row].basis.evidence(),
        })
        .collect()
}

fn role_choice(query: &Query<'_>, role: &'static str, engines: Engines<'_>) -> Result<RoleChoice> {
    let candidate = engines.candidate;
    let planned = plan(&plan_request(query, candidate.variant, candidate.share, &candidate.serve)?);
    let model = &query.variants[candidate.variant].model.id;
    Ok(RoleChoice {
        role,
        model: model.clone(),
        gpu: query.pool[candidate.share].accelerator.name.clone(),
        replicas: engines.replicas,
        gpus: engines.gpus(),
        gpus_per_node: query.pool[candidate.share].gpus_per_node,
        parallelism: candidate.parallelism().into(),
        settings: planned.engine.settings,
        kv_cache_tokens: planned.kv_cache.map_or(0, |kv| kv.tokens),
        kv_bytes_per_token_per_gpu: planned.kv_cache.map(|kv| kv.bytes_per_token_per_gpu),
        command: join_command(&candidate.serve.to_command(model)),
    })
}

fn recommendation(query: &Query<'_>, rank: usize, scored: &Scored<'_>) -> Result<Recommendation> {
    let fleet = &scored.fleet;
    let roles = fleet.roles();
    let choices = roles.iter().map(|(role, engines)| role_choice(query, role, *engines)).collect::<Result<Vec<_>>>()?;
    let estimated = || estimate(&fleet.deployment(query)?, &query.traffic()?);
    let predicted = match &scored.basis {
        Basis::Estimated => estimated()?,
        Basis::NotSimulated(reason) => {
            let mut predicted = estimated()?;
            predicted.warnings.push(format!("not simulated: {reason}"));
            predicted
        }
        Basis::Simulated(predicted) => {
            let mut predicted = predicted.as_ref().clone();
            widen(query, fleet, &mut predicted)?;
            predicted
        }
        Basis::Measured(predicted, _) => predicted.as_ref().clone(),
    };
    let mut gpus: Vec<_> = choices.iter().map(|choice| choice.gpu.clone()).collect();
    gpus.dedup();
    let tokens_per_hour = predicted.throughput.output_tokens_per_s * 3600.0;
    Ok(Recommendation {
        rank,
        layout: if roles.len() == 1 { Layout::Aggregated } else { Layout::Disaggregated },
        gpu: gpus.join(", "),
        gpus: fleet.gpus(),
        usd_per_hour: scored.usd_per_hour,
        usd_per_million_output_tokens: scored.usd_per_hour.map(|usd| usd / tokens_per_hour * 1e6),
        max_rate_within_slo: scored.max_rate,
        margin: margins(query, &scored.latencies, worse(&predicted)),
        meets: scored.meets,
        evidence: scored.basis.evidence(),
        runs: match &scored.basis {
            Basis::Measured(_, runs) => runs.clone(),
            _ => Vec::new(),
        },
        router: router(query, fleet),
        command: choices[0].command.clone(),
        roles: choices,
        predicted,
    })
}

/// The profile of llm-d's router for a fleet, by the guide that has such a fleet.
fn router(query: &Query<'_>, fleet: &Fleet<'_>) -> RouterChoice {
    // On one host, vLLM itself spreads requests over its ranks, behind one port.
    let wide = |engines: &Engines<'_>| {
        let parallelism = engines.candidate.parallelism();
        parallelism.data() > 1 && parallelism.gpus() > query.pool[engines.candidate.share].gpus_per_node
    };
    let (profile, reason) = match fleet {
        Fleet::Disaggregated { prefill, decode } if wide(prefill) || wide(decode) => {
            ("wide-ep-lws", "prefill and decode apart, and ranks over several hosts, each an endpoint")
        }
        Fleet::Disaggregated { .. } => ("pd-disaggregation", "prefill and decode apart"),
        Fleet::Aggregated(engines) if engines.replicas > 1 => {
            ("optimized-baseline", "engines that do all of a request: by load and by the prefixes they hold")
        }
        Fleet::Aggregated(_) => ("optimized-baseline", "one engine: there is nothing to choose, until it is scaled"),
    };
    RouterChoice { profile, reason }
}

/// The worse end of the 80 % intervals over the prediction.
fn worse(predicted: &Prediction) -> Worse {
    let ttft = predicted.ttft_ms.zip(predicted.interval_80.ttft_mean_ms);
    Worse {
        ttft: ttft.map_or(1.0, |(ttft, interval)| interval[1] / ttft.mean),
        tpot: predicted.interval_80.tpot_mean_ms[1] / predicted.tpot_ms.mean,
    }
}
