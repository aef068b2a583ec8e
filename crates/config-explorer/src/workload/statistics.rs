//! The statistics of a sample, as benchmark report v0.2 lists them.

use std::fmt;

/// One statistic of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each name is the statistic")]
pub enum Statistic {
    Mean,
    Stddev,
    Min,
    P0p1,
    P1,
    P5,
    P10,
    P25,
    P50,
    P75,
    P90,
    P95,
    P99,
    P99p9,
    Max,
}

impl Statistic {
    /// Every statistic, in the order of the tables.
    pub const ALL: [Self; 15] = [
        Self::Mean,
        Self::Stddev,
        Self::Min,
        Self::P0p1,
        Self::P1,
        Self::P5,
        Self::P10,
        Self::P25,
        Self::P50,
        Self::P75,
        Self::P90,
        Self::P95,
        Self::P99,
        Self::P99p9,
        Self::Max,
    ];

    /// The name in columns and benchmark reports (`p0p1` is the 0.1st percentile).
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Stddev => "stddev",
            Self::Min => "min",
            Self::P0p1 => "p0p1",
            Self::P1 => "p1",
            Self::P5 => "p5",
            Self::P10 => "p10",
            Self::P25 => "p25",
            Self::P50 => "p50",
            Self::P75 => "p75",
            Self::P90 => "p90",
            Self::P95 => "p95",
            Self::P99 => "p99",
            Self::P99p9 => "p99p9",
            Self::Max => "max",
        }
    }

    /// The statistic by the name that any of the benchmark tools gives it.
    ///
    /// `0.1` is spelled `p0.1`, `p0p1` or `p001` (GuideLLM, whose `p999` is the 99.9th), the 50th percentile also
    /// `median`, and llm-d's converters write a capital `P25`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "mean" | "avg" => Self::Mean,
            "stddev" | "std" | "std_dev" => Self::Stddev,
            "min" => Self::Min,
            "p0p1" | "p0.1" | "p001" => Self::P0p1,
            "p1" | "p01" => Self::P1,
            "p5" | "p05" => Self::P5,
            "p10" => Self::P10,
            "p25" | "P25" => Self::P25,
            "p50" | "median" => Self::P50,
            "p75" => Self::P75,
            "p90" => Self::P90,
            "p95" => Self::P95,
            "p99" => Self::P99,
            "p99p9" | "p99.9" | "p999" => Self::P99p9,
            "max" => Self::Max,
            _ => return None,
        })
    }

    /// The quantile, 0 to 1; none for the mean and the standard deviation.
    pub fn quantile(self) -> Option<f64> {
        Some(match self {
            Self::Mean | Self::Stddev => return None,
            Self::Min => 0.0,
            Self::P0p1 => 0.001,
            Self::P1 => 0.01,
            Self::P5 => 0.05,
            Self::P10 => 0.1,
            Self::P25 => 0.25,
            Self::P50 => 0.5,
            Self::P75 => 0.75,
            Self::P90 => 0.9,
            Self::P95 => 0.95,
            Self::P99 => 0.99,
            Self::P99p9 => 0.999,
            Self::Max => 1.0,
        })
    }
}

/// The statistics of one quantity. Each is present or not; a present one is finite.
#[derive(Clone)]
pub struct Statistics([f64; Statistic::ALL.len()]);

impl PartialEq for Statistics {
    fn eq(&self, other: &Self) -> bool {
        Statistic::ALL.into_iter().all(|statistic| self.get(statistic) == other.get(statistic))
    }
}

impl fmt::Debug for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(statistic, value)| (statistic.name(), value))).finish()
    }
}

impl Default for Statistics {
    fn default() -> Self {
        Self([f64::NAN; Statistic::ALL.len()])
    }
}

impl Statistics {
    /// Only a mean.
    pub fn of_mean(mean: f64) -> Self {
        let mut statistics = Self::default();
        statistics.set(Statistic::Mean, Some(mean));
        statistics
    }

    /// The statistics of a sample: the mean, the population's standard deviation, and percentiles with linear
    /// interpolation (as numpy's default). Empty for an empty sample. Values that are not finite are left out.
    pub fn of_sample(mut values: Vec<f64>) -> Self {
        values.retain(|value| value.is_finite());
        values.sort_unstable_by(f64::total_cmp);
        let mut statistics = Self::default();
        let Some(last) = values.len().checked_sub(1) else { return statistics };
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        for statistic in Statistic::ALL {
            let value = match (statistic, statistic.quantile()) {
                (Statistic::Stddev, _) => variance.sqrt(),
                (_, None) => mean,
                (_, Some(quantile)) => {
                    let position = quantile * last as f64;
                    let below = position.floor() as usize;
                    let above = position.ceil() as usize;
                    values[below] + (values[above] - values[below]) * position.fract()
                }
            };
            statistics.set(statistic, Some(value));
        }
        statistics
    }

    /// One statistic.
    pub fn get(&self, statistic: Statistic) -> Option<f64> {
        Some(self.0[statistic as usize]).filter(|value| !value.is_nan())
    }

    /// Sets one statistic; what is not finite is missing.
    pub fn set(&mut self, statistic: Statistic, value: Option<f64>) {
        self.0[statistic as usize] = value.filter(|value| value.is_finite()).unwrap_or(f64::NAN);
    }

    /// The mean.
    pub fn mean(&self) -> Option<f64> {
        self.get(Statistic::Mean)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|value| value.is_nan())
    }

    /// Those that are present, in the order of [`Statistic::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Statistic, f64)> + '_ {
        Statistic::ALL.into_iter().filter_map(|statistic| Some((statistic, self.get(statistic)?)))
    }

    /// Every value times `factor` (seconds to milliseconds).
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        self.iter().map(|(statistic, value)| (statistic, value * factor)).collect()
    }
}

impl FromIterator<(Statistic, f64)> for Statistics {
    fn from_iter<I: IntoIterator<Item = (Statistic, f64)>>(values: I) -> Self {
        let mut statistics = Self::default();
        for (statistic, value) in values {
            statistics.set(statistic, Some(value));
        }
        statistics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_all_is_the_order_of_the_array() {
        for (index, statistic) in Statistic::ALL.into_iter().enumerate() {
            assert_eq!(statistic as usize, index);
            assert_eq!(Statistic::from_name(statistic.name()), Some(statistic));
        }
    }

    #[test]
    fn sample_percentiles_interpolate() {
        let statistics = Statistics::of_sample(vec![4.0, 1.0, 3.0, 2.0, f64::NAN]);
        assert_eq!(statistics.mean(), Some(2.5));
        assert_eq!(statistics.get(Statistic::P50), Some(2.5));
        assert_eq!(statistics.get(Statistic::P25), Some(1.75));
        assert_eq!(statistics.get(Statistic::Max), Some(4.0));
        assert_eq!(statistics.get(Statistic::Stddev), Some(1.25_f64.sqrt()));
        assert!(Statistics::of_sample(Vec::new()).is_empty());
    }

    #[test]
    fn what_is_not_finite_is_missing() {
        let statistics = Statistics::of_mean(f64::INFINITY);
        assert!(statistics.is_empty());
    }
}
