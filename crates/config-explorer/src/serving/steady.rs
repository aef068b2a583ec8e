//! The steady state of one lane: how many sequences run, how long a step takes, how long a request waits.
//!
//! Follows the reference's closed form (3.3) with three differences: the running sequences are the root of Little's law
//! (bracketed, so that it always converges), the KV cache limits them only where they would exceed it, and the initial
//! burst pays for the decode steps between its prompts.

use super::lane::{Costs, Lane};

/// Spread of the lengths of requests that started together: after `w` waves they end over `spread x sqrt(w)` of a wave.
const SPREAD: f64 = 0.22;
/// Prompts that meet in a step, against those of Poisson arrivals.
const MEETING: f64 = 1.2;

/// Beyond this many waves the starts no longer matter.
const WAVES_MAX: f64 = 24.0;

/// Steady state of a lane, us.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Steady {
    /// Mean time between two tokens of a request.
    pub(super) tpot_us: f64,
    /// A step that only decodes.
    pub(super) decode_us: f64,
    /// What a prompt adds to its step.
    pub(super) prompt_us: f64,
    /// Time of a request outside of the engine.
    pub(super) request_us: f64,
    /// From arrival at the engine to the first token: the least, what waiting for steps adds in the mean, and what
    /// queueing behind others adds.
    pub(super) least_us: f64,
    pub(super) step_wait_us: f64,
    pub(super) queue_us: f64,
    /// The initial burst: its share of the requests, and its mean time from arrival to first token.
    pub(super) burst: (f64, f64),
    /// Sequences that decode.
    pub(super) running: f64,
    /// Requests per us.
    pub(super) rate: f64,
    /// The KV cache or `max_num_seqs` keeps requests waiting.
    pub(super) capacity_bound: bool,
    /// More arrives than the lane can serve.
    pub(super) saturated: bool,
}

impl Steady {
    /// Mean time to first token.
    pub(super) fn ttft_us(&self) -> f64 {
        let (share, burst_us) = self.burst;
        self.request_us + share * burst_us + (1.0 - share) * (self.least_us + self.step_wait_us + self.queue_us)
    }
}

/// Time per token, and the prompts that meet in a step.
pub(super) fn decode_pace(lane: &Lane<'_>, costs: &Costs, running: f64) -> (f64, f64) {
    let most = lane.prompts_beside_max();
    let mut tpot_us = costs.decode_us + running / lane.output * costs.prompt_us;
    let mut meeting = 0.0;
    for _ in 0..3 {
        let rate = running / (lane.output * tpot_us);
        meeting = (MEETING * rate * (tpot_us * lane.phase() + costs.decode_us + costs.prompt_us)).min(most);
        tpot_us = costs.decode_us + running / lane.output * costs.mixed_us(meeting);
    }
    (tpot_us, meeting)
}

/// Waiting of requests that arrive `waves` waves after all clients started together, the mean over the waves: for a
/// step, and in a queue.
fn waits(
    lane: &Lane<'_>,
    costs: &Costs,
    running: f64,
    (tpot_us, meeting): (f64, f64),
    burst_us: f64,
    waves: Option<f64>,
) -> (f64, f64) {
    let most = lane.prompts_beside_max();
    let mixed_us = costs.mixed_us(meeting);
    let wave_us = lane.output * tpot_us;
    let after = |wave: Option<f64>| {
        // Requests of a wave end over this time, and their clients' next requests arrive so.
        let width_us = wave.map_or(wave_us, |wave| wave_us.min(SPREAD * wave.sqrt() * wave_us + burst_us));
        let rate = running / width_us;
        let full_us = costs.decode_us + lane.prompts_per_step() * costs.packed_us;
        let step_us = (costs.decode_us + (rate * mixed_us).min(1.0) * mixed_us).clamp(tpot_us, full_us.max(tpot_us));
        let phase_us = step_us * lane.phase();
        let beside = (MEETING * rate * (phase_us + costs.decode_us + costs.prompt_us)).min(most);
        (phase_us, beside * costs.packed_us + ((running * costs.packed_us - width_us) / 2.0).max(0.0))
    };
    match waves.map(|waves| (waves - 1.0).round()) {
        None => after(None),
        Some(later) if later < 1.0 => after(Some(1.0)),
        Some(later) => {
            let counted = later.min(WAVES_MAX);
            let mut sum = (0.0, 0.0);
            for wave in 1..=counted as u64 {
                let (step_us, queue_us) = after(Some(wave as f64));
                sum = (sum.0 + step_us, sum.1 + queue_us);
            }
            (sum.0 / counted, sum.1 / counted)
        }
    }
}

