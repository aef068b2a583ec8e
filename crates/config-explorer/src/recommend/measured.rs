//! Measured runs, which outrank predictions where they surround the question.
//!
//! Runs are of one configuration where checkpoint, accelerator, roles, layouts, replicas and the KV cache's format are the
//! same. Between runs of one configuration the answer is interpolated, linearly in load, prompt and output length; beyond
//! them nothing is said.

use super::answer::{MeasuredRun, MeasuredUse};
use super::fleet::{Engines, Fleet};
use super::query::{Demand, Disaggregation, Query};
use super::space::Candidate;
use crate::Result;
use crate::memory::ParallelismSummary;
use crate::reports::{Kind, Role, Run, Statistics};
use crate::serving::{self, Prediction, estimate};
use crate::workload::{LengthDistribution, LoadKind, Quantity, Statistic};

/// Lengths and loads that differ by less are the same: what benchmarks send differs so much from what they were told.
const SAME: f64 = 0.02;
/// Runs whose loads or lengths are further apart than this factor say nothing of what lies between.
const APART_MAX: f64 = 4.0;
/// Half an 80 % interval of TTFT and TPOT, as a share: repeated measurements differ by 7.9 % and 1.8 % in the median
/// (docs/accuracy.md), which 1.34 times is for a normal spread.
const TTFT_SPREAD: f64 = 0.106;
const TPOT_SPREAD: f64 = 0.024;
/// An open load is kept up with where at least this share of it is served; a run's ends cost some.
const KEPT_UP: f64 = 0.9;

/// A fleet that was measured at the query's lengths and load.
pub(super) struct MeasuredFleet<'a> {
    pub(super) fleet: Fleet<'a>,
    pub(super) prediction: Prediction,
    pub(super) runs: Vec<MeasuredRun>,
}

/// A configuration as a run tells it: variant, share of the pool, 8-bit KV cache, and roles with layout and replicas.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    variant: usize,
    share: usize,
    fp8_kv_cache: Option<bool>,
    roles: Vec<(&'static str, ParallelismSummary, u32)>,
}

/// One operating point: output and input length, load.
#[derive(Debug, Clone)]
struct Point {
    at: [f64; 3],
    values: Values,
    runs: Vec<MeasuredRun>,
}

/// What was measured.
#[derive(Debug, Clone)]
struct Values {
    /// TTFT, TPOT, ITL, E2E, ms.
    latencies: [Statistics; 4],
    requests_per_s: f64,
}

/// The fleets of which runs answer the query, and what became of the others.
pub(super) fn measured<'a>(
    query: &Query<'_>,
    candidates: &'a [Candidate],
) -> Result<(Vec<MeasuredFleet<'a>>, MeasuredUse)> {
    let Some(measurements) = query.measured else { return Ok((Vec::new(), MeasuredUse::default())) };
    let mut told = MeasuredUse { runs: measurements.runs.len(), ..MeasuredUse::default() };
    let mut configurations: Vec<(Place, Vec<Point>)> = Vec::new();
    for run in measurements.runs {
        let Some((place, point)) = place(query, run).zip(point(query, run)) else { continue };
        told.matching += 1;
        match configurations.iter_mut().find(|(known, _)| *known == place) {
            Some((_, points)) => points.push(point),
            None => configurations.push((place, vec![point])),
        }
    }
    told.configurations = configurations.len();
    let load = match query.demand {
        Demand::Rate(rate) => rate,
        Demand::Users(users) => users,
    };
    let mut fleets: Vec<MeasuredFleet<'_>> = Vec::new();
    for (place, points) in configurations {
        let unwanted = match query.disaggregation {
            Disaggregation::Auto => None,
            Disaggregation::Never => Some(2),
            Disaggregation::Always => Some(1),
        };
        let fleet =
            fleet(&place, candidates).filter(|fleet| fleet.is_within(query) && unwanted != Some(fleet.roles().len()));
        let point = interpolated(&points, &[query.output_tokens, query.input_tokens, load]);
        let Some((fleet, point)) = fleet.zip(point) else {
            *(if fleet.is_none() { &mut told.outside_space } else { &mut told.not_surrounding }) += 1;
            continue;
        };
        let prediction = prediction(query, &fleet, &point)?;
        let tells_all = query.objectives.0.iter().all(|objective| point.values.of(query, objective.quantity).is_some());
        match prediction.filter(|_| tells_all) {
            Some(prediction) => fleets.push(MeasuredFleet { fleet, prediction, runs: point.runs }),
            None => told.without_objective += 1,
        }
    }
    told.used = fleets.len();
    Ok((fleets, told))
}

