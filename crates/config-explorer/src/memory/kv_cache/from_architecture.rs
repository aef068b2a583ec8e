//! What each layer of an architecture caches on one rank of each pipeline stage.

use super::hybrid::MLA_ALIGNMENT;
use super::{
    CacheKind, HybridBlockSizes, HybridModel, KvCacheRefusal, KvCacheSpec, KvHeads, LocalAttention, MlaCacheType,
};
use crate::deployment::Parallelism;
use crate::engine::{EngineRules, MambaCacheMode};
use crate::model::{Architecture, Attention, AttentionHeads, DType, GatedDeltaNet, Mamba, Mla, SparseIndexer};

/// Elements of an index key that share one FP32 scale (vLLM's `models/deepseek_v2.py` `Indexer.quant_block_size`).
const INDEXER_SCALE_BLOCK: u64 = 128;

/// Engine settings that decide what a layer caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvCacheSettings {
    /// The layout.
    pub parallelism: Parallelism,
    /// `--block-size`, where it is given.
    pub block_size: Option<u64>,
    /// Compute type.
    pub dtype: DType,
    /// `--kv-cache-dtype`; `None` is `auto`.
    pub kv_cache_dtype: Option<DType>,
    /// Longest request, in tokens.
    pub max_model_len: u64,
    /// `--enable-prefix-caching`, where it is given.
    pub enable_prefix_caching: Option<bool>,
    /// `--mamba-cache-mode`, where it is given.
    pub mamba_cache_mode: Option<MambaCacheMode>,
    /// Type of a convolution state, where it is given.
    pub mamba_cache_dtype: Option<DType>,
    /// Type of a recurrent state, where it is given.
    pub mamba_ssm_cache_dtype: Option<DType>,
    /// Tokens that speculative decoding proposes in a step; 0 without it.
    pub num_speculative_tokens: u64,
    /// The model's own multi-token-prediction layers propose them.
    pub mtp: bool,
}

/// What a model caches, and the settings as they are in effect for it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelKvCache {
    /// Cached layers of one rank of each pipeline stage; the draft layers are the last of the last stage.
    pub stages: Vec<Vec<KvCacheSpec>>,
    /// Tokens of an attention block.
    pub block_size: u64,
    /// Type of keys and values.
    pub kv_cache_dtype: DType,
    /// States kept of Mamba and linear-attention layers.
    pub mamba_cache_mode: MambaCacheMode,
    /// Prefix caching is on.
    pub enable_prefix_caching: bool,
}

impl ModelKvCache {
    /// The caches of a model under these settings.
    ///
    /// # Errors
    /// [`KvCacheRefusal`] for a cache that is not modelled, a state that cannot be split, or a mode that does not exist.
    pub fn new(
        architecture: &Architecture,
        settings: &KvCacheSettings,
        rules: &EngineRules,
    ) -> Result<Self, KvCacheRefusal> {
        if let Some(reason) = &architecture.not_modelled {
            return Err(KvCacheRefusal::NotModelled(reason.clone()));
        }
        let attentions = || architecture.layers.iter().map(|layer| &layer.attention);
        let has_linear = attentions().any(|attention| matches!(attention, Attention::Linear(_)));
        let has_states = has_linear || attentions().any(|attention| matches!(attention, Attention::Mamba(_)));
        let uses_mla =
            attentions().any(|attention| matches!(attention, Attention::Mla(_) | Attention::MlaSparse { .. }));

        let default_prefix_caching =
            if has_states { rules.kv_cache.hybrid_prefix_caching } else { rules.defaults.enable_prefix_caching };
        let prefix_caching = settings.enable_prefix_caching.unwrap_or(default_prefix_caching);
        let mamba_cache_mode =
            settings.mamba_cache_mode.unwrap_or_default().resolve(prefix_caching, has_linear, &rules.kv_cache)?;
        let kv_cache_dtype = match (settings.kv_cache_dtype, architecture.kv_cache_dtype) {
            (Some(asked), _) => asked,
            (None, Some(checkpoint)) if rules.kv_cache.auto_follows_checkpoint => checkpoint,
            (None, _) => settings.dtype,
        };
        let default_block_size = if uses_mla { MLA_ALIGNMENT } else { rules.defaults.block_size };
        let mut rank = Rank {
            tensor_parallel_size: settings.parallelism.tensor().into(),
            block_sizes: HybridBlockSizes {
                block_size: settings.block_size.unwrap_or(default_block_size),
                mamba_block_size: settings.max_model_len,
                mamba_page_bytes_padded: None,
            },
            kv_bytes: element_bytes(kv_cache_dtype)?,
            conv_bytes: element_bytes(settings.mamba_cache_dtype.unwrap_or(settings.dtype))?,
            state_bytes: settings.mamba_ssm_cache_dtype.map(element_bytes).transpose()?,
            compute_bytes: element_bytes(settings.dtype)?,
            linear_state_in_compute_dtype: rules.kv_cache.linear_state_in_compute_dtype,
            speculative_tokens: settings.num_speculative_tokens,
        };
        if has_states {
            rank.align_block_sizes(architecture, uses_mla, mamba_cache_mode, settings.max_model_len, rules)?;
        }

        let stages = settings.parallelism.stage_layers(architecture.layers.len());
        let last = stages.len() - 1;
        let stages = stages.into_iter().enumerate().map(|(stage, layers)| {
            let drafts = if settings.mtp && stage == last { architecture.mtp_layers.as_slice() } else { &[] };
            let mut specs = Vec::with_capacity(layers.len());
            for layer in architecture.layers[layers].iter().chain(drafts) {
                rank.cache(&layer.attention, &mut specs)?;
            }
            Ok(specs)
        });
        Ok(Self {
            stages: stages.collect::<Result<_, _>>()?,
            block_size: rank.block_sizes.block_size,
            kv_cache_dtype,
            mamba_cache_mode,
            enable_prefix_caching: prefix_caching,
        })
    }
}

