//! Pictures of memory plans.

use super::chart::Chart;
use super::charts::{self, MemoryRow};
use super::scale::value_text;
use crate::memory::MemoryPlan;

/// What fills the memory of one GPU in each of some plans of one model on one accelerator. Layouts that cannot run have no
/// bar, and a note counts them.
pub fn plans(plans: &[&MemoryPlan]) -> Chart {
    let title = plans.first().map_or_else(String::new, |plan| {
        format!("{} on {} with vLLM {}", plan.model.id, plan.accelerator.name, plan.engine.version)
    });
    let rows: Vec<MemoryRow> = plans
        .iter()
        .filter_map(|plan| {
            let layout = &plan.parallelism;
            let sizes = [("PP", layout.pp), ("DP", layout.dp), ("EP", layout.ep), ("DCP", layout.dcp)];
            let sizes = sizes.into_iter().filter(|(_, size)| *size > 1).map(|(name, size)| format!(", {name} {size}"));
            Some(MemoryRow {
                label: format!("TP {}{}", layout.tp, sizes.collect::<String>()),
                detail: plan
                    .kv_cache
                    .map(|kv| format!("{} tokens", value_text(kv.tokens as f64, 15)))
                    .unwrap_or_default(),
                memory: plan.memory_per_gpu?,
            })
        })
        .collect();
    let mut chart = charts::memory(title, &rows);
    "What fills the memory of each GPU".clone_into(&mut chart.subtitle);
    let without = plans.len() - rows.len();
    if without > 0 {
        chart.notes.push(format!("Layouts that cannot run: {without}."));
    }
    chart
}
