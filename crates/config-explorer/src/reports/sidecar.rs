//! Side files: what a folder says about the results in it and below it.

use serde::Deserialize;

use super::formats::inference_perf;
use super::lenient::Text;
use super::{Column, Run, column, yaml};

/// The content of a side file.
#[derive(Debug, Clone)]
pub(super) enum Sidecar {
    /// Values of columns, for results of any tool: llm-d-benchmark's `run_metadata.yaml`, or a file of the user's own.
    Values(Vec<(&'static Column, String)>),
    /// genai-bench's `experiment_metadata.json`: values of columns, for its own results.
    GenaiBench(Vec<(&'static Column, String)>),
    /// inference-perf's configuration, for its own results.
    InferencePerf(Box<inference_perf::Config>),
}

/// Keys that tools write and that are no column's name.
const SYNONYMS: [(&str, &str); 12] = [
    // llm-d-benchmark's run_metadata.yaml
    ("harness_name", "load_generator"),
    ("harness_start", "start_s"),
    ("harness_delta", "duration_s"),
    // Experiment files, and `--metadata` of vllm bench serve
    ("tensor_parallelism", "tp"),
    ("tensor_parallel_size", "tp"),
    ("pipeline_parallel_size", "pp"),
    ("data_parallel_size", "dp"),
    ("num_gpus", "n_gpu"),
    ("gpu_count", "n_gpu"),
    ("gpu_type", "gpu"),
    ("accelerator", "gpu"),
    ("vllm_version", "engine_version"),
];

/// The column that a key of a side file or of free metadata means. Only what describes the run, never what it measured.
pub(super) fn column_of(key: &str) -> Option<&'static Column> {
    let name = SYNONYMS.into_iter().find(|(synonym, _)| *synonym == key).map_or(key, |(_, name)| name);
    let column = column(name).ok()?;
    let describes = column.group != super::Group::Metric && !matches!(&*column.name, "id" | "file" | "format");
    (describes && column.is_settable()).then_some(column)
}

/// Reads a map of column values in YAML.
pub(super) fn read(bytes: &[u8]) -> Result<Sidecar, String> {
    #[derive(Deserialize)]
    struct Values(std::collections::BTreeMap<String, Text>);
    let Values(map) = yaml::from_slice(bytes)?;
    let values = map.into_iter().filter_map(|(key, Text(value))| {
        let (column, value) = (column_of(&key)?, value?);
        let value = match &*column.name {
            "start_s" => super::time::epoch_s(&value)?.to_string(),
            "duration_s" => super::time::duration_s(&value).map_or(value, |duration_s| duration_s.to_string()),
            _ => value,
        };
        Some((column, value))
    });
    Ok(Sidecar::Values(values.collect()))
}

impl Sidecar {
    /// Fills what the run does not know yet.
    pub(super) fn apply(&self, stage: Option<usize>, run: &mut Run) {
        let generator = run.load_generator.as_deref();
        match self {
            Self::Values(values) => fill(values, run),
            Self::GenaiBench(values) if generator == Some("genai-bench") => fill(values, run),
            Self::InferencePerf(config) if generator == Some("inference-perf") => {
                // A summary of a single stage measured that stage.
                let stage = stage.or((config.stages() == 1).then_some(0));
                config.apply(stage, run);
            }
            Self::GenaiBench(_) | Self::InferencePerf(_) => {}
        }
    }
}

fn fill(values: &[(&'static Column, String)], run: &mut Run) {
    for (column, text) in values {
        if column.get(run).is_some() {
            continue;
        }
        let set = column.parse(text).and_then(|value| value.map_or(Ok(()), |value| column.set(run, &value)));
        if let Err(error) = set {
            run.warn("sidecar", error.to_string());
        }
    }
}
