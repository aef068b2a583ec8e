//! Answers the recorded cases of llm-d's router from their inputs, one JSON line each.
//!
//! `cargo run --release --example router_conformance -- FILE`: `id`, `equal` or `unsupported` with the reason, and `computed`.

#![expect(clippy::print_stdout, reason = "a program prints its answers")]

mod compare;
mod inputs;

use std::collections::BTreeMap;

use config_explorer::simulation::router::{
    Admitter, ApproximateIndex, Chance, Disaggregated, Filter, Flow, FlowControlConfig, FlowControlSpec, InFlight,
    Item, LeastAttainedService, LoadOptions, Occupancy, Ordering, Outcome, Plugin, PrefixMatch, PrefixProducer,
    ProfileHandler, QueueOutcome, Request, Role, RouterConfig, Scorer, Stage, State, WaitBudget, add_weighted,
    admits_without_flow_control, block_hashes, estimated_tokens, fullest, gate_opens, normalized, parse_range,
    partition, split_blocks, ttft_objective_ms, uncached_tokens,
};
use serde_json::{Map, Value, json};

use compare::equal;
use inputs::{
    NOW_MS, Owned, Pool, count, decider_of, fields, list, number, plugin, reference, state, text, texts, tokens, whole,
    with_request,
};

/// What a case came to.
enum Answer {
    /// Computed from the inputs.
    Computed(Value),
    /// Not simulated, and why.
    Unsupported(String),
}

fn main() -> Result<(), String> {
    let path = std::env::args().nth(1).ok_or("usage: router_conformance FILE")?;
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let file: Value = serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
    for case in list(&file["vectors"]) {
        println!("{}", line(case));
    }
    Ok(())
}

/// The line of a case.
pub(crate) fn line(case: &Value) -> Value {
    match answer(case) {
        Answer::Computed(computed) => {
            json!({ "id": case["id"], "equal": equal(case, &computed), "computed": computed })
        }
        Answer::Unsupported(reason) => json!({ "id": case["id"], "unsupported": reason }),
    }
}

/// Answers a case from its inputs; what it expects is not read.
fn answer(case: &Value) -> Answer {
    computed(case).unwrap_or_else(|reason| Answer::Computed(json!({ "ok": false, "error": reason })))
}

