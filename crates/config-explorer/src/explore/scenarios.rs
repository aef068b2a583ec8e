//! What was asked of which model on which accelerator.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;

use crate::reports::{Column, ColumnKind, Run, Value};

/// The values of one column in a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Extent<'a> {
    /// The smallest.
    pub min: Value<'a>,
    /// The largest; the same as the smallest where there is one value.
    pub max: Value<'a>,
}

impl fmt::Display for Extent<'_> {
    /// `1000`, or `1000..9999`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { write!(f, "{}", self.min) } else { write!(f, "{}..{}", self.min, self.max) }
    }
}

/// Runs with the same values in some columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario<'a> {
    /// The values, in the order of the columns.
    pub values: Vec<Extent<'a>>,
    /// The runs, in their order; at least one.
    pub runs: Vec<&'a Run>,
}

/// Every scenario of some runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenarios<'a> {
    /// Ordered by their values, numbers as numbers.
    pub scenarios: Vec<Scenario<'a>>,
    /// Runs that lack a value of one of the columns and so belong to no scenario.
    pub missing: usize,
}

/// Groups runs by their values in some columns.
///
/// With `bounded`, runs that differ only in numbers share a scenario, which then spans them (`1000..9999`).
pub fn scenarios<'a>(runs: &[&'a Run], by: &[&Column], bounded: bool) -> Scenarios<'a> {
    let is_number = |column: &Column| matches!(column.kind, ColumnKind::Integer | ColumnKind::Float);
    let mut places = HashMap::new();
    let mut scenarios: Vec<Scenario<'a>> = Vec::new();
    let mut missing = 0;
    for &run in runs {
        let Some(values) = by.iter().map(|column| column.get(run)).collect::<Option<Vec<Value<'a>>>>() else {
            missing += 1;
            continue;
        };
        let key: Vec<String> = by
            .iter()
            .zip(&values)
            .filter(|(column, _)| !(bounded && is_number(column)))
            .map(|(_, value)| value.to_string())
            .collect();
        let place = *places.entry(key).or_insert_with(|| {
            let values = values.iter().map(|value| Extent { min: value.clone(), max: value.clone() }).collect();
            scenarios.push(Scenario { values, runs: Vec::new() });
            scenarios.len() - 1
        });
        let scenario = &mut scenarios[place];
        scenario.runs.push(run);
        for (extent, value) in scenario.values.iter_mut().zip(values) {
            if order(&value, &extent.min).is_lt() {
                extent.min = value;
            } else if order(&value, &extent.max).is_gt() {
                extent.max = value;
            }
        }
    }
    scenarios.sort_by(|a, b| {
        let orders = a.values.iter().zip(&b.values).map(|(a, b)| order(&a.min, &b.min));
        orders.fold(Ordering::Equal, Ordering::then)
    });
    Scenarios { scenarios, missing }
}

fn order(a: &Value<'_>, b: &Value<'_>) -> Ordering {
    match (a.number(), b.number()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.to_string().cmp(&b.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::column;

    fn run(model: Option<&str>, isl: f64) -> Run {
        let mut run = Run::default();
        run.server.model = model.map(str::to_owned);
        run.workload.input = Some(crate::workload::LengthDistribution::fixed(isl));
        run
    }

    fn shown(runs: &[Run], bounded: bool) -> (Vec<String>, usize) {
        let runs: Vec<&Run> = runs.iter().collect();
        let by = ["model", "isl"].map(|name| column(name).unwrap());
        let found = scenarios(&runs, &by, bounded);
        let show = |scenario: &Scenario<'_>| {
            let values: Vec<String> = scenario.values.iter().map(ToString::to_string).collect();
            format!("{} x{}", values.join(" "), scenario.runs.len())
        };
        (found.scenarios.iter().map(show).collect(), found.missing)
    }

    #[test]
    fn unique_combinations_in_order() {
        let mut runs = vec![
            run(Some("b"), 900.0),
            run(None, 1.0),
            run(Some("a"), 10_000.0),
            run(Some("a"), 900.0),
            run(Some("a"), 900.0),
        ];
        let expected = (vec!["a 900 x2".to_owned(), "a 10000 x1".to_owned(), "b 900 x1".to_owned()], 1);
        assert_eq!(shown(&runs, false), expected);
        let bounded = (vec!["a 900..10000 x3".to_owned(), "b 900 x1".to_owned()], 1);
        assert_eq!(shown(&runs, true), bounded);
        runs.reverse();
        assert_eq!(shown(&runs, false), expected);
        assert_eq!(shown(&runs, true), bounded);
    }
}
