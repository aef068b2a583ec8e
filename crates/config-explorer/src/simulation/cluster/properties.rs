//! Properties over random clusters, and cases worked out by hand; the numbers are those of `docs/invariants.md`.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::Result;
use crate::engine::EngineRules;
use crate::simulation::engine::{Batch, SchedulerConfig};
use crate::simulation::outcome::Outcome;
use crate::simulation::properties::{config, fixed, timer, traffic};
use crate::simulation::router::{LoadOptions, RouterConfig};
use crate::simulation::traffic::Traffic;
use crate::workload::{Arrivals, ClassSpec, Gaps, LengthDistribution, Prefix, Statistic};

type Timer = fn(&Batch) -> f64;

/// Prompts are computed apart where enough of them is not cached.
const DISAGGREGATED: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: prefix-based-pd-decider, parameters: {nonCachedTokens: 16}}
- {type: disagg-profile-handler, parameters: {deciderPluginName: prefix-based-pd-decider}}
- type: prefill-filter
- type: decode-filter
- type: prefix-cache-scorer
- type: active-request-scorer
- type: queue-scorer
schedulingProfiles:
- name: prefill
  plugins: [{pluginRef: prefill-filter}, {pluginRef: prefix-cache-scorer, weight: 2}, {pluginRef: queue-scorer}]
- name: decode
  plugins: [{pluginRef: decode-filter}, {pluginRef: active-request-scorer}, {pluginRef: prefix-cache-scorer}]
";

/// An index that the engines keep up to date.
const PRECISE: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: precise-prefix-cache-producer
  parameters: {tokenProcessorConfig: {blockSize: 16}, speculativeIndexing: true}
- type: prefix-cache-scorer
  parameters: {prefixMatchInfoProducerName: precise-prefix-cache-producer}
- type: queue-scorer
schedulingProfiles:
- name: default
  plugins: [{pluginRef: prefix-cache-scorer, weight: 3}, {pluginRef: queue-scorer}]
";

/// Requests wait at the router while four for each engine are in flight.
const QUEUEING: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [flowControl]
plugins:
- type: queue-scorer
- {type: concurrency-detector, parameters: {maxConcurrency: 4}}
schedulingProfiles:
- name: default
  plugins: [{pluginRef: queue-scorer}]
flowControl:
  maxRequests: 20
  defaultRequestTTL: 2s
  saturationDetector: {pluginRef: concurrency-detector}
";

fn routed(text: &str) -> Routing {
    Routing::Router(Box::new(RouterConfig::load(text, &LoadOptions::default(), "test").unwrap()))
}

fn group(scheduler: &SchedulerConfig, version: &str) -> EngineGroup<Timer> {
    let rules = EngineRules::of(version.parse().unwrap()).unwrap().scheduler;
    EngineGroup::new(scheduler.clone(), rules, timer as Timer)
}

fn groups() -> impl Strategy<Value = Vec<EngineGroup<Timer>>> {
    let role = prop::sample::select(vec![EngineRole::Both, EngineRole::Both, EngineRole::Prefill, EngineRole::Decode]);
    let parallel = (prop::sample::select(vec![1u32, 1, 1, 2, 3]), any::<bool>());
    let failure = (0u32..3, 0.0..1.0, prop_oneof![0.001..0.5, Just(f64::INFINITY)]);
    let starts_s = prop::collection::vec(prop_oneof![3 => Just(0.0), 1 => 0.0..0.4], 0..4);
    let version = prop::sample::select(vec!["0.19.1", "0.24.0", "0.33.0"]);
    let one = (role, 1u32..4, parallel, prop::collection::vec(failure, 0..2), starts_s, 1u32..20, version);
    (config(), prop::collection::vec(one, 1..4)).prop_map(|(config, groups)| {
        let mut groups: Vec<_> = groups
            .into_iter()
            .map(|(role, replicas, (ranks, lockstep), failures, starts_s, max_num_seqs, version)| EngineGroup {
                name: format!("{role:?}"),
                role,
                replicas,
                data_parallel: DataParallel { ranks, lockstep },
                starts_s,
                failures: failures
                    .into_iter()
                    .filter(|failure| failure.0 < replicas)
                    .map(|(replica, down_s, length)| Failure { replica, down_s, up_s: down_s + length })
                    .collect(),
                ..group(&SchedulerConfig { max_num_seqs, ..config.clone() }, version)
            })
            .collect();
        if groups.iter().all(|group| group.role == EngineRole::Prefill) {
            groups[0].role = EngineRole::Decode;
        }
        groups
    })
}