fn computed(case: &Value) -> Result<Answer, String> {
    let (kind, op) = (text(&case["plugin"]), text(&case["op"]));
    let request = &case["request"];
    let pool = Pool::new(list(&case["endpoints"]));
    let unsupported = || Ok(Answer::Unsupported(format!("{op} of {kind} is not simulated")));
    let known = texts(&case["known_plugins"]);
    // Names that are no plugin's.
    let pseudo = ["scheduler", "prefix-hash", "flow-control-processor", "flow-control-config", "admission"];
    let is_pseudo =
        pseudo.contains(&kind.as_str()) || ["scheduler-profile", "endpoint-picker-config"].contains(&kind.as_str());
    let mut made = if is_pseudo {
        Plugin::default()
    } else {
        let Some(made) = plugin(&kind, &case["parameters"], &known)? else { return unsupported() };
        made
    };
    let answer = match op.as_str() {
        "construct" => json!({ "ok": true, "effective": made.effective }),
        "score" => {
            let Some(scorer) = &mut made.scorer else { return unsupported() };
            let raw = with_request(request, |request| score(scorer, request, &pool, &pool.all()));
            json!({ "scores": pool.by_name(&pool.all(), &raw) })
        }
        "filter" => {
            let Some(filter) = &mut made.filter else { return unsupported() };
            json!({ "kept": pool.names(&with_request(request, |request| kept(filter, request, &pool, 0))) })
        }
        "filter_distribution" => {
            let Some(filter) = &made.filter else { return unsupported() };
            let mut counts: BTreeMap<Vec<String>, usize> = BTreeMap::new();
            let draws = count(&case["expected"]["draws"]).max(1);
            for draw in 0..draws {
                let mut filter = filter.clone();
                let kept = with_request(request, |request| kept(&mut filter, request, &pool, draw as u64));
                *counts.entry(pool.names(&kept)).or_default() += 1;
            }
            let probabilities: Vec<_> =
                counts.iter().map(|(kept, &n)| json!({ "kept": kept, "p": n as f64 / draws as f64 })).collect();
            json!({ "probabilities": probabilities })
        }
        "pick" | "pick_distribution" => {
            let Some(picker) = made.picker else { return unsupported() };
            let scored = list(&case["scored"]);
            let names =
                |picked: &[(usize, f64)]| picked.iter().map(|&(at, _)| text(&scored[at]["name"])).collect::<Vec<_>>();
            let pick = |draw: usize| {
                let mut chosen = scored.iter().map(|scored| number(&scored["score"])).enumerate().collect();
                picker.pick(Chance { seed: 1, request: draw as u64 }, &mut chosen);
                chosen
            };
            if op == "pick" {
                json!({ "picked": names(&pick(0)) })
            } else {
                let draws = count(&case["expected"]["draws"]).max(1);
                let mut counts: BTreeMap<String, usize> =
                    scored.iter().map(|scored| (text(&scored["name"]), 0)).collect();
                for name in (0..draws).flat_map(|draw| names(&pick(draw))) {
                    *counts.entry(name).or_default() += 1;
                }
                let share = |(name, count)| (name, count as f64 / draws as f64);
                json!({ "inclusion_probability": counts.into_iter().map(share).collect::<BTreeMap<String, f64>>() })
            }
        }
        "profile_run" => profile_run(case, &pool),
        "schedule" => schedule(case, &pool)?,
        "sequence" => sequence(case, made),
        "index_sequence" => index_sequence(case),
        "block_size" => {
            let Some(PrefixProducer::Approximate(producer)) = &made.prefix else { return unsupported() };
            json!({ "block_size_tokens": producer.block_size_tokens(pool.states.first()) })
        }
        "split_blocks" => {
            let tokens = tokens(&case["tokens"]);
            json!({ "blocks": split_blocks(&tokens, count(&case["parameters"]["block_size_tokens"])).collect::<Vec<_>>() })
        }
        "count_blocks" => {
            let (size, mut left) =
                (count(&case["parameters"]["block_size_tokens"]), count(&case["parameters"]["max_blocks"]));
            let mut counts = Vec::new();
            for prompt in list(&case["prompts"]) {
                let mut hashes = Vec::new();
                block_hashes("", "", &tokens(prompt), size, left, &mut hashes);
                left -= hashes.len();
                counts.push(hashes.len());
            }
            json!({ "total_blocks": counts.iter().sum::<usize>(), "blocks_per_prompt": counts })
        }
        "block_hashes" => {
            let (model, salt) = (text(&case["model"]), text(&case["cache_salt"]));
            let mut hashes = Vec::new();
            let size = count(&case["parameters"]["block_size_tokens"]);
            block_hashes(&model, &salt, &tokens(&case["tokens"]), size, usize::MAX, &mut hashes);
            json!({ "hashes_hex": hashes.iter().map(|hash| format!("{hash:016x}")).collect::<Vec<_>>() })
        }
        "decide" => {
            let Some(decider) = made.decider else { return unsupported() };
            json!({ "disaggregate": with_request(request, |request| decider.disaggregates(request, pool.states.first())) })
        }
        "pick_profiles" => pick_profiles(case, made)?,
        "process_results" => {
            let Some(ProfileHandler::Disaggregated(handler)) = made.handler else { return unsupported() };
            if outcome(&case["results"], &handler.profiles[0]).first().is_none() {
                json!({ "ok": false, "error": "failed to find available decode workers" })
            } else {
                let ran = |name: &&String| matches!(outcome(&case["results"], name), Outcome::Ran(_));
                json!({
                    "ok": true,
                    "primary": handler.profiles[0],
                    "profiles": handler.profiles.iter().filter(ran).collect::<Vec<_>>(),
                })
            }
        }
        "headers" => {
            let targets = |name: &str| texts(&case["targets"][name]);
            let (prefill, encode) = (targets("prefill"), targets("encode"));
            let encode: Vec<&str> = encode.iter().map(String::as_str).collect();
            let headers = Disaggregated::headers(prefill.first().map(String::as_str), &encode);
            json!({ "headers": headers.into_iter().collect::<BTreeMap<_, _>>() })
        }
        "uncached_tokens" => {
            let prefix = pool.states.first().and_then(|state| state.prefix(0));
            json!({ "uncached": uncached_tokens(whole(&request["token_count"]), prefix) })
        }
        "estimate_output" => {
            let Some(load) = &made.in_flight else { return unsupported() };
            json!({ "output_tokens": with_request(request, |request| load.output_tokens(request)) })
        }
        "estimate_tokens" => {
            let chat = list(&case["chat"]).iter().flat_map(list);
            let bytes: usize = chat.chain([&case["completion_prompt"]]).map(|part| text(part).len()).sum();
            json!({ "token_count": estimated_tokens(bytes) })
        }
        "saturation" => {
            let Some(detector) = made.detector else { return unsupported() };
            json!({ "saturation": detector.saturation(&pool.states, &pool.all(), NOW_MS) })
        }
        "ceilings" | "ceilings_sequence" => {
            let Some(limit) = &mut made.usage_limit else { return unsupported() };
            let mut ceilings = |call: &Value| {
                let priorities: Vec<i64> = list(&call["priorities"]).iter().map(whole).collect();
                json!({ "ceilings": limit.ceilings(number(&call["saturation"]), &priorities) })
            };
            if op == "ceilings" {
                ceilings(case)
            } else {
                json!({ "calls": list(&case["calls"]).iter().map(ceilings).collect::<Vec<_>>() })
            }
        }
        "less" => {
            let Some(ordering) = made.ordering else { return unsupported() };
            let (a, b) = (item(&case["a"]), item(&case["b"]));
            json!({ "a_before_b": ordering.less(a.as_ref(), b.as_ref()) })
        }
        "deadline" => {
            let Some(ordering) = made.ordering else { return unsupported() };
            json!({ "deadline_ms": item(&case["item"]).and_then(|item| ordering.deadline_ms(&item)) })
        }
        "fairness_pick" | "fairness_sequence" => fairness(case, made)?,
        "las_service" => {
            let parameters = if case["parameters"].is_null() { &made.effective } else { &case["parameters"] };
            let half_life_s = parameters["lasHalfLifeSeconds"].as_f64().unwrap_or(60.0);
            let mut service = LeastAttainedService::new(1.0, 0.0, half_life_s);
            service.add("", number(&case["attained_service"]), 0.0);
            let now_ms = 1000.0 * number(&case["age_s"]);
            service.add("", number(&case["add"]), now_ms);
            json!({ "service": service.attained("", now_ms) })
        }
        "las_cost" => {
            let tokens = |name: &str| whole(&case[name]);
            json!({ "service": LeastAttainedService::cost(tokens("prompt_tokens"), tokens("completion_tokens")) })
        }
        "range_normalize" => {
            json!({ "value": normalized(number(&case["value"]), (number(&case["min"]), number(&case["max"]))) })
        }
        "partition" => {
            let [prefill, decode, interleaved] = partition(&pool.endpoints).map(|part| pool.names(&part));
            json!({ "prefill": prefill, "decode": decode, "interleaved": interleaved })
        }
        "dispatch_gate" => {
            let saturation = fullest(fields(&case["stage_saturation"]).map(|(_, value)| number(value)));
            let ceilings: Vec<f64> = list(&case["ceilings"]).iter().map(number).collect();
            json!({ "dispatched": gate_opens(saturation, &ceilings) })
        }
        "has_capacity" => {
            let (stats, bytes) = (&case["stats"], count(&case["item_bytes"]) as u64);
            let occupancy = |value: &Value| Occupancy {
                bytes: count(&value["bytes"]) as u64,
                requests: count(&value["len"]) as u64,
                max_bytes: count(&value["cap_bytes"]) as u64,
                max_requests: count(&value["cap_requests"]) as u64,
            };
            let has_room = occupancy(&stats["global"]).has_room(bytes)
                && stats["band"].is_object()
                && occupancy(&stats["band"]).has_room(bytes);
            json!({ "has_capacity": has_room })
        }
        "queue_wait_budget" => {
            let budget = WaitBudget {
                default_ms: number(&case["parameters"]["defaultRequestTTL_ms"]),
                no_endpoint_ms: number(&case["parameters"]["noEndpointRequestTTL_ms"]),
            };
            let since_ms = number(&case["regime_changed_ms_after_enqueue"]);
            let (outcome, expired) = budget.expires(case["pool_empty"] == true, since_ms, number(&case["elapsed_ms"]));
            let name = if outcome == QueueOutcome::EvictedTtl { "evicted-ttl" } else { "evicted-no-endpoints" };
            json!({ "outcome": name, "expired": expired })
        }
        "admit" => {
            let Some(admitter) = &made.admitter else { return unsupported() };
            let draw = case["random"].as_f64().unwrap_or_else(|| Admitter::draw(Chance { seed: 1, request: 0 }));
            json!({ "admit": with_request(request, |request| admitter.admits(request, &pool.states, &pool.all(), draw)) })
        }
        "legacy_admit" => {
            json!({ "admit": admits_without_flow_control(whole(&request["priority"]), number(&case["saturation"])) })
        }
        "flow_control_outcome" => {
            let outcome = match text(&case["outcome"]).as_str() {
                "dispatched" => QueueOutcome::Dispatched,
                "rejected-capacity" => QueueOutcome::RejectedCapacity,
                "rejected-no-endpoints" => QueueOutcome::RejectedNoEndpoints,
                "evicted-ttl" => QueueOutcome::EvictedTtl,
                "evicted-no-endpoints" => QueueOutcome::EvictedNoEndpoints,
                "evicted-context-cancelled" => QueueOutcome::EvictedContextCancelled,
                "rejected-other" => QueueOutcome::RejectedOther,
                "evicted-other" => QueueOutcome::EvictedOther,
                other => return Ok(Answer::Unsupported(format!("unknown outcome `{other}`"))),
            };
            match outcome.status(case["pool_empty"] == true) {
                None => json!({ "admit": true }),
                Some((code, http)) => json!({ "admit": false, "code": code, "http": http }),
            }
        }
        "parse_range" => match parse_range(&text(&case["value"])) {
            Some((min, max)) => json!({ "ok": true, "min": min, "max": max }),
            None => json!({ "ok": false }),
        },
        "scrape" => {
            let mut metrics = state(&json!({ "metrics": case["previous"] })).metrics;
            let scraped = |name: &str| case["scraped"][name].as_f64();
            metrics.scrape(scraped("waiting_queue"), scraped("running"), scraped("kv_usage"), NOW_MS);
            let (waiting, running, kv_usage) = (metrics.waiting, metrics.running, metrics.kv_usage);
            json!({
                "metrics": { "waiting_queue": waiting, "running": running, "kv_usage": kv_usage },
                "age_reset": metrics.scraped_at_ms == Some(NOW_MS),
            })
        }
        "load_config" => load_config(case),
        "registry_config" | "controller_config" => {
            let spec: Option<FlowControlSpec> =
                serde_json::from_value(case["flow_control"].clone()).map_err(|error| error.to_string())?;
            let mut resolved = flow_control(&FlowControlConfig::resolve(spec.as_ref())?);
            resolved["ok"] = true.into();
            resolved["enqueueBuffer"] = FlowControlConfig::ENQUEUE_BUFFER.into();
            resolved
        }
        _ => return unsupported(),
    };
    Ok(Answer::Computed(answer))
}

