//! The time of one engine step: two table look-ups and a few multiplications.

use super::decoder::Decoder;
use super::device::Device;
use super::kernel::OperatorTime;
use super::operators::{Mixers, Operators, lower};
use super::{Calibration, EngineTime, KernelBasis};
use crate::deployment::Parallelism;
use crate::engine::EngineSettings;
use crate::hardware::Accelerator;

/// Largest step that runs from a CUDA graph, tokens (vLLM `config/compilation.py`, `max_cudagraph_capture_size`).
pub(super) const GRAPH_TOKENS: u64 = 512;

/// What is compiled: a model's layers on an accelerator, laid out over ranks, under an engine's settings.
#[derive(Debug, Clone, Copy)]
pub struct Configuration<'a> {
    /// The layers.
    pub decoder: &'a Decoder,
    /// The accelerator.
    pub accelerator: &'a Accelerator,
    /// The layout of one engine.
    pub parallelism: Parallelism,
    /// Settings: limits of a step, scheduling, CUDA graphs.
    pub settings: &'a EngineSettings,
    /// The KV cache holds 8-bit elements.
    pub fp8_kv_cache: bool,
    /// Multipliers and engine times.
    pub calibration: &'a Calibration,
}

/// Decoding sequences of a step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Decodes {
    /// How many; a mean batch need not be whole.
    pub sequences: f64,
    /// Sum of their contexts, tokens.
    pub context_tokens: f64,
}

/// A piece of a prompt that a step computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chunk {
    /// Tokens computed.
    pub tokens: f64,
    /// Tokens before them, whose keys and values are in the cache.
    pub context: f64,
}

/// Step times of one configuration, compiled.
///
/// Times are of a rank's step in microseconds. With pipeline parallelism a step is one pass of one micro-batch through
/// all stages, and `micro_batches` of them are under way; with data parallelism each rank has its own sequences. An
/// engine therefore behaves like [`StepTimes::lanes`] engines that share its sequences.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTimes {
    tokens: Table,
    head: Table,
    mixers: Mixers,
    eager_us: f64,
    host_us: f64,
    host_per_sequence_us: f64,
    /// Engines in one: data-parallel ranks x pipeline stages.
    pub lanes: u32,
    /// Micro-batches under way in a pipeline: its stages.
    pub micro_batches: u32,
    /// GPUs of the engine.
    pub gpus: u32,
    /// Most tokens of a step.
    pub max_num_batched_tokens: f64,
    /// Most sequences of a step.
    pub max_num_seqs: f64,
    /// Scheduling runs ahead of the device.
    pub async_scheduling: bool,
    /// Time of a request outside of the engine, us: fixed, for each token of its prompt, and for each stream.
    pub request_us: (f64, f64, f64),
    /// How near the kernels' measurements are.
    pub kernel_basis: KernelBasis,
}

impl StepTimes {
    /// Compiles a configuration.
    pub fn compile(configuration: &Configuration<'_>) -> Self {
        let Configuration { decoder, accelerator, parallelism, settings, fp8_kv_cache, calibration } = *configuration;
        let device = Device::new(accelerator, calibration);
        let Operators { per_token, head, mixers, eager_us } = lower(&device, decoder, parallelism, fp8_kv_cache);
        let time = |operators: &[super::operators::Operator], tokens: f64| {
            operators.iter().map(|operator| operator.count * operator.kernel.time(tokens).total_us).sum::<f64>()
        };
        let [mut host_us, mut host_per_sequence_us] =
            [EngineTime::Step, EngineTime::StepPerSequence].map(|time| device.engine_time_us(time));
        if !settings.async_scheduling {
            host_us += device.engine_time_us(EngineTime::SynchronousStep);
            host_per_sequence_us += device.engine_time_us(EngineTime::SynchronousPerSequence);
        }
        let graphs = !settings.enforce_eager;
        let tokens = Table::new(settings.max_num_batched_tokens, |tokens| time(&per_token, tokens));
        Self {
            tokens: if graphs { tokens.padded_to_graphs() } else { tokens },
            head: Table::new(settings.max_num_seqs, |sequences| time(&head, sequences)),
            mixers,
            eager_us,
            host_us,
            host_per_sequence_us,
            lanes: parallelism.data() * parallelism.pipeline(),
            micro_batches: parallelism.pipeline(),
            gpus: parallelism.gpus(),
            max_num_batched_tokens: settings.max_num_batched_tokens as f64,
            max_num_seqs: settings.max_num_seqs as f64,
            async_scheduling: settings.async_scheduling,
            request_us: (
                device.engine_time_us(EngineTime::Request),
                device.engine_time_us(EngineTime::RequestPerToken),
                device.engine_time_us(EngineTime::RequestPerStream),
            ),
            kernel_basis: device.basis,
        }
    }

