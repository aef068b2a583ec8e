//! Time of one operator as a function of the tokens of a step.

use super::coefficients::Link;
use super::kernel_tables::{Points, at};

/// What binds an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BoundBy {
    /// Reading weights, activations or KV cache.
    MemoryBandwidth,
    /// Arithmetic.
    Compute,
    /// The links between GPUs.
    Communication,
    /// Launching kernels and preparing steps.
    Overhead,
}

/// The parts of an operator's time, us. Memory and compute overlap, so `total_us` is at most their sum.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OperatorTime {
    /// Launch, or latency of a link.
    pub floor_us: f64,
    /// Memory.
    pub memory_us: f64,
    /// Arithmetic.
    pub compute_us: f64,
    /// Links.
    pub communication_us: f64,
    /// All of it.
    pub total_us: f64,
    /// What the datasheet's bandwidth and peak would allow.
    pub roofline_us: f64,
    /// How much of the total was interpolated between measured kernels.
    pub measured_us: f64,
}

impl OperatorTime {
    /// The largest part.
    pub fn bound_by(&self) -> BoundBy {
        [
            (self.memory_us, BoundBy::MemoryBandwidth),
            (self.compute_us, BoundBy::Compute),
            (self.communication_us, BoundBy::Communication),
            (self.floor_us, BoundBy::Overhead),
        ]
        .into_iter()
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(BoundBy::Overhead, |(_, bound_by)| bound_by)
    }

    /// `times` of it.
    #[must_use]
    pub fn scaled(self, times: f64) -> Self {
        Self {
            floor_us: self.floor_us * times,
            memory_us: self.memory_us * times,
            compute_us: self.compute_us * times,
            communication_us: self.communication_us * times,
            total_us: self.total_us * times,
            roofline_us: self.roofline_us * times,
            measured_us: self.measured_us * times,
        }
    }
}

impl std::ops::AddAssign for OperatorTime {
    fn add_assign(&mut self, other: Self) {
        self.floor_us += other.floor_us;
        self.memory_us += other.memory_us;
        self.compute_us += other.compute_us;
        self.communication_us += other.communication_us;
        self.total_us += other.total_us;
        self.roofline_us += other.roofline_us;
        self.measured_us += other.measured_us;
    }
}

/// `floor + (memory^rho + compute^rho)^(1/rho)`, memory and compute linear in tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Roofline {
    pub(super) floor_us: f64,
    pub(super) memory_us: f64,
    pub(super) memory_per_token_us: f64,
    pub(super) compute_per_token_us: f64,
    pub(super) rho: f64,
    /// Shares of bandwidth and peak that are reached.
    pub(super) efficiency: (f64, f64),
}

impl Roofline {
    fn time(&self, tokens: f64) -> OperatorTime {
        let memory_us = self.memory_us + self.memory_per_token_us * tokens;
        let compute_us = self.compute_per_token_us * tokens;
        self.join(memory_us, compute_us)
    }

    fn join(&self, memory_us: f64, compute_us: f64) -> OperatorTime {
        let (memory, compute) = self.efficiency;
        OperatorTime {
            floor_us: self.floor_us,
            memory_us,
            compute_us,
            communication_us: 0.0,
            total_us: self.floor_us + p_norm(memory_us, compute_us, self.rho),
            roofline_us: (memory_us * memory).max(compute_us * compute),
            measured_us: 0.0,
        }
    }
}

/// `(a^rho + b^rho)^(1/rho)` for a, b >= 0.
fn p_norm(a: f64, b: f64, rho: f64) -> f64 {
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    if small <= 0.0 {
        return large;
    }
    if rho <= 1.0 {
        return a + b;
    }
    // Scaled to the larger one: no overflow, and one power is of a number near 1.
    large * (1.0 + (small / large).powf(rho)).powf(rho.recip())
}