fn score(scorer: &mut Scorer, request: &Request<'_>, pool: &Pool, candidates: &[usize]) -> Vec<f64> {
    let mut raw = Vec::new();
    scorer.score(request, pool.view(), candidates, &mut raw);
    raw
}

fn kept(filter: &mut Filter, request: &Request<'_>, pool: &Pool, draw: u64) -> Vec<usize> {
    let mut candidates = pool.all();
    filter.apply(Chance { seed: 1, request: draw }, request, pool.view(), &mut candidates);
    candidates
}

fn profile_run(case: &Value, pool: &Pool) -> Value {
    let mut names = pool.names(&pool.all());
    let (mut inputs, mut called) = (Vec::new(), 0);
    for filter in list(&case["filters"]) {
        inputs.push(names.len());
        called += 1;
        if filter["passes"] != true {
            let keeps = texts(&filter["keeps"]);
            names.retain(|name| keeps.contains(name));
        }
        if names.is_empty() {
            return json!({ "error": "no endpoint is left", "filter_inputs": inputs, "filters_called": called });
        }
    }
    if names.is_empty() {
        return json!({ "error": "no endpoint", "filter_inputs": inputs, "filters_called": called });
    }
    let mut totals = vec![0.0; names.len()];
    for scorer in list(&case["scorers"]) {
        let raw: Vec<f64> = names.iter().map(|name| number(&scorer["raw_scores"][name])).collect();
        add_weighted(&mut totals, &raw, number(&scorer["weight"]));
    }
    let weighted: BTreeMap<_, _> = names.into_iter().zip(totals).collect();
    json!({ "weighted": weighted, "filter_inputs": inputs, "filters_called": called })
}

