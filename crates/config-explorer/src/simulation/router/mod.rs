//! llm-d's router (the inference scheduler): which endpoint gets which request.
//!
//! In go a real `EndpointPickerConfig` ([`RouterConfig::load`]), the endpoints' metrics as they were last scraped and
//! requests; out comes the choice of endpoints for each stage. The plugins are built once; a request costs no look-up by
//! name. Chance comes from a seed and the request's id only. When a request may be scheduled at all is a matter of
//! [`FlowControl`], which the caller asks first where [`RouterConfig::flow_control`] is set.
//!
//! Follows llm-d/llm-d-router at commit ebab687 (22 Aug 2026).

mod chance;
mod config;
mod disaggregation;
mod document;
mod endpoint;
mod filters;
mod flow_control;
mod flow_control_config;
mod in_flight;
mod lru;
mod parameters;
mod pickers;
mod plugin;
mod prefix;
mod producers;
mod scorers;
mod session;
mod units;

pub use chance::Chance;
pub use config::{LoadOptions, ProfileConfig, RouterConfig};
pub use disaggregation::{Decider, Disaggregated, Outcome, Stage};
pub use document::FlowControlSpec;
pub use endpoint::{
    Endpoint, InFlight, LatencyPrediction, Metrics, PrefixMatch, Prompt, ROLE_LABEL, Request, State, View,
};
pub use filters::{Filter, Metric, Operator, PrefixAffinity, Selector};
pub use flow_control::{
    Admitter, Band, Detector, Fairness, Flow, FlowControl, Item, LeastAttainedService, Occupancy, Ordering,
    QueueOutcome, Settings, UsageLimit, WaitBudget, admits_without_flow_control, fullest, gate_opens, normalized,
    partition, pool_saturation, ttft_objective_ms,
};
pub use flow_control_config::{BandConfig, FlowControlConfig};
pub use in_flight::{InFlightLoad, estimated_tokens, uncached_tokens};
pub use pickers::{Choice, Picker};
pub use plugin::{APPROXIMATE, Data, Plugin, ProfileHandler, Role};
pub use prefix::{ApproximateIndex, PreciseIndex, block_hashes, split_blocks};
pub use producers::{Approximate, Precise, PrefixProducer};
pub use scorers::{Latency, NoHitLru, Scorer, parse_range};
pub use session::{Sessions, Strategy};

use crate::{Error, Result};

/// Adds a scorer's raw scores to the totals: each limited to 0 to 1, times the weight. Weights are not normalised.
pub fn add_weighted(totals: &mut [f64], raw_scores: &[f64], weight: f64) {
    for (total, raw) in totals.iter_mut().zip(raw_scores) {
        *total += weight * raw.clamp(0.0, 1.0);
    }
}

/// A profile whose plugins are places in [`Router::plugins`].
#[derive(Debug, Clone)]
struct Profile {
    name: String,
    filters: Vec<usize>,
    scorers: Vec<(usize, f64)>,
    picker: Picker,
}

/// Why a request got no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// An admitter was against it.
    NotAdmitted,
    /// The filters of the profile that answers left nobody.
    NoEndpoint,
}

/// The endpoints of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The endpoints that answer, the first choice first.
    pub decode: Vec<usize>,
    /// The endpoints that compute the prompt first; empty where those that answer do.
    pub prefill: Vec<usize>,
    /// The endpoints that encode images first.
    pub encode: Vec<usize>,
}

/// The router with its endpoints.
#[derive(Debug, Clone)]
pub struct Router {
    endpoints: Vec<Endpoint>,
    states: Vec<State>,
    /// The endpoints that can be chosen, ascending.
    alive: Vec<usize>,
    plugins: Vec<Plugin>,
    profiles: Vec<Profile>,
    handler: ProfileHandler,
    /// The profiles of the stages, in the order of [`Stage::ALL`].
    stages: [Option<usize>; 3],
    prefix_producers: Vec<usize>,
    load_producer: Option<usize>,
    admitters: Vec<Admitter>,
    seed: u64,
    candidates: Vec<usize>,
    raw_scores: Vec<f64>,
    totals: Vec<f64>,
}

