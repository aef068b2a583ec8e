//! From candidates to the answer: cost, order, Pareto front.

use std::cmp::Ordering;

use rayon::prelude::*;

use super::answer::{Evidence, FrontPoint, Layout, Recommendation, Recommendations, RoleChoice};
use super::fleet::{Engines, Fleet, Sized, aggregated, disaggregated};
use super::query::{Disaggregation, Query, RankBy};
use super::reasons::{Rejection, Worse, counted, fleet_name, flips, margins, nearest_miss, neighbours};
use super::space::{Candidate, candidates, plan_request};
use crate::Result;
use crate::engine::join_command;
use crate::explore::pareto_front_of;
use crate::memory::plan;
use crate::reports::Direction;
use crate::serving::{Prediction, estimate};

/// Neighbours of the first choice that are told: as many as fit on a screen.
const NEIGHBOURS: usize = 8;

/// A fleet that meets the objectives, with all it is ranked by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scored<'a> {
    pub(super) sized: Sized<'a>,
    pub(super) usd_per_hour: Option<f64>,
    pub(super) max_rate: f64,
}

/// Finds the configurations that meet the objectives, best first. None meets them where the answer has no
/// recommendation; then it has the nearest miss.
///
/// # Errors
/// [`crate::Error::InvalidSetting`] for lengths, a load or a pool that cannot be.
pub fn recommend(query: &Query<'_>) -> Result<Recommendations> {
    query.check()?;
    let traffic = query.traffic()?;
    let (candidates, mut rejections) = candidates(query, &traffic);
    let mut evaluated = rejections.len();
    let mut feasible: Vec<Sized<'_>> = Vec::new();
    let mut largest: Vec<Fleet<'_>> = Vec::new();

    if query.disaggregation != Disaggregation::Always {
        let sized: Vec<_> = candidates.par_iter().map(|candidate| aggregated(query, candidate)).collect();
        evaluated += sized.len();
        for outcome in sized {
            match outcome {
                Ok(sized) => feasible.push(sized),
                Err(fleet) => {
                    rejections.push(Rejection::of_fleet(query, &fleet));
                    largest.push(fleet);
                }
            }
        }
    }
    if query.disaggregation != Disaggregation::Never {
        let pairs = pairs(&candidates);
        evaluated += pairs.len();
        let sized: Vec<_> =
            pairs.into_par_iter().filter_map(|(prefill, decode)| disaggregated(query, prefill, decode)).collect();
        feasible.extend(sized);
    }

    let mut scored: Vec<_> = feasible
        .into_par_iter()
        .map(|sized| Scored {
            sized,
            usd_per_hour: sized.fleet.usd_per_hour(query),
            max_rate: sized.fleet.max_rate(query),
        })
        .collect();
    scored.sort_by(|one, other| order(query, one, other));
    let feasible = scored.len();
    let pareto = front(query, &scored);
    let distinct = distinct(scored);
    let recommendations = distinct
        .iter()
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
    Ok(Recommendations {
        evaluated,
        feasible,
        simulated: 0,
        nearest_miss: if recommendations.is_empty() { nearest_miss(query, &largest) } else { None },
        recommendations,
        pareto,
        rejected: counted(&rejections),
        neighbours,
        flips,
    })
}

/// Pairs of engines for prompts and for decoding: the same checkpoint in the same KV cache format, which is what moves.
fn pairs(candidates: &[Candidate]) -> Vec<(&Candidate, &Candidate)> {
    let mut pairs = Vec::new();
    for prefill in candidates {
        for decode in candidates {
            if prefill.variant == decode.variant {
                pairs.push((prefill, decode));
            }
        }
    }
    pairs
}

