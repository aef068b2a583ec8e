//! GuideLLM's scenarios: of today (`spec`) and before (the options of its command line).
//!
//! Source: `guidellm/benchmark/scenarios` and `SyntheticTextDataArgs` of vllm-project/guidellm.

use serde_json::{Map, Value};

use super::{Fields, Notes, Selection, number, select};
use crate::workload::{Arrivals, ClassSpec, Distribution, Gaps, LengthDistribution, Prefix, Session, WorkloadSpec};
use crate::yaml;

/// Parts that say how to measure, not what is sent.
const IDLE: [&str; 24] = [
    "benchmarks",
    "metrics",
    "backend",
    "backend_kwargs",
    "backend_type",
    "data_column_mapper",
    "data_finalizer",
    "data_loader",
    "data_preprocessors",
    "description",
    "metadata",
    "model",
    "outputs",
    "output_dir",
    "output_formats",
    "processor",
    "random_seed",
    "request_type",
    "sample_requests",
    "seed",
    "target",
    "tokenizer",
    "warmup",
    "cooldown",
];

pub(super) fn convert(mut fields: Fields, selection: &Selection, notes: &mut Notes) -> Result<WorkloadSpec, String> {
    if let Some(spec) = fields.section("spec")? {
        fields.done(&IDLE, notes);
        return convert(spec, selection, notes);
    }
    // Files of its command line's options have either spelling.
    fields.map = fields.map.into_iter().map(|(key, value)| (key.replace('-', "_"), value)).collect();
    let mut workload = WorkloadSpec {
        requests: fields.count("max_requests")?,
        duration_s: fields.number("max_seconds")?,
        ..WorkloadSpec::default()
    };
    for mut constraint in fields.sections("constraints")? {
        match constraint.text("kind")?.as_deref() {
            Some("max_requests") => workload.requests = constraint.count("count")?,
            Some("max_duration" | "max_seconds") => {
                workload.duration_s = constraint.number("seconds")?.or(constraint.number("duration")?);
            }
            Some(other) => notes.say(format!("`{}`: the constraint `{other}` is not kept", constraint.path)),
            None => {}
        }
        constraint.done(&["stopping_scope"], notes);
    }
    convert_profile(&mut fields, selection, &mut workload, notes)?;
    let path = fields.at("data");
    let data = match fields.take("data").ok_or("has no `data`")? {
        Value::Array(list) => select(list, &path, None)?,
        other => other,
    };
    convert_data(data_fields(data, path)?, &mut workload, notes)?;
    fields.done(&IDLE, notes);
    Ok(workload)
}

fn convert_profile(
    fields: &mut Fields,
    selection: &Selection,
    workload: &mut WorkloadSpec,
    notes: &mut Notes,
) -> Result<(), String> {
    let mut rates = numbers(fields, "rate")?;
    let rate_type = fields.text("rate_type")?;
    let kind = match fields.take("profile") {
        None => rate_type,
        Some(Value::String(kind)) => Some(kind),
        Some(profile) => {
            let mut profile = Fields::new(profile, fields.at("profile"))?;
            for key in ["rate", "streams"] {
                rates.extend(numbers(&mut profile, key)?);
            }
            let kind = profile.text("kind")?.or(profile.text("type_")?);
            // Its cap is the tool's own limit, not the load's.
            profile.done(&["max_concurrency", "rampup_duration", "warmup", "cooldown", "random_seed"], notes);
            kind
        }
    };
    let path = fields.at("rate");
    let mut rate = || select(std::mem::take(&mut rates), &path, selection.stage);
    let closed = |clients: f64| Arrivals::Closed { clients: clients as u32, think_time_s: Distribution::fixed(0.0) };
    let open = |rate_per_s: f64, gaps| Arrivals::Open { rate_per_s, gaps, concurrency: None };
    workload.arrivals = match kind.as_deref() {
        Some("synchronous") => Some(closed(1.0)),
        Some("concurrent") => Some(closed(rate()?)),
        Some("throughput") => Some(open(f64::INFINITY, Gaps::Constant)),
        Some("constant" | "async") => Some(open(rate()?, Gaps::Constant)),
        Some("poisson") => Some(open(rate()?, Gaps::Poisson)),
        Some("sweep") | None => {
            notes.say("a sweep finds its rates by measuring: give a rate");
            None
        }
        Some(other) => return Err(format!("the profile `{other}` is not known")),
    };
    Ok(())
}

