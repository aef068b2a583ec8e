//! What `simulate` answers.

use std::fmt::Write;

use config_explorer::serving::{self, Load, Prediction, Statistics};
use config_explorer::simulation::{Interval, MaxRate, Outcome, Phase, printed_statistics};
use config_explorer::workload::Objectives;
use schemars::JsonSchema;
use serde::Serialize;

use super::load::sent;
use crate::ExitStatus;
use crate::commands::estimate::{RoleLine, TrafficLine, bound, number};
use crate::output::words::{self, grouped};
use crate::output::{Answer, Table};

/// One load, or the highest rate.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum SimulateAnswer {
    /// One load.
    One(Box<OneSimulation>),
    /// The highest rate that meets objectives.
    MaxRate(Box<MaxRateAnswer>),
    /// There is nothing to simulate.
    DoesNotFit {
        /// Always false.
        fits: bool,
        /// Why, as `plan` says it.
        reason: String,
    },
}

/// What is simulated.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Target {
    /// Hugging Face id or path.
    pub(super) model: String,
    /// Accelerator.
    pub(super) accelerator: String,
    /// vLLM's version.
    pub(super) engine_version: String,
    /// Engines by what they do.
    pub(super) deployment: Vec<RoleLine>,
}

/// The simulation of one load.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OneSimulation {
    #[serde(flatten)]
    pub(super) target: Target,
    /// Always `simulated`: nobody measured it.
    kind: &'static str,
    /// What arrives.
    traffic: TrafficLine,
    /// What the clients see, and how the engines are used.
    #[serde(flatten)]
    prediction: Prediction,
    /// From sending to the first admission by a scheduler.
    queueing_ms: Option<Statistics>,
    /// What became of the requests.
    pub(super) requests: Requests,
    /// From the start to the last token.
    duration_s: f64,
    /// Steps of all engines.
    steps: u64,
    /// Objectives of `--slo`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    objectives: Vec<ObjectiveLine>,
    /// Requests that meet every objective for themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    goodput: Option<GoodputLine>,
    /// Each engine, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    engines: Vec<EngineLine>,
    /// What the clients see from one start, failure or recovery of a replica to the next.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    phases: Vec<PhaseLine>,
    /// All engines over time.
    timeline: Vec<IntervalLine>,
}

/// What became of the requests.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub(crate) struct Requests {
    /// Sent.
    pub(super) sent: u32,
    /// Answered.
    finished: u32,
    /// Refused: too long, shed by the router, or no engine was there.
    rejected: u32,
    /// Lost with their engine.
    failed: u32,
}

/// A part of the run, from a change of its engines to the next one.
#[derive(Debug, Serialize, JsonSchema)]
struct PhaseLine {
    /// Its start.
    start_s: f64,
    /// What happens then.
    change: String,
    /// Requests sent in it that were answered.
    requests: usize,
    /// Their time to first token.
    ttft_ms: Option<Statistics>,
    /// Their time from sending to the last token.
    e2e_ms: Option<Statistics>,
}

/// One objective.
#[derive(Debug, Serialize, JsonSchema)]
struct ObjectiveLine {
    /// As `--slo` spells it.
    objective: String,
    /// What was found, ms or per second.
    value: Option<f64>,
    /// Whether it is met.
    met: bool,
}

/// Requests that meet every objective for themselves.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
struct GoodputLine {
    /// Per second.
    requests_per_s: f64,
    /// Part of those sent, 0 to 1.
    share: f64,
}

/// One engine.
#[derive(Debug, Serialize, JsonSchema)]
struct EngineLine {
    /// Its pod.
    name: String,
    /// Requests that it answered.
    answered: u32,
    /// Requests that it ran at a time.
    batch_size_mean: f64,
    /// Share of its KV cache in use.
    kv_cache: f64,
}

/// An interval of time.
#[derive(Debug, Serialize, JsonSchema)]
struct IntervalLine {
    /// Its start.
    start_s: f64,
    /// Requests that run.
    running: f64,
    /// Requests that wait.
    waiting: f64,
    /// Share of the KV cache in use.
    kv_cache: f64,
    /// Output tokens.
    output_tokens_per_s: f64,
}