/// Better first. A price that is not known makes GPUs the cost, of all. At the same cost, one pool is simpler than two.
fn order(query: &Query<'_>, one: &Scored<'_>, other: &Scored<'_>) -> Ordering {
    let cost = || match (one.usd_per_hour, other.usd_per_hour) {
        (Some(one), Some(other)) => one.total_cmp(&other),
        _ => one.sized.fleet.gpus().cmp(&other.sized.fleet.gpus()),
    };
    let simple = || one.sized.fleet.roles().len().cmp(&other.sized.fleet.roles().len());
    let rate = || other.max_rate.total_cmp(&one.max_rate);
    let latency = || mean_ms(&one.sized).total_cmp(&mean_ms(&other.sized));
    match query.rank_by {
        RankBy::Cost => cost().then_with(simple).then_with(rate).then_with(latency),
        RankBy::Throughput => rate().then_with(simple).then_with(cost).then_with(latency),
        RankBy::Latency => latency().then_with(simple).then_with(cost).then_with(rate),
    }
}

fn mean_ms(sized: &Sized<'_>) -> f64 {
    sized.latencies.e2e_ms.map_or(f64::INFINITY, |e2e| e2e.mean)
}

/// What is the same engine but for its flags counts once, at its best.
fn distinct(scored: Vec<Scored<'_>>) -> Vec<Scored<'_>> {
    let mut seen = std::collections::HashSet::new();
    let mut distinct = Vec::new();
    for scored in scored {
        let key: Vec<_> = scored
            .sized
            .fleet
            .roles()
            .iter()
            .map(|(role, engines)| (*role, engines.candidate.share, engines.candidate.parallelism()))
            .collect();
        if seen.insert(key) {
            distinct.push(scored);
        }
    }
    distinct
}

/// What nothing beats in cost, mean latency and rate.
fn front(query: &Query<'_>, scored: &[Scored<'_>]) -> Vec<FrontPoint> {
    let priced = scored.iter().all(|scored| scored.usd_per_hour.is_some());
    let gpus = |scored: &Scored<'_>| f64::from(scored.sized.fleet.gpus());
    let costs: Vec<f64> =
        scored.iter().map(|scored| scored.usd_per_hour.filter(|_| priced).unwrap_or_else(|| gpus(scored))).collect();
    let times: Vec<f64> = scored.iter().map(|scored| mean_ms(&scored.sized)).collect();
    let rates: Vec<f64> = scored.iter().map(|scored| scored.max_rate).collect();
    let front = pareto_front_of(&[(&costs, Direction::Lower), (&times, Direction::Lower), (&rates, Direction::Higher)]);
    let mut rows = front.rows;
    rows.sort_by(|&one, &other| costs[one].total_cmp(&costs[other]).then(times[one].total_cmp(&times[other])));
    rows.into_iter()
        .map(|row| FrontPoint {
            configuration: fleet_name(query, &scored[row].sized.fleet),
            gpus: scored[row].sized.fleet.gpus(),
            usd_per_hour: scored[row].usd_per_hour,
            e2e_mean_ms: times[row],
            max_rate_within_slo: rates[row],
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
    let fleet = &scored.sized.fleet;
    let roles = fleet.roles();
    let choices = roles.iter().map(|(role, engines)| role_choice(query, role, *engines)).collect::<Result<Vec<_>>>()?;
    let predicted = estimate(&fleet.deployment(query)?, &query.traffic()?)?;
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
        margin: margins(query, &scored.sized.latencies, worse(&predicted)),
        meets: true,
        evidence: Evidence::Estimated,
        command: choices[0].command.clone(),
        roles: choices,
        predicted,
    })
}

/// The worse end of the 80 % intervals over the prediction.
fn worse(predicted: &Prediction) -> Worse {
    let ttft = predicted.ttft_ms.zip(predicted.interval_80.ttft_mean_ms);
    Worse {
        ttft: ttft.map_or(1.0, |(ttft, interval)| interval[1] / ttft.mean),
        tpot: predicted.interval_80.tpot_mean_ms[1] / predicted.tpot_ms.mean,
    }
}
