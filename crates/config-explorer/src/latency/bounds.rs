//! The least time that attention can take: bytes of the cache at the datasheet's bandwidth, arithmetic at its peak.

use super::Format;
use super::step::{Chunk, Configuration, Decodes};
use crate::model::{Attention, DType};

/// What one layer's attention costs at least, on one rank.
#[derive(Debug, Clone, Copy, Default)]
struct Demand {
    /// Bytes and FLOP for each token of context of a decoding sequence.
    decode: (f64, f64),
    /// Bytes of state for each decoding sequence.
    state_bytes: f64,
    /// FLOP for each pair of a query and a key.
    pair_flop: f64,
    /// FLOP for each token of a prompt.
    token_flop: f64,
    /// Most keys that a query sees.
    reach: Option<f64>,
}

/// Roofline time of the attention of a step, us: of the decoding sequences, and of the chunks.
pub(super) fn attention_us(configuration: &Configuration<'_>, decodes: Decodes, chunks: &[Chunk]) -> (f64, f64) {
    let accelerator = configuration.accelerator;
    let bandwidth = accelerator.memory_bandwidth_gb_per_s * 1e3;
    let peak = Format::Bf16.peak(accelerator);
    let ranks = f64::from(configuration.parallelism.decode_context());
    let mut times = (0.0, 0.0);
    for (layer, _, count) in &configuration.decoder.classes {
        let demand = demand(configuration, &layer.attention);
        let reach = demand.reach.unwrap_or(f64::INFINITY);
        let seen = decodes.context_tokens.min(reach * decodes.sequences) / ranks;
        let read_us = (demand.decode.0 * seen + demand.state_bytes * decodes.sequences) / bandwidth;
        times.0 += count * read_us.max(demand.decode.1 * seen / peak);
        for chunk in chunks {
            let flop = demand.pair_flop * pairs(*chunk, reach) + demand.token_flop * chunk.tokens;
            times.1 += count * flop / peak;
        }
    }
    times
}

/// Pairs of a query and a key it sees, where it sees at most `reach` of them.
fn pairs(chunk: Chunk, reach: f64) -> f64 {
    let end = chunk.context + chunk.tokens;
    let (from, to) = (chunk.context.min(reach), end.min(reach));
    let beyond = (end - to) - (chunk.context - from);
    (to - from) * f64::midpoint(from, to) + if beyond > 0.0 { beyond * reach } else { 0.0 }
}

fn demand(configuration: &Configuration<'_>, attention: &Attention) -> Demand {
    let tensor = f64::from(configuration.parallelism.tensor());
    let share = |heads: u64| (heads as f64 / tensor).ceil().max(1.0);
    let element_bytes = if configuration.fp8_kv_cache { 1.0 } else { 2.0 };
    let (heads, window) = match attention {
        Attention::Full(heads) | Attention::Shared { heads, .. } => (heads, None),
        Attention::SlidingWindow { heads, window } => (heads, Some(*window as f64)),
        Attention::ChunkedLocal { heads, chunk } => (heads, Some(*chunk as f64)),
        Attention::Mla(mla) | Attention::MlaSparse { mla, .. } => {
            let heads = share(mla.query_heads);
            let [latent, nope, rope, value] =
                [mla.kv_lora_rank, mla.qk_nope_head_dim, mla.qk_rope_head_dim, mla.v_head_dim]
                    .map(|width| width as f64);
            return Demand {
                decode: ((latent + rope) * element_bytes, 2.0 * heads * (2.0 * latent + rope)),
                pair_flop: 2.0 * heads * (nope + rope + value),
                // Layers that take another layer's selection say no size: then no key is certain.
                reach: match attention {
                    Attention::MlaSparse { indexer, .. } => Some(indexer.map_or(0.0, |indexer| indexer.top_k as f64)),
                    _ => None,
                },
                ..Demand::default()
            };
        }
        Attention::Linear(linear) => {
            let elements = share(linear.value_heads) * (linear.key_head_dim * linear.value_head_dim) as f64;
            return state(elements, linear.state_dtype);
        }
        Attention::Mamba(mamba) => {
            let elements = mamba.inner_size as f64 / tensor * mamba.state_size as f64;
            return state(elements, mamba.state_dtype.unwrap_or(DType::BF16));
        }
        Attention::None | Attention::Projection | Attention::CompressedSparse(_) => return Demand::default(),
    };
    let width = (heads.head_dim + heads.value_head_dim) as f64;
    let flop = 2.0 * share(heads.query_heads) * width;
    Demand {
        decode: (share(heads.kv_heads) * width * element_bytes, flop),
        pair_flop: flop,
        reach: window,
        ..Demand::default()
    }
}

/// A constant state: read and written for a decoded token; each of its elements is decayed and added to for a token of a
/// prompt, and multiplied into the output (6 FLOP).
fn state(elements: f64, dtype: DType) -> Demand {
    let bytes = elements * dtype.bits().unwrap_or(32) as f64 / 8.0;
    Demand { state_bytes: 2.0 * bytes, token_flop: 6.0 * elements, ..Demand::default() }
}