impl Router {
    /// A router for some endpoints, all alive and never scraped.
    ///
    /// Errors: a profile handler that is not simulated, or a profile it needs that the configuration lacks.
    pub fn new(config: &RouterConfig, endpoints: Vec<Endpoint>, seed: u64) -> Result<Self> {
        let names: Vec<&String> = config.plugins.keys().collect();
        let mut plugins: Vec<Plugin> = config.plugins.values().cloned().collect();
        let place = |name: &str| names.binary_search_by(|other| other.as_str().cmp(name)).ok();
        let of = |has: fn(&Plugin) -> bool| (0..plugins.len()).filter(|&at| has(&plugins[at])).collect::<Vec<_>>();
        let prefix_producers = of(|plugin| plugin.prefix.is_some());
        let load_producer = of(|plugin| plugin.in_flight.is_some()).first().copied();

        // Producers that read nobody's matches (the load producer names its own) get those of the default one.
        let producer = |name: &str| prefix_producers.iter().position(|&at| *names[at] == name);
        let places: Vec<_> = plugins
            .iter()
            .map(|plugin| {
                let source = plugin.effective.get("prefixMatchInfoProducerName").and_then(serde_json::Value::as_str);
                let name = plugin.reads_prefix_of().or(source).unwrap_or(APPROXIMATE);
                producer(name).unwrap_or(prefix_producers.len())
            })
            .collect();
        for (plugin, place) in plugins.iter_mut().zip(places) {
            plugin.set_producer(place);
            if let Some(prefix) = &mut plugin.prefix {
                prefix.reset(endpoints.len());
            }
        }

        let profiles: Vec<Profile> = config
            .profiles
            .iter()
            .map(|profile| {
                let known = || profile.plugins.iter().filter_map(|(name, weight)| Some((place(name)?, *weight)));
                let picker = known().find_map(|(at, _)| plugins[at].picker);
                Profile {
                    name: profile.name.clone(),
                    filters: known().map(|(at, _)| at).filter(|&at| plugins[at].filter.is_some()).collect(),
                    scorers: known()
                        .filter(|&(at, _)| plugins[at].scorer.is_some())
                        .map(|(at, weight)| (at, weight.unwrap_or(1.0)))
                        .collect(),
                    picker: picker.unwrap_or(Picker { choice: Choice::MaxScore, count: 1 }),
                }
            })
            .collect();

        let handler = place(&config.profile_handler).and_then(|at| plugins[at].handler.clone());
        let handler = handler.ok_or_else(|| Error::InvalidSetting {
            setting: config.profile_handler.clone(),
            reason: "this profile handler is not simulated: use single-profile-handler or disagg-profile-handler"
                .to_owned(),
        })?;
        let stages = match &handler {
            ProfileHandler::Single => [(!profiles.is_empty()).then_some(0), None, None],
            ProfileHandler::Disaggregated(handler) => Stage::ALL
                .map(|stage| profiles.iter().position(|profile| profile.name == handler.profiles[stage as usize])),
        };
        if stages[Stage::Decode as usize].is_none() {
            let reason = "it has no profile for decode: add one to schedulingProfiles".to_owned();
            return Err(Error::InvalidSetting { setting: config.profile_handler.clone(), reason });
        }
        let blank = State { prefix: vec![None; prefix_producers.len()], ..State::default() };
        Ok(Self {
            states: vec![blank; endpoints.len()],
            alive: (0..endpoints.len()).collect(),
            endpoints,
            admitters: plugins.iter().filter_map(|plugin| plugin.admitter).collect(),
            plugins,
            profiles,
            handler,
            stages,
            prefix_producers,
            load_producer,
            seed,
            candidates: Vec::new(),
            raw_scores: Vec::new(),
            totals: Vec::new(),
        })
    }

    /// The endpoints.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Those that can be chosen, ascending.
    pub fn alive(&self) -> &[usize] {
        &self.alive
    }