/// One rank of a stage.
struct Rank {
    tensor_parallel_size: u64,
    block_sizes: HybridBlockSizes,
    /// Bytes of an element of keys and values.
    kv_bytes: u64,
    /// Bytes of an element of the compute type.
    compute_bytes: u64,
    /// Bytes of an element of a convolution state.
    conv_bytes: u64,
    /// Bytes of an element of a recurrent state, where they were asked for.
    state_bytes: Option<u64>,
    linear_state_in_compute_dtype: bool,
    speculative_tokens: u64,
}

impl Rank {
    /// Settles the block sizes of a model with states.
    fn align_block_sizes(
        &mut self,
        architecture: &Architecture,
        uses_mla: bool,
        mamba_cache_mode: MambaCacheMode,
        max_model_len: u64,
        rules: &EngineRules,
    ) -> Result<(), KvCacheRefusal> {
        let (mut state_bytes, mut chunk_size, mut attention_token_bytes) = (0, None, 0);
        for layer in &architecture.layers {
            let layer_bytes = match &layer.attention {
                Attention::Linear(linear) => self.linear_state_bytes(linear)?,
                Attention::Mamba(mamba) => {
                    chunk_size = chunk_size.or(mamba.chunk_size);
                    self.mamba_state_bytes(mamba)?
                }
                Attention::Full(heads)
                | Attention::SlidingWindow { heads, .. }
                | Attention::ChunkedLocal { heads, .. } => {
                    // vLLM takes the value head to be as wide as the key head here.
                    let heads = self.heads(heads);
                    attention_token_bytes = KvHeads { value_head_dim: heads.head_dim, ..heads }.token_bytes();
                    0
                }
                Attention::Mla(mla) | Attention::MlaSparse { mla, .. } => {
                    attention_token_bytes = product(&[latent_width(mla), self.kv_bytes]);
                    0
                }
                Attention::None | Attention::Projection | Attention::CompressedSparse(_) | Attention::Shared { .. } => {
                    0
                }
            };
            state_bytes = layer_bytes.max(state_bytes);
        }
        let model = HybridModel {
            attention_token_bytes,
            uses_mla,
            state_bytes,
            chunk_size,
            block_size: self.block_sizes.block_size,
            mamba_cache_mode,
            max_model_len,
        };
        self.block_sizes = HybridBlockSizes::new(&model, &rules.kv_cache);
        Ok(())
    }

