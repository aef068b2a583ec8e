//! One engine as users describe it: what its scheduler is set to, how long its steps take, and what its clients do.

use super::cluster::{FrontEnd, KvTransfer, StepTimer};
use super::engine::{Batch, GroupAttention, KvGroup, Policy, SchedulerConfig};
use super::outcome::FinishedRequests;
use crate::engine::{MambaCacheMode, SchedulerRules};
use crate::latency::{Chunk, Decodes, StepTimes};
use crate::memory::kv_cache::{CacheKind, KvCacheSpec, LocalAttention};
use crate::memory::{KvPool, PlanRequest, kv_pool};
use crate::model::{FeedForward, Layer};
use crate::serving::{FRONT_END_PER_TOKEN_US, FRONT_END_US, Role, TRANSFER_EFFICIENCY};
use crate::{Error, Result};

/// Seconds that a benchmark's client takes from a last token to its next request (the reference, 3.2).
pub const CLIENT_THINK_S: f64 = 0.003;

/// Spread of outputs of equal length in a closed loop: with exactly equal ones the simulated clients stay in lock-step, which
/// measurements do not show (the reference, 3.2).
pub const EQUAL_OUTPUTS_SPREAD: f64 = 0.2;

impl FrontEnd {
    /// The API server of vLLM, which takes one request after the other (the reference, 3.2).
    pub const VLLM: Self = Self { request_us: FRONT_END_US, prompt_token_us: FRONT_END_PER_TOKEN_US };
}

/// One data-parallel rank of an engine, ready to be simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedEngine {
    /// Settings, with the blocks and groups that `memory` plans.
    pub config: SchedulerConfig,
    /// What its version does.
    pub rules: SchedulerRules,
    /// Data-parallel ranks of the engine.
    pub ranks: u32,
    /// The ranks share experts and so take their steps together.
    pub lockstep: bool,
    /// What is not simulated as it was asked for.
    pub warnings: Vec<String>,
}

impl PlannedEngine {
    /// The engine that vLLM would start.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for a layout that cannot run or does not fit.
    pub fn new(request: &PlanRequest<'_>) -> Result<Self> {
        let KvPool { groups, block_size, num_blocks, max_model_len, enable_prefix_caching, mamba_cache_mode } =
            kv_pool(request)?;
        let settings = &request.settings;
        let mut warnings = Vec::new();
        let mut kv_groups: Vec<KvGroup> = groups.iter().map(|group| kv_group(&group.spec, mamba_cache_mode)).collect();
        if kv_groups.is_empty() {
            // A model without a cache: the scheduler counts no blocks.
            kv_groups.push(KvGroup {
                attention: GroupAttention::Mamba { aligned: false, speculative_blocks: 0 },
                block_size: narrow("max_model_len", max_model_len)?,
            });
        }
        let block_size = narrow("block_size", block_size)?;
        let differ = kv_groups.iter().any(|group| group.block_size != block_size);
        if enable_prefix_caching && differ {
            warnings.push(
                "prefix caching over groups whose blocks differ in length is not simulated: every prompt is computed whole"
                    .to_owned(),
            );
        }
        let config = SchedulerConfig {
            max_model_len: narrow("max_model_len", max_model_len)?,
            max_num_seqs: narrow("max_num_seqs", settings.max_num_seqs)?,
            max_num_batched_tokens: narrow("max_num_batched_tokens", settings.max_num_batched_tokens)?,
            block_size,
            num_gpu_blocks: narrow("num_gpu_blocks", num_blocks)?,
            kv_groups,
            enable_prefix_caching: enable_prefix_caching && !differ,
            enable_chunked_prefill: settings.enable_chunked_prefill,
            long_prefill_token_threshold: settings.long_prefill_token_threshold,
            policy: if settings.priority_scheduling { Policy::Priority } else { Policy::Fcfs },
            async_scheduling: settings.async_scheduling,
            pipeline_parallel_size: request.parallelism.pipeline(),
            ..SchedulerConfig::default()
        };
        let ranks = request.parallelism.data();
        let has_experts = |layer: &Layer| matches!(layer.feed_forward, FeedForward::Moe(_));
        let lockstep = ranks > 1 && request.model.architecture.layers.iter().any(has_experts);
        Ok(Self { config, rules: request.rules.scheduler, ranks, lockstep, warnings })
    }
}