    /// Their states.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// The metrics of an endpoint, to be replaced when they are scraped.
    pub fn metrics_mut(&mut self, endpoint: usize) -> Option<&mut Metrics> {
        self.states.get_mut(endpoint).map(|state| &mut state.metrics)
    }

    /// The prediction for an endpoint and the next request.
    pub fn latency_mut(&mut self, endpoint: usize) -> Option<&mut Option<LatencyPrediction>> {
        self.states.get_mut(endpoint).map(|state| &mut state.latency)
    }

    /// The precise indexes, to be told what engines cache and drop.
    pub fn precise_indexes_mut(&mut self) -> impl Iterator<Item = &mut PreciseIndex> {
        self.plugins.iter_mut().filter_map(|plugin| match &mut plugin.prefix {
            Some(PrefixProducer::Precise(producer)) => Some(&mut producer.index),
            _ => None,
        })
    }

    /// An endpoint goes away or comes back, empty and not scraped yet.
    pub fn set_alive(&mut self, endpoint: usize, alive: bool) {
        let Some(state) = self.states.get_mut(endpoint) else { return };
        self.alive.retain(|&at| at != endpoint);
        if alive {
            let place = self.alive.partition_point(|&at| at < endpoint);
            self.alive.insert(place, endpoint);
        }
        state.metrics = Metrics::default();
        for plugin in &mut self.plugins {
            if let Some(prefix) = &mut plugin.prefix {
                prefix.remove_endpoint(endpoint);
            }
        }
    }

    /// Chooses the endpoints of a request.
    pub fn schedule(&mut self, request: &Request<'_>, now_ms: f64) -> Result<Decision, Refusal> {
        self.produce(request, now_ms);
        let chance = Chance { seed: self.seed, request: request.id };
        let admitted =
            |admitter: &Admitter| admitter.admits(request, &self.states, &self.alive, Admitter::draw(chance));
        // Nothing is drawn for those that no admitter may turn away.
        if request.priority < 0 && !self.admitters.iter().all(admitted) {
            self.forget(request.id);
            return Err(Refusal::NotAdmitted);
        }
        let mut outcomes = [const { Outcome::NotRun }; 3];
        while let Some(stage) = self.next_stage(request, &mut outcomes) {
            let Some(profile) = self.stages[stage as usize] else { break };
            let picked = self.run(profile, request, now_ms);
            outcomes[stage as usize] = if picked.is_empty() { Outcome::Without } else { Outcome::Ran(picked) };
        }
        let [decode, prefill, encode] = outcomes.map(|outcome| match outcome {
            Outcome::Ran(picked) => picked,
            _ => Vec::new(),
        });
        if decode.is_empty() {
            self.forget(request.id);
            return Err(Refusal::NoEndpoint);
        }
        let decision = Decision { decode, prefill, encode };
        self.sent(request, &decision, now_ms);
        Ok(decision)
    }

    fn next_stage(&self, request: &Request<'_>, outcomes: &mut [Outcome; 3]) -> Option<Stage> {
        match &self.handler {
            ProfileHandler::Single => (outcomes[Stage::Decode as usize] == Outcome::NotRun).then_some(Stage::Decode),
            ProfileHandler::Disaggregated(handler) => {
                handler.next(request, &self.states, self.stages.map(|stage| stage.is_some()), outcomes)
            }
        }
    }

    fn produce(&mut self, request: &Request<'_>, now_ms: f64) {
        for (place, &at) in self.prefix_producers.iter().enumerate() {
            if let Some(producer) = &mut self.plugins[at].prefix {
                producer.produce(request, &mut self.states, &self.alive, place, now_ms);
            }
        }
        if let Some(load) = self.load_producer.and_then(|at| self.plugins[at].in_flight.as_ref()) {
            for &at in &self.alive {
                let tokens = load.tokens(request, self.states[at].prefix(load.producer));
                self.states[at].uncached_request_tokens = tokens;
            }
        }
    }

