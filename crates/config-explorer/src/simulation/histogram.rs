//! A histogram of times in bounded memory.

use super::NS_PER_MS;
use crate::workload::{Statistic, Statistics};

/// Buckets of every doubling of the value: their width is at most 1/128 of it.
const PER_OCTAVE: u64 = 128;
const OCTAVE_BITS: u32 = PER_OCTAVE.trailing_zeros();

/// Counts of times in nanoseconds. Below 256 ns every value has its own bucket.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    sum: u128,
    sum_of_squares: u128,
    min: u64,
    max: u64,
}

impl Histogram {
    pub(super) fn add(&mut self, ns: u64, count: u64) {
        if count == 0 {
            return;
        }
        let bucket = bucket(ns);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += count;
        self.min = if self.total == 0 { ns } else { self.min.min(ns) };
        self.max = self.max.max(ns);
        self.total += count;
        let weighted = u128::from(ns) * u128::from(count);
        self.sum += weighted;
        self.sum_of_squares += u128::from(ns) * weighted;
    }

    /// Adds what another one counted. Sums are whole, so that the order does not matter.
    pub(super) fn join(&mut self, other: &Self) {
        if other.total == 0 {
            return;
        }
        self.min = if self.total == 0 { other.min } else { self.min.min(other.min) };
        self.max = self.max.max(other.max);
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.total += other.total;
        self.sum += other.sum;
        self.sum_of_squares += other.sum_of_squares;
    }

    /// In milliseconds. Mean, deviation, minimum and maximum are exact, the percentiles to 0.4 %.
    pub(super) fn statistics_ms(&self) -> Statistics {
        let mut statistics = Statistics::default();
        if self.total == 0 {
            return statistics;
        }
        let mean = self.sum as f64 / self.total as f64;
        for statistic in Statistic::ALL {
            let ns = match (statistic, statistic.quantile()) {
                (Statistic::Stddev, _) => {
                    (self.sum_of_squares as f64 / self.total as f64 - mean * mean).max(0.0).sqrt()
                }
                (Statistic::Min, _) => self.min as f64,
                (Statistic::Max, _) => self.max as f64,
                (_, None) => mean,
                (_, Some(quantile)) => self.quantile(quantile),
            };
            statistics.set(statistic, Some(ns / NS_PER_MS));
        }
        statistics
    }

    fn quantile(&self, quantile: f64) -> f64 {
        let rank = (quantile * (self.total - 1) as f64).round() as u64;
        let mut before = 0;
        let bucket = self.counts.iter().position(|&count| {
            before += count;
            before > rank
        });
        let (low, width) = bounds(bucket.unwrap_or(self.counts.len()));
        (low as f64 + (width - 1) as f64 / 2.0).clamp(self.min as f64, self.max as f64)
    }
}

fn bucket(ns: u64) -> usize {
    let shift = (u64::BITS - ns.leading_zeros()).saturating_sub(OCTAVE_BITS + 1);
    (u64::from(shift) * PER_OCTAVE + (ns >> shift)) as usize
}

/// The least value of a bucket and how many there are.
fn bounds(bucket: usize) -> (u64, u64) {
    let shift = (bucket as u64 / PER_OCTAVE).saturating_sub(1);
    ((bucket as u64 - shift * PER_OCTAVE) << shift, 1 << shift)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_value_lies_in_its_bucket(ns in prop_oneof![0u64..600, 0..1u64 << 50]) {
            let (low, width) = bounds(bucket(ns));
            prop_assert!(low <= ns && ns < low + width && width <= 1 + ns / PER_OCTAVE);
        }

        #[test]
        fn percentiles_are_those_of_the_sample(sample in prop::collection::vec(1u64..1 << 40, 1..200)) {
            let mut histogram = Histogram::default();
            let (one, other) = sample.split_at(sample.len() / 2);
            one.iter().for_each(|&ns| histogram.add(ns, 1));
            let mut rest = Histogram::default();
            other.iter().for_each(|&ns| rest.add(ns, 1));
            histogram.join(&rest);
            let mut sorted = sample.clone();
            sorted.sort_unstable();
            let (actual, exact) = (
                histogram.statistics_ms(),
                Statistics::of_sample(sample.iter().map(|&ns| ns as f64 / NS_PER_MS).collect()),
            );
            for statistic in [Statistic::Mean, Statistic::Min, Statistic::Max] {
                let (actual, exact) = (actual.get(statistic).unwrap(), exact.get(statistic).unwrap());
                prop_assert!((actual / exact - 1.0).abs() < 1e-9);
            }
            for statistic in [Statistic::P50, Statistic::P99] {
                let rank = (statistic.quantile().unwrap() * (sorted.len() - 1) as f64).round() as usize;
                let exact = sorted[rank] as f64 / NS_PER_MS;
                prop_assert!((actual.get(statistic).unwrap() / exact - 1.0).abs() < 0.004);
            }
        }
    }
}
