//! The smallest single changes that make a layout fit, or add most KV cache to one that does. Each was planned again.

use super::summary::{MemoryPlan, Suggestion};
use super::{PlanRequest, plan};
use crate::deployment::Parallelism;
use crate::engine::KvCacheDType;
use crate::model::{DType, Quantisation};

/// Highest utilisation that is suggested: what is left must hold fragments and, before 0.20, the CUDA graphs.
const UTILIZATION_MAX_PERCENT: u32 = 96;
/// Fewest requests and tokens of a step that are suggested: below, throughput suffers more than the memory is worth.
const SEQS_MIN: u64 = 32;
const BATCHED_TOKENS_MIN: u64 = 2048;
/// Gain in tokens from which a change to a layout that fits is worth a line.
const GAIN_MIN: f64 = 0.02;
/// Changes shown for a layout that fits.
const GAINS_SHOWN: usize = 3;

/// A changed request and the flags that change it.
struct Variant<'a> {
    change: String,
    request: PlanRequest<'a>,
}

/// Suggestions for a layout with this plan.
pub fn suggest(request: &PlanRequest<'_>, planned: &MemoryPlan) -> Vec<Suggestion> {
    if planned.fits { gains(request, planned) } else { remedies(request, planned) }
}

/// Changes that make it fit: one of each kind, the smallest of its kind.
fn remedies(request: &PlanRequest<'_>, planned: &MemoryPlan) -> Vec<Suggestion> {
    let mut kinds: Vec<Vec<Variant<'_>>> = Vec::new();
    if planned.memory_per_gpu.is_some() {
        let len = planned.max_model_len_that_fits;
        if len > 0 && len < planned.engine.settings.max_model_len {
            kinds.push(vec![with_settings(request, format!("--max-model-len {len}"), |settings| {
                settings.max_model_len = Some(len);
            })]);
        }
        kinds.push(utilizations(request));
        kinds.push(halvings(request.settings.max_num_seqs, SEQS_MIN, |seqs| with_seqs(request, seqs)));
        kinds.push(halvings(request.settings.max_num_batched_tokens, BATCHED_TOKENS_MIN, |tokens| {
            with_batched_tokens(request, tokens)
        }));
        kinds.extend([fp8_cache(request), eager(request), fp8_weights(request)]);
    }
    kinds.push(tensor_sizes(request));
    kinds.push(pipeline_sizes(request));
    if request.concurrency.is_some() {
        kinds.push(data_sizes(request));
    }
    kinds.into_iter().filter_map(|kind| kind.into_iter().find_map(remedy)).collect()
}

/// The change with its effect, if it makes the layout fit.
fn remedy(variant: Variant<'_>) -> Option<Suggestion> {
    let planned = plan(&variant.request);
    let kv = planned.kv_cache.filter(|_| planned.fits)?;
    let effect = format!(
        "fits on {} GPU{}: {} tokens of KV cache, {:.1} requests of {} tokens{}",
        planned.gpus,
        if planned.gpus == 1 { "" } else { "s" },
        kv.tokens,
        kv.max_concurrency,
        planned.engine.settings.max_model_len,
        if planned.parallelism.dp > 1 { " on each data-parallel rank" } else { "" },
    );
    Some(Suggestion { change: variant.change, effect })
}

/// Changes that add most tokens to a layout that fits.
fn gains(request: &PlanRequest<'_>, planned: &MemoryPlan) -> Vec<Suggestion> {
    let Some((before, memory)) = planned.kv_cache.zip(planned.memory_per_gpu) else {
        return Vec::new();
    };
    let half = |value: u64, least: u64| halvings(value, least, |half| half).into_iter().take(1);
    let mut variants: Vec<Variant<'_>> = Vec::new();
    variants.extend(half(request.settings.max_num_seqs, SEQS_MIN).map(|seqs| with_seqs(request, seqs)));
    variants.extend(
        half(request.settings.max_num_batched_tokens, BATCHED_TOKENS_MIN)
            .map(|tokens| with_batched_tokens(request, tokens)),
    );
    variants.extend(utilizations(request).into_iter().last());
    variants.extend(fp8_cache(request));
    variants.extend(eager(request));
    let mut gained: Vec<(f64, Suggestion)> = variants
        .into_iter()
        .filter_map(|variant| {
            let planned = plan(&variant.request);
            let (after, after_memory) = planned.kv_cache.zip(planned.memory_per_gpu)?;
            let gain = after.tokens as f64 / before.tokens as f64 - 1.0;
            let freed_gib = after_memory.kv_cache_gib - memory.kv_cache_gib;
            let freed = if freed_gib >= 0.01 { format!("{freed_gib:.2} GiB more KV cache, ") } else { String::new() };
            let effect = format!("{freed}{:.0} % more tokens", 100.0 * gain);
            (planned.fits && gain >= GAIN_MIN).then_some((gain, Suggestion { change: variant.change, effect }))
        })
        .collect();
    gained.sort_by(|a, b| b.0.total_cmp(&a.0));
    gained.into_iter().take(GAINS_SHOWN).map(|(_, suggestion)| suggestion).collect()
}

