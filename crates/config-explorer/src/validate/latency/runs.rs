//! A table of measured operating points.

use std::io::Read;
use std::path::Path;

use crate::Result;
use crate::engine::{ServeArgs, Version};
use crate::serving::Load;
use crate::validate::table;

/// Requests of each client of a closed loop where their number is not known (the benchmark behind most rows sends ten).
pub(super) const WAVES: f64 = 10.0;

/// A table of measured operating points.
#[derive(Debug, Clone)]
pub struct MeasuredRuns {
    /// Headings.
    pub columns: Vec<String>,
    /// One for each operating point.
    pub rows: Vec<MeasuredRun>,
}

/// One measured operating point of a deployment.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own that a row tells")]
pub struct MeasuredRun {
    /// The cells as they were read, one for each column.
    pub cells: Vec<String>,
    /// `row_id`
    pub id: String,
    /// `model`
    pub model: String,
    /// `config`: the folder of the model's config; empty where there is none.
    pub config: String,
    /// `precision` of the weights; empty: as the config says.
    pub precision: String,
    /// `kv_cache_dtype`
    pub fp8_kv_cache: bool,
    /// `gpu`, as it was written.
    pub gpu: String,
    /// `tp`, `pp`, `dp`, `ep` and `replicas`.
    pub layout: [u32; 5],
    /// `layout` says that every engine computes prompts and decodes.
    pub aggregated: bool,
    /// `engine_version`, where it holds a version number.
    pub version: Option<Version>,
    /// `async_scheduling`, where known.
    pub async_scheduling: Option<bool>,
    /// What `flags` holds of a command.
    pub args: ServeArgs,
    /// Mean lengths that were sent, tokens.
    pub lengths: Option<(f64, f64)>,
    /// How they spread.
    pub lengths_sent: LengthsSent,
    /// Groups of prompts and the tokens that each shares (`prefix_sharing`), where it tells both.
    pub shared_prefix: Option<(u32, u32)>,
    /// `layout` names llm-d's router.
    pub routed: bool,
    /// How requests arrived.
    pub load: Option<Load>,
    /// Shape of the gamma distribution of the gaps of an open load, where `note` tells it
    /// (`vllm bench serve --burstiness`); 1 is Poisson.
    pub burstiness: Option<f64>,
    /// `n_requests`: requests of the run.
    pub requests: Option<f64>,
    /// Prompts share prefixes, to an extent that the row does not tell, and the engine has a prefix cache.
    pub shares_prefixes: bool,
    /// `ttft_mean_ms`
    pub ttft_mean_ms: Option<f64>,
    /// `tpot_best_ms`, else `tpot_mean_ms`.
    pub tpot_mean_ms: Option<f64>,
    /// `out_tok_s`
    pub output_tokens_per_s: Option<f64>,
    /// `req_s`: requests that were finished.
    pub requests_per_s: Option<f64>,
    /// `quarantine`: why the row is not credible; empty if it is.
    pub quarantine: String,
}

impl MeasuredRuns {
    /// Reads a CSV file.
    ///
    /// # Errors
    /// [`crate::Error::Io`] for a file that cannot be read, [`crate::Error::Malformed`] for what is no such table.
    pub fn open(path: &Path) -> Result<Self> {
        let (source, place) = table::open(path)?;
        Self::read(source, &place)
    }

    /// Reads CSV with the columns `model`, `gpu` and any of those that [`MeasuredRun`] names, and `isl_mean`/`isl`,
    /// `osl_mean`/`osl`, `load_kind` (`closed`, `open`, `burst`), `concurrency`, `rate_rps`, `n_requests`. Empty cells
    /// are unknown; other columns are kept.
    ///
    /// # Errors
    /// [`crate::Error::Malformed`] for what is no CSV, or lacks `model` or `gpu`.
    pub fn read(source: impl Read, place: &str) -> Result<Self> {
        let (columns, rows) = table::read(source, place, &["model", "gpu"], MeasuredRun::new)?;
        Ok(Self { columns, rows })
    }
}

