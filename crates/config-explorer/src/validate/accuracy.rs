//! How far predictions are from what was printed, over groups of start-ups.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{MemoryPrediction, StartUp};
use crate::engine::Core;

/// Errors of one group of start-ups.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Accuracy {
    /// `all`, a release line (`0.19`) or a model.
    pub group: String,
    /// Start-ups of the group that are scored.
    pub rows: usize,
    /// Weights, percent of what was printed.
    pub weights_percent: ErrorSummary,
    /// Peak activation, GiB.
    pub activation_gib: ErrorSummary,
    /// Tokens of the KV cache (its GiB, where tokens were not printed), percent of what was printed.
    pub kv_percent: ErrorSummary,
}

/// Absolute errors of one quantity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, schemars::JsonSchema)]
pub struct ErrorSummary {
    /// Start-ups that the figures rest on.
    pub rows: usize,
    /// Median.
    pub median: Option<f64>,
    /// Mean.
    pub mean: Option<f64>,
    /// What 90 % of the start-ups stay within.
    pub p90: Option<f64>,
}

impl StartUp {
    /// Everything that the prediction rests on was told: V1 engine, version, utilisation and batch limits.
    pub fn is_scored(&self) -> bool {
        self.core == Core::V1
            && self.version.is_some()
            && self.args.gpu_memory_utilization.is_some()
            && self.args.max_num_batched_tokens.is_some()
            && self.args.max_num_seqs.is_some()
    }

    /// Error of the KV cache, percent of what was printed: of its tokens or, where they were not printed, of its memory.
    pub fn kv_error_percent(&self, prediction: &MemoryPrediction) -> Option<f64> {
        match self.printed.tokens {
            Some(tokens) => percent(prediction.pred_tokens.map(|tokens| tokens as f64), Some(tokens)),
            None => percent(prediction.pred_kv_gib, self.printed.kv_gib),
        }
    }

    /// Error of the weights, percent of what was printed.
    pub fn weights_error_percent(&self, prediction: &MemoryPrediction) -> Option<f64> {
        percent(prediction.pred_weights_gib, self.printed.weights_gib)
    }

    /// Error of the peak activation.
    pub fn activation_error_gib(&self, prediction: &MemoryPrediction) -> Option<f64> {
        Some(prediction.pred_activation_gib? - self.printed.activation_gib?)
    }
}

fn percent(predicted: Option<f64>, printed: Option<f64>) -> Option<f64> {
    let printed = printed.filter(|printed| *printed > 0.0)?;
    Some(100.0 * (predicted? - printed) / printed)
}

impl Accuracy {
    /// Errors of one group.
    pub fn of(group: &str, rows: &[(&StartUp, &MemoryPrediction)]) -> Self {
        let summary = |error: fn(&StartUp, &MemoryPrediction) -> Option<f64>| {
            ErrorSummary::of(rows.iter().filter_map(|(row, prediction)| error(row, prediction)))
        };
        Self {
            group: group.to_owned(),
            rows: rows.len(),
            weights_percent: summary(StartUp::weights_error_percent),
            activation_gib: summary(StartUp::activation_error_gib),
            kv_percent: summary(StartUp::kv_error_percent),
        }
    }

    /// Errors of all start-ups, by release line, and by model.
    pub fn by_group(rows: &[(&StartUp, &MemoryPrediction)]) -> Vec<Self> {
        let mut lines: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut models: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in rows {
            let line = row.0.version.map(|version| (version.major, version.minor));
            lines.entry(line).or_default().push(*row);
            models.entry(row.0.model.as_str()).or_default().push(*row);
        }
        let lines = lines.into_iter().map(|(line, rows)| {
            let name = line.map_or_else(|| "no version".to_owned(), |(major, minor)| format!("vLLM {major}.{minor}"));
            Self::of(&name, &rows)
        });
        let models = models.into_iter().map(|(model, rows)| Self::of(model, &rows));
        std::iter::once(Self::of("all", rows)).chain(lines).chain(models).collect()
    }
}

impl ErrorSummary {
    /// Sums up errors, whatever their sign.
    fn of(errors: impl Iterator<Item = f64>) -> Self {
        let mut errors: Vec<f64> = errors.map(f64::abs).collect();
        errors.sort_by(f64::total_cmp);
        let rows = errors.len();
        if rows == 0 {
            return Self::default();
        }
        Self {
            rows,
            median: Some(f64::midpoint(errors[(rows - 1) / 2], errors[rows / 2])),
            mean: Some(errors.iter().sum::<f64>() / rows as f64),
            p90: Some(errors[(rows * 9).div_ceil(10) - 1]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_summed_up_without_their_sign() {
        let summary = ErrorSummary::of([-4.0, 1.0, 2.0, -3.0].into_iter());
        assert_eq!(summary, ErrorSummary { rows: 4, median: Some(2.5), mean: Some(2.5), p90: Some(4.0) });
        let summary = ErrorSummary::of((1..=10).map(f64::from));
        assert_eq!((summary.median, summary.p90), (Some(5.5), Some(9.0)));
        assert_eq!(ErrorSummary::of(std::iter::empty()).median, None);
    }
}
