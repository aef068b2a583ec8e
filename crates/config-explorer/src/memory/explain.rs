//! The arithmetic of a plan, step by step, with its numbers.

use schemars::JsonSchema;
use serde::Serialize;

use super::PlanRequest;
use super::account::{Accounting, CannotRun};
use super::activation::FORWARD_CONSTANT_BYTES;
use super::kv_cache::{CacheKind, KvCacheGroup, LocalAttention};
use crate::units::{GIB, gib};

/// One line of the arithmetic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ExplainStep {
    /// What is computed.
    pub quantity: String,
    /// From what.
    pub arithmetic: String,
    /// The result, with its unit.
    pub result: String,
}

fn step(quantity: impl Into<String>, arithmetic: impl Into<String>, result: impl Into<String>) -> ExplainStep {
    ExplainStep { quantity: quantity.into(), arithmetic: arithmetic.into(), result: result.into() }
}

/// The arithmetic of the layout, for the pipeline stage that limits. Results add up to what the plan reports.
pub fn explain(request: &PlanRequest<'_>) -> Vec<ExplainStep> {
    match Accounting::new(request) {
        Ok(accounting) => {
            let mut steps = memory_steps(request, &accounting);
            steps.extend(kv_cache_steps(request, &accounting));
            steps
        }
        Err(CannotRun(reason)) => vec![step("layout", reason, "cannot run")],
    }
}

fn memory_steps(request: &PlanRequest<'_>, accounting: &Accounting) -> Vec<ExplainStep> {
    let index = accounting.limiting_stage();
    let stage = &accounting.stages[index];
    let settings = &request.settings;
    let architecture = &request.model.architecture;
    let in_gib = |bytes: f64| format!("{:.3} GiB", bytes / GIB);
    let mut steps = vec![step(
        "requested",
        format!("ceil({:.3} GiB x {})", gib(accounting.total_bytes), settings.gpu_memory_utilization),
        in_gib(accounting.requested_bytes as f64),
    )];
    if accounting.stages.len() > 1 {
        let stages = accounting.stages.iter().map(|stage| format!("{:.2}", stage.kv_cache_bytes as f64 / GIB));
        steps.push(step(
            "limiting stage",
            format!("left for KV cache by stage, GiB: {}", stages.collect::<Vec<_>>().join(", ")),
            format!("stage {} of {}", index + 1, accounting.stages.len()),
        ));
    }
    for part in &stage.weights.parts {
        steps.push(step(format!("weights: {}", part.name), part.arithmetic.clone(), in_gib(part.bytes as f64)));
    }
    steps.push(step(
        "weights",
        format!(
            "sum of the above, and {} that PyTorch's allocator keeps by rounding blocks",
            in_gib(stage.weights.rounding_bytes as f64)
        ),
        in_gib(stage.weights.bytes as f64),
    ));

    let activation = &stage.activation;
    let (tokens, rules) = (settings.max_num_batched_tokens, &request.rules.activation);
    if activation.sampler_bytes > 0.0 {
        steps.push(step(
            "activation: sampler",
            format!(
                "{} sequences x {} logits x {} B + {} SM x 4 B x {} + {} x {tokens} tokens x {} x {} B + {} GiB",
                settings.max_num_seqs.min(tokens),
                architecture.vocab_size,
                rules.sampler_bytes_per_logit + (settings.dtype.bits().unwrap_or(16) / 8) as f64 - 2.0,
                rules.sampler_vocab_rows_per_sm * u64::from(request.multiprocessors()),
                architecture.vocab_size,
                rules.sampler_hidden_copies,
                architecture.hidden_size,
                settings.dtype.bits().unwrap_or(16) / 8,
                rules.sampler_constant_gib,
            ),
            in_gib(activation.sampler_bytes),
        ));
    }
    steps.push(step(
        "activation: forward",
        format!(
            "{tokens} tokens x {:.0} elements x {} B + {:.3} GiB",
            activation.forward_width,
            settings.dtype.bits().unwrap_or(16) / 8,
            FORWARD_CONSTANT_BYTES / GIB
        ),
        in_gib(activation.forward_bytes),
    ));
    if activation.moe_workspace_bytes > 0.0 {
        steps.push(step(
            "activation: experts' workspaces",
            "kept allocated beside the sampler",
            in_gib(activation.moe_workspace_bytes),
        ));
    }
    if activation.encoder_bytes > 0.0 {
        steps.push(step(
            "activation: encoder outputs",
            format!("{tokens} tokens x {} kept in the encoder cache", architecture.hidden_size),
            in_gib(activation.encoder_bytes),
        ));
    }
    steps.push(step("activation", "encoder + max(sampler + experts, forward)", in_gib(activation.peak_bytes)));
    let version = request.rules.version;
    steps.push(step(
        "non-torch",
        format!(
            "measured for vLLM {version} at TP {} PP {}",
            request.parallelism.tensor(),
            request.parallelism.pipeline()
        ),
        in_gib(stage.non_torch_bytes as f64),
    ));
    let counted = request.rules.budget.graph_estimate_in_budget;
    let place = if counted { "taken from the KV cache" } else { "outside of the requested memory in this version" };
    steps.push(step("CUDA graphs", place, in_gib(stage.cuda_graph_bytes as f64)));
    let arithmetic = if settings.kv_cache_memory_bytes.is_some() {
        "--kv-cache-memory-bytes".to_owned()
    } else {
        let graphs = if counted { " - CUDA graphs" } else { "" };
        format!("requested - weights - activation - non-torch{graphs}")
    };
    steps.push(step("available for KV cache", arithmetic, in_gib(stage.kv_cache_bytes as f64)));
    steps
}

