//! The engine core with a constant step time: 10,000 requests of 512 input and 256 output tokens, unique prompts, prefix
//! caching on, Poisson arrivals; about 100 requests run at a time.
//!
//! `cargo bench --bench scheduler`; items are requests.

use std::collections::VecDeque;

use config_explorer::engine::EngineRules;
use config_explorer::simulation::engine::{Batch, NewRequest, Scheduler, SchedulerConfig, Segment, StepOutput};
use divan::Bencher;
use divan::counter::ItemsCount;

const REQUESTS: u32 = 10_000;
const INPUT_TOKENS: u32 = 512;
const OUTPUT_TOKENS: u32 = 256;
const STEP_NS: u64 = 12_000_000;
/// Arrivals per second: 256 steps of 12 ms hold 98 requests.
const RATE: f64 = 32.0;

fn main() {
    divan::main();
}

/// Exponential gaps from a linear congruential generator (Knuth's MMIX constants).
fn arrivals() -> Vec<u64> {
    let (mut state, mut now) = (1u64, 0.0);
    let gap = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        now -= uniform.ln() / RATE * 1e9;
        now as u64
    };
    std::iter::repeat_with(gap).take(REQUESTS as usize).collect()
}

/// Serves all requests; returns the time of the last token.
fn serve(arrivals: &[u64], num_gpu_blocks: u32, runs: bool) -> u64 {
    let config = SchedulerConfig { num_gpu_blocks, ..SchedulerConfig::default() };
    let mut scheduler = Scheduler::new(config, EngineRules::of_default_version().scheduler).unwrap();
    let mut spare = vec![Batch::default(), Batch::default()];
    let mut flights: VecDeque<Batch> = VecDeque::new();
    let mut output = StepOutput::default();
    let (mut now, mut added, mut finished) = (0, 0u32, 0);
    while finished < REQUESTS {
        while let Some(&time) = arrivals.get(added as usize).filter(|&&time| time <= now) {
            let prompt = [Segment { id: 1 + 2 * added, start: 0, len: INPUT_TOKENS }];
            let request = NewRequest { arrival: time, ..NewRequest::new(&prompt, 2 + 2 * added, OUTPUT_TOKENS) };
            scheduler.add_request(&request).unwrap();
            added += 1;
        }
        let next = arrivals.get(added as usize).copied().unwrap_or(u64::MAX);
        if scheduler.running().len() == 0 && scheduler.num_waiting() == 0 && flights.is_empty() {
            now = next;
            continue;
        }
        if runs {
            let run = scheduler.decode_run();
            // Up to the step during which the next request arrives.
            let quiet = if run.absorbs_arrivals { u64::MAX } else { (next - now).div_ceil(STEP_NS) };
            let steps = u64::from(run.steps).min(quiet) as u32;
            if steps > 0 {
                now += u64::from(scheduler.advance_decode(steps)) * STEP_NS;
                continue;
            }
        }
        let mut batch = spare.pop().unwrap_or_default();
        scheduler.schedule(&mut batch);
        now += STEP_NS * u64::from(batch.num_tokens > 0);
        flights.push_back(batch);
        if scheduler.processes_next(flights.len(), &flights[flights.len() - 1]) {
            let batch = flights.pop_front().unwrap();
            scheduler.process_output(&batch, |_| 0, &mut output);
            finished += output.finished.len() as u32;
            spare.push(batch);
        }
    }
    now
}

/// Blocks of a Llama-3.1-8B on one 80 GB device: nothing waits.
const ROOMY: u32 = 27_000;
/// Blocks for 80 requests at their longest: requests wait and are preempted.
const TIGHT: u32 = 80 * 48;

#[divan::bench(args = [ROOMY, TIGHT])]
fn decode_runs(bencher: Bencher<'_, '_>, num_gpu_blocks: u32) {
    let arrivals = arrivals();
    bencher.counter(ItemsCount::new(REQUESTS)).bench(|| serve(&arrivals, num_gpu_blocks, true));
}

#[divan::bench(args = [ROOMY, TIGHT])]
fn single_steps(bencher: Bencher<'_, '_>, num_gpu_blocks: u32) {
    let arrivals = arrivals();
    bencher.counter(ItemsCount::new(REQUESTS)).bench(|| serve(&arrivals, num_gpu_blocks, false));
}
