//! What `estimate` answers.

use std::fmt::Write;

use config_explorer::memory::ParallelismSummary;
use config_explorer::serving::{Bound, ExplainedStep, Load, Prediction, Statistics, StepKind, Traffic};
use schemars::JsonSchema;
use serde::Serialize;

use super::curves::CurveAnswer;
use crate::ExitStatus;
use crate::output::words::{self, grouped};
use crate::output::{Answer, Table};

/// The estimate of one load, or curves over many.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum EstimateAnswer {
    /// One load.
    One(Box<OneEstimate>),
    /// From a light load to saturation.
    Curves(CurveAnswer),
    /// There is nothing to estimate.
    DoesNotFit {
        /// Always false.
        fits: bool,
        /// Why, as `plan` says it.
        reason: String,
    },
}

/// The estimate of one load.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OneEstimate {
    /// Hugging Face id or path.
    pub(super) model: String,
    /// Accelerator.
    pub(super) accelerator: String,
    /// vLLM's version.
    pub(super) engine_version: String,
    /// Engines by what they do.
    pub(super) deployment: Vec<RoleLine>,
    /// What arrives.
    pub(super) traffic: TrafficLine,
    /// The estimate.
    #[serde(flatten)]
    pub(super) prediction: Prediction,
    /// The steps behind it, with `--explain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) steps: Option<Vec<ExplainedStep>>,
}

/// Engines of one kind.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct RoleLine {
    /// `both`, `prefill` or `decode`.
    pub(in crate::commands) role: &'static str,
    /// How many.
    pub(in crate::commands) replicas: u32,
    /// Layout of each.
    pub(in crate::commands) parallelism: ParallelismSummary,
    /// GPUs of all.
    pub(in crate::commands) gpus: u32,
}

/// What arrives.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TrafficLine {
    /// Mean tokens of a prompt.
    pub(in crate::commands) input_len: f64,
    /// Mean tokens of an output.
    pub(in crate::commands) output_len: f64,
    /// Clients of a closed loop.
    pub(in crate::commands) concurrency: Option<f64>,
    /// Arrivals of an open loop.
    pub(in crate::commands) rate_per_s: Option<f64>,
    /// Requests of the run, where its initial burst counts.
    pub(in crate::commands) requests: Option<f64>,
}

impl From<&Traffic> for TrafficLine {
    fn from(traffic: &Traffic) -> Self {
        let (concurrency, rate_per_s, requests) = match traffic.load {
            Load::Closed { clients, requests } => (Some(clients), None, requests),
            Load::Open { rate_per_s } => (None, Some(rate_per_s), None),
            Load::Burst { requests } => (None, None, Some(requests)),
        };
        let (input_len, output_len) = (traffic.input_tokens, traffic.output_tokens);
        Self { input_len, output_len, concurrency, rate_per_s, requests }
    }
}

impl Answer for EstimateAnswer {
    const COMMAND: &'static str = "estimate";

    fn table(&self) -> Table {
        match self {
            Self::One(one) => one.table(),
            Self::Curves(curves) => curves.table(),
            Self::DoesNotFit { reason, .. } => {
                let mut table = Table::new(["fits", "reason"]);
                table.push(["no".to_owned(), reason.clone()]);
                table
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Self::One(one) => one.text(),
            Self::Curves(curves) => curves.text(),
            Self::DoesNotFit { reason, .. } => {
                format!("It does not fit: {reason}.\n`config-explorer plan` with the same flags says what to change.\n")
            }
        }
    }

    fn status(&self) -> ExitStatus {
        match self {
            Self::One(_) => ExitStatus::Success,
            Self::Curves(curves) => ExitStatus::yes_if(curves.any()),
            Self::DoesNotFit { .. } => ExitStatus::No,
        }
    }
}

/// A time or rate to three significant digits or the unit.
pub(in crate::commands) fn number(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// What binds, in words.
pub(in crate::commands) fn bound(bound: Bound) -> &'static str {
    match bound {
        Bound::MemoryBandwidth => "memory bandwidth",
        Bound::Compute => "compute",
        Bound::Communication => "communication",
        Bound::Overhead => "launches and the host",
        Bound::KvCapacity => "the room for running requests (KV cache, max_num_seqs)",
        Bound::Arrivals => "arrivals",
    }
}

impl OneEstimate {
    fn table(&self) -> Table {
        let Prediction { ttft_ms, tpot_ms, itl_ms, e2e_ms, throughput, interval_80, .. } = &self.prediction;
        let mut table = Table::new(["metric", "mean", "p50", "p90", "p95", "p99", "mean_low_80", "mean_high_80"]);
        let mut line = |metric: &str, statistics: &[f64], interval: Option<[f64; 2]>| {
            let cell = |value: Option<f64>| value.map_or_else(String::new, number);
            let mut row = vec![metric.to_owned()];
            row.extend((0..5).map(|index| cell(statistics.get(index).copied())));
            row.extend((0..2).map(|index| cell(interval.map(|ends| ends[index]))));
            table.push_row(row);
        };
        let all = |statistics: Option<Statistics>| {
            statistics.map_or_else(Vec::new, |Statistics { mean, p50, p90, p95, p99 }| vec![mean, p50, p90, p95, p99])
        };
        line("ttft_ms", &all(*ttft_ms), interval_80.ttft_mean_ms);
        line("tpot_ms", &all(Some(*tpot_ms)), Some(interval_80.tpot_mean_ms));
        line("itl_ms", &all(Some(*itl_ms)), None);
        line("e2e_ms", &all(*e2e_ms), None);
        line("requests_per_s", &[throughput.requests_per_s], None);
        line("output_tokens_per_s", &[throughput.output_tokens_per_s], Some(interval_80.output_tokens_per_s));
        line("total_tokens_per_s", &[throughput.total_tokens_per_s], None);
        line("output_tokens_per_s_per_gpu", &[throughput.output_tokens_per_s_per_gpu], None);
        table
    }

