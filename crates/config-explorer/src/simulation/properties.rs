//! Properties over random traffic and settings; the numbers are those of `docs/invariants.md`.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::engine::{Batch, KvGroup, Policy, SchedulerConfig};
use super::*;
use crate::engine::EngineRules;
use crate::workload::{
    Arrivals, ClassSpec, Distribution, Gaps, LengthDistribution, Popularity, Prefix, Session, Stage, Statistic,
    WorkloadSpec,
};

const MAX_MODEL_LEN: u32 = 200;

/// Any function of what may matter, in whole nanoseconds.
pub(super) fn timer(batch: &Batch) -> f64 {
    let (decodes, context) = batch.decodes();
    let chunks = batch.chunks().map(|chunk| u64::from(chunk.tokens * (7 + chunk.context))).sum::<u64>();
    (500 + 9 * u64::from(decodes) + context / 16 + chunks) as f64
}

fn lengths() -> impl Strategy<Value = Distribution> + Clone {
    prop_oneof![
        (1u32..60).prop_map(|tokens| LengthDistribution::fixed(f64::from(tokens))),
        (1u32..30, 0u32..60).prop_map(|(min, more)| LengthDistribution::uniform(f64::from(min), f64::from(min + more))),
        (1.0..60.0, 0.0..50.0).prop_map(|(mean, stddev)| LengthDistribution::gaussian(mean, stddev)),
        (1.0..40.0, 0.0..50.0).prop_map(|(mean, stddev)| LengthDistribution::lognormal(mean, stddev)),
    ]
    .prop_map(Distribution::from)
}

fn arrivals() -> impl Strategy<Value = Arrivals> {
    let gaps = prop_oneof![
        Just(Gaps::Constant),
        Just(Gaps::Poisson),
        (0.3..4.0).prop_map(|cv| Gaps::Gamma { cv }),
        (0.5..2.0).prop_map(|shape| Gaps::Weibull { shape: Some(shape), cv: None }),
    ];
    let rate = prop_oneof![4 => 5.0..400.0, 1 => Just(f64::INFINITY)];
    let concurrency = || prop::option::weighted(0.3, 1u32..9);
    let stage = (0.0..4.0, 0.0..200.0, prop::option::of(0.0..200.0), 0.01..0.3).prop_map(
        |(burst, rate_per_s, to_rate_per_s, duration_s)| Stage { burst, rate_per_s, to_rate_per_s, duration_s },
    );
    let think = prop_oneof![Just(0.0), 0.0..0.05].prop_map(Distribution::fixed);
    let drawn = (0.0..0.05).prop_map(|max| LengthDistribution::uniform(0.0, max).into());
    prop_oneof![
        (rate, gaps.clone(), concurrency()).prop_map(|(rate_per_s, gaps, concurrency)| Arrivals::Open {
            rate_per_s,
            gaps,
            concurrency
        }),
        (prop::collection::vec(stage, 1..4), gaps, concurrency())
            .prop_map(|(stages, gaps, concurrency)| { Arrivals::Schedule { stages, cycle: true, gaps, concurrency } }),
        (1u32..20, prop_oneof![2 => think, 1 => drawn])
            .prop_map(|(clients, think_time_s)| Arrivals::Closed { clients, think_time_s }),
    ]
}

pub(super) fn traffic() -> impl Strategy<Value = Traffic> {
    let popularity = prop::sample::select(vec![
        Popularity::Uniform,
        Popularity::InTurn,
        Popularity::Shuffled,
        Popularity::Zipf { exponent: 1.2 },
    ]);
    let prefix = (1u32..50, 1u32..4, prop::option::of(1u32..4), popularity).prop_map(
        |(tokens, groups, prompts_per_group, popularity)| Prefix { tokens, groups, prompts_per_group, popularity },
    );
    let session =
        (1u32..5, 0.0..0.05, prop::option::of(50u32..150)).prop_map(|(turns, think, max_context_tokens)| Session {
            turns: LengthDistribution::uniform(1.0, f64::from(turns)).into(),
            think_time_s: Distribution::fixed(think),
            context_tokens: Distribution::fixed(0.0),
            max_context_tokens,
        });
    let parts = (prop::option::of(prefix), prop::option::weighted(0.3, session), any::<bool>());
    (lengths(), lengths(), parts, arrivals(), 1u32..60, any::<u64>()).prop_map(
        |(input, output, (prefix, session, urgent), arrivals, requests, seed)| {
            let class = |priority: i32| ClassSpec { name: priority.to_string(), priority, ..ClassSpec::default() };
            let workload = WorkloadSpec {
                requests: Some(requests),
                arrivals: Some(arrivals),
                input: Some(input),
                output: Some(output),
                prefix,
                session,
                classes: if urgent { vec![class(0), class(-1)] } else { Vec::new() },
                ..WorkloadSpec::default()
            };
            Traffic { workload, trace: None, seed }
        },
    )
}

