//! Types that read what result files really hold: numbers written as text, `null` for anything, statistics under the
//! keys of ten tools. A value of another shape than expected is missing, not an error, so that one odd field does not
//! lose a file.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Statistic, Statistics};

/// A value that is neither a map nor a list; those are missing.
enum Scalar {
    Missing,
    Boolean(bool),
    Number(f64),
    Text(String),
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Missing)
    }

    fn visit_none<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Missing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Scalar, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Scalar, A::Error> {
        IgnoredAny.visit_seq(seq).map(|_| Scalar::Missing)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Scalar, A::Error> {
        IgnoredAny.visit_map(map).map(|_| Scalar::Missing)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

/// A number, also as text (`"inf"`, `"3.6"`). Never NaN; may be infinite.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Number(pub(super) Option<f64>);

impl Number {
    /// A number from text, as Python, YAML and JavaScript print it.
    pub(super) fn parse(text: &str) -> Self {
        let text = text.trim();
        let number = match text {
            ".inf" | "+.inf" => Some(f64::INFINITY),
            "-.inf" => Some(f64::NEG_INFINITY),
            _ => text.parse().ok(),
        };
        Self(number.filter(|number: &f64| !number.is_nan()))
    }

    /// The number, unless it is infinite.
    pub(super) fn finite(self) -> Option<f64> {
        self.0.filter(|number| number.is_finite())
    }

    /// The number as a count: whole and not negative.
    pub(super) fn count(self) -> Option<u64> {
        let number = self.finite().filter(|&number| number >= 0.0 && number.fract() == 0.0 && number < 9e15)?;
        Some(number as u64)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Scalar::deserialize(deserializer)? {
            Scalar::Number(number) => Self(Some(number).filter(|number| !number.is_nan())),
            Scalar::Text(text) => Self::parse(&text),
            Scalar::Missing | Scalar::Boolean(_) => Self(None),
        })
    }
}

/// Text, also where the file has a number (`version: 0.2`). Never empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Text(pub(super) Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Scalar::deserialize(deserializer)? {
            Scalar::Text(text) => Some(text).filter(|text| !text.trim().is_empty()),
            Scalar::Number(number) => Some(number.to_string()),
            Scalar::Boolean(value) => Some(value.to_string()),
            Scalar::Missing => None,
        }))
    }
}

/// True or false, also as text.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Flag(pub(super) Option<bool>);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Scalar::deserialize(deserializer)? {
            Scalar::Boolean(value) => Some(value),
            Scalar::Text(text) => text.trim().to_ascii_lowercase().parse().ok(),
            Scalar::Number(_) | Scalar::Missing => None,
        }))
    }
}

/// The scalars of a visitor that only wants maps or lists: missing.
macro_rules! scalars_are_missing {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a value")
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_any(self)
        }
    };
}

/// A map, read as `T`; its default for everything else.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Map<T>(pub(super) T);

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Map<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for MapVisitor<T> {
            type Value = Map<T>;
            scalars_are_missing!();

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                IgnoredAny.visit_seq(seq).map(|_| Map::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Map)
            }
        }
        deserializer.deserialize_any(MapVisitor(PhantomData))
    }
}

impl<T> std::ops::Deref for Map<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A list; empty for everything else.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;
            scalars_are_missing!();

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(List)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                IgnoredAny.visit_map(map).map(|_| List::default())
            }
        }
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

impl<T> std::ops::Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

/// The statistics of one quantity with their unit, as every tool writes them: one map, or only a number (the mean).
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Block {
    /// `units` or `unit`.
    pub(super) unit: Option<String>,
    /// The statistics, in that unit.
    pub(super) values: Statistics,
}

enum BlockKey {
    Statistic(Statistic),
    Unit,
    Percentiles,
    Other,
}

impl<'de> Deserialize<'de> for BlockKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = BlockKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, key: &str) -> Result<BlockKey, E> {
                Ok(match key {
                    "units" | "unit" => BlockKey::Unit,
                    "percentiles" => BlockKey::Percentiles,
                    _ => Statistic::from_name(key).map_or(BlockKey::Other, BlockKey::Statistic),
                })
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

impl<'de> Deserialize<'de> for Block {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BlockVisitor;
        impl<'de> Visitor<'de> for BlockVisitor {
            type Value = Block;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("statistics")
            }

            fn visit_bool<E>(self, _: bool) -> Result<Block, E> {
                Ok(Block::default())
            }

            fn visit_i64<E>(self, value: i64) -> Result<Block, E> {
                Ok(Block { unit: None, values: Statistics::of_mean(value as f64) })
            }

            fn visit_u64<E>(self, value: u64) -> Result<Block, E> {
                Ok(Block { unit: None, values: Statistics::of_mean(value as f64) })
            }

