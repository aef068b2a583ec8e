//! Which of two configurations is better, metric by metric.

use std::collections::HashMap;

use super::repeats::workload_key;
use super::{Filter, Spread, grouped};
use crate::reports::{Column, Direction, Group, Run, columns};
use crate::{Error, Result};

/// Which side of a comparison is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// The first.
    A,
    /// The second.
    B,
    /// They are equal.
    Neither,
}

/// One metric of two sides.
#[derive(Debug, Clone)]
pub struct MetricDifference {
    /// The metric.
    pub column: &'static Column,
    /// Its values on the first side.
    pub a: Spread,
    /// Its values on the second side.
    pub b: Spread,
}

impl MetricDifference {
    /// Mean of the second minus mean of the first, in the column's unit.
    pub fn difference(&self) -> f64 {
        self.b.mean - self.a.mean
    }

    /// Mean of the second over mean of the first. None where the first is 0.
    pub fn ratio(&self) -> Option<f64> {
        (self.a.mean != 0.0).then(|| self.b.mean / self.a.mean)
    }

    /// Which side is better by the column's direction.
    pub fn better(&self) -> Better {
        let (a, b) = (self.a.mean, self.b.mean);
        let lower = self.column.direction != Direction::Higher;
        if a < b {
            if lower { Better::A } else { Better::B }
        } else if b < a {
            if lower { Better::B } else { Better::A }
        } else {
            Better::Neither
        }
    }
}

/// Two sides under one workload and load.
#[derive(Debug, Clone)]
pub struct Comparison<'a> {
    /// Runs of the first side; at least one.
    pub a: Vec<&'a Run>,
    /// Runs of the second side; at least one.
    pub b: Vec<&'a Run>,
    /// Whether both sides were under the same workload and load. Otherwise the difference is not only theirs.
    pub same_workload: bool,
    /// Every metric with a direction that both sides have.
    pub metrics: Vec<MetricDifference>,
}

/// Compares two sides load by load: runs under the same workload and load are set beside each other, and repeated ones
/// averaged. Two single workloads are compared even where they differ. Empty where nothing can be set beside each other.
pub fn compare<'a>(a: &[&'a Run], b: &[&'a Run]) -> Vec<Comparison<'a>> {
    let [a, b] = [a, b].map(|runs| grouped(runs, workload_key));
    let others: HashMap<_, _> = b.iter().map(|(key, runs)| (key, runs)).collect();
    let mut comparisons: Vec<Comparison<'a>> =
        a.iter().filter_map(|(key, a)| Some(comparison(a, others.get(key)?, true))).collect();
    if let ([(_, a)], [(_, b)], true) = (a.as_slice(), b.as_slice(), comparisons.is_empty()) {
        comparisons.push(comparison(a, b, false));
    }
    comparisons
}

fn comparison<'a>(a: &[&'a Run], b: &[&'a Run], same_workload: bool) -> Comparison<'a> {
    let metrics = columns()
        .iter()
        .filter(|column| column.group == Group::Metric && column.direction != Direction::Neutral)
        .filter_map(|column| {
            let spread = |runs: &[&Run]| Spread::of(runs.iter().filter_map(|run| column.number(run)));
            Some(MetricDifference { column, a: spread(a)?, b: spread(b)? })
        })
        .collect();
    Comparison { a: a.to_vec(), b: b.to_vec(), same_workload, metrics }
}

/// The runs that a text means: those that a filter accepts (`tp=2`), or the one whose identity starts with it
/// (`3fa9c1d2`, or `3fa9c1d2-7` for the eighth run of a file).
///
/// # Errors
/// [`Error::Unknown`] where no run is meant, [`Error::Ambiguous`] for an identity that several runs share, and those of
/// [`Filter`].
pub fn runs_of<'a>(runs: &'a [Run], text: &str) -> Result<Vec<&'a Run>> {
    let unknown = || Error::Unknown { kind: "run", name: text.to_owned(), similar: Vec::new() };
    if text.contains(['=', '<', '>', '!']) {
        let filter: Filter = text.parse()?;
        let found: Vec<&Run> = runs.iter().filter(|run| filter.accepts(run)).collect();
        return if found.is_empty() { Err(unknown()) } else { Ok(found) };
    }
    let (digits, index) = text.split_once('-').map_or((text, None), |(digits, index)| (digits, Some(index)));
    let is_meant = |run: &&Run| {
        let id = run.id.to_string();
        id.starts_with(digits) && index.is_none_or(|index| run.id.index.to_string() == index)
    };
    let found: Vec<&Run> = if digits.is_empty() { Vec::new() } else { runs.iter().filter(is_meant).collect() };
    match found.as_slice() {
        [] => Err(unknown()),
        [_] => Ok(found),
        several => Err(Error::Ambiguous {
            kind: "run",
            name: text.to_owned(),
            candidates: several.iter().take(5).map(|run| run.short_id()).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::RunId;

    fn run(content: u8, tp: u64, concurrency: f64, tokens: f64) -> Run {
        let mut run = Run { id: RunId { content: [content; 32], index: 0 }, ..Run::default() };
        run.server.roles.both.get_or_insert_default().tp = Some(tp);
        run.workload.load.concurrency = Some(concurrency);
        run.throughput.output_tokens = Some(tokens);
        run.latency.ttft = crate::reports::Statistics::of_mean(tokens);
        run
    }

    #[test]
    fn sides_are_paired_by_load() {
        let runs = [
            run(1, 1, 8.0, 100.0),
            run(2, 1, 16.0, 150.0),
            run(3, 2, 16.0, 200.0),
            run(4, 2, 16.0, 250.0),
            run(5, 2, 32.0, 500.0),
        ];
        let side = |filter: &str| runs_of(&runs, filter).unwrap();
        let comparisons = compare(&side("tp=1"), &side("tp=2"));
        assert_eq!(comparisons.len(), 1);
        let [comparison] = comparisons.as_slice() else { panic!("one load in common") };
        assert!(comparison.same_workload);
        let find = |name: &str| comparison.metrics.iter().find(|metric| metric.column.name == name).unwrap();
        let tokens = find("out_tok_s");
        assert_eq!((tokens.b.count, tokens.difference(), tokens.ratio()), (2, 75.0, Some(1.5)));
        assert_eq!((tokens.better(), find("ttft_mean_ms").better()), (Better::B, Better::A));

        let different = compare(&side("01"), &side("05"));
        assert!(!different[0].same_workload);
        assert!(compare(&side("tp=1"), &side("05")).is_empty());
    }

    #[test]
    fn a_text_means_runs() {
        let mut runs = [run(0xab, 1, 1.0, 1.0), run(0xab, 2, 1.0, 1.0), run(0xcd, 2, 1.0, 1.0)];
        runs[1].id.index = 1;
        assert_eq!(runs_of(&runs, "abab-1").unwrap()[0].id.index, 1);
        assert_eq!(runs_of(&runs, "c").unwrap().len(), 1);
        assert_eq!(runs_of(&runs, "tp=2").unwrap().len(), 2);
        assert!(matches!(runs_of(&runs, "ab"), Err(Error::Ambiguous { .. })));
        for wrong in ["e", "ab-2", "", "-", "tp=4"] {
            assert!(matches!(runs_of(&runs, wrong), Err(Error::Unknown { .. })), "{wrong}");
        }
    }
}
