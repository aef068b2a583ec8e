//! Poisson arrivals, and a burst of requests.

use super::lane::{Costs, Lane};
use super::steady::{Steady, burst, decode_pace, root};

/// Poisson arrivals at `rate` requests per us (the reference's 3.3).
pub(super) fn open(lane: &Lane<'_>, rate: f64) -> Steady {
    // Half a step on average until a step starts; where scheduling runs ahead, a whole one.
    let wait = if lane.step.async_scheduling { 1.0 } else { 0.5 };
    let most = lane.prompts_beside_max();
    let pace = |running: f64| {
        // A running request sees the others as anybody does, and itself (a Poisson number, biased by size).
        let costs = lane.costs((running + 1.0).min(lane.sequences_max));
        let mixed_us = mixed_us(lane, &costs, rate);
        let free = 1.0 - rate * mixed_us;
        (costs, mixed_us, if free > 0.0 { costs.decode_us / free } else { f64::INFINITY })
    };
    let excess = |running: f64| {
        let tpot_us = pace(running).2;
        if tpot_us.is_finite() { running - rate * lane.output * tpot_us } else { -f64::MAX }
    };
    let limit = lane.sequences_max;
    if excess(limit) < 0.0 {
        return saturated(lane);
    }
    let running = root(excess, limit);
    let (costs, mixed_us, tpot_us) = pace(running);
    let (decode_us, least_us) = (costs.decode_us, costs.first_us);
    // A request meets a long step more often than a short one.
    let prefilling = (rate * tpot_us).min(1.0);
    let step_us = (decode_us.powi(2) * (1.0 - prefilling) + least_us.powi(2) * prefilling)
        / (decode_us * (1.0 - prefilling) + least_us * prefilling);
    let busy = 1.0 - (-running).exp();
    let beside = 0.7 * (rate * (step_us * wait + least_us)).min(most);
    let queue_us = beside * costs.packed_us + rate * costs.packed_us.powi(2) / (2.0 * (1.0 - rate * mixed_us));
    Steady {
        tpot_us,
        decode_us,
        prompt_us: costs.prompt_us,
        request_us: lane.request_us(0.0),
        least_us,
        step_wait_us: busy * step_us * wait,
        queue_us,
        burst: (0.0, 0.0),
        running,
        rate,
        capacity_bound: false,
        saturated: false,
    }
}

/// What a prompt adds to its step at such a rate, us.
fn mixed_us(lane: &Lane<'_>, costs: &Costs, rate: f64) -> f64 {
    let meeting = rate * (costs.decode_us + costs.prompt_us) * lane.phase().max(1.0);
    costs.mixed_us(meeting.min(lane.prompts_beside_max()))
}

/// More arrives than the lane can serve: it runs all the sequences it holds, at the highest rate that it can, and the
/// queue grows for ever.
fn saturated(lane: &Lane<'_>) -> Steady {
    const ITERATIONS: usize = 24;
    let running = lane.sequences_max;
    let costs = lane.costs(running);
    let tpot_of = |rate: f64| costs.decode_us + running / lane.output * mixed_us(lane, &costs, rate);
    // The prompts that meet in a step follow from the rate, and the rate from their cost.
    let tpot_us = (0..ITERATIONS)
        .fold(tpot_of(0.0), |tpot_us, _| f64::midpoint(tpot_us, tpot_of(running / (lane.output * tpot_us))));
    Steady {
        tpot_us,
        decode_us: costs.decode_us,
        prompt_us: costs.prompt_us,
        request_us: lane.request_us(0.0),
        least_us: costs.first_us,
        step_wait_us: 0.0,
        queue_us: f64::INFINITY,
        burst: (0.0, 0.0),
        running,
        rate: running / (lane.output * tpot_us),
        capacity_bound: lane.capacity_limits,
        saturated: true,
    }
}

/// `requests` requests at once.
pub(super) fn at_once(lane: &Lane<'_>, requests: f64) -> Steady {
    let running = requests.min(lane.sequences_max);
    let costs = lane.costs(running);
    let (mut burst_us, total_us) = burst(lane, &costs, running);
    // While the others' prompts are computed, those that have started decode slowly.
    let tpot_us = costs.decode_us + total_us / 2.0 / lane.output;
    let mut makespan_us = total_us + lane.output * costs.decode_us;
    let waiting = requests - running;
    if waiting > 0.0 {
        let (pace_us, _) = decode_pace(lane, &costs, running);
        let turnover = running / (lane.output * pace_us);
        let first = running / requests;
        let waiting_us = lane.output * tpot_us + waiting / turnover / 2.0;
        burst_us = first * burst_us + (1.0 - first) * (burst_us + waiting_us);
        makespan_us += waiting / turnover;
    }
    Steady {
        tpot_us,
        decode_us: costs.decode_us,
        prompt_us: costs.prompt_us,
        request_us: lane.request_us(running),
        least_us: costs.first_us,
        step_wait_us: 0.0,
        queue_us: 0.0,
        burst: (1.0, burst_us),
        running,
        rate: requests / makespan_us,
        capacity_bound: waiting > 0.0 && lane.capacity_limits,
        saturated: false,
    }
}