    /// Adds what a layer caches.
    fn cache(&self, attention: &Attention, specs: &mut Vec<KvCacheSpec>) -> Result<(), KvCacheRefusal> {
        let kind = match attention {
            // The architecture says that the cache of compressed sparse attention is not modelled.
            Attention::None | Attention::Projection | Attention::CompressedSparse(_) | Attention::Shared { .. } => {
                return Ok(());
            }
            Attention::Full(heads) => CacheKind::Full { heads: self.heads(heads), local: None },
            Attention::SlidingWindow { heads, window } => {
                CacheKind::Local { heads: self.heads(heads), local: LocalAttention::SlidingWindow(*window) }
            }
            Attention::ChunkedLocal { heads, chunk } => {
                CacheKind::Local { heads: self.heads(heads), local: LocalAttention::Chunked(*chunk) }
            }
            Attention::Mla(mla) => self.latent(mla, MlaCacheType::Fp8),
            Attention::MlaSparse { mla, indexer } => {
                let latent = self.latent(mla, MlaCacheType::Fp8DsMla);
                let Some(indexer) = indexer else {
                    specs.push(self.spec(latent));
                    return Ok(());
                };
                specs.push(self.spec(latent));
                index_keys(indexer)
            }
            Attention::Linear(linear) => self.state(self.linear_state_bytes(linear)?),
            Attention::Mamba(mamba) => self.state(self.mamba_state_bytes(mamba)?),
        };
        specs.push(self.spec(kind));
        Ok(())
    }

    fn spec(&self, kind: CacheKind) -> KvCacheSpec {
        let sizes = &self.block_sizes;
        let (block_size, padded_page_bytes) = match kind {
            CacheKind::Mamba { .. } => (sizes.mamba_block_size, sizes.mamba_page_bytes_padded),
            _ => (sizes.block_size, None),
        };
        KvCacheSpec { block_size, padded_page_bytes, kind }
    }

    fn state(&self, state_bytes: u64) -> CacheKind {
        CacheKind::Mamba { state_bytes, speculative_blocks: self.speculative_tokens }
    }

    /// Heads of this rank: with fewer key/value heads than ranks, each rank holds a copy of one.
    fn heads(&self, heads: &AttentionHeads) -> KvHeads {
        KvHeads {
            kv_heads: (heads.kv_heads / self.tensor_parallel_size).max(1),
            head_dim: heads.head_dim,
            value_head_dim: heads.value_head_dim,
            element_bytes: self.kv_bytes,
        }
    }

    /// The latent of MLA, the same on every rank.
    fn latent(&self, mla: &Mla, fp8: MlaCacheType) -> CacheKind {
        let cache_type = if self.kv_bytes == 1 { fp8 } else { MlaCacheType::Auto };
        CacheKind::Mla { head_dim: latent_width(mla), element_bytes: self.kv_bytes, cache_type: Some(cache_type) }
    }

    /// Convolution and recurrent state of linear attention (`gated_delta_net_state_shape`).
    fn linear_state_bytes(&self, linear: &GatedDeltaNet) -> Result<u64, KvCacheRefusal> {
        let keys = product(&[2, linear.key_heads, linear.key_head_dim]);
        let conv_width = keys.saturating_add(product(&[linear.value_heads, linear.value_head_dim]));
        let recurrent_bytes = match self.state_bytes {
            Some(asked) => asked,
            None if self.linear_state_in_compute_dtype => self.compute_bytes,
            None => element_bytes(linear.state_dtype)?,
        };
        let conv_width = self.split("a convolution state", conv_width)?;
        let value_heads = self.split("value heads of linear attention", linear.value_heads)?;
        let recurrent = product(&[value_heads, linear.value_head_dim, linear.key_head_dim, recurrent_bytes]);
        Ok(self.conv_bytes(linear.conv_kernel, conv_width, self.speculative_tokens).saturating_add(recurrent))
    }

    /// Convolution and scan state of Mamba (`mamba1_state_shape`, `mamba2_state_shape`).
    fn mamba_state_bytes(&self, mamba: &Mamba) -> Result<u64, KvCacheRefusal> {
        let scan_bytes = match self.state_bytes {
            Some(asked) => asked,
            None => mamba.state_dtype.map_or(Ok(self.compute_bytes), element_bytes)?,
        };
        if mamba.version == 1 {
            let width = self.split("the inner width of Mamba", mamba.inner_size)?;
            let scan = product(&[width, mamba.state_size, scan_bytes]);
            return Ok(self.conv_bytes(mamba.conv_kernel, width, 0).saturating_add(scan));
        }
        // Where the groups cannot be split, each rank holds a copy of one.
        let tp = self.tensor_parallel_size;
        let groups = if mamba.groups.is_multiple_of(tp) { mamba.groups } else { tp };
        let conv_width = mamba.inner_size.saturating_add(product(&[2, groups, mamba.state_size]));
        let conv_width = self.split("a convolution state", conv_width)?;
        let heads = self.split("Mamba heads", mamba.heads)?;
        let scan = product(&[heads, mamba.head_dim, mamba.state_size, scan_bytes]);
        Ok(self.conv_bytes(mamba.conv_kernel, conv_width, self.speculative_tokens).saturating_add(scan))
    }

