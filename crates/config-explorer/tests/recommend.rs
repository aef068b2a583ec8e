//! Recommendations for catalogue models: they meet what was asked, nothing cheaper does, and they are deterministic.

use config_explorer::engine::{EngineRules, ServeArgs};
use config_explorer::hardware::{Accelerators, Prices};
use config_explorer::latency::Calibration;
use config_explorer::model::{Model, ModelFiles, catalogue};
use std::sync::atomic::AtomicBool;

use config_explorer::recommend::{
    Demand, Disaggregation, Evidence, Layout, Measurements, PoolShare, Query, RankBy, Recommendations, Shard, Variant,
    Watch, recommend, recommend_watched,
};
use config_explorer::reports::{Role, Roles, Run, RunId, Server, Statistic, Statistics};
use config_explorer::workload::{LengthDistribution, Load, Workload};

fn model(id: &str) -> Model {
    ModelFiles::from(catalogue::find(id).unwrap()).into_model().unwrap()
}

/// Asks for Qwen3-32B with prompts of 1,000 tokens and outputs of 300, after `change`: estimated only, which tests of
/// an unoptimised build can wait for.
fn ask(gpus: &str, demand: Demand, slo: &str, change: impl FnOnce(&mut Query<'_>)) -> Recommendations {
    ask_with(&[], gpus, demand, slo, change)
}

/// As [`ask`], with measured runs.
fn ask_with(
    runs: &[Run],
    gpus: &str,
    demand: Demand,
    slo: &str,
    change: impl FnOnce(&mut Query<'_>),
) -> Recommendations {
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
        measured: (!runs.is_empty()).then_some(Measurements { runs, accelerators: Accelerators::built_in() }),
        shard: None,
        keep_all: false,
        simulate: false,
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
    let again = || ask("H100:4", Demand::Rate(4.0), "ttft:p99<2s", |query| query.simulate = true);
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
    let rejected = found.rejected.iter().map(|rejected| rejected.count).sum::<usize>();
    assert_eq!(rejected, found.evaluated, "{:?}", found.rejected);

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

#[test]
fn what_is_returned_was_simulated_and_the_rest_estimated() {
    let question = |simulate: bool| {
        ask("H100:8", Demand::Rate(8.0), "ttft:p99<2s;tpot:mean<40ms", |query| query.simulate = simulate)
    };
    let simulated = question(true);
    assert!(simulated.simulated >= simulated.recommendations.len() && simulated.complete);
    for choice in &simulated.recommendations {
        assert!(choice.meets && choice.evidence == Evidence::Simulated, "{choice:?}");
    }
    let estimated = question(false);
    assert_eq!(estimated.simulated, 0);
    assert!(estimated.recommendations.iter().all(|choice| choice.evidence == Evidence::Estimated));
    // The two tell the same story, but not in the same numbers.
    let tpot = |found: &Recommendations| found.recommendations[0].predicted.tpot_ms.mean;
    let quotient = tpot(&simulated) / tpot(&estimated);
    assert!((0.7..1.4).contains(&quotient) && (quotient - 1.0).abs() > 1e-6, "{quotient}");
}

#[test]
fn what_cannot_be_simulated_stays_an_estimate_and_says_so() {
    let found = ask("H100:4", Demand::Rate(1.0), "", |query| {
        query.variants[0].serve.pipeline_parallel_size = std::num::NonZeroU32::new(2);
        (query.disaggregation, query.simulate) = (Disaggregation::Never, true);
    });
    let best = &found.recommendations[0];
    assert_eq!((best.evidence, found.simulated), (Evidence::Estimated, 0));
    assert!(best.predicted.warnings.iter().any(|warning| warning.starts_with("not simulated: ")), "{best:?}");
}

#[test]
fn a_search_that_is_stopped_says_so() {
    let model = model("Qwen/Qwen3-32B");
    let rules = EngineRules::of_default_version();
    let stop = AtomicBool::new(true);
    let mut stopped = None;
    ask("H100:8", Demand::Rate(1.0), "", |query| {
        let query = Query {
            rules: &rules,
            variants: vec![Variant { model: &model, serve: ServeArgs::default() }],
            ..query.clone()
        };
        stopped = Some(recommend_watched(&query, &Watch { progress: &|_, _, _| (), stop: Some(&stop) }).unwrap());
    });
    let stopped = stopped.unwrap();
    assert!(!stopped.complete && stopped.recommendations.is_empty());
}

/// Two engines of TP 2 on H100 under a rate, as if somebody had measured them.
fn measured(tp: u64, rate: f64, tpot_ms: f64) -> Run {
    let latency =
        |mean: f64| [(Statistic::Mean, mean), (Statistic::P99, 2.0 * mean)].into_iter().collect::<Statistics>();
    let mut run = Run {
        id: RunId { content: [rate as u8; 32], index: 0 },
        server: Server {
            model: Some("qwen3-32b".to_owned()),
            gpu: Some("NVIDIA-H100-80GB-HBM3".to_owned()),
            gpus: Some(2 * tp),
            roles: Roles {
                both: Some(Role { replicas: Some(2), tp: Some(tp), ..Role::default() }),
                ..Roles::default()
            },
            ..Server::default()
        },
        workload: Workload {
            input: Some(LengthDistribution::fixed(1000.0)),
            output: Some(LengthDistribution::fixed(300.0)),
            load: Load::of(Some(rate), None, None),
            ..Workload::default()
        },
        ..Run::default()
    };
    (run.latency.ttft, run.latency.tpot) = (latency(100.0), latency(tpot_ms));
    run.throughput.requests = Some(rate);
    run
}

#[test]
fn measured_runs_outrank_predictions_where_they_surround_the_question() {
    let aggregated = |runs: &[Run]| {
        ask_with(runs, "H100:16", Demand::Rate(20.0), "ttft:p99<2s;tpot:mean<40ms", |query| {
            query.disaggregation = Disaggregation::Never;
        })
    };
    let unmeasured = aggregated(&[]);
    assert!(unmeasured.recommendations[0].gpus > 4, "two engines of TP 2 are predicted to miss");

    let runs = [measured(2, 15.0, 20.0), measured(2, 30.0, 35.0), measured(3, 15.0, 1.0)];
    let found = aggregated(&runs);
    let best = &found.recommendations[0];
    assert_eq!((best.evidence, best.gpus, best.runs.len()), (Evidence::Measured, 4, 2), "{best:?}");
    assert!((best.predicted.tpot_ms.mean - 25.0).abs() < 1e-9, "a third of the way: {:?}", best.predicted.tpot_ms);
    let told = found.measured.unwrap();
    assert_eq!((told.runs, told.configurations, told.used, told.outside_space), (3, 2, 1, 1), "{told:?}");

    // Nor is anything said of a kind of layout that was not asked for.
    let split = ask_with(&runs, "H100:16", Demand::Rate(20.0), "ttft:p99<2s", |query| {
        query.disaggregation = Disaggregation::Always;
    });
    assert_eq!((split.measured.unwrap().used, split.measured.unwrap().outside_space), (0, 2));

    // What was measured to miss is not recommended, nor less of it.
    let found = aggregated(&[measured(2, 20.0, 50.0)]);
    assert!(found.recommendations[0].gpus > 4);
    assert!(found.rejected.iter().any(|rejected| rejected.reason.contains("measured")), "{:?}", found.rejected);

    // Beyond what was measured nothing is said, nor between runs that are far apart.
    for runs in [[measured(2, 5.0, 9.0), measured(2, 15.0, 9.0)], [measured(2, 1.0, 9.0), measured(2, 60.0, 9.0)]] {
        let found = aggregated(&runs);
        assert_eq!(found.recommendations, unmeasured.recommendations);
        assert_eq!(found.measured.unwrap().not_surrounding, 1);
    }
    // A statistic that was not measured is not made up.
    let mut run = measured(2, 20.0, 9.0);
    run.latency.ttft = Statistics::of_mean(100.0);
    assert_eq!(aggregated(&[run]).measured.unwrap().without_objective, 1);
}

#[test]
fn parts_of_a_search_together_are_the_whole() {
    let part = |shard: Option<Shard>| {
        ask("H100:16", Demand::Rate(20.0), "ttft:p99<2s;tpot:mean<40ms", |query| {
            (query.shard, query.keep_all, query.top, query.simulate) = (shard, true, 1, true);
            query.disaggregation = Disaggregation::Never;
        })
    };
    let whole = part(None);
    let parts: Vec<_> = ["0/3", "1/3", "2/3"].map(|shard| part(Some(shard.parse().unwrap()))).into();
    let evaluated: usize = parts.iter().map(|part| part.evaluated).sum();
    assert_eq!(evaluated, whole.evaluated);
    let cost = |found: &Recommendations| found.recommendations[0].usd_per_hour.unwrap();
    assert!(parts.iter().any(|part| part.recommendations.first() == whole.recommendations.first()));
    // Read from a store, every deployment is there once, and the best one is what the whole search recommends.
    let runs = |found: &Recommendations| -> Vec<Run> { found.considered.clone() };
    let mut merged: Vec<Run> = parts.iter().flat_map(runs).collect();
    merged.sort_by_key(|run| run.id);
    merged.dedup_by_key(|run| run.id);
    let ids = |runs: &[Run]| runs.iter().map(|run| run.id).collect::<std::collections::BTreeSet<_>>();
    assert!(ids(&merged).is_superset(&ids(&whole.considered)));
    let meets = |run: &&Run| run.extra["meets"] == "true" && run.kind != config_explorer::reports::Kind::Estimated;
    let cheapest = |runs: &[Run]| {
        runs.iter().filter(meets).filter_map(|run| run.server.usd_per_hour).min_by(f64::total_cmp).unwrap()
    };
    assert!((cheapest(&merged) - cost(&whole)).abs() < 1e-9);
    assert!((cheapest(&whole.considered) - cost(&whole)).abs() < 1e-9);
    for shard in ["", "1", "2/2", "0/0", "a/b"] {
        assert!(shard.parse::<Shard>().is_err(), "{shard}");
    }
}