pub(super) fn config() -> impl Strategy<Value = SchedulerConfig> {
    let limits = (1u32..24, prop_oneof![8u32..40, 40u32..400], prop::sample::select(vec![1u32, 4, 16]));
    (limits, 2u32..400, any::<[bool; 3]>(), prop::bool::weighted(0.2)).prop_map(
        |((max_num_seqs, max_num_batched_tokens, block_size), spare, flags, priority)| SchedulerConfig {
            max_model_len: MAX_MODEL_LEN,
            max_num_seqs,
            max_num_batched_tokens,
            block_size,
            num_gpu_blocks: (MAX_MODEL_LEN + spare).div_ceil(block_size) + 2,
            kv_groups: vec![KvGroup { attention: engine::GroupAttention::Full, block_size }],
            enable_prefix_caching: flags[0],
            async_scheduling: flags[1],
            scheduler_reserve_full_isl: flags[2],
            policy: if priority { Policy::Priority } else { Policy::Fcfs },
            ..SchedulerConfig::default()
        },
    )
}

fn run(config: &SchedulerConfig, version: &str, traffic: &Traffic, options: SimulationOptions) -> Outcome {
    let rules = EngineRules::of(version.parse().unwrap()).unwrap().scheduler;
    simulate(Cluster::single(config.clone(), rules, timer), traffic, &options).unwrap()
}

/// What the clients did, by request.
fn sent(outcome: &Outcome) -> BTreeMap<u32, (u64, u32)> {
    let finished = &outcome.finished;
    let sent = finished.sent_ns.iter().copied().zip(finished.input_tokens.iter().copied());
    finished.request.iter().copied().zip(sent).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// INV-9: decode runs give the outcome of single steps, to the last bit. INV-1, INV-10 and INV-11 are asserted on the
    /// way. INV-6: a second run is equal.
    #[test]
    fn runs_give_the_outcome_of_single_steps(
        config in config(),
        traffic in traffic(),
        version in prop::sample::select(vec!["0.19.1", "0.24.0", "0.33.0"]),
        front_end in prop_oneof![Just(FrontEnd::default()), Just(FrontEnd { request_us: 300.0, prompt_token_us: 2.0 })],
    ) {
        let fast = run(&config, version, &traffic, SimulationOptions { front_end, ..SimulationOptions::default() });
        prop_assert_eq!(&fast, &run(&config, version, &traffic, SimulationOptions { front_end, exact: true, ..SimulationOptions::default() }));
        prop_assert_eq!(&fast, &run(&config, version, &traffic, SimulationOptions { front_end, ..SimulationOptions::default() }));
        prop_assert_eq!(Some(sent(&fast).len() as u32 + fast.rejected.total()), traffic.workload.requests, "INV-1");
        let tokens: f64 = fast.timeline.iter().map(|i| i.output_tokens_per_s * i.length_s).sum();
        prop_assert!((tokens - fast.finished.total_output_tokens() as f64).abs() < 1e-3, "tokens over time");
        let full = |interval: &Interval| interval.running <= f64::from(config.max_num_seqs) + 1e-9;
        prop_assert!(fast.timeline.iter().all(|i| full(i) && (0.0..=1.0 + 1e-9).contains(&i.kv_cache)));
        if let (Some(p50), Some(max)) = (fast.itl_ms.get(Statistic::P50), fast.itl_ms.get(Statistic::Max)) {
            prop_assert!(p50 <= max && max * 1e6 <= fast.duration_s * 1e9);
        }
        // A request has one gap less than tokens; their sum is what lies between its first token and its last.
        let finished = &fast.finished;
        let gaps: u64 = finished.output_tokens.iter().map(|&tokens| u64::from(tokens - 1)).sum();
        let between = finished.first_token_ns.iter().zip(&finished.last_token_ns).map(|(first, last)| last - first);
        if gaps > 0 {
            let mean_ms = between.sum::<u64>() as f64 / NS_PER_MS / gaps as f64;
            prop_assert!((fast.itl_ms.mean().unwrap() / mean_ms - 1.0).abs() < 1e-9);
        }
    }

    /// Common random numbers: other settings are offered the same requests.
    #[test]
    fn other_settings_get_the_same_requests(one in config(), other in config(), traffic in traffic()) {
        let mut traffic = traffic;
        // Which turn comes first depends on the server; what a turn holds does not (`source`).
        traffic.workload.session = None;
        let open = matches!(
            traffic.workload.arrivals,
            Some(Arrivals::Open { concurrency: None, .. } | Arrivals::Schedule { concurrency: None, .. })
        );
        let [one, other] = [one, other].map(|config| sent(&run(&config, "0.19.1", &traffic, SimulationOptions::default())));
        prop_assert!(one.keys().eq(other.keys()));
        prop_assert!(one.values().zip(other.values()).all(|(one, other)| one.1 == other.1 && (!open || one.0 == other.0)));
    }

    /// No more requests are in flight than clients or the cap allow.
    #[test]
    fn clients_wait_for_their_answers(config in config(), traffic in traffic()) {
        let fixed_s = |think: &Distribution| match think {
            Distribution::Shaped(think) if think.min.is_none() && traffic.workload.session.is_none() => think.mean,
            _ => 0.0,
        };
        let (limit, think) = match &traffic.workload.arrivals {
            Some(Arrivals::Closed { clients, think_time_s }) => (*clients, (fixed_s(think_time_s) * NS_PER_S) as u64),
            Some(
                Arrivals::Open { concurrency: Some(limit), .. } | Arrivals::Schedule { concurrency: Some(limit), .. },
            ) => (*limit, 0),
            _ => return Ok(()),
        };
        let outcome = run(&config, "0.33.0", &traffic, SimulationOptions::default());
        let finished = &outcome.finished;
        let ends = finished.last_token_ns.iter().map(|&end| (end + think, -1));
        let mut events: Vec<_> = finished.sent_ns.iter().map(|&sent| (sent, 1)).chain(ends).collect();
        events.sort_unstable();
        let mut in_flight = 0i64;
        for (_, change) in events {
            in_flight += change;
            prop_assert!(in_flight <= i64::from(limit));
        }
    }
}

