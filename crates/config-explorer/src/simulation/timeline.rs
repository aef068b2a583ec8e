//! The state of engines over time, in intervals whose number is bounded: when there are too many, pairs are joined.

use super::NS_PER_S;

/// Most intervals; a picture shows no more.
const MAX_INTERVALS: usize = 512;
/// Width of an interval at first, ns.
const FIRST_WIDTH: u64 = 10_000_000;

/// The mean state of an engine, or of all, in an interval of time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Interval {
    /// Start, seconds after the start of the simulation.
    pub start_s: f64,
    /// Length, seconds.
    pub length_s: f64,
    /// Requests in the running list.
    pub running: f64,
    /// Requests that wait in the engine.
    pub waiting: f64,
    /// Part of the KV blocks in use, 0 to 1.
    pub kv_cache: f64,
    /// Output tokens per second.
    pub output_tokens_per_s: f64,
}

impl Interval {
    /// The mean over time of a quantity.
    pub fn mean(intervals: &[Self], quantity: impl Fn(&Self) -> f64) -> f64 {
        let length_s: f64 = intervals.iter().map(|interval| interval.length_s).sum();
        let sum: f64 = intervals.iter().map(|interval| quantity(interval) * interval.length_s).sum();
        if length_s > 0.0 { sum / length_s } else { 0.0 }
    }
}

/// The state between two events.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct State {
    pub(super) running: u32,
    pub(super) waiting: u32,
    pub(super) blocks: u32,
}

/// Sums over an interval: state x ns.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sums {
    running: f64,
    waiting: f64,
    blocks: f64,
    output_tokens: u64,
}

impl Sums {
    fn add(&mut self, state: State, ns: u64) {
        let ns = ns as f64;
        self.running += f64::from(state.running) * ns;
        self.waiting += f64::from(state.waiting) * ns;
        self.blocks += f64::from(state.blocks) * ns;
    }

    fn join(self, other: Self) -> Self {
        Self {
            running: self.running + other.running,
            waiting: self.waiting + other.waiting,
            blocks: self.blocks + other.blocks,
            output_tokens: self.output_tokens + other.output_tokens,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Timeline {
    width: u64,
    done: Vec<Sums>,
    /// Sums of the interval that `now` lies in.
    open: Sums,
    open_end: u64,
    now: u64,
}

impl Timeline {
    pub(super) fn new() -> Self {
        let width = FIRST_WIDTH;
        Self { width, done: Vec::with_capacity(MAX_INTERVALS), open: Sums::default(), open_end: width, now: 0 }
    }

    /// The state lasted until `now`; then the clients got `output_tokens`.
    pub(super) fn advance(&mut self, now: u64, state: State, output_tokens: u32) {
        while now >= self.open_end {
            self.open.add(state, self.open_end - self.now);
            self.now = self.open_end;
            self.done.push(std::mem::take(&mut self.open));
            if self.done.len() == MAX_INTERVALS {
                self.width *= 2;
                self.done = self.done.chunks_exact(2).map(|pair| pair[0].join(pair[1])).collect();
            }
            self.open_end += self.width;
        }
        self.open.add(state, now - self.now);
        self.open.output_tokens += u64::from(output_tokens);
        self.now = now;
    }

    /// Adds the sums of another one, which was advanced to the same moment.
    pub(super) fn join(&mut self, other: &Self) {
        debug_assert!((self.now, self.width) == (other.now, other.width), "timelines end at different times");
        for (sums, more) in self.done.iter_mut().zip(&other.done) {
            *sums = sums.join(*more);
        }
        self.open = self.open.join(other.open);
    }

    /// All intervals, the last one as long as it lasted.
    pub(super) fn intervals(&self, num_blocks: u64) -> Vec<Interval> {
        let start = |at: usize| at as u64 * self.width;
        let last = self.now - start(self.done.len());
        let open = (last > 0 || self.open.output_tokens > 0).then_some((self.open, last.max(1)));
        let sums = self.done.iter().map(|&sums| (sums, self.width)).chain(open);
        sums.enumerate()
            .map(|(at, (sums, length))| Interval {
                start_s: start(at) as f64 / NS_PER_S,
                length_s: length as f64 / NS_PER_S,
                running: sums.running / length as f64,
                waiting: sums.waiting / length as f64,
                kv_cache: sums.blocks / length as f64 / num_blocks as f64,
                output_tokens_per_s: sums.output_tokens as f64 * NS_PER_S / length as f64,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_the_width() {
        let mut timeline = Timeline::new();
        let mut now = 0;
        let (mut running, mut tokens) = (0.0, 0);
        for step in 0..4_000u32 {
            let state = State { running: step % 7, waiting: 0, blocks: 3 };
            let ns = u64::from(step % 13) * 1_000_000;
            now += ns;
            running += f64::from(step % 7) * ns as f64 / NS_PER_S;
            tokens += step % 5;
            timeline.advance(now, state, step % 5);
        }
        let intervals = timeline.intervals(6);
        assert!(intervals.len() < MAX_INTERVALS && intervals.len() > MAX_INTERVALS / 4);
        let sum = |value: fn(&Interval) -> f64| intervals.iter().map(|i| value(i) * i.length_s).sum::<f64>();
        assert!((sum(|i| i.running) - running).abs() < 1e-6);
        assert!((sum(|i| i.output_tokens_per_s) - f64::from(tokens)).abs() < 1e-6);
        assert!((sum(|i| i.kv_cache) - 0.5 * now as f64 / NS_PER_S).abs() < 1e-6);
        assert!((sum(|_| 1.0) - now as f64 / NS_PER_S).abs() < 1e-6);
    }
}
