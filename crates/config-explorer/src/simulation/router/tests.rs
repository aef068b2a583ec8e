//! The whole router on small pools, and properties that hold for all.

use proptest::prelude::*;

use super::*;

fn endpoints(roles: &[&str]) -> Vec<Endpoint> {
    let endpoint = |(at, role): (usize, &&str)| Endpoint {
        name: format!("pod-{at}"),
        labels: [(ROLE_LABEL.to_owned(), (*role).to_owned())]
            .into_iter()
            .filter(|(_, role)| !role.is_empty())
            .collect(),
        ..Endpoint::default()
    };
    roles.iter().enumerate().map(endpoint).collect()
}

fn router(config: &str, roles: &[&str]) -> Router {
    let options = LoadOptions { strict: true, ..LoadOptions::default() };
    let config = RouterConfig::load(config, &options, "test").unwrap();
    Router::new(&config, endpoints(roles), 7).unwrap()
}

fn config(plugins: &str, profiles: &str) -> String {
    format!(
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins: {plugins}\nschedulingProfiles: {profiles}"
    )
}

fn reason(config: &str) -> String {
    RouterConfig::load(config, &LoadOptions::default(), "test").unwrap_err().to_string()
}

const DISAGGREGATED: (&str, &str) = (
    "[{type: prefix-based-pd-decider, parameters: {nonCachedTokens: 16}}, {type: disagg-profile-handler, parameters: \
      {deciders: {prefill: prefix-based-pd-decider}}}, {type: prefill-filter}, {type: decode-filter}, \
      {type: queue-scorer}, {type: inflight-load-producer}]",
    "[{name: prefill, plugins: [{pluginRef: prefill-filter}]}, {name: decode, plugins: [{pluginRef: decode-filter}, \
      {pluginRef: queue-scorer}]}]",
);

#[test]
fn a_cached_prompt_is_not_disaggregated() {
    let mut router = router(&config(DISAGGREGATED.0, DISAGGREGATED.1), &["prefill", "decode"]);
    let prompts: &[Vec<u32>] = &[(0..1000).collect()];
    let request = Request { id: 1, token_count: 1000, prompt: &prompts, ..Request::EMPTY };
    let first = router.schedule(&request, 0.0).unwrap();
    assert_eq!((first.decode, first.prefill), (vec![1], vec![0]));
    // Cold, 16 blocks of 64.
    assert_eq!(router.states()[0].in_flight, InFlight { requests: 1, tokens: 1024 });
    router.answered(1, false);
    assert_eq!(router.states()[0].in_flight, InFlight::default());
    assert_eq!(router.states()[1].in_flight, InFlight { requests: 1, tokens: 0 });
    router.answered(1, true);
    assert_eq!(router.states()[1].in_flight, InFlight::default());

    let again = router.schedule(&Request { id: 2, ..request }, 1.0).unwrap();
    assert_eq!((again.decode, again.prefill), (vec![1], vec![]));
}

#[test]
fn who_is_dead_gets_nothing() {
    let mut router = router("", &["", ""]);
    router.set_alive(0, false);
    let request = Request::EMPTY;
    assert!((0..20).all(|id| router.schedule(&Request { id, ..request }, 0.0).unwrap().decode == [1]));
    router.set_alive(1, false);
    assert_eq!(router.schedule(&request, 0.0), Err(Refusal::NoEndpoint));
}

#[test]
fn what_is_not_simulated_is_named_and_skipped_or_refused() {
    let text = config(
        "[{type: topology-affinity-scorer}, {type: queue-scorer}]",
        "[{name: a, plugins: [{pluginRef: \
                       topology-affinity-scorer}, {pluginRef: queue-scorer}]}]",
    );
    let loaded = RouterConfig::load(&text, &LoadOptions::default(), "test").unwrap();
    assert!(loaded.warnings[0].contains("topology-affinity-scorer"), "{:?}", loaded.warnings);
    assert!(loaded.profiles[0].plugins.iter().all(|(name, _)| name != "topology-affinity-scorer"));
    let strict = LoadOptions { strict: true, ..LoadOptions::default() };
    let refused = RouterConfig::load(&text, &strict, "test").unwrap_err().to_string();
    assert!(refused.contains("topology-affinity-scorer"), "{refused}");
}

