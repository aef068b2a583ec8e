//! Runs that are computed from the requests themselves.

use crate::reports::{ItlDefinition, Run, Statistics, TpotDefinition};

/// One finished request. Times in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Request {
    pub(super) input_tokens: Option<f64>,
    pub(super) output_tokens: Option<f64>,
    pub(super) ttft_ms: Option<f64>,
    pub(super) e2e_ms: Option<f64>,
}

impl Request {
    /// (E2E - TTFT) / (output tokens - 1); none for a single token.
    fn tpot_ms(&self) -> Option<f64> {
        let after_first = self.output_tokens? - 1.0;
        (after_first > 0.0).then_some((self.e2e_ms? - self.ttft_ms?) / after_first)
    }
}

/// Requests of a run, as they are read.
#[derive(Debug, Default)]
pub(super) struct Sample {
    pub(super) requests: Vec<Request>,
    pub(super) failures: u64,
    pub(super) incomplete: u64,
    /// Gaps between the chunks of all requests, in milliseconds.
    pub(super) gaps_ms: Vec<f64>,
    first_start_s: Option<f64>,
    last_end_s: Option<f64>,
}

impl Sample {
    /// Counts the time from `start_s` to `end_s` as part of the run.
    pub(super) fn span(&mut self, start_s: f64, end_s: f64) {
        self.first_start_s = Some(self.first_start_s.map_or(start_s, |first| first.min(start_s)));
        self.last_end_s = Some(self.last_end_s.map_or(end_s, |last| last.max(end_s)));
    }

    /// Sets counts, lengths, latencies, rates and duration of a run. The start only where it is a date.
    pub(super) fn measure(self, run: &mut Run) {
        let collect =
            |value: fn(&Request) -> Option<f64>| -> Vec<f64> { self.requests.iter().filter_map(value).collect() };
        let completed = self.requests.len() as u64;
        run.counts.requests = Some(completed + self.failures + self.incomplete);
        run.counts.failures = Some(self.failures);
        run.counts.incomplete = Some(self.incomplete);
        let (input, output) = (collect(|request| request.input_tokens), collect(|request| request.output_tokens));
        let (input_tokens, output_tokens) = (input.iter().sum::<f64>(), output.iter().sum::<f64>());
        // A rate needs the tokens of every request.
        let (input_known, output_known) = (input.len() as u64 == completed, output.len() as u64 == completed);
        run.input_length = Statistics::of_sample(input);
        run.output_length = Statistics::of_sample(output);
        let latency = &mut run.latency;
        latency.ttft = Statistics::of_sample(collect(|request| request.ttft_ms));
        latency.e2e = Statistics::of_sample(collect(|request| request.e2e_ms));
        latency.tpot = Statistics::of_sample(collect(Request::tpot_ms));
        latency.itl = Statistics::of_sample(self.gaps_ms);
        latency.define(TpotDefinition::WithoutFirstToken, ItlDefinition::PerChunk);

        let Some((first, last)) = self.first_start_s.zip(self.last_end_s) else { return };
        // Monotonic clocks start anywhere: only what lies after 2001 is a date.
        run.start_s = Some(first).filter(|&first| first > 1e9);
        let duration_s = last - first;
        run.duration_s = Some(duration_s);
        if duration_s > 0.0 && completed > 0 {
            let rates = &mut run.throughput;
            rates.requests = Some(completed as f64 / duration_s);
            rates.input_tokens = input_known.then_some(input_tokens / duration_s);
            rates.output_tokens = output_known.then_some(output_tokens / duration_s);
            rates.total_tokens = (input_known && output_known).then_some((input_tokens + output_tokens) / duration_s);
        }
    }
}
