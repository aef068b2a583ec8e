//! One measured operating point.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Statistic, Statistics};
use crate::workload::{LengthShape, Objectives, Quantity, Workload, named};
use crate::{Error, Result};

/// Identity of a run: the same file content at the same place in it is the same run, wherever the file lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    /// SHA-256 of the file's content.
    pub content: [u8; 32],
    /// Position in the file, from 0.
    pub index: u32,
}

impl fmt::Display for RunId {
    /// 64 hexadecimal digits, a hyphen, and the index.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.content {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "-{}", self.index)
    }
}

impl FromStr for RunId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse_id(text).ok_or_else(|| Error::Malformed {
            place: format!("run id `{text}`"),
            reason: "is not 64 hexadecimal digits, a hyphen and an index".to_owned(),
        })
    }
}

fn parse_id(text: &str) -> Option<RunId> {
    let (digits, index) = text.split_once('-')?;
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut content = [0; 32];
    for (byte, at) in content.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some(RunId { content, index: index.parse().ok()? })
}

named! {
    /// How the numbers came about.
    pub enum Kind {
        /// On real hardware.
        Measured = "measured",
        /// By a simulator.
        Simulated = "simulated",
        /// By a formula.
        Estimated = "estimated",
    }
}

#[expect(clippy::derivable_impls, reason = "the macro makes the type")]
impl Default for Kind {
    fn default() -> Self {
        Self::Measured
    }
}

/// Where a field came from. What is not recorded came from the file itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provenance {
    /// The result file.
    File,
    /// Computed from other fields of the run.
    Derived,
    /// A side file in the same folder or above it.
    Sidecar,
    /// The name of the file or of a folder above it.
    Path,
    /// `--set`.
    User,
}

/// Where a run was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Source {
    /// The file, as it was reached from the path that was imported.
    pub path: String,
    /// Name of the format, such as `guidellm` (see `formats`).
    pub format: String,
    /// Repository that the numbers were taken from, for collected data.
    pub repository: Option<String>,
    /// Path in that repository.
    pub repository_path: Option<String>,
    /// Commit of that repository.
    pub commit: Option<String>,
}

/// One kind of engine in a deployment, and how many of it. What the source does not tell is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Role {
    /// Engines behind the endpoint.
    pub replicas: Option<u64>,
    /// Tensor parallelism of one engine.
    pub tp: Option<u64>,
    /// Pipeline parallelism of one engine.
    pub pp: Option<u64>,
    /// Data parallelism of one engine.
    pub dp: Option<u64>,
    /// Expert parallelism of one engine.
    pub ep: Option<u64>,
}

impl Role {
    /// GPUs of all replicas: `tp * pp * dp * replicas`, where what is missing is 1. None without `tp` or `replicas`.
    pub fn gpus(&self) -> Option<u64> {
        [self.tp?, self.pp.unwrap_or(1), self.dp.unwrap_or(1), self.replicas?]
            .into_iter()
            .try_fold(1_u64, u64::checked_mul)
    }
}

/// The engines of a deployment by what they do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles {
    /// Engines that do prefill and decode.
    pub both: Option<Role>,
    /// Engines that only prefill.
    pub prefill: Option<Role>,
    /// Engines that decode. Without prefill engines beside them they serve whole requests.
    pub decode: Option<Role>,
}

/// How a deployment divides the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Every engine serves whole requests.
    Aggregated,
    /// Prefill and decode on different engines.
    Disaggregated {
        /// Prefill engines.
        prefill: u64,
        /// Decode engines.
        decode: u64,
    },
}

impl fmt::Display for Layout {
    /// `aggregated`, or `4P1D`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aggregated => f.write_str("aggregated"),
            Self::Disaggregated { prefill, decode } => write!(f, "{prefill}P{decode}D"),
        }
    }
}

impl Roles {
    /// The layout. None where the source names no role, or prefill engines without their number.
    pub fn layout(&self) -> Option<Layout> {
        match (&self.prefill, &self.decode) {
            (Some(prefill), decode) => Some(Layout::Disaggregated {
                prefill: prefill.replicas?,
                decode: decode.as_ref().map_or(Some(0), |decode| decode.replicas)?,
            }),
            (None, Some(_)) => Some(Layout::Aggregated),
            (None, None) => self.both.as_ref().map(|_| Layout::Aggregated),
        }
    }

    /// GPUs of all roles. None where a role does not tell.
    pub fn gpus(&self) -> Option<u64> {
        let roles = [&self.both, &self.prefill, &self.decode];
        let gpus = roles.into_iter().flatten().map(Role::gpus).sum::<Option<u64>>();
        gpus.filter(|&gpus| gpus > 0)
    }
}

/// A plugin of llm-d's router (`EndpointPickerConfig`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RouterPlugin {
    /// Its type, such as `prefix-cache-scorer`.
    pub kind: String,
    /// The scheduling profile that uses it; none where no profile does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Weight of a scorer in that profile (1 where the profile gives none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Its parameters.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub parameters: serde_json::Map<String, serde_json::Value>,
}

