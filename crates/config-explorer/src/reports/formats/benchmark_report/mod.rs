//! llm-d's benchmark report, v0.1, v0.2 and v0.2.1, as YAML or JSON.
//!
//! Source: `llmdbenchmark/analysis/benchmark_report` of llm-d/llm-d-benchmark, commit 8bc9f1dd: `schema_v0_1.py`,
//! `schema_v0_2.py`, and the importers `native_to_br0_*.py`, which copy what a tool calls TPOT without converting it.

mod parts;
mod v0_1;
mod v0_2;

use serde::Deserialize;

use crate::reports::lenient::Text;
use crate::reports::{Run, json, yaml};

/// Reads a report of any version.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Run>, String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Version {
        version: Text,
    }
    let json = json::looks_like(bytes);
    let version = if json {
        json::from_slice::<Version>(bytes)?.version.0
    } else {
        yaml::top_level(bytes).find(|&(key, _)| key == "version").map(|(_, value)| value.to_owned())
    };
    let run = match (version.as_deref(), json) {
        (Some("0.1"), true) => v0_1::run(json::from_slice(bytes)?),
        (Some("0.1"), false) => v0_1::run(yaml::from_slice(bytes)?),
        // v0.2.1 only adds fields.
        (Some("0.2" | "0.2.1"), true) => v0_2::run(json::from_slice(bytes)?),
        (Some("0.2" | "0.2.1"), false) => v0_2::run(yaml::from_slice(bytes)?),
        (version, _) => {
            let version = version.unwrap_or("none");
            return Err(format!("version of the benchmark report is `{version}`; known are 0.1, 0.2 and 0.2.1"));
        }
    };
    Ok(vec![run?])
}
