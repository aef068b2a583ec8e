//! Block size of hybrid models: attention and states share the pool, so a block of an attention layer must hold as many
//! bytes as a state. vLLM settles this before the engine starts (`HybridAttentionMambaModelConfig`, since 0.20
//! `_align_hybrid_block_size`) and logs "Setting attention block size to N tokens".

use super::KvCacheRefusal;
use crate::engine::{KvCacheRules, MambaCacheMode};

/// Tokens that a block of the attention kernels is a multiple of.
const ATTENTION_ALIGNMENT: u64 = 16;
/// The same of MLA kernels.
pub(super) const MLA_ALIGNMENT: u64 = 64;
/// Chunk of a scan that has none (`get_mamba_chunk_size`).
const DEFAULT_CHUNK_SIZE: u64 = 2048;

/// What the block size of a hybrid model depends on, on one rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HybridModel {
    /// Bytes of one token in an attention layer.
    pub attention_token_bytes: u64,
    /// The attention is MLA.
    pub uses_mla: bool,
    /// Bytes of the largest state.
    pub state_bytes: u64,
    /// Chunk of the scan, in tokens, where the model has one.
    pub chunk_size: Option<u64>,
    /// Block size that was asked for.
    pub block_size: u64,
    /// States kept.
    pub mamba_cache_mode: MambaCacheMode,
    /// Longest request, in tokens.
    pub max_model_len: u64,
}

/// Block sizes of a hybrid model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HybridBlockSizes {
    /// Tokens of an attention block.
    pub block_size: u64,
    /// Tokens that a state stands for.
    pub mamba_block_size: u64,
    /// Bytes that a state is padded to, where the attention page is larger.
    pub mamba_page_bytes_padded: Option<u64>,
}

impl HybridBlockSizes {
    /// Raises the attention block to the least multiple of the kernels' block whose page holds a state.
    pub fn new(model: &HybridModel, rules: &KvCacheRules) -> Self {
        let mode = model.mamba_cache_mode;
        let mut sizes = Self {
            block_size: model.block_size,
            mamba_block_size: if mode == MambaCacheMode::None { model.max_model_len } else { model.block_size },
            mamba_page_bytes_padded: None,
        };
        if model.state_bytes == 0 || model.attention_token_bytes == 0 {
            return sizes;
        }
        let mut alignment = if model.uses_mla { rules.hybrid_mla_block_alignment } else { ATTENTION_ALIGNMENT };
        if rules.hybrid_block_follows_request {
            alignment = alignment.max(model.block_size);
        }
        if mode == MambaCacheMode::All {
            alignment = lcm(alignment, model.chunk_size.unwrap_or(DEFAULT_CHUNK_SIZE).max(1));
        }
        let tokens = model.state_bytes.div_ceil(model.attention_token_bytes);
        let smallest = tokens.checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
        sizes.block_size = smallest.max(model.block_size);
        match mode {
            MambaCacheMode::None => {}
            MambaCacheMode::Align => sizes.mamba_block_size = sizes.block_size,
            MambaCacheMode::All => sizes.mamba_block_size = smallest,
        }
        let page_bytes = sizes.block_size.saturating_mul(model.attention_token_bytes);
        sizes.mamba_page_bytes_padded = (page_bytes > model.state_bytes).then_some(page_bytes);
        sizes
    }
}

impl MambaCacheMode {
    /// The mode in effect (`MambaModelConfig`): what was asked for, as far as prefix caching and the layers allow it.
    /// `all` works with Mamba layers, not with linear attention.
    ///
    /// # Errors
    /// [`KvCacheRefusal::MambaCacheModeAll`] for a version that has no such mode.
    pub fn resolve(
        self,
        prefix_caching: bool,
        linear_attention: bool,
        rules: &KvCacheRules,
    ) -> Result<Self, KvCacheRefusal> {
        match self {
            Self::All if !rules.mamba_cache_mode_all => Err(KvCacheRefusal::MambaCacheModeAll),
            _ if !prefix_caching => Ok(Self::None),
            Self::None | Self::All if rules.mamba_cache_mode_all && !linear_attention => Ok(Self::All),
            _ => Ok(Self::Align),
        }
    }
}