impl MeasuredRun {
    fn new(columns: &[String], cells: Vec<String>) -> Self {
        let cell = |name: &str| table::cell(columns, &cells, name);
        let number = |name: &str| cell(name).parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
        let count = |name: &str| number(name).map_or(1, |number| number as u32);
        let lengths = number("isl_mean").or_else(|| number("isl")).zip(number("osl_mean").or_else(|| number("osl")));
        let clients = number("concurrency");
        let requests = number("n_requests");
        let args = limits_in(cell("flags"));
        let load = match cell("load_kind") {
            "burst" => requests.or(clients).map(|requests| Load::Burst { requests }),
            "open" => number("rate_rps").map(|rate_per_s| Load::Open { rate_per_s }),
            _ => clients.map(|clients| Load::Closed {
                clients,
                requests: Some(requests.unwrap_or(WAVES * clients).max(clients)),
            }),
        };
        Self {
            id: cell("row_id").to_owned(),
            model: cell("model").to_owned(),
            config: cell("config").to_owned(),
            precision: cell("precision").to_owned(),
            fp8_kv_cache: cell("kv_cache_dtype").starts_with("fp8"),
            gpu: cell("gpu").to_owned(),
            layout: ["tp", "pp", "dp", "ep", "replicas"].map(count),
            aggregated: !cell("layout").starts_with("P/D"),
            version: version_in(cell("engine_version")),
            async_scheduling: match cell("async_scheduling") {
                "1" => Some(true),
                "0" => Some(false),
                _ => None,
            },
            lengths,
            lengths_sent: lengths_sent(cell("length_dist"), number("isl").zip(number("osl"))),
            shared_prefix: shared_prefix(cell("prefix_sharing")),
            routed: cell("layout").starts_with("llm-d"),
            load,
            burstiness: cell("note")
                .split_once("burstiness=")
                .and_then(|(_, rest)| rest.split(';').next()?.trim().parse().ok())
                .filter(|shape| (1e-5..=1e5).contains(shape)),
            requests,
            shares_prefixes: !matches!(cell("prefix_sharing"), "" | "none")
                && args.enable_prefix_caching != Some(false),
            args,
            ttft_mean_ms: number("ttft_mean_ms"),
            tpot_mean_ms: number("tpot_best_ms").or_else(|| number("tpot_mean_ms")),
            output_tokens_per_s: number("out_tok_s"),
            requests_per_s: number("req_s"),
            quarantine: cell("quarantine").to_owned(),
            cells,
        }
    }
}

/// How the lengths of a row spread (`length_dist`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LengthsSent {
    /// All are equal, or nothing is known of them.
    Equal,
    /// Evenly between a share of the nominal lengths and these.
    Range {
        /// The share.
        least: f64,
        /// Nominal lengths of prompt and output (`isl`, `osl`).
        nominal: (f64, f64),
    },
    /// As the conversations of `ShareGPT`.
    ShareGpt,
}

/// Such as `random, InferenceX range ratio 0.8-1.0`, `ShareGPT` or `fixed`.
fn lengths_sent(text: &str, nominal: Option<(f64, f64)>) -> LengthsSent {
    let least = text.split_once("range ratio ").and_then(|(_, range)| range.split('-').next()?.parse().ok());
    match (least, nominal) {
        (Some(least), Some(nominal)) if (0.0..=1.0).contains(&least) => LengthsSent::Range { least, nominal },
        _ if text.to_lowercase().starts_with("sharegpt") => LengthsSent::ShareGpt,
        _ => LengthsSent::Equal,
    }
}

/// Such as `150 groups x 5 prompts, 6000-token system prompt` or `10 system prompts of 128 tokens x 10 users`: how many
/// groups, and what each shares.
fn shared_prefix(text: &str) -> Option<(u32, u32)> {
    let groups = text.split(' ').next()?.parse().ok()?;
    let before = text.split_once("-token").or_else(|| text.split_once(" tokens"))?.0;
    let tokens = before.rsplit(' ').next()?.parse().ok()?;
    Some((groups, tokens)).filter(|(groups, tokens)| *groups > 0 && *tokens > 0)
}

