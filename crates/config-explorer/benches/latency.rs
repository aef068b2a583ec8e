//! Operating points and compiled configurations per second.

use config_explorer::deployment::{Nodes, Parallelism};
use config_explorer::engine::{EngineRules, EngineSettings, ServeArgs};
use config_explorer::hardware::Accelerators;
use config_explorer::latency::{Calibration, Chunk, Decodes, StepTimes};
use config_explorer::memory::PlanRequest;
use config_explorer::model::{ModelFiles, catalogue};
use config_explorer::serving::{Engine, Load, Traffic, operating_point};
use divan::{Bencher, black_box};

const MODELS: [&str; 3] = ["Qwen/Qwen3-32B", "openai/gpt-oss-120b", "deepseek-ai/DeepSeek-V3"];

fn main() {
    divan::main();
}

fn traffic(load: Load) -> Traffic {
    Traffic::new(1000.0, 500.0, 0.0, load).unwrap()
}

fn engine(id: &str) -> Engine {
    let (model, rules) =
        (ModelFiles::from(catalogue::find(id).unwrap()).into_model().unwrap(), EngineRules::of_default_version());
    let accelerator = Accelerators::built_in().find("H200").unwrap();
    let (args, total_gib) = (ServeArgs::default(), accelerator.memory_gib);
    let settings = EngineSettings::resolve(&args, &rules, &model.architecture, total_gib, &accelerator.name).unwrap();
    let request = PlanRequest {
        model: &model,
        accelerator,
        total_gib,
        rules: &rules,
        settings,
        parallelism: Parallelism::new(8, 1, 1, false, 1).unwrap(),
        nodes: Nodes { count: None, gpus_per_node: accelerator.gpus_per_node },
        concurrency: None,
    };
    Engine::new(&request, &traffic(Load::Closed { clients: 1.0, requests: None })).unwrap()
}

fn points(bencher: Bencher<'_, '_>, id: &str, load: Load) {
    let engine = engine(id);
    let step = StepTimes::compile(&engine.configuration(Calibration::built_in()));
    let traffic = traffic(load);
    bencher.bench_local(|| operating_point(black_box(&step), 500_000.0, black_box(&traffic)).unwrap());
}

/// One operating point of a closed loop that goes on for ever.
#[divan::bench(args = MODELS)]
fn closed_point(bencher: Bencher<'_, '_>, id: &str) {
    points(bencher, id, Load::Closed { clients: 64.0, requests: None });
}

/// The same with the initial burst and the waves of ten requests a client.
#[divan::bench(args = MODELS)]
fn closed_point_of_ten_waves(bencher: Bencher<'_, '_>, id: &str) {
    points(bencher, id, Load::Closed { clients: 64.0, requests: Some(640.0) });
}

/// One operating point of an open loop.
#[divan::bench(args = MODELS)]
fn open_point(bencher: Bencher<'_, '_>, id: &str) {
    points(bencher, id, Load::Open { rate_per_s: 5.0 });
}

#[divan::bench(args = MODELS)]
fn compiled_configuration(bencher: Bencher<'_, '_>, id: &str) {
    let engine = engine(id);
    bencher.bench_local(|| StepTimes::compile(black_box(&engine.configuration(Calibration::built_in()))));
}

#[divan::bench(args = MODELS)]
fn step(bencher: Bencher<'_, '_>, id: &str) {
    let engine = engine(id);
    let step = StepTimes::compile(&engine.configuration(Calibration::built_in()));
    let decodes = Decodes { sequences: 64.0, context_tokens: 80_000.0 };
    let chunk = [Chunk { tokens: 1000.0, context: 0.0 }];
    bencher.bench_local(|| step.step_us(black_box(decodes), black_box(&chunk), 1.0));
}
