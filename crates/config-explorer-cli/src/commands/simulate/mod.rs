//! `simulate MODEL --gpu G --input-len I --output-len O (--concurrency N | --rate R)`: what every request lives through.

mod answer;
mod load;
mod outputs;

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use config_explorer::Error;
use config_explorer::engine::ServeArgs;
use config_explorer::latency::{Calibration, StepTimes};
use config_explorer::memory::PlanRequest;
use config_explorer::reports::store;
use config_explorer::serving;
use config_explorer::simulation::router::{LoadOptions, RouterConfig};
use config_explorer::simulation::{
    DeploymentOptions, EngineRole, Outcome, PlannedEngine, ReplicaTime, Routing, SimulatedDeployment, SimulatedPool,
    Traffic, find_max_rate, kv_transfer, simulated,
};
use config_explorer::workload::Objectives;

use super::estimate::{Pool, PoolArgs, SizedDeployment};
use crate::ExitStatus;
use crate::arguments::model::ModelArgs;
use crate::arguments::target::TargetArgs;
use crate::output::{self, Format};
pub(crate) use answer::SimulateAnswer;
use answer::{MaxRateAnswer, OneSimulation, Target};
use load::{LoadArgs, ResolvedLoad};
use outputs::OutputArgs;

/// Arguments of `simulate`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("arrivals").required(true))]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    load: LoadArgs,

    #[command(flatten)]
    pools: PoolArgs,

    /// llm-d's router: a file with its `EndpointPickerConfig`, or `random`, `round-robin` or `least-requests`. By default
    /// the router's own default where engines do all of a request, else the engine with the least requests.
    #[arg(long, value_name = "EPP.yaml", help_heading = "Deployment")]
    router: Option<String>,

    /// Refuse what the simulation of the router leaves out, instead of a warning.
    #[arg(long, requires = "router", help_heading = "Deployment")]
    strict: bool,

    /// Objectives, joined by `;`: whether they are met, and how many requests meet them for themselves.
    #[arg(long, value_name = "OBJECTIVE;…")]
    slo: Option<Objectives>,

    /// Touch every request in every step; the result is the same, only later.
    #[arg(long)]
    exact: bool,

    #[command(flatten)]
    changes: ChangeArgs,

    #[command(flatten)]
    outputs: OutputArgs,

    /// Latency coefficients that `calibrate` wrote, instead of the built-in ones.
    #[arg(long, value_name = "FILE")]
    coefficients: Option<PathBuf>,

    #[command(flatten)]
    target: TargetArgs,
}

/// Replicas that start late or fail.
#[derive(Debug, Args)]
#[command(next_help_heading = "Deployment")]
struct ChangeArgs {
    /// A replica fails so many seconds after the start, and takes requests again after so many more, or never. Named as
    /// in the answer (engine-3, decode-0), or by its number. May be repeated.
    #[arg(long, value_name = "REPLICA@SECONDS[:SECONDS]", conflicts_with = "find_max_rate")]
    fail: Vec<ReplicaTime>,

    /// A replica takes requests only from then on. May be repeated.
    #[arg(long, value_name = "REPLICA@SECONDS", conflicts_with = "find_max_rate")]
    start: Vec<ReplicaTime>,
}

impl Arguments {
    fn options(&self) -> DeploymentOptions {
        DeploymentOptions {
            exact: self.exact,
            starts: self.changes.start.clone(),
            failures: self.changes.fail.clone(),
            ..DeploymentOptions::default()
        }
    }