            fn visit_f64<E>(self, value: f64) -> Result<Block, E> {
                Ok(Block { unit: None, values: Statistics::of_mean(value) })
            }

            fn visit_str<E>(self, _: &str) -> Result<Block, E> {
                Ok(Block::default())
            }

            fn visit_unit<E>(self) -> Result<Block, E> {
                Ok(Block::default())
            }

            fn visit_none<E>(self) -> Result<Block, E> {
                Ok(Block::default())
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Block, D::Error> {
                deserializer.deserialize_any(self)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Block, A::Error> {
                IgnoredAny.visit_seq(seq).map(|_| Block::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Block, A::Error> {
                let mut block = Block::default();
                while let Some(key) = map.next_key()? {
                    match key {
                        BlockKey::Statistic(statistic) => {
                            let value: Number = map.next_value()?;
                            // `p50` and `median` can stand side by side, one of them null.
                            if let Some(value) = value.finite() {
                                block.values.set(statistic, Some(value));
                            }
                        }
                        BlockKey::Unit => block.unit = map.next_value::<Text>()?.0,
                        BlockKey::Percentiles => {
                            let nested: Self::Value = map.next_value()?;
                            for (statistic, value) in nested.values.iter() {
                                block.values.set(statistic, Some(value));
                            }
                        }
                        BlockKey::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(block)
            }
        }
        deserializer.deserialize_any(BlockVisitor)
    }
}

impl Block {
    /// The mean, in the unit of the block.
    pub(super) fn mean(&self) -> Option<f64> {
        self.values.mean()
    }

    /// As milliseconds; `default` is the unit where the block gives none. None for a unit that is no time.
    pub(super) fn milliseconds(&self, default: TimeUnit) -> Option<Statistics> {
        let unit = self.unit.as_deref().map_or(Some(default), TimeUnit::from_name)?;
        Some(self.values.scaled(unit.milliseconds()))
    }
}

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeUnit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    Seconds,
}

impl TimeUnit {
    /// The unit by its name in any format (`ms`, `ms/token`, `sec`).
    fn from_name(name: &str) -> Option<Self> {
        Some(match name.strip_suffix("/token").unwrap_or(name) {
            "ns" | "nanoseconds" => Self::Nanoseconds,
            "us" | "µs" | "microseconds" => Self::Microseconds,
            "ms" | "milliseconds" => Self::Milliseconds,
            "s" | "sec" | "seconds" => Self::Seconds,
            _ => return None,
        })
    }

    pub(super) fn milliseconds(self) -> f64 {
        match self {
            Self::Nanoseconds => 1e-6,
            Self::Microseconds => 1e-3,
            Self::Milliseconds => 1.0,
            Self::Seconds => 1e3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Inner {
        rate: Number,
        name: Text,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Outer {
        inner: Map<Inner>,
        list: List<Text>,
        latency: Block,
    }

    fn read(json: &str) -> Outer {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_shape_is_read_or_missing() {
        let outer = read(r#"{"inner": {"rate": "inf", "name": 0.2}, "list": ["a", 1, null], "other": [{}]}"#);
        assert_eq!(outer.inner.rate, Number(Some(f64::INFINITY)));
        assert_eq!(outer.inner.name.0.as_deref(), Some("0.2"));
        assert_eq!(outer.list[1].0.as_deref(), Some("1"));
        for shape in ["null", "7", "\"x\"", "[1]", "{\"a\": 1}", "true"] {
            read(&format!(r#"{{"inner": {shape}, "list": {shape}, "latency": {shape}}}"#));
            read(&format!(r#"{{"inner": {{"rate": {shape}, "name": {shape}}}, "latency": {{"mean": {shape}}}}}"#));
        }
    }

    #[test]
    fn blocks_read_the_keys_of_every_tool() {
        let outer = read(
            r#"{"latency": {"units": "s/token", "avg": 2, "P25": 1, "median": null, "p50": 1.5, "percentiles": {"p001": 0.5, "p999": 9}}}"#,
        );
        let values = outer.latency.milliseconds(TimeUnit::Milliseconds).unwrap();
        let all: Vec<_> = values.iter().map(|(statistic, value)| (statistic.name(), value)).collect();
        assert_eq!(all, [("mean", 2000.0), ("p0p1", 500.0), ("p25", 1000.0), ("p50", 1500.0), ("p99p9", 9000.0)]);
        let wrong = read(r#"{"latency": {"units": "count", "mean": 1}}"#);
        assert_eq!(wrong.latency.milliseconds(TimeUnit::Milliseconds), None);
    }

    #[test]
    fn counts_are_whole() {
        assert_eq!(Number(Some(3.0)).count(), Some(3));
        for number in [Some(-1.0), Some(1.5), Some(f64::INFINITY), Some(1e300), None] {
            assert_eq!(Number(number).count(), None);
        }
    }
}
