//! A deployment as users describe it, simulated: pools of planned engines behind a router.

use super::changes::ReplicaTime;
use super::cluster::{
    Cluster, DataParallel, EngineGroup, EngineRole, FrontEnd, KvTransfer, Routing, SimulationOptions, simulate,
};
use super::outcome::Outcome;
use super::setup::{ModelledSteps, PlannedEngine};
use super::timeline::Interval;
use super::traffic::Traffic;
use crate::Result;
use crate::latency::StepTimes;
use crate::serving::Prediction;
use crate::workload::Arrivals;

/// What 80 % of the step times are within.
const STEP_ERROR: f64 = 0.1;
/// Share of the capacity from which a longer step may bring a deployment near its end.
const KNEE: f64 = 0.82;

/// Replicas of a planned engine.
#[derive(Debug, Clone)]
pub struct SimulatedPool {
    /// What they do.
    pub role: EngineRole,
    /// One data-parallel rank of each.
    pub engine: PlannedEngine,
    /// Times of its steps.
    pub step: StepTimes,
    /// How many.
    pub replicas: u32,
}

impl SimulatedPool {
    /// What its replicas are named after.
    pub(super) fn name(&self) -> &'static str {
        match self.role {
            EngineRole::Both => "engine",
            EngineRole::Prefill => "prefill",
            EngineRole::Decode => "decode",
        }
    }
}

/// Pools of engines, and how requests find them.
#[derive(Debug, Clone)]
pub struct SimulatedDeployment {
    /// The pools; prefill before decode.
    pub pools: Vec<SimulatedPool>,
    /// How an engine is chosen.
    pub routing: Routing,
    /// The way of KV caches from prefill to decode.
    pub transfer: Option<KvTransfer>,
}

/// How to simulate a deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct DeploymentOptions {
    /// Every step touches every request. The outcome is the same, only later.
    pub exact: bool,
    /// Every step takes this many times as long: 1, or what an interval is explored with.
    pub step_factor: f64,
    /// When replicas start that are not there from the beginning.
    pub starts: Vec<ReplicaTime>,
    /// When replicas fail, and for how long.
    pub failures: Vec<ReplicaTime>,
}

impl Default for DeploymentOptions {
    fn default() -> Self {
        Self { exact: false, step_factor: 1.0, starts: Vec::new(), failures: Vec::new() }
    }
}

impl SimulatedDeployment {
    /// What the clients see, their own time included.
    ///
    /// # Errors
    /// Those of [`simulate`], and for options that name no replica.
    #[expect(clippy::needless_pass_by_value, reason = "options are made where they are given")]
    pub fn simulate(&self, traffic: &Traffic, options: DeploymentOptions) -> Result<Outcome> {
        let groups = self.pools.iter().zip(self.lives(&options)?).map(|(pool, (starts_s, failures))| {
            let timer = ModelledSteps { step: &pool.step, factor: options.step_factor };
            EngineGroup {
                name: pool.name().to_owned(),
                starts_s,
                failures,
                role: pool.role,
                replicas: pool.replicas,
                data_parallel: DataParallel { ranks: pool.engine.ranks, lockstep: pool.engine.lockstep },
                ..EngineGroup::new(pool.engine.config.clone(), pool.engine.rules, timer)
            }
        });
        let cluster = Cluster { groups: groups.collect(), routing: self.routing.clone(), transfer: self.transfer };
        let simulation =
            SimulationOptions { front_end: FrontEnd::VLLM, exact: options.exact, ..SimulationOptions::default() };
        let mut outcome = simulate(cluster, traffic, &simulation)?;
        if let (Some(first), Some(last)) = (self.pools.first(), self.pools.last()) {
            // The timeline adds up all engines; streams are open where tokens are generated.
            let streams = outcome.mean_over_time(|interval| interval.running) / f64::from(last.replicas.max(1));
            outcome.finished.add_client_time(&first.step, if outcome.is_open { 0.0 } else { streams });
        }
        Ok(outcome)
    }

    /// Widens the interval of an open load near the `capacity_per_s` of the deployment, where a little more time for each
    /// step is much more time in the queue: to what steps do that take 10 % less or more (the reference, 7.4).
    ///
    /// # Errors
    /// Those of [`simulate`].
    pub fn widen(&self, prediction: &mut Prediction, traffic: &Traffic, capacity_per_s: f64) -> Result<()> {
        let Some(Arrivals::Open { rate_per_s, .. }) = traffic.workload.arrivals else { return Ok(()) };
        if !rate_per_s.is_finite() || rate_per_s < KNEE * capacity_per_s {
            return Ok(());
        }
        let ttft = |step_factor: f64| {
            let options = DeploymentOptions { step_factor, ..DeploymentOptions::default() };
            Ok(self.simulate(traffic, options)?.finished.ttft_ms().mean())
        };
        let (fast, slow) = rayon::join(|| ttft(1.0 - STEP_ERROR), || ttft(1.0 + STEP_ERROR));
        if let (Some([low, high]), Some(fast), Some(slow)) = (&mut prediction.interval_80.ttft_mean_ms, fast?, slow?) {
            *low = low.min(fast);
            *high = high.max(slow);
        }
        Ok(())
    }

    /// GPUs of all engines.
    pub fn gpus(&self) -> u32 {
        self.pools.iter().map(|pool| pool.replicas * pool.step.gpus).sum()
    }

    /// What is not simulated as it was asked for.
    pub fn warnings(&self) -> impl Iterator<Item = &String> {
        let router = match &self.routing {
            Routing::Router(config) => config.warnings.as_slice(),
            _ => &[],
        };
        self.pools.iter().flat_map(|pool| &pool.engine.warnings).chain(router)
    }
}

impl Outcome {
    /// The timeline in at most so many intervals, neighbours joined.
    pub fn coarse_timeline(&self, most: usize) -> Vec<Interval> {
        let joined = self.timeline.len().div_ceil(most.max(1)).max(1);
        let join = |part: &[Interval]| {
            let length_s: f64 = part.iter().map(|interval| interval.length_s).sum();
            let mean = |value: fn(&Interval) -> f64| Interval::mean(part, value);
            Interval {
                start_s: part.first().map_or(0.0, |interval| interval.start_s),
                length_s,
                running: mean(|interval| interval.running),
                waiting: mean(|interval| interval.waiting),
                kv_cache: mean(|interval| interval.kv_cache),
                output_tokens_per_s: mean(|interval| interval.output_tokens_per_s),
            }
        };
        self.timeline.chunks(joined).map(join).collect()
    }
}
