//! Lengths of prompts and answers, and what prompts share.

use super::named;

named! {
    /// Shape of a length distribution, as benchmark report v0.2 names it.
    pub enum LengthShape {
        /// Every request has the same length.
        Fixed = "fixed",
        /// Normally distributed, usually cut off at a minimum and a maximum.
        Gaussian = "gaussian",
        /// Uniform between a minimum and a maximum.
        Uniform = "uniform",
        /// Lognormally distributed, usually cut off: many short ones, a few long ones. Reports v0.2 do not name it.
        Lognormal = "lognormal",
        /// Exponentially distributed. Reports v0.2 do not name it.
        Exponential = "exponential",
        /// Pareto distributed above a smallest value: a heavy tail. Reports v0.2 do not name it.
        Pareto = "pareto",
        /// Anything else, such as the lengths of a data set.
        Other = "other",
    }
}

/// A distribution of lengths in tokens, as configured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LengthDistribution {
    /// Its shape.
    pub shape: LengthShape,
    /// The nominal length: the mean before cutting off.
    pub mean: f64,
    /// Standard deviation.
    pub stddev: Option<f64>,
    /// Shortest length that can be drawn.
    pub min: Option<f64>,
    /// Longest length that can be drawn.
    pub max: Option<f64>,
}

impl LengthDistribution {
    /// Every request has `tokens`.
    pub fn fixed(tokens: f64) -> Self {
        Self { shape: LengthShape::Fixed, mean: tokens, stddev: None, min: None, max: None }
    }

    /// Uniform between two lengths.
    pub fn uniform(min: f64, max: f64) -> Self {
        Self {
            shape: LengthShape::Uniform,
            mean: f64::midpoint(min, max),
            stddev: None,
            min: Some(min),
            max: Some(max),
        }
    }

    /// Lognormal with the mean and the standard deviation of the lengths themselves.
    pub fn lognormal(mean: f64, stddev: f64) -> Self {
        let shape = if stddev == 0.0 { LengthShape::Fixed } else { LengthShape::Lognormal };
        Self { shape, mean, stddev: Some(stddev), min: None, max: None }
    }

    /// Normal with a mean and a standard deviation; fixed when the deviation is zero.
    pub fn gaussian(mean: f64, stddev: f64) -> Self {
        let shape = if stddev == 0.0 { LengthShape::Fixed } else { LengthShape::Gaussian };
        Self { shape, mean, stddev: Some(stddev), min: None, max: None }
    }
}

/// What prompts have in common, as configured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PrefixSharing {
    /// Groups of prompts; those of a group start with the same tokens.
    pub groups: Option<u64>,
    /// Prompts of each group.
    pub prompts_per_group: Option<u64>,
    /// Different prefixes that are in use (GuideLLM's `prefix_count`).
    pub prefixes: Option<u64>,
    /// Tokens that the prompts of a group share.
    pub shared_tokens: Option<f64>,
    /// Tokens of a prompt that follow the shared ones.
    pub unique_tokens: Option<f64>,
    /// Part of the prompt tokens that the engine found in its cache, 0 to 1, as measured.
    pub hit_rate: Option<f64>,
    /// The source's own words where it gives no numbers.
    pub description: Option<String>,
}
