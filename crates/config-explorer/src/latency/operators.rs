//! From the layers of a model to the operators that one rank runs in a step.

use super::decoder::{Decoder, LayerFormats};
use super::device::Device;
use super::kernel::Kernel;
use super::kernel_tables::HeadsShape;
use super::{EngineTime, Format};
use crate::deployment::Parallelism;
use crate::model::{
    Attention, AttentionHeads, DType, FeedForward, GatedDeltaNet, Layer, Mamba, Mla, Moe, SparseIndexer,
};

/// An operator and how often a step runs it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operator {
    pub(super) name: &'static str,
    pub(super) count: f64,
    pub(super) kernel: Kernel,
}

/// Decode attention over the last `window` tokens of each sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct WindowedDecode {
    pub(super) window: f64,
    pub(super) us_per_token: f64,
}

/// Prefill attention: `us_per_pair` for each pair of a query and a key it sees, at most `reach` keys each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PrefillKernel {
    pub(super) us_per_pair: f64,
    pub(super) half_length: f64,
    pub(super) reach: f64,
}

impl PrefillKernel {
    /// Pairs of a query and a key it sees, for `tokens` queries after `context` keys. Exact, so that a prompt has as many
    /// in chunks as at once (the reference's 2.3 takes the lesser of all pairs and the reach of every query).
    pub(super) fn pairs(&self, tokens: f64, context: f64) -> f64 {
        let end = context + tokens;
        // Up to the reach a query sees all that is before it.
        let (from, to) = (context.min(self.reach), end.min(self.reach));
        let triangle = (to - from) * f64::midpoint(from, to);
        let beyond = (end - to) - (context - from);
        if beyond > 0.0 { triangle + beyond * self.reach } else { triangle }
    }
}

/// Attention of all layers: what depends on the sequences rather than on the number of tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Mixers {
    /// Once in a step that decodes.
    pub(super) decode_floor_us: f64,
    /// For each decoding sequence: constant states.
    pub(super) decode_sequence_us: f64,
    /// For each token of context.
    pub(super) decode_token_us: f64,
    /// For each token of context within a window; one entry per window.
    pub(super) decode_windows: Vec<WindowedDecode>,
    /// Once for each chunk.
    pub(super) prefill_floor_us: f64,
    /// For each token of a chunk.
    pub(super) prefill_token_us: f64,
    pub(super) prefill_kernels: Vec<PrefillKernel>,
    /// Layers whose attention was measured, and all that attend: when they decode, and for prompts.
    pub(super) measured: [(f64, f64); 2],
}

/// What one rank runs in a step. Pipeline stages are one behind the other: their operators are those of a whole pass.
pub(super) struct Operators {
    /// Depend on the tokens of the step.
    pub(super) per_token: Vec<Operator>,
    /// Depend on the sequences that are sampled.
    pub(super) head: Vec<Operator>,
    pub(super) mixers: Mixers,
    /// Host time of a step with more tokens than the CUDA graphs hold.
    pub(super) eager_us: f64,
}

/// Bytes a layer's elementwise kernels move for a token and a unit of hidden size, half in each block (the
/// reference's 2.5).
const ELEMENTWISE_BYTES_PER_BLOCK: f64 = 8.0;
/// Elementwise kernels of the attention block and of the feed-forward, and how many more quantised inputs take.
const ATTENTION_KERNELS: f64 = 3.0;
const FEED_FORWARD_KERNELS: f64 = 2.0;
const QUANTISE_KERNELS: f64 = 1.0;
/// Sampler, and the gather of the logits over the ranks (the reference's 2.5).
const SAMPLER_US: f64 = 20.0;
const GATHER_US: f64 = 10.0;
const SAMPLER_BYTES_PER_LOGIT: f64 = 12.0;
/// Latent attention against plain decode attention (the reference's 2.3).
const MLA_FLOOR: f64 = 1.3;
const MLA_MEMORY: f64 = 0.8;
const MLA_COMPUTE: f64 = 0.5;
/// The indexer of sparse attention: floor, bytes of a cached key with its scale, efficiencies (the reference's 2.3).
const INDEXER_FLOOR_US: f64 = 20.0;
const INDEXER_KEY_BYTES: f64 = 132.0;
const INDEXER_MEMORY: f64 = 0.5;
const INDEXER_COMPUTE: f64 = 0.3;
/// Linear attention and Mamba: floors and efficiencies of the state update and of the scan (the reference's 2.3).
const STATE_DECODE_FLOOR_US: f64 = 10.0;
const STATE_PREFILL_FLOOR_US: f64 = 20.0;
const STATE_MEMORY: f64 = 0.7;
const STATE_COMPUTE: f64 = 0.25;
/// Launches of prefill attention are partly hidden (the reference's 2.3).
const PREFILL_FLOOR: f64 = 0.3;
/// Launch of the transfer to the next pipeline stage.
const PIPELINE_LATENCY_US: f64 = 10.0;