fn with_settings<'a>(
    request: &PlanRequest<'a>,
    change: String,
    apply: impl FnOnce(&mut crate::engine::EngineSettings),
) -> Variant<'a> {
    let mut request = request.clone();
    apply(&mut request.settings);
    Variant { change, request }
}

/// A value halved again and again down to a least one.
fn halvings<T>(value: u64, least: u64, make: impl Fn(u64) -> T) -> Vec<T> {
    std::iter::successors(Some(value / 2), |half| Some(half / 2)).take_while(|half| *half >= least).map(make).collect()
}

fn with_seqs<'a>(request: &PlanRequest<'a>, seqs: u64) -> Variant<'a> {
    with_settings(request, format!("--max-num-seqs {seqs}"), |settings| settings.max_num_seqs = seqs)
}

fn with_batched_tokens<'a>(request: &PlanRequest<'a>, tokens: u64) -> Variant<'a> {
    with_settings(request, format!("--max-num-batched-tokens {tokens}"), |settings| {
        settings.max_num_batched_tokens = tokens;
        settings.max_num_seqs = settings.max_num_seqs.min(tokens);
    })
}

fn utilizations<'a>(request: &PlanRequest<'a>) -> Vec<Variant<'a>> {
    if request.settings.kv_cache_memory_bytes.is_some() {
        return Vec::new();
    }
    let percent = (request.settings.gpu_memory_utilization * 100.0).floor() as u32 + 1;
    (percent..=UTILIZATION_MAX_PERCENT)
        .map(|percent| {
            let share = f64::from(percent) / 100.0;
            with_settings(request, format!("--gpu-memory-utilization {share}"), |settings| {
                settings.gpu_memory_utilization = share;
            })
        })
        .collect()
}

fn fp8_cache<'a>(request: &PlanRequest<'a>) -> Vec<Variant<'a>> {
    let sixteen_bits = request.settings.kv_cache_dtype == KvCacheDType::Auto
        && request.model.architecture.kv_cache_dtype.and_then(DType::bits).is_none_or(|bits| bits > 8);
    let change = || {
        with_settings(request, "--kv-cache-dtype fp8".to_owned(), |settings| {
            settings.kv_cache_dtype = KvCacheDType::Fp8;
        })
    };
    sixteen_bits.then(change).into_iter().collect()
}

fn eager<'a>(request: &PlanRequest<'a>) -> Vec<Variant<'a>> {
    let change = || with_settings(request, "--enforce-eager".to_owned(), |settings| settings.enforce_eager = true);
    let counted = request.rules.budget.graph_estimate_in_budget && !request.settings.enforce_eager;
    counted.then(change).into_iter().collect()
}

fn fp8_weights<'a>(request: &PlanRequest<'a>) -> Vec<Variant<'a>> {
    let plain = request.settings.load_quantization.is_none()
        && request.model.architecture.checkpoint.quantisation.method().is_none();
    let quantisation = plain.then(|| Quantisation::while_loading("fp8").ok()).flatten();
    let change = |quantisation| {
        with_settings(request, "--quantization fp8".to_owned(), |settings| {
            settings.load_quantization = Some(quantisation);
        })
    };
    quantisation.map(change).into_iter().collect()
}

/// Tensor-parallel sizes within a node, the next larger first; smaller ones for a size that cannot run.
fn tensor_sizes<'a>(request: &PlanRequest<'a>) -> Vec<Variant<'a>> {
    let now = request.parallelism.tensor();
    let larger = now + 1..=request.nodes.gpus_per_node.max(now + 1);
    larger.chain((1..now).rev()).filter_map(|size| with_parallelism(request, Size::Tensor, size)).collect()
}

fn pipeline_sizes<'a>(request: &PlanRequest<'a>) -> Vec<Variant<'a>> {
    let now = request.parallelism.pipeline();
    (now + 1..=8 * now).filter_map(|size| with_parallelism(request, Size::Pipeline, size)).collect()
}

fn data_sizes<'a>(request: &PlanRequest<'a>) -> Vec<Variant<'a>> {
    let now = request.parallelism.data();
    (now + 1..=32 * now).filter_map(|size| with_parallelism(request, Size::Data, size)).collect()
}

/// A parallel size.
#[derive(Clone, Copy)]
enum Size {
    Tensor,
    Pipeline,
    Data,
}

fn with_parallelism<'a>(request: &PlanRequest<'a>, which: Size, size: u32) -> Option<Variant<'a>> {
    let now = request.parallelism;
    let (tensor, pipeline, data, flag) = match which {
        Size::Tensor => (size, now.pipeline(), now.data(), "--tensor-parallel-size"),
        Size::Pipeline => (now.tensor(), size, now.data(), "--pipeline-parallel-size"),
        Size::Data => (now.tensor(), now.pipeline(), size, "--data-parallel-size"),
    };
    let parallelism = Parallelism::new(tensor, pipeline, data, now.experts_spread(), now.decode_context()).ok()?;
    Some(Variant { change: format!("{flag} {size}"), request: PlanRequest { parallelism, ..request.clone() } })
}