    fn text(&self) -> String {
        let prediction = &self.prediction;
        let mut text = format!("{} on {} with vLLM {}\n", self.model, self.accelerator, self.engine_version);
        for role in &self.deployment {
            let kind = if role.role == "both" { String::new() } else { format!("{} ", role.role) };
            let engines = if role.replicas == 1 { "engine" } else { "engines" };
            let layout = words::layout(role.parallelism);
            let _ = writeln!(text, "{} {kind}{engines} of {layout}, {} GPUs", role.replicas, role.gpus);
        }
        let load = match (self.traffic.concurrency, self.traffic.rate_per_s) {
            (Some(clients), _) => format!("{} clients", grouped(clients as u64)),
            (_, Some(rate)) => format!("{rate} requests per second"),
            _ => "a burst".to_owned(),
        };
        let _ = writeln!(
            text,
            "{load}; prompts of {} tokens, outputs of {}\n\n{}",
            grouped(self.traffic.input_len as u64),
            grouped(self.traffic.output_len as u64),
            self.table().draw()
        );
        let used = &prediction.utilisation;
        let each = if self.deployment.iter().map(|role| role.replicas).sum::<u32>() > 1 { "Each engine" } else { "It" };
        let _ = writeln!(
            text,
            "{each} runs {} requests at a time, which fill {:.0} % of the KV cache; {:.0} % of prompt tokens are found in it.\n\
             Bound by {}.",
            number(used.batch_size_mean),
            100.0 * used.kv_cache,
            100.0 * used.prefix_hit_rate,
            bound(prediction.bound_by),
        );
        if prediction.saturated {
            text += "Saturated: more arrives than can be served, so that the queue and the time to first token grow for ever; \
                     the rates are the most there is.\n";
        }
        let _ = writeln!(text, "80 % intervals: {}.", prediction.interval_basis);
        for warning in &prediction.warnings {
            let _ = writeln!(text, "Note: {warning}");
        }
        for step in self.steps.iter().flatten() {
            text += &explained(step);
        }
        text
    }
}

/// One step, operator by operator.
fn explained(step: &ExplainedStep) -> String {
    let what = match step.step {
        StepKind::Decode => format!("A step that decodes {} requests", number(step.sequences)),
        StepKind::Prefill => format!("A step that computes {} tokens of a prompt", grouped(step.tokens as u64)),
    };
    let mut table = Table::new(["operator", "ms", "share_percent", "bound_by", "roofline_ms", "times_roofline"]);
    for operator in &step.operators {
        let (roofline, times) = if operator.roofline_ms > 0.0 {
            (format!("{:.3}", operator.roofline_ms), format!("{:.2}", operator.ms / operator.roofline_ms))
        } else {
            (String::new(), String::new())
        };
        table.push([
            operator.operator.replace('_', " "),
            format!("{:.3}", operator.ms),
            format!("{:.1}", 100.0 * operator.ms / step.ms),
            bound(operator.bound_by.into()).to_owned(),
            roofline,
            times,
        ]);
    }
    format!(
        "\n{what}, {} tokens of context each: {} ms on each GPU\n{}",
        grouped(step.context_tokens as u64),
        number(step.ms),
        table.draw()
    )
}
