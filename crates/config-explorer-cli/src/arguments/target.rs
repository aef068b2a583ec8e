//! Where an engine runs, and with which settings: what `plan` and `estimate` share.

use clap::Args;
use config_explorer::deployment::{Nodes, Parallelism};
use config_explorer::engine::{EngineRules, EngineSettings, ServeArgs, Version};
use config_explorer::hardware::Accelerators;
use config_explorer::memory::PlanRequest;
use config_explorer::model::Model;

use super::engine::EngineArgs;
use super::hardware::HardwareArgs;

/// An accelerator and an engine.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// Accelerator, by any name it goes by; `config-explorer accelerators` lists them.
    #[arg(long, value_name = "NAME")]
    pub(crate) gpu: String,

    /// Memory of each GPU as CUDA reports it, instead of the table's.
    #[arg(long, value_name = "GIB", value_parser = parse_gib)]
    gpu_memory: Option<f64>,

    /// Version whose defaults and accounting apply; by default the one that llm-d's guides pin.
    #[arg(long, value_name = "vllm@VERSION")]
    engine: Option<Version>,

    /// Nodes that the GPUs of an engine may stand in.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    nodes: Option<u32>,

    /// GPUs of a node; by default the accelerator's usual number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    gpus_per_node: Option<u32>,

    #[command(flatten)]
    pub(crate) hardware: HardwareArgs,

    #[command(flatten)]
    pub(crate) settings: EngineArgs,
}

pub(crate) fn parse_gib(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(gib) if gib > 0.0 && gib <= 10_000.0 => Ok(gib),
        _ => Err("must be a number of GiB above 0, such as 79.18".to_owned()),
    }
}

impl TargetArgs {
    /// What the engine's version does.
    pub(crate) fn rules(&self) -> config_explorer::Result<EngineRules> {
        self.engine.map_or_else(|| Ok(EngineRules::of_default_version()), EngineRules::of)
    }

    /// The engine that these flags start on the accelerator.
    pub(crate) fn request<'a>(
        &self,
        serve: &ServeArgs,
        model: &'a Model,
        accelerators: &'a Accelerators,
        rules: &'a EngineRules,
    ) -> config_explorer::Result<PlanRequest<'a>> {
        let accelerator = accelerators.find(&self.gpu)?;
        let total_gib = self.gpu_memory.unwrap_or(accelerator.memory_gib);
        Ok(PlanRequest {
            settings: EngineSettings::resolve(serve, rules, &model.architecture, total_gib, &accelerator.name)?,
            parallelism: Parallelism::from_args(serve)?,
            nodes: Nodes { count: self.nodes, gpus_per_node: self.gpus_per_node.unwrap_or(accelerator.gpus_per_node) },
            concurrency: None,
            model,
            accelerator,
            total_gib,
            rules,
        })
    }
}
