//! Replays a recorded scenario of vLLM's own scheduler on ours and writes down the same record.
//!
//! A scenario is a JSON file: settings, requests with their arrivals, aborts, the drafts that a fake device accepts and
//! the time that a fake connector takes. The clock is the iteration of the engine core's loop.

use std::collections::{BTreeMap, VecDeque};

use config_explorer::engine::EngineRules;
use config_explorer::simulation::engine::{
    Batch, FinishReason, Finished, GroupAttention, KvGroup, KvRole, NewRequest, Policy, RequestId, Scheduler,
    SchedulerConfig, Segment, Speculation, StepOutput,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Versions that scenarios were recorded with.
const VERSIONS: [&str; 2] = ["0.19.1", "0.33.0"];

/// A scenario replayed under the rules of one version.
pub(crate) struct Comparison {
    pub(crate) version: &'static str,
    /// What the replay wrote down, in the form of the file's `expected`.
    pub(crate) replay: Value,
    /// Whether the file's record is the same; `None` if it has none.
    pub(crate) equal: Option<bool>,
    /// Where the two first differ.
    pub(crate) first_difference: Option<Value>,
}

/// Replays the scenario of a file, given as its text, under each version that it is for. Only its input enters the
/// replay; its record is compared with what comes out.
///
/// # Errors
/// The text is no scenario, or no engine could run with its settings.
pub(crate) fn compare(text: &str) -> Result<Vec<Comparison>, Failure> {
    let scenario: Scenario = serde_json::from_str(text)?;
    let document: Value = serde_json::from_str(text)?;
    let compare = |version| {
        let replay = scenario.replay(version)?;
        let difference = expected(&document, version).map(|expected| first_difference(expected, &replay));
        let equal = difference.as_ref().map(Option::is_none);
        Ok(Comparison { version, replay, equal, first_difference: difference.flatten() })
    };
    VERSIONS.into_iter().filter(|version| scenario.is_for(version)).map(compare).collect()
}

/// The record of a version; `"=0.19.1"` stands for that of 0.19.1.
fn expected<'a>(document: &'a Value, version: &str) -> Option<&'a Value> {
    let expected = document["expected"].get(version)?;
    match expected.as_str().and_then(|text| text.strip_prefix('=')) {
        Some(other) => document["expected"].get(other),
        None => Some(expected),
    }
}

/// A scenario's input.
#[derive(Debug, Deserialize)]
struct Scenario {
    config: Config,
    requests: Vec<Request>,
    #[serde(default)]
    aborts: Vec<(u32, usize)>,
    max_steps: Option<usize>,
    /// Versions (or their first numbers) that the scenario is for.
    versions: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "these are the switches of the file")]
struct Config {
    max_model_len: u32,
    max_num_seqs: u32,
    max_num_batched_tokens: u32,
    block_size: u32,
    num_gpu_blocks: u32,
    enable_prefix_caching: bool,
    enable_chunked_prefill: bool,
    long_prefill_token_threshold: u32,
    policy: String,
    async_scheduling: bool,
    scheduler_reserve_full_isl: bool,
    #[serde(default = "one")]
    pp: u32,
    groups: Option<Vec<Group>>,
    #[serde(default)]
    watermark: f64,
    #[serde(default = "one")]
    prefill_schedule_interval: u32,
    spec: Option<Spec>,
    connector: Option<Connector>,
}

#[derive(Debug, Deserialize)]
struct Group {
    r#type: String,
    block: Option<u32>,
    #[serde(default)]
    window: u32,
    #[serde(default)]
    chunk: u32,
    mode: Option<String>,
    #[serde(default)]
    spec: u32,
}

#[derive(Debug, Deserialize)]
struct Spec {
    k: u32,
    method: String,
    accept: Vec<u32>,
}

#[derive(Debug, Deserialize)]
struct Connector {
    mode: String,
    role: Option<String>,
    #[serde(default)]
    load_steps: u32,
    #[serde(default)]
    hold_steps: u32,
}

#[derive(Debug, Deserialize)]
struct Request {
    step: u32,
    prompt: Vec<(u32, u32, u32)>,
    max_tokens: u32,
    #[serde(default)]
    priority: i32,
    salt: Option<Value>,
    stop_at: Option<u32>,
}

fn one() -> u32 {
    1
}

type Failure = Box<dyn std::error::Error>;

