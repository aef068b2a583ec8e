//! From groups and memory to blocks, concurrency and lengths (`get_kv_cache_configs`).

use super::blocks::BlockDemand;
use super::groups::group_layers;
use super::{CacheKind, KvCacheGroup, KvCacheRefusal, KvCacheSpec, LocalAttention};
use crate::engine::{KvCacheRules, MambaCacheMode, TokensReported};

/// `--max-model-len`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxModelLen {
    /// This many tokens.
    Fixed(u64),
    /// `auto` (`-1`): the longest that fits, at most what the model allows.
    Auto {
        /// The model's own limit, in tokens.
        model_limit: u64,
    },
}

/// Engine settings that the planner depends on besides what each layer caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvCacheRequest {
    /// `--max-model-len`.
    pub max_model_len: MaxModelLen,
    /// Tokens of a step.
    pub max_num_batched_tokens: u64,
    /// Scheduling runs ahead of the device.
    pub async_scheduling: bool,
    /// Ranks that the tokens of a request are dealt over.
    pub decode_context_parallel_size: u64,
    /// `--num-gpu-blocks-override`.
    pub num_gpu_blocks_override: Option<u64>,
    /// `--disable-hybrid-kv-cache-manager`.
    pub disable_hybrid_kv_cache_manager: bool,
    /// States kept of Mamba and linear-attention layers.
    pub mamba_cache_mode: MambaCacheMode,
}

impl KvCacheRequest {
    /// A request with nothing else out of the ordinary.
    pub fn new(max_model_len: MaxModelLen, max_num_batched_tokens: u64) -> Self {
        Self {
            max_model_len,
            max_num_batched_tokens,
            async_scheduling: false,
            decode_context_parallel_size: 1,
            num_gpu_blocks_override: None,
            disable_hybrid_kv_cache_manager: false,
            mamba_cache_mode: MambaCacheMode::None,
        }
    }
}

/// The cached layers in groups: all that does not depend on the memory.
#[derive(Debug, Clone)]
pub struct KvCacheLayout {
    groups: Vec<KvCacheGroup>,
    /// Bytes of one block on each pipeline stage.
    bytes_per_block: Vec<u64>,
    demand: BlockDemand,
    request: KvCacheRequest,
    rules: KvCacheRules,
}

/// How many blocks there are and what they hold.
#[derive(Debug, Clone, PartialEq)]
pub struct KvCachePlan {
    /// Blocks of the pool, the same on every stage.
    pub num_blocks: u64,
    /// Longest request that is accepted, in tokens.
    pub max_model_len: u64,
    /// Blocks that one request of this length may hold.
    pub blocks_per_request: u64,
    /// Requests of this length that fit at once.
    pub max_concurrency: f64,
    /// Tokens that requests of this length hold at full concurrency.
    pub tokens: u64,
    /// Tokens as this version prints them ("GPU KV cache size").
    pub tokens_reported: u64,
    /// By pipeline stage.
    pub stages: Vec<StageKvCache>,
}

/// The KV cache of one pipeline stage, per rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageKvCache {
    /// Bytes of one block in all layers of the stage.
    pub bytes_per_block: u64,
    /// Blocks that its own memory holds.
    pub num_blocks: u64,
    /// Bytes that one request of full length needs.
    pub needed_bytes: u64,
}

