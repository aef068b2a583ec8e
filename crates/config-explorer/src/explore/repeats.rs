//! The same thing measured several times.

use super::{grouped, key, setting_columns};
use crate::reports::{Column, Group, Run, column};

/// Runs of one configuration under one workload and load.
#[derive(Debug, Clone, PartialEq)]
pub struct Repeats<'a> {
    /// The runs, in their order; at least one.
    pub runs: Vec<&'a Run>,
}

/// How a metric spreads over repeated runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Runs that have the metric.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Sample standard deviation (n - 1). None for a single run, which tells nothing about it.
    pub stddev: Option<f64>,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// The spread of some values; none without any.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Self {
            count,
            mean,
            stddev: (count > 1).then(|| (squares / (count - 1) as f64).sqrt()),
            min: values.iter().copied().reduce(f64::min)?,
            max: values.iter().copied().reduce(f64::max)?,
        })
    }
}

impl Repeats<'_> {
    /// How a metric spreads; none where no run has it.
    pub fn spread(&self, metric: &Column) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(|run| metric.number(run)))
    }
}

/// The workload and load of a run: everything that the load generator was told, and the lengths that it sent where it was
/// not told them.
pub(super) fn workload_key(run: &Run) -> Vec<Option<String>> {
    let lengths = ["isl", "osl"].into_iter().filter_map(|name| column(name).ok());
    key(run, setting_columns(Group::Workload).filter(|column| column.name != "load_generator").chain(lengths))
}

/// Groups runs of the same configuration, workload and load, in the order of their first runs.
pub fn repeats<'a>(runs: &[&'a Run]) -> Vec<Repeats<'a>> {
    let groups = grouped(runs, |run| (key(run, setting_columns(Group::Configuration)), workload_key(run)));
    groups.into_iter().map(|(_, runs)| Repeats { runs }).collect()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact in binary")]
mod tests {
    use super::*;

    #[test]
    fn spread_of_three() {
        let spread = Spread::of([1.0, 2.0, 3.0]).unwrap();
        assert_eq!((spread.count, spread.mean, spread.stddev, spread.min, spread.max), (3, 2.0, Some(1.0), 1.0, 3.0));
        assert_eq!(Spread::of([5.0]).unwrap().stddev, None);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn repeats_have_one_configuration_and_one_load() {
        let run = |tp: u64, concurrency: f64, tokens: f64| {
            let mut run = Run::default();
            run.server.roles.both.get_or_insert_default().tp = Some(tp);
            run.workload.load.concurrency = Some(concurrency);
            run.throughput.output_tokens = Some(tokens);
            run
        };
        let runs = [run(1, 8.0, 10.0), run(2, 8.0, 1.0), run(1, 8.0, 20.0), run(1, 9.0, 1.0)];
        let groups = repeats(&runs.iter().collect::<Vec<_>>());
        assert_eq!(groups.iter().map(|group| group.runs.len()).collect::<Vec<_>>(), [2, 1, 1]);
        let metric = column("out_tok_s").unwrap();
        assert_eq!(groups[0].spread(metric).unwrap().mean, 15.0);
        assert_eq!(groups[0].spread(column("ttft_mean_ms").unwrap()), None);
    }
}
