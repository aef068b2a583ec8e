//! From an imported run to the row that a fit reads.

use super::runs::{WAVES, limits_in, version_in};
use super::{LengthsSent, MeasuredRun};
use crate::reports::{Kind, Layout, Role, Run};
use crate::serving::Load;
use crate::workload::{self, LoadKind};

impl MeasuredRun {
    /// The row of an imported run; `None` for one that was simulated or estimated.
    pub fn of_run(run: &Run) -> Option<Self> {
        if run.kind != Kind::Measured {
            return None;
        }
        let server = &run.server;
        let role = server.roles.both.as_ref().or(server.roles.decode.as_ref());
        let size = |field: fn(&Role) -> Option<u64>| {
            role.and_then(field).and_then(|size| u32::try_from(size).ok()).unwrap_or(1).max(1)
        };
        let flags = server.flags.as_deref().unwrap_or_default();
        let prefix = &run.workload.prefix;
        let shared = prefix.shared_tokens.is_some_and(|tokens| tokens > 0.0);
        Some(Self {
            cells: Vec::new(),
            id: run.short_id(),
            model: server.model.clone().unwrap_or_default(),
            // A run without a folder for its config is of the model of that name.
            config: server.config.clone().or_else(|| server.model.clone()).unwrap_or_default(),
            precision: server.config.as_ref().and(server.precision.clone()).unwrap_or_default(),
            fp8_kv_cache: server.kv_cache_dtype.as_ref().is_some_and(|dtype| dtype.starts_with("fp8")),
            gpu: server.gpu.clone().unwrap_or_default(),
            layout: [
                size(|role| role.tp),
                size(|role| role.pp),
                size(|role| role.dp),
                size(|role| role.ep),
                size(|role| role.replicas),
            ],
            aggregated: server.roles.layout() == Some(Layout::Aggregated),
            version: server.engine_version.as_deref().and_then(version_in),
            async_scheduling: server.async_scheduling,
            args: limits_in(flags),
            lengths: run.input_length.mean().zip(run.output_tokens_mean()).or_else(|| {
                let mean = |length: Option<workload::LengthDistribution>| length.map(|length| length.mean);
                mean(run.workload.input).zip(mean(run.workload.output))
            }),
            lengths_sent: LengthsSent::Equal,
            shared_prefix: None,
            routed: false,
            burstiness: None,
            requests: run.counts.requests.map(|requests| requests as f64),
            load: load(&run.workload.load, run.counts.requests),
            shares_prefixes: shared || prefix.hit_rate.is_some_and(|rate| rate > 0.0) || prefix.description.is_some(),
            ttft_mean_ms: run.latency.ttft.mean(),
            tpot_mean_ms: run.tpot_mean_ms(),
            output_tokens_per_s: run.throughput.output_tokens,
            requests_per_s: run.throughput.requests,
            quarantine: run.quarantine.clone().unwrap_or_default(),
        })
    }
}

fn load(load: &workload::Load, requests: Option<u64>) -> Option<Load> {
    let requests = requests.map(|requests| requests as f64);
    match load.kind? {
        LoadKind::Closed => {
            let clients = load.concurrency?;
            Some(Load::Closed { clients, requests: Some(requests.unwrap_or(WAVES * clients).max(clients)) })
        }
        LoadKind::Open => load.rate_per_s.map(|rate_per_s| Load::Open { rate_per_s }),
        LoadKind::Burst => requests.map(|requests| Load::Burst { requests }),
    }
}
