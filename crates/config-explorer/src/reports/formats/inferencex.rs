//! InferenceX (InferenceMAX): `agg_*.json` files, and rows of its API and database.
//!
//! Source: `utils/process_result.py` of SemiAnalysisAI/InferenceX. Latencies are in seconds. The three rates have three
//! denominators: `tput_per_gpu` all GPUs, `input_tput_per_gpu` those of the prefill engines and `output_tput_per_gpu`
//! those of the decode engines, which are all GPUs of an aggregated deployment. Lengths are nominal: what was sent
//! varies around them. `intvty` is 1 / TPOT.

use serde::Deserialize;

use super::fields::Fields;
use super::vllm_bench;
use crate::reports::lenient::TimeUnit::Seconds;
use crate::reports::lenient::{Map, Text};
use crate::reports::{Role, Run, Statistics};
use crate::workload::{LengthDistribution, LengthShape, Load};

/// A row of the API: the configuration, and the metrics in an object of their own.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ApiRow {
    #[serde(default)]
    metrics: Map<Fields>,
    #[serde(flatten)]
    fields: std::collections::BTreeMap<String, Text>,
}

impl ApiRow {
    /// The run of the row.
    pub(super) fn run(self) -> Run {
        let scalars = self.fields.into_iter().filter_map(|(key, Text(value))| Some((key, value?)));
        run(scalars.chain(self.metrics.0).collect())
    }
}

/// The run of one file, or of a row whose metrics were lifted beside its configuration.
pub(super) fn run(mut fields: Fields) -> Run {
    let mut run = Run { load_generator: Some("inferencemax".to_owned()), ..Run::default() };
    let server = &mut run.server;
    server.gpu = fields.text("hw").or_else(|| fields.text("hardware"));
    server.model = fields.text("model");
    server.engine = fields.text("framework");
    server.quantisation = fields.text("precision");
    server.image = fields.text("image");

    let prefill_gpus = fields.count("num_prefill_gpu");
    let decode_gpus = fields.count("num_decode_gpu");
    let (prefill, decode) = (role(&mut fields, "prefill_"), role(&mut fields, "decode_"));
    let both =
        Role { replicas: None, tp: fields.count("tp"), pp: fields.count("pp"), dp: None, ep: fields.count("ep") };
    let (all_gpus, input_gpus, output_gpus);
    if fields.flag("disagg") == Some(true) {
        server.roles.prefill = Some(prefill);
        server.roles.decode = Some(decode);
        all_gpus = prefill_gpus.zip(decode_gpus).and_then(|(prefill, decode)| prefill.checked_add(decode));
        (input_gpus, output_gpus) = (prefill_gpus, decode_gpus);
    } else {
        // The API repeats the one engine as prefill and as decode.
        let role = if both.tp.is_some() { both } else { Role { replicas: None, ..decode } };
        all_gpus = decode_gpus.or_else(|| role.tp?.checked_mul(role.pp.unwrap_or(1)));
        server.roles.both = Some(Role { replicas: Some(1), ..role });
        (input_gpus, output_gpus) = (all_gpus, all_gpus);
    }
    server.gpus = all_gpus;
    let mut rate = |key: &str, gpus: Option<u64>| Some(fields.finite(key)? * gpus? as f64);
    run.throughput.total_tokens = rate("tput_per_gpu", all_gpus);
    run.throughput.input_tokens = rate("input_tput_per_gpu", input_gpus);
    run.throughput.output_tokens = rate("output_tput_per_gpu", output_gpus);

    let nominal = |tokens| LengthDistribution { shape: LengthShape::Other, ..LengthDistribution::fixed(tokens) };
    run.workload.input = fields.finite("isl").map(nominal);
    run.workload.output = fields.finite("osl").map(nominal);
    run.workload.dataset = fields.text("scenario_type");
    run.counts.requests = fields.count("num_requests_total");
    let succeeded = fields.count("num_requests_successful");
    run.counts.failures = run.counts.requests.zip(succeeded).map(|(sent, done)| sent.saturating_sub(done));
    let clients = fields.finite("conc").or_else(|| fields.finite("users"));
    if clients.is_some() {
        run.workload.load = Load::of(None, clients, run.counts.requests);
    }
    run.duration_s = fields.finite("duration_seconds");
    run.throughput.requests =
        succeeded.zip(run.duration_s).filter(|(_, duration_s)| *duration_s > 0.0).map(|(done, s)| done as f64 / s);
    run.workload.prefix.hit_rate = fields.finite("server_gpu_cache_hit_rate");
    run.input_length = fields.statistics("input_tokens");
    run.output_length = fields.statistics("output_tokens_actual");

    let latency = &mut run.latency;
    latency.ttft = fields.latency("ttft", Seconds);
    latency.tpot = fields.latency("tpot", Seconds);
    latency.itl = fields.latency("itl", Seconds);
    latency.e2e = fields.latency("e2el", Seconds);
    if latency.e2e.is_empty() {
        latency.e2e = fields.latency("ttlt", Seconds);
    }
    vllm_bench::define(&mut run);
    // Computed from the others.
    let _: Statistics = fields.statistics("intvty");
    run.date = fields.text("date");
    fields.rest_to_extra(&mut run);
    run
}

fn role(fields: &mut Fields, prefix: &str) -> Role {
    let mut count = |key: &str| fields.count(&format!("{prefix}{key}"));
    let pp = count("pp");
    Role { replicas: count("num_workers"), tp: count("tp"), pp, dp: None, ep: count("ep") }
}
