//! Why vLLM would not start.

use crate::units::gib;

/// Why there is no KV cache plan: where vLLM raises an error at start-up, the reason in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KvCacheRefusal {
    /// Nothing is left for the cache.
    #[error("no memory is left for the KV cache")]
    NoMemory {
        /// The first stage that has none.
        stage: usize,
    },
    /// One request of full length does not fit.
    #[error(
        "one request of {max_model_len} tokens needs {:.2} GiB of KV cache, and {:.2} GiB are there; the longest request \
         that fits has {longest_model_len} tokens",
        gib(*.needed_bytes), gib(*.available_bytes)
    )]
    TooSmall {
        /// The first stage that is too small.
        stage: usize,
        /// Length asked for, in tokens.
        max_model_len: u64,
        /// Bytes that one request of this length needs.
        needed_bytes: u64,
        /// Bytes that are there for it.
        available_bytes: u64,
        /// Longest length that fits, in tokens; 0 if none does.
        longest_model_len: u64,
    },
    /// `--max-model-len auto`, and not even one token fits.
    #[error("not even one token fits into the KV cache")]
    NothingFits,
    /// A pipeline stage caches nothing, which vLLM divides by.
    #[error("pipeline stage {stage} has no layer with a KV cache, which vLLM cannot serve")]
    StageWithoutCache {
        /// The stage.
        stage: usize,
    },
    /// A layer with blocks of no tokens or no bytes.
    #[error("layer {layer} has a KV cache block of no size")]
    EmptyBlock {
        /// Position of the layer.
        layer: usize,
    },
    /// Pages of different sizes that cannot be made equal.
    #[error(
        "a KV cache block of {page_bytes} bytes cannot be raised to the {largest_page_bytes} bytes of other layers"
    )]
    PagesNotUnifiable {
        /// The smaller page.
        page_bytes: u64,
        /// The largest.
        largest_page_bytes: u64,
    },
    /// A state smaller than the largest page, which this version neither pads nor splits.
    #[error("a state of {page_bytes} bytes is not padded to the {largest_page_bytes} bytes of other layers")]
    StateNotPadded {
        /// Bytes of the state.
        page_bytes: u64,
        /// The largest page.
        largest_page_bytes: u64,
    },
    /// Layers that need the hybrid manager, which is off.
    #[error("layers of these kinds need the hybrid KV cache manager, which is disabled")]
    HybridManagerNeeded,
    /// The hybrid manager is off and windows or chunks differ, so that the layers cannot share a block table.
    #[error("layers with different windows need the hybrid KV cache manager, which is disabled")]
    WindowsDiffer,
    /// Sliding windows cannot be dealt over context-parallel ranks.
    #[error("sliding-window attention does not work with decode context parallelism")]
    WindowWithContextParallel,
    /// `--mamba-cache-mode all` where it does not exist.
    #[error("this version of vLLM has no `--mamba-cache-mode all`; use `align`")]
    MambaCacheModeAll,
    /// The state of a layer cannot be split.
    #[error("{what} of {size} cannot be split over {tensor_parallel_size} tensor-parallel ranks")]
    StateNotDivisible {
        /// What would be split.
        what: &'static str,
        /// Its size.
        size: u64,
        /// Ranks.
        tensor_parallel_size: u64,
    },
    /// A KV cache type without a known size of an element.
    #[error("a KV cache of type `{0}` is not modelled")]
    CacheType(&'static str),
    /// The cache of this model is not modelled.
    #[error("{0}")]
    NotModelled(String),
}
