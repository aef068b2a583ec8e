//! Workload definitions of other tools, told apart by their keys and converted.
//!
//! A field that says nothing about what is sent (a server's address, what to report) is named in a warning, and so is
//! one that is not known: these formats grow.

mod guidellm;
mod inference_perf;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::WorkloadSpec;
use crate::{Error, Result, yaml};

/// What to take of a file that holds several workloads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The name of a workload.
    pub workload: Option<String>,
    /// The place of a stage, from 0. Without it, stages of rates follow each other, and one of several numbers of
    /// clients has to be chosen.
    pub stage: Option<usize>,
}

/// A workload of another tool, with warnings; none if the bytes are not one.
pub(super) fn read(bytes: &[u8], place: &str, selection: &Selection) -> Result<Option<(WorkloadSpec, Vec<String>)>> {
    let malformed = |reason: String| Error::Malformed { place: place.to_owned(), reason };
    let Some(document) = document(bytes).map_err(malformed)? else { return Ok(None) };
    let has = |key: &str| document.get(key).is_some_and(|value| !value.is_null());
    let mut notes = Notes::default();
    let fields = Fields { path: String::new(), map: document.clone() };
    let workload = if has("load") && has("data") {
        inference_perf::convert(fields, selection, &mut notes)
    } else if document.get("workload").is_some_and(Value::is_object) {
        inference_perf::convert_template(fields, selection, &mut notes)
    } else if has("data") || document.get("spec").is_some_and(Value::is_object) {
        guidellm::convert(fields, selection, &mut notes)
    } else {
        return Ok(None);
    };
    let workload = workload.map_err(malformed)?;
    Ok(Some((workload, notes.warnings(place))))
}

/// The map that a file holds: its only document, or the configuration inside a Kubernetes `ConfigMap` of it.
fn document(bytes: &[u8]) -> Result<Option<Map<String, Value>>, String> {
    fn object(value: Value) -> Option<Map<String, Value>> {
        if let Value::Object(map) = value { Some(map) } else { None }
    }
    #[derive(Deserialize)]
    struct ConfigMap {
        data: Map<String, Value>,
    }
    let text = String::from_utf8_lossy(bytes);
    if !text.lines().any(|line| line.trim_end() == "kind: ConfigMap") {
        return yaml::from_slice(bytes).map(object);
    }
    let mut part = String::new();
    for line in text.lines().chain(["---"]) {
        if line.trim_end() != "---" {
            part.push_str(line);
            part.push('\n');
            continue;
        }
        if let Ok(ConfigMap { data }) = yaml::from_slice(part.as_bytes()) {
            for file in data.values().filter_map(Value::as_str) {
                let inner = yaml::from_slice::<Value>(file.as_bytes())?;
                if inner.get("load").is_some() && inner.get("data").is_some() {
                    return Ok(object(inner));
                }
            }
        }
        part.clear();
    }
    Err("no ConfigMap of it holds a workload of inference-perf".to_owned())
}

/// What was not converted.
#[derive(Debug, Default)]
struct Notes {
    idle: Vec<String>,
    unknown: Vec<String>,
    said: Vec<String>,
}

impl Notes {
    fn say(&mut self, text: impl Into<String>) {
        self.said.push(text.into());
    }

    fn warnings(self, place: &str) -> Vec<String> {
        let Self { idle, unknown, said } = self;
        let list = |what: &str, names: Vec<String>| {
            (!names.is_empty()).then(|| format!("{place}: {what}: {}", names.join(", ")))
        };
        let said = said.into_iter().map(|text| format!("{place}: {text}"));
        said.chain(list("fields that say nothing about what is sent", idle))
            .chain(list("unknown fields", unknown))
            .collect()
    }
}

/// A map whose fields are taken one by one; what is left at the end is named.
struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    fn new(value: Value, path: String) -> Result<Self, String> {
        match value {
            Value::Object(map) => Ok(Self { path, map }),
            other => Err(format!("`{path}` is {other}, not a map")),
        }
    }

    /// The path of a field.
    fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.map.shift_remove(key).filter(|value| !value.is_null())
    }

    fn number(&mut self, key: &str) -> Result<Option<f64>, String> {
        let path = self.at(key);
        self.take(key).map(|value| number(&value, &path)).transpose()
    }

    /// A whole number.
    fn count(&mut self, key: &str) -> Result<Option<u32>, String> {
        let Some(number) = self.number(key)? else { return Ok(None) };
        if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number) {
            Ok(Some(number as u32))
        } else {
            Err(format!("`{}` is {number}, not a whole number", self.at(key)))
        }
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(format!("`{}` is {other}, not text", self.at(key))),
        }
    }

    fn section(&mut self, key: &str) -> Result<Option<Self>, String> {
        let path = self.at(key);
        self.take(key).map(|value| Self::new(value, path)).transpose()
    }

    fn sections(&mut self, key: &str) -> Result<Vec<Self>, String> {
        let path = self.at(key);
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => {
                list.into_iter().zip(0..).map(|(value, index)| Self::new(value, format!("{path}[{index}]"))).collect()
            }
            Some(other) => Err(format!("`{path}` is {other}, not a list")),
        }
    }

    /// What is left says nothing about what is sent, or is unknown.
    fn done(self, idle: &[&str], notes: &mut Notes) {
        for (key, value) in &self.map {
            if !value.is_null() {
                let list = if idle.contains(&&key[..]) { &mut notes.idle } else { &mut notes.unknown };
                list.push(self.at(key));
            }
        }
    }
}

fn number(value: &Value, path: &str) -> Result<f64, String> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) if text.trim().starts_with("${") => {
            return Err(format!("`{path}` is the variable {text}: fill the template in first (`envsubst`)"));
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite()).ok_or_else(|| format!("`{path}` is {value}, not a number"))
}

/// The only item, or the one that is selected.
fn select<T>(mut items: Vec<T>, what: &str, stage: Option<usize>) -> Result<T, String> {
    let count = items.len();
    match stage {
        Some(stage) if stage < count => Ok(items.swap_remove(stage)),
        Some(stage) => Err(format!("has no stage {stage}: `{what}` has {count}, from 0")),
        None if count == 1 => Ok(items.swap_remove(0)),
        None => Err(format!("`{what}` has {count} entries, each a run of its own: select a stage from 0 on")),
    }
}