fn schedule(case: &Value, pool: &Pool) -> Result<Value, String> {
    let candidates = pool.all();
    if candidates.is_empty() {
        return Ok(json!({ "error": true }));
    }
    let mut totals = vec![0.0; candidates.len()];
    for scorer in list(&case["scorers"]) {
        let made = plugin(&text(&scorer["type"]), &scorer["parameters"], &[])?;
        let mut scorer_plugin = made.and_then(|plugin| plugin.scorer).ok_or("no such scorer")?;
        let raw = with_request(&case["request"], |request| score(&mut scorer_plugin, request, pool, &candidates));
        add_weighted(&mut totals, &raw, number(&scorer["weight"]));
    }
    let picker =
        plugin(&text(&case["picker"]), &Value::Null, &[])?.and_then(|plugin| plugin.picker).ok_or("no picker")?;
    let mut ranked = candidates.iter().copied().zip(totals.iter().copied()).collect();
    picker.pick(Chance { seed: 1, request: 0 }, &mut ranked);
    let (chosen, total) = ranked.first().copied().ok_or("nobody was picked")?;
    Ok(json!({
        "weighted": pool.by_name(&candidates, &totals),
        "picked": reference(&pool.endpoints[chosen]),
        "picked_score": total,
    }))
}

fn sequence(case: &Value, mut made: Plugin) -> Value {
    let mut pool = Pool::of_steps(case);
    if let Some(prefix) = &mut made.prefix {
        prefix.reset(pool.endpoints.len());
        if let (PrefixProducer::Approximate(producer), Some(min)) = (prefix, case["min_block_size_override"].as_u64()) {
            producer.min_block_size_tokens = min as usize;
        }
    }
    let mut loads = vec![InFlight::default(); pool.endpoints.len()];
    let mut answers = Vec::new();
    for step in list(&case["steps"]) {
        let candidates = pool.update(step);
        let owned = Owned::new(step, &step["prompts"]);
        let answer = owned.with(step, |request| match text(&step["do"]).as_str() {
            "score" => {
                let scorer = made.scorer.as_mut()?;
                let raw = score(scorer, request, &pool, &candidates);
                Some(json!({ "scores": pool.by_name(&candidates, &raw) }))
            }
            "produce" => {
                let producer = made.prefix.as_mut()?;
                producer.produce(request, &mut pool.states, &candidates, 0, NOW_MS);
                let matches: Map<_, _> = candidates
                    .iter()
                    .filter_map(|&at| {
                        let found = pool.states[at].prefix(0)?;
                        Some((reference(&pool.endpoints[at]), json!(found.match_blocks)))
                    })
                    .collect();
                let found = pool.states[*candidates.first()?].prefix(0)?;
                let (total, size) = (found.total_blocks, found.block_size_tokens);
                Some(json!({ "match_blocks": matches, "total_blocks": total, "block_size_tokens": size }))
            }
            "dispatch" => {
                let picked = |profile: &str| pool.find(texts(&step["profiles"][profile]).first()?);
                let primary = text(&step["primary"]);
                let prefill = picked("prefill").filter(|_| primary != "prefill");
                let both = || picked(&primary).into_iter().chain(prefill);
                if let Some(producer) = &mut made.prefix {
                    producer.sent(request.id, both(), &pool.states, NOW_MS);
                }
                if let Some(Scorer::NoHitLru(scorer)) = &mut made.scorer {
                    scorer.sent(request.id, both());
                }
                if let Some(sessions) = made.sessions_mut() {
                    let profile = sessions.profile();
                    let endpoint = picked(if profile.is_empty() { &primary } else { profile })?;
                    sessions.sent(request, endpoint, NOW_MS);
                }
                let load = made.in_flight.as_mut()?;
                for (profile, _) in fields(&step["profiles"]) {
                    let Some(at) = picked(profile) else { continue };
                    let added = load.sent(request, at, pool.states[at].prefix(0), profile == "prefill");
                    loads[at].requests += added.requests;
                    loads[at].tokens += added.tokens;
                }
                Some(in_flight(&pool, &loads))
            }
            "response" => {
                made.in_flight.as_mut()?.answered(request.id, step["end_of_stream"] == true, |at, released| {
                    loads[at].requests -= released.requests;
                    loads[at].tokens -= released.tokens;
                });
                Some(in_flight(&pool, &loads))
            }
            _ => None,
        });
        answers.push(answer.unwrap_or_default());
    }
    let order = match &made.scorer {
        Some(Scorer::NoHitLru(scorer)) => pool.names(&scorer.order().collect::<Vec<_>>()),
        _ => Vec::new(),
    };
    json!({ "steps": answers, "lru_order": order })
}

