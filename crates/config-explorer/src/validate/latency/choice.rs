//! The back-test of recommendations: how good the configuration that is predicted to be the cheapest turns out.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Scored;
use super::case::gpu_name;
use crate::hardware::{Accelerators, Prices};
use crate::serving::Load;

/// Fewest configurations that make a choice.
const CONFIGURATIONS_MIN: usize = 4;
/// Objectives: the quantiles of the measured TPOT and TTFT of a workload that are asked for, strict to loose.
const STRENGTHS: [f64; 4] = [0.25, 0.5, 0.75, 1.0];
/// How many of the predicted cheapest count as found.
const TOP: usize = 3;

/// How often the measured cheapest configuration within objectives is found, and what a wrong choice costs.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, schemars::JsonSchema)]
pub struct ChoiceAccuracy {
    /// Choices: workloads (model and lengths) with four or more measured points (a configuration at a number of clients),
    /// under each of four objectives on mean TPOT and TTFT that some point meets.
    pub choices: usize,
    /// Share in which the measured cheapest is the predicted cheapest, percent.
    pub top_1_percent: f64,
    /// Share in which it is among the three that are predicted cheapest, percent.
    pub top_3_percent: f64,
    /// Share in which the predicted cheapest really meets the objectives, percent.
    pub meets_percent: f64,
    /// What the predicted cheapest costs more than the measured cheapest where it meets the objectives, mean, percent.
    pub regret_percent: f64,
}

/// A point of a workload.
#[derive(Debug, Clone, Copy, Default)]
struct Point {
    /// Mean TPOT and TTFT, predicted and measured, ms.
    predicted: [f64; 2],
    measured: [f64; 2],
    /// Dollars of a token in some unit, predicted and measured.
    predicted_cost: f64,
    measured_cost: f64,
}

impl ChoiceAccuracy {
    /// Of scored rows: the credible closed-loop ones whose accelerator has a price. Repeats of a point are one, their mean.
    pub fn of(rows: &[Scored<'_>], accelerators: &Accelerators, prices: &Prices) -> Self {
        let mut repeats: BTreeMap<[String; 2], Vec<Point>> = BTreeMap::new();
        for scored in rows {
            if let Some((key, point)) = point(scored, accelerators, prices) {
                repeats.entry(key).or_default().push(point);
            }
        }
        let mut workloads: BTreeMap<String, Vec<Point>> = BTreeMap::new();
        for ([workload, _], points) in repeats {
            workloads.entry(workload).or_default().push(mean(&points));
        }
        workloads.retain(|_, points| points.len() >= CONFIGURATIONS_MIN);
        let outcomes: Vec<Outcome> = workloads
            .values()
            .flat_map(|points| STRENGTHS.iter().filter_map(|strength| outcome(points, *strength)))
            .collect();
        let choices = outcomes.len();
        let share = |of: fn(&Outcome) -> bool| {
            100.0 * outcomes.iter().filter(|outcome| of(outcome)).count() as f64 / choices.max(1) as f64
        };
        let regrets: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.regret).collect();
        Self {
            choices,
            top_1_percent: share(|outcome| outcome.place == Some(0)),
            top_3_percent: share(|outcome| outcome.place.is_some_and(|place| place < TOP)),
            meets_percent: share(|outcome| outcome.regret.is_some()),
            regret_percent: 100.0 * regrets.iter().sum::<f64>() / regrets.len().max(1) as f64,
        }
    }
}

/// What became of a choice.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Outcome {
    /// Place of the measured cheapest among the predicted, from 0; `None` if it is predicted to miss the objectives.
    place: Option<usize>,
    /// What the predicted cheapest costs more, as a share; `None` if it misses the objectives, or none is predicted to meet
    /// them.
    regret: Option<f64>,
}