/// The highest rate that meets objectives.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct MaxRateAnswer {
    #[serde(flatten)]
    target: Target,
    /// Always `simulated`: nobody measured it.
    kind: &'static str,
    /// The objectives.
    slo: String,
    /// The highest rate found to meet them; 0 if none does.
    max_rate_per_s: f64,
    /// The same for each GPU.
    max_rate_per_s_per_gpu: f64,
    /// The lowest rate found not to meet them; `null` if all do.
    beyond_per_s: Option<f64>,
    /// What is not met there.
    binds: Vec<String>,
    /// Simulations that were needed.
    simulations: u32,
    /// Requests of the longest one.
    requests: u32,
    /// What was found at the highest rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    predicted: Option<OneSimulation>,
}

/// Intervals of the timeline that are printed.
const INTERVALS: usize = 100;
const KIND: &str = "simulated";

impl OneSimulation {
    pub(super) fn new(
        target: Target,
        traffic: &serving::Traffic,
        prediction: Prediction,
        outcome: &Outcome,
        objectives: Option<&Objectives>,
        phases: &[Phase],
    ) -> Self {
        let (concurrency, rate_per_s) = match traffic.load {
            Load::Closed { clients, .. } => (Some(clients), None),
            Load::Open { rate_per_s } => (None, Some(rate_per_s)),
            Load::Burst { .. } => (None, None),
        };
        let sent = sent(outcome);
        let interval = |interval: Interval| IntervalLine {
            start_s: interval.start_s,
            running: interval.running,
            waiting: interval.waiting,
            kv_cache: interval.kv_cache,
            output_tokens_per_s: interval.output_tokens_per_s,
        };
        let objective_lines = objectives.into_iter().flat_map(|objectives| &objectives.0).map(|objective| {
            let value = outcome.quantity(objective.quantity);
            ObjectiveLine { objective: objective.to_string(), value, met: objective.is_met_by(value) }
        });
        let goodput = objectives.map(|objectives| {
            let goodput = outcome.goodput(objectives, sent);
            GoodputLine { requests_per_s: goodput.requests_per_s, share: goodput.share }
        });
        let engine = |engine: &config_explorer::simulation::EngineOutcome| EngineLine {
            name: engine.name.clone(),
            answered: engine.answered,
            batch_size_mean: Interval::mean(&engine.timeline, |interval| interval.running),
            kv_cache: Interval::mean(&engine.timeline, |interval| interval.kv_cache),
        };
        let phase = |phase: &Phase| PhaseLine {
            start_s: phase.start_s,
            change: phase.change.clone(),
            requests: phase.requests,
            ttft_ms: printed_statistics(&phase.ttft_ms),
            e2e_ms: printed_statistics(&phase.e2e_ms),
        };
        Self {
            target,
            kind: KIND,
            traffic: TrafficLine {
                input_len: traffic.input_tokens,
                output_len: traffic.output_tokens,
                concurrency,
                rate_per_s,
                requests: Some(f64::from(sent)),
            },
            prediction,
            queueing_ms: printed_statistics(&outcome.finished.queueing_ms()),
            requests: Requests {
                sent,
                finished: outcome.finished.len() as u32,
                rejected: outcome.rejected.total(),
                failed: outcome.failed,
            },
            duration_s: outcome.duration_s,
            steps: outcome.steps,
            objectives: objective_lines.collect(),
            goodput,
            engines: if outcome.engines.len() > 1 { outcome.engines.iter().map(engine).collect() } else { Vec::new() },
            phases: phases.iter().map(phase).collect(),
            timeline: outcome.coarse_timeline(INTERVALS).into_iter().map(interval).collect(),
        }
    }

    fn met(&self) -> bool {
        self.objectives.iter().all(|objective| objective.met)
    }