impl KvCacheLayout {
    /// Groups the layers of all pipeline stages.
    ///
    /// # Errors
    /// The refusals that do not depend on the memory.
    pub fn new(
        stages: &[Vec<KvCacheSpec>],
        request: &KvCacheRequest,
        rules: &KvCacheRules,
    ) -> Result<Self, KvCacheRefusal> {
        let layers = stages.concat();
        let is_mamba = |spec: &KvCacheSpec| matches!(spec.kind, CacheKind::Mamba { .. });
        if request.mamba_cache_mode == MambaCacheMode::All && !rules.mamba_cache_mode_all && layers.iter().any(is_mamba)
        {
            return Err(KvCacheRefusal::MambaCacheModeAll);
        }
        let hybrid_manager = rules.hybrid_groups && !request.disable_hybrid_kv_cache_manager;
        let groups = group_layers(&layers, hybrid_manager, rules)?;

        let is_window = |group: &KvCacheGroup| {
            matches!(group.spec.kind, CacheKind::Local { local: LocalAttention::SlidingWindow(_), .. })
        };
        if request.decode_context_parallel_size > 1 && groups.iter().any(is_window) {
            return Err(KvCacheRefusal::WindowWithContextParallel);
        }
        let batches = match request.async_scheduling {
            _ if !rules.in_flight_batches_counted => 1,
            true => stages.len().max(2),
            false => stages.len().max(1),
        };
        Ok(Self {
            bytes_per_block: bytes_per_block(&groups, stages),
            groups,
            demand: BlockDemand {
                in_flight_tokens: request.max_num_batched_tokens.saturating_mul(batches as u64),
                decode_context_parallel_size: request.decode_context_parallel_size.max(1),
                mamba_cache_mode: request.mamba_cache_mode,
                mamba_all_adds_speculative: rules.mamba_all_adds_speculative,
            },
            request: *request,
            rules: *rules,
        })
    }

    /// The groups.
    pub fn groups(&self) -> &[KvCacheGroup] {
        &self.groups
    }

    /// Tokens that may be scheduled and not yet settled, for which local attention holds blocks.
    pub fn max_in_flight_tokens(&self) -> u64 {
        self.demand.in_flight_tokens
    }

    /// Bytes of one block on a stage, in all layers that share it.
    pub fn bytes_per_block(&self, stage: usize) -> u64 {
        self.bytes_per_block[stage]
    }

    /// Blocks that one request of `len` tokens may hold in a group.
    pub fn group_blocks(&self, group: &KvCacheGroup, len: u64) -> u64 {
        self.demand.blocks(&group.spec, len)
    }

    /// Blocks that one request of `len` tokens may hold.
    pub fn blocks_per_request(&self, len: u64) -> u64 {
        self.groups.iter().map(|group| self.group_blocks(group, len)).fold(0, u64::saturating_add)
    }

    /// Bytes that one request of `len` tokens needs on a stage (counted from 0).
    pub fn needed_bytes(&self, stage: usize, len: u64) -> u64 {
        self.bytes_per_block[stage].saturating_mul(self.blocks_per_request(len))
    }

    /// Longest request that fits into a stage, in tokens: 0 if none does, at most `limit`.
    pub fn longest_model_len(&self, stage: usize, available_bytes: u64, limit: u64) -> u64 {
        let bytes = self.checked_bytes(stage, available_bytes);
        let fits = |len: u64| self.needed_bytes(stage, len) <= bytes;
        let (mut fitting, mut beyond) = (0, limit.saturating_add(1));
        while fitting + 1 < beyond {
            let middle = u64::midpoint(fitting, beyond);
            *(if fits(middle) { &mut fitting } else { &mut beyond }) = middle;
        }
        fitting
    }

