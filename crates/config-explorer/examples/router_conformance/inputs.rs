//! What a case gives: endpoints with their states, requests and plugins.

use config_explorer::simulation::router::{
    Decider, Endpoint, InFlight, LatencyPrediction, Metrics, Plugin, PrefixMatch, Request, State, View,
};
use serde_json::{Map, Value, json};

/// The time at which a case is evaluated, ms; ages are subtracted from it.
pub(super) const NOW_MS: f64 = 1e9;

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub(super) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

pub(super) fn whole(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| number(value) as i64)
}

pub(super) fn count(value: &Value) -> usize {
    value.as_u64().unwrap_or_default() as usize
}

pub(super) fn texts(value: &Value) -> Vec<String> {
    list(value).iter().map(text).collect()
}

pub(super) fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// Name as the cases write it.
pub(super) fn reference(endpoint: &Endpoint) -> String {
    let (namespace, name) = (&endpoint.namespace, &endpoint.name);
    if namespace.is_empty() { name.clone() } else { format!("{namespace}/{name}") }
}

pub(super) fn endpoint(value: &Value) -> Endpoint {
    Endpoint {
        name: text(&value["name"]),
        namespace: text(&value["namespace"]),
        address: String::new(),
        labels: fields(&value["labels"]).map(|(key, value)| (key.clone(), text(value))).collect(),
    }
}

pub(super) fn state(value: &Value) -> State {
    let metrics = &value["metrics"];
    let prefix = value.get("prefix").map(|prefix| PrefixMatch {
        match_blocks: number(&prefix["match_blocks"]),
        total_blocks: count(&prefix["total_blocks"]),
        block_size_tokens: count(&prefix["block_size_tokens"]),
        cached_blocks: count(prefix.get("cached_blocks").unwrap_or(&prefix["match_blocks"])),
    });
    let latency = value.get("latency").map(|latency| LatencyPrediction {
        ttft_valid: latency["ttft_valid"] == true,
        tpot_valid: latency["tpot_valid"] == true,
        ttft_headroom_ms: number(&latency["ttft_headroom"]),
        tpot_headroom_ms: number(&latency["tpot_headroom"]),
        ttft_ms: number(&latency["ttft"]),
        tpot_ms: number(&latency["tpot"]),
        dispatched: count(&latency["dispatched"]) as u64,
    });
    State {
        metrics: Metrics {
            waiting: count(&metrics["waiting_queue"]) as u64,
            running: count(&metrics["running"]) as u64,
            kv_usage: number(&metrics["kv_usage"]),
            active_models: texts(&metrics["active_models"]),
            waiting_models: texts(&metrics["waiting_models"]),
            max_active_models: count(&metrics["max_active_models"]) as u64,
            cache_block_size_tokens: count(&metrics["cache_block_size"]),
            cache_blocks: count(&metrics["cache_num_blocks"]),
            scraped_at_ms: metrics.get("age_ms").map(|age| NOW_MS - number(age)),
        },
        in_flight: InFlight {
            requests: whole(&value["in_flight"]["requests"]),
            tokens: whole(&value["in_flight"]["tokens"]),
        },
        uncached_request_tokens: whole(&value["uncached_request_tokens"]),
        prefix: vec![prefix],
        latency,
    }
}

/// Endpoints with their states.
pub(super) struct Pool {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) states: Vec<State>,
}

impl Pool {
    pub(super) fn new(values: &[Value]) -> Self {
        Self { endpoints: values.iter().map(endpoint).collect(), states: values.iter().map(state).collect() }
    }

    /// All endpoints that any step of a sequence names.
    pub(super) fn of_steps(case: &Value) -> Self {
        let mut values: Vec<Value> = Vec::new();
        let mut add = |value: &Value| {
            if !values.iter().any(|known| reference(&endpoint(known)) == reference(&endpoint(value))) {
                values.push(value.clone());
            }
        };
        let steps = list(&case["steps"]);
        list(&case["endpoints"]).iter().for_each(&mut add);
        steps.iter().flat_map(|step| list(&step["endpoints"])).for_each(&mut add);
        for (_, picked) in steps.iter().flat_map(|step| fields(&step["profiles"])) {
            for name in texts(picked) {
                let (namespace, name) = name.split_once('/').unwrap_or(("", &name));
                add(&json!({ "name": name, "namespace": namespace }));
            }
        }
        Self::new(&values)
    }

