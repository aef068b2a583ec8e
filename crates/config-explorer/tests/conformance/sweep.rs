//! A sweep of every config: a layout that fits, or the reason why there is none.

use config_explorer::deployment::{Nodes, Parallelism};
use config_explorer::engine::{EngineRules, EngineSettings, ServeArgs};
use config_explorer::hardware::Accelerators;
use config_explorer::memory::{self, MemoryPlan, PlanRequest};

use crate::models::{load, models};

const MAX_GPUS: u32 = 16;

#[test]
#[expect(clippy::print_stdout, reason = "the list is for people")]
fn every_model_has_a_layout_or_a_reason() {
    let Some(folder) = crate::data() else { return };
    let rules = EngineRules::of_default_version();
    let accelerator = Accelerators::built_in().find("H100").unwrap();
    let (mut fitting, mut without) = (0, Vec::new());
    for id in models(&folder) {
        let model = load(&folder, &id);
        let settings = EngineSettings::resolve(
            &ServeArgs::default(),
            &rules,
            &model.architecture,
            accelerator.memory_gib,
            &accelerator.name,
        )
        .unwrap_or_else(|error| panic!("{id}: {error}"));
        let request = PlanRequest {
            model: &model,
            accelerator,
            total_gib: accelerator.memory_gib,
            rules: &rules,
            settings,
            parallelism: Parallelism::SINGLE,
            nodes: Nodes { count: None, gpus_per_node: accelerator.gpus_per_node },
            concurrency: None,
        };
        let plans = memory::sweep(&request, MAX_GPUS);
        assert!(plans.iter().all(|plan| plan.fits == plan.reason.is_none()), "{id}: a verdict without a reason");
        assert!(plans.iter().all(|plan| plan.fits <= plan.kv_cache.is_some()), "{id}: fits without a KV cache");
        if model.architecture.not_modelled.is_some() {
            assert!(plans.iter().all(is_not_modelled), "{id}: a number for what is not modelled");
        }
        if plans.iter().any(|plan| plan.fits) {
            fitting += 1;
        } else {
            without.push((id, closest(&plans).reason.clone().unwrap_or_default()));
        }
    }
    println!("{fitting} models have a layout of at most {MAX_GPUS} GPUs; {} have none:", without.len());
    for (id, reason) in &without {
        println!("  {id}: {reason}");
    }
    assert!(without.iter().all(|(_, reason)| !reason.is_empty()));
    let not_modelled = without.iter().filter(|(id, _)| id.contains("DeepSeek-V4")).count();
    assert!(
        not_modelled > 0
            && without.iter().filter(|(_, reason)| reason.contains("not modelled")).count() == not_modelled
    );
}

fn is_not_modelled(plan: &MemoryPlan) -> bool {
    let reason = plan.reason.as_deref().unwrap_or_default();
    reason.contains("not modelled")
        && plan.memory_per_gpu.is_none()
        && plan.kv_cache.is_none()
        && plan.max_model_len_that_fits == 0
}

/// The layout that misses by least.
fn closest(plans: &[MemoryPlan]) -> &MemoryPlan {
    let left = |plan: &MemoryPlan| plan.memory_per_gpu.map_or(f64::NEG_INFINITY, |memory| memory.kv_cache_gib);
    plans.iter().max_by(|a, b| left(a).total_cmp(&left(b))).expect("a sweep plans one GPU at least")
}