/// Least common multiple of two positive numbers.
fn lcm(a: u64, b: u64) -> u64 {
    let (mut divisor, mut rest) = (a, b);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (a / divisor).saturating_mul(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineRules;

    fn rules(version: &str) -> KvCacheRules {
        EngineRules::of(version.parse().unwrap()).unwrap().kv_cache
    }

    /// Qwen3-Next on one of two ranks: 1 key/value head of 256 in bf16, state with a convolution of 3 x 4096.
    fn qwen3_next_tp2(recurrent_bytes: u64) -> HybridModel {
        HybridModel {
            attention_token_bytes: 2 * 256 * 2,
            uses_mla: false,
            state_bytes: 3 * 4096 * 2 + 16 * 128 * 128 * recurrent_bytes,
            chunk_size: None,
            block_size: 16,
            mamba_cache_mode: MambaCacheMode::None,
            max_model_len: 262_144,
        }
    }

    #[test]
    fn the_attention_page_holds_a_state() {
        // "Setting attention block size to 544" of vLLM 0.10 (bfloat16 state), 1056 with a float32 state.
        let rules = rules("0.19.1");
        assert_eq!(HybridBlockSizes::new(&qwen3_next_tp2(2), &rules).block_size, 544);
        let sizes = HybridBlockSizes::new(&qwen3_next_tp2(4), &rules);
        assert_eq!(
            sizes,
            HybridBlockSizes {
                block_size: 1056,
                mamba_block_size: 262_144,
                mamba_page_bytes_padded: Some(1056 * 1024)
            }
        );
    }

    #[test]
    fn states_kept_for_prefixes_stand_at_block_boundaries() {
        let model = HybridModel { mamba_cache_mode: MambaCacheMode::Align, ..qwen3_next_tp2(4) };
        assert_eq!(HybridBlockSizes::new(&model, &rules("0.19.1")).mamba_block_size, 1056);
        // Nemotron-H-8B on two ranks: chunks of 128.
        let model = HybridModel {
            attention_token_bytes: 4 * 2 * 128 * 2,
            state_bytes: 3 * 5120 * 2 + 64 * 64 * 128 * 2,
            chunk_size: Some(128),
            mamba_cache_mode: MambaCacheMode::All,
            ..qwen3_next_tp2(4)
        };
        let sizes = HybridBlockSizes::new(&model, &rules("0.19.1"));
        assert_eq!((sizes.block_size, sizes.mamba_block_size), (640, 640));
    }

    #[test]
    fn a_large_requested_block_is_kept_and_followed() {
        let model = HybridModel { block_size: 96, ..qwen3_next_tp2(4) };
        assert_eq!(HybridBlockSizes::new(&model, &rules("0.19.1")).block_size, 1056);
        assert_eq!(HybridBlockSizes::new(&model, &rules("0.23.0")).block_size, 1056_u64.next_multiple_of(96));
        let model = HybridModel { block_size: 2000, ..model };
        assert_eq!(HybridBlockSizes::new(&model, &rules("0.19.1")).block_size, 2000);
    }

    #[test]
    fn mla_blocks_are_multiples_of_64_and_later_128() {
        // Kimi-Linear on four ranks.
        let model = HybridModel {
            attention_token_bytes: 576 * 2,
            uses_mla: true,
            state_bytes: 3 * 3 * 1024 * 2 + 8 * 128 * 128 * 4 - 100 * 1024,
            block_size: 64,
            ..qwen3_next_tp2(4)
        };
        assert_eq!(HybridBlockSizes::new(&model, &rules("0.19.1")).block_size, 384);
        let model = HybridModel { state_bytes: 320 * 576 * 2, ..model };
        assert_eq!(HybridBlockSizes::new(&model, &rules("0.19.1")).block_size, 320);
        assert_eq!(HybridBlockSizes::new(&model, &rules("0.27.1")).block_size, 384);
    }

    #[test]
    fn the_cache_mode_follows_prefix_caching() {
        let (old, new) = (rules("0.19.1"), rules("0.33.0"));
        let default = MambaCacheMode::None;
        assert_eq!(default.resolve(false, false, &old), Ok(MambaCacheMode::None));
        assert_eq!(default.resolve(true, false, &old), Ok(MambaCacheMode::All));
        assert_eq!(default.resolve(true, true, &old), Ok(MambaCacheMode::Align));
        assert_eq!(MambaCacheMode::All.resolve(true, true, &old), Ok(MambaCacheMode::Align));
        assert_eq!(MambaCacheMode::Align.resolve(true, false, &old), Ok(MambaCacheMode::Align));
        assert_eq!(default.resolve(true, false, &new), Ok(MambaCacheMode::Align));
        assert!(MambaCacheMode::All.resolve(true, false, &new).is_err());
    }
}
