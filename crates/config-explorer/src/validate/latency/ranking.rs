//! Whether predictions put configurations in the order in which measurements do.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Scored;
use crate::serving::Load;

/// Fewest configurations that are ranked, and how many of the predicted best the measured best may be among.
const CONFIGURATIONS_MIN: usize = 4;
const TOP: usize = 3;

/// How well configurations are ranked, over the credible closed-loop rows.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, schemars::JsonSchema)]
pub struct RankingAccuracy {
    /// Workloads: model and lengths, with four or more points (a configuration at a number of clients).
    pub workloads: usize,
    /// Median over the workloads of Spearman's rank correlation of predicted and measured TPOT.
    pub tpot_spearman: f64,
    /// The same of TTFT.
    pub ttft_spearman: f64,
    /// The same of output tokens per second and GPU.
    pub throughput_spearman: f64,
    /// Choices: workloads at a number of clients, with four or more configurations.
    pub choices: usize,
    /// Median over the choices of Spearman's rank correlation of the throughput per GPU.
    pub choice_spearman: f64,
    /// Share of the choices in which the configuration with the highest measured throughput per GPU is among the three
    /// that are predicted highest, percent.
    pub best_among_top_3_percent: f64,
}

/// Logarithms of predicted and measured TPOT, TTFT and throughput per GPU.
type Point = [(f64, f64); 3];

impl RankingAccuracy {
    /// Of scored rows; repeated measurements of a configuration are one point, their geometric mean.
    pub fn of(rows: &[Scored<'_>]) -> Self {
        let mut repeats: BTreeMap<[String; 3], Vec<Point>> = BTreeMap::new();
        for scored in rows {
            if let Some((key, point)) = point(scored) {
                repeats.entry(key).or_default().push(point);
            }
        }
        let mut workloads: BTreeMap<String, Vec<Point>> = BTreeMap::new();
        let mut choices: BTreeMap<[String; 2], Vec<Point>> = BTreeMap::new();
        for ([workload, clients, _], points) in repeats {
            let mean = |pick: fn(&(f64, f64)) -> f64, quantity: usize| {
                points.iter().map(|point| pick(&point[quantity])).sum::<f64>() / points.len() as f64
            };
            let point = [0, 1, 2].map(|quantity| (mean(|pair| pair.0, quantity), mean(|pair| pair.1, quantity)));
            workloads.entry(workload.clone()).or_default().push(point);
            choices.entry([workload, clients]).or_default().push(point);
        }
        workloads.retain(|_, points| points.len() >= CONFIGURATIONS_MIN);
        choices.retain(|_, points| points.len() >= CONFIGURATIONS_MIN);
        let found = choices.values().filter(|points| best_is_found(points)).count();
        Self {
            workloads: workloads.len(),
            tpot_spearman: median(workloads.values().map(|points| spearman(points, 0))),
            ttft_spearman: median(workloads.values().map(|points| spearman(points, 1))),
            throughput_spearman: median(workloads.values().map(|points| spearman(points, 2))),
            choices: choices.len(),
            choice_spearman: median(choices.values().map(|points| spearman(points, 2))),
            best_among_top_3_percent: 100.0 * found as f64 / choices.len().max(1) as f64,
        }
    }
}

/// The workload, clients and configuration of a row, and its point.
fn point(scored: &Scored<'_>) -> Option<([String; 3], Point)> {
    let Scored { row, prediction } = scored;
    let Some(Load::Closed { clients, .. }) = row.load else { return None };
    let (input, output) = row.lengths?;
    if !row.quarantine.is_empty() || row.shares_prefixes {
        return None;
    }
    let (tpot, ttft) = (row.tpot_mean_ms?, row.ttft_mean_ms?);
    let (predicted_tpot, predicted_ttft) = (prediction.tpot_ms.mean, prediction.ttft_ms?.mean);
    let [tensor, pipeline, data, _, replicas] = row.layout;
    let gpus = f64::from(tensor * pipeline * data * replicas);
    // Clients never pause, so that both follow from the times of a request (Little's law).
    let per_gpu = |ttft: f64, tpot: f64| (clients * output / (ttft + (output - 1.0) * tpot) / gpus).ln();
    let key = [
        format!("{} {input} {output}", row.model),
        clients.to_string(),
        format!("{} {} {:?} {}", row.gpu, row.precision, row.layout, row.fp8_kv_cache),
    ];
    let point = [
        (predicted_tpot.ln(), tpot.ln()),
        (predicted_ttft.ln(), ttft.ln()),
        (per_gpu(predicted_ttft, predicted_tpot), per_gpu(ttft, tpot)),
    ];
    Some((key, point))
}

/// The point with the highest measured throughput is among those with the highest predicted.
fn best_is_found(points: &[Point]) -> bool {
    let best = points.iter().max_by(|a, b| a[2].1.total_cmp(&b[2].1));
    best.is_some_and(|best| points.iter().filter(|other| other[2].0 > best[2].0).count() < TOP)
}

/// Spearman's rank correlation of predicted and measured.
#[expect(clippy::float_cmp, reason = "equal values share a rank")]
fn spearman(points: &[Point], quantity: usize) -> f64 {
    let ranks = |pick: fn(&(f64, f64)) -> f64| -> Vec<f64> {
        let values: Vec<f64> = points.iter().map(|point| pick(&point[quantity])).collect();
        // Equal values share the mean of their ranks.
        let rank = |value: &f64| {
            let below = values.iter().filter(|other| *other < value).count() as f64;
            let equal = values.iter().filter(|other| *other == value).count() as f64;
            below + equal / 2.0
        };
        values.iter().map(rank).collect()
    };
    let (predicted, measured) = (ranks(|pair| pair.0), ranks(|pair| pair.1));
    let mean = points.len() as f64 / 2.0;
    let covariance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let spread = (covariance(&predicted, &predicted) * covariance(&measured, &measured)).sqrt();
    if spread > 0.0 { covariance(&predicted, &measured) / spread } else { 0.0 }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "ranks are exact")]
mod tests {
    use super::*;

    fn points(pairs: &[(f64, f64)]) -> Vec<Point> {
        pairs.iter().map(|pair| [*pair; 3]).collect()
    }

    #[test]
    fn the_same_order_is_one_and_the_reverse_minus_one() {
        assert_eq!(spearman(&points(&[(1.0, 10.0), (2.0, 20.0), (3.0, 40.0), (9.0, 50.0)]), 0), 1.0);
        assert_eq!(spearman(&points(&[(1.0, 5.0), (2.0, 4.0), (3.0, 3.0)]), 0), -1.0);
        // Equal predictions order nothing.
        assert_eq!(spearman(&points(&[(1.0, 1.0), (1.0, 2.0)]), 0), 0.0);
    }

    #[test]
    fn the_best_is_found_among_the_first_three() {
        let found = points(&[(4.0, 1.0), (3.0, 2.0), (2.0, 9.0), (1.0, 3.0)]);
        assert!(best_is_found(&found));
        let missed = points(&[(4.0, 1.0), (3.0, 2.0), (2.0, 3.0), (1.0, 9.0)]);
        assert!(!best_is_found(&missed));
    }
}
