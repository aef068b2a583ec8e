//! From the accounting of a layout to the plan that is printed.

use super::account::{Accounting, CannotRun, StageAccounting};
use super::summary::{
    AcceleratorSummary, EngineSummary, ExpertsSummary, KvCacheSummary, LayerSummary, MemoryPerGpu, MemoryPlan,
    ModelSummary, RankMemory, SettingsSummary,
};
use super::{PlanRequest, kv_cache::KvCacheRefusal};
use crate::engine::EngineSettings;
use crate::model::{Architecture, Attention, FeedForward, Model};
use crate::units::{GIB, gib};

/// Plans one layout. A layout that cannot run or does not fit is a plan with `fits: false` and the reason.
pub fn plan(request: &PlanRequest<'_>) -> MemoryPlan {
    match Accounting::new(request) {
        Ok(accounting) => fitted(request, &accounting),
        Err(CannotRun(reason)) => MemoryPlan { reason: Some(reason), ..blank(request) },
    }
}

/// The plan without any figure.
fn blank(request: &PlanRequest<'_>) -> MemoryPlan {
    let PlanRequest { model, rules, settings, parallelism, .. } = request;
    MemoryPlan {
        model: model_summary(model),
        engine: EngineSummary {
            name: "vllm",
            version: rules.version.to_string(),
            settings: SettingsSummary {
                gpu_memory_utilization: settings.gpu_memory_utilization,
                max_model_len: request.len_limit(),
                max_num_batched_tokens: settings.max_num_batched_tokens,
                max_num_seqs: settings.max_num_seqs,
                block_size: settings.block_size.unwrap_or(rules.defaults.block_size),
                kv_cache_dtype: settings.kv_cache_dtype.as_str().to_owned(),
                kv_cache_dtype_resolved: settings.dtype.torch_name().to_owned(),
                quantization: load_quantization(settings),
                enforce_eager: settings.enforce_eager,
                enable_prefix_caching: settings.enable_prefix_caching.unwrap_or(rules.defaults.enable_prefix_caching),
                async_scheduling: settings.async_scheduling,
            },
        },
        accelerator: AcceleratorSummary { name: request.accelerator.name.clone(), memory_gib: request.total_gib },
        parallelism: (*parallelism).into(),
        gpus: parallelism.gpus(),
        memory_per_gpu: None,
        ranks: Vec::new(),
        kv_cache: None,
        max_model_len_that_fits: 0,
        fits: false,
        reason: None,
        accounting_basis: rules.basis,
        suggestions: Vec::new(),
        warnings: warnings(request),
    }
}

/// What the user should know of the model and of what is not counted.
fn warnings(request: &PlanRequest<'_>) -> Vec<String> {
    let mut warnings = request.model.warnings.clone();
    if let Some(speculative) = &request.settings.speculative {
        let mtp_layers = &request.model.architecture.mtp_layers;
        if speculative.uses_mtp_layers() && mtp_layers.is_empty() {
            warnings.push("the config names no multi-token-prediction layers: none are counted".to_owned());
        } else if !speculative.uses_mtp_layers() && speculative.method != "ngram" {
            let method = &speculative.method;
            warnings.push(format!("weights and KV cache of the `{method}` draft model are not counted"));
        }
    }
    let parallelism = request.parallelism;
    if parallelism.tensor() > request.nodes.gpus_per_node {
        let per_node = request.nodes.gpus_per_node;
        warnings.push(format!("TP {} spans nodes of {per_node} GPUs", parallelism.tensor()));
    }
    warnings
}

/// Method that quantises while loading.
fn load_quantization(settings: &EngineSettings) -> Option<String> {
    settings.load_quantization.as_ref().and_then(|quantisation| quantisation.method().map(str::to_owned))
}