    fn routing(&self, pools: usize, replicas: u32) -> anyhow::Result<(Routing, Option<String>)> {
        let strict = LoadOptions { strict: self.strict, ..LoadOptions::default() };
        let load = |text: &str, place: &str| RouterConfig::load(text, &strict, place).map(Box::new);
        Ok(match self.router.as_deref() {
            Some("random") => (Routing::Random, None),
            Some("round-robin") => (Routing::RoundRobin, None),
            Some("least-requests") => (Routing::LeastRequests, None),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.into(), source })?;
                (Routing::Router(load(&text, path)?), None)
            }
            None if pools == 1 && replicas == 1 => (Routing::LeastRequests, None),
            None if pools == 1 => (Routing::Router(load("", "the router's default")?), None),
            None => {
                let note =
                    "requests go to the engines with the least of them: `--router` gives the router's own choice";
                (Routing::LeastRequests, Some(note.to_owned()))
            }
        })
    }
}

/// A pool, planned; `Err` with the reason where it does not fit.
fn planned(
    pool: &Pool,
    request: &PlanRequest<'_>,
    engine: &serving::Engine,
    calibration: &Calibration,
    warnings: &mut Vec<String>,
) -> config_explorer::Result<SimulatedPool> {
    let plan = match PlannedEngine::new(request) {
        // The model's own length is only a default.
        Err(_) if pool.serve.max_model_len.is_none() => {
            let mut shorter = request.clone();
            shorter.settings.max_model_len = None;
            let plan = PlannedEngine::new(&shorter)?;
            let len = plan.config.max_model_len;
            warnings.push(format!("vLLM starts only with a shorter limit: simulated with --max-model-len {len}"));
            plan
        }
        plan => plan?,
    };
    Ok(SimulatedPool {
        role: match pool.role {
            "prefill" => EngineRole::Prefill,
            "decode" => EngineRole::Decode,
            _ => EngineRole::Both,
        },
        engine: plan,
        step: StepTimes::compile(&engine.configuration(calibration)),
        replicas: pool.replicas,
    })
}