/// A number, or several in a list or in text with commas.
fn numbers(fields: &mut Fields, key: &str) -> Result<Vec<f64>, String> {
    let path = fields.at(key);
    match fields.take(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(|value| number(value, &path)).collect(),
        Some(Value::String(text)) => text.split(',').map(|part| number(&Value::from(part.trim()), &path)).collect(),
        Some(value) => Ok(vec![number(&value, &path)?]),
    }
}

/// A specification as the command line accepts it: a map, or text that is YAML, JSON or `prompt_tokens=256,…`.
fn data_fields(value: Value, path: String) -> Result<Fields, String> {
    let Value::String(text) = &value else { return Fields::new(value, path) };
    if text.contains('=') && !text.contains(':') {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        let map: Map<_, _> = pairs.map(|(key, value)| (key.trim().to_owned(), Value::from(value.trim()))).collect();
        return Ok(Fields { path, map });
    }
    match yaml::from_slice::<Value>(text.as_bytes()) {
        Ok(inner @ Value::Object(_)) => Fields::new(inner, path),
        _ => Err(format!(
            "the lengths of the data set `{text}` are not in the file: give `prompt_tokens` and `output_tokens`"
        )),
    }
}

fn convert_data(mut data: Fields, workload: &mut WorkloadSpec, notes: &mut Notes) -> Result<(), String> {
    let need = |lengths: Option<Distribution>, path: String| {
        lengths.ok_or_else(|| format!("`{path}` is not given, and the lengths of a data set are not in the file"))
    };
    workload.input = Some(need(lengths(&mut data, "prompt_tokens")?, data.at("prompt_tokens"))?);
    workload.output = Some(need(lengths(&mut data, "output_tokens")?, data.at("output_tokens"))?);
    let turns = data.count("turns")?.unwrap_or(1);
    let delay = lengths(&mut data, "delay")?;
    if turns > 1 {
        workload.session = Some(Session {
            turns: Distribution::fixed(f64::from(turns)),
            think_time_s: delay.unwrap_or_else(|| Distribution::fixed(0.0)),
            context_tokens: Distribution::fixed(0.0),
            max_context_tokens: None,
        });
    }
    let prefix = |tokens: Option<u32>, groups: Option<u32>| {
        let (tokens, groups) = (tokens.filter(|&tokens| tokens > 0)?, groups.unwrap_or(1));
        Some(Prefix { tokens, groups, prompts_per_group: None, popularity: super::super::Popularity::Uniform })
    };
    workload.prefix = prefix(data.count("prefix_tokens")?, data.count("prefix_count")?);
    let mut buckets = Vec::new();
    for (mut bucket, index) in data.sections("prefix_buckets")?.into_iter().zip(1..) {
        let share = bucket.number("bucket_weight")?.unwrap_or(100.0);
        let prefix = prefix(bucket.count("prefix_tokens")?, bucket.count("prefix_count")?);
        let class = ClassSpec { name: format!("bucket {index}"), share: Some(share), prefix, ..ClassSpec::default() };
        buckets.push(class);
        bucket.done(&[], notes);
    }
    match &buckets[..] {
        [] => {}
        [only] => workload.prefix = only.prefix,
        _ => workload.classes = buckets,
    }
    let is_empty =
        |value: &Value| value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
    data.map.retain(|_, value| !is_empty(value));
    data.done(&["kind", "load_kwargs", "source", "samples"], notes);
    Ok(())
}

/// Lengths by the names of their mean and `_stdev`, `_min`, `_max`.
fn lengths(data: &mut Fields, key: &str) -> Result<Option<Distribution>, String> {
    let mut number = |suffix: &str| data.number(&format!("{key}{suffix}"));
    let (mean, stddev, min, max) = (number("")?, number("_stdev")?, number("_min")?, number("_max")?);
    let Some(mean) = mean else { return Ok(None) };
    let lengths = match (stddev, min, max) {
        (None, Some(min), Some(max)) => LengthDistribution::uniform(min, max),
        _ => LengthDistribution { min, max, ..LengthDistribution::gaussian(mean, stddev.unwrap_or(0.0)) },
    };
    Ok(Some(lengths.into()))
}