/// Configuration of llm-d's router.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Router {
    /// Its plugins, in the order of the scheduling profiles; those that no profile uses come last.
    pub plugins: Vec<RouterPlugin>,
}

/// What served the requests.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Server {
    /// The model, as the source names it.
    pub model: Option<String>,
    /// Folder or catalogue name of its configuration, for collected data.
    pub config: Option<String>,
    /// The source's own label (`fp8`, `awq-int4`).
    pub quantisation: Option<String>,
    /// Precision of the weights where it is not the configuration's own.
    pub precision: Option<String>,
    /// Element type of the KV cache.
    pub kv_cache_dtype: Option<String>,
    /// The accelerator, as the source names it.
    pub gpu: Option<String>,
    /// Accelerators of the whole deployment.
    pub gpus: Option<u64>,
    /// Engines by role.
    pub roles: Roles,
    /// The layout in the source's own words, where they say more than [`Roles::layout`].
    pub layout_description: Option<String>,
    /// The engine, such as `vllm`.
    pub engine: Option<String>,
    /// Its version.
    pub engine_version: Option<String>,
    /// The container image it came in.
    pub image: Option<String>,
    /// Its arguments as one line.
    pub flags: Option<String>,
    /// Whether the engine schedules the next step while the last one runs.
    pub async_scheduling: Option<bool>,
    /// The router in front of the engines.
    pub router: Option<Router>,
    /// Dollars of an hour of the whole deployment.
    pub usd_per_hour: Option<f64>,
}

/// Requests of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were sent.
    pub requests: Option<u64>,
    /// Of these, those that failed.
    pub failures: Option<u64>,
    /// Of these, those that were cut off when the run ended.
    pub incomplete: Option<u64>,
}

impl Counts {
    /// Failures over requests.
    pub fn failure_rate(&self) -> Option<f64> {
        let requests = self.requests.filter(|&requests| requests > 0)?;
        Some(self.failures? as f64 / requests as f64)
    }
}

named! {
    /// What a source calls time per output token.
    pub enum TpotDefinition {
        /// (E2E - TTFT) / (output tokens - 1) of each request. The definition of this library.
        WithoutFirstToken = "without_first_token",
        /// E2E / output tokens: contains the time to the first token (GuideLLM).
        WithFirstToken = "with_first_token",
        /// (E2E - TTFT) / output tokens (GuideLLM 0.3).
        OverAllTokens = "over_all_tokens",
        /// Counted by something other than tokens (older inference-perf: about two chunks a token).
        PerChunk = "per_chunk",
        /// The source does not print it; the mean is (E2E mean - TTFT mean) / (mean output tokens - 1).
        FromMeans = "from_means",
        /// The source prints it and does not say how it is defined.
        Unknown = "unknown",
    }
}

named! {
    /// What a source calls inter-token latency.
    pub enum ItlDefinition {
        /// Gaps between the chunks of a stream, of all requests pooled. A chunk can hold several tokens.
        PerChunk = "per_chunk",
        /// (E2E - TTFT) / (output tokens - 1): the same as TPOT.
        PerToken = "per_token",
        /// The source does not say.
        Unknown = "unknown",
    }
}

/// Latencies, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Latencies {
    /// Time to first token.
    pub ttft: Statistics,
    /// Time per output token, by the one definition [`TpotDefinition::WithoutFirstToken`].
    pub tpot: Statistics,
    /// Time per output token as the source printed it, where that is another quantity.
    pub tpot_raw: Statistics,
    /// How the source defines what it printed.
    pub tpot_definition: Option<TpotDefinition>,
    /// Inter-token latency, by the definition that stands beside it.
    pub itl: Statistics,
    /// How the source defines it.
    pub itl_definition: Option<ItlDefinition>,
    /// End to end: from the request to its last token.
    pub e2e: Statistics,
    /// E2E / output tokens, where the source prints it.
    pub ntpot: Statistics,
}

impl Latencies {
    /// Records what the source means by its TPOT and ITL, where it has them.
    pub fn define(&mut self, tpot: TpotDefinition, itl: ItlDefinition) {
        self.tpot_definition = (!self.tpot.is_empty()).then_some(tpot);
        self.itl_definition = (!self.itl.is_empty()).then_some(itl);
    }
}

/// Rates of the whole deployment, per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Throughput {
    /// Finished requests.
    pub requests: Option<f64>,
    /// Tokens of prompts.
    pub input_tokens: Option<f64>,
    /// Tokens of answers.
    pub output_tokens: Option<f64>,
    /// Both.
    pub total_tokens: Option<f64>,
}

/// Something about a run that does not add up, or that a reader had to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// A short name to filter by: `littles_law`, `throughput`, `e2e`, `total_tokens`, `failures`, `tpot_definition`, …
    pub code: String,
    /// What was found, with the numbers.
    pub message: String,
}

