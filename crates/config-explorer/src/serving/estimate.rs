//! From a deployment and its traffic to a prediction.

use super::disaggregated::{Pool, at_concurrency, at_rate, prefill_capacity};
use super::lane::Lane;
use super::open::{at_once, open};
use super::prediction::{Bound, Intervals, OperatorBreakdown, Prediction, Statistics, Throughput, Utilisation};
use super::steady::{Steady, closed};
use super::traffic::{Load, Traffic};
use crate::latency::{Chunk, Configuration, Decodes, Regime, StepTimes, breakdown};
use crate::workload::Quantity;
use crate::{Error, Result};

/// Engines of one kind.
#[derive(Debug, Clone, Copy)]
pub struct Role<'a> {
    /// What each of them is.
    pub configuration: Configuration<'a>,
    /// How many there are.
    pub replicas: u32,
    /// Tokens that the KV cache of one data-parallel rank holds, at the length of these requests.
    pub kv_tokens: f64,
    /// Bytes of KV cache of one token, over all GPUs of an engine.
    pub kv_bytes_per_token: f64,
}

/// A deployment.
#[derive(Debug, Clone, Copy)]
pub enum Deployment<'a> {
    /// Every engine computes prompts and decodes.
    Aggregated(Role<'a>),
    /// Some engines compute prompts, others decode.
    Disaggregated {
        /// Engines that compute prompts.
        prefill: Role<'a>,
        /// Engines that decode.
        decode: Role<'a>,
    },
}

/// Share of the inter-node link that a KV transfer reaches; not validated.
pub(crate) const TRANSFER_EFFICIENCY: f64 = 0.7;

/// What one engine does under a share of the traffic: the quick answer, without percentiles and breakdown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OperatingPoint {
    /// Mean time to first token, ms; infinite beyond saturation.
    pub ttft_mean_ms: f64,
    /// Mean time per output token, ms.
    pub tpot_mean_ms: f64,
    /// Requests served per second.
    pub requests_per_s: f64,
    /// Running sequences of the engine.
    pub running: f64,
    /// The KV cache or `max_num_seqs` keeps requests waiting.
    pub capacity_bound: bool,
    /// More arrives than can be served.
    pub saturated: bool,
}

/// The steady state of one engine whose data-parallel ranks hold `kv_tokens` each.
///
/// # Errors
/// [`Error::InvalidSetting`] if one request does not fit.
pub fn operating_point(step: &StepTimes, kv_tokens: f64, traffic: &Traffic) -> Result<OperatingPoint> {
    let steady = aggregated(step, kv_tokens, 1.0, traffic)?;
    let lanes = f64::from(step.lanes);
    Ok(OperatingPoint {
        ttft_mean_ms: steady.ttft_us() / 1e3,
        tpot_mean_ms: steady.tpot_us / 1e3,
        requests_per_s: steady.rate * lanes * 1e6,
        running: steady.running * lanes,
        capacity_bound: steady.capacity_bound,
        saturated: steady.saturated,
    })
}

fn lane<'a>(step: &'a StepTimes, kv_tokens: f64, traffic: &Traffic, hit_rate: f64) -> Result<Lane<'a>> {
    // The micro-batches of a pipeline share the cache of a rank.
    let kv_tokens = kv_tokens / f64::from(step.micro_batches);
    Lane::new(step, traffic.input_tokens, traffic.output_tokens, hit_rate, kv_tokens).ok_or_else(|| {
        Error::InvalidSetting {
            setting: "--input-len".to_owned(),
            reason: format!(
                "a request of {} + {} tokens does not fit the KV cache of {kv_tokens:.0} tokens",
                traffic.input_tokens, traffic.output_tokens
            ),
        }
    })
}