/// Names of a model are equal but for case and owner.
fn is_called(id: &str, name: &str) -> bool {
    let last = |text: &str| text.rsplit('/').next().unwrap_or_default().to_lowercase();
    if name.contains('/') && id.contains('/') { name.eq_ignore_ascii_case(id) } else { last(id) == last(name) }
}

fn place(query: &Query<'_>, run: &Run) -> Option<Place> {
    let server = &run.server;
    // Another precision than the checkpoint's own is another checkpoint.
    if run.kind != Kind::Measured || run.quarantine.is_some() || server.precision.is_some() {
        return None;
    }
    if server.engine.as_ref().is_some_and(|engine| !engine.eq_ignore_ascii_case("vllm")) {
        return None;
    }
    let model = server.model.as_ref()?;
    let variant = query.variants.iter().position(|variant| is_called(&variant.model.id, model))?;
    let accelerator = query.measured?.accelerators.find(server.gpu.as_ref()?).ok()?;
    let share = query.pool.iter().position(|share| share.accelerator.name == accelerator.name)?;
    let fp8_kv_cache = server.kv_cache_dtype.as_ref().map(|dtype| dtype.starts_with("fp8"));
    let roles = &server.roles;
    let roles = match (&roles.prefill, &roles.decode, &roles.both) {
        (Some(prefill), Some(decode), _) => vec![role("prefill", prefill, None)?, role("decode", decode, None)?],
        (None, Some(both), _) | (None, None, Some(both)) => vec![role("both", both, server.gpus)?],
        _ => return None,
    };
    Some(Place { variant, share, fp8_kv_cache, roles })
}

/// Layout and replicas of a role. What the source does not tell is 1; `gpus` tells how many replicas there are where the
/// source does not.
fn role(name: &'static str, role: &Role, gpus: Option<u64>) -> Option<(&'static str, ParallelismSummary, u32)> {
    let size = |size: Option<u64>| u32::try_from(size.unwrap_or(1)).ok().filter(|size| *size > 0);
    let (tp, pp, dp, ep) = (size(role.tp)?, size(role.pp)?, size(role.dp)?, size(role.ep)?);
    let engine = u64::from(tp) * u64::from(pp) * u64::from(dp);
    let replicas = role.replicas.or(gpus.map(|gpus| gpus / engine)).unwrap_or(1);
    Some((name, ParallelismSummary { tp, pp, dp, ep, dcp: 1 }, u32::try_from(replicas).ok().filter(|r| *r > 0)?))
}

/// The candidates of a configuration, the first of several that differ in what runs do not tell.
fn fleet<'a>(place: &Place, candidates: &'a [Candidate]) -> Option<Fleet<'a>> {
    let engines = |(_, parallelism, replicas): &(&str, ParallelismSummary, u32)| {
        let candidate = candidates.iter().find(|candidate| {
            candidate.variant == place.variant
                && candidate.share == place.share
                && ParallelismSummary::from(candidate.parallelism()) == *parallelism
                && place.fp8_kv_cache.is_none_or(|fp8| fp8 == candidate.engine.fp8_kv_cache)
        })?;
        Some(Engines { candidate, replicas: *replicas })
    };
    match place.roles.as_slice() {
        [both] => Some(Fleet::Aggregated(engines(both)?)),
        [prefill, decode] => Some(Fleet::Disaggregated { prefill: engines(prefill)?, decode: engines(decode)? }),
        _ => None,
    }
}

