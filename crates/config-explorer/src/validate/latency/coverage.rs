//! What a set of runs can tell, and what it cannot: ranges that it covers, and coefficients that it does not move.

use std::collections::BTreeMap;

use serde::Serialize;

use super::fit::BOUND;
use super::{Coefficient, FittedCoefficient, MeasuredCase, MeasuredRun, fit, observation};
use crate::latency::Calibration;
use crate::serving::Load;

/// Ranges that the runs of a fit cover, least and most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Coverage {
    /// Mean tokens of a prompt.
    pub input_tokens: [f64; 2],
    /// Mean tokens of an output.
    pub output_tokens: [f64; 2],
    /// Clients of one engine: its batch.
    pub clients_per_engine: [f64; 2],
    /// Share of prompt tokens found in the prefix cache: a fit takes only runs whose prompts share nothing.
    pub prefix_hit_rate: [f64; 2],
}

/// Factor below which a range is too narrow to tell what grows with it.
const NARROW: f64 = 4.0;

impl Coverage {
    /// Of runs; `None` without any whose load and lengths are known.
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a MeasuredRun>) -> Option<Self> {
        let known = rows.into_iter().filter_map(|row| {
            let (input, output) = row.lengths?;
            let Some(Load::Closed { clients, .. }) = row.load else { return None };
            Some([input, output, clients / f64::from(row.layout[4])])
        });
        let ranges = known.map(|values| values.map(|value| [value; 2])).reduce(|mut ranges, values| {
            for ([low, high], [value, _]) in ranges.iter_mut().zip(values) {
                (*low, *high) = (low.min(value), high.max(value));
            }
            ranges
        });
        let [input_tokens, output_tokens, clients_per_engine] = ranges?;
        Some(Self { input_tokens, output_tokens, clients_per_engine, prefix_hit_rate: [0.0; 2] })
    }

    /// What follows for who uses the coefficients.
    pub fn gaps(&self) -> Vec<String> {
        let parts = [
            ("prompts", "tokens", self.input_tokens, "what a token of a prompt costs from what every request costs"),
            ("batches", "requests", self.clients_per_engine, "what a step costs from what each request in it costs"),
        ];
        let mut gaps: Vec<String> = parts
            .into_iter()
            .map(|(what, unit, [low, high], apart)| {
                let range = if low >= high { format!("{low:.0}") } else { format!("{low:.0} to {high:.0}") };
                if high < NARROW * low {
                    format!("{what} of {range} {unit} only: the data cannot tell {apart}; the prior does")
                } else {
                    format!("{what} of {range} {unit} are covered: beyond, the coefficients are extrapolated")
                }
            })
            .collect();
        gaps.push("no prompt token was found in a prefix cache: what a hit saves is not calibrated".to_owned());
        gaps
    }
}

/// Share of identification below which the data do not move a coefficient.
const UNMOVED: f64 = 0.05;

/// What the data do not tell of the coefficients: those they do not move, and those that a physical bound stopped.
pub fn unidentified(coefficients: &[FittedCoefficient]) -> Vec<String> {
    let names = |which: &dyn Fn(&FittedCoefficient) -> bool| {
        let chosen = coefficients.iter().filter(|coefficient| which(coefficient));
        chosen.map(|fitted| fitted.coefficient.to_string()).collect::<Vec<_>>()
    };
    let unmoved = names(&|fitted| fitted.identified < UNMOVED);
    let bounded = names(&|fitted| {
        let factor = fitted.value / fitted.neutral;
        factor >= BOUND * 0.999 || factor <= 1.001 / BOUND
    });
    let mut told = Vec::new();
    if !unmoved.is_empty() {
        told.push(format!(
            "the data do not move {} of {} coefficients: {}",
            unmoved.len(),
            coefficients.len(),
            unmoved.join(", ")
        ));
    }
    if !bounded.is_empty() {
        told.push(format!("a factor of {BOUND} from the kernels' own benchmark stopped {}", bounded.join(", ")));
    }
    told
}

impl std::fmt::Display for Coefficient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = |name: serde_json::Result<serde_json::Value>| {
            name.ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
        };
        match self {
            Self::Engine(time) => formatter.write_str(&word(serde_json::to_value(time))),
            Self::Kernel(generation, multiplier) => {
                write!(formatter, "{generation} {}", word(serde_json::to_value(multiplier)))
            }
        }
    }
}

/// What is left out in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// A model.
    Model,
    /// A deployment of the only model.
    Deployment,
    /// A load of the only deployment.
    Load,
}

impl Held {
    /// The largest groups of which there are two or more.
    fn of(rows: &[(&MeasuredRun, &MeasuredCase)]) -> Self {
        let several = |held: Self| rows.iter().any(|(row, _)| held.group(row) != held.group(rows[0].0));
        [Self::Model, Self::Deployment].into_iter().find(|held| several(*held)).unwrap_or(Self::Load)
    }

    /// The group of a row.
    pub fn group(self, row: &MeasuredRun) -> String {
        match self {
            Self::Model => row.model.clone(),
            Self::Deployment => format!("{} {:?} {:?}", row.gpu, row.layout, row.precision),
            Self::Load => format!("{:?} {:?}", row.load, row.lengths),
        }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Deployment => "deployment",
            Self::Load => "load",
        }
    }
}

/// A calibration without each group in turn: models where there are several, else deployments, else loads.
pub fn leave_groups_out(rows: &[(&MeasuredRun, &MeasuredCase)]) -> (Held, BTreeMap<String, Calibration>) {
    let held = Held::of(rows);
    let mut groups: BTreeMap<String, Calibration> =
        rows.iter().map(|(row, _)| (held.group(row), Calibration::default())).collect();
    for (group, calibration) in &mut groups {
        let others = rows.iter().filter(|(row, _)| held.group(row) != *group);
        let observations: Vec<_> = others.filter_map(|(row, case)| observation(row, case)).collect();
        *calibration = fit(&observations, &format!("all but {group}")).0;
    }
    (held, groups)
}
