//! Numbers that are drawn: tokens, turns, seconds.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::{LengthDistribution, LengthShape};
use crate::{Error, Result};

/// What a number is drawn from. In YAML a plain number, which is then fixed, or a map.
#[derive(Debug, Clone, PartialEq)]
pub enum Distribution {
    /// One of the known shapes. What is drawn beyond `min` and `max` becomes the limit.
    Shaped(LengthDistribution),
    /// Values, or ranges of values, with weights.
    Histogram(Histogram),
    /// A column of a CSV file. [`read_workload`](super::read_workload) replaces it by the histogram of its values.
    File {
        /// The file.
        file: PathBuf,
        /// Name of the column.
        column: String,
    },
}

/// Ranges of values with weights: at least one, and a sum of weights above 0. Values are uniform in a range.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram(Arc<[Bin]>);

/// A range of a [`Histogram`].
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bin {
    min: f64,
    max: f64,
    /// Sum of the weights up to and with this one, as a part of all.
    cumulated: f64,
}

impl Histogram {
    /// Of (smallest value, largest value, weight).
    ///
    /// # Errors
    /// Says what is wrong with the values or the weights.
    pub fn new(bins: impl IntoIterator<Item = (f64, f64, f64)>) -> Result<Self, String> {
        let mut bins: Vec<_> = bins.into_iter().collect();
        bins.retain(|&(.., weight)| weight != 0.0);
        let mut sum = 0.0;
        let mut cumulated = Vec::with_capacity(bins.len());
        for (min, max, weight) in bins {
            if !(min <= max && min.is_finite() && max.is_finite() && weight > 0.0 && weight.is_finite()) {
                return Err(format!("the range {min} to {max} of weight {weight}: give finite numbers in order"));
            }
            sum += weight;
            cumulated.push(Bin { min, max, cumulated: sum });
        }
        if cumulated.is_empty() || !sum.is_finite() {
            return Err("has no values with a weight above 0".to_owned());
        }
        cumulated.iter_mut().for_each(|bin| bin.cumulated /= sum);
        Ok(Self(cumulated.into()))
    }

    /// The value at two uniform numbers between 0 and 1: which range, and where in it.
    pub(crate) fn value([which, place]: [f64; 2], Self(bins): &Self) -> f64 {
        let index = bins.partition_point(|bin| bin.cumulated < which).min(bins.len() - 1);
        bins[index].min + (bins[index].max - bins[index].min) * place
    }

    /// The smallest and the largest value.
    fn extremes(&self) -> (f64, f64) {
        let min = self.0.iter().map(|bin| bin.min).fold(f64::INFINITY, f64::min);
        (min, self.0.iter().map(|bin| bin.max).fold(0.0, f64::max))
    }
}

impl Distribution {
    /// Always the same.
    pub fn fixed(value: f64) -> Self {
        Self::Shaped(LengthDistribution::fixed(value))
    }

    /// Refuses what cannot be drawn from; `setting` is its name.
    pub(crate) fn check(&self, setting: &str) -> Result<()> {
        let refuse =
            |reason: &str| Err(Error::InvalidSetting { setting: setting.to_owned(), reason: reason.to_owned() });
        let in_range = |value: f64| (0.0..=f64::from(1u32 << 30)).contains(&value);
        let LengthDistribution { shape, mean, stddev, min, max } = match self {
            Self::Shaped(distribution) => *distribution,
            Self::Histogram(histogram) => {
                let (min, max) = histogram.extremes();
                return if in_range(min) && in_range(max) { Ok(()) } else { refuse(RANGE) };
            }
            Self::File { .. } => return refuse("the file has not been read"),
        };
        if ![Some(mean), stddev, min, max].into_iter().flatten().all(in_range) || min > max.or(Some(f64::INFINITY)) {
            return refuse(RANGE);
        }
        match shape {
            LengthShape::Fixed => Ok(()),
            LengthShape::Uniform if min.is_some() && max.is_some() => Ok(()),
            LengthShape::Uniform => refuse("a uniform distribution needs `min` and `max`"),
            LengthShape::Exponential if mean > 0.0 => Ok(()),
            LengthShape::Exponential => refuse("an exponential distribution needs a mean above 0"),
            LengthShape::Pareto if mean > 0.0 && stddev.is_some_and(|stddev| stddev > 0.0) => Ok(()),
            LengthShape::Pareto => refuse("a Pareto distribution needs a mean and a standard deviation above 0"),
            LengthShape::Gaussian | LengthShape::Lognormal if stddev.is_some() && mean > 0.0 => Ok(()),
            LengthShape::Gaussian | LengthShape::Lognormal => {
                refuse("a normal or lognormal distribution needs a mean above 0 and a standard deviation")
            }
            LengthShape::Other => refuse("the distribution is not known: give its shape"),
        }
    }
}

