//! What requests cost one lane: an engine, or what one data-parallel rank or pipeline micro-batch gets of it.

use crate::latency::{Chunk, Decodes, StepTimes};

/// Time of a request in the API server before the engine sees it, us; the server handles one request after the other
/// (the reference's 3.2: 1 ms, and 0.5 us for each prompt token).
pub(crate) const FRONT_END_US: f64 = 1000.0;
pub(crate) const FRONT_END_PER_TOKEN_US: f64 = 0.5;

/// Mean request and limits of a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lane<'a> {
    pub(super) step: &'a StepTimes,
    /// Prompt tokens that are computed: at least one, the last.
    pub(super) computed: f64,
    /// Prompt tokens found in the prefix cache.
    pub(super) cached: f64,
    pub(super) output: f64,
    /// Sequences that run at most: those that the KV cache and `max_num_seqs` hold, and no more than steps full of
    /// prompts can start while the others decode.
    pub(super) sequences_max: f64,
    /// The KV cache or `max_num_seqs` is that limit.
    pub(super) capacity_limits: bool,
}

/// Costs of steps with a number of running sequences, at least one, us.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "the unit")]
pub(super) struct Costs {
    /// A step that only decodes.
    pub(super) decode_us: f64,
    /// The steps that compute one prompt, alone, beside the decodes.
    pub(super) first_us: f64,
    /// What one prompt adds to the steps it is computed in, alone.
    pub(super) prompt_us: f64,
    /// The same where prompts fill the steps: more, where the prompt alone leaves the step bound by memory.
    pub(super) packed_us: f64,
}

impl Costs {
    /// What a prompt adds where `beside` others are computed in the same step.
    pub(super) fn mixed_us(&self, beside: f64) -> f64 {
        (self.prompt_us + beside * self.packed_us) / (1.0 + beside)
    }
}

impl<'a> Lane<'a> {
    /// A lane for requests of these lengths with so many tokens of KV cache; `None` if it cannot hold one.
    pub(super) fn new(step: &'a StepTimes, input: f64, output: f64, hit_rate: f64, kv_tokens: f64) -> Option<Self> {
        if kv_tokens < input + output {
            return None;
        }
        let cached = (input * hit_rate).min(input - 1.0);
        let computed = input - cached;
        let capacity = (kv_tokens / (input + output / 2.0)).min(step.max_num_seqs);
        let started = (output * step.max_num_batched_tokens / computed).max(1.0);
        let (sequences_max, capacity_limits) = (capacity.min(started), capacity <= started);
        Some(Self { step, computed, cached, output, sequences_max, capacity_limits })
    }

    pub(super) fn prompt(&self) -> f64 {
        self.cached + self.computed
    }

    pub(super) fn front_end_us(&self) -> f64 {
        FRONT_END_US + FRONT_END_PER_TOKEN_US * self.prompt()
    }

    /// Time of a request outside of the engine while `streams` of a closed loop are open: there, a request is sent when a
    /// step's tokens are handed out, and those of all other clients are handled first. Arrivals at a rate are not tied
    /// to steps, and the measured ones do not show it.
    pub(super) fn request_us(&self, streams: f64) -> f64 {
        let (fixed, per_token, per_stream) = self.step.request_us;
        fixed + per_token * self.prompt() + per_stream * streams
    }

    /// Steps that pass between a request's arrival and the step that takes it: half a step on average, and one more
    /// where scheduling runs ahead.
    pub(super) fn phase(&self) -> f64 {
        if self.step.async_scheduling { 1.5 } else { 0.5 }
    }

    /// Prompts that fill a step.
    pub(super) fn prompts_per_step(&self) -> f64 {
        (self.step.max_num_batched_tokens / self.computed).max(1.0)
    }

    /// Other prompts that fit beside one in a step.
    pub(super) fn prompts_beside_max(&self) -> f64 {
        self.prompts_per_step() - 1.0
    }

    fn decodes(&self, sequences: f64) -> Decodes {
        Decodes { sequences, context_tokens: sequences * (self.prompt() + self.output / 2.0) }
    }

    /// A step of `running` sequences that only decodes, us.
    pub(super) fn decode_us(&self, running: f64) -> f64 {
        self.step.step_us(self.decodes(running), &[], 0.0)
    }

    pub(super) fn costs(&self, running: f64) -> Costs {
        let decode_us = self.decode_us(running);
        let others = (running - 1.0).max(0.0);
        let [all, beside] = [running, others].map(|running| self.step.decode_attention_us(self.decodes(running)));
        let without_us = self.step.unpadded_us(running, running, false) + all;
        let step_us = |tokens: f64, prompts: f64, attention_us: f64| {
            self.step.unpadded_us(others + tokens, others + prompts, true) + beside + attention_us
        };
        let budget = self.step.max_num_batched_tokens;
        if self.computed > budget {
            // Chunks of a whole budget, and the rest; attention of a chunk is quadratic in what is before it, so the
            // chunks in between cost what the middle one does.
            let whole = (self.computed / budget).ceil() - 1.0;
            let rest = self.computed - whole * budget;
            let middle = Chunk { tokens: budget, context: self.cached + (whole - 1.0) / 2.0 * budget };
            let last = Chunk { tokens: rest, context: self.cached + whole * budget };
            let first_us = whole * step_us(budget, 0.0, self.step.prefill_us(middle))
                + step_us(rest, 1.0, self.step.prefill_us(last));
            let prompt_us = (first_us - (whole + 1.0) * without_us).max(0.0);
            return Costs { decode_us, first_us, prompt_us, packed_us: prompt_us };
        }
        let chunk = Chunk { tokens: self.computed, context: self.cached };
        let attention_us = self.step.prefill_us(chunk);
        let first_us = step_us(self.computed, 1.0, attention_us);
        // What a step with prompts takes more than one without.
        let prompt_us = (first_us - without_us).max(0.0);
        let prompts = self.prompts_per_step();
        let packed_us = (step_us(prompts * self.computed, prompts, prompts * attention_us) - without_us) / prompts;
        Costs { decode_us, first_us, prompt_us, packed_us: packed_us.max(0.0) }
    }
}
