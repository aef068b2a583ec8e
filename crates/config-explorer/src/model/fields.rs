//! Reading fields of a configuration file, with errors that name the file and the field, and bounds on every number.

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Largest number of layers, heads, groups, and of the width of a head.
pub(super) const MAX_COUNT: u64 = 1 << 12;
/// Largest width of a matrix.
pub(super) const MAX_WIDTH: u64 = 1 << 20;
/// Largest vocabulary.
pub(super) const MAX_VOCABULARY: u64 = 1 << 24;
/// Largest number of experts.
pub(super) const MAX_EXPERTS: u64 = 1 << 16;
/// Longest sequence, in tokens.
pub(super) const MAX_LENGTH: u64 = 1 << 32;

/// One object of a configuration file.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    /// File, for errors.
    place: &'a str,
    /// Path of the object in the file: empty, or ending in a dot.
    path: String,
    /// Values of fields that are left out (booleans as 0 and 1).
    defaults: &'static [(&'static str, u64)],
}

impl<'a> Fields<'a> {
    /// The fields of a whole file.
    pub(super) fn new(value: &'a Value, place: &'a str) -> Result<Self> {
        let map = value.as_object().ok_or_else(|| Error::Malformed {
            place: place.to_owned(),
            reason: "is not a JSON object; a model's `config.json` is expected".to_owned(),
        })?;
        Ok(Self { map, place, path: String::new(), defaults: &[] })
    }

    /// The same, with values for fields that are left out.
    pub(super) fn with_defaults(mut self, defaults: &'static [(&'static str, u64)]) -> Self {
        self.defaults = defaults;
        self
    }

    /// An error about one field.
    pub(super) fn error(&self, name: &str, reason: impl Into<String>) -> Error {
        Error::Malformed { place: format!("{}: `{}{name}`", self.place, self.path), reason: reason.into() }
    }

    /// Whether the field is there and not null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The value of a field that is there and not null.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A nested object.
    pub(super) fn object(&self, name: &str) -> Option<Self> {
        let map = self.value(name)?.as_object()?;
        Some(Self { map, place: self.place, path: format!("{}{name}.", self.path), defaults: &[] })
    }

    /// A list of objects, up to the first element that is none.
    pub(super) fn objects(&self, name: &str) -> Option<Vec<Self>> {
        let maps = self.list(name)?.iter().map_while(Value::as_object).enumerate();
        let element = |(index, map)| Self {
            map,
            place: self.place,
            path: format!("{}{name}[{index}].", self.path),
            defaults: &[],
        };
        Some(maps.map(element).collect())
    }

    /// Names of the fields, in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.map.keys().map(String::as_str)
    }

    /// A string.
    pub(super) fn string(&self, name: &str) -> Option<&'a str> {
        self.value(name)?.as_str()
    }

    /// A list.
    pub(super) fn list(&self, name: &str) -> Option<&'a [Value]> {
        self.value(name)?.as_array().map(Vec::as_slice)
    }

    /// A list of strings; other elements are left out.
    pub(super) fn strings(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.list(name).unwrap_or_default().iter().filter_map(Value::as_str)
    }

    /// A boolean, also written as a number; its default, or `false`, if it is not there.
    pub(super) fn flag(&self, name: &str) -> bool {
        match self.map.get(name) {
            Some(Value::Bool(value)) => *value,
            Some(Value::Number(value)) => value.as_f64() != Some(0.0),
            Some(_) => false,
            None => self.default(name).is_some_and(|value| value != 0),
        }
    }

    /// Whether a boolean is there, or has a default, and is false.
    pub(super) fn is_off(&self, name: &str) -> bool {
        (self.has(name) || self.default(name).is_some()) && !self.flag(name)
    }

    /// A floating-point number.
    pub(super) fn float(&self, name: &str) -> Option<f64> {
        self.value(name)?.as_f64()
    }

    /// The first of several names that is there, as a whole number up to `max`; else the first default.
    pub(super) fn size(&self, names: &[&str], max: u64) -> Result<Option<u64>> {
        for name in names {
            if let Some(value) = self.value(name) {
                return whole(value, max).map(Some).map_err(|reason| self.error(name, reason));
            }
        }
        // A field that is spelled out as null asks for the rule of its absence, not for the default.
        Ok(names.iter().filter(|name| !self.map.contains_key(**name)).find_map(|name| self.default(name)))
    }

    /// Like [`Self::size`], of a field that may hold one number for each layer.
    pub(super) fn size_at(&self, names: &[&str], layer: usize, max: u64) -> Result<Option<u64>> {
        for name in names {
            if let Some(list) = self.list(name) {
                // Lists that are shorter than the model are for kinds of layers, not for layers; the first applies.
                let value = list.get(layer).or(list.first());
                return value.map(|value| whole(value, max)).transpose().map_err(|reason| self.error(name, reason));
            }
        }
        self.size(names, max)
    }

    /// Like [`Self::size`], of a field that has to be there and positive.
    pub(super) fn required(&self, names: &[&str], max: u64) -> Result<u64> {
        match self.size(names, max)? {
            Some(0) => Err(self.error(names[0], "is 0")),
            Some(value) => Ok(value),
            None => {
                let others = match &names[1..] {
                    [] => String::new(),
                    others => format!(" (nor `{}`)", others.join("`, `")),
                };
                Err(self.error(names[0], format!("is missing{others}, and the model cannot be sized without it")))
            }
        }
    }

    /// A list of whole numbers up to `max`, of exactly `length` elements.
    pub(super) fn sizes(&self, name: &str, length: usize, max: u64) -> Result<Option<Vec<u64>>> {
        let Some(list) = self.list(name) else { return Ok(None) };
        if list.len() < length {
            return Err(self.error(name, format!("has {} elements for {length} layers", list.len())));
        }
        let sizes = list[..length].iter().map(|value| whole(value, max));
        sizes.collect::<Result<_, _>>().map(Some).map_err(|reason| self.error(name, reason))
    }

    /// The value of a field that is left out.
    fn default(&self, name: &str) -> Option<u64> {
        self.defaults.iter().find(|(field, _)| *field == name).map(|(_, value)| *value)
    }
}