/// One measured operating point: a deployment, a load, and what came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    /// What makes it one run.
    pub id: RunId,
    /// Where it was read.
    pub source: Source,
    /// Measured, simulated or estimated.
    pub kind: Kind,
    /// Grade of collected data (`A`, `B`).
    pub quality: Option<String>,
    /// Why the run is not credible, for collected data.
    pub quarantine: Option<String>,
    /// Remarks of the source.
    pub note: Option<String>,
    /// What served.
    pub server: Server,
    /// The tool that sent the requests.
    pub load_generator: Option<String>,
    /// What it was told to send.
    pub workload: Workload,
    /// Tokens of the prompts that were sent.
    pub input_length: Statistics,
    /// Tokens of the answers that came back.
    pub output_length: Statistics,
    /// Requests.
    pub counts: Counts,
    /// Latencies.
    pub latency: Latencies,
    /// Rates.
    pub throughput: Throughput,
    /// Start, in seconds since 1970-01-01 UTC.
    pub start_s: Option<f64>,
    /// Length of the run in seconds.
    pub duration_s: Option<f64>,
    /// Date as the source writes it, where it gives no time of day.
    pub date: Option<String>,
    /// Fields of the source that have no column of their own.
    pub extra: BTreeMap<String, String>,
    /// Where the columns came from that do not come from the file, by column name.
    pub provenance: BTreeMap<String, Provenance>,
    /// What does not add up.
    pub warnings: Vec<Warning>,
}

impl Run {
    /// The start of the identity, enough to tell a thousand files apart: eight digits, a hyphen and the index.
    pub fn short_id(&self) -> String {
        let id = self.id.to_string();
        format!("{}-{}", &id[..8], self.id.index)
    }

    /// Mean length of the answers: as observed, else as configured where every answer has that length.
    pub fn output_tokens_mean(&self) -> Option<f64> {
        let fixed = self.workload.output.filter(|output| output.shape == LengthShape::Fixed);
        self.output_length.mean().or(fixed.map(|output| output.mean))
    }

    /// (E2E mean - TTFT mean) / (mean output tokens - 1), in milliseconds. None without them, for a single token, or
    /// where the first token came last.
    pub fn tpot_from_means_ms(&self) -> Option<f64> {
        let tokens_after_first = self.output_tokens_mean()? - 1.0;
        let tpot_ms = (self.latency.e2e.mean()? - self.latency.ttft.mean()?) / tokens_after_first;
        Some(tpot_ms).filter(|tpot_ms| tokens_after_first > 0.0 && *tpot_ms > 0.0)
    }

    /// The value that an objective limits.
    pub fn quantity(&self, quantity: Quantity) -> Option<f64> {
        match quantity {
            Quantity::Ttft(statistic) => self.latency.ttft.get(statistic),
            Quantity::Tpot(statistic) => self.latency.tpot.get(statistic),
            Quantity::Itl(statistic) => self.latency.itl.get(statistic),
            Quantity::E2e(statistic) => self.latency.e2e.get(statistic),
            Quantity::Throughput => self.throughput.output_tokens,
            Quantity::Requests => self.throughput.requests,
        }
    }

    /// Whether the run meets every objective. What it does not know, it does not meet.
    pub fn meets(&self, objectives: &Objectives) -> bool {
        objectives.are_met_by(|quantity| self.quantity(quantity))
    }

    /// Records something that does not add up.
    pub fn warn(&mut self, code: &str, message: impl Into<String>) {
        self.warnings.push(Warning { code: code.to_owned(), message: message.into() });
    }

    /// Mean time per output token in milliseconds, by the one definition.
    pub fn tpot_mean_ms(&self) -> Option<f64> {
        self.latency.tpot.get(Statistic::Mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_prints_and_parses() {
        let id = RunId { content: std::array::from_fn(|at| at as u8), index: 7 };
        assert_eq!(id.to_string().parse::<RunId>().unwrap(), id);
        assert!(id.to_string().starts_with("000102"));
        for wrong in ["", "00-1", "zz", &"é".repeat(32), &format!("{}-x", "0".repeat(64))] {
            assert!(wrong.parse::<RunId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn layout_follows_the_roles() {
        let role = |replicas| Some(Role { replicas: Some(replicas), tp: Some(2), ..Role::default() });
        let roles = Roles { prefill: role(4), decode: role(1), ..Roles::default() };
        assert_eq!(roles.layout().unwrap().to_string(), "4P1D");
        assert_eq!(roles.gpus(), Some(10));
        let decode_only = Roles { decode: role(4), ..Roles::default() };
        assert_eq!(decode_only.layout(), Some(Layout::Aggregated));
        assert_eq!(Roles::default().layout(), None);
        assert_eq!(Roles::default().gpus(), None);
    }

    #[test]
    fn tpot_from_means_needs_more_than_one_token() {
        let mut run = Run::default();
        run.latency.e2e = Statistics::of_mean(1000.0);
        run.latency.ttft = Statistics::of_mean(100.0);
        run.output_length = Statistics::of_mean(10.0);
        assert_eq!(run.tpot_from_means_ms(), Some(100.0));
        run.output_length = Statistics::of_mean(1.0);
        assert_eq!(run.tpot_from_means_ms(), None);
    }
}