/// Steady state of a lane of `replicas` engines that share the traffic evenly.
fn aggregated(step: &StepTimes, kv_tokens: f64, replicas: f64, traffic: &Traffic) -> Result<Steady> {
    let lane = lane(step, kv_tokens, traffic, traffic.prefix_hit_rate)?;
    let lanes = f64::from(step.lanes) * replicas;
    Ok(match traffic.load {
        Load::Closed { clients, requests } => {
            // Fewer clients than lanes: some lanes idle, and the others have one each.
            closed(&lane, (clients / lanes).max(clients.min(1.0)), requests.map(|requests| requests / clients))
        }
        Load::Open { rate_per_s } => open(&lane, rate_per_s / lanes / 1e6),
        Load::Burst { requests } => at_once(&lane, (requests / lanes).max(1.0)),
    })
}

impl Deployment<'_> {
    /// Its roles, prefill before decode.
    fn roles(&self) -> Vec<&Role<'_>> {
        match self {
            Self::Aggregated(role) => vec![role],
            Self::Disaggregated { prefill, decode } => vec![prefill, decode],
        }
    }
}

/// The steady state of a deployment.
struct Solved {
    steady: Steady,
    /// Requests per us of the whole deployment.
    rate_per_us: f64,
    /// Share of its time that a pool of engines which only compute prompts is busy.
    prefill_busy: Option<f64>,
}

/// Solves a deployment for its traffic. `steps` are the compiled times of its roles, prefill before decode.
fn solve(deployment: &Deployment<'_>, steps: &[&StepTimes], traffic: &Traffic) -> Result<Solved> {
    match (deployment, steps) {
        (Deployment::Aggregated(role), [step]) => {
            let steady = aggregated(step, role.kv_tokens, f64::from(role.replicas), traffic)?;
            // Fewer clients than lanes leave lanes idle.
            let lanes = f64::from(step.lanes * role.replicas);
            let busy = match traffic.load {
                Load::Closed { clients, .. } | Load::Burst { requests: clients } => lanes.min(clients),
                Load::Open { .. } => lanes,
            };
            Ok(Solved { steady, rate_per_us: steady.rate * busy, prefill_busy: None })
        }
        (Deployment::Disaggregated { prefill, decode }, [prefill_step, decode_step]) => {
            let [prefill_lanes, decode_lanes] = [(prefill, prefill_step), (decode, decode_step)]
                .map(|(role, step)| f64::from(role.replicas * step.lanes));
            let prompts = Traffic { output_tokens: 1.0, ..*traffic };
            let prefills = Pool {
                lane: lane(prefill_step, prefill.kv_tokens, &prompts, traffic.prefix_hit_rate)?,
                lanes: prefill_lanes,
            };
            // The decoding engine finds the whole prompt in its cache but for the last token.
            let decodes = Pool { lane: lane(decode_step, decode.kv_tokens, traffic, 1.0)?, lanes: decode_lanes };
            let link = prefill.configuration.accelerator.inter_node_gb_per_s * 1e3 * f64::from(prefill_step.gpus);
            let transfer_us = traffic.input_tokens * prefill.kv_bytes_per_token / (TRANSFER_EFFICIENCY * link);
            let steady = match traffic.load {
                Load::Closed { clients, .. } => at_concurrency(&prefills, &decodes, transfer_us, clients),
                Load::Open { rate_per_s } => at_rate(&prefills, &decodes, transfer_us, rate_per_s / 1e6),
                Load::Burst { .. } => {
                    return Err(Error::InvalidSetting {
                        setting: "--requests".to_owned(),
                        reason: "a burst on prefill and decode pools is not modelled".to_owned(),
                    });
                }
            };
            let prefill_busy = Some(steady.rate / prefill_capacity(&prefills));
            Ok(Solved { steady, rate_per_us: steady.rate, prefill_busy })
        }
        (_, steps) => Err(Error::InvalidSetting {
            setting: "steps".to_owned(),
            reason: format!("a deployment needs the compiled times of each role, and {} were given", steps.len()),
        }),
    }
}