fn in_flight(pool: &Pool, loads: &[InFlight]) -> Value {
    let load = |load: &InFlight| json!([load.requests, load.tokens]);
    pool.names(&pool.all()).into_iter().zip(loads.iter().map(load)).collect::<Map<_, _>>().into()
}

fn index_sequence(case: &Value) -> Value {
    let steps = list(&case["steps"]);
    let mut pods: Vec<String> = Vec::new();
    for pod in steps.iter().filter_map(|step| step["pod"].as_str()) {
        if !pods.iter().any(|known| known == pod) {
            pods.push(pod.to_owned());
        }
    }
    let mut index = ApproximateIndex::new(pods.len());
    let answer = |step: &Value| {
        let pod = pods.iter().position(|pod| step["pod"] == **pod).unwrap_or_default();
        match text(&step["do"]).as_str() {
            "add" => {
                let hashes: Vec<u64> = list(&step["hashes"]).iter().map(|hash| count(hash) as u64).collect();
                let capacity = step["capacity"].as_u64().unwrap_or(count(&case["default_capacity"]) as u64);
                index.add(pod, &hashes, capacity as usize);
                Value::Null
            }
            "get" => json!({ "pods": index.get(count(&step["hash"]) as u64).map(|at| &pods[at]).collect::<Vec<_>>() }),
            "len" => json!({ "len": index.len(pod) }),
            _ => {
                index.remove_endpoint(pod);
                Value::Null
            }
        }
    };
    json!({ "steps": steps.iter().map(answer).collect::<Vec<_>>() })
}