fn kv_cache_steps(request: &PlanRequest<'_>, accounting: &Accounting) -> Vec<ExplainStep> {
    let index = accounting.limiting_stage();
    let bytes_per_block = accounting.layout.bytes_per_block(index);
    let len = accounting.plan.as_ref().map_or_else(|_| request.len_limit(), |kv| kv.max_model_len);
    let mut steps: Vec<ExplainStep> = Vec::new();
    for group in accounting.layout.groups() {
        steps.push(step(
            format!("KV group: {}", group_name(group)),
            format!(
                "{} layers, block of {} tokens, {} B a layer",
                group.layers.len(),
                group.spec.block_size,
                group.spec.page_bytes()
            ),
            format!("{} blocks a request of {len}", accounting.layout.group_blocks(group, len)),
        ));
    }
    steps.push(step("bytes of a block", "in all layers that share it", format!("{bytes_per_block} B")));
    match &accounting.plan {
        Ok(kv) => {
            let fewest = kv.stages.iter().map(|stage| stage.num_blocks.to_string()).collect::<Vec<_>>().join(", ");
            steps.push(step(
                "blocks",
                if request.settings.num_gpu_blocks_override.is_some() {
                    "--num-gpu-blocks-override".to_owned()
                } else {
                    format!("available / {bytes_per_block} B, fewest of all stages ({fewest})")
                },
                kv.num_blocks.to_string(),
            ));
            steps.push(step(
                "concurrency",
                format!("{} blocks / {} blocks a request", kv.num_blocks, kv.blocks_per_request),
                format!("{:.2}x {} tokens", kv.max_concurrency, kv.max_model_len),
            ));
            steps.push(step(
                "tokens",
                format!("{:.2} x {}", kv.max_concurrency, kv.max_model_len),
                format!("{} ({} as vLLM {} prints them)", kv.tokens, kv.tokens_reported, request.rules.version),
            ));
        }
        Err(refusal) => steps.push(step("blocks", refusal.to_string(), "does not start")),
    }
    steps
}

fn group_name(group: &KvCacheGroup) -> String {
    match group.spec.kind {
        CacheKind::Full { .. } => "full attention".to_owned(),
        CacheKind::Local { local: LocalAttention::SlidingWindow(window), .. } => format!("sliding window of {window}"),
        CacheKind::Local { local: LocalAttention::Chunked(chunk), .. } => format!("chunks of {chunk}"),
        CacheKind::Mla { cache_type: None, .. } => "index keys".to_owned(),
        CacheKind::Mla { .. } => "latent attention".to_owned(),
        CacheKind::Mamba { .. } => "state".to_owned(),
    }
}
