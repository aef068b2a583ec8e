//! Finalists: what stands first by estimate is simulated, and placed again by what the simulation says.
//!
//! All are sent the same requests with the same gaps (common random numbers), so that they differ by the deployment alone.
//! A finalist that misses an objective in the simulation is tried again with an engine more; one engine less than the
//! estimate asks for is tried where the estimate misses narrowly. It ends when those that are returned are all simulated:
//! then whatever comes before them was simulated too, and missed.

use super::fleet::{Engines, Fleet, excess};
use super::query::{Demand, Query, RankBy};
use super::rank::{Basis, Scored, add_larger, layout_of, order};
use super::watch::{Stage, Watch};
use crate::serving::{Latencies, Prediction, estimate};
use crate::simulation::router::{LoadOptions, RouterConfig};
use crate::simulation::{
    CLIENT_THINK_S, DeploymentOptions, EngineRole, PlannedEngine, Routing, SimulatedDeployment, SimulatedPool, Traffic,
    kv_transfer, simulated,
};
use crate::{Error, Result};

/// Requests of a simulation: as many as `simulate` sends, or so many that they have this many tokens; ten of each user
/// where there are more.
const REQUESTS: u32 = 2_000;
const REQUESTS_MIN: u32 = 500;
const TOKENS: f64 = 2.6e6;
const OF_EACH_USER: [u32; 2] = [10, 3];
const REQUESTS_MANY: u32 = 20_000;
/// The share of them that tells what misses by far.
const SCREENED: u32 = 5;
/// Most simulations of a search, so that it ends within a second where the estimate is far from the simulation.
const SIMULATIONS_MAX: usize = 64;
/// An estimate that misses by less than this factor is worth a simulation: the error of most estimates of tails below
/// saturation (docs/accuracy.md).
const NARROWLY: f64 = 1.3;

/// Estimates that miss narrowly with one engine less, where that is cheaper: of engines at their own budget, from which
/// others differ little.
pub(super) fn narrow_misses<'a>(query: &Query<'_>, fleet: &Fleet<'a>) -> Vec<Fleet<'a>> {
    if query.rank_by != RankBy::Cost || fleet.has_other_budget() {
        return Vec::new();
    }
    fleet.resized(-1).into_iter().filter(|smaller| is_narrow_miss(query, smaller)).collect()
}

/// The estimate misses by little.
pub(super) fn is_narrow_miss(query: &Query<'_>, fleet: &Fleet<'_>) -> bool {
    let latencies = query.traffic().ok().and_then(|traffic| fleet.latencies(query, traffic.load));
    latencies.is_some_and(|latencies| !latencies.saturated && excess(query, &latencies) <= NARROWLY)
}

/// What every finalist is sent; how many requests at the start and the end do not count. A short run tells what misses by
/// far.
struct Load {
    short: Traffic,
    whole: Traffic,
    ends: u32,
}

impl Load {
    fn of(query: &Query<'_>) -> Result<Self> {
        let tokens = query.input_tokens + query.output_tokens;
        let usual = ((TOKENS / tokens) as u32).clamp(REQUESTS_MIN, REQUESTS);
        if let Some(workload) = query.workload {
            let first = |requests: u32| {
                let mut traffic = workload.clone();
                traffic.workload.requests = Some(workload.workload.requests.unwrap_or(requests).min(requests));
                traffic
            };
            return Ok(Self { short: first(usual / SCREENED), whole: first(usual), ends: 0 });
        }
        let (short, whole, ends) = match query.demand {
            Demand::Rate(_) => (usual / SCREENED, usual, 0),
            Demand::Users(users) => {
                let users = users.round() as u32;
                let [many, few] = OF_EACH_USER.map(|each| users.saturating_mul(each));
                (few.max(usual / SCREENED), many.min(REQUESTS_MANY).max(few).max(usual), users)
            }
        };
        let traffic = query.traffic()?;
        Ok(Self { short: Traffic::steady(&traffic, short, 0), whole: Traffic::steady(&traffic, whole, 0), ends })
    }
}

/// Simulates and orders until those that will be returned are all simulated. Returns how many were simulated.
pub(super) fn simulate_finalists<'a>(
    query: &Query<'a>,
    scored: &mut Vec<Scored<'a>>,
    watch: &Watch<'_>,
) -> Result<usize> {
    let load = Load::of(query)?;
    let mut count = 0;
    loop {
        scored.sort_by(|one, other| order(query, one, other));
        let open = open_places(query, scored);
        if open.is_empty() || count >= SIMULATIONS_MAX {
            return Ok(count);
        }
        let fleets: Vec<_> = open.iter().map(|&place| scored[place].fleet).collect();
        let judged = watch.map(Stage::Simulations, fleets, |fleet| simulate(query, &load, &fleet));
        for (&place, outcome) in open.iter().zip(judged) {
            // What was not simulated because the search was stopped stays an estimate.
            let Some(outcome) = outcome else { return Ok(count) };
            let judged = &mut scored[place];
            match outcome {
                Ok(prediction) => {
                    count += 1;
                    judged.judge(query, &prediction, Basis::Simulated(Box::new(prediction.clone())));
                }
                Err(error) => judged.basis = Basis::NotSimulated(error.to_string()),
            }
            let (fleet, misses) = (judged.fleet, !judged.meets);
            if misses {
                add_larger(query, scored, &fleet);
            }
        }
    }
}