    /// The inputs that a causal convolution still sees, and those of speculative tokens.
    fn conv_bytes(&self, kernel: u64, width: u64, speculative_tokens: u64) -> u64 {
        product(&[kernel.saturating_sub(1).saturating_add(speculative_tokens), width, self.conv_bytes])
    }

    /// This rank's part.
    fn split(&self, what: &'static str, size: u64) -> Result<u64, KvCacheRefusal> {
        let tensor_parallel_size = self.tensor_parallel_size;
        if size.is_multiple_of(tensor_parallel_size) {
            Ok(size / tensor_parallel_size)
        } else {
            Err(KvCacheRefusal::StateNotDivisible { what, size, tensor_parallel_size })
        }
    }
}

/// Width of what MLA caches of a token.
fn latent_width(mla: &Mla) -> u64 {
    mla.kv_lora_rank.saturating_add(mla.qk_rope_head_dim)
}

/// Keys of a sparse indexer: FP8 with their scales.
fn index_keys(indexer: &SparseIndexer) -> CacheKind {
    let scale_bytes = indexer.head_dim / INDEXER_SCALE_BLOCK * 4;
    CacheKind::Mla { head_dim: indexer.head_dim.saturating_add(scale_bytes), element_bytes: 1, cache_type: None }
}

fn element_bytes(dtype: DType) -> Result<u64, KvCacheRefusal> {
    match dtype.bits() {
        Some(bits) if bits >= 8 => Ok(bits / 8),
        _ => Err(KvCacheRefusal::CacheType(dtype.torch_name())),
    }
}