    fn table(&self) -> Table {
        let Prediction { ttft_ms, tpot_ms, itl_ms, e2e_ms, throughput, interval_80, .. } = &self.prediction;
        let mut table = Table::new(["metric", "mean", "p50", "p90", "p95", "p99", "mean_low_80", "mean_high_80"]);
        let mut line = |metric: &str, statistics: Vec<f64>, interval: Option<[f64; 2]>| {
            let cell = |value: Option<f64>| value.map_or_else(String::new, number);
            let mut row = vec![metric.to_owned()];
            row.extend((0..5).map(|index| cell(statistics.get(index).copied())));
            row.extend((0..2).map(|index| cell(interval.map(|ends| ends[index]))));
            table.push_row(row);
        };
        let all = |statistics: Option<Statistics>| {
            statistics.map_or_else(Vec::new, |Statistics { mean, p50, p90, p95, p99 }| vec![mean, p50, p90, p95, p99])
        };
        line("ttft_ms", all(*ttft_ms), interval_80.ttft_mean_ms);
        line("tpot_ms", all(Some(*tpot_ms)), Some(interval_80.tpot_mean_ms));
        line("itl_ms", all(Some(*itl_ms)), None);
        line("e2e_ms", all(*e2e_ms), None);
        line("queueing_ms", all(self.queueing_ms), None);
        line("requests_per_s", vec![throughput.requests_per_s], None);
        line("output_tokens_per_s", vec![throughput.output_tokens_per_s], Some(interval_80.output_tokens_per_s));
        line("total_tokens_per_s", vec![throughput.total_tokens_per_s], None);
        line("output_tokens_per_s_per_gpu", vec![throughput.output_tokens_per_s_per_gpu], None);
        table
    }

    fn phase_table(&self) -> Table {
        let columns = ["from_s", "change", "requests", "ttft_p50_ms", "ttft_p99_ms", "e2e_p50_ms", "e2e_p99_ms"];
        let mut table = Table::new(columns);
        for phase in &self.phases {
            let cells = |statistics: Option<Statistics>| {
                statistics.map_or_else(Default::default, |Statistics { p50, p99, .. }| [number(p50), number(p99)])
            };
            let ([ttft_p50, ttft_p99], [e2e_p50, e2e_p99]) = (cells(phase.ttft_ms), cells(phase.e2e_ms));
            let (change, requests) = (phase.change.clone(), phase.requests.to_string());
            table.push([number(phase.start_s), change, requests, ttft_p50, ttft_p99, e2e_p50, e2e_p99]);
        }
        table
    }

    fn text(&self) -> String {
        let prediction = &self.prediction;
        let mut text = self.target.text();
        let load = match (self.traffic.concurrency, self.traffic.rate_per_s) {
            (Some(clients), _) => format!("{} clients", grouped(clients as u64)),
            (_, Some(rate)) => format!("{} requests per second", number(rate)),
            (None, None) => "a burst".to_owned(),
        };
        let _ = writeln!(
            text,
            "Simulated: {} requests over {} s from {load}; prompts of {} tokens, outputs of {}\n\n{}",
            grouped(self.requests.sent.into()),
            number(self.duration_s),
            grouped(self.traffic.input_len as u64),
            grouped(self.traffic.output_len as u64),
            self.table().draw()
        );
        let used = &prediction.utilisation;
        let engines = self.target.deployment.iter().map(|role| role.replicas).sum::<u32>();
        let _ = writeln!(
            text,
            "{} {} requests at a time, which fill {:.0} % of the KV cache; {:.0} % of prompt tokens are found in it; {} \
             preemptions per second.\nBound by {}.",
            if engines > 1 { "All engines run" } else { "It runs" },
            number(used.batch_size_mean),
            100.0 * used.kv_cache,
            100.0 * used.prefix_hit_rate,
            number(used.preemptions),
            bound(prediction.bound_by),
        );
        if prediction.saturated {
            text += "Saturated: more arrives than can be served, so that the queue and the time to first token grow as long \
                     as the load lasts.\n";
        }
        if self.requests.rejected > 0 {
            let _ = writeln!(text, "{} requests were refused.", grouped(self.requests.rejected.into()));
        }
        if self.requests.failed > 0 {
            let _ = writeln!(text, "{} requests were lost with their engine.", grouped(self.requests.failed.into()));
        }
        for ObjectiveLine { objective, value, met } in &self.objectives {
            let value = value.map_or_else(|| "nothing".to_owned(), number);
            let _ = writeln!(text, "{objective}: {}, it is {value}.", if *met { "met" } else { "missed" });
        }
        if let Some(goodput) = self.goodput {
            let _ = writeln!(
                text,
                "{:.1} % of the requests meet this for themselves: {} per second.",
                100.0 * goodput.share,
                number(goodput.requests_per_s)
            );
        }
        if !self.engines.is_empty() {
            let mut table = Table::new(["engine", "answered", "batch_size_mean", "kv_cache_percent"]);
            for engine in &self.engines {
                table.push([
                    engine.name.clone(),
                    engine.answered.to_string(),
                    number(engine.batch_size_mean),
                    format!("{:.0}", 100.0 * engine.kv_cache),
                ]);
            }
            let _ = writeln!(text, "\n{}", table.draw());
        }
        if !self.phases.is_empty() {
            let gap = if self.engines.is_empty() { "\n" } else { "" };
            let _ = writeln!(text, "{gap}{}", self.phase_table().draw());
        }
        let _ = writeln!(text, "80 % intervals: {}.", prediction.interval_basis);
        for warning in &prediction.warnings {
            let _ = writeln!(text, "Note: {warning}");
        }
        text
    }
}