/// The choice under objectives of some strength; `None` if no point meets them.
fn outcome(points: &[Point], strength: f64) -> Option<Outcome> {
    let limits = [0, 1].map(|quantity| {
        let mut sorted: Vec<f64> = points.iter().map(|point| point.measured[quantity]).collect();
        sorted.sort_by(f64::total_cmp);
        sorted[(strength * (sorted.len() - 1) as f64).round() as usize]
    });
    let meets = |times: &[f64; 2]| times.iter().zip(&limits).all(|(time, limit)| time <= limit);
    let feasible = (0..points.len()).filter(|&index| meets(&points[index].measured));
    let cheapest = feasible.min_by(|&a, &b| points[a].measured_cost.total_cmp(&points[b].measured_cost))?;
    let mut ranked: Vec<usize> = (0..points.len()).filter(|&index| meets(&points[index].predicted)).collect();
    ranked.sort_by(|&a, &b| points[a].predicted_cost.total_cmp(&points[b].predicted_cost));
    let chosen = ranked.first().map(|&index| &points[index]).filter(|point| meets(&point.measured));
    Some(Outcome {
        place: ranked.iter().position(|&index| index == cheapest),
        regret: chosen.map(|point| point.measured_cost / points[cheapest].measured_cost - 1.0),
    })
}

fn mean(points: &[Point]) -> Point {
    let of = |value: fn(&Point) -> f64| points.iter().map(value).sum::<f64>() / points.len() as f64;
    Point {
        predicted: [of(|point| point.predicted[0]), of(|point| point.predicted[1])],
        measured: [of(|point| point.measured[0]), of(|point| point.measured[1])],
        predicted_cost: of(|point| point.predicted_cost),
        measured_cost: of(|point| point.measured_cost),
    }
}

/// The workload and the configuration of a row, and its point.
fn point(scored: &Scored<'_>, accelerators: &Accelerators, prices: &Prices) -> Option<([String; 2], Point)> {
    let Scored { row, prediction } = scored;
    let Some(Load::Closed { clients, .. }) = row.load else { return None };
    if !row.quarantine.is_empty() || row.shares_prefixes {
        return None;
    }
    let (input, output) = row.lengths?;
    let accelerator = accelerators.find(gpu_name(&row.gpu)).ok()?;
    let usd = prices.of(accelerator)?.usd_per_hour;
    let [tensor, pipeline, data, _, replicas] = row.layout;
    let gpus = f64::from(tensor * pipeline * data * replicas);
    let measured = [row.tpot_mean_ms?, row.ttft_mean_ms?];
    let predicted = [prediction.tpot_ms.mean, prediction.ttft_ms?.mean];
    // Clients never pause, so that the throughput follows from the times of a request (Little's law).
    let cost = |[tpot, ttft]: [f64; 2]| usd * gpus * (ttft + (output - 1.0) * tpot) / (clients * output);
    let key = [
        format!("{} {input} {output}", row.model),
        format!("{} {} {:?} {} {clients}", row.gpu, row.precision, row.layout, row.fp8_kv_cache),
    ];
    Some((key, Point { predicted, measured, predicted_cost: cost(predicted), measured_cost: cost(measured) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(predicted: f64, measured: f64, predicted_cost: f64, measured_cost: f64) -> Point {
        Point { predicted: [predicted; 2], measured: [measured; 2], predicted_cost, measured_cost }
    }

    #[test]
    fn the_cheapest_within_the_objectives_is_looked_for() {
        // Loose: all meet them; the cheapest is last, and predicted second.
        let points = [point(1.0, 1.0, 4.0, 4.0), point(2.0, 2.0, 1.0, 3.0), point(3.0, 3.0, 2.0, 2.0)];
        assert_eq!(outcome(&points, 1.0), Some(Outcome { place: Some(1), regret: Some(0.5) }));
        // Strict: only the first meets them.
        assert_eq!(outcome(&points, 0.0), Some(Outcome { place: Some(0), regret: Some(0.0) }));
    }

    #[test]
    fn a_choice_that_misses_the_objectives_has_no_regret() {
        let points = [point(9.0, 1.0, 1.0, 1.0), point(1.0, 5.0, 1.0, 1.0)];
        assert_eq!(outcome(&points, 0.0), Some(Outcome { place: None, regret: None }));
    }
}
