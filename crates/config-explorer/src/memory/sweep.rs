//! The plan of every layout up to a number of GPUs.

use super::{MemoryPlan, PlanRequest, plan};
use crate::deployment::Parallelism;

/// Plans every TP x PP x DP of at most `max_gpus` GPUs, fewest GPUs first; then more tensor parallelism before more stages
/// before more replicas. Layouts that cannot run are there with their reason.
pub fn sweep(request: &PlanRequest<'_>, max_gpus: u32) -> Vec<MemoryPlan> {
    let experts_spread = request.parallelism.experts_spread();
    let decode_context = request.parallelism.decode_context();
    let mut layouts: Vec<Parallelism> = Vec::new();
    for tensor in 1..=max_gpus {
        for pipeline in 1..=max_gpus / tensor {
            for data in 1..=max_gpus / (tensor * pipeline) {
                layouts.extend(Parallelism::new(tensor, pipeline, data, experts_spread, decode_context).ok());
            }
        }
    }
    layouts.sort_by_key(|layout| (layout.gpus(), layout.data(), layout.pipeline()));
    layouts.into_iter().map(|parallelism| plan(&PlanRequest { parallelism, ..request.clone() })).collect()
}