const RANGE: &str = "values must lie between 0 and 2^30, the smallest not above the largest";

impl From<LengthDistribution> for Distribution {
    fn from(distribution: LengthDistribution) -> Self {
        Self::Shaped(distribution)
    }
}

/// A shape with its parameters, values with weights, or a file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Document {
    /// The shape. Without it: `normal` where a standard deviation is given, else `uniform` where only `min` and `max`
    /// are, else `fixed`.
    distribution: Option<Shape>,
    /// Mean before cutting off. Not of `uniform`.
    mean: Option<f64>,
    /// Standard deviation of the values (not of their logarithm). Of `normal`, `lognormal` and `pareto`.
    stddev: Option<f64>,
    /// What is drawn below becomes this.
    min: Option<f64>,
    /// What is drawn above becomes this.
    max: Option<f64>,
    /// Values to choose from.
    values: Option<Vec<f64>>,
    /// A weight for each value; all are equal without it.
    weights: Option<Vec<f64>>,
    /// Ranges to choose from.
    histogram: Option<Vec<Range>>,
    /// A CSV file, relative to the workload file; its values are chosen from with equal weights.
    file: Option<PathBuf>,
    /// The column of the file.
    column: Option<String>,
}

/// A range of values with a weight.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Range {
    /// Smallest value.
    min: f64,
    /// Largest value.
    max: f64,
    /// How often, relative to the other ranges.
    weight: f64,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Shape {
    Fixed,
    Uniform,
    #[serde(alias = "gaussian")]
    Normal,
    Lognormal,
    Exponential,
    Pareto,
}

impl Document {
    fn resolve(self) -> Result<Distribution, String> {
        let Self { distribution, mean, stddev, min, max, values, weights, histogram, file, column } = self;
        let shaped = distribution.is_some() || [mean, stddev, min, max].iter().any(Option::is_some);
        match (shaped, values, histogram, file) {
            (true, None, None, None) => {
                if weights.is_some() || column.is_some() {
                    return Err("`weights` belongs to `values`, and `column` to `file`".to_owned());
                }
                let shape = distribution.unwrap_or(match (mean, stddev, min, max) {
                    (_, Some(_), ..) => Shape::Normal,
                    (None, None, Some(_), Some(_)) => Shape::Uniform,
                    _ => Shape::Fixed,
                });
                let middle = || Some(f64::midpoint(min?, max?));
                let mean = match shape {
                    Shape::Uniform => middle().ok_or("a uniform distribution needs `min` and `max`")?,
                    _ => mean.ok_or("give a `mean`")?,
                };
                let shape = match shape {
                    Shape::Fixed => LengthShape::Fixed,
                    Shape::Uniform => LengthShape::Uniform,
                    Shape::Normal => LengthShape::Gaussian,
                    Shape::Lognormal => LengthShape::Lognormal,
                    Shape::Exponential => LengthShape::Exponential,
                    Shape::Pareto => LengthShape::Pareto,
                };
                Ok(Distribution::Shaped(LengthDistribution { shape, mean, stddev, min, max }))
            }
            (false, Some(values), None, None) => {
                let weights = weights.unwrap_or_else(|| vec![1.0; values.len()]);
                if weights.len() != values.len() {
                    return Err(format!("{} values have {} weights", values.len(), weights.len()));
                }
                let bins = values.into_iter().zip(weights).map(|(value, weight)| (value, value, weight));
                Histogram::new(bins).map(Distribution::Histogram)
            }
            (false, None, Some(ranges), None) => {
                let bins = ranges.into_iter().map(|range| (range.min, range.max, range.weight));
                Histogram::new(bins).map(Distribution::Histogram)
            }
            (false, None, None, Some(file)) => {
                Ok(Distribution::File { file, column: column.ok_or("name the `column` of the file")? })
            }
            _ => Err("give one of a shape (`distribution`, `mean`, ...), `values`, `histogram` and `file`".to_owned()),
        }
    }
}

struct DistributionVisitor;

impl<'de> Visitor<'de> for DistributionVisitor {
    type Value = Distribution;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a map with `distribution`, `mean`, `stddev`, `min`, `max`")
    }

    fn visit_u64<E>(self, value: u64) -> Result<Distribution, E> {
        Ok(Distribution::fixed(value as f64))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Distribution, E> {
        Ok(Distribution::fixed(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Distribution, E> {
        Ok(Distribution::fixed(value))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Distribution, A::Error> {
        Document::deserialize(MapAccessDeserializer::new(map))?.resolve().map_err(A::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Distribution {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DistributionVisitor)
    }
}

impl JsonSchema for Distribution {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Distribution".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let document = generator.subschema_for::<Document>();
        json_schema!({ "anyOf": [{ "type": "number", "minimum": 0 }, document] })
    }
}