fn outcome(results: &Value, name: &str) -> Outcome {
    match results.get(name) {
        None => Outcome::NotRun,
        Some(Value::Null) => Outcome::Without,
        Some(picked) => Outcome::Ran((0..list(picked).len()).collect()),
    }
}

fn pick_profiles(case: &Value, made: Plugin) -> Result<Value, String> {
    let Some(ProfileHandler::Disaggregated(mut handler)) = made.handler else { return Err("no handler".to_owned()) };
    handler.prefill = decider_of(&case["prefill_decider"])?;
    handler.encode = decider_of(&case["encode_decider"])?;
    let available = texts(&case["available_profiles"]);
    let cached = count(&case["decode_cached_tokens"]);
    let prefix = PrefixMatch {
        match_blocks: cached as f64,
        total_blocks: count(&case["request"]["token_count"]),
        block_size_tokens: 1,
        cached_blocks: cached,
    };
    let states = vec![State { prefix: vec![Some(prefix)], ..State::default() }; 4];
    let mut outcomes = [0, 1, 2].map(|stage: usize| outcome(&case["results"], &handler.profiles[stage]));
    let has = Stage::ALL.map(|stage| available.contains(&handler.profiles[stage as usize]));
    let next = with_request(&case["request"], |request| handler.next(request, &states, has, &mut outcomes));
    let run: Vec<_> = next.map(|stage| handler.profiles[stage as usize].clone()).into_iter().collect();
    Ok(json!({ "run": run }))
}

