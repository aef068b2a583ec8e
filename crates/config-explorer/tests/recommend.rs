//! Recommendations for catalogue models: they meet what was asked, nothing cheaper does, and they are deterministic.

use config_explorer::engine::{EngineRules, ServeArgs};
use config_explorer::hardware::{Accelerators, Prices};
use config_explorer::latency::Calibration;
use config_explorer::model::{Model, ModelFiles, catalogue};
use config_explorer::recommend::{
    Demand, Disaggregation, Layout, PoolShare, Query, RankBy, Recommendations, Variant, recommend,
};

fn model(id: &str) -> Model {
    ModelFiles::from(catalogue::find(id).unwrap()).into_model().unwrap()
}

/// Asks for Qwen3-32B with prompts of 1,000 tokens and outputs of 300, after `change`.
fn ask(gpus: &str, demand: Demand, slo: &str, change: impl FnOnce(&mut Query<'_>)) -> Recommendations {
    let (model, rules) = (model("Qwen/Qwen3-32B"), EngineRules::of_default_version());
    let mut query = Query {
        rules: &rules,
        variants: vec![Variant { model: &model, serve: ServeArgs::default() }],
        pool: PoolShare::parse(gpus, Accelerators::built_in()).unwrap(),
        input_tokens: 1000.0,
        output_tokens: 300.0,
        prefix_hit_rate: 0.0,
        demand,
        workload: None,
        objectives: slo.parse().unwrap(),
        rank_by: RankBy::Cost,
        disaggregation: Disaggregation::Auto,
        prices: Prices::built_in(),
        calibration: Calibration::built_in(),
        measured: None,
        shard: None,
        keep_all: false,
        simulate: true,
        top: 5,
    };
    change(&mut query);
    recommend(&query).unwrap()
}

#[test]
fn the_first_choice_meets_the_objectives_and_costs_least() {
    let found = ask("H100:16,H200:8", Demand::Rate(20.0), "ttft:p99<2s;tpot:mean<40ms", |_| {});
    let best = &found.recommendations[0];
    assert!(best.meets && best.max_rate_within_slo >= 20.0, "{best:?}");
    assert!(best.predicted.ttft_ms.unwrap().p99 < 2000.0 && best.predicted.tpot_ms.mean < 40.0);
    let costs: Vec<_> = found.recommendations.iter().map(|choice| choice.usd_per_hour.unwrap()).collect();
    assert!(costs.is_sorted(), "{costs:?}");
    assert!((found.pareto[0].usd_per_hour.unwrap() - costs[0]).abs() < 1e-9, "the cheapest is on the front");
    // With one engine less, the objectives are missed: there is no slack that the search overlooked.
    let fewer = format!("{}:{}", best.gpu, best.gpus - best.gpus / best.roles[0].replicas);
    if best.gpus > best.gpus / best.roles[0].replicas {
        let with_fewer = ask(&fewer, Demand::Rate(20.0), "ttft:p99<2s;tpot:mean<40ms", |query| {
            query.variants[0].serve.tensor_parallel_size = std::num::NonZeroU32::new(best.roles[0].parallelism.tp);
            query.disaggregation = Disaggregation::Never;
        });
        assert!(with_fewer.recommendations.is_empty(), "{with_fewer:?}");
    }
}

#[test]
fn the_same_question_has_the_same_answer() {
    let again = || ask("H100:16", Demand::Rate(8.0), "ttft:p99<2s", |_| {});
    assert_eq!(again(), again());
}

#[test]
fn more_load_never_costs_less() {
    let cost = |rate: f64| {
        let found = ask("H100:32", Demand::Rate(rate), "ttft:p95<3s;tpot:mean<50ms", |_| {});
        found.recommendations[0].usd_per_hour.unwrap()
    };
    let costs: Vec<_> = [1.0, 4.0, 16.0, 32.0].map(cost).to_vec();
    assert!(costs.is_sorted() && costs[0] < costs[3], "{costs:?}");
}

#[test]
fn pools_are_never_or_always_split_as_asked() {
    for (disaggregation, layout) in
        [(Disaggregation::Never, Layout::Aggregated), (Disaggregation::Always, Layout::Disaggregated)]
    {
        let found = ask("H100:8", Demand::Rate(4.0), "", |query| query.disaggregation = disaggregation);
        assert!(!found.recommendations.is_empty());
        assert!(found.recommendations.iter().all(|choice| choice.layout == layout));
    }
}

#[test]
fn users_are_served_by_fewer_engines_without_an_objective() {
    let gpus = |slo: &str| ask("H100:16", Demand::Users(256.0), slo, |_| {}).recommendations[0].gpus;
    assert!(gpus("") < gpus("tpot:mean<20ms"));
}

#[test]
fn other_objectives_use_the_whole_pool() {
    let best = |rank_by| {
        ask("H100:8", Demand::Rate(1.0), "ttft:p99<2s", |query| query.rank_by = rank_by).recommendations.swap_remove(0)
    };
    let (cost, throughput, latency) = (best(RankBy::Cost), best(RankBy::Throughput), best(RankBy::Latency));
    assert!(throughput.max_rate_within_slo > cost.max_rate_within_slo);
    let mean = |choice: &config_explorer::recommend::Recommendation| choice.predicted.e2e_ms.unwrap().mean;
    assert!(mean(&latency) < mean(&cost) && latency.gpus == 8);
}

#[test]
fn what_cannot_be_met_has_a_nearest_miss_and_reasons() {
    let found = ask("H100:4", Demand::Rate(100.0), "ttft:p95<1s", |_| {});
    assert!(found.recommendations.is_empty() && found.feasible == 0);
    let miss = found.nearest_miss.unwrap();
    assert!(miss.saturated && miss.it_would_take.iter().any(|change| change.contains("GPUs instead of 4")), "{miss:?}");
    assert_eq!(found.rejected.iter().map(|rejected| rejected.count).sum::<usize>(), 3, "{:?}", found.rejected);

    let nothing_fits = ask("L40S:1", Demand::Rate(0.1), "", |_| {});
    let miss = nothing_fits.nearest_miss.unwrap();
    assert!(miss.it_would_take[0].contains("2 GPUs: 1 x TP 2 on L40S"), "{miss:?}");
}

#[test]
fn wrong_questions_are_refused() {
    let accelerators = Accelerators::built_in();
    for gpus in ["", "H100", "H100:0", "H100:x", "H100:9999999999"] {
        assert!(PoolShare::parse(gpus, accelerators).is_err(), "{gpus}");
    }
    let model = model("Qwen/Qwen3-32B");
    let variant = Variant { model: &model, serve: ServeArgs::default() };
    assert_eq!(variant.vary("max-num-seqs=64,128").unwrap().len(), 2);
    for vary in ["max-num-seqs", "no-such-flag=1", "max-num-seqs=many"] {
        assert!(variant.vary(vary).is_err(), "{vary}");
    }
}