/// Simulates what was asked for.
pub(crate) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let target = &arguments.target;
    arguments.outputs.check()?;
    let load = arguments.load.resolve()?;
    let accelerators = target.hardware.accelerators()?;
    let accelerator = accelerators.find(&target.gpu)?;
    let rules = target.rules()?;
    let read = arguments.coefficients.as_ref().map(|path| Calibration::read(path)).transpose()?;
    let calibration = read.as_ref().unwrap_or_else(|| Calibration::built_in());
    let model = arguments.model.load()?;
    let pools = arguments.pools.resolve(&target.settings.0);
    let request = |serve: &ServeArgs| target.request(serve, &model, &accelerators, &rules);
    let sized = SizedDeployment::new(&pools, &load.steady, calibration, request)?;
    if let Some(reason) = sized.refusal() {
        return output::print(&SimulateAnswer::DoesNotFit { fits: false, reason }, format);
    }

    let mut warnings = Vec::new();
    let mut simulated_pools = Vec::new();
    for (pool, (engine, _)) in pools.iter().zip(&sized.engines) {
        match planned(pool, &request(&pool.serve)?, engine, calibration, &mut warnings) {
            Ok(pool) => simulated_pools.push(pool),
            Err(Error::InvalidSetting { setting, reason }) if setting == "memory" => {
                return output::print(&SimulateAnswer::DoesNotFit { fits: false, reason }, format);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let (routing, note) = arguments.routing(pools.len(), simulated_pools.iter().map(|pool| pool.replicas).sum())?;
    warnings.extend(note);
    let transfer = match (&sized.engines[..], pools.len()) {
        ([(prefill, prefills), _], 2) => Some(kv_transfer(&prefill.role(*prefills, calibration)?)),
        _ => None,
    };
    let deployment = SimulatedDeployment { pools: simulated_pools, routing, transfer };
    warnings.extend(deployment.warnings().cloned());
    let target_line = Target {
        model: model.id.clone(),
        accelerator: accelerator.name.clone(),
        engine_version: rules.version.to_string(),
        deployment: sized.roles.clone(),
    };
    let case = Case { arguments, load: &load, sized: &sized, deployment: &deployment, calibration };

    if arguments.load.find_max_rate {
        let objectives = arguments.slo.clone().unwrap_or_default();
        let found = find_max_rate(&objectives, case.capacity()?, |rate_per_s, requests| {
            case.simulate(&load.traffic_at(rate_per_s, requests))
        })?;
        let predicted = match &found.outcome {
            Some(outcome) => {
                let traffic = load.traffic_at(found.rate_per_s, found.requests);
                Some(case.answer(target_line.clone(), &traffic, outcome, warnings)?)
            }
            None => None,
        };
        let gpus = f64::from(deployment.gpus());
        let answer = MaxRateAnswer::new(target_line, &objectives, &found, gpus, predicted);
        return output::print(&SimulateAnswer::MaxRate(Box::new(answer)), format);
    }

    let (mut first, mut runs) = (None, Vec::new());
    for seed in arguments.load.seeds()? {
        let traffic = Traffic { seed, ..load.traffic.clone() };
        let outcome = case.simulate(&traffic)?;
        if outcome.finished.is_empty() {
            let (sent, failed) = (load::sent(&outcome), outcome.failed);
            let (long, unavailable) = (outcome.rejected.too_long, outcome.rejected.unavailable);
            anyhow::bail!(
                "no request was answered: of {sent}, {long} were refused as longer than the engine takes, {unavailable} found no \
                 engine, and {failed} were lost with theirs"
            );
        }
        runs.push(outputs::run(&case, &target_line, &traffic, &outcome));
        first.get_or_insert((traffic, outcome));
    }
    if let Some(path) = &arguments.load.shard_out {
        store::write(path, &runs)?;
    }
    // The seeds of a part are one at least.
    let Some((traffic, outcome)) = first else { return Ok(ExitStatus::Success) };
    let answer = case.answer(target_line, &traffic, &outcome, warnings)?;
    arguments.outputs.write(&case, &answer, &traffic, &outcome)?;
    output::print(&SimulateAnswer::One(Box::new(answer)), format)
}

/// A deployment and what is known of it.
struct Case<'a> {
    arguments: &'a Arguments,
    load: &'a ResolvedLoad,
    sized: &'a SizedDeployment<'a>,
    deployment: &'a SimulatedDeployment,
    calibration: &'a Calibration,
}

impl Case<'_> {
    fn simulate(&self, traffic: &Traffic) -> config_explorer::Result<Outcome> {
        self.deployment.simulate(traffic, self.arguments.options())
    }

    /// The most that the steady state serves, requests per second.
    fn capacity(&self) -> anyhow::Result<f64> {
        // No deployment serves this, so that the answer is the most there is.
        const BEYOND: f64 = 1e8;
        let load = serving::Load::Open { rate_per_s: BEYOND };
        let traffic = serving::Traffic { load, ..self.load.steady };
        Ok(serving::estimate(&self.sized.deployment()?, &traffic)?.throughput.requests_per_s)
    }

    fn answer(
        &self,
        target: Target,
        traffic: &Traffic,
        outcome: &Outcome,
        warnings: Vec<String>,
    ) -> anyhow::Result<OneSimulation> {
        let steady_traffic = self.load.steady_of(traffic, outcome.finished.prefix_hit_rate());
        let estimate = serving::estimate(&self.sized.deployment()?, &steady_traffic)?;
        let gpus = f64::from(self.deployment.gpus());
        let mut prediction = simulated(estimate, outcome, gpus, self.calibration);
        let options = self.arguments.options();
        if options.starts.is_empty() && options.failures.is_empty() {
            self.deployment.widen(&mut prediction, traffic, self.capacity()?)?;
        }
        let phases = self.deployment.phases(&options, outcome)?;
        prediction.warnings.extend(warnings);
        prediction.warnings.extend(self.load.notes.iter().cloned());
        let objectives = self.arguments.slo.as_ref().or(self.load.objectives());
        Ok(OneSimulation::new(target, &steady_traffic, prediction, outcome, objectives, &phases))
    }
}