fn fitted(request: &PlanRequest<'_>, accounting: &Accounting) -> MemoryPlan {
    let mut plan = blank(request);
    let stage_index = accounting.limiting_stage();
    let stage = &accounting.stages[stage_index];
    plan.engine.settings.block_size = accounting.cache.block_size;
    accounting.cache.kv_cache_dtype.torch_name().clone_into(&mut plan.engine.settings.kv_cache_dtype_resolved);
    plan.memory_per_gpu = Some(MemoryPerGpu {
        total_gib: gib(accounting.total_bytes),
        requested_gib: gib(accounting.requested_bytes),
        weights_gib: gib(stage.weights.bytes),
        activation_gib: stage.activation.peak_bytes / GIB,
        activation_bound_by: stage.activation.bound_by,
        moe_workspace_gib: stage.activation.moe_workspace_bytes / GIB,
        non_torch_gib: gib(stage.non_torch_bytes),
        cuda_graph_gib: gib(stage.cuda_graph_bytes),
        cuda_graph_in_budget: request.rules.budget.graph_estimate_in_budget,
        kv_cache_gib: stage.kv_cache_bytes as f64 / GIB,
    });
    plan.ranks = accounting.stages.iter().map(rank_memory).collect();
    let model_limit = request.model.architecture.max_position_embeddings.unwrap_or_else(|| request.len_limit());
    plan.max_model_len_that_fits = accounting.longest_model_len(model_limit);
    match &accounting.plan {
        Ok(kv) => {
            let bytes_per_block = accounting.layout.bytes_per_block(stage_index);
            let request_bytes = kv.blocks_per_request * bytes_per_block;
            plan.engine.settings.max_model_len = kv.max_model_len;
            plan.kv_cache = Some(KvCacheSummary {
                bytes_per_token_per_gpu: request_bytes.div_ceil(kv.max_model_len.max(1)),
                block_size: accounting.cache.block_size,
                num_blocks: kv.num_blocks,
                tokens: kv.tokens,
                tokens_as_logged: kv.tokens_reported,
                blocks_per_request: kv.blocks_per_request,
                request_gib: gib(request_bytes),
                max_concurrency: kv.max_concurrency,
                groups: accounting.layout.groups().len() as u64,
            });
            plan.reason =
                beyond_device(request, accounting).or_else(|| concurrency_shortfall(request, kv.max_concurrency));
            plan.fits = plan.reason.is_none();
        }
        Err(refusal) => plan.reason = Some(shortfall(request, accounting, refusal)),
    }
    plan
}

/// Why a KV cache of a given size does not fit beside the rest: vLLM does not check it, and runs out of memory.
fn beyond_device(request: &PlanRequest<'_>, accounting: &Accounting) -> Option<String> {
    let given = request.settings.kv_cache_memory_bytes?;
    let used = |stage: &StageAccounting| {
        stage.weights.bytes + stage.activation.peak_bytes as u64 + stage.non_torch_bytes + stage.cuda_graph_bytes
    };
    let used_bytes = accounting.stages.iter().map(used).max().unwrap_or(0);
    let left_bytes = accounting.total_bytes.saturating_sub(used_bytes);
    (given > left_bytes).then(|| {
        format!(
            "--kv-cache-memory-bytes asks for {:.2} GiB, and {:.2} GiB of the GPU are left beside weights, activation and \
             overhead",
            gib(given),
            gib(left_bytes)
        )
    })
}

fn rank_memory(stage: &StageAccounting) -> RankMemory {
    RankMemory {
        weights_gib: gib(stage.weights.bytes),
        activation_gib: stage.activation.peak_bytes / GIB,
        kv_cache_gib: stage.kv_cache_bytes as f64 / GIB,
    }
}

/// Why the layout holds fewer requests than asked for. A request lives on one data-parallel rank, whole.
fn concurrency_shortfall(request: &PlanRequest<'_>, max_concurrency: f64) -> Option<String> {
    let wanted = request.concurrency?;
    let held = max_concurrency as u64 * u64::from(request.parallelism.data());
    (held < wanted).then(|| format!("holds {held} requests of full length at once, and {wanted} were asked for"))
}