fn clusters() -> impl Strategy<Value = Cluster<Timer>> {
    let routing = prop_oneof![
        Just(Routing::RoundRobin),
        Just(Routing::LeastRequests),
        Just(Routing::Random),
        prop::sample::select(vec!["", DISAGGREGATED, DISAGGREGATED, PRECISE, QUEUEING]).prop_map(routed),
    ];
    let bandwidth = prop_oneof![Just(f64::INFINITY), 1e5..1e9];
    let transfer =
        (bandwidth, prop_oneof![Just(0.0), 0.0..0.01]).prop_map(|(bandwidth_bytes_per_s, base_latency_s)| KvTransfer {
            bytes_per_token: 1000.0,
            bandwidth_bytes_per_s,
            base_latency_s,
        });
    (groups(), routing, transfer).prop_map(|(groups, routing, transfer)| {
        let needs = groups.iter().any(|group| group.role == EngineRole::Prefill);
        let disaggregates = matches!(&routing, Routing::Router(config) if config.profiles.len() > 1);
        Cluster { groups, routing, transfer: (needs || disaggregates).then_some(transfer) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// INV-9 and INV-6 for clusters. INV-1, INV-10, INV-11 and INV-12 are asserted on the way; here, that nobody is lost
    /// and nobody answered twice.
    #[test]
    fn clusters_give_the_outcome_of_single_steps(
        cluster in clusters(),
        traffic in traffic(),
        retry: bool,
        hold_s in 0.0..2.0,
        front_end in prop_oneof![Just(FrontEnd::default()), Just(FrontEnd { request_us: 300.0, prompt_token_us: 2.0 })],
    ) {
        let run = |exact| {
            let options = SimulationOptions { front_end, retry, exact, hold_s };
            simulate(cluster.clone(), &traffic, &options).map_err(|error| error.to_string())
        };
        let fast = run(false);
        prop_assert_eq!(&fast, &run(true));
        prop_assert_eq!(&fast, &run(false));
        let fast = match fast {
            Ok(fast) => fast,
            // Loaded blocks keep a more urgent request out, and it keeps out those that they belong to: vLLM waits for ever.
            Err(error) => {
                prop_assert!(cluster.transfer.is_some() && error.contains("for ever"), "{}", error);
                return Ok(());
            }
        };
        let finished = &fast.finished;
        let answered = finished.request.iter().collect::<BTreeSet<_>>().len() as u32;
        prop_assert_eq!(answered as usize, finished.len());
        prop_assert_eq!(Some(answered + fast.rejected.total() + fast.failed), traffic.workload.requests, "INV-1");
        let retried = if retry { fast.failed..=u32::MAX } else { 0..=0 };
        prop_assert!(retried.contains(&fast.retried));
        prop_assert_eq!(fast.engines.iter().map(|engine| engine.answered).sum::<u32>(), answered);
        prop_assert!(fast.engines.iter().all(|engine| engine.timeline.len() <= fast.timeline.len()));
        prop_assert!(finished.last_token_ns.is_sorted());
        let fails = cluster.groups.iter().any(|group| !group.failures.is_empty());
        prop_assert!(fails || fast.failed == 0);
        if !fails {
            let tokens: f64 = fast.timeline.iter().map(|i| i.output_tokens_per_s * i.length_s).sum();
            prop_assert!((tokens - finished.total_output_tokens() as f64).abs() < 1e-3, "tokens over time");
        }
    }
}

fn open(rate_per_s: f64, input: f64, output: f64, requests: u32) -> Traffic {
    fixed(input, output, Arrivals::Open { rate_per_s, gaps: Gaps::Constant, concurrency: None }, requests)
}

/// Steps of 10 ms.
fn steady(replicas: u32) -> EngineGroup<Timer> {
    let config = SchedulerConfig { async_scheduling: false, ..SchedulerConfig::default() };
    let rules = EngineRules::of_default_version().scheduler;
    EngineGroup { replicas, ..EngineGroup::new(config, rules, (|_| 1e4) as Timer) }
}

fn run(cluster: Cluster<Timer>, traffic: &Traffic, retry: bool) -> Result<Outcome> {
    simulate(cluster, traffic, &SimulationOptions { retry, ..SimulationOptions::default() })
}

fn ms(column: &[u64]) -> Vec<u64> {
    column.iter().map(|&ns| ns / 1_000_000).collect()
}

#[test]
fn a_prompt_is_computed_transferred_and_answered() {
    // Two requests at 10 and 20 ms, computed until 20 and 30 ms. 100 tokens of 10,000 bytes at 100 MB/s take 10 ms and
    // 2 ms of latency, one transfer after the other. Tokens come from then on.
    let group = |role| EngineGroup { role, ..steady(1) };
    let transfer = KvTransfer { bytes_per_token: 1e4, bandwidth_bytes_per_s: 1e8, base_latency_s: 0.002 };
    for (routing, one_pool) in
        [(Routing::RoundRobin, false), (routed(DISAGGREGATED), false), (Routing::RoundRobin, true)]
    {
        let groups =
            vec![group(EngineRole::Prefill), group(if one_pool { EngineRole::Both } else { EngineRole::Decode })];
        let cluster = Cluster { groups, routing, transfer: Some(transfer) };
        let outcome = run(cluster, &open(100.0, 100.0, 3.0, 2), false).unwrap();
        let finished = &outcome.finished;
        assert_eq!(ms(&finished.admitted_ns), [10, 20]);
        assert_eq!(ms(&finished.first_token_ns), [42, 52]);
        assert_eq!(ms(&finished.last_token_ns), [62, 72]);
        assert_eq!((outcome.transfers.count, outcome.transfers.tokens), (2, 200));
        assert!((outcome.transfers.time_ms.mean().unwrap() - 12.0).abs() < 0.01);
        assert_eq!((outcome.engines[0].prefilled, outcome.engines[1].answered), (2, 2));
        assert!(outcome.engines[0].timeline.last().unwrap().kv_cache < 1e-9);
    }
}

#[test]
fn a_failure_costs_what_the_replica_held() {
    // A request every 10 ms, of 50 ms, in turn to both. The first one fails at 95 ms, when it holds 3; the notice comes at
    // 100 ms. The request of that moment is just before it.
    let fails = |up_s| {
        let failures = vec![Failure { replica: 0, down_s: 0.095, up_s }];
        Cluster { groups: vec![EngineGroup { failures, ..steady(2) }], routing: Routing::RoundRobin, transfer: None }
    };
    let traffic = open(100.0, 10.0, 5.0, 40);
    let outcome = run(fails(f64::INFINITY), &traffic, false).unwrap();
    assert_eq!((outcome.failed, outcome.retried, outcome.rejected.total()), (3, 0, 0));
    assert!(outcome.finished.engine.iter().skip(10).all(|&engine| engine == 1));
    let retried = run(fails(f64::INFINITY), &traffic, true).unwrap();
    assert_eq!(retried.finished.len() as u32 + retried.failed, 40);
    // Of the 3, the second one is sent to the dead replica again; then it is the next request's turn there.
    assert_eq!((retried.retried, retried.failed), (4, 1));
    let longest = |outcome: &Outcome| outcome.finished.ttft_ms().get(Statistic::Max).unwrap();
    assert!(longest(&retried) > 40.0 + longest(&outcome), "{} {}", longest(&retried), longest(&outcome));
    // It comes back.
    let outcome = run(fails(0.2), &traffic, false).unwrap();
    let later = outcome.finished.engine.iter().skip(25).filter(|&&engine| engine == 0).count();
    assert!(later > 3, "{later}");
    // Nobody is left.
    let mut cluster = fails(f64::INFINITY);
    cluster.groups[0].failures.push(Failure { replica: 1, down_s: 0.095, up_s: f64::INFINITY });
    let outcome = run(cluster, &traffic, false).unwrap();
    assert!(outcome.failed > 3 && outcome.rejected.unavailable > 25);
}

#[test]
fn a_lost_prefill_leaves_the_prompt_to_decode() {
    let failures = vec![Failure { replica: 0, down_s: 0.015, up_s: f64::INFINITY }];
    let prefill = EngineGroup { role: EngineRole::Prefill, failures, ..steady(1) };
    let decode = EngineGroup { role: EngineRole::Decode, ..steady(1) };
    let transfer = Some(KvTransfer { bytes_per_token: 1e4, bandwidth_bytes_per_s: 1e8, base_latency_s: 0.0 });
    let cluster = Cluster { groups: vec![prefill, decode], routing: Routing::RoundRobin, transfer };
    let outcome = run(cluster, &open(100.0, 100.0, 3.0, 1), false).unwrap();
    assert_eq!(ms(&outcome.finished.first_token_ns), [25]);
    assert_eq!((outcome.transfers.count, outcome.failed), (0, 0));
}

/// The engine that computes the last prompt hears of the end of its request in the midst of a step.
#[test]
fn a_lost_decode_ends_the_prefill() {
    let failures = vec![Failure { replica: 0, down_s: 0.015, up_s: f64::INFINITY }];
    let prefill = EngineGroup { role: EngineRole::Prefill, ..steady(1) };
    let decode = EngineGroup { role: EngineRole::Decode, failures, ..steady(1) };
    let transfer = Some(KvTransfer { bytes_per_token: 1e4, bandwidth_bytes_per_s: 1e8, base_latency_s: 0.0 });
    let cluster = Cluster { groups: vec![prefill, decode], routing: Routing::RoundRobin, transfer };
    let outcome = run(cluster, &open(100.0, 100.0, 3.0, 1), false).unwrap();
    assert_eq!((outcome.finished.len(), outcome.failed), (0, 1));
}

/// Nobody comes for the blocks of the second prompt while the only place to decode is taken: the engine that answers
/// computes it.
#[test]
fn blocks_that_nobody_comes_for_are_given_back() {
    let prefill = EngineGroup { role: EngineRole::Prefill, ..steady(1) };
    let mut decode = EngineGroup { role: EngineRole::Decode, ..steady(1) };
    decode.scheduler.max_num_seqs = 1;
    let transfer = Some(KvTransfer { bytes_per_token: 1e4, bandwidth_bytes_per_s: 1e9, base_latency_s: 0.0 });
    let cluster = Cluster { groups: vec![prefill, decode], routing: Routing::RoundRobin, transfer };
    let transfers = |hold_s| {
        let options = SimulationOptions { hold_s, ..SimulationOptions::default() };
        let outcome = simulate(cluster.clone(), &open(100.0, 100.0, 50.0, 2), &options).unwrap();
        assert_eq!((outcome.finished.len(), outcome.engines[0].prefilled), (2, 2));
        outcome.transfers.count
    };
    assert_eq!((transfers(480.0), transfers(0.1)), (2, 1));
}

#[test]
fn ranks_in_lockstep_step_together() {
    // The first rank computes a prompt of 30 ms while the second one decodes: its steps are as long.
    let slow: Timer = |batch| if batch.chunks().count() > 0 { 3e4 } else { 1e4 };
    let run = |lockstep| {
        let data_parallel = DataParallel { ranks: 2, lockstep };
        let groups = vec![EngineGroup { data_parallel, timer: slow, ..steady(1) }];
        run(Cluster { groups, routing: Routing::RoundRobin, transfer: None }, &open(20.0, 10.0, 4.0, 2), false).unwrap()
    };
    // At 50 and 100 ms. Alone: 80, 90, 100, 110 and 130, 140, 150, 160.
    assert_eq!(ms(&run(false).finished.last_token_ns), [110, 160]);
    // The second one's prompt is in the step from 100 ms on.
    let outcome = run(true);
    assert_eq!(ms(&outcome.finished.last_token_ns), [130, 160]);
    assert_eq!(outcome.steps, 7);
}

#[test]
fn flow_control_queues_sheds_and_expires() {
    let cluster = || Cluster { groups: vec![steady(1)], routing: routed(QUEUEING), transfer: None };
    // Four at once in flight, each 100 ms; 20 wait, of which those beyond 2 s are turned away, and others are refused.
    let outcome = run(cluster(), &open(100.0, 10.0, 10.0, 400), false).unwrap();
    assert!(outcome.rejected.overload > 150, "{:?}", outcome.rejected);
    assert!(outcome.saturated);
    let running = outcome.timeline.iter().map(|interval| interval.running).fold(0.0, f64::max);
    assert!(running <= 4.0 + 1e-9, "{running}");
    let waiting = outcome.timeline.iter().map(|interval| interval.waiting).fold(0.0, f64::max);
    assert!(waiting > 19.0 && waiting <= 20.0 + 1e-9, "{waiting}");
    let outcome = run(cluster(), &open(20.0, 10.0, 10.0, 100), false).unwrap();
    assert_eq!((outcome.rejected.total(), outcome.saturated), (0, false));
    let never = vec![EngineGroup { starts_s: vec![1e6], ..steady(1) }];
    let outcome = run(Cluster { groups: never, ..cluster() }, &open(20.0, 10.0, 10.0, 10), false).unwrap();
    assert_eq!(outcome.rejected.unavailable, 10);
}

#[test]
fn urgent_requests_pass_the_queue_first() {
    let mut traffic = open(60.0, 10.0, 10.0, 200);
    let class =
        |name: &str, priority| ClassSpec { name: name.to_owned(), share: Some(0.5), priority, ..ClassSpec::default() };
    traffic.workload.classes = vec![class("urgent", 0), class("patient", 3)];
    let cluster = Cluster { groups: vec![steady(1)], routing: routed(QUEUEING), transfer: None };
    let finished = run(cluster, &traffic, false).unwrap().finished;
    let longest = |class: u16| {
        let rows = finished.class.iter().zip(finished.sent_ns.iter().zip(&finished.admitted_ns));
        rows.filter(|row| *row.0 == class).map(|(_, (sent, admitted))| admitted - sent).max().unwrap()
    };
    assert!(longest(0) * 3 < longest(1), "{} {}", longest(0), longest(1));
}

#[test]
fn a_router_prefers_the_replica_that_has_the_prefix() {
    let mut traffic = open(20.0, 32.0, 8.0, 400);
    traffic.workload.prefix = Some(Prefix { groups: 4, tokens: 480, ..Prefix::default() });
    let hits = |routing| {
        let cluster = Cluster { groups: vec![steady(4)], routing, transfer: None };
        run(cluster, &traffic, false).unwrap().finished.prefix_hit_rate()
    };
    let [random, approximate, precise] = [Routing::Random, routed(""), routed(PRECISE)].map(hits);
    assert!(approximate > random && precise > random, "{random} {approximate} {precise}");
}

#[test]
fn engines_take_part_from_their_start_on() {
    let groups = vec![EngineGroup { starts_s: vec![0.5], ..steady(1) }, steady(1)];
    let outcome =
        run(Cluster { groups, routing: Routing::LeastRequests, transfer: None }, &open(100.0, 10.0, 2.0, 100), false)
            .unwrap();
    let late =
        |engine: u32| outcome.finished.engine.iter().zip(&outcome.finished.sent_ns).filter(move |row| *row.0 == engine);
    assert!(late(0).all(|row| *row.1 >= 500_000_000) && late(0).count() > 10);
}

#[test]
fn what_cannot_run_is_refused() {
    let refused = |cluster: Cluster<Timer>| run(cluster, &open(1.0, 10.0, 2.0, 1), false).unwrap_err().to_string();
    let of = |groups| Cluster { groups, routing: Routing::RoundRobin, transfer: None };
    assert!(refused(of(Vec::new())).contains("no engine"));
    assert!(refused(of(vec![steady(0)])).contains("no engine"));
    assert!(refused(of(vec![EngineGroup { role: EngineRole::Prefill, ..steady(1) }])).contains("no engine"));
    let prefill = EngineGroup { role: EngineRole::Prefill, ..steady(1) };
    assert!(refused(of(vec![prefill, steady(1)])).contains("send the KV cache"));
    let failures = vec![Failure { replica: 1, down_s: 1.0, up_s: 2.0 }];
    assert!(refused(of(vec![EngineGroup { failures, ..steady(1) }])).contains("a replica of its group"));
    let ranks = DataParallel { ranks: 0, lockstep: false };
    assert!(refused(of(vec![EngineGroup { data_parallel: ranks, ..steady(1) }])).contains("at least one rank"));
    let odd = SchedulerConfig { block_size: 10, ..steady(1).scheduler };
    let odd = EngineGroup {
        scheduler: SchedulerConfig {
            kv_groups: vec![crate::simulation::engine::KvGroup { block_size: 10, ..odd.kv_groups[0] }],
            ..odd
        },
        ..steady(1)
    };
    assert!(refused(Cluster { routing: routed(PRECISE), ..of(vec![odd]) }).contains("a multiple"));
}

/// A request that fills the model's length is refused by the engine; the others go on.
#[test]
fn a_prompt_too_long_is_refused() {
    let mut engine = steady(2);
    engine.scheduler.max_model_len = 100;
    let cluster = Cluster { groups: vec![engine], routing: routed(""), transfer: None };
    let mut traffic = open(50.0, 1.0, 4.0, 200);
    traffic.workload.input = Some(LengthDistribution::uniform(50.0, 149.0).into());
    let outcome = run(cluster, &traffic, false).unwrap();
    assert!((60..140).contains(&outcome.rejected.too_long), "{:?}", outcome.rejected);
    assert_eq!(outcome.finished.len() as u32 + outcome.rejected.too_long, 200);
}
