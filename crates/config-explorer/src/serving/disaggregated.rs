//! Prefill and decode in different engines: prompts are computed in one pool, their KV cache moves to the other.

use super::lane::{Costs, Lane};
use super::open::open;
use super::steady::Steady;

/// A pool: what one of its lanes does, and how many lanes there are.
pub(super) struct Pool<'a> {
    pub(super) lane: Lane<'a>,
    pub(super) lanes: f64,
}

/// What a prompt takes of a lane that only computes prompts: a step has its fixed costs once for all prompts in it.
fn service_us(lane: &Lane<'_>, costs: &Costs) -> f64 {
    costs.packed_us + costs.decode_us / lane.prompts_per_step()
}

/// A lane that only computes prompts, at `rate` requests per us: least time, wait for its step, queue; `None` beyond
/// saturation.
fn prefill(lane: &Lane<'_>, rate: f64) -> Option<(f64, f64, f64)> {
    let costs = lane.costs(1.0);
    let service_us = service_us(lane, &costs);
    let busy = rate * service_us;
    (busy < 1.0).then(|| (costs.first_us, busy * costs.first_us / 2.0, busy * service_us / (2.0 * (1.0 - busy))))
}

/// Requests per us whose prompts a pool computes at most.
pub(super) fn prefill_capacity(pool: &Pool<'_>) -> f64 {
    pool.lanes / service_us(&pool.lane, &pool.lane.costs(1.0))
}

/// Steady state of both pools at `rate` requests per us of the whole deployment. Each prompt's KV cache takes
/// `transfer_us` to move.
pub(super) fn at_rate(prefills: &Pool<'_>, decodes: &Pool<'_>, transfer_us: f64, rate: f64) -> Steady {
    let decoding = open(&decodes.lane, rate / decodes.lanes);
    let prompts = prefill(&prefills.lane, rate / prefills.lanes);
    let capacity = prefill_capacity(prefills);
    let (least_us, step_wait_us, queue_us) = prompts.unwrap_or((0.0, 0.0, f64::INFINITY));
    let saturated = decoding.saturated || prompts.is_none();
    Steady {
        request_us: prefills.lane.request_us(0.0),
        least_us: least_us + transfer_us + decoding.least_us,
        step_wait_us: step_wait_us + decoding.step_wait_us,
        queue_us: queue_us + decoding.queue_us,
        rate: if saturated { capacity.min(decoding.rate * decodes.lanes) } else { rate },
        capacity_bound: decoding.capacity_bound,
        saturated,
        ..decoding
    }
}

/// Share of a request's time from which clients that are left over count as waiting: what the search may be off by.
const FEW: f64 = 1e-3;

/// `clients` clients, each sending its next request when the last one ends.
pub(super) fn at_concurrency(prefills: &Pool<'_>, decodes: &Pool<'_>, transfer_us: f64, clients: f64) -> Steady {
    // Halvings: beyond saturation there is no number of clients, only too many.
    const STEPS: u32 = 32;
    let output = decodes.lane.output;
    let request_us = |state: &Steady| state.ttft_us() + output * state.tpot_us;
    let most = prefill_capacity(prefills).min(open(&decodes.lane, f64::MAX).rate * decodes.lanes);
    let at = |rate: f64| {
        let state = at_rate(prefills, decodes, transfer_us, rate);
        Steady { request_us: prefills.lane.request_us(state.running), ..state }
    };
    let (mut low, mut high) = (0.0, most);
    for _ in 0..STEPS {
        let rate = f64::midpoint(low, high);
        let state = at(rate);
        let too_many = state.saturated || rate * request_us(&state) > clients;
        if too_many { high = rate } else { low = rate }
    }
    let state = at(low);
    // Where the pools do all they can, the other clients wait.
    let waiting_us = clients / low - request_us(&state);
    if waiting_us <= FEW * request_us(&state) {
        return state;
    }
    Steady { queue_us: state.queue_us + waiting_us, capacity_bound: true, ..state }
}