/// The operating point of a run whose load is of the query's kind.
fn point(query: &Query<'_>, run: &Run) -> Option<Point> {
    let load = &run.workload.load;
    let level = match query.demand {
        Demand::Rate(_) if load.kind == Some(LoadKind::Open) => load.rate_per_s?,
        Demand::Users(_) if load.kind == Some(LoadKind::Closed) => load.concurrency?,
        _ => return None,
    };
    let configured = |length: Option<LengthDistribution>| length.map(|length| length.mean);
    let input = run.input_length.mean().or(configured(run.workload.input))?;
    let output = run.output_length.mean().or(configured(run.workload.output))?;
    let latency = &run.latency;
    let values = Values {
        latencies: [&latency.ttft, &latency.tpot, &latency.itl, &latency.e2e].map(Clone::clone),
        requests_per_s: run
            .throughput
            .requests
            .or_else(|| Some(run.throughput.output_tokens? / output))
            .filter(|rate| *rate > 0.0)?,
    };
    let told = MeasuredRun { id: run.short_id(), file: run.source.path.clone() };
    Some(Point { at: [output, input, level], values, runs: vec![told] })
}

impl Values {
    /// What an objective limits.
    fn of(&self, query: &Query<'_>, quantity: Quantity) -> Option<f64> {
        let [ttft, tpot, itl, e2e] = &self.latencies;
        match quantity {
            Quantity::Ttft(statistic) => ttft.get(statistic),
            Quantity::Tpot(statistic) => tpot.get(statistic),
            Quantity::Itl(statistic) => itl.get(statistic),
            Quantity::E2e(statistic) => e2e.get(statistic),
            Quantity::Throughput => Some(self.requests_per_s * query.output_tokens),
            Quantity::Requests => Some(self.requests_per_s),
        }
    }

    /// `share` of the way to another; what only one of them knows is not known.
    fn towards(&self, other: &Self, share: f64) -> Self {
        let between = |one: f64, other: f64| one + share * (other - one);
        let latencies = std::array::from_fn(|metric| {
            let (one, other): (&Statistics, &Statistics) = (&self.latencies[metric], &other.latencies[metric]);
            one.iter()
                .filter_map(|(statistic, value)| Some((statistic, between(value, other.get(statistic)?))))
                .collect()
        });
        Self { latencies, requests_per_s: between(self.requests_per_s, other.requests_per_s) }
    }
}

impl Point {
    fn towards(&self, other: &Self, share: f64) -> Self {
        let at = std::array::from_fn(|axis| self.at[axis] + share * (other.at[axis] - self.at[axis]));
        let mut runs = [self.runs.as_slice(), other.runs.as_slice()].concat();
        runs.dedup();
        Self { at, values: self.values.towards(&other.values, share), runs }
    }
}

fn is_same(one: f64, other: f64) -> bool {
    (one - other).abs() <= SAME * one.abs().max(other.abs())
}

/// What was measured at a place, interpolated over the first of the axes that are left between points that are interpolated
/// over the others. `None` where they do not surround it.
fn interpolated(points: &[Point], target: &[f64]) -> Option<Point> {
    let Some((&wanted, rest)) = target.split_first() else {
        // Repeats of one point: their mean.
        let (first, others) = points.split_first()?;
        let mean = |(mean, count): (Point, f64), point: &Point| (mean.towards(point, 1.0 / (count + 1.0)), count + 1.0);
        return Some(others.iter().fold((first.clone(), 1.0), mean).0);
    };
    let axis = 3 - target.len();
    let mut sorted: Vec<&Point> = points.iter().collect();
    sorted.sort_by(|one, other| one.at[axis].total_cmp(&other.at[axis]));
    let groups = sorted.chunk_by(|one, other| is_same(one.at[axis], other.at[axis]));
    let known: Vec<Point> = groups
        .filter_map(|group| interpolated(&group.iter().map(|point| (*point).clone()).collect::<Vec<_>>(), rest))
        .collect();
    if let Some(exact) = known.iter().find(|point| is_same(point.at[axis], wanted)) {
        return Some(exact.clone());
    }
    let below = known.iter().rfind(|point| point.at[axis] < wanted)?;
    let above = known.iter().find(|point| point.at[axis] > wanted)?;
    let (low, high) = (below.at[axis], above.at[axis]);
    (high <= low * APART_MAX).then(|| below.towards(above, (wanted - low) / (high - low)))
}

