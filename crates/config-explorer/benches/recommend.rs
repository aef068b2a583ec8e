//! `recommend` over every layout of a pool of 32 GPUs, finalists simulated: at most 1 s.

use config_explorer::engine::{EngineRules, ServeArgs};
use config_explorer::hardware::{Accelerators, Prices};
use config_explorer::latency::Calibration;
use config_explorer::model::{Model, ModelFiles, catalogue};
use config_explorer::recommend::{Demand, Disaggregation, PoolShare, Query, RankBy, Variant, recommend};
use divan::Bencher;

fn main() {
    divan::main();
}

#[divan::bench(args = ["Qwen/Qwen3-32B", "openai/gpt-oss-120b"], sample_count = 5)]
fn pool_of_32(bencher: Bencher<'_, '_>, id: &str) {
    let model: Model = ModelFiles::from(catalogue::find(id).unwrap()).into_model().unwrap();
    let rules = EngineRules::of_default_version();
    let query = Query {
        rules: &rules,
        variants: vec![Variant { model: &model, serve: ServeArgs::default() }],
        pool: PoolShare::parse("H100:32", Accelerators::built_in()).unwrap(),
        input_tokens: 1000.0,
        output_tokens: 300.0,
        prefix_hit_rate: 0.0,
        demand: Demand::Rate(20.0),
        workload: None,
        objectives: "ttft:p99<2s;tpot:mean<40ms".parse().unwrap(),
        rank_by: RankBy::Cost,
        disaggregation: Disaggregation::Auto,
        prices: Prices::built_in(),
        calibration: Calibration::built_in(),
        measured: None,
        shard: None,
        keep_all: false,
        simulate: true,
        top: 3,
    };
    bencher.bench(|| recommend(&query).unwrap());
}
