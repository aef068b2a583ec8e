//! Time from a config to a plan, and to the plans of a sweep.

use config_explorer::deployment::{Nodes, Parallelism};
use config_explorer::engine::{EngineRules, EngineSettings, ServeArgs};
use config_explorer::hardware::Accelerators;
use config_explorer::memory::{self, PlanRequest};
use config_explorer::model::{Model, ModelFiles, catalogue, parse_config};
use divan::{Bencher, black_box};

const MODELS: [&str; 2] = ["Qwen/Qwen3-32B", "deepseek-ai/DeepSeek-V3"];

fn main() {
    divan::main();
}

fn model(id: &str) -> Model {
    ModelFiles::from(catalogue::find(id).unwrap()).into_model().unwrap()
}

/// A request for this model on an H100 node.
fn with_request<T>(id: &str, parallelism: Parallelism, bench: impl FnOnce(&PlanRequest<'_>) -> T) -> T {
    let (model, rules) = (model(id), EngineRules::of_default_version());
    let accelerator = Accelerators::built_in().find("H100").unwrap();
    let total_gib = accelerator.memory_gib;
    let args = ServeArgs::default();
    let settings = EngineSettings::resolve(&args, &rules, &model.architecture, total_gib, &accelerator.name).unwrap();
    bench(&PlanRequest {
        model: &model,
        accelerator,
        total_gib,
        rules: &rules,
        settings,
        parallelism,
        nodes: Nodes { count: None, gpus_per_node: accelerator.gpus_per_node },
        concurrency: None,
    })
}

#[divan::bench(args = MODELS)]
fn config(bencher: Bencher<'_, '_>, id: &str) {
    let entry = catalogue::find(id).unwrap();
    bencher.bench_local(|| parse_config(black_box(entry.config()), None, id).unwrap());
}

/// The config and the tensors computed from it.
#[divan::bench(args = MODELS)]
fn tensors(bencher: Bencher<'_, '_>, id: &str) {
    bencher.bench_local(|| model(black_box(id)));
}

#[divan::bench(args = MODELS)]
fn one_layout(bencher: Bencher<'_, '_>, id: &str) {
    let parallelism = Parallelism::new(8, 1, 1, false, 1).unwrap();
    with_request(id, parallelism, |request| bencher.bench_local(|| memory::plan(black_box(request))));
}

/// 1,000 layouts.
#[divan::bench(args = MODELS, sample_count = 10)]
fn sweep(bencher: Bencher<'_, '_>, id: &str) {
    const MAX_GPUS: u32 = 76;
    with_request(id, Parallelism::SINGLE, |request| {
        bencher.bench_local(|| memory::sweep(black_box(request), MAX_GPUS));
    });
}