/// Requests of fixed lengths.
pub(super) fn fixed(input: f64, output: f64, arrivals: Arrivals, requests: u32) -> Traffic {
    let workload = WorkloadSpec {
        requests: Some(requests),
        arrivals: Some(arrivals),
        input: Some(Distribution::fixed(input)),
        output: Some(Distribution::fixed(output)),
        ..WorkloadSpec::default()
    };
    Traffic { workload, trace: None, seed: 1 }
}

fn by_hand(async_scheduling: bool, exact: bool) -> Outcome {
    let traffic = fixed(20.0, 3.0, Arrivals::Open { rate_per_s: 250.0, gaps: Gaps::Constant, concurrency: None }, 2);
    let config = SchedulerConfig { async_scheduling, ..SchedulerConfig::default() };
    let rules = EngineRules::of_default_version().scheduler;
    let cluster = Cluster::single(config, rules, |_: &Batch| 1e4);
    simulate(cluster, &traffic, &SimulationOptions { exact, ..SimulationOptions::default() }).unwrap()
}

#[test]
fn times_are_those_worked_out_by_hand() {
    for exact in [false, true] {
        // Requests at 4 and 8 ms, steps of 10 ms. Synchronous: steps start at 4, 14, 24 and 34; the second request
        // is in the second.
        let outcome = by_hand(false, exact);
        let ms = |column: &[u64]| column.iter().map(|&ns| ns / 1_000_000).collect::<Vec<_>>();
        assert_eq!(ms(&outcome.finished.first_token_ns), [14, 24]);
        assert_eq!(ms(&outcome.finished.last_token_ns), [34, 44]);
        assert_eq!(ms(&outcome.finished.admitted_ns), [4, 14]);
        // Asynchronous: the second step is scheduled at 4, too, before the second request is there.
        let outcome = by_hand(true, exact);
        assert_eq!(ms(&outcome.finished.first_token_ns), [14, 34]);
        assert_eq!(ms(&outcome.finished.last_token_ns), [34, 54]);
        assert_eq!(outcome.itl_ms.mean(), Some(10.0));
        assert_eq!(outcome.finished.tpot_ms().mean(), Some(10.0));
    }
}

#[test]
fn overload_is_said_and_grows() {
    let open = |rate_per_s| Arrivals::Open { rate_per_s, gaps: Gaps::Poisson, concurrency: None };
    let traffic = |requests| fixed(100.0, 50.0, open(1000.0), requests);
    let config = SchedulerConfig { max_num_seqs: 8, ..SchedulerConfig::default() };
    let rules = EngineRules::of_default_version().scheduler;
    let run = |traffic: &Traffic| {
        simulate(Cluster::single(config.clone(), rules, |_: &Batch| 5e3), traffic, &SimulationOptions::default())
            .unwrap()
    };
    let (short, long) = (run(&traffic(200)), run(&traffic(400)));
    assert!(short.saturated && long.saturated);
    let ttft = |outcome: &Outcome| outcome.finished.ttft_ms().mean().unwrap();
    assert!(ttft(&long) > 1.8 * ttft(&short));
    assert!(!run(&fixed(100.0, 50.0, open(1.0), 50)).saturated);
}

#[test]
fn a_request_that_can_never_finish_is_an_error() {
    for scheduler_reserve_full_isl in [false, true] {
        for (input, output) in [(300.0, 10.0), (200.0, 200.0)] {
            let arrivals = Arrivals::Closed { clients: 2, think_time_s: Distribution::fixed(0.0) };
            let traffic = fixed(input, output, arrivals, 4);
            let config =
                SchedulerConfig { num_gpu_blocks: 17, scheduler_reserve_full_isl, ..SchedulerConfig::default() };
            let rules = EngineRules::of_default_version().scheduler;
            let error =
                simulate(Cluster::single(config, rules, timer), &traffic, &SimulationOptions::default()).unwrap_err();
            assert!(error.to_string().contains("more than the 16 blocks"), "{error}");
        }
    }
}
