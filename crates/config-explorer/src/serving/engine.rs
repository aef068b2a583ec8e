//! An engine for requests of some length: its layers, its settings, and the tokens its KV cache holds.

use super::{Role, Traffic};
use crate::deployment::Parallelism;
use crate::engine::{EngineSettings, KvCacheDType};
use crate::hardware::Accelerator;
use crate::latency::{Calibration, Configuration, Decoder};
use crate::memory::{KvCacheSummary, PlanRequest, plan};
use crate::model::DType;
use crate::{Error, Result};

/// Whether an engine holds requests of a length, and how many tokens of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Capacity {
    /// It starts, and holds at least one request.
    Fits {
        /// Tokens of each data-parallel rank.
        kv_tokens: f64,
        /// Bytes of one token over all GPUs of the engine.
        kv_bytes_per_token: f64,
    },
    /// It does not.
    DoesNotFit {
        /// Why.
        reason: String,
    },
}

/// One engine, sized for requests of some length: compile its [`Engine::configuration`] once, and ask for any load.
#[derive(Debug, Clone)]
pub struct Engine {
    /// The model's layers.
    pub decoder: Decoder,
    /// The accelerator.
    pub accelerator: Accelerator,
    /// The layout.
    pub parallelism: Parallelism,
    /// The settings.
    pub settings: EngineSettings,
    /// The KV cache holds 8-bit elements.
    pub fp8_kv_cache: bool,
    /// What the KV cache holds.
    pub capacity: Capacity,
    /// The longest `--max-model-len` with which it starts, where it does not start with the one that it has although
    /// these requests fit.
    pub max_model_len_to_set: Option<u64>,
}

impl Engine {
    /// The engine of a plan for requests of the traffic's mean length. The length matters: hybrid models hold more tokens
    /// of long requests than of short ones.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for requests longer than the engine's or the model's limit, for a model whose time is
    /// not modelled, and for a KV cache format whose size is not.
    pub fn new(request: &PlanRequest<'_>, traffic: &Traffic) -> Result<Self> {
        let architecture = &request.model.architecture;
        let settings = &request.settings;
        let decoder = match &settings.load_quantization {
            Some(quantisation) => Decoder::quantised(architecture, quantisation)?,
            None => Decoder::new(architecture)?,
        };
        // A checkpoint may ask for an 8-bit cache, which `auto` follows.
        let element = match settings.kv_cache_dtype {
            KvCacheDType::Auto => architecture.kv_cache_dtype,
            dtype => dtype.element()?,
        };
        let (capacity, max_model_len_to_set) = capacity(request, traffic)?;
        Ok(Self {
            decoder,
            accelerator: request.accelerator.clone(),
            parallelism: request.parallelism,
            settings: settings.clone(),
            fp8_kv_cache: element.and_then(DType::bits) == Some(8),
            capacity,
            max_model_len_to_set,
        })
    }

    /// What has to be set for it to start, for the user.
    pub fn start_warning(&self) -> Option<String> {
        self.max_model_len_to_set.map(|len| {
            let limit = self.settings.max_model_len.map_or_else(String::new, |limit| format!(" of {limit} tokens"));
            format!("vLLM starts only with `--max-model-len {len}` or less: a request{limit} does not fit its KV cache")
        })
    }

    /// What [`StepTimes`](crate::latency::StepTimes) is compiled from.
    pub fn configuration<'b>(&'b self, calibration: &'b Calibration) -> Configuration<'b> {
        Configuration {
            decoder: &self.decoder,
            accelerator: &self.accelerator,
            parallelism: self.parallelism,
            settings: &self.settings,
            fp8_kv_cache: self.fp8_kv_cache,
            calibration,
        }
    }

    /// `replicas` of it.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if it does not fit.
    pub fn role<'b>(&'b self, replicas: u32, calibration: &'b Calibration) -> Result<Role<'b>> {
        match &self.capacity {
            Capacity::Fits { kv_tokens, kv_bytes_per_token } => Ok(Role {
                configuration: self.configuration(calibration),
                replicas,
                kv_tokens: *kv_tokens,
                kv_bytes_per_token: *kv_bytes_per_token,
            }),
            Capacity::DoesNotFit { reason } => {
                Err(Error::InvalidSetting { setting: "memory".to_owned(), reason: reason.clone() })
            }
        }
    }
}

/// What it holds, and the `max_model_len` to set where it does not start with its own.
fn capacity(request: &PlanRequest<'_>, traffic: &Traffic) -> Result<(Capacity, Option<u64>)> {
    let tokens = (traffic.input_tokens + traffic.output_tokens).ceil() as u64;
    let limit = request.settings.max_model_len.or(request.model.architecture.max_position_embeddings);
    if let Some(limit) = limit.filter(|limit| tokens > *limit) {
        return Err(Error::InvalidSetting {
            setting: "--input-len".to_owned(),
            reason: format!("with the output these are {tokens} tokens, and a request may have {limit}"),
        });
    }
    // Blocks and memory are those of the engine as it is set; how many tokens they hold follows from the request's length.
    let as_set = plan(request);
    let mut of_length = request.clone();
    of_length.settings.max_model_len = Some(tokens);
    let planned = plan(&of_length);
    let (true, Some(kv)) = (planned.fits, &planned.kv_cache) else {
        let reason = planned.reason.unwrap_or_else(|| "it has no KV cache".to_owned());
        return Ok((Capacity::DoesNotFit { reason }, None));
    };
    let share = match (&as_set.kv_cache, as_set.fits) {
        (Some(own), true) => pool_gib(own) / pool_gib(kv),
        _ => 1.0,
    };
    let capacity = Capacity::Fits {
        kv_tokens: kv.tokens as f64 * share,
        kv_bytes_per_token: kv.bytes_per_token_per_gpu as f64 * f64::from(request.parallelism.gpus()),
    };
    Ok((capacity, (!as_set.fits).then_some(as_set.max_model_len_that_fits)))
}

/// All blocks of a KV cache.
fn pool_gib(kv: &KvCacheSummary) -> f64 {
    kv.num_blocks as f64 * kv.request_gib / kv.blocks_per_request.max(1) as f64
}
