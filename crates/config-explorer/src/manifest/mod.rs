//! llm-d's files: written from a description, read back, and checked before they are applied.
//!
//! In: a [`Description`] (a model, its roles with the engine's flags, the router's profile). Out: [`write_files`]: a kustomize
//! overlay on llm-d's recipes, the router's Helm values with a complete `EndpointPickerConfig`, the same rendered, values for
//! llm-d-modelservice, plain commands, and how to apply and measure it. [`resolve`] reads overlays as `kubectl kustomize` does.
//! What llm-d pins and sets is in `data/llm-d.toml`, each with the guide it is from.

mod benchmark;
pub mod check;
mod description;
mod facts;
mod files;
mod job;
pub mod kubernetes;
mod kustomize;
mod proposal;
mod render;
mod router;

pub use description::{Autoscaling, Description, Load, Offload, ROUTER_BLOCK_TOKENS, Role, RoleKind, RouterProfile};
pub use facts::{
    ByHosts, Facts, Guide, Guides, Images, PerGpu, Ports, Probes, Range, Recipes, RouterFacts, Secret, ServerFacts,
    Versions, VolumeFacts,
};
pub use files::{modelservice_values, write_files};
pub use job::ShardJob;
pub use kustomize::{FILE_NAMES, Kustomized, ReadFile, resolve};
pub use proposal::{PrefixCache, ProposalOptions, Proposals};
pub use render::{autoscalers, command, documents, pool, tokenizer};
pub use router::{EndpointPickerConfig, picker_config, values as router_values};

#[cfg(test)]
mod tests;