/// Why vLLM would not start, with the figure that is missing.
pub(super) fn shortfall(request: &PlanRequest<'_>, accounting: &Accounting, refusal: &KvCacheRefusal) -> String {
    let index = accounting.limiting_stage();
    let stage = &accounting.stages[index];
    let place = match accounting.stages.len() {
        1 => String::new(),
        stages => format!("on pipeline stage {} of {stages}, ", index + 1),
    };
    if stage.kv_cache_bytes > 0 {
        return format!("{place}{refusal}");
    }
    let needed_gib = (accounting.requested_bytes as i64 - stage.kv_cache_bytes) as f64 / GIB;
    format!(
        "{place}weights, activation and overhead need {needed_gib:.2} GiB of the {:.2} GiB that \
         --gpu-memory-utilization {} allows: {:.2} GiB short before any KV cache",
        gib(accounting.requested_bytes),
        request.settings.gpu_memory_utilization,
        -stage.kv_cache_bytes as f64 / GIB
    )
}

fn model_summary(model: &Model) -> ModelSummary {
    let architecture = &model.architecture;
    ModelSummary {
        id: model.id.clone(),
        revision: model.revision.clone(),
        source: model.source,
        architecture: architecture.name.clone(),
        parameters: model.parameters,
        weights_source: model.weights.source,
        max_position_embeddings: architecture.max_position_embeddings,
        dtype: architecture.dtype.torch_name().to_owned(),
        quantization: architecture.checkpoint.quantisation.method().map(str::to_owned),
        layers: layer_summaries(architecture),
        experts: experts_summary(architecture),
    }
}

/// Layers by kind, in order of first appearance.
fn layer_summaries(architecture: &Architecture) -> Vec<LayerSummary> {
    let mut summaries: Vec<LayerSummary> = Vec::new();
    for layer in &architecture.layers {
        let summary = layer_summary(&layer.attention);
        match summaries.iter_mut().find(|known| LayerSummary { count: 1, ..(*known).clone() } == summary) {
            Some(known) => known.count += 1,
            None => summaries.push(summary),
        }
    }
    summaries
}

fn layer_summary(attention: &Attention) -> LayerSummary {
    let (name, kv_heads, head_dim, window) = match attention {
        Attention::None | Attention::Projection => ("none", None, None, None),
        Attention::Full(heads) => ("full", Some(heads.kv_heads), Some(heads.head_dim), None),
        Attention::SlidingWindow { heads, window } => {
            ("sliding_window", Some(heads.kv_heads), Some(heads.head_dim), Some(*window))
        }
        Attention::ChunkedLocal { heads, chunk } => {
            ("chunked_local", Some(heads.kv_heads), Some(heads.head_dim), Some(*chunk))
        }
        Attention::Mla(mla) => ("mla", Some(1), Some(mla.kv_lora_rank + mla.qk_rope_head_dim), None),
        Attention::MlaSparse { mla, .. } => {
            ("mla_sparse", Some(1), Some(mla.kv_lora_rank + mla.qk_rope_head_dim), None)
        }
        Attention::CompressedSparse(sparse) => ("compressed_sparse", Some(1), Some(sparse.head_dim), None),
        Attention::Linear(linear) => ("linear", Some(linear.key_heads), Some(linear.key_head_dim), None),
        Attention::Mamba(_) => ("mamba", None, None, None),
        Attention::Shared { heads, .. } => ("shared", Some(heads.kv_heads), Some(heads.head_dim), None),
    };
    LayerSummary { attention: name, count: 1, kv_heads, head_dim, window }
}

fn experts_summary(architecture: &Architecture) -> Option<ExpertsSummary> {
    let moes = architecture.layers.iter().filter_map(|layer| match layer.feed_forward {
        FeedForward::Moe(moe) => Some(moe),
        _ => None,
    });
    let mut summary: Option<ExpertsSummary> = None;
    for moe in moes {
        let first = ExpertsSummary { routed: moe.experts, per_token: moe.experts_per_token, layers: 0 };
        summary.get_or_insert(first).layers += 1;
    }
    summary
}
