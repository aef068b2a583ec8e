//! What `estimate` answers.

use std::fmt::Write;

use config_explorer::latency::BoundBy;
use config_explorer::memory::ParallelismSummary;
use config_explorer::serving::{
    Bound, ExplainedStep, Load, OperatorBreakdown, Prediction, Statistics, StepKind, Traffic,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::curves::CurveAnswer;
use crate::ExitStatus;
use crate::output::words::{self, count, grouped};
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
    /// Tables of measured kernels behind it, with `--kernel-tables`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kernel_tables: Option<Vec<String>>,
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
            Self::DoesNotFit { reason, .. } => words::does_not_fit_table(reason),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::One(one) => one.text(),
            Self::Curves(curves) => curves.text(),
            Self::DoesNotFit { reason, .. } => words::does_not_fit(reason),
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

/// What binds an operator, in words.
fn bound_by(bound_by: BoundBy) -> &'static str {
    match bound_by {
        BoundBy::MemoryBandwidth => "memory bandwidth",
        BoundBy::Compute => "compute",
        BoundBy::Communication => "communication",
        BoundBy::Overhead => "launches and the host",
    }
}

/// What binds a deployment, in words.
pub(in crate::commands) fn bound(bound: Bound) -> &'static str {
    match bound {
        Bound::MemoryBandwidth => "memory bandwidth",
        Bound::Compute => "compute",
        Bound::Communication => "communication",
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
            let engines = count(role.replicas.into(), &format!("{kind}engine"));
            let layout = words::layout(role.parallelism);
            let _ = writeln!(text, "{engines} of {layout}, {}", count(role.gpus.into(), "GPU"));
        }
        let load = match (self.traffic.concurrency, self.traffic.rate_per_s) {
            (Some(clients), _) => count(clients as u64, "client"),
            (_, Some(1.0)) => "1 request per second".to_owned(),
            // What was asked for, or the mean of a file.
            (_, Some(rate)) => format!("{} requests per second", (rate * 1e3).round() / 1e3),
            _ => "a burst".to_owned(),
        };
        let _ = writeln!(
            text,
            "{load}; prompts of {}, outputs of {}\n\n{}",
            count(self.traffic.input_len as u64, "token"),
            grouped(self.traffic.output_len as u64),
            self.table().draw()
        );
        let used = &prediction.utilisation;
        let each = match self.deployment.as_slice() {
            [_, decode] if decode.replicas == 1 => "The decode engine",
            [_, _] => "Each decode engine",
            [both] if both.replicas > 1 => "Each engine",
            _ => "It",
        };
        let _ = writeln!(
            text,
            "{each} runs {} requests at a time, which fill {:.0} % of the KV cache; {:.0} % of prompt tokens are found in it.",
            number(used.batch_size_mean),
            100.0 * used.kv_cache,
            100.0 * used.prefix_hit_rate,
        );
        if let Some(busy) = used.prefill {
            let _ = writeln!(text, "Prefill engines are busy {:.0} % of the time.", 100.0 * busy);
        }
        let _ = writeln!(text, "Bound by {}.", bound(prediction.bound_by));
        if prediction.saturated {
            let _ = writeln!(
                text,
                "Saturated: it holds {} requests per second, and more arrive, so that the queue and the time to first token \
                 grow for ever. Rates and times per token are those of the most it serves.",
                number(prediction.throughput.requests_per_s)
            );
        }
        let _ = writeln!(text, "80 % intervals: {}.", prediction.interval_basis);
        if let Some(tables) = &self.kernel_tables {
            text += &measured(&prediction.breakdown, tables);
        }
        for warning in &prediction.warnings {
            let _ = writeln!(text, "Note: {warning}");
        }
        for step in self.steps.iter().flatten() {
            text += &explained(step);
        }
        text
    }
}

/// Which operators were measured.
fn measured(operators: &[OperatorBreakdown], tables: &[String]) -> String {
    let share = |operator: &OperatorBreakdown| operator.measured.map(|share| share * operator.ms);
    let names: Vec<String> = operators
        .iter()
        .filter_map(|operator| {
            let name = operator.operator.replace('_', " ");
            Some(match operator.measured? {
                0.995.. => name,
                share => format!("{name} ({:.0} %)", 100.0 * share),
            })
        })
        .collect();
    if names.is_empty() {
        return "No operator was measured by the kernel tables.\n".to_owned();
    }
    let measured_ms: f64 = operators.iter().filter_map(share).sum();
    let all_ms: f64 = operators.iter().map(|operator| operator.ms).sum();
    format!(
        "Measured kernels take {:.0} % of a step: {}. Tables: {}.\n",
        100.0 * measured_ms / all_ms,
        names.join(", "),
        tables.join(", ")
    )
}

/// One step, operator by operator.
fn explained(step: &ExplainedStep) -> String {
    let what = match step.step {
        StepKind::Decode if step.sequences <= 1.0 => "A step that decodes 1 request".to_owned(),
        StepKind::Decode => format!("A step that decodes {} requests", number(step.sequences)),
        StepKind::Prefill => format!("A step that computes {} of a prompt", count(step.tokens as u64, "token")),
    };
    let mut table = Table::new(["operator", "ms", "share_percent", "bound_by", "roofline_ms", "times_roofline"]);
    for operator in &step.operators {
        let (roofline, times) = operator.roofline_ms.map_or_else(Default::default, |roofline| {
            (format!("{roofline:.3}"), format!("{:.2}", operator.ms / roofline))
        });
        table.push([
            operator.operator.replace('_', " "),
            format!("{:.3}", operator.ms),
            format!("{:.1}", 100.0 * operator.ms / step.ms),
            bound_by(operator.bound_by).to_owned(),
            roofline,
            times,
        ]);
    }
    format!(
        "\n{what}, {} of context each: {} ms on each GPU\n{}",
        count(step.context_tokens as u64, "token"),
        number(step.ms),
        table.draw()
    )
}
