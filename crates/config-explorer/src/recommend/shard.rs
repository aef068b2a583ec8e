//! Deployments as runs, so that a store can hold them: parts of a search that were done apart are read together by reading
//! their folder.

use sha2::{Digest, Sha256};

use super::answer::Evidence;
use super::query::{Demand, Query};
use super::rank::Scored;
use super::reasons::fleet_name;
use crate::engine::join_command;
use crate::memory::ParallelismSummary;
use crate::reports::{
    ItlDefinition, Kind, Latencies, Role, Roles, Run, RunId, Server, Statistics, Throughput, TpotDefinition,
};
use crate::serving;
use crate::workload::{LengthDistribution, Load, Statistic, Workload};

/// A deployment as a run: what is known of it under the demand, its cost, and in `extra` what it holds within the
/// objectives (`max_rate_within_slo`) and whether it meets them (`meets`). Equal deployments under equal demands have equal
/// identities.
pub(super) fn considered(query: &Query<'_>, scored: &Scored<'_>) -> Run {
    let fleet = &scored.fleet;
    let kind = match scored.basis.evidence() {
        Evidence::Measured => Kind::Measured,
        Evidence::Simulated => Kind::Simulated,
        Evidence::Estimated => Kind::Estimated,
    };
    let latencies = &scored.latencies;
    let mut roles = Roles::default();
    let mut commands = Vec::new();
    let mut models = Vec::new();
    let mut gpus = Vec::new();
    for (name, engines) in fleet.roles() {
        let candidate = engines.candidate;
        let layout = ParallelismSummary::from(candidate.parallelism());
        let role = Role {
            replicas: Some(engines.replicas.into()),
            tp: Some(layout.tp.into()),
            pp: Some(layout.pp.into()),
            dp: Some(layout.dp.into()),
            ep: Some(layout.ep.into()),
        };
        match name {
            "prefill" => roles.prefill = Some(role),
            "decode" => roles.decode = Some(role),
            _ => roles.both = Some(role),
        }
        let model = &query.variants[candidate.variant].model.id;
        commands.push(join_command(&candidate.serve.to_command(model)));
        models.push(model.clone());
        gpus.push(query.pool[candidate.share].accelerator.name.clone());
    }
    models.dedup();
    gpus.dedup();
    commands.dedup();
    let load = match query.demand {
        Demand::Rate(rate) => Load::of(Some(rate), None, None),
        Demand::Users(users) => Load::of(None, Some(users), None),
    };
    let output_tokens_per_s = latencies.requests_per_s * query.output_tokens;
    let mut latency = Latencies {
        ttft: statistics(latencies.ttft_ms),
        tpot: statistics(Some(latencies.tpot_ms)),
        itl: statistics(Some(latencies.itl_ms)),
        e2e: statistics(latencies.e2e_ms),
        ..Latencies::default()
    };
    latency.define(TpotDefinition::WithoutFirstToken, ItlDefinition::PerChunk);
    let name = fleet_name(query, fleet);
    let demand = format!(
        "{name} {commands:?} {:?} {} {} {} {}",
        query.demand, query.input_tokens, query.output_tokens, query.prefix_hit_rate, query.objectives
    );
    Run {
        id: RunId { content: Sha256::digest(demand).into(), index: 0 },
        kind,
        note: Some(name),
        server: Server {
            model: Some(models.join(", ")),
            gpu: Some(gpus.join(", ")),
            gpus: Some(fleet.gpus().into()),
            roles,
            engine: Some("vllm".to_owned()),
            engine_version: Some(query.rules.version.to_string()),
            flags: Some(commands.join("; ")),
            usd_per_hour: scored.usd_per_hour,
            ..Server::default()
        },
        load_generator: Some("config-explorer recommend".to_owned()),
        workload: Workload {
            input: Some(LengthDistribution::fixed(query.input_tokens)),
            output: Some(LengthDistribution::fixed(query.output_tokens)),
            load,
            ..Workload::default()
        },
        latency,
        throughput: Throughput {
            requests: Some(latencies.requests_per_s),
            input_tokens: Some(latencies.requests_per_s * query.input_tokens),
            output_tokens: Some(output_tokens_per_s),
            total_tokens: Some(latencies.requests_per_s * (query.input_tokens + query.output_tokens)),
        },
        extra: [("max_rate_within_slo", scored.max_rate.to_string()), ("meets", scored.meets.to_string())]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
        ..Run::default()
    }
}

fn statistics(statistics: Option<serving::Statistics>) -> Statistics {
    let all = [Statistic::Mean, Statistic::P50, Statistic::P90, Statistic::P95, Statistic::P99];
    all.into_iter().filter_map(|statistic| Some((statistic, statistics?.get(statistic)?))).collect()
}