/// The fused experts of a layer on one rank.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(clippy::struct_field_names, reason = "the field's own terms")]
pub(super) struct Experts {
    /// Memory of the time is per distinct expert and per token; compute per token.
    pub(super) roofline: Roofline,
    /// Reading one expert.
    pub(super) expert_us: f64,
    /// Experts of the model.
    pub(super) experts: f64,
    /// Experts of a token.
    pub(super) per_token: f64,
    /// Shape of the distribution of the experts' popularity.
    pub(super) evenness: f64,
    /// Ranks that hold different experts.
    pub(super) ranks: f64,
    /// Tokens of the layer per token of a rank's step: the data-parallel ranks send theirs together.
    pub(super) token_multiple: f64,
}

/// Imbalance of random routing over expert ranks: 1 + this x sqrt(ranks - 1) / sqrt(tokens per expert).
const IMBALANCE: f64 = 0.15;

impl Experts {
    fn time(&self, tokens: f64) -> OperatorTime {
        let tokens = tokens * self.token_multiple;
        // Expected number of distinct experts that `tokens` tokens choose where popularities are gamma-distributed
        // (the zero class of a negative binomial distribution), at least those of one token.
        let missed = (1.0 + tokens * self.per_token / (self.experts * self.evenness)).powf(-self.evenness);
        let distinct = (self.experts * (1.0 - missed)).clamp(self.per_token.min(self.experts), self.experts);
        let per_expert = (tokens * self.per_token / self.experts).max(1.0);
        let imbalance = 1.0 + IMBALANCE * (self.ranks - 1.0).sqrt() / per_expert.sqrt();
        // The fullest rank reads no more than all of its experts.
        let read = (distinct * imbalance).min(self.experts) / self.ranks;
        let memory_us = read * self.expert_us + self.roofline.memory_per_token_us * tokens * imbalance;
        self.roofline.join(memory_us, self.roofline.compute_per_token_us * tokens * imbalance)
    }
}

/// How an operator's time follows from the tokens of a step.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kernel {
    /// A matrix multiplication, or anything else that reads memory and computes.
    Roofline(Roofline),
    /// Experts.
    Experts(Experts),
    /// A collective of so many bytes per token: the fastest of its algorithms.
    Collective { bytes_per_token: f64, algorithms: Vec<Link> },
    /// Interpolated between measured times.
    Measured(Measured),
}

/// A kernel whose times were measured. How far an engine is from benchmarks is what its curve says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// Times (us) by work.
    pub(super) points: Points,
    /// Work of a token.
    pub(super) work_per_token: f64,
    /// Its curve with the calibration's multipliers, which also tells what binds, and without them.
    pub(super) calibrated: Box<Kernel>,
    pub(super) benchmark: Box<Kernel>,
}

impl Measured {
    fn time(&self, tokens: f64) -> OperatorTime {
        let [calibrated, benchmark] = [&self.calibrated, &self.benchmark].map(|kernel| kernel.time(tokens));
        let measured_us = at(&self.points, tokens * self.work_per_token);
        let total_us = (measured_us * calibrated.total_us / benchmark.total_us).max(calibrated.roofline_us);
        let parts = calibrated.scaled(total_us / calibrated.total_us);
        OperatorTime { total_us, roofline_us: calibrated.roofline_us, measured_us: total_us, ..parts }
    }
}

impl Kernel {
    /// Time at `tokens` tokens of a rank's step.
    pub(super) fn time(&self, tokens: f64) -> OperatorTime {
        match self {
            Self::Roofline(roofline) => roofline.time(tokens),
            Self::Experts(experts) => experts.time(tokens),
            Self::Measured(measured) => measured.time(tokens),
            Self::Collective { bytes_per_token, algorithms } => {
                let bytes = bytes_per_token * tokens;
                let fastest = algorithms
                    .iter()
                    .map(|link| (link.latency_us, bytes / link.bytes_per_us))
                    .min_by(|a, b| (a.0 + a.1).total_cmp(&(b.0 + b.1)))
                    .unwrap_or_default();
                OperatorTime {
                    floor_us: fastest.0,
                    communication_us: fastest.1,
                    total_us: fastest.0 + fastest.1,
                    ..OperatorTime::default()
                }
            }
        }
    }
}