/// The estimate with what was measured in its place. A statistic that was not measured is the estimate's, scaled as the
/// mean is. `None` where the means of TTFT and TPOT were not measured.
fn prediction(query: &Query<'_>, fleet: &Fleet<'_>, point: &Point) -> Result<Option<Prediction>> {
    let estimated = estimate(&fleet.deployment(query)?, &query.traffic()?)?;
    let [ttft, tpot, itl, e2e] = &point.values.latencies;
    let (Some(ttft_mean), Some(tpot_mean)) = (ttft.mean(), tpot.mean()) else { return Ok(None) };
    // Beyond saturation the estimate has no distribution to scale: all of it is the mean.
    let flat = |mean| serving::Statistics { mean, p50: mean, p90: mean, p95: mean, p99: mean };
    let ttft_ms = merged(ttft, &estimated.ttft_ms.unwrap_or(flat(ttft_mean)), ttft_mean);
    let tpot_ms = merged(tpot, &estimated.tpot_ms, tpot_mean);
    let e2e_mean = e2e.mean().unwrap_or(ttft_mean + (query.output_tokens - 1.0).max(0.0) * tpot_mean);
    let requests_per_s = point.values.requests_per_s;
    let output_tokens_per_s = requests_per_s * query.output_tokens;
    let count = point.runs.len();
    Ok(Some(Prediction {
        ttft_ms: Some(ttft_ms),
        tpot_ms,
        itl_ms: merged(itl, &estimated.itl_ms, itl.mean().unwrap_or(tpot_mean)),
        e2e_ms: Some(merged(e2e, &estimated.e2e_ms.unwrap_or(flat(e2e_mean)), e2e_mean)),
        throughput: serving::Throughput {
            requests_per_s,
            output_tokens_per_s,
            total_tokens_per_s: requests_per_s * (query.input_tokens + query.output_tokens),
            output_tokens_per_s_per_gpu: output_tokens_per_s / f64::from(fleet.gpus()),
        },
        saturated: matches!(query.demand, Demand::Rate(rate) if requests_per_s < KEPT_UP * rate),
        interval_80: serving::Intervals {
            ttft_mean_ms: Some([ttft_mean * (1.0 - TTFT_SPREAD), ttft_mean * (1.0 + TTFT_SPREAD)]),
            tpot_mean_ms: [tpot_mean * (1.0 - TPOT_SPREAD), tpot_mean * (1.0 + TPOT_SPREAD)],
            output_tokens_per_s: [output_tokens_per_s; 2],
        },
        interval_basis: format!("how far repeated measurements differ; {count} runs of this configuration"),
        warnings: Vec::new(),
        ..estimated
    }))
}

fn merged(measured: &Statistics, estimated: &serving::Statistics, mean: f64) -> serving::Statistics {
    let of = |statistic: Statistic, value: f64| measured.get(statistic).unwrap_or(value * mean / estimated.mean);
    serving::Statistics {
        mean,
        p50: of(Statistic::P50, estimated.p50),
        p90: of(Statistic::P90, estimated.p90),
        p95: of(Statistic::P95, estimated.p95),
        p99: of(Statistic::P99, estimated.p99),
    }
}
