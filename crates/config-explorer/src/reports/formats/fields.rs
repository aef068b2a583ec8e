//! Results that are one flat object: `vllm bench serve`, SGLang's `bench_serving`, InferenceX.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::reports::lenient::{Number, Text, TimeUnit};
use crate::reports::{Run, Statistic, Statistics};

/// Longer texts are outputs, not settings.
const TEXT_BYTES_MAX: usize = 4096;

/// The scalars of an object by their key. Lists and objects in it (outputs of every request) are passed over.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fields(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::default();
                while let Some(key) = map.next_key::<String>()? {
                    if let Text(Some(text)) = map.next_value()?
                        && text.len() <= TEXT_BYTES_MAX
                    {
                        fields.0.insert(key, text);
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

impl FromIterator<(String, String)> for Fields {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

impl IntoIterator for Fields {
    type Item = (String, String);
    type IntoIter = std::collections::btree_map::IntoIter<String, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Fields {
    /// Takes a text.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }

    /// Takes a number, which may be infinite.
    pub(super) fn number(&mut self, key: &str) -> Option<f64> {
        Number::parse(&self.text(key)?).0
    }

    /// Takes a finite number.
    pub(super) fn finite(&mut self, key: &str) -> Option<f64> {
        self.number(key).filter(|number| number.is_finite())
    }

    /// Takes a count.
    pub(super) fn count(&mut self, key: &str) -> Option<u64> {
        Number(self.number(key)).count()
    }

    /// Takes true or false.
    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        self.text(key)?.to_ascii_lowercase().parse().ok()
    }

    /// Takes the statistics of a latency in milliseconds: keys `{statistic}_{name}`.
    pub(super) fn latency(&mut self, name: &str, unit: TimeUnit) -> Statistics {
        self.statistics(name).scaled(unit.milliseconds())
    }

    /// Takes the statistics under the keys `{statistic}_{name}`.
    pub(super) fn statistics(&mut self, name: &str) -> Statistics {
        let mut statistics = Statistics::default();
        self.0.retain(|key, value| {
            let short = key.strip_suffix(name).and_then(|key| key.strip_suffix('_'));
            let Some(statistic) = short.and_then(Statistic::from_name) else { return true };
            statistics.set(statistic, Number::parse(value).finite());
            false
        });
        statistics
    }

    /// Keeps what nobody took with the run.
    pub(super) fn rest_to_extra(self, run: &mut Run) {
        run.extra.extend(self.0);
    }
}