/// A JSON number (or boolean) that is a whole number up to `max`.
fn whole(value: &Value, max: u64) -> Result<u64, String> {
    let number = match value {
        Value::Bool(flag) => Some(u64::from(*flag)),
        Value::Number(number) => number.as_u64().or_else(|| {
            number
                .as_f64()
                .filter(|float| (0.0..1e15).contains(float) && float.fract() == 0.0)
                .map(|float| float as u64)
        }),
        _ => None,
    };
    match number {
        Some(number) if number <= max => Ok(number),
        Some(number) => Err(format!("{number} is above what any model has ({max})")),
        None => Err(format!("{value} is not a whole number")),
    }
}

/// Parses JSON as Python writes it: `NaN` and `Infinity`, which JSON has not, read as null.
pub(super) fn parse_json(text: &str, place: &str) -> Result<Value> {
    serde_json::from_str(text).or_else(|error| {
        serde_json::from_str(&without_python_constants(text))
            .map_err(|_| Error::Malformed { place: place.to_owned(), reason: format!("is not valid JSON: {error}") })
    })
}

/// The text with Python's number constants outside of strings replaced by null.
fn without_python_constants(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(next) = rest.chars().next() {
        let constant = ["-Infinity", "Infinity", "NaN"].iter().find(|name| !in_string && rest.starts_with(**name));
        if let Some(name) = constant {
            result.push_str("null");
            rest = &rest[name.len()..];
            continue;
        }
        let mut taken = next.len_utf8();
        match next {
            '"' => in_string = !in_string,
            '\\' if in_string => taken += rest[taken..].chars().next().map_or(0, char::len_utf8),
            _ => {}
        }
        result.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_constants_read_as_null_outside_of_strings() {
        let value = parse_json(r#"{"a": [0.0, Infinity, -Infinity, NaN], "NaN \"Infinity": "Infinity"}"#, "f").unwrap();
        assert_eq!(value["a"], serde_json::json!([0.0, null, null, null]));
        assert_eq!(value["NaN \"Infinity"], "Infinity");
    }

    #[test]
    fn errors_name_file_and_field() {
        let value =
            parse_json(r#"{"text_config": {"hidden_size": 10000000000, "layers": 1.5}}"#, "config.json").unwrap();
        let text = Fields::new(&value, "config.json").unwrap().object("text_config").unwrap();
        let error = text.required(&["hidden_size"], MAX_WIDTH).unwrap_err().to_string();
        assert_eq!(error, "config.json: `text_config.hidden_size`: 10000000000 is above what any model has (1048576)");
        let error = text.size(&["layers"], MAX_COUNT).unwrap_err().to_string();
        assert!(error.ends_with("`text_config.layers`: 1.5 is not a whole number"), "{error}");
        let error = text.required(&["vocab_size", "n_vocab"], MAX_VOCABULARY).unwrap_err().to_string();
        assert!(error.contains("`text_config.vocab_size`: is missing (nor `n_vocab`)"), "{error}");
        assert!(parse_json("{", "config.json").unwrap_err().to_string().contains("line 1"));
    }
}