fn item(value: &Value) -> Option<Item> {
    value.is_object().then(|| Item {
        id: 0,
        enqueued_ms: number(&value["enqueue_ms"]),
        received_ms: number(&value["received_ms"]),
        ttl_ms: number(&value["ttl_ms"]),
        ttft_objective_ms: with_request(value, ttft_objective_ms),
        bytes: 0,
    })
}

fn fairness(case: &Value, made: Plugin) -> Result<Value, String> {
    let mut fairness = made.fairness.ok_or("no fairness policy")?;
    if let config_explorer::simulation::router::Fairness::ProgramAware(service) = &mut fairness {
        let programs = list(&case["programs"]);
        let heads: Vec<Option<Item>> = programs
            .iter()
            .map(|program| {
                let enqueued_ms = NOW_MS - number(&program["head_wait_ms"]);
                (count(&program["queue_len"]) > 0).then(|| Item { enqueued_ms, ..Item::default() })
            })
            .collect();
        for program in programs {
            let at_ms = NOW_MS - 1000.0 * number(&program["service_age_s"]);
            service.add(&text(&program["id"]), number(&program["attained_service"]), at_ms);
        }
        let ids: Vec<String> = programs.iter().map(|program| text(&program["id"])).collect();
        let flows: Vec<_> = ids.iter().zip(&heads).map(|(id, head)| Flow { id, head: head.as_ref() }).collect();
        let chosen = fairness.pick(&flows, Ordering::Fcfs, NOW_MS);
        return Ok(json!({ "flow": chosen.map(|at| &ids[at]) }));
    }
    if case["steps"].is_array() {
        let waits = Item::default();
        let pick = |step: &Value| {
            let flows: Vec<_> = fields(&step["flows"])
                .map(|(id, length)| Flow { id, head: (count(length) > 0).then_some(&waits) })
                .collect();
            let chosen = fairness.pick(&flows, Ordering::Fcfs, NOW_MS);
            json!({ "picked": chosen.map(|at| flows[at].id) })
        };
        return Ok(json!({ "steps": list(&case["steps"]).iter().map(pick).collect::<Vec<_>>() }));
    }
    // In a priority all queues have one order; queues of different orders are an error.
    let queues = list(&case["queues"]);
    let orders: Vec<String> = queues.iter().map(|queue| text(&queue["ordering"])).collect();
    if orders.windows(2).any(|pair| pair[0] != pair[1]) {
        return Ok(json!({ "error": "incompatible priority type" }));
    }
    let ordering = orders.first().and_then(|order| plugin(order, &Value::Null, &[]).ok()??.ordering);
    let ordering = ordering.unwrap_or(Ordering::Fcfs);
    let ids: Vec<String> = queues.iter().map(|queue| text(&queue["flow"])).collect();
    let heads: Vec<Option<Item>> = queues.iter().map(|queue| item(list(&queue["items"]).first()?)).collect();
    let flows: Vec<_> = ids.iter().zip(&heads).map(|(id, head)| Flow { id, head: head.as_ref() }).collect();
    Ok(json!({ "flow": fairness.pick(&flows, ordering, NOW_MS).map(|at| &ids[at]) }))
}

