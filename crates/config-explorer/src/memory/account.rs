//! The accounting of one layout: every figure that the plan, its explanation and its suggestions are made of.

use super::activation::{ProfileRun, activation};
use super::kv_cache::{
    KvCacheLayout, KvCachePlan, KvCacheRefusal, KvCacheRequest, KvCacheSettings, MaxModelLen, ModelKvCache,
};
use super::overhead::{cuda_graph_gib, non_torch_gib};
use super::weights::{RankWeights, stage_weights};
use super::{Activation, PlanRequest};
use crate::engine::Speculative;
use crate::units::GIB;

/// What one layout of one model allocates. Byte counts are of one GPU.
#[derive(Debug)]
pub(super) struct Accounting {
    /// What the driver reports.
    pub total_bytes: u64,
    /// What the engine may use.
    pub requested_bytes: u64,
    /// One rank of each pipeline stage.
    pub stages: Vec<StageAccounting>,
    /// What the layers cache.
    pub cache: ModelKvCache,
    /// The layers in groups.
    pub layout: KvCacheLayout,
    /// Blocks and what they hold, or why there are none.
    pub plan: Result<KvCachePlan, KvCacheRefusal>,
}

/// Memory of one rank of a pipeline stage.
#[derive(Debug)]
pub(super) struct StageAccounting {
    pub weights: RankWeights,
    pub activation: Activation,
    pub non_torch_bytes: u64,
    pub cuda_graph_bytes: u64,
    /// What is left for the KV cache; negative: the shortfall.
    pub kv_cache_bytes: i64,
}

/// Why a layout cannot run, whatever the memory.
#[derive(Debug)]
pub(super) struct CannotRun(pub String);

impl Accounting {
    pub(super) fn new(request: &PlanRequest<'_>) -> Result<Self, CannotRun> {
        let PlanRequest { model, rules, settings, parallelism, .. } = request;
        let architecture = &model.architecture;
        if let Some(problem) = request.layout_problem() {
            return Err(CannotRun(problem));
        }
        let cache_settings = KvCacheSettings {
            parallelism: *parallelism,
            block_size: settings.block_size,
            dtype: settings.dtype,
            kv_cache_dtype: settings.kv_cache_dtype.element().map_err(|reason| CannotRun(reason.to_string()))?,
            max_model_len: request.len_limit(),
            enable_prefix_caching: settings.enable_prefix_caching,
            mamba_cache_mode: settings.mamba_cache_mode,
            mamba_cache_dtype: settings.mamba_cache_dtype,
            mamba_ssm_cache_dtype: settings.mamba_ssm_cache_dtype,
            num_speculative_tokens: settings.speculative.as_ref().map_or(0, |speculative| speculative.tokens),
            mtp: settings.speculative.as_ref().is_some_and(Speculative::uses_mtp_layers),
        };
        let cannot_run = |refusal: KvCacheRefusal| CannotRun(refusal.to_string());
        let cache = ModelKvCache::new(architecture, &cache_settings, rules).map_err(cannot_run)?;
        let kv_request = KvCacheRequest {
            max_model_len: settings
                .max_model_len
                .map_or(MaxModelLen::Auto { model_limit: request.len_limit() }, MaxModelLen::Fixed),
            max_num_batched_tokens: settings.max_num_batched_tokens,
            async_scheduling: settings.async_scheduling,
            decode_context_parallel_size: parallelism.decode_context().into(),
            num_gpu_blocks_override: settings.num_gpu_blocks_override,
            disable_hybrid_kv_cache_manager: settings.disable_hybrid_kv_cache_manager,
            mamba_cache_mode: cache.mamba_cache_mode,
        };
        let layout = KvCacheLayout::new(&cache.stages, &kv_request, &rules.kv_cache).map_err(cannot_run)?;

        let total_bytes = (request.total_gib * GIB) as u64;
        // vLLM `v1/worker/utils.py`, `request_memory`.
        let requested_bytes = (total_bytes as f64 * settings.gpu_memory_utilization).ceil() as u64;
        let stages: Vec<_> = parallelism
            .stage_layers(architecture.layers.len())
            .into_iter()
            .enumerate()
            .map(|(stage, layers)| StageAccounting::new(request, stage, layers, requested_bytes))
            .collect();
        let available: Vec<_> = stages.iter().map(|stage| stage.kv_cache_bytes.max(0) as u64).collect();
        let plan = layout.plan(&available);
        Ok(Self { total_bytes, requested_bytes, stages, cache, layout, plan })
    }

    /// The stage whose memory gives the fewest blocks.
    pub(super) fn limiting_stage(&self) -> usize {
        let blocks = |stage: &usize| {
            let bytes_per_block = self.layout.bytes_per_block(*stage);
            match self.stages[*stage].kv_cache_bytes {
                // Without a cache the largest shortfall limits.
                bytes if bytes <= 0 || bytes_per_block == 0 => bytes as f64,
                bytes => bytes as f64 / bytes_per_block as f64,
            }
        };
        (0..self.stages.len()).min_by(|a, b| blocks(a).total_cmp(&blocks(b))).unwrap_or(0)
    }

    /// Longest request that fits on every stage, at most `limit` tokens.
    pub(super) fn longest_model_len(&self, limit: u64) -> u64 {
        let longest = |(stage, accounting): (usize, &StageAccounting)| {
            self.layout.longest_model_len(stage, accounting.kv_cache_bytes.max(0) as u64, limit)
        };
        self.stages.iter().enumerate().map(longest).min().unwrap_or(0)
    }
}

impl StageAccounting {
    fn new(request: &PlanRequest<'_>, stage: usize, layers: std::ops::Range<usize>, requested_bytes: u64) -> Self {
        let PlanRequest { model, rules, settings, parallelism, .. } = request;
        let last_stage = stage + 1 == parallelism.pipeline() as usize;
        let stage_layers = layers.len();
        let quantisation = &model.architecture.checkpoint.quantisation;
        let weights = stage_weights(request, stage, layers);
        let run = ProfileRun {
            architecture: &model.architecture,
            element_bytes: settings.dtype.bits().unwrap_or(16) / 8,
            int8_activations: quantisation.int8_activations(),
            max_num_batched_tokens: settings.max_num_batched_tokens,
            max_num_seqs: settings.max_num_seqs,
            tensor: parallelism.tensor(),
            expert_ranks: parallelism.expert_ranks(),
            pipelined: parallelism.pipeline() > 1,
            last_stage,
            encoder: model.architecture.vision.is_some() && !settings.language_model_only,
            multiprocessors: request.multiprocessors(),
            experts_without_workspace: quantisation.method() == Some("mxfp4"),
        };
        let activation = activation(run, &rules.activation);
        let non_torch_bytes = (non_torch_gib(rules, *parallelism) * GIB) as u64;
        let cuda_graph_bytes = if settings.enforce_eager {
            0
        } else {
            (cuda_graph_gib(&rules.cuda_graphs, settings.max_num_seqs, stage_layers) * GIB) as u64
        };
        let graphs_counted = if rules.budget.graph_estimate_in_budget { cuda_graph_bytes } else { 0 };
        let used = weights.bytes + activation.peak_bytes as u64 + non_torch_bytes + graphs_counted;
        let kv_cache_bytes = match settings.kv_cache_memory_bytes {
            // Bypasses the accounting.
            Some(bytes) => i64::try_from(bytes).unwrap_or(i64::MAX),
            None => requested_bytes as i64 - used as i64,
        };
        Self { weights, activation, non_torch_bytes, cuda_graph_bytes, kv_cache_bytes }
    }
}
