//! What is asked of the planner.

use crate::deployment::{Nodes, Parallelism};
use crate::engine::{EngineRules, EngineSettings};
use crate::hardware::Accelerator;
use crate::model::{Model, tensor_parallel_problem};

/// One layout of one model on one accelerator.
#[derive(Debug, Clone)]
pub struct PlanRequest<'a> {
    /// The model.
    pub model: &'a Model,
    /// The accelerator.
    pub accelerator: &'a Accelerator,
    /// Memory of each GPU as the driver reports it; the accelerator's own, where nothing else is known.
    pub total_gib: f64,
    /// What this version of the engine does.
    pub rules: &'a EngineRules,
    /// The engine's settings.
    pub settings: EngineSettings,
    /// The layout.
    pub parallelism: Parallelism,
    /// The nodes it may use.
    pub nodes: Nodes,
    /// Requests of full length that it should hold at once, over all data-parallel ranks.
    pub concurrency: Option<u64>,
}

/// Streaming multiprocessors where the table of accelerators has no figure: between an A100's 108 and an H100's 132. Its
/// share of the peak is 0.06 GiB at most.
const TYPICAL_MULTIPROCESSORS: u32 = 120;

/// Largest tensor-parallel size that is named where one does not work: eight nodes of eight.
const SIZES_NAMED_MAX: u32 = 64;

impl PlanRequest<'_> {
    /// Streaming multiprocessors of the device.
    pub(super) fn multiprocessors(&self) -> u32 {
        self.accelerator.multiprocessors.unwrap_or(TYPICAL_MULTIPROCESSORS)
    }

    /// The longest request that the settings and the model allow, in tokens.
    pub(super) fn len_limit(&self) -> u64 {
        // A model without a limit of its own is planned up to what no server serves today.
        const UNLIMITED: u64 = 1 << 30;
        let model_limit = self.model.architecture.max_position_embeddings.unwrap_or(UNLIMITED);
        self.settings.max_model_len.map_or(model_limit, |len| len.max(1))
    }

    /// Why the layout cannot run, whatever the memory.
    pub(super) fn layout_problem(&self) -> Option<String> {
        let architecture = &self.model.architecture;
        if let Some(reason) = &architecture.not_modelled {
            return Some(reason.clone());
        }
        let stages = self.parallelism.pipeline() as usize;
        if stages > architecture.layers.len() {
            let layers = architecture.layers.len();
            return Some(format!("PP {stages} is more than the model's {layers} layers"));
        }
        let problem =
            |tensor: u32| tensor_parallel_problem(architecture, tensor.into(), self.parallelism.experts_spread());
        if let Some(problem_here) = problem(self.parallelism.tensor()) {
            let valid = (1..=SIZES_NAMED_MAX).filter(|&tensor| problem(tensor).is_none());
            let valid: Vec<_> = valid.map(|tensor| tensor.to_string()).collect();
            return Some(format!("{problem_here}; TP can be {}", valid.join(", ")));
        }
        self.parallelism.placement_problem(self.nodes)
    }
}