    /// Time of a step, us.
    pub fn step_us(&self, decodes: Decodes, chunks: &[Chunk], finished_prompts: f64) -> f64 {
        let chunk_tokens: f64 = chunks.iter().map(|chunk| chunk.tokens).sum();
        let prefill: f64 = chunks.iter().map(|chunk| self.prefill_us(*chunk)).sum();
        self.shared_us(decodes.sequences + chunk_tokens, decodes.sequences + finished_prompts, chunk_tokens > 0.0)
            + self.decode_attention_us(decodes)
            + prefill
    }

    /// All but the attention of a step of so many tokens and sampled sequences.
    pub(crate) fn shared_us(&self, tokens: f64, sampled: f64, prefills: bool) -> f64 {
        self.tokens.at(tokens) + self.besides_us(tokens, sampled, prefills)
    }

    /// The same without the padding to CUDA graphs: for the difference between two mean steps, which the edges of graphs
    /// would make jump.
    pub(crate) fn unpadded_us(&self, tokens: f64, sampled: f64, prefills: bool) -> f64 {
        self.tokens.between(tokens) + self.besides_us(tokens, sampled, prefills)
    }

    /// Head and host.
    fn besides_us(&self, tokens: f64, sampled: f64, prefills: bool) -> f64 {
        let eager = if prefills && tokens > GRAPH_TOKENS as f64 { self.eager_us } else { 0.0 };
        self.head.at(sampled) + eager + self.host_us + self.host_per_sequence_us * sampled
    }

    /// Attention of the decoding sequences.
    pub(crate) fn decode_attention_us(&self, decodes: Decodes) -> f64 {
        let Decodes { sequences, context_tokens } = decodes;
        if sequences <= 0.0 {
            return 0.0;
        }
        let mixers = &self.mixers;
        let windows: f64 = mixers
            .decode_windows
            .iter()
            .map(|windowed| windowed.us_per_token * context_tokens.min(windowed.window * sequences))
            .sum();
        mixers.decode_floor_us
            + mixers.decode_sequence_us * sequences
            + mixers.decode_token_us * context_tokens
            + windows
    }

    /// Attention of one chunk of a prompt.
    pub(crate) fn prefill_us(&self, chunk: Chunk) -> f64 {
        let Chunk { tokens, context } = chunk;
        if tokens <= 0.0 {
            return 0.0;
        }
        // c (x + c/2) pairs at efficiency 1 / (1 + half / (c + 2x)) take the time of half c/2 pairs more.
        let kernels: f64 = self
            .mixers
            .prefill_kernels
            .iter()
            .map(|kernel| kernel.us_per_pair * (kernel.pairs(tokens, context) + kernel.half_length * tokens / 2.0))
            .sum();
        self.mixers.prefill_floor_us + self.mixers.prefill_token_us * tokens + kernels
    }
}

/// A function of a whole number up to a limit: exact up to 16, from there linear between 16 points an octave.
#[derive(Debug, Clone, PartialEq)]
struct Table {
    values: Vec<f64>,
    /// Values for every count of tokens that runs from a CUDA graph, padded to the graph's size.
    graphs: Vec<f64>,
}

/// Points of an octave.
const POINTS: u64 = 16;

/// The position of `count` among the points, and the distance to the next point: count 0 to 31 are points themselves,
/// then 32, 34, …, 64, 68, ….
fn position(count: u64) -> (usize, f64) {
    let octave = (count.max(1).ilog2()).saturating_sub(POINTS.ilog2());
    let index = u64::from(octave) * POINTS + (count >> octave);
    (index as usize, (1_u64 << octave) as f64)
}

fn point(index: usize) -> u64 {
    let index = index as u64;
    let octave = (index / POINTS).saturating_sub(1);
    (index - octave * POINTS) << octave
}

impl Table {
    fn new(limit: u64, value: impl Fn(f64) -> f64) -> Self {
        let (last, _) = position(limit.max(1));
        // One point beyond the limit, to interpolate up to it.
        let values = (0..=last + 1).map(|index| if index == 0 { 0.0 } else { value(point(index) as f64) }).collect();
        Self { values, graphs: Vec::new() }
    }

    fn padded_to_graphs(mut self) -> Self {
        let sizes = (0..=GRAPH_TOKENS).map(|tokens| self.between(graph_size(tokens) as f64));
        self.graphs = sizes.collect();
        self
    }

    fn at(&self, count: f64) -> f64 {
        if count <= self.graphs.len() as f64 - 1.0 {
            let floor = count.max(0.0).floor();
            let below = self.graphs[floor as usize];
            let above = self.graphs.get(floor as usize + 1).copied().unwrap_or(below);
            return below + (above - below) * (count - floor).max(0.0);
        }
        self.between(count)
    }

    fn between(&self, count: f64) -> f64 {
        let count = count.max(0.0);
        let (index, spacing) = position(count as u64);
        let Some(below) = self.values.get(index) else {
            return self.beyond(count);
        };
        let Some(above) = self.values.get(index + 1) else {
            return self.beyond(count);
        };
        below + (above - below) * (count - point(index) as f64) / spacing
    }

    /// Beyond the table a step costs what its tokens would at the last point.
    fn beyond(&self, count: f64) -> f64 {
        let last = self.values.len() - 1;
        self.values[last] * count / point(last) as f64
    }
}