/// The first version number in a text such as `vllm/vllm-openai:v0.19.1`. llm-d's own version says nothing of vLLM's.
pub(super) fn version_in(text: &str) -> Option<Version> {
    if text.starts_with("llm-d") {
        return None;
    }
    let words = text.split(|character: char| !(character.is_ascii_digit() || character == '.' || character == 'v'));
    words.filter(|word| word.matches('.').count() >= 1).find_map(|word| word.trim_start_matches('v').parse().ok())
}

/// What a text of flags sets that changes the time of a step or of a prompt and is no column.
pub(super) fn limits_in(text: &str) -> ServeArgs {
    let mut limits = ServeArgs::default();
    if let Ok(args) = ServeArgs::parse_shell(text) {
        limits.max_num_batched_tokens = args.max_num_batched_tokens;
        limits.max_num_seqs = args.max_num_seqs;
        limits.enforce_eager = args.enforce_eager;
        limits.max_model_len = args.max_model_len;
        limits.enable_chunked_prefill = args.enable_chunked_prefill;
        limits.enable_prefix_caching = args.enable_prefix_caching;
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_deployment_its_load_and_what_was_measured() {
        let table = "row_id,model,gpu,tp,engine_version,flags,isl,isl_mean,osl,concurrency,load_kind,tpot_best_ms,\
                     tpot_mean_ms\n\
                     7,m,H100,2,vllm/vllm-openai:v0.19.1,--max-num-seqs=128 --x,1024,922,100,8,closed,5,6\n";
        let row = MeasuredRuns::read(table.as_bytes(), "runs.csv").unwrap().rows.remove(0);
        assert_eq!(row.layout, [2, 1, 1, 1, 1]);
        assert_eq!(row.version, "0.19.1".parse().ok());
        assert_eq!(version_in("llm-d v0.7-0.8"), None);
        assert_eq!(row.lengths, Some((922.0, 100.0)));
        assert_eq!(row.load, Some(Load::Closed { clients: 8.0, requests: Some(80.0) }));
        assert_eq!(row.tpot_mean_ms, Some(5.0));
        assert_eq!(row.args.max_num_seqs.map(std::num::NonZero::get), Some(128));
    }

    #[test]
    fn a_note_tells_how_regular_arrivals_are() {
        let table = "model,gpu,note\nm,H100,burstiness=50.0; 250/250 completed\nm,H100,burstiness=none\nm,H100,\n";
        let rows = MeasuredRuns::read(table.as_bytes(), "runs.csv").unwrap().rows;
        assert_eq!(rows.iter().map(|row| row.burstiness).collect::<Vec<_>>(), [Some(50.0), None, None]);
    }

    #[test]
    fn shared_prefixes_are_read_where_they_are_told() {
        for (text, expected) in [
            ("150 groups x 5 prompts, 6000-token system prompt", Some((150, 6000))),
            ("10 system prompts of 128 tokens x 10 users", Some((10, 128))),
            ("multi-round QA, shared system prompt (LMBenchmark short-input)", None),
            ("none", None),
            ("", None),
        ] {
            assert_eq!(shared_prefix(text), expected, "{text}");
        }
        let range = lengths_sent("random, InferenceX range ratio 0.8-1.0", Some((1024.0, 100.0)));
        assert_eq!(range, LengthsSent::Range { least: 0.8, nominal: (1024.0, 100.0) });
        assert_eq!(lengths_sent("sharegpt; isl sd=292", None), LengthsSent::ShareGpt);
        assert_eq!(lengths_sent("fixed", None), LengthsSent::Equal);
    }

    #[test]
    fn a_table_without_models_is_refused() {
        assert!(MeasuredRuns::read("a,b\n1,2\n".as_bytes(), "x.csv").is_err());
    }
}