impl Scenario {
    /// Whether the scenario is for a version.
    fn is_for(&self, version: &str) -> bool {
        self.versions.as_ref().is_none_or(|versions| versions.iter().any(|prefix| version.starts_with(prefix.as_str())))
    }

    fn scheduler(&self, version: &str) -> Result<Scheduler, Failure> {
        let rules = EngineRules::of(version.parse()?)?.scheduler;
        let config = &self.config;
        let has_settings = rules.admission_settings;
        let kv_role = match &config.connector {
            None => None,
            Some(connector) => match (connector.role.as_deref(), connector.mode.as_str()) {
                (Some("kv_both"), _) => Some(KvRole::Both),
                (Some("kv_consumer"), _) | (None, "decode") => Some(KvRole::Consumer),
                (Some("kv_producer"), _) | (None, "prefill") => Some(KvRole::Producer),
                (role, mode) => return Err(format!("unknown connector {role:?} {mode}").into()),
            },
        };
        let config = SchedulerConfig {
            max_model_len: config.max_model_len,
            max_num_seqs: config.max_num_seqs,
            max_num_batched_tokens: config.max_num_batched_tokens,
            block_size: config.block_size,
            num_gpu_blocks: config.num_gpu_blocks,
            kv_groups: config.kv_groups()?,
            enable_prefix_caching: config.enable_prefix_caching,
            enable_chunked_prefill: config.enable_chunked_prefill,
            long_prefill_token_threshold: config.long_prefill_token_threshold,
            policy: match config.policy.as_str() {
                "fcfs" => Policy::Fcfs,
                "priority" => Policy::Priority,
                other => return Err(format!("unknown policy {other}").into()),
            },
            async_scheduling: config.async_scheduling,
            pipeline_parallel_size: config.pp,
            scheduler_reserve_full_isl: config.scheduler_reserve_full_isl,
            watermark: if has_settings { config.watermark } else { 0.0 },
            prefill_schedule_interval: if has_settings { config.prefill_schedule_interval } else { 1 },
            speculation: config
                .spec
                .as_ref()
                .map(|spec| Speculation { num_tokens: spec.k, eagle: matches!(spec.method.as_str(), "mtp" | "eagle") }),
            kv_role,
        };
        Ok(Scheduler::new(config, rules)?)
    }

    /// Runs the scenario under a version's rules; the answer has the form of `expected[version]`.
    ///
    /// # Errors
    /// A setting that is unknown or that no engine could run with.
    fn replay(&self, version: &str) -> Result<Value, Failure> {
        Replay::new(self, self.scheduler(version)?).run()
    }
}

impl Config {
    fn kv_groups(&self) -> Result<Vec<KvGroup>, Failure> {
        let Some(groups) = &self.groups else {
            return Ok(vec![KvGroup { attention: GroupAttention::Full, block_size: self.block_size }]);
        };
        groups
            .iter()
            .map(|group| {
                let attention = match group.r#type.as_str() {
                    "full" => GroupAttention::Full,
                    "sliding" => GroupAttention::SlidingWindow { window: group.window },
                    "chunked" => GroupAttention::ChunkedLocal { chunk: group.chunk },
                    "mamba" => GroupAttention::Mamba {
                        aligned: group.mode.as_deref() == Some("align"),
                        speculative_blocks: group.spec,
                    },
                    other => return Err(format!("unknown group {other}").into()),
                };
                Ok(KvGroup { attention, block_size: group.block.unwrap_or(self.block_size) })
            })
            .collect()
    }
}

/// A batch in flight.
struct Flight {
    scheduled_in: u32,
    batch: Batch,
    parts: Vec<Part>,
    loaded: Vec<usize>,
    sent: Vec<usize>,
}

/// A request's share of a batch.
struct Part {
    slot: RequestId,
    request: usize,
    accepted: u32,
    /// Tokens that the device has sampled for the request with this batch.
    sampled: u32,
}

struct Replay<'a> {
    scenario: &'a Scenario,
    scheduler: Scheduler,
    /// By request of the scenario.
    slots: Vec<Option<RequestId>>,
    /// By slot.
    owners: Vec<usize>,
    rows: Vec<Row>,
    flights: VecDeque<Flight>,
    /// Request and the iteration in which its transfer ends.
    loads: Vec<(usize, u32)>,
    holds: Vec<(usize, u32)>,
    records: Vec<Value>,
    last_scheduled: Option<Value>,
}

