//! What the estimate rests on: the operators of one step that decodes and of one that computes a prompt.

use schemars::JsonSchema;
use serde::Serialize;

use super::estimate::{Deployment, Role};
use super::prediction::{OperatorBreakdown, Prediction};
use super::traffic::Traffic;
use crate::latency::{BoundBy, Chunk, Decodes, OperatorShare, StepTimes, breakdown};

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// One token for each running request.
    Decode,
    /// One prompt, or as much of it as a step takes.
    Prefill,
}

/// One step of a rank.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ExplainedStep {
    /// What it does.
    pub step: StepKind,
    /// Requests in it.
    pub sequences: f64,
    /// Tokens it computes.
    pub tokens: f64,
    /// Tokens of the KV cache that each request has before it, the mean.
    pub context_tokens: f64,
    /// The whole step.
    pub ms: f64,
    /// The operators, in order of execution.
    pub operators: Vec<OperatorBreakdown>,
}

impl From<OperatorShare> for OperatorBreakdown {
    fn from(OperatorShare { operator, time }: OperatorShare) -> Self {
        Self {
            operator,
            ms: time.total_us / 1e3,
            bound_by: if operator == "host" { BoundBy::Overhead } else { time.bound_by() },
            measured: (time.measured_us > 0.0).then_some(time.measured_us / time.total_us),
            roofline_ms: (time.roofline_us > 0.0).then_some(time.roofline_us / 1e3),
        }
    }
}

/// The steps behind a prediction: one that decodes its mean batch, and one that computes a prompt.
pub fn explain(deployment: &Deployment<'_>, traffic: &Traffic, prediction: &Prediction) -> [ExplainedStep; 2] {
    let (prefill, decode) = match deployment {
        Deployment::Aggregated(role) => (role, role),
        Deployment::Disaggregated { prefill, decode } => (prefill, decode),
    };
    let lanes = f64::from(StepTimes::compile(&decode.configuration).lanes);
    // A light load has less than one request at most times; a step has at least one.
    let sequences = (prediction.utilisation.batch_size_mean / lanes).max(1.0);
    let context_tokens = traffic.input_tokens + traffic.output_tokens / 2.0;
    let decodes = Decodes { sequences, context_tokens: sequences * context_tokens };

    let cached = (traffic.input_tokens * traffic.prefix_hit_rate).min(traffic.input_tokens - 1.0);
    let most = prefill.configuration.settings.max_num_batched_tokens as f64;
    let chunk = Chunk { tokens: (traffic.input_tokens - cached).min(most), context: cached };
    [
        explained(decode, StepKind::Decode, (sequences, sequences, context_tokens), decodes, &[]),
        explained(prefill, StepKind::Prefill, (1.0, chunk.tokens, cached), Decodes::default(), &[chunk]),
    ]
}

fn explained(
    role: &Role<'_>,
    step: StepKind,
    (sequences, tokens, context_tokens): (f64, f64, f64),
    decodes: Decodes,
    chunks: &[Chunk],
) -> ExplainedStep {
    let operators: Vec<OperatorBreakdown> =
        breakdown(&role.configuration, decodes, chunks).into_iter().map(Into::into).collect();
    let ms = operators.iter().map(|operator| operator.ms).sum();
    ExplainedStep { step, sequences, tokens, context_tokens, ms, operators }
}
