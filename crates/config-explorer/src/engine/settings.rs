//! What is meant by a `vllm serve` command: every setting that memory depends on, with the version's defaults filled in.

use super::{Core, DTypeChoice, EngineRules, KvCacheDType, MambaCacheMode, MaxModelLen, ServeArgs};
use crate::model::{Architecture, DType, Quantisation};
use crate::{Error, Result};

/// Longest `--max-model-len` at which V0 processes prompts whole.
const V0_UNCHUNKED_LEN_MAX: u64 = 32 << 10;

/// Resolved settings of one engine.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of vLLM")]
pub struct EngineSettings {
    /// Share of each GPU's memory that the engine may use.
    pub gpu_memory_utilization: f64,
    /// Longest request, tokens; `None`: the longest that fits (`auto`).
    pub max_model_len: Option<u64>,
    /// Most tokens of a step.
    pub max_num_batched_tokens: u64,
    /// Most requests of a step.
    pub max_num_seqs: u64,
    /// Tokens of a KV cache block, where it was given.
    pub block_size: Option<u64>,
    /// Compute type.
    pub dtype: DType,
    /// Quantisation done while loading a checkpoint of 16 bits or more.
    pub load_quantization: Option<Quantisation>,
    /// `--kv-cache-dtype`
    pub kv_cache_dtype: KvCacheDType,
    /// KV cache on each GPU, whatever the utilisation.
    pub kv_cache_memory_bytes: Option<u64>,
    /// Blocks of KV cache, whatever the memory.
    pub num_gpu_blocks_override: Option<u64>,
    /// Run without CUDA graphs.
    pub enforce_eager: bool,
    /// A prompt may be computed over several steps.
    pub enable_chunked_prefill: bool,
    /// Most tokens of one request in a step; 0 is no limit.
    pub long_prefill_token_threshold: u32,
    /// `--scheduling-policy priority`: the lowest priority value first; else first come, first served.
    pub priority_scheduling: bool,
    /// Prefix caching, where it was given.
    pub enable_prefix_caching: Option<bool>,
    /// Scheduling runs ahead of the device.
    pub async_scheduling: bool,
    /// States of Mamba layers that prefix caching keeps, where it was given.
    pub mamba_cache_mode: Option<MambaCacheMode>,
    /// Type of a Mamba layer's convolution state, where it was given.
    pub mamba_cache_dtype: Option<DType>,
    /// Type of a Mamba layer's recurrent state, where it was given.
    pub mamba_ssm_cache_dtype: Option<DType>,
    /// Sliding-window layers get as many blocks as full attention.
    pub disable_hybrid_kv_cache_manager: bool,
    /// Speculative decoding.
    pub speculative: Option<Speculative>,
    /// The encoder is not loaded: text only.
    pub language_model_only: bool,
}

/// Speculative decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speculative {
    /// `method`: `mtp`, `eagle3`, `ngram`, …
    pub method: String,
    /// Tokens drafted for each step.
    pub tokens: u64,
}

impl Speculative {
    /// The draft comes from the model's own multi-token-prediction layers (`mtp`, `deepseek_mtp`, `qwen3_next_mtp`, …).
    pub fn uses_mtp_layers(&self) -> bool {
        self.method.ends_with("mtp")
    }
}