/// What a search compares: a prediction without breakdown and intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latencies {
    /// Time to first token; `None` beyond saturation, where it grows for ever.
    pub ttft_ms: Option<Statistics>,
    /// Time per output token after the first, per request.
    pub tpot_ms: Statistics,
    /// Time between two tokens.
    pub itl_ms: Statistics,
    /// From sending a request to its last token; `None` beyond saturation.
    pub e2e_ms: Option<Statistics>,
    /// Requests served per second.
    pub requests_per_s: f64,
    /// More arrives than can be served; the requests per second are the most there are.
    pub saturated: bool,
}

impl Latencies {
    fn of(traffic: &Traffic, solved: &Solved) -> Self {
        let steady = &solved.steady;
        let ttft_ms = (!steady.saturated).then(|| ttft(steady));
        let tpot_ms = tpot(traffic, steady);
        let decoded = (traffic.output_tokens - 1.0).max(0.0);
        let e2e_ms = ttft_ms.map(|ttft| Statistics {
            mean: ttft.mean + decoded * tpot_ms.mean,
            p50: ttft.p50 + decoded * tpot_ms.p50,
            p90: ttft.p90 + decoded * tpot_ms.p90,
            p95: ttft.p95 + decoded * tpot_ms.p95,
            p99: ttft.p99 + decoded * tpot_ms.p99,
        });
        Self {
            ttft_ms,
            tpot_ms,
            itl_ms: itl(traffic, steady),
            e2e_ms,
            requests_per_s: solved.rate_per_us * 1e6,
            saturated: steady.saturated,
        }
    }

    /// What an objective limits: ms, or per second; `None` for a time beyond saturation and for a statistic that is not
    /// predicted.
    pub fn value(&self, quantity: Quantity, output_tokens: f64) -> Option<f64> {
        match quantity {
            Quantity::Ttft(statistic) => self.ttft_ms?.get(statistic),
            Quantity::Tpot(statistic) => self.tpot_ms.get(statistic),
            Quantity::Itl(statistic) => self.itl_ms.get(statistic),
            Quantity::E2e(statistic) => self.e2e_ms?.get(statistic),
            Quantity::Throughput => Some(self.requests_per_s * output_tokens),
            Quantity::Requests => Some(self.requests_per_s),
        }
    }
}

/// Share of its time from which a pool of engines that compute prompts keeps the others waiting.
const FULL: f64 = 0.99;

/// What binds a step that computes a prompt.
fn prefill_bound(traffic: &Traffic, role: &Role<'_>, step: &StepTimes) -> Bound {
    let cached = (traffic.input_tokens * traffic.prefix_hit_rate).min(traffic.input_tokens - 1.0);
    let tokens = (traffic.input_tokens - cached).min(step.max_num_batched_tokens);
    let shares = breakdown(&role.configuration, Decodes::default(), &[Chunk { tokens, context: cached }]);
    Bound::of(&shares.into_iter().map(Into::into).collect::<Vec<_>>()).0
}

/// Latencies of a deployment whose step times are compiled already: prefill before decode.
///
/// # Errors
/// As [`estimate`], and [`Error::InvalidSetting`] for another number of step times than roles.
pub fn latencies(deployment: &Deployment<'_>, steps: &[&StepTimes], traffic: &Traffic) -> Result<Latencies> {
    Ok(Latencies::of(traffic, &solve(deployment, steps, traffic)?))
}

/// Predicts what a deployment does under its traffic.
///
/// # Errors
/// [`Error::InvalidSetting`] for a request that does not fit an engine, or a burst on a disaggregated deployment.
pub fn estimate(deployment: &Deployment<'_>, traffic: &Traffic) -> Result<Prediction> {
    let roles = deployment.roles();
    let steps: Vec<_> = roles.iter().map(|role| StepTimes::compile(&role.configuration)).collect();
    let steps: Vec<_> = steps.iter().collect();
    let solved = solve(deployment, &steps, traffic)?;
    let gpus: u32 = roles.iter().zip(&steps).map(|(role, step)| role.replicas * step.gpus).sum();
    // The role that decodes is last.
    let last = roles.len() - 1;
    let pools = matches!(deployment, Deployment::Disaggregated { .. });
    let unknown: &[&str] = if pools { &["prefill and decode pools were not validated end to end"] } else { &[] };
    let mut prediction = prediction(traffic, roles[last], steps[last], &solved, f64::from(gpus), unknown);
    if let Some(busy) = solved.prefill_busy {
        prediction.utilisation.prefill = Some(busy.min(1.0));
        if busy > FULL {
            prediction.bound_by = prefill_bound(traffic, roles[0], steps[0]);
        }
    }
    Ok(prediction)
}