    /// Takes over the states that a step gives, and returns its endpoints in its order.
    pub(super) fn update(&mut self, step: &Value) -> Vec<usize> {
        let mut candidates = Vec::new();
        for value in list(&step["endpoints"]) {
            if let Some(at) = self.find(&reference(&endpoint(value))) {
                self.states[at] = state(value);
                candidates.push(at);
            }
        }
        candidates
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.endpoints.iter().position(|endpoint| reference(endpoint) == name)
    }

    pub(super) fn view(&self) -> View<'_> {
        View { endpoints: &self.endpoints, states: &self.states, now_ms: NOW_MS }
    }

    pub(super) fn all(&self) -> Vec<usize> {
        (0..self.endpoints.len()).collect()
    }

    pub(super) fn names(&self, candidates: &[usize]) -> Vec<String> {
        candidates.iter().map(|&at| reference(&self.endpoints[at])).collect()
    }

    pub(super) fn by_name(&self, candidates: &[usize], values: &[f64]) -> Value {
        self.names(candidates).into_iter().zip(values.iter().map(|&value| json!(value))).collect::<Map<_, _>>().into()
    }
}

/// Request ids of sequences are texts; they get numbers.
pub(super) fn request_id(value: &Value) -> u64 {
    text(value).bytes().fold(0, |id, byte| id.wrapping_mul(257).wrapping_add(u64::from(byte)))
}

/// Headers and texts that a request borrows.
pub(super) struct Owned {
    model: String,
    cache_salt: String,
    headers: Vec<(String, String)>,
    prompts: Vec<Vec<u32>>,
}

impl Owned {
    pub(super) fn new(request: &Value, prompts: &Value) -> Self {
        Self {
            model: text(&request["model"]),
            cache_salt: text(&request["cache_salt"]),
            headers: fields(&request["headers"]).map(|(name, value)| (name.clone(), text(value))).collect(),
            prompts: list(prompts).iter().map(tokens).collect(),
        }
    }

    pub(super) fn with<T>(&self, request: &Value, run: impl FnOnce(&Request<'_>) -> T) -> T {
        let prompts: &[Vec<u32>] = &self.prompts;
        let hashed: usize = self.prompts.iter().map(Vec::len).sum();
        run(&Request {
            id: request_id(&request["request_id"]),
            model: &self.model,
            cache_salt: &self.cache_salt,
            headers: &self.headers,
            token_count: request["token_count"].as_i64().unwrap_or(hashed as i64),
            prompt: &prompts,
            multimodal: request["multimodal"] == true,
            priority: whole(&request["priority"]),
            max_output_tokens: request["max_output_tokens"].as_i64(),
        })
    }
}

pub(super) fn with_request<T>(request: &Value, run: impl FnOnce(&Request<'_>) -> T) -> T {
    Owned::new(request, &Value::Null).with(request, run)
}

pub(super) fn tokens(prompt: &Value) -> Vec<u32> {
    match list(&prompt["range"]) {
        [first, last] => (count(first) as u32..=count(last) as u32).collect(),
        _ => list(prompt).iter().map(|token| count(token) as u32).collect(),
    }
}

pub(super) fn decider_of(value: &Value) -> Result<Option<Decider>, String> {
    let Some(kind) = value["type"].as_str() else { return Ok(None) };
    let mut parameters = value.clone();
    if let Some(fields) = parameters.as_object_mut() {
        fields.remove("type");
    }
    Ok(plugin(kind, &parameters, &[])?.and_then(|plugin| plugin.decider))
}

/// A plugin of a case; `known` are the plugins it may refer to, by type.
pub(super) fn plugin(kind: &str, parameters: &Value, known: &[String]) -> Result<Option<Plugin>, String> {
    let raw = parameters["__raw__"].as_str().map(serde_json::from_str::<Value>);
    let parsed = raw.transpose().map_err(|error| error.to_string())?;
    let decider = |name: &str| {
        if !known.iter().any(|other| other == name) {
            return Err(format!("plugin not found: {name}"));
        }
        let found = plugin(name, &Value::Null, &[])?.and_then(|plugin| plugin.decider);
        found.ok_or_else(|| format!("plugin {name} is no decider"))
    };
    Plugin::new(kind, kind, Some(parsed.as_ref().unwrap_or(parameters)), 0, &decider)
}