/// The CUDA graph that a step of so many tokens runs from (vLLM `config/vllm.py`, `_set_cudagraph_sizes`).
fn graph_size(tokens: u64) -> u64 {
    match tokens {
        0..=2 => tokens,
        3..=4 => 4,
        5..=256 => tokens.next_multiple_of(8),
        257..=GRAPH_TOKENS => tokens.next_multiple_of(16),
        _ => tokens,
    }
}

/// One line of a breakdown: an operator of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct OperatorShare {
    /// The operator.
    pub operator: &'static str,
    /// Its time in the step.
    pub time: OperatorTime,
}

/// The operators of a step of a configuration, in order of execution, attention and host included.
pub fn breakdown(configuration: &Configuration<'_>, decodes: Decodes, chunks: &[Chunk]) -> Vec<OperatorShare> {
    let Configuration { decoder, accelerator, parallelism, settings, fp8_kv_cache, calibration } = *configuration;
    let device = Device::new(accelerator, calibration);
    let operators = lower(&device, decoder, parallelism, fp8_kv_cache);
    let step = StepTimes::compile(configuration);
    let chunk_tokens: f64 = chunks.iter().map(|chunk| chunk.tokens).sum();
    let tokens = decodes.sequences + chunk_tokens;
    let mut shares: Vec<OperatorShare> = Vec::new();
    let mut add =
        |operator: &'static str, time: OperatorTime| match shares.iter_mut().find(|share| share.operator == operator) {
            Some(share) => share.time += time,
            None => shares.push(OperatorShare { operator, time }),
        };
    let padded = if settings.enforce_eager { tokens.ceil() } else { graph_size(tokens.ceil() as u64) as f64 };
    for operator in &operators.per_token {
        add(operator.name, operator.kernel.time(padded).scaled(operator.count));
    }
    let (decode_bound_us, prefill_bound_us) = super::bounds::attention_us(configuration, decodes, chunks);
    // Layers of one model are of a size: their share of the layers is that of the time.
    let [decode_share, prefill_share] = operators.mixers.measured.map(|(of_measured, all)| of_measured / all.max(1.0));
    let floor_us = operators.mixers.decode_floor_us;
    let decode_us = step.decode_attention_us(decodes);
    if decode_us > 0.0 {
        let memory_us = decode_us - floor_us;
        let roofline_us = decode_bound_us;
        let (total_us, measured_us) = (decode_us, decode_us * decode_share);
        add(
            "decode_attention",
            OperatorTime { floor_us, memory_us, total_us, roofline_us, measured_us, ..OperatorTime::default() },
        );
    }
    let prefill_us: f64 = chunks.iter().map(|chunk| step.prefill_us(*chunk)).sum();
    if prefill_us > 0.0 {
        let floor_us = operators.mixers.prefill_floor_us * chunks.len() as f64;
        let compute_us = prefill_us - floor_us;
        let (total_us, roofline_us, measured_us) = (prefill_us, prefill_bound_us, prefill_us * prefill_share);
        add(
            "prefill_attention",
            OperatorTime { floor_us, compute_us, total_us, roofline_us, measured_us, ..OperatorTime::default() },
        );
    }
    let sampled = decodes.sequences + chunks.len() as f64;
    for operator in &operators.head {
        add(operator.name, operator.kernel.time(sampled).scaled(operator.count));
    }
    let eager_us = if chunk_tokens > 0.0 && tokens > GRAPH_TOKENS as f64 { operators.eager_us } else { 0.0 };
    let host_us = eager_us + step.host_us + step.host_per_sequence_us * sampled;
    add("host", OperatorTime { floor_us: host_us, total_us: host_us, ..OperatorTime::default() });
    shares
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "whole numbers, and sums of them")]
mod tests {
    use super::*;

    #[test]
    fn the_points_of_a_table_are_where_they_are_looked_up() {
        for index in 1..400 {
            let count = point(index);
            assert_eq!(position(count).0, index, "{count}");
            let (_, spacing) = position(count);
            assert_eq!(point(index + 1) as f64 - count as f64, spacing, "{count}");
        }
        for count in 1..70_000 {
            let (index, spacing) = position(count);
            assert!(point(index) <= count && (count as f64) < point(index) as f64 + spacing, "{count}");
        }
    }

    #[test]
    fn a_linear_function_is_reproduced_within_and_beyond() {
        let table = Table::new(8192, |count| 3.0 * count);
        for count in [0.0, 1.0, 7.5, 31.0, 33.0, 8191.0, 8192.0, 9000.0, 100_000.0] {
            assert!((table.at(count) - 3.0 * count).abs() < 1e-6, "{count}: {}", table.at(count));
        }
        let padded = Table::new(8192, |count| 3.0 * count).padded_to_graphs();
        assert_eq!(padded.at(9.0), 48.0);
        assert_eq!(padded.at(257.0), 816.0);
        assert_eq!(padded.at(513.0), 1539.0);
    }
}