/// The answer for a steady state on so many GPUs, and what nobody has validated of it.
fn prediction(
    traffic: &Traffic,
    role: &Role<'_>,
    step: &StepTimes,
    solved: &Solved,
    gpus: f64,
    unknown: &[&str],
) -> Prediction {
    let Latencies { ttft_ms, tpot_ms, itl_ms, e2e_ms, requests_per_s, saturated } = Latencies::of(traffic, solved);
    let steady = &solved.steady;
    let output_tokens_per_s = requests_per_s * traffic.output_tokens;
    let (operators, bound_by, overhead) = operators(traffic, role, step, steady);
    let mut reach = super::intervals::interval(traffic, &role.configuration, steady);
    if !unknown.is_empty() {
        let widest = role.configuration.calibration.interval(Regime::Extrapolated);
        (reach.ttft, reach.tpot, reach.regime) = (widest.ttft, widest.tpot, Regime::Extrapolated);
        reach.basis.clone_from(&widest.basis);
        reach.warnings.extend(unknown.iter().map(|&unknown| unknown.to_owned()));
    }
    if overhead > 0.5 {
        reach.warnings.push(format!(
            "launching kernels, the latency of links and the host take {:.0} % of a step",
            100.0 * overhead
        ));
    }
    Prediction {
        ttft_ms,
        tpot_ms,
        itl_ms,
        e2e_ms,
        throughput: Throughput {
            requests_per_s,
            output_tokens_per_s,
            total_tokens_per_s: requests_per_s * (traffic.input_tokens + traffic.output_tokens),
            output_tokens_per_s_per_gpu: output_tokens_per_s / gpus,
        },
        utilisation: Utilisation {
            kv_cache: (steady.running
                * f64::from(step.micro_batches)
                * (traffic.input_tokens + traffic.output_tokens / 2.0)
                / role.kv_tokens)
                .min(1.0),
            batch_size_mean: steady.running * f64::from(step.lanes),
            prefix_hit_rate: traffic.prefix_hit_rate,
            prefill: None,
            preemptions: 0.0,
        },
        bound_by,
        saturated,
        interval_80: Intervals {
            ttft_mean_ms: ttft_ms.map(|ttft| reach.ttft.map(|factor| ttft.mean * factor)),
            tpot_mean_ms: reach.tpot.map(|factor| tpot_ms.mean * factor),
            output_tokens_per_s: {
                let [slow, fast] = reach.tpot.map(|factor| output_tokens_per_s / factor);
                // Arrivals decide the throughput of an open loop that keeps up.
                match traffic.load {
                    Load::Open { .. } if !steady.saturated => [output_tokens_per_s; 2],
                    _ => [fast, slow],
                }
            },
        },
        regime: reach.regime,
        interval_basis: reach.basis,
        breakdown: operators,
        warnings: reach.warnings,
    }
}