/// Lowers the layers of a decoder onto the ranks of one engine.
struct Lowering<'a> {
    device: &'a Device<'a>,
    decoder: &'a Decoder,
    parallelism: Parallelism,
    tensor: f64,
    hidden: f64,
    fp8_kv: bool,
    operators: Operators,
}

pub(super) fn lower(device: &Device<'_>, decoder: &Decoder, parallelism: Parallelism, fp8_kv: bool) -> Operators {
    let mut lowering = Lowering {
        device,
        decoder,
        parallelism,
        tensor: f64::from(parallelism.tensor()),
        hidden: decoder.hidden_size,
        fp8_kv,
        operators: Operators { per_token: Vec::new(), head: Vec::new(), mixers: Mixers::default(), eager_us: 0.0 },
    };
    // The stages of a pipeline work at the pace of the fullest.
    let stages = f64::from(parallelism.pipeline());
    let layers = decoder.layers.max(1) as f64;
    let unevenness = (layers / stages).ceil() * stages / layers;
    for (layer, formats, count) in &decoder.classes {
        lowering.attention(layer, *formats, count * unevenness);
        lowering.feed_forward(layer, *formats, count * unevenness);
        lowering.operators.eager_us += count * unevenness * device.engine_time_us(EngineTime::EagerLayer);
    }
    if stages > 1.0 {
        let kernel = device.transfer(PIPELINE_LATENCY_US, 2.0 * lowering.hidden);
        lowering.push("pipeline_transfer", stages - 1.0, kernel);
    }
    lowering.head();
    lowering.operators
}

