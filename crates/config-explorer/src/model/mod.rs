//! What a model is.
//!
//! In: a Hugging Face id, a local directory or a `.gguf` file. Out: a [`Model`]: its [`Architecture`] (a list of layers,
//! read from `config.json` as data; nothing from a repository is ever executed) and its [`Weights`] (the tensors of the
//! checkpoint, from safetensors or GGUF headers where there are any, otherwise computed from the architecture).

mod architecture;
pub mod catalogue;
mod checkpoint;
mod config;
mod dtype;
mod fields;
pub mod gguf;
mod hub;
mod load;
mod names;
mod quantisation;
pub mod safetensors;
mod sharding;
mod tensor_parallel;
mod tensor_table;
mod tensors;
mod weights;

pub use architecture::{
    Architecture, Attention, AttentionHeads, CompressedSparse, FeedForward, GatedDeltaNet, Layer, Mamba, Mla, Moe,
    RotaryTable, SparseIndexer, Vision, VisionKind,
};
pub use checkpoint::Checkpoint;
pub use config::{ParsedConfig, parse_config};
pub use dtype::DType;
pub use hub::{LoadOptions, Token};
pub use load::ModelFiles;
pub use quantisation::{Nvfp4Layout, Quantisation, Scaling, WeightFormat};
pub use sharding::{RankSplit, Sharding, rank_bytes, sharding};
pub use tensor_parallel::tensor_parallel_problem;
pub use tensor_table::Tensors;
pub use weights::{Part, TensorGroup, Weights, WeightsSource};

/// Where a model's description was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelSource {
    /// The Hugging Face hub.
    Hub,
    /// The local Hugging Face cache.
    Cache,
    /// A local directory.
    Directory,
    /// The built-in catalogue.
    Catalogue,
    /// A GGUF file.
    Gguf,
}

/// A model: what it computes and the tensors that hold its weights.
#[derive(Debug, Clone)]
pub struct Model {
    /// Hugging Face id, or the path that was given.
    pub id: String,
    /// Commit of the repository, where it is known.
    pub revision: Option<String>,
    /// Where the description came from.
    pub source: ModelSource,
    /// The layers and their shapes.
    pub architecture: Architecture,
    /// The tensors.
    pub weights: Weights,
    /// Weights of the main model, each once: what is packed counts as what it holds; scales, draft layers and a stored
    /// copy of a tied head do not count.
    pub parameters: u64,
    /// Assumptions and oddities the user should know of.
    pub warnings: Vec<String>,
}