    /// Runs a profile: filters, scorers, picker. Empty where the filters leave nobody.
    fn run(&mut self, profile: usize, request: &Request<'_>, now_ms: f64) -> Vec<usize> {
        let profile = &self.profiles[profile];
        let view = View { endpoints: &self.endpoints, states: &self.states, now_ms };
        let chance = Chance { seed: self.seed, request: request.id };
        self.candidates.clear();
        self.candidates.extend_from_slice(&self.alive);
        for &at in &profile.filters {
            if let Some(filter) = &mut self.plugins[at].filter {
                filter.apply(chance, request, view, &mut self.candidates);
            }
            if self.candidates.is_empty() {
                return Vec::new();
            }
        }
        self.totals.clear();
        self.totals.resize(self.candidates.len(), 0.0);
        for &(at, weight) in &profile.scorers {
            if let Some(scorer) = &mut self.plugins[at].scorer {
                self.raw_scores.clear();
                scorer.score(request, view, &self.candidates, &mut self.raw_scores);
                add_weighted(&mut self.totals, &self.raw_scores, weight);
            }
        }
        let mut scored: Vec<_> = self.candidates.iter().copied().zip(self.totals.iter().copied()).collect();
        profile.picker.pick(chance, &mut scored);
        scored.into_iter().map(|(endpoint, _)| endpoint).collect()
    }

    fn sent(&mut self, request: &Request<'_>, decision: &Decision, now_ms: f64) {
        let first = |picked: &[usize]| picked.first().copied();
        let (decode, prefill, encode) = (first(&decision.decode), first(&decision.prefill), first(&decision.encode));
        let names = self.stages.map(|stage| stage.map_or("", |at| self.profiles[at].name.as_str()));
        // The router's plugins know a prefill endpoint by the name of its profile only.
        let known = names[Stage::Prefill as usize] == "prefill";
        let both = || decode.into_iter().chain(prefill.filter(|_| known));
        for plugin in &mut self.plugins {
            if let Some(producer) = &mut plugin.prefix {
                producer.sent(request.id, both(), &self.states, now_ms);
            }
            if let Some(Scorer::NoHitLru(scorer)) = &mut plugin.scorer {
                scorer.sent(request.id, both());
            }
            if let Some(sessions) = plugin.sessions_mut() {
                let stage = if sessions.profile().is_empty() {
                    Some(0)
                } else {
                    names.iter().position(|&name| name == sessions.profile())
                };
                let endpoint = stage.and_then(|stage| [decode, prefill, encode][stage]);
                if let Some(endpoint) = endpoint {
                    sessions.sent(request, endpoint, now_ms);
                }
            }
        }
        let Some(load) = self.load_producer.and_then(|at| self.plugins[at].in_flight.as_mut()) else { return };
        for (endpoint, is_prefill) in [(decode, false), (prefill, known), (encode, false)] {
            let Some(state) = endpoint.and_then(|at| self.states.get_mut(at)) else { continue };
            let found = state.prefix(load.producer).copied();
            let added = load.sent(request, endpoint.unwrap_or_default(), found.as_ref(), is_prefill);
            state.in_flight.requests += added.requests;
            state.in_flight.tokens += added.tokens;
        }
    }

    /// The answer to a request starts (its first token) or ends.
    pub fn answered(&mut self, request: u64, ended: bool) {
        let Some(load) = self.load_producer.and_then(|at| self.plugins[at].in_flight.as_mut()) else { return };
        load.answered(request, ended, |endpoint, released| {
            if let Some(state) = self.states.get_mut(endpoint) {
                state.in_flight.requests -= released.requests;
                state.in_flight.tokens -= released.tokens;
            }
        });
    }

    fn forget(&mut self, request: u64) {
        for plugin in &mut self.plugins {
            if let Some(producer) = &mut plugin.prefix {
                producer.dropped(request);
            }
            if let Some(Scorer::NoHitLru(scorer)) = &mut plugin.scorer {
                scorer.dropped(request);
            }
            if let Some(sessions) = plugin.sessions_mut() {
                sessions.dropped(request);
            }
        }
    }
}

#[cfg(test)]
mod tests;