/// Time to first token. In steady state a request waits uniformly for its step and exponentially in the queue; both
/// parts are taken at the same rank, which keeps the mean. The burst's requests finish evenly over twice its mean.
fn ttft(steady: &Steady) -> Statistics {
    let (share, burst_us) = steady.burst;
    let fixed_us = steady.request_us + steady.least_us;
    let settled = |rank: f64| fixed_us + 2.0 * rank * steady.step_wait_us - (1.0 - rank).ln() * steady.queue_us;
    let bursting = |rank: f64| steady.request_us + 2.0 * rank * burst_us;
    // The rank of a time in the mixture, inverted by bisection between the two parts' quantiles.
    let quantile = |rank: f64| {
        if share >= 1.0 {
            return bursting(rank) / 1e3;
        }
        if share <= 0.0 {
            return settled(rank) / 1e3;
        }
        let rank_of = |time_us: f64| {
            let of_burst = ((time_us - steady.request_us) / (2.0 * burst_us)).clamp(0.0, 1.0);
            let (mut low, mut high) = (0.0, 1.0 - 1e-9);
            for _ in 0..40 {
                let middle = f64::midpoint(low, high);
                if settled(middle) < time_us { low = middle } else { high = middle }
            }
            share * of_burst + (1.0 - share) * low
        };
        let (mut low, mut high) = (0.0, bursting(1.0).max(settled(1.0 - 1e-9)));
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if rank_of(middle) < rank { low = middle } else { high = middle }
        }
        high / 1e3
    };
    Statistics::of(steady.ttft_us() / 1e3, quantile)
}

/// Standard normal quantiles of 50, 90, 95 and 99 %.
fn normal_quantile(rank: f64) -> f64 {
    match rank {
        ..=0.5 => 0.0,
        ..=0.9 => 1.281_552,
        ..=0.95 => 1.644_854,
        _ => 2.326_348,
    }
}

/// Time per output token: the prompts that interrupt a request are a Poisson number.
fn tpot(traffic: &Traffic, steady: &Steady) -> Statistics {
    let interrupted_us = (steady.tpot_us - steady.decode_us).max(0.0);
    let interruptions = (interrupted_us * traffic.output_tokens / steady.prompt_us.max(1.0)).max(0.0);
    let deviation_us = if interruptions > 0.0 { interrupted_us / interruptions.sqrt() } else { 0.0 };
    Statistics::of(steady.tpot_us / 1e3, |rank| {
        // No request is slower than if a prompt stood before each of its tokens.
        let slowest_us = (steady.decode_us + steady.prompt_us).max(steady.tpot_us);
        (steady.tpot_us + normal_quantile(rank) * deviation_us).min(slowest_us) / 1e3
    })
}

/// Time between tokens: a plain step, or one with prompts.
fn itl(traffic: &Traffic, steady: &Steady) -> Statistics {
    let interrupted = ((steady.tpot_us - steady.decode_us) / steady.prompt_us.max(1.0)).clamp(0.0, 1.0);
    let mean = if traffic.output_tokens > 1.0 { steady.tpot_us } else { steady.decode_us };
    Statistics::of(mean / 1e3, |rank| {
        (steady.decode_us + if 1.0 - rank < interrupted { steady.prompt_us } else { 0.0 }) / 1e3
    })
}

/// Operators of the mean step, what binds the deployment, and the share of the step that launches and the host take.
fn operators(
    traffic: &Traffic,
    role: &Role<'_>,
    step: &StepTimes,
    steady: &Steady,
) -> (Vec<OperatorBreakdown>, Bound, f64) {
    let context = traffic.input_tokens + traffic.output_tokens / 2.0;
    let running = steady.running.max(1.0);
    let decodes = Decodes { sequences: running, context_tokens: running * context };
    let cached = (traffic.input_tokens * traffic.prefix_hit_rate).min(traffic.input_tokens - 1.0);
    // What a mean step computes of prompts.
    let chunk_tokens =
        (steady.rate * steady.tpot_us * (traffic.input_tokens - cached)).min(step.max_num_batched_tokens);
    let chunks = [Chunk {
        tokens: chunk_tokens,
        context: cached + (traffic.input_tokens - cached - chunk_tokens).max(0.0) / 2.0,
    }];
    let shares = breakdown(&role.configuration, decodes, if chunk_tokens > 0.0 { &chunks } else { &[] });
    let operators: Vec<OperatorBreakdown> = shares.into_iter().map(Into::into).collect();
    let (binds, overhead) = Bound::of(&operators);
    let bound_by = if steady.capacity_bound {
        Bound::KvCapacity
    } else if matches!(traffic.load, Load::Open { .. }) {
        Bound::Arrivals
    } else {
        binds
    };
    (operators, bound_by, overhead)
}