/// Places of estimates that would be returned if they were right.
fn open_places(query: &Query<'_>, scored: &[Scored<'_>]) -> Vec<usize> {
    let mut open = Vec::new();
    let mut layouts = Vec::new();
    for (place, scored) in scored.iter().enumerate() {
        let is_open = matches!(scored.basis, Basis::Estimated);
        let layout = layout_of(&scored.fleet);
        if (!is_open && !scored.meets) || layouts.contains(&layout) {
            continue;
        }
        if is_open {
            open.push(place);
        }
        // A narrow miss may hold what it does not promise, and does not take a place.
        if scored.meets {
            layouts.push(layout);
        }
        if layouts.len() >= query.top {
            break;
        }
    }
    open
}

/// A fleet as it is simulated.
///
/// # Errors
/// [`Error::InvalidSetting`] for what cannot be simulated, such as pipeline stages.
pub(super) fn simulated_deployment(query: &Query<'_>, fleet: &Fleet<'_>) -> Result<SimulatedDeployment> {
    let pool = |role, Engines { candidate, replicas }: Engines<'_>| {
        let request = super::space::plan_request(query, candidate.variant, candidate.share, &candidate.serve)?;
        let engine = PlannedEngine::new(&request)?;
        Ok(SimulatedPool { role, engine, step: candidate.step.clone(), replicas })
    };
    Ok(match *fleet {
        Fleet::Aggregated(engines) => SimulatedDeployment {
            pools: vec![pool(EngineRole::Both, engines)?],
            routing: match engines.replicas {
                1 => Routing::LeastRequests,
                _ => {
                    Routing::Router(Box::new(RouterConfig::load("", &LoadOptions::default(), "the router's default")?))
                }
            },
            transfer: None,
        },
        Fleet::Disaggregated { prefill, decode } => SimulatedDeployment {
            pools: vec![pool(EngineRole::Prefill, prefill)?, pool(EngineRole::Decode, decode)?],
            routing: Routing::LeastRequests,
            transfer: Some(kv_transfer(&prefill.candidate.engine.role(prefill.replicas, query.calibration)?)),
        },
    })
}

fn simulate(query: &Query<'_>, load: &Load, fleet: &Fleet<'_>) -> Result<Prediction> {
    let deployment = simulated_deployment(query, fleet)?;
    let short = run(query, &deployment, fleet, &load.short, load.ends)?;
    if short.saturated || excess(query, &latencies_of(&short)) > NARROWLY {
        return Ok(short);
    }
    run(query, &deployment, fleet, &load.whole, load.ends)
}

fn run(
    query: &Query<'_>,
    deployment: &SimulatedDeployment,
    fleet: &Fleet<'_>,
    traffic: &Traffic,
    ends: u32,
) -> Result<Prediction> {
    let outcome = deployment.simulate(traffic, DeploymentOptions::default())?;
    let refused = outcome.rejected.total();
    if outcome.finished.is_empty() {
        let reason = "every request is longer than an engine takes".to_owned();
        return Err(Error::InvalidSetting { setting: "workload".to_owned(), reason });
    }
    let estimated = estimate(&fleet.deployment(query)?, &query.traffic()?)?;
    let gpus = f64::from(fleet.gpus());
    let outcome = match query.demand {
        _ if outcome.saturated || query.workload.is_some() => outcome,
        // What arrives is served; that the run ends does not make it less.
        Demand::Rate(rate) => outcome.settled(ends, |_| rate),
        Demand::Users(users) => outcome.settled(ends, |finished| {
            let mean_s = finished.e2e_ms().mean().unwrap_or(f64::INFINITY) / 1e3;
            users / (mean_s + CLIENT_THINK_S)
        }),
    };
    let mut prediction = simulated(estimated, &outcome, gpus, query.calibration);
    prediction.warnings.extend(deployment.warnings().cloned());
    if refused > 0 {
        prediction.warnings.push(format!("{refused} requests were refused, most as longer than an engine takes"));
    }
    if matches!(fleet, Fleet::Disaggregated { .. }) {
        prediction.warnings.push("simulated with each request at the engine that has the fewest".to_owned());
    }
    Ok(prediction)
}

/// Widens the interval of a simulated prediction near saturation, where it takes two more simulations.
pub(super) fn widen(query: &Query<'_>, fleet: &Fleet<'_>, prediction: &mut Prediction) -> Result<()> {
    let Some(most) = fleet.most_per_s(query) else { return Ok(()) };
    simulated_deployment(query, fleet)?.widen(prediction, &Load::of(query)?.whole, most)
}

/// What a search compares of a prediction.
pub(super) fn latencies_of(prediction: &Prediction) -> Latencies {
    let Prediction { ttft_ms, tpot_ms, itl_ms, e2e_ms, saturated, .. } = *prediction;
    Latencies { ttft_ms, tpot_ms, itl_ms, e2e_ms, requests_per_s: prediction.throughput.requests_per_s, saturated }
}