/// Mean time to first token of `together` requests that start at once, and the time until all have one.
pub(super) fn burst(lane: &Lane<'_>, costs: &Costs, together: f64) -> (f64, f64) {
    let (first_us, last_us) = (lane.decode_us(1.0), lane.decode_us(together));
    let steps = together / lane.prompts_per_step();
    // Each step of prompts also decodes for those that have started, one more with every prompt.
    let total_us = together * costs.packed_us + steps * f64::midpoint(first_us, last_us);
    let mean_us = together * costs.packed_us / 2.0 + steps * (first_us / 2.0 + (last_us - first_us) / 6.0);
    // A request waits for the whole of its own step.
    let own_us = total_us.min(lane.prompts_per_step() * costs.packed_us + first_us) / 2.0;
    let front_end_us = lane.front_end_us() * together / 2.0 + costs.prompt_us;
    (costs.decode_us + (mean_us + own_us).max(front_end_us), total_us)
}

/// `clients` clients, each sending its next request when the last one ends; `waves` requests each, or for ever.
pub(super) fn closed(lane: &Lane<'_>, clients: f64, waves: Option<f64>) -> Steady {
    let state = |running: f64| {
        // A running request sees itself, and each other client as often as it runs.
        let costs = lane.costs((1.0 + running * (clients - 1.0) / clients).min(lane.sequences_max));
        let pace = decode_pace(lane, &costs, running);
        let (burst_us, total_us) = burst(lane, &costs, running);
        let waits = waits(lane, &costs, running, pace, total_us, waves);
        (costs, pace, waits, burst_us)
    };
    // Little's law: a client either decodes or waits.
    let excess = |running: f64| {
        let (costs, (tpot_us, _), (step_us, queue_us), _) = state(running);
        let decoding_us = lane.output * tpot_us;
        let waiting_us = lane.request_us(running) + step_us + queue_us + costs.prompt_us;
        running - clients * decoding_us / (decoding_us + waiting_us)
    };
    let limit = lane.sequences_max.min(clients);
    let full = lane.sequences_max < clients && excess(limit) < 0.0;
    let running = if full { limit } else { root(excess, limit) };
    let (costs, (tpot_us, _), (step_wait_us, mut queue_us), mut burst_us) = state(running);
    let rate = running / (lane.output * tpot_us);
    let least_us = costs.first_us;
    if full {
        // All clients that do not decode wait.
        let waiting_us = clients / rate - lane.output * tpot_us - lane.request_us(running);
        queue_us = queue_us.max(waiting_us - least_us - step_wait_us);
        let first = running / clients;
        burst_us = first * burst_us + (1.0 - first) * waiting_us;
    }
    let share = waves.map_or(0.0, |waves| 1.0 / waves.max(1.0));
    Steady {
        tpot_us,
        decode_us: costs.decode_us,
        prompt_us: costs.prompt_us,
        request_us: lane.request_us(running),
        least_us,
        step_wait_us,
        queue_us,
        burst: (share, burst_us),
        running,
        rate,
        capacity_bound: full && lane.capacity_limits,
        saturated: false,
    }
}

/// The least root of a function that is negative at 0, within an octave (steps get slower in jumps, where the next CUDA
/// graph begins, so that there may be several); `high` if it has none.
pub(super) fn root(function: impl Fn(f64) -> f64, high: f64) -> f64 {
    let (mut low, mut at_low) = (0.0, -high);
    let mut next = high.min(1.0);
    loop {
        let at_next = function(next);
        if at_next > 0.0 {
            return between(function, (low, at_low), (next, at_next));
        }
        if next >= high {
            return high;
        }
        (low, at_low) = (next, at_next);
        next = (2.0 * next).min(high);
    }
}

/// Root of a function between a point where it is negative and one where it is positive (regula falsi, Illinois).
fn between(
    function: impl Fn(f64) -> f64,
    (mut low, mut at_low): (f64, f64),
    (mut high, mut at_high): (f64, f64),
) -> f64 {
    const TOLERANCE: f64 = 1e-4;
    const ITERATIONS: usize = 40;
    let mut side = 0;
    for _ in 0..ITERATIONS {
        let middle = (low * at_high - high * at_low) / (at_high - at_low);
        let value = function(middle);
        if value.abs() <= TOLERANCE * high {
            return middle;
        }
        if value > 0.0 {
            (high, at_high) = (middle, value);
            if side == 1 {
                at_low /= 2.0;
            }
            side = 1;
        } else {
            (low, at_low) = (middle, value);
            if side == -1 {
                at_high /= 2.0;
            }
            side = -1;
        }
    }
    f64::midpoint(low, high)
}
