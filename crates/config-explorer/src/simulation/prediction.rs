//! The answer of a simulation, in the words of the steady state: the two are printed alike.

use super::outcome::Outcome;
use crate::latency::Calibration;
use crate::serving;
use crate::workload::{Statistic, Statistics};

/// What a simulation found, with everything that it does not measure taken from the steady state `estimate` of the same
/// case: what binds, the operators, how far the case is from what was measured, and so the intervals.
pub fn simulated(
    estimate: serving::Prediction,
    outcome: &Outcome,
    gpus: f64,
    calibration: &Calibration,
) -> serving::Prediction {
    let finished = &outcome.finished;
    let ttft_ms = printed_statistics(&finished.ttft_ms());
    let tpot_ms = printed_statistics(&finished.tpot_ms()).unwrap_or(estimate.tpot_ms);
    let output_tokens_per_s = outcome.output_tokens_per_s();
    let quantiles = calibration.interval(estimate.regime);
    // Arrivals decide the throughput of an open load that is kept up with.
    let paced = outcome.is_open && !outcome.saturated;
    serving::Prediction {
        ttft_ms,
        tpot_ms,
        itl_ms: printed_statistics(&outcome.itl_ms).unwrap_or(tpot_ms),
        e2e_ms: printed_statistics(&finished.e2e_ms()),
        throughput: serving::Throughput {
            requests_per_s: outcome.requests_per_s(),
            output_tokens_per_s,
            total_tokens_per_s: outcome.total_tokens_per_s(),
            output_tokens_per_s_per_gpu: output_tokens_per_s / gpus,
        },
        utilisation: serving::Utilisation {
            kv_cache: outcome.mean_over_time(|interval| interval.kv_cache),
            batch_size_mean: outcome.mean_over_time(|interval| interval.running),
            prefix_hit_rate: finished.prefix_hit_rate(),
            preemptions: finished.total_preemptions() as f64 / outcome.duration_s.max(f64::MIN_POSITIVE),
            ..estimate.utilisation
        },
        saturated: outcome.saturated,
        interval_80: serving::Intervals {
            ttft_mean_ms: ttft_ms.map(|ttft| quantiles.ttft.map(|factor| ttft.mean * factor)),
            tpot_mean_ms: quantiles.tpot.map(|factor| tpot_ms.mean * factor),
            output_tokens_per_s: match quantiles.tpot {
                _ if paced => [output_tokens_per_s; 2],
                [fast, slow] => [output_tokens_per_s / slow, output_tokens_per_s / fast],
            },
        },
        ..estimate
    }
}

/// The statistics that are printed; `None` without a sample.
pub fn printed_statistics(statistics: &Statistics) -> Option<serving::Statistics> {
    let [mean, p50, p90, p95, p99] =
        [Statistic::Mean, Statistic::P50, Statistic::P90, Statistic::P95, Statistic::P99].map(|s| statistics.get(s));
    Some(serving::Statistics { mean: mean?, p50: p50?, p90: p90?, p95: p95?, p99: p99? })
}