#[derive(Clone, Default)]
struct Row {
    first: Option<u32>,
    finish: Option<(u32, &'static str)>,
    generated: u32,
    preemptions: u32,
    cached: Option<u32>,
    sampled: u32,
    dropped: u32,
    verifications: usize,
    held: bool,
}

impl<'a> Replay<'a> {
    fn new(scenario: &'a Scenario, scheduler: Scheduler) -> Self {
        Self {
            scheduler,
            slots: vec![None; scenario.requests.len()],
            owners: Vec::new(),
            rows: vec![Row::default(); scenario.requests.len()],
            flights: VecDeque::new(),
            loads: Vec::new(),
            holds: Vec::new(),
            records: Vec::new(),
            last_scheduled: None,
            scenario,
        }
    }

    fn run(mut self) -> Result<Value, Failure> {
        let mut arrivals: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (request, spec) in self.scenario.requests.iter().enumerate() {
            arrivals.entry(spec.step).or_default().push(request);
        }
        let mut aborts: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for &(step, request) in &self.scenario.aborts {
            aborts.entry(step).or_default().push(request);
        }
        let max_steps = self.scenario.max_steps.unwrap_or(20_000);
        let (mut t, mut idle, mut stuck) = (0, 0, false);
        loop {
            while let Some(entry) = arrivals.first_entry().filter(|entry| *entry.key() <= t) {
                for request in entry.remove() {
                    self.add(request)?;
                }
            }
            for request in aborts.remove(&t).unwrap_or_default() {
                self.abort(request, t);
            }
            if !self.has_work() && self.flights.is_empty() {
                aborts.retain(|&step, _| step > t);
                match [arrivals.keys().next(), aborts.keys().next()].into_iter().flatten().min() {
                    Some(&next) => t = next,
                    None => break,
                }
                continue;
            }
            let executed = self.iterate(t);
            let more = !arrivals.is_empty() || !aborts.is_empty() || !self.loads.is_empty() || !self.holds.is_empty();
            if executed || !self.flights.is_empty() || more {
                idle = 0;
            } else {
                idle += 1;
                if idle >= 3 && self.has_unfinished() {
                    stuck = true;
                    break;
                }
            }
            t += 1;
            if self.records.len() >= max_steps {
                stuck = true;
                break;
            }
        }
        let requests: Vec<_> = (0..self.rows.len()).map(|request| self.row(request)).collect();
        Ok(json!({
            "n_steps": self.records.len(),
            "stuck": stuck,
            "end_free": self.scheduler.num_free_blocks(),
            "end_cached": self.scheduler.num_cached_blocks(),
            "requests": requests,
            "steps": self.records,
        }))
    }

    fn has_unfinished(&self) -> bool {
        self.scheduler.running().len() > 0 || self.scheduler.num_waiting() > 0
    }

    fn has_work(&self) -> bool {
        self.has_unfinished() || !self.loads.is_empty() || !self.holds.is_empty()
    }

    fn add(&mut self, request: usize) -> Result<(), Failure> {
        let spec = &self.scenario.requests[request];
        let prompt: Vec<_> = spec.prompt.iter().map(|&(id, start, len)| Segment { id, start, len }).collect();
        let connector = self.scenario.config.connector.as_ref();
        let salts = self.scenario.requests.iter().map(|spec| &spec.salt);
        let salt = spec.salt.as_ref().and_then(|salt| salts.clone().position(|other| other.as_ref() == Some(salt)));
        let slot = self.scheduler.add_request(&NewRequest {
            stop_at: spec.stop_at,
            priority: spec.priority,
            arrival: u64::from(spec.step) * 1_000_000 + request as u64,
            cache_salt: salt.map_or(0, |first| 1 + first as u64),
            remote_prefill: connector.is_some_and(|connector| connector.mode == "decode"),
            remote_decode: connector.is_some_and(|connector| connector.hold_steps > 0),
            ..NewRequest::new(&prompt, Segment::CONSTANT, spec.max_tokens)
        })?;
        self.slots[request] = Some(slot);
        self.owners.resize(self.owners.len().max(slot as usize + 1), 0);
        self.owners[slot as usize] = request;
        Ok(())
    }

    fn abort(&mut self, request: usize, t: u32) {
        if let Some(slot) = self.slots.get(request).copied().flatten()
            && let Some(finished) = self.scheduler.abort(slot)
        {
            self.finish(&finished, t);
        }
    }