fn flow_control(config: &FlowControlConfig) -> Value {
    let band = |band: &config_explorer::simulation::router::BandConfig| {
        json!({
            "maxBytes": band.max_bytes,
            "maxRequests": band.max_requests,
            "ordering": band.ordering,
            "fairness": band.fairness,
        })
    };
    let bands: Map<_, _> = config.bands.iter().map(|(priority, config)| (priority.to_string(), band(config))).collect();
    json!({
        "maxBytes": config.max_bytes,
        "maxRequests": config.max_requests,
        "bands": bands,
        "default_band": band(&config.default_band),
        "default_negative_band": config.default_negative_band.as_ref().map(band),
        "defaultRequestTTL_s": config.wait.default_ms / 1000.0,
        "noEndpointRequestTTL_s": config.wait.no_endpoint_ms / 1000.0,
        "expiryCleanupInterval_s": FlowControlConfig::EXPIRY_INTERVAL_MS / 1000.0,
    })
}

fn load_config(case: &Value) -> Value {
    let role = |description: &str| match description.split(';').next().unwrap_or_default() {
        "scorer" => Role::Scorer,
        "filter" => Role::Filter,
        "picker" => Role::Picker,
        "profile handler" => Role::ProfileHandler,
        "data source" => Role::DataSource,
        "extractor" => Role::Extractor,
        _ => Role::Other,
    };
    let mut options = LoadOptions { strict: true, ..LoadOptions::default() };
    options.foreign =
        fields(&case["mock_plugin_types"]).map(|(kind, value)| (kind.clone(), role(&text(value)))).collect();
    options
        .feature_gates
        .extend(fields(&case["registered_feature_gates"]).map(|(gate, value)| (gate.clone(), *value == true)));
    let text = match (&case["config"], case["config_yaml"].as_str()) {
        (_, Some(yaml)) => yaml.to_owned(),
        (Value::Null, None) => String::new(),
        (config, None) => config.to_string(),
    };
    let loaded = match RouterConfig::load(&text, &options, "config") {
        Ok(loaded) => loaded,
        Err(error) => {
            let message = error.to_string();
            let mut parts = message.splitn(3, ": ").skip(1);
            return json!({ "ok": false, "phase": parts.next(), "error": parts.next() });
        }
    };
    let by_profile = |role: Role| -> BTreeMap<_, _> {
        loaded.profiles.iter().map(|profile| (&profile.name, loaded.in_role(profile, role))).collect()
    };
    let profiles: BTreeMap<_, _> = loaded.profiles.iter().map(|profile| (&profile.name, &profile.plugins)).collect();
    let filters = by_profile(Role::Filter);
    json!({
        "ok": true,
        "only_plugins": true,
        "plugin_names": loaded.declared,
        "injected": loaded.injected,
        "auto_created_producers": loaded.auto_created,
        "profiles": profiles,
        "profiles_unordered": profiles,
        "filter_order": filters.values().next(),
        "filters": filters,
        "scorers": by_profile(Role::Scorer),
        "profile_handler": loaded.profile_handler,
        "saturation_detector": loaded.saturation_detector,
        "parsers": loaded.parsers,
        "data_sources": loaded.data_sources,
        "flow_control": loaded.flow_control.as_ref().map(flow_control),
        "feature_gates": loaded.feature_gates,
        "warnings": loaded.warnings,
        "deprecated": !loaded.deprecations.is_empty(),
    })
}