#[test]
fn wrong_files_say_where_and_what() {
    for (plugins, profiles, expected) in [
        ("[{type: queue-scorer}]", "[{name: a, plugins: [{pluginRef: x}]}]", "references undefined plugin 'x'"),
        ("[{type: queue-scorer}, {type: queue-scorer}]", "[]", "two plugins are named"),
        ("[{type: load-aware-scorer, parameters: {limit: 1}}]", "[]", "unknown field `limit`"),
        ("[{type: token-load-scorer}]", "[]", "UncachedTokens"),
        ("[{type: queue-scorer}]", "[{name: a, plugins: [{pluginRef: queue-scorer, weight: .nan}]}]", "finite"),
        ("[{type: disagg-profile-handler, parameters: {deciders: {prefill: x}}}]", "[]", "plugin not found: x"),
    ] {
        let reason = reason(&config(plugins, profiles));
        assert!(reason.contains(expected), "{reason}");
    }
    assert!(reason("kind: Pod\napiVersion: llm-d.ai/v1alpha1").contains("EndpointPickerConfig"));
    assert!(reason("[").starts_with("test: decode"));
}

#[test]
fn flow_control_keeps_priorities_apart() {
    let text = config("[{type: round-robin-fairness-policy}]", "[]")
        + "\nfeatureGates: [flowControl]\nflowControl: {maxRequests: 3, defaultRequestTTL: 1s, defaultPriorityBand: \
           {fairnessPolicyRef: round-robin-fairness-policy}}";
    let loaded = RouterConfig::load(&text, &LoadOptions::default(), "test").unwrap();
    let mut control = FlowControl::new(loaded.flow_control_settings().unwrap());
    let item = |id| Item { id, enqueued_ms: id as f64, ..Item::default() };
    for (id, priority, flow) in [(1, 0, "a"), (2, 0, "a"), (3, 5, "b")] {
        assert_eq!(control.enqueue(priority, flow, item(id)), QueueOutcome::Dispatched);
    }
    assert_eq!(control.enqueue(9, "c", item(4)), QueueOutcome::RejectedCapacity);
    assert_eq!(control.next(1.0, 5.0), None);
    assert_eq!(control.next(0.5, 5.0), Some(3));
    assert_eq!(control.enqueue(0, "b", item(5)), QueueOutcome::Dispatched);
    assert_eq!([control.next(0.5, 5.0), control.next(0.5, 5.0)], [Some(1), Some(5)]);
    assert_eq!(control.expire(false, 1002.0), [(2, QueueOutcome::EvictedTtl)]);
    assert_eq!((control.waiting(), control.next(0.0, 1002.0)), (0, None));
}

/// Every scorer, in one profile.
const SCORERS: [&str; 8] = [
    "queue-scorer",
    "running-requests-size-scorer",
    "kv-cache-utilization-scorer",
    "load-aware-scorer",
    "active-request-scorer",
    "prefix-cache-scorer",
    "no-hit-lru-scorer",
    "lora-affinity-scorer",
];

proptest! {
    #[test]
    fn someone_alive_is_picked_and_the_same_again(
        loads in prop::collection::vec((0_u64..200, 0_u64..200, 0.0..1.2_f64), 1..8),
        requests in prop::collection::vec((0_u32..4, 1_usize..300), 1..30),
    ) {
        let plugins = format!("[{}]", SCORERS.map(|name| format!("{{type: {name}}}")).join(", "));
        let references = SCORERS.map(|name| format!("{{pluginRef: {name}}}")).join(", ");
        let text = config(&plugins, &format!("[{{name: default, plugins: [{references}]}}]"));
        let run = || {
            let mut router = router(&text, &vec![""; loads.len()]);
            for (at, &(waiting, running, kv_usage)) in loads.iter().enumerate() {
                *router.metrics_mut(at).unwrap() = Metrics { waiting, running, kv_usage, ..Metrics::default() };
            }
            let mut sent = 0;
            let choices: Vec<_> = requests.iter().enumerate().map(|(id, &(kind, length))| {
                let prompts: &[Vec<u32>] = &[(kind..kind + length as u32).collect()];
                let request = Request { id: id as u64, token_count: length as i64, prompt: &prompts, ..Request::EMPTY };
                sent += 1;
                router.schedule(&request, id as f64).unwrap().decode[0]
            }).collect();
            let in_flight: i64 = router.states().iter().map(|state| state.in_flight.requests).sum();
            assert_eq!(in_flight, sent, "every request is in flight somewhere");
            (0..sent).for_each(|id| router.answered(id as u64, true));
            assert!(router.states().iter().all(|state| state.in_flight == InFlight::default()));
            choices
        };
        let choices = run();
        prop_assert!(choices.iter().all(|&at| at < loads.len()));
        prop_assert_eq!(choices, run());
    }

    #[test]
    fn any_text_is_loaded_or_refused(text in "\\PC{0,200}") {
        let _ = RouterConfig::load(&text, &LoadOptions::default(), "test");
    }
}