impl Lowering<'_> {
    fn push(&mut self, name: &'static str, count: f64, kernel: Kernel) {
        let known = self.operators.per_token.iter_mut().find(|known| known.name == name && known.kernel == kernel);
        match known {
            Some(known) => known.count += count,
            None => self.operators.per_token.push(Operator { name, count, kernel }),
        }
    }

    fn gemm(&mut self, name: &'static str, count: f64, outputs: f64, inputs: f64, format: Format) {
        self.push(name, count, self.device.gemm(outputs, inputs, format));
    }

    fn block(&mut self, count: f64, kernels: f64, format: Format) {
        let kernels = kernels + if format == Format::Bf16 { 0.0 } else { QUANTISE_KERNELS };
        let floor_us = kernels * self.device.engine_time_us(EngineTime::Elementwise);
        let elementwise = self.device.elementwise(floor_us, ELEMENTWISE_BYTES_PER_BLOCK * self.hidden);
        self.push("norms_and_activations", count, elementwise);
    }

    fn all_reduce(&mut self, count: f64, bytes_per_token: f64) {
        if self.parallelism.tensor() > 1 {
            self.push("all_reduce", count, self.device.all_reduce(bytes_per_token, self.parallelism.tensor()));
        }
    }

    /// A rank's share of the heads: whole heads, and at least one.
    fn share(&self, heads: u64) -> f64 {
        (heads as f64 / self.tensor).ceil().max(1.0)
    }

    fn attention(&mut self, layer: &Layer, formats: LayerFormats, count: f64) {
        let format = formats.attention;
        match &layer.attention {
            Attention::None => return,
            Attention::Projection => self.gemm("attention_projections", count, self.hidden, self.hidden, format),
            Attention::Full(heads) => self.grouped(heads, None, true, format, count),
            Attention::SlidingWindow { heads, window } => self.grouped(heads, Some(*window), true, format, count),
            Attention::ChunkedLocal { heads, chunk } => self.grouped(heads, Some(*chunk), true, format, count),
            Attention::Shared { heads, .. } => self.grouped(heads, None, false, format, count),
            Attention::Mla(mla) => self.latent(mla, None, format, count),
            Attention::MlaSparse { mla, indexer } => self.latent(mla, Some(indexer.as_ref()), format, count),
            Attention::Linear(linear) => self.delta_net(linear, format, count),
            Attention::Mamba(mamba) => self.mamba(mamba, format, count),
            // `Decoder` refuses it.
            Attention::CompressedSparse(_) => {}
        }
        self.block(count, ATTENTION_KERNELS, format);
        self.all_reduce(count, 2.0 * self.hidden);
    }

    /// Attention with query, key and value heads.
    fn grouped(&mut self, heads: &AttentionHeads, window: Option<u64>, own_kv: bool, format: Format, count: f64) {
        let query_heads = self.share(heads.query_heads);
        let kv_heads = self.share(heads.kv_heads);
        let (key, value) = (heads.head_dim as f64, heads.value_head_dim as f64);
        let kv = if own_kv { kv_heads * (key + value) } else { 0.0 };
        let gate = if self.decoder.gated_output { query_heads * value } else { 0.0 };
        self.gemm("attention_projections", count, query_heads * key + kv + gate, self.hidden, format);
        self.gemm("attention_projections", count, self.hidden, query_heads * value, format);
        if self.decoder.norm_spans_heads {
            // Sums of squares of queries and keys, FP32.
            self.all_reduce(count, 8.0);
        }

        let shape = HeadsShape {
            query: query_heads as u64,
            kv: kv_heads as u64,
            width: heads.head_dim,
            fp8_cache: self.fp8_kv,
        };
        let comparable = window.is_none() && heads.head_dim == heads.value_head_dim;
        let measured = comparable.then(|| self.device.measured_decode(shape)).flatten();
        self.attends(0, count, measured.is_some());
        let (floor_us, us_per_token) = measured.unwrap_or_else(|| {
            let (floor_us, bandwidth) = self.device.decode_attention(self.fp8_kv);
            let element_bytes = if self.fp8_kv { 1.0 } else { 2.0 };
            (floor_us, kv_heads * (key + value) * element_bytes / bandwidth)
        });
        self.operators.mixers.decode_floor_us += count * floor_us;
        // Ranks of decode context parallelism share the heads' cache.
        self.decode(window, count * us_per_token / f64::from(self.parallelism.decode_context()));

        let measured = comparable.then(|| self.device.measured_prefill(shape)).flatten();
        self.attends(1, count, measured.is_some());
        let (floor_us, us_per_pair, half_length) = match measured {
            // Half the length's pairs of each token are its time.
            Some((floor_us, us_per_pair, us_per_token)) => (floor_us, us_per_pair, 2.0 * us_per_token / us_per_pair),
            None => {
                let (floor_us, flop_per_us, half_length) = self.device.prefill_attention(key);
                (floor_us, 2.0 * query_heads * (key + value) / flop_per_us, half_length)
            }
        };
        self.operators.mixers.prefill_floor_us += count * PREFILL_FLOOR * floor_us;
        let reach = window.map_or(f64::INFINITY, |window| window as f64);
        self.prefill(reach, count * us_per_pair, half_length);
    }

    /// Counts layers by whether their attention was measured: 0 when they decode, 1 for prompts.
    fn attends(&mut self, part: usize, count: f64, measured: bool) {
        let (of_measured, all) = &mut self.operators.mixers.measured[part];
        *of_measured += if measured { count } else { 0.0 };
        *all += count;
    }

    #[expect(clippy::float_cmp, reason = "windows are whole numbers")]
    fn decode(&mut self, window: Option<u64>, us_per_token: f64) {
        let mixers = &mut self.operators.mixers;
        match window.map(|window| window as f64) {
            None => mixers.decode_token_us += us_per_token,
            Some(window) => match mixers.decode_windows.iter_mut().find(|known| known.window == window) {
                Some(known) => known.us_per_token += us_per_token,
                None => mixers.decode_windows.push(WindowedDecode { window, us_per_token }),
            },
        }
    }

    #[expect(clippy::float_cmp, reason = "the same layers give the same bits")]
    fn prefill(&mut self, reach: f64, us_per_pair: f64, half_length: f64) {
        let kernels = &mut self.operators.mixers.prefill_kernels;
        match kernels.iter_mut().find(|known| known.reach == reach && known.half_length == half_length) {
            Some(known) => known.us_per_pair += us_per_pair,
            None => kernels.push(PrefillKernel { us_per_pair, half_length, reach }),
        }
    }

    /// Latent attention, over all tokens or over those an indexer selects; `Some(None)`: an earlier layer's selection.
    #[expect(clippy::option_option, reason = "dense, sparse by an indexer of its own, sparse by an earlier one's")]
    fn latent(&mut self, mla: &Mla, sparse: Option<Option<&SparseIndexer>>, format: Format, count: f64) {
        let heads = self.share(mla.query_heads);
        let [latent, nope, rope, value] =
            [mla.kv_lora_rank, mla.qk_nope_head_dim, mla.qk_rope_head_dim, mla.v_head_dim].map(|width| width as f64);
        let down = latent + rope;
        let query_inputs = match mla.q_lora_rank {
            Some(rank) => {
                self.gemm("attention_projections", count, rank as f64 + down, self.hidden, format);
                rank as f64
            }
            None => {
                self.gemm("attention_projections", count, down, self.hidden, format);
                self.hidden
            }
        };
        self.gemm("attention_projections", count, heads * (nope + rope), query_inputs, format);
        self.gemm("attention_projections", count, self.hidden, heads * value, format);
        // The absorbed matrices stay in 16 bits.
        self.gemm("attention_projections", count, heads * nope, latent, Format::Bf16);
        self.gemm("attention_projections", count, heads * value, latent, Format::Bf16);

        for part in 0..2 {
            self.attends(part, count, false);
        }
        let (floor_us, bandwidth) = self.device.decode_attention(self.fp8_kv);
        let element_bytes = if self.fp8_kv { 1.0 } else { 2.0 };
        let peak = Format::Bf16.peak(self.device.accelerator);
        let context = f64::from(self.parallelism.decode_context());
        let us_per_token = count / context
            * (down * element_bytes / (MLA_MEMORY * bandwidth) + 2.0 * heads * (latent + down) / (MLA_COMPUTE * peak));
        self.operators.mixers.decode_floor_us += count * MLA_FLOOR * floor_us;
        let (floor_us, flop_per_us, half_length) = self.device.prefill_attention(nope + rope);
        self.operators.mixers.prefill_floor_us += count * PREFILL_FLOOR * floor_us;
        let us_per_pair = count * 2.0 * heads * (nope + rope + value) / flop_per_us;
        match sparse {
            None => {
                self.decode(None, us_per_token);
                self.prefill(f64::INFINITY, us_per_pair, half_length);
            }
            Some(indexer) => {
                // A layer without an indexer of its own has the top k of the others.
                let top_k = indexer.map_or_else(|| self.top_k(), |indexer| indexer.top_k);
                self.decode(Some(top_k), us_per_token);
                // The sparse kernel computes up to twice the selected keys (the reference's 2.3).
                self.prefill(2.0 * top_k as f64, us_per_pair, half_length);
                if let Some(indexer) = indexer {
                    self.indexer(indexer, query_inputs, format, count);
                }
            }
        }
    }

    fn top_k(&self) -> u64 {
        let indexers = self.decoder.classes.iter().filter_map(|(layer, ..)| match layer.attention {
            Attention::MlaSparse { indexer, .. } => indexer,
            _ => None,
        });
        indexers.map(|indexer| indexer.top_k).max().unwrap_or(0)
    }

    fn indexer(&mut self, indexer: &SparseIndexer, query_inputs: f64, format: Format, count: f64) {
        let width = (indexer.heads * indexer.head_dim) as f64;
        self.gemm("indexer", count, width, query_inputs, format);
        let mixers = &mut self.operators.mixers;
        mixers.decode_floor_us += count * INDEXER_FLOOR_US;
        mixers.decode_token_us += count * INDEXER_KEY_BYTES / (INDEXER_MEMORY * self.device.bandwidth);
        let peak = Format::Fp8.peak(self.device.accelerator);
        self.prefill(f64::INFINITY, count * 2.0 * width / (INDEXER_COMPUTE * peak), 0.0);
    }

    fn delta_net(&mut self, linear: &GatedDeltaNet, format: Format, count: f64) {
        let value_heads = self.share(linear.value_heads);
        let key_heads = self.share(linear.key_heads);
        let (key, value) = (linear.key_head_dim as f64, linear.value_head_dim as f64);
        let inputs = 2.0 * key_heads * key + 2.0 * value_heads * value + 2.0 * value_heads;
        self.gemm("attention_projections", count, inputs, self.hidden, format);
        self.gemm("attention_projections", count, self.hidden, value_heads * value, format);
        self.state(value_heads * key * value, linear.state_dtype, count);
    }

    fn mamba(&mut self, mamba: &Mamba, format: Format, count: f64) {
        let inner = mamba.inner_size as f64 / self.tensor;
        let groups = self.share(mamba.groups) * mamba.state_size as f64;
        self.gemm(
            "attention_projections",
            count,
            2.0 * inner + 2.0 * groups + mamba.heads as f64 / self.tensor,
            self.hidden,
            format,
        );
        self.gemm("attention_projections", count, self.hidden, inner, format);
        self.state(inner * mamba.state_size as f64, mamba.state_dtype.unwrap_or(DType::BF16), count);
    }

    /// A constant state of so many elements per sequence: read and written for a decoded token, scanned over a chunk.
    fn state(&mut self, elements: f64, dtype: DType, count: f64) {
        for part in 0..2 {
            self.attends(part, count, false);
        }
        let bytes = elements * dtype.bits().unwrap_or(32) as f64 / 8.0;
        let peak = Format::Bf16.peak(self.device.accelerator);
        let mixers = &mut self.operators.mixers;
        mixers.decode_floor_us += count * STATE_DECODE_FLOOR_US;
        mixers.decode_sequence_us += count * 2.0 * bytes / (STATE_MEMORY * self.device.bandwidth);
        mixers.prefill_floor_us += count * STATE_PREFILL_FLOOR_US;
        mixers.prefill_token_us += count * 6.0 * elements / (STATE_COMPUTE * peak);
    }

    fn feed_forward(&mut self, layer: &Layer, formats: LayerFormats, count: f64) {
        let data = f64::from(self.parallelism.data());
        let (format, bytes_per_token, ranks) = match &layer.feed_forward {
            FeedForward::None => return,
            FeedForward::Projection => {
                self.gemm("mlp", count, self.hidden, self.hidden, formats.dense);
                (formats.dense, 2.0 * self.hidden, self.parallelism.tensor())
            }
            FeedForward::Dense { intermediate_size, gated } => {
                self.mlp("mlp", *intermediate_size, *gated, formats.dense, count);
                (formats.dense, 2.0 * self.hidden, self.parallelism.tensor())
            }
            FeedForward::Moe(moe) => {
                self.moe(moe, formats, count);
                let ranks = self.parallelism.tensor() * self.parallelism.data();
                // All-gather and reduce-scatter over the data-parallel ranks; with expert parallelism a token goes only
                // to the ranks that hold its experts.
                let expert_ranks = f64::from(self.parallelism.expert_ranks());
                let sent = if data > 1.0 { (moe.experts_per_token as f64 / expert_ranks).min(1.0) } else { 1.0 };
                (formats.experts, 2.0 * self.hidden * data * sent, ranks)
            }
        };
        self.block(count, FEED_FORWARD_KERNELS, format);
        if ranks > 1 {
            self.push("all_reduce", count, self.device.all_reduce(bytes_per_token, ranks));
        }
    }

    fn mlp(&mut self, name: &'static str, intermediate: u64, gated: bool, format: Format, count: f64) {
        let slice = intermediate as f64 / self.tensor;
        let up = if gated { 2.0 } else { 1.0 };
        self.gemm(name, count, up * slice, self.hidden, format);
        self.gemm(name, count, self.hidden, slice, format);
    }

    #[expect(clippy::float_cmp, reason = "widths are whole numbers")]
    fn moe(&mut self, moe: &Moe, formats: LayerFormats, count: f64) {
        let data = f64::from(self.parallelism.data());
        let ranks = f64::from(self.parallelism.expert_ranks());
        let slice = moe.intermediate_size as f64 / if ranks > 1.0 { 1.0 } else { self.tensor * data };
        self.gemm("router", count, moe.experts as f64, self.hidden, Format::Bf16);
        if moe.expert_hidden_size as f64 != self.hidden {
            self.gemm("mlp", count, moe.expert_hidden_size as f64, self.hidden, formats.dense);
            self.gemm("mlp", count, self.hidden, moe.expert_hidden_size as f64, formats.dense);
        }
        self.push("experts", count, self.device.experts(moe, slice, ranks, data, formats.experts));
        if moe.shared_intermediate_size > 0 {
            self.mlp("shared_experts", moe.shared_intermediate_size, moe.gated, formats.dense, count);
        }
        self.operators.eager_us += count * self.device.engine_time_us(EngineTime::EagerExperts);
    }

    fn head(&mut self) {
        let logits = self.decoder.vocab_size / self.tensor;
        let sampler_bytes = SAMPLER_BYTES_PER_LOGIT * logits;
        let mut operators = vec![
            Operator { name: "lm_head", count: 1.0, kernel: self.device.gemm(logits, self.hidden, Format::Bf16) },
            Operator { name: "sampler", count: 1.0, kernel: self.device.elementwise(SAMPLER_US, sampler_bytes) },
        ];
        if self.parallelism.tensor() > 1 {
            let kernel = self.device.gather(GATHER_US, 2.0 * self.decoder.vocab_size, self.parallelism.tensor());
            operators.push(Operator { name: "all_gather", count: 1.0, kernel });
        }
        self.operators.head = operators;
    }
}