    /// The plan for the bytes that each stage has for its KV cache.
    ///
    /// # Errors
    /// What vLLM would refuse to start with.
    ///
    /// # Panics
    /// If there is not one number of bytes for each pipeline stage.
    pub fn plan(&self, available_bytes: &[u64]) -> Result<KvCachePlan, KvCacheRefusal> {
        let stages = self.bytes_per_block.len();
        assert_eq!(stages, available_bytes.len(), "every pipeline stage has its memory");
        let max_model_len = match self.request.max_model_len {
            MaxModelLen::Fixed(len) => len,
            MaxModelLen::Auto { model_limit } if self.groups.is_empty() => model_limit,
            MaxModelLen::Auto { model_limit } => {
                let fitting = |stage: usize| self.longest_model_len(stage, available_bytes[stage], model_limit);
                match (0..stages).map(fitting).min().unwrap_or(0) {
                    0 => return Err(KvCacheRefusal::NothingFits),
                    len => len,
                }
            }
        };
        if self.groups.is_empty() {
            // The pool always has its null block.
            let stage = StageKvCache { bytes_per_block: 0, num_blocks: 1, needed_bytes: 0 };
            return Ok(KvCachePlan {
                num_blocks: 1,
                max_model_len,
                blocks_per_request: 0,
                max_concurrency: 0.0,
                tokens: 0,
                tokens_reported: 0,
                stages: vec![stage; stages],
            });
        }
        let stages = available_bytes.iter().enumerate();
        let stages = stages.map(|(stage, &bytes)| self.plan_stage(stage, bytes, max_model_len));
        let stages = stages.collect::<Result<Vec<_>, _>>()?;
        let num_blocks = stages.iter().map(|stage| stage.num_blocks).min().unwrap_or(0);
        let blocks_per_request = self.blocks_per_request(max_model_len);
        let max_concurrency = num_blocks as f64 / blocks_per_request as f64;
        let tokens = (max_concurrency * max_model_len as f64) as u64;
        let tokens_reported = match self.rules.tokens_reported {
            TokensReported::ConcurrencyTimesLength => tokens,
            TokensReported::BlocksPerGroup => {
                let block_size = self.groups.iter().map(|group| group.spec.block_size).min().unwrap_or(0);
                (num_blocks / self.groups.len() as u64)
                    .saturating_mul(block_size)
                    .saturating_mul(self.demand.decode_context_parallel_size)
            }
        };
        Ok(KvCachePlan {
            num_blocks,
            max_model_len,
            blocks_per_request,
            max_concurrency,
            tokens,
            tokens_reported,
            stages,
        })
    }

    /// Checks one stage (`_check_enough_kv_cache_memory`) and counts its blocks.
    fn plan_stage(
        &self,
        stage: usize,
        available_bytes: u64,
        max_model_len: u64,
    ) -> Result<StageKvCache, KvCacheRefusal> {
        let bytes_per_block = self.bytes_per_block[stage];
        let checked_bytes = self.checked_bytes(stage, available_bytes);
        let needed_bytes = self.needed_bytes(stage, max_model_len);
        if bytes_per_block == 0 {
            return Err(KvCacheRefusal::StageWithoutCache { stage });
        }
        if checked_bytes == 0 {
            return Err(KvCacheRefusal::NoMemory { stage });
        }
        if needed_bytes > checked_bytes {
            return Err(KvCacheRefusal::TooSmall {
                stage,
                max_model_len,
                needed_bytes,
                available_bytes: checked_bytes,
                longest_model_len: self.longest_model_len(stage, available_bytes, max_model_len),
            });
        }
        let num_blocks = self.request.num_gpu_blocks_override.unwrap_or(available_bytes / bytes_per_block);
        Ok(StageKvCache { bytes_per_block, num_blocks, needed_bytes })
    }

    /// The bytes that a request is checked against.
    fn checked_bytes(&self, stage: usize, available_bytes: u64) -> u64 {
        let bytes_per_block = self.bytes_per_block[stage];
        let bytes = match self.request.num_gpu_blocks_override {
            Some(blocks) if self.rules.override_checked => blocks.saturating_mul(bytes_per_block),
            _ => available_bytes,
        };
        let null_block_bytes = if self.rules.null_block_set_aside { bytes_per_block } else { 0 };
        bytes.saturating_sub(null_block_bytes)
    }
}

/// Bytes of one block on each stage: those of the group that takes most.
fn bytes_per_block(groups: &[KvCacheGroup], stages: &[Vec<KvCacheSpec>]) -> Vec<u64> {
    let stage_of_layer: Vec<usize> =
        stages.iter().enumerate().flat_map(|(stage, layers)| std::iter::repeat_n(stage, layers.len())).collect();
    let mut largest = vec![0; stages.len()];
    for group in groups {
        let mut bytes = vec![0_u64; stages.len()];
        for (index, &layer) in group.layers.iter().enumerate() {
            let bytes = &mut bytes[stage_of_layer[layer as usize]];
            *bytes = bytes.saturating_add(group.layer_page_bytes(index));
        }
        for (largest, bytes) in largest.iter_mut().zip(bytes) {
            *largest = bytes.max(*largest);
        }
    }
    largest
}