impl EngineSettings {
    /// The settings of this command on a device whose driver reports `total_gib`.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for a combination that vLLM refuses.
    pub fn resolve(
        args: &ServeArgs,
        rules: &EngineRules,
        architecture: &Architecture,
        total_gib: f64,
        device_name: &str,
    ) -> Result<Self> {
        let max_model_len = match args.max_model_len {
            Some(MaxModelLen::Auto) => None,
            Some(MaxModelLen::Tokens(tokens)) => Some(within_model(tokens.get(), architecture)?),
            None => Some(architecture.default_max_model_len.ok_or_else(|| Error::InvalidSetting {
                setting: "--max-model-len".to_owned(),
                reason: "the model's config names no length; give one".to_owned(),
            })?),
        };
        let batch = rules.batch_default(total_gib, device_name);
        // V0 chunks prompts by default only where they may be long (vLLM 0.6.6 `engine/arg_utils.py`).
        let chunked_by_default = rules.core == Core::V1 || max_model_len.is_none_or(|len| len > V0_UNCHUNKED_LEN_MAX);
        let chunked_prefill = args.enable_chunked_prefill.unwrap_or(chunked_by_default);
        let max_num_batched_tokens = match (args.max_num_batched_tokens, chunked_prefill, max_model_len) {
            (Some(tokens), ..) => tokens.get(),
            // Without chunking a step holds a whole prompt (vLLM `config/scheduler.py`).
            (None, false, Some(len)) => batch.max_num_batched_tokens.max(len),
            _ => batch.max_num_batched_tokens,
        };
        let max_num_seqs =
            args.max_num_seqs.map_or(batch.max_num_seqs.min(max_num_batched_tokens), |seqs| seqs.get().into());
        if max_num_seqs > max_num_batched_tokens {
            return Err(Error::InvalidSetting {
                setting: "--max-num-batched-tokens".to_owned(),
                reason: format!("{max_num_batched_tokens} is less than --max-num-seqs {max_num_seqs}"),
            });
        }
        let encoder_limited = args
            .limit_mm_per_prompt
            .as_ref()
            .is_some_and(|limits| !limits.0.is_empty() && limits.0.values().all(|limit| limit.as_u64() == Some(0)));
        Ok(Self {
            gpu_memory_utilization: args
                .gpu_memory_utilization
                .map_or(rules.defaults.gpu_memory_utilization, super::Fraction::get),
            max_model_len,
            max_num_batched_tokens,
            max_num_seqs,
            block_size: args.block_size.map(|size| size.get().into()),
            dtype: compute_dtype(args.dtype, architecture),
            load_quantization: load_quantization(args.quantization.as_deref(), architecture)?,
            kv_cache_dtype: args.kv_cache_dtype.unwrap_or(KvCacheDType::Auto),
            kv_cache_memory_bytes: args.kv_cache_memory_bytes.map(std::num::NonZero::get),
            num_gpu_blocks_override: args.num_gpu_blocks_override.map(std::num::NonZero::get),
            enforce_eager: args.enforce_eager.unwrap_or(false),
            enable_chunked_prefill: chunked_prefill,
            long_prefill_token_threshold: args.long_prefill_token_threshold.unwrap_or(0),
            priority_scheduling: args.scheduling_policy.as_deref() == Some("priority"),
            enable_prefix_caching: args.enable_prefix_caching,
            async_scheduling: args.async_scheduling.unwrap_or(rules.defaults.async_scheduling),
            mamba_cache_mode: args.mamba_cache_mode,
            mamba_cache_dtype: given_dtype(args.mamba_cache_dtype),
            mamba_ssm_cache_dtype: given_dtype(args.mamba_ssm_cache_dtype),
            disable_hybrid_kv_cache_manager: args.disable_hybrid_kv_cache_manager.unwrap_or(false),
            speculative: speculative(args)?,
            language_model_only: args.language_model_only.unwrap_or(encoder_limited),
        })
    }
}

fn within_model(tokens: u64, architecture: &Architecture) -> Result<u64> {
    match architecture.max_position_embeddings {
        Some(limit) if tokens > limit => Err(Error::InvalidSetting {
            setting: "--max-model-len".to_owned(),
            reason: format!("{tokens} is beyond the model's {limit} tokens"),
        }),
        _ => Ok(tokens),
    }
}

fn given_dtype(choice: Option<DTypeChoice>) -> Option<DType> {
    match choice {
        Some(DTypeChoice::Is(dtype)) => Some(dtype),
        Some(DTypeChoice::Auto) | None => None,
    }
}

/// `--dtype`; by default a checkpoint of more than 16 bits is run in 16 (vLLM `config/model.py`, `_resolve_auto_dtype`).
fn compute_dtype(choice: Option<DTypeChoice>, architecture: &Architecture) -> DType {
    given_dtype(choice).unwrap_or(match architecture.dtype {
        dtype @ (DType::F16 | DType::BF16) => dtype,
        _ => DType::BF16,
    })
}

/// `--quantization`, where it changes what the checkpoint holds.
fn load_quantization(method: Option<&str>, architecture: &Architecture) -> Result<Option<Quantisation>> {
    match method {
        Some(method) if architecture.checkpoint.quantisation.method().is_none() => {
            Quantisation::while_loading(method).map(Some)
        }
        _ => Ok(None),
    }
}

fn speculative(args: &ServeArgs) -> Result<Option<Speculative>> {
    let config = args.speculative_config.as_ref();
    let text = |key| config.and_then(|config| config.get(key)).and_then(serde_json::Value::as_str);
    let method = args.spec_method.as_deref().or_else(|| text("method"));
    let given = config.and_then(|config| config.get("num_speculative_tokens")).and_then(serde_json::Value::as_u64);
    let tokens = args.spec_tokens.map(|tokens| tokens.get().into()).or(given);
    if config.is_none() && method.is_none() {
        return Ok(None);
    }
    let Some(tokens) = tokens else {
        return Err(Error::InvalidSetting {
            setting: "--speculative-config".to_owned(),
            reason: "names no `num_speculative_tokens`".to_owned(),
        });
    };
    // Without a method vLLM drafts with the model that is named.
    Ok(Some(Speculative { method: method.unwrap_or("draft_model").to_owned(), tokens }))
}
