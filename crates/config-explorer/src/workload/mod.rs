//! What is asked of a deployment: how long requests are, how they arrive, what they share, and what they must meet.
//!
//! In: numbers that a benchmark report, a user or a trace gives. Out: types that `reports` fills from measurements and
//! that the predictions take as their input. The names are those of llm-d's benchmark report v0.2 (`scenario.load`).
//! [`Workload`] is what a report says of the past; [`WorkloadSpec`] is what a user asks for, complete enough to be drawn
//! from: [`read_workload`] reads it from YAML, from the definitions of other tools, or finds a [`Trace`].

mod distribution;
mod foreign;
mod lengths;
mod load;
mod named;
mod objective;
mod read;
mod spec;
mod statistics;
mod trace;

pub use distribution::{Distribution, Histogram};
pub use foreign::Selection;
pub use lengths::{LengthDistribution, LengthShape, PrefixSharing};
pub use load::{Gaps, Load, LoadKind};
pub(crate) use named::named;
pub use objective::{Comparison, Objective, Objectives, Quantity};
pub use read::{ReadOptions, WorkloadFile, parse_workload, read_workload, trace_format};
pub use spec::{Arrivals, Class, ClassSpec, Contents, Popularity, Prefix, Session, Stage, TraceSource, WorkloadSpec};
pub use statistics::{Statistic, Statistics};
pub use trace::{Run, Trace, TraceFormat, TraceRequest};

/// What a load generator was told to send.
///
/// Everything is optional: a result file tells what it tells, and nothing is guessed. What was really sent is beside
/// it in a run (`input_length`, `output_length`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Workload {
    /// Tokens of a prompt, as configured.
    pub input: Option<LengthDistribution>,
    /// Tokens of an answer, as configured.
    pub output: Option<LengthDistribution>,
    /// Where the prompts come from, in the source's own words (`random`, `sharegpt`, `D(100,100)`).
    pub dataset: Option<String>,
    /// What prompts have in common.
    pub prefix: PrefixSharing,
    /// Turns of a conversation; none for single requests.
    pub turns: Option<f64>,
    /// How requests arrive.
    pub load: Load,
}