    fn finish(&mut self, finished: &Finished, t: u32) {
        let request = self.owners[finished.id as usize];
        let row = &mut self.rows[request];
        row.finish = Some((t, reason(finished.reason)));
        row.generated = finished.generated;
        row.held = finished.held;
        self.slots[request] = None;
        let hold = self.scenario.config.connector.as_ref().map_or(0, |connector| connector.hold_steps);
        if hold > 0 && finished.reason != FinishReason::Abort {
            self.holds.push((request, t + hold));
        }
    }

    fn row(&self, request: usize) -> Value {
        let row = &self.rows[request];
        let generated = self.slots[request].map_or(row.generated, |slot| self.scheduler.generated(slot));
        let (finish, reason) = row.finish.unzip();
        json!([row.first, finish, reason, generated, row.preemptions, row.cached])
    }

    /// One iteration of the loop; tells whether it scheduled anything.
    fn iterate(&mut self, t: u32) -> bool {
        let mut record = Map::new();
        record.insert("t".to_owned(), json!(t));
        let mut executed = false;
        let works = self.has_work();
        if works {
            self.schedule(t, &mut record);
            executed = record["n"] != json!(0);
        }
        let waits = works && {
            let queued = self.flights.len();
            self.flights.back().is_some_and(|last| !self.scheduler.processes_next(queued, &last.batch))
        };
        if !waits && let Some(flight) = self.flights.pop_front() {
            let (waiting, running) = (self.scheduler.num_waiting(), self.scheduler.running().len());
            self.process(t, &flight, &mut record);
            let free = self.scheduler.num_free_blocks();
            if record.get("fs").is_none() {
                record.insert("fs".to_owned(), json!(free));
            } else if record["fs"] != json!(free) {
                record.insert("fu".to_owned(), json!(free));
            }
            if works && self.scheduler.num_waiting() != waiting {
                record.insert("w2".to_owned(), json!(self.scheduler.num_waiting()));
            }
            if works && self.scheduler.running().len() != running {
                record.insert("r2".to_owned(), json!(self.scheduler.running().len()));
            }
        }
        self.records.push(Value::Object(record));
        executed
    }

    fn schedule(&mut self, t: u32, record: &mut Map<String, Value>) {
        let mut batch = Batch::default();
        self.scheduler.schedule(&mut batch);
        let owner = |slot: RequestId| self.owners[slot as usize];
        let requests = self.scheduler.expand(&batch);
        let scheduled: Vec<_> = requests
            .iter()
            .map(|part| if part.tokens == 1 { json!(owner(part.id)) } else { json!([owner(part.id), part.tokens]) })
            .collect();
        let scheduled = Value::Array(scheduled);
        let same = self.last_scheduled.as_ref() == Some(&scheduled);
        record.insert("s".to_owned(), if same { json!("=") } else { scheduled.clone() });
        self.last_scheduled = Some(scheduled);
        for (key, resumed) in [("new", false), ("res", true)] {
            let admitted = batch.admitted.iter().filter(|admission| admission.resumed == resumed);
            let admitted: Vec<_> = admitted.map(|admission| json!([owner(admission.id), admission.computed])).collect();
            insert_unless_empty(record, key, admitted);
        }
        insert_unless_empty(record, "pre", batch.preempted.iter().map(|&slot| json!(owner(slot))).collect());
        let drafts = requests.iter().filter(|part| part.drafts > 0);
        insert_unless_empty(record, "sp", drafts.map(|part| json!([owner(part.id), part.drafts])).collect());
        let computed: u32 = self.scheduler.running().map(|slot| self.scheduler.computed_tokens(slot)).sum();
        for (key, value) in [
            ("n", json!(batch.num_tokens)),
            ("c", json!(computed)),
            ("fs", json!(self.scheduler.num_free_blocks())),
            ("ch", json!(self.scheduler.num_cached_blocks())),
            ("w", json!(self.scheduler.num_waiting())),
            ("r", json!(self.scheduler.running().len())),
        ] {
            record.insert(key.to_owned(), value);
        }
        for admission in &batch.admitted {
            self.rows[self.owners[admission.id as usize]].cached.get_or_insert(admission.computed);
        }
        for &slot in &batch.preempted {
            self.rows[self.owners[slot as usize]].preemptions += 1;
        }
        let load = self.scenario.config.connector.as_ref().map_or(0, |connector| connector.load_steps);
        self.loads.extend(batch.loads.iter().map(|begun| (self.owners[begun.id as usize], t + load)));
        let mut parts = Vec::new();
        for scheduled in &requests {
            let request = self.owners[scheduled.id as usize];
            let row = &mut self.rows[request];
            let mut accepted = 0;
            if let Some(spec) = &self.scenario.config.spec
                && scheduled.samples
                && scheduled.drafts > 0
            {
                accepted = spec.accept[(request + row.verifications) % spec.accept.len()].min(scheduled.drafts);
                row.verifications += 1;
            }
            row.sampled += if scheduled.samples { 1 + accepted } else { 0 };
            parts.push(Part { slot: scheduled.id, request, accepted, sampled: row.sampled });
        }
        let loaded = take_due(&mut self.loads, t);
        let sent = take_due(&mut self.holds, t);
        self.flights.push_back(Flight { scheduled_in: t, batch, parts, loaded, sent });
    }