impl Target {
    fn text(&self) -> String {
        let mut text = format!("{} on {} with vLLM {}\n", self.model, self.accelerator, self.engine_version);
        for role in &self.deployment {
            let kind = if role.role == "both" { String::new() } else { format!("{} ", role.role) };
            let engines = if role.replicas == 1 { "engine" } else { "engines" };
            let layout = words::layout(role.parallelism);
            let _ = writeln!(text, "{} {kind}{engines} of {layout}, {} GPUs", role.replicas, role.gpus);
        }
        text
    }
}

impl MaxRateAnswer {
    pub(super) fn new(
        target: Target,
        objectives: &Objectives,
        found: &MaxRate,
        gpus: f64,
        predicted: Option<OneSimulation>,
    ) -> Self {
        Self {
            target,
            kind: KIND,
            slo: objectives.to_string(),
            max_rate_per_s: found.rate_per_s,
            max_rate_per_s_per_gpu: found.rate_per_s / gpus,
            beyond_per_s: Some(found.beyond_per_s).filter(|rate| rate.is_finite()),
            binds: found.binds.clone(),
            simulations: found.simulations,
            requests: found.requests,
            predicted,
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new(["max_rate_per_s", "max_rate_per_s_per_gpu", "beyond_per_s", "binds"]);
        table.push([
            number(self.max_rate_per_s),
            number(self.max_rate_per_s_per_gpu),
            self.beyond_per_s.map_or_else(String::new, number),
            self.binds.join("; "),
        ]);
        table
    }

    fn text(&self) -> String {
        let mut text = self.target.text();
        if self.max_rate_per_s > 0.0 {
            let _ = writeln!(
                text,
                "The highest rate that meets {}: {} requests per second ({} for each GPU).",
                self.slo,
                number(self.max_rate_per_s),
                number(self.max_rate_per_s_per_gpu)
            );
        } else {
            let _ = writeln!(text, "No rate meets {}, not even requests alone: {}.", self.slo, self.binds.join("; "));
        }
        if let Some(beyond) = self.beyond_per_s.filter(|_| self.max_rate_per_s > 0.0) {
            let _ = writeln!(text, "At {} it does not: {}.", number(beyond), self.binds.join("; "));
        }
        let _ = writeln!(
            text,
            "Found with {} simulations of up to {} requests; met or missed with 95 % confidence where these tell.",
            self.simulations,
            grouped(self.requests.into())
        );
        if let Some(predicted) = &self.predicted {
            text += "\nAt the highest rate:\n";
            text += &predicted.table().draw();
        }
        text
    }
}

impl Answer for SimulateAnswer {
    const COMMAND: &'static str = "simulate";

    fn table(&self) -> Table {
        match self {
            Self::One(one) => one.table(),
            Self::MaxRate(rate) => rate.table(),
            Self::DoesNotFit { reason, .. } => words::does_not_fit_table(reason),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::One(one) => one.text(),
            Self::MaxRate(rate) => rate.text(),
            Self::DoesNotFit { reason, .. } => words::does_not_fit(reason),
        }
    }

    fn status(&self) -> ExitStatus {
        match self {
            Self::One(one) => ExitStatus::yes_if(one.met()),
            Self::MaxRate(rate) => ExitStatus::yes_if(rate.max_rate_per_s > 0.0),
            Self::DoesNotFit { .. } => ExitStatus::No,
        }
    }
}
