//! A simulation as a run, to be explored beside measured ones.

use sha2::{Digest, Sha256};

use super::outcome::Outcome;
use crate::reports::{
    Counts, ItlDefinition, Kind, Latencies, Run, RunId, Server, Statistics, Throughput, TpotDefinition,
};
use crate::workload::Workload;

/// The name by which a simulated run says where its requests came from.
const LOAD_GENERATOR: &str = "config-explorer simulate";

/// The run of a simulation in which a server was `sent` so many requests of a workload.
pub fn run_of(outcome: &Outcome, server: Server, workload: Workload, sent: u32) -> Run {
    let finished = &outcome.finished;
    let tokens = |column: &[u32]| Statistics::of_sample(column.iter().copied().map(f64::from).collect());
    let mut latency = Latencies {
        ttft: finished.ttft_ms(),
        tpot: finished.tpot_ms(),
        itl: outcome.itl_ms.clone(),
        e2e: finished.e2e_ms(),
        ..Latencies::default()
    };
    latency.define(TpotDefinition::WithoutFirstToken, ItlDefinition::PerChunk);
    let (output, total) = (outcome.output_tokens_per_s(), outcome.total_tokens_per_s());
    let counts = Counts {
        requests: Some(sent.into()),
        failures: Some(u64::from(sent).saturating_sub(finished.len() as u64)),
        incomplete: None,
    };
    Run {
        id: RunId { content: digest(outcome, &server), index: 0 },
        kind: Kind::Simulated,
        note: Some(format!("simulated by config-explorer {}", env!("CARGO_PKG_VERSION"))),
        server,
        load_generator: Some(LOAD_GENERATOR.to_owned()),
        workload,
        input_length: tokens(&finished.input_tokens),
        output_length: tokens(&finished.output_tokens),
        counts,
        latency,
        throughput: Throughput {
            requests: Some(outcome.requests_per_s()),
            input_tokens: Some(total - output),
            output_tokens: Some(output),
            total_tokens: Some(total),
        },
        duration_s: Some(outcome.duration_s),
        ..Run::default()
    }
}

/// Equal simulations have equal identities.
fn digest(outcome: &Outcome, server: &Server) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(format!("{server:?}"));
    let finished = &outcome.finished;
    for column in [&finished.sent_ns, &finished.first_token_ns, &finished.last_token_ns] {
        column.iter().for_each(|time| hash.update(time.to_le_bytes()));
    }
    hash.finalize().into()
}