/// A count as the scheduler holds it.
fn narrow(setting: &str, value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| Error::InvalidSetting {
        setting: setting.to_owned(),
        reason: format!("{value} is more than can be simulated"),
    })
}

fn kv_group(spec: &KvCacheSpec, mamba_cache_mode: MambaCacheMode) -> KvGroup {
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let attention = match spec.kind {
        CacheKind::Full { .. } | CacheKind::Mla { .. } => GroupAttention::Full,
        CacheKind::Local { local: LocalAttention::SlidingWindow(window), .. } => {
            GroupAttention::SlidingWindow { window: narrow(window) }
        }
        CacheKind::Local { local: LocalAttention::Chunked(chunk), .. } => {
            GroupAttention::ChunkedLocal { chunk: narrow(chunk) }
        }
        CacheKind::Mamba { speculative_blocks, .. } => GroupAttention::Mamba {
            aligned: mamba_cache_mode == MambaCacheMode::Align,
            speculative_blocks: narrow(speculative_blocks),
        },
    };
    KvGroup { attention, block_size: narrow(spec.block_size) }
}

/// The clock of an engine: the modelled times of its steps.
#[derive(Debug, Clone, Copy)]
pub struct ModelledSteps<'a> {
    /// Times of the configuration.
    pub step: &'a StepTimes,
    /// Every step takes this many times as long: 1, or what an interval is explored with.
    pub factor: f64,
}

impl StepTimer for ModelledSteps<'_> {
    fn step_us(&mut self, batch: &Batch) -> f64 {
        let (sequences, context_tokens) = batch.decodes();
        let decodes = Decodes { sequences: f64::from(sequences), context_tokens: context_tokens as f64 };
        let mut prefill_us = 0.0;
        let mut sampled = sequences;
        for chunk in batch.chunks() {
            sampled += u32::from(chunk.samples);
            prefill_us +=
                self.step.prefill_us(Chunk { tokens: f64::from(chunk.tokens), context: f64::from(chunk.context) });
        }
        let tokens = f64::from(batch.num_tokens);
        let prefills = batch.num_tokens > sequences;
        let step_us = self.step.shared_us(tokens, f64::from(sampled), prefills)
            + self.step.decode_attention_us(decodes)
            + prefill_us;
        self.factor * step_us
    }
}

/// The way of KV caches from these prefill engines.
pub fn kv_transfer(prefill: &Role<'_>) -> KvTransfer {
    let configuration = &prefill.configuration;
    let bytes_per_s = configuration.accelerator.inter_node_gb_per_s * 1e9 * f64::from(configuration.parallelism.gpus());
    KvTransfer {
        bytes_per_token: prefill.kv_bytes_per_token,
        bandwidth_bytes_per_s: TRANSFER_EFFICIENCY * bytes_per_s,
        base_latency_s: 0.0,
    }
}

impl FinishedRequests {
    /// Adds the time of every request outside of the engine, which benchmark clients measure and no other request waits
    /// for (connections, tokens into text): its tokens come later by that. `streams` are open at a time in a closed loop,
    /// where a request is sent when a step's tokens are handed out, and those of all others are handled first. Arrivals of
    /// an open load are not tied to steps, and measured ones do not show it (`docs/simulation.md`): there, 0.
    pub fn add_client_time(&mut self, step: &StepTimes, streams: f64) {
        let (fixed_us, token_us, stream_us) = step.request_us;
        for (at, &input) in self.input_tokens.iter().enumerate() {
            let ns = ((fixed_us + token_us * f64::from(input) + stream_us * streams) * 1e3) as u64;
            self.first_token_ns[at] += ns;
            self.last_token_ns[at] += ns;
        }
    }
}