fn product(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |product, &factor| product.saturating_mul(factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::kv_cache::{KvCacheLayout, KvCacheRequest, MaxModelLen};
    use crate::model::{FeedForward, Layer};

    fn layers(attentions: impl IntoIterator<Item = Attention>) -> Vec<Layer> {
        attentions.into_iter().map(|attention| Layer { attention, feed_forward: FeedForward::None }).collect()
    }

    fn architecture(attentions: impl IntoIterator<Item = Attention>) -> Architecture {
        Architecture {
            name: String::new(),
            model_type: String::new(),
            hidden_size: 4096,
            vocab_size: 32_000,
            max_position_embeddings: None,
            dtype: DType::BF16,
            layers: layers(attentions),
            mtp_layers: Vec::new(),
            rotary: Vec::new(),
            default_max_model_len: Some(32_768),
            checkpoint: crate::model::Checkpoint::default(),
            tied_embeddings: false,
            vision: None,
            kv_cache_dtype: None,
            not_modelled: None,
        }
    }

    fn parallelism(tensor: u32, pipeline: u32) -> Parallelism {
        Parallelism::new(tensor, pipeline, 1, false, 1).unwrap()
    }

    fn settings(tensor_parallel_size: u32) -> KvCacheSettings {
        KvCacheSettings {
            parallelism: parallelism(tensor_parallel_size, 1),
            block_size: None,
            dtype: DType::BF16,
            kv_cache_dtype: None,
            max_model_len: 262_144,
            enable_prefix_caching: None,
            mamba_cache_mode: None,
            mamba_cache_dtype: None,
            mamba_ssm_cache_dtype: None,
            num_speculative_tokens: 0,
            mtp: false,
        }
    }

    fn rules(version: &str) -> EngineRules {
        EngineRules::of(version.parse().unwrap()).unwrap()
    }

    fn full(kv_heads: u64, head_dim: u64) -> Attention {
        Attention::Full(AttentionHeads { query_heads: 32, kv_heads, head_dim, value_head_dim: head_dim })
    }

    /// Three layers of linear attention to one of full attention, and an MTP layer of full attention.
    fn qwen(value_heads: u64, kv_heads: u64) -> Architecture {
        let linear = Attention::Linear(GatedDeltaNet {
            key_heads: 16,
            value_heads,
            key_head_dim: 128,
            value_head_dim: 128,
            conv_kernel: 4,
            state_dtype: DType::F32,
        });
        let period = [linear, linear, linear, full(kv_heads, 256)];
        Architecture { mtp_layers: layers([full(kv_heads, 256)]), ..architecture(period.repeat(4)) }
    }

    const DEEPSEEK_MLA: Mla = Mla {
        query_heads: 128,
        q_lora_rank: Some(1536),
        kv_lora_rank: 512,
        qk_nope_head_dim: 128,
        qk_rope_head_dim: 64,
        v_head_dim: 128,
    };

    fn cache(architecture: &Architecture, settings: &KvCacheSettings, version: &str) -> ModelKvCache {
        ModelKvCache::new(architecture, settings, &rules(version)).unwrap()
    }

    #[test]
    fn block_sizes_of_hybrid_models_are_those_that_servers_print() {
        let block_size = |architecture: &Architecture, settings: &KvCacheSettings, version: &str| {
            cache(architecture, settings, version).block_size
        };
        let (qwen_next, qwen_9b, qwen_27b, qwen_35b) = (qwen(32, 2), qwen(32, 4), qwen(48, 4), qwen(32, 2));
        assert_eq!(block_size(&qwen_next, &settings(2), "0.10.2"), 544);
        assert_eq!(block_size(&qwen_9b, &settings(4), "0.19.1"), 528);
        for tp in [1, 2, 4] {
            assert_eq!(block_size(&qwen_27b, &settings(tp), "0.19.1"), 784);
        }
        let mtp = KvCacheSettings { num_speculative_tokens: 3, mtp: true, ..settings(1) };
        assert_eq!(block_size(&qwen_35b, &mtp, "0.27.1"), 1072);
        assert_eq!(block_size(&qwen_27b, &mtp, "0.27.1"), 800);
        let fp8 = Architecture { kv_cache_dtype: Some(DType::F8E4M3), ..qwen_27b };
        assert_eq!(block_size(&fp8, &mtp, "0.27.1"), 1600);
    }

    #[test]
    fn an_mtp_layer_is_one_more_full_layer() {
        let mtp =
            KvCacheSettings { num_speculative_tokens: 3, mtp: true, parallelism: parallelism(2, 2), ..settings(2) };
        let cache = cache(&qwen(48, 4), &mtp, "0.19.1");
        let lengths: Vec<_> = cache.stages.iter().map(Vec::len).collect();
        assert_eq!(lengths, [8, 9]);
        let draft = cache.stages[1].last().unwrap();
        assert!(matches!(draft.kind, CacheKind::Full { heads: KvHeads { kv_heads: 2, .. }, .. }));
        let state = cache.stages[0][0];
        assert!(matches!(state.kind, CacheKind::Mamba { speculative_blocks: 3, .. }));
        assert_eq!(state.page_bytes(), draft.page_bytes());
    }

    #[test]
    fn states_are_kept_for_prefixes_by_default_since_0_27() {
        let mode = |version: &str, prefix_caching| {
            let settings = KvCacheSettings { enable_prefix_caching: prefix_caching, ..settings(1) };
            cache(&qwen(48, 4), &settings, version).mamba_cache_mode
        };
        assert_eq!(mode("0.24.0", None), MambaCacheMode::None);
        assert_eq!(mode("0.24.0", Some(true)), MambaCacheMode::Align);
        assert_eq!(mode("0.27.1", None), MambaCacheMode::Align);
        assert_eq!(mode("0.27.1", Some(false)), MambaCacheMode::None);
    }

    #[test]
    fn mamba_states_as_vllm_shapes_them() {
        // Nemotron-H-8B: 128 heads of 64, state 128, 8 groups; attention with 8 key/value heads of 128.
        let mamba = |groups| {
            Attention::Mamba(Mamba {
                version: 2,
                inner_size: 8192,
                heads: 128,
                head_dim: 64,
                state_size: 128,
                groups,
                conv_kernel: 4,
                chunk_size: Some(128),
                state_dtype: None,
            })
        };
        let state_bytes = |attention, tp| {
            let cache = cache(&architecture([attention, full(8, 128)]), &settings(tp), "0.19.1");
            let CacheKind::Mamba { state_bytes, .. } = cache.stages[0][0].kind else { panic!("no state") };
            state_bytes
        };
        assert_eq!(state_bytes(mamba(8), 2), 3 * 5120 * 2 + 64 * 64 * 128 * 2);
        // One group is copied to every rank: (8192 + 2 x 2 x 128) / 2 = 4352.
        assert_eq!(state_bytes(mamba(1), 2), 3 * 4352 * 2 + 64 * 64 * 128 * 2);
        // Jamba-mini on four ranks.
        let jamba = Attention::Mamba(Mamba {
            version: 1,
            inner_size: 8192,
            heads: 0,
            head_dim: 0,
            state_size: 16,
            groups: 1,
            conv_kernel: 4,
            chunk_size: None,
            state_dtype: None,
        });
        assert_eq!(state_bytes(jamba, 4), 3 * 2048 * 2 + 2048 * 16 * 2);
        assert_eq!(cache(&architecture([jamba, full(8, 128)]), &settings(4), "0.19.1").block_size, 80);

        let refused = ModelKvCache::new(&architecture([mamba(8)]), &settings(3), &rules("0.19.1")).unwrap_err();
        assert!(matches!(refused, KvCacheRefusal::StateNotDivisible { tensor_parallel_size: 3, .. }));
    }

    #[test]
    fn heads_are_split_then_copied_and_latents_always_copied() {
        let kv_heads = |tp| match cache(&architecture([full(4, 128)]), &settings(tp), "0.19.1").stages[0][0].kind {
            CacheKind::Full { heads, .. } => heads.kv_heads,
            _ => 0,
        };
        assert_eq!([1, 2, 4, 8].map(kv_heads), [4, 2, 1, 1]);
        // Kimi-K2 on eight ranks: 61 x 576 x 2 bytes a token.
        let cache = cache(&architecture([Attention::Mla(DEEPSEEK_MLA); 61]), &settings(8), "0.19.1");
        assert_eq!((cache.block_size, cache.stages[0].len()), (64, 61));
        assert_eq!(cache.stages[0].iter().map(KvCacheSpec::page_bytes).sum::<u64>() / 64, 70_272);
    }

    #[test]
    fn sparse_latents_have_index_keys_beside_them() {
        let indexer = SparseIndexer { heads: 64, head_dim: 128, top_k: 2048 };
        let model = architecture([Attention::MlaSparse { mla: DEEPSEEK_MLA, indexer: Some(indexer) }; 2]);
        let token_bytes = |kv_cache_dtype, version: &str| {
            let cache = cache(&model, &KvCacheSettings { kv_cache_dtype, ..settings(8) }, version);
            cache.stages[0].iter().map(|spec| spec.page_bytes() / 64).collect::<Vec<_>>()
        };
        assert_eq!(token_bytes(None, "0.19.1"), [1152, 132, 1152, 132]);
        assert_eq!(token_bytes(Some(DType::F8E4M3), "0.19.1"), [656, 132, 656, 132]);

        // The latents record their type and the index keys do not, so no version merges their pages.
        let cache = cache(&model, &settings(8), "0.19.1");
        let request = KvCacheRequest::new(MaxModelLen::Fixed(4096), 8192);
        let layout = KvCacheLayout::new(&cache.stages, &request, &rules("0.19.1").kv_cache).unwrap();
        assert_eq!(layout.needed_bytes(0, 64), 64 * 2 * (1152 + 132));
    }

    #[test]
    fn the_cache_type_of_the_checkpoint_is_followed_where_none_is_asked_for() {
        let model = Architecture { kv_cache_dtype: Some(DType::F8E4M3), ..architecture([full(8, 128)]) };
        let dtype = |kv_cache_dtype, version: &str| {
            cache(&model, &KvCacheSettings { kv_cache_dtype, ..settings(1) }, version).kv_cache_dtype
        };
        assert_eq!(dtype(None, "0.19.1"), DType::F8E4M3);
        assert_eq!(dtype(None, "0.12.0"), DType::BF16);
        assert_eq!(dtype(Some(DType::BF16), "0.19.1"), DType::BF16);
        let settings = KvCacheSettings { kv_cache_dtype: Some(DType::F4), ..settings(1) };
        assert_eq!(ModelKvCache::new(&model, &settings, &rules("0.19.1")), Err(KvCacheRefusal::CacheType("F4")));
    }

    #[test]
    fn layers_without_a_cache_of_their_own_have_none() {
        let heads = AttentionHeads { query_heads: 8, kv_heads: 1, head_dim: 256, value_head_dim: 256 };
        let model = architecture([full(1, 256), Attention::None, Attention::Shared { heads, with_layer: 0 }]);
        assert_eq!(cache(&model, &settings(1), "0.19.1").stages[0].len(), 1);
        let model = Architecture { not_modelled: Some("compressed attention".to_owned()), ..model };
        let refused = ModelKvCache::new(&model, &settings(1), &rules("0.19.1")).unwrap_err();
        assert_eq!(refused.to_string(), "compressed attention");
    }
}
