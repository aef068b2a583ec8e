//! How many tokens of these requests an engine's KV cache holds.

use super::traffic::Traffic;
use crate::memory::{PlanRequest, plan};
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

/// The capacity of an engine for requests of the traffic's mean length: hybrid models hold more tokens of long requests
/// than of short ones.
///
/// # Errors
/// [`Error::InvalidSetting`] for requests longer than the engine's or the model's limit.
pub fn capacity(request: &PlanRequest<'_>, traffic: &Traffic) -> Result<Capacity> {
    let tokens = (traffic.input_tokens + traffic.output_tokens).ceil() as u64;
    let limit = request.settings.max_model_len.or(request.model.architecture.max_position_embeddings);
    if let Some(limit) = limit.filter(|limit| tokens > *limit) {
        return Err(Error::InvalidSetting {
            setting: "--input-len".to_owned(),
            reason: format!("with the output these are {tokens} tokens, and a request may have {limit}"),
        });
    }
    let mut sized = request.clone();
    sized.settings.max_model_len = Some(tokens);
    let planned = plan(&sized);
    Ok(match (planned.fits, planned.kv_cache) {
        (true, Some(kv)) => Capacity::Fits {
            kv_tokens: kv.tokens as f64,
            kv_bytes_per_token: kv.bytes_per_token_per_gpu as f64 * f64::from(request.parallelism.gpus()),
        },
        _ => Capacity::DoesNotFit { reason: planned.reason.unwrap_or_else(|| "it has no KV cache".to_owned()) },
    })
}
