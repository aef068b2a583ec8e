//! One file a tool, each a pure function from the bytes of a result file to runs.
//!
//! What a reader returns is what the file says, in the units of [`Run`]. Definitions are settled, and what does not add
//! up is reported, by `normalise`, after side files and the user have had their say.

mod aiperf;
mod benchmark_report;
mod blocks;
mod fields;
mod genai_bench;
mod guidellm;
pub(super) mod inference_perf;
mod inferencex;
mod lm_benchmark;
mod mlperf;
mod runs_csv;
mod sample;
mod sglang_bench;
mod vllm_bench;

use serde::de::DeserializeOwned;

use super::detect::Format;
use super::lenient::{List, Map};
use super::sidecar::{self, Sidecar};
use super::{Run, column, json, yaml};
use fields::Fields;

pub(super) use lm_benchmark::COLUMNS as LM_BENCHMARK_COLUMNS;
pub(super) use mlperf::PREFIX as MLPERF_PREFIX;
pub(super) use runs_csv::is_header as is_runs_csv_header;
pub(super) use vllm_bench::BLOCK as BENCH_BLOCK;

/// What a file turned out to hold.
#[derive(Debug)]
pub(super) enum Content {
    /// Measured operating points.
    Runs(Vec<Run>),
    /// Something about the results beside it.
    Sidecar(Sidecar),
    /// A known file without a measurement, and why.
    Nothing(&'static str),
}

/// Reads a file of a known format. The error says where and why.
pub(super) fn read(format: Format, bytes: &[u8]) -> Result<Content, String> {
    let text = || std::str::from_utf8(bytes).map_err(|error| error.to_string());
    let runs = match format {
        Format::BenchmarkReport => benchmark_report::read(bytes)?,
        Format::GuideLlm => guidellm::runs(document(bytes)?),
        Format::InferencePerf => match inference_perf::run(&document(bytes)?) {
            Ok(run) => vec![run],
            Err(reason) => return Ok(Content::Nothing(reason)),
        },
        Format::InferencePerfRequests => {
            let List(records) = json::from_slice::<List<_>>(bytes)?;
            vec![inference_perf::requests_run(&records)]
        }
        Format::InferencePerfConfig => {
            return Ok(Content::Sidecar(Sidecar::InferencePerf(Box::new(document(bytes)?))));
        }
        Format::InferencePerfSessions => {
            return Ok(Content::Nothing("inference-perf's session report has no latency of requests"));
        }
        Format::VllmBench => rows::<Fields>(bytes)?.into_iter().map(vllm_bench::run).collect(),
        Format::VllmBenchLog => vllm_bench::log(&String::from_utf8_lossy(bytes)),
        Format::SglangBench => rows::<Fields>(bytes)?.into_iter().map(sglang_bench::run).collect(),
        Format::InferenceX => rows::<Fields>(bytes)?.into_iter().map(inferencex::run).collect(),
        Format::InferenceXApi => rows::<inferencex::ApiRow>(bytes)?.into_iter().map(inferencex::ApiRow::run).collect(),
        Format::AiPerf => vec![aiperf::run(&document(bytes)?)],
        Format::AiPerfRequests => vec![aiperf::requests_run(json::lines(bytes))?],
        Format::GenaiBench => vec![genai_bench::run(&document(bytes)?)],
        Format::GenaiBenchExperiment => {
            let experiment: genai_bench::Experiment = document(bytes)?;
            let values = experiment.values().into_iter().filter_map(|(name, value)| Some((column(name).ok()?, value)));
            return Ok(Content::Sidecar(Sidecar::GenaiBench(values.collect())));
        }
        Format::LmBenchmark => vec![lm_benchmark::run(bytes)?],
        Format::MlPerf => vec![mlperf::run(text()?)?],
        Format::MlPerfSummary => {
            return Ok(Content::Nothing("MLPerf's summary; the detail log beside it holds the numbers"));
        }
        Format::RunsCsv => runs_csv::runs(bytes)?,
        Format::RunMetadata => return Ok(Content::Sidecar(sidecar::read(bytes)?)),
    };
    if runs.is_empty() {
        return Ok(Content::Nothing("holds no run"));
    }
    Ok(Content::Runs(runs))
}

/// A document in JSON, or else in YAML.
fn document<T: DeserializeOwned + Default>(bytes: &[u8]) -> Result<T, String> {
    let Map(document) = if json::looks_like(bytes) { json::from_slice(bytes)? } else { yaml::from_slice(bytes)? };
    Ok(document)
}

/// The rows of a JSON list, of JSON Lines, or the one object that the file is.
fn rows<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>, String> {
    if bytes.trim_ascii_start().starts_with(b"[") {
        return json::from_slice(bytes);
    }
    match json::from_slice(bytes) {
        Ok(row) => Ok(vec![row]),
        // One object is pretty-printed over many lines; JSON Lines hold an object each.
        Err(whole) => json::lines(bytes)
            .enumerate()
            .map(|(index, row)| row.map_err(|line| if index == 0 { whole.clone() } else { line }))
            .collect(),
    }
}

/// Puts free metadata where a column means it, and the rest in `extra`.
fn assign_fields(fields: Fields, run: &mut Run) {
    for (key, text) in fields {
        let assigned = sidecar::column_of(&key).filter(|column| column.get(run).is_none()).is_some_and(|column| {
            let value = column.parse(&text).ok().flatten();
            value.is_some_and(|value| column.set(run, &value).is_ok())
        });
        if !assigned {
            run.extra.insert(key, text);
        }
    }
}