    fn process(&mut self, t: u32, flight: &Flight, record: &mut Map<String, Value>) {
        let accepted = |id| flight.parts.iter().find(|part| part.slot == id).map_or(0, |part| part.accepted);
        let mut output = StepOutput::default();
        self.scheduler.process_output(&flight.batch, u64::from(t) + 1, |part| accepted(part.id), &mut output);
        for &slot in &output.first_tokens {
            self.rows[self.owners[slot as usize]].first = Some(t);
        }
        let mut ended = Vec::new();
        for finished in &output.finished {
            ended.push(json!([self.owners[finished.id as usize], reason(finished.reason), finished.generated]));
        }
        // A held request keeps its slot until it is released.
        let held: Vec<_> =
            output.finished.iter().map(|finished| (self.owners[finished.id as usize], finished.id)).collect();
        for finished in &output.finished {
            self.finish(finished, t);
        }
        for (request, slot) in held {
            if self.rows[request].held {
                self.slots[request] = Some(slot);
            }
        }
        self.shift_stops(flight);
        for &request in &flight.loaded {
            if let Some(slot) = self.slots[request] {
                self.scheduler.finish_load(slot);
            }
        }
        for &request in &flight.sent {
            if let Some(slot) = self.slots[request].take() {
                self.scheduler.release(slot);
            }
        }
        if self.scenario.config.async_scheduling || self.scenario.config.pp > 1 {
            record.insert("u".to_owned(), json!(flight.scheduled_in));
        }
        insert_unless_empty(record, "fin", ended);
    }

    /// The fake device counts the tokens it samples to find the stop token, those too that the scheduler drops.
    fn shift_stops(&mut self, flight: &Flight) {
        for part in &flight.parts {
            if self.slots[part.request] != Some(part.slot) || self.rows[part.request].held {
                continue;
            }
            let dropped = part.sampled - self.scheduler.generated(part.slot);
            if let Some(stop_at) = self.scenario.requests[part.request].stop_at
                && dropped > self.rows[part.request].dropped
            {
                self.rows[part.request].dropped = dropped;
                self.scheduler.set_stop(part.slot, (stop_at > part.sampled).then(|| stop_at - dropped));
            }
        }
    }
}

fn reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Abort => "abort",
    }
}

fn insert_unless_empty(record: &mut Map<String, Value>, key: &str, values: Vec<Value>) {
    if !values.is_empty() {
        record.insert(key.to_owned(), Value::Array(values));
    }
}

/// Takes the requests whose transfer ends by `t`, in the order in which the transfers began.
fn take_due(transfers: &mut Vec<(usize, u32)>, t: u32) -> Vec<usize> {
    transfers.extract_if(.., |&mut (_, due)| due <= t).map(|(request, _)| request).collect()
}

/// The first place where two records differ; `None` if they are equal.
fn first_difference(expected: &Value, actual: &Value) -> Option<Value> {
    for list in ["steps", "requests"] {
        let (Some(expected), Some(actual)) = (expected[list].as_array(), actual[list].as_array()) else {
            return Some(json!({ "in": list, "expected": expected[list], "actual": actual[list] }));
        };
        for at in 0..expected.len().max(actual.len()) {
            if expected.get(at) != actual.get(at) {
                return Some(json!({ "in": list, "at": at, "expected": expected.get(at), "actual": actual.get(at) }));
            }
        }
    }
    for key in ["n_steps", "stuck", "end_free", "end_cached"] {
        if expected[key] != actual[key] {
            return Some(json!({ "in": key, "expected": expected[key], "actual": actual[key] }));
        }
    }
    None
}
