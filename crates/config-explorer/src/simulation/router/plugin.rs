//! Plugins of the router: what each type is, which parameters it takes and what it reads.
//!
//! In go a type and its parameters, out comes the plugin ready to run. Defaults and checks: llm-d-router ebab687, the
//! factory of each plugin. As there, a parameter that no one knows is an error, except for types that read none.

use serde_json::Value;

use super::disaggregation::{Decider, Disaggregated};
use super::filters::{Filter, Metric, Operator, PrefixAffinity, Selector};
use super::flow_control::{Admitter, Detector, Fairness, LeastAttainedService, Ordering, UsageLimit};
use super::in_flight::InFlightLoad;
use super::parameters::{
    ActiveRequestParameters, AffinityParameters, ApproximateParameters, ConcurrencyParameters, Condition,
    ContextLengthParameters, DeciderNames, DeciderParameters, Expression, HandlerParameters, HeadroomTierParameters,
    HoldbackParameters, InFlightParameters, LabelParameters, LatencyParameters, LoadAwareParameters,
    NoHitLruParameters, NoParameters, PickerParameters, PreciseParameters, PrefixScorerParameters,
    ProbabilisticParameters, ProgramAwareParameters, SelectorParameters, SessionParameters, StageNames,
    StaticLimitParameters, TokenLoadParameters, UtilizationFilterParameters, UtilizationParameters, effective, read,
    require,
};
use super::pickers::{Choice, Picker};
use super::producers::{Approximate, Precise, PrefixProducer};
use super::scorers::{Latency, NoHitLru, Scorer};
use super::session::{Sessions, Strategy};

/// What a plugin can be used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// In a profile, drops candidates.
    Filter,
    /// In a profile, scores candidates.
    Scorer,
    /// In a profile, takes the best.
    Picker,
    /// Chooses the profiles to run.
    ProfileHandler,
    /// Decides on disaggregation.
    Decider,
    /// Makes data that others read.
    Producer,
    /// Measures saturation.
    SaturationDetector,
    /// Orders a flow.
    Ordering,
    /// Chooses a flow.
    Fairness,
    /// Limits priorities.
    UsageLimit,
    /// Turns requests away.
    Admitter,
    /// Reads requests.
    Parser,
    /// Reads metrics.
    DataSource,
    /// Takes metrics out of what was read.
    Extractor,
    /// Has no part in choosing an endpoint.
    Other,
}

/// Data that one plugin makes and another needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// Cached prefix, by the name of the producer.
    Prefix(String),
    /// Token ids of the prompt.
    Tokens,
    /// Load in flight.
    InFlight,
    /// Uncached tokens of the request, which nobody makes unasked.
    UncachedTokens,
    /// Predicted latency.
    Latency,
}

impl Data {
    /// The type that makes the data if nobody else does.
    pub fn default_producer(&self) -> Option<&'static str> {
        match self {
            Self::Prefix(name) => (name == APPROXIMATE).then_some(APPROXIMATE),
            Self::Tokens => Some("token-producer"),
            Self::InFlight => Some("inflight-load-producer"),
            Self::UncachedTokens => None,
            Self::Latency => Some("predicted-latency-producer"),
        }
    }
}

/// The default prefix producer.
pub const APPROXIMATE: &str = "approx-prefix-cache-producer";

/// The profile handler of one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfileHandler {
    /// Runs the only profile.
    Single,
    /// Runs decode, encode and prefill.
    Disaggregated(Disaggregated),
}

/// A plugin, ready to run in each of its roles.
#[derive(Debug, Clone, Default)]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Its parameters, with defaults.
    pub effective: Value,
    /// What it can be used as.
    pub roles: Vec<Role>,
    /// What it needs.
    pub needs: Vec<Data>,
    /// What it makes.
    pub makes: Vec<Data>,
    /// As a filter.
    pub filter: Option<Filter>,
    /// As a scorer.
    pub scorer: Option<Scorer>,
    /// As a picker.
    pub picker: Option<Picker>,
    /// As a profile handler.
    pub handler: Option<ProfileHandler>,
    /// As a decider.
    pub decider: Option<Decider>,
    /// As a prefix producer.
    pub prefix: Option<PrefixProducer>,
    /// As the producer of load in flight.
    pub in_flight: Option<InFlightLoad>,
    /// As a saturation detector.
    pub detector: Option<Detector>,
    /// As an ordering policy.
    pub ordering: Option<Ordering>,
    /// As a fairness policy.
    pub fairness: Option<Fairness>,
    /// As a usage limit.
    pub usage_limit: Option<UsageLimit>,
    /// As an admitter.
    pub admitter: Option<Admitter>,
}

/// Names of the deciders that a profile handler's parameters refer to: prefill and encode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct DeciderReferences {
    prefill: String,
    encode: String,
}

fn handler(parameters: Option<&Value>) -> Result<(Disaggregated, DeciderReferences), String> {
    let read: HandlerParameters = read(parameters)?;
    let flat = [
        &read.decode_profile,
        &read.prefill_profile,
        &read.encode_profile,
        &read.decider_plugin_name,
        &read.prefill_decider_plugin_name,
        &read.encode_decider_plugin_name,
    ];
    let nested = read.profiles.is_some() || read.deciders.is_some();
    require(
        !nested || flat.iter().all(|field| field.is_none()),
        "`profiles` and `deciders` are mixed with their older forms: use one format exclusively",
    )?;
    let prefill_first = match read.stage_order.as_str() {
        "" | "decode-first" | "DecodeFirst" => false,
        "prefill-first" | "PrefillFirst" => true,
        other => return Err(format!("invalid stage order `{other}`: decode-first or prefill-first")),
    };
    let names = read.profiles.unwrap_or(StageNames {
        decode: read.decode_profile.unwrap_or_default(),
        prefill: read.prefill_profile.unwrap_or_default(),
        encode: read.encode_profile.unwrap_or_default(),
    });
    let deciders = read.deciders.unwrap_or(DeciderNames {
        prefill: read.prefill_decider_plugin_name.or(read.decider_plugin_name).unwrap_or_default(),
        encode: read.encode_decider_plugin_name.unwrap_or_default(),
    });
    require(
        !prefill_first || deciders.prefill.is_empty(),
        "prefill decider is not supported in prefill-first stage order",
    )?;
    let or = |name: String, default: &str| if name.is_empty() { default.to_owned() } else { name };
    let profiles = [or(names.decode, "decode"), or(names.prefill, "prefill"), or(names.encode, "encode")];
    let references = DeciderReferences { prefill: deciders.prefill, encode: deciders.encode };
    Ok((Disaggregated { prefill_first, profiles, prefill: None, encode: None }, references))
}

fn sessions(parameters: Option<&Value>) -> Result<(Value, Sessions), String> {
    let read: SessionParameters = read(parameters)?;
    let header = |name: &str| name.trim().to_lowercase();
    let strategy = match read.strategy.as_str() {
        "encoded_endpoint_header" => {
            let name = header(&read.encoded_endpoint_header_config.header);
            Strategy::EncodedEndpoint { header: if name.is_empty() { "x-session-token".to_owned() } else { name } }
        }
        "session_id" => {
            let config = &read.session_id_config;
            for source in &config.sources {
                let one = source.header.is_empty() != source.attribute.is_empty();
                require(one, "sessionIdConfig.sources: exactly one of header or attribute must be set")?;
            }
            require(config.eviction_ttl_seconds >= 0.0, "evictionTtlSeconds must be > 0")?;
            require(config.eviction_sweep_seconds >= 0.0, "evictionSweepSeconds must be > 0")?;
            let mut headers: Vec<_> = config.sources.iter().map(|source| header(&source.header)).collect();
            // Attributes come from plugins that are not simulated.
            headers.retain(|name| !name.is_empty());
            if config.sources.is_empty() {
                headers.push("x-session-id".to_owned());
            }
            let ttl_s = if config.eviction_ttl_seconds > 0.0 { config.eviction_ttl_seconds } else { 300.0 };
            Strategy::SessionId { headers, ttl_ms: ttl_s * 1000.0 }
        }
        _ => return Err(r#"strategy must be "encoded_endpoint_header" or "session_id""#.to_owned()),
    };
    let sessions = Sessions::new(strategy, read.profile_name.clone());
    Ok((effective(&read)?, sessions))
}

fn utilization_filter(parameters: Option<&Value>) -> Result<(Value, Filter), String> {
    let read: UtilizationFilterParameters = read(parameters)?;
    require(!read.conditions.is_empty(), "utilization-filter requires at least one condition")?;
    let condition = |condition: &Condition| {
        let metric = match condition.metric.as_str() {
            "active-requests" => Metric::ActiveRequests,
            "running-requests" => Metric::RunningRequests,
            "waiting-queue" => Metric::WaitingQueue,
            "kv-cache-utilization" => Metric::KvCacheUtilization,
            _ => {
                return Err("condition metric must be one of active-requests, running-requests, waiting-queue, \
                            kv-cache-utilization"
                    .to_owned());
            }
        };
        let max = condition.max_value.filter(|&max| max >= 0.0);
        let max = max.ok_or_else(|| format!("condition `{}` requires a non-negative maxValue", condition.metric))?;
        require(
            metric != Metric::KvCacheUtilization || max <= 1.0,
            "maxValue of kv-cache-utilization is a fraction and must be at most 1",
        )?;
        Ok((metric, max))
    };
    let conditions = read.conditions.iter().map(condition).collect::<Result<_, String>>()?;
    Ok((effective(&read)?, Filter::Utilization { conditions, fallback_on_empty: read.fallback_on_empty }))
}

fn role_filter(values: &[&str], allows_no_label: bool) -> Filter {
    let values = values.iter().map(|&value| value.to_owned()).collect();
    Filter::Label { label: super::endpoint::ROLE_LABEL.to_owned(), values, allows_no_label }
}

impl Plugin {
    /// A plugin of a type. `decider` finds the deciders that a profile handler refers to: an error says why not. `number`
    /// tells plugins apart. `Ok(None)` for a type that is not simulated.
    pub fn new(
        kind: &str,
        name: &str,
        parameters: Option<&Value>,
        number: u64,
        decider: &dyn Fn(&str) -> Result<Decider, String>,
    ) -> Result<Option<Self>, String> {
        let mut plugin = Self { name: name.to_owned(), kind: kind.to_owned(), ..Self::default() };
        plugin.fill(parameters, number, decider).map(|known| known.then_some(plugin))
    }

    fn fill(
        &mut self,
        parameters: Option<&Value>,
        number: u64,
        decider: &dyn Fn(&str) -> Result<Decider, String>,
    ) -> Result<bool, String> {
        let prefix = |name: &str| Data::Prefix(if name.is_empty() { APPROXIMATE } else { name }.to_owned());
        let mut role = None;
        match self.kind.as_str() {
            "queue-scorer" => self.scorer = Some(Scorer::Queue),
            "running-requests-size-scorer" => self.scorer = Some(Scorer::Running),
            "kv-cache-utilization-scorer" => self.scorer = Some(Scorer::KvCache),
            "lora-affinity-scorer" => self.scorer = Some(Scorer::Lora),
            "load-aware-scorer" => {
                let read: LoadAwareParameters = read(parameters)?;
                let threshold = if read.threshold > 0 { read.threshold } else { 128 };
                self.scorer = Some(Scorer::LoadAware { threshold: threshold as f64 });
                self.effective = effective(&read)?;
            }
            "active-request-scorer" => {
                let read: ActiveRequestParameters = read(parameters)?;
                let score = if (0.0..=1.0).contains(&read.max_busy_score) { read.max_busy_score } else { 1.0 };
                self.scorer =
                    Some(Scorer::ActiveRequest { idle_threshold: read.idle_threshold.max(0), max_busy_score: score });
                self.needs.push(Data::InFlight);
                self.effective = effective(&read)?;
            }
            "token-load-scorer" => {
                let read: TokenLoadParameters = read(parameters)?;
                let threshold = read.queue_threshold_tokens;
                let threshold = if threshold > 0 { threshold } else { 4_194_304 };
                self.scorer = Some(Scorer::TokenLoad { threshold_tokens: threshold as f64 });
                self.needs.extend([Data::InFlight, Data::UncachedTokens]);
                self.effective = effective(&read)?;
            }
            "prefix-cache-scorer" => {
                let read: PrefixScorerParameters = read(parameters)?;
                let weight = read.match_length_weight;
                require((0.0..=1.0).contains(&weight), "matchLengthWeight must be between 0.0 and 1.0")?;
                require(
                    weight <= 0.0 || read.match_length_scale_tokens > 0,
                    "matchLengthScaleTokens must be greater than 0 when matchLengthWeight is greater than 0",
                )?;
                self.scorer = Some(Scorer::Prefix {
                    length_weight: weight,
                    length_scale_tokens: read.match_length_scale_tokens as f64,
                    producer: 0,
                });
                self.needs.push(prefix(&read.prefix_match_info_producer_name));
                self.effective = effective(&read)?;
            }
            "no-hit-lru-scorer" => {
                let read: NoHitLruParameters = read(parameters)?;
                let size = if read.lru_size > 0 { read.lru_size } else { 1024 };
                self.scorer = Some(Scorer::NoHitLru(NoHitLru::new(size as usize)));
                self.needs.push(prefix(&read.prefix_match_info_producer_name));
                self.effective = effective(&read)?;
            }
            "context-length-aware" => {
                let read: ContextLengthParameters = read(parameters)?;
                // With filtering off it is still a filter, one that keeps all.
                let pass = Filter::Utilization { conditions: Vec::new(), fallback_on_empty: false };
                let filter = Filter::ContextLength { label: read.label.clone() };
                self.filter = Some(if read.enable_filtering { filter } else { pass });
                self.scorer = Some(Scorer::ContextLength { label: read.label.clone() });
                self.needs.push(Data::Tokens);
                self.effective = effective(&read)?;
            }
            "latency-scorer" => {
                let read: LatencyParameters = read(parameters)?;
                let strategy = read.headroom_selection_strategy.as_str();
                require(
                    matches!(strategy, "" | "least" | "most"),
                    "headroomSelectionStrategy must be `least` or `most`",
                )?;
                let weights = [read.composite_kv_weight, read.composite_queue_weight, read.composite_prefix_weight];
                require(
                    weights.iter().chain([&read.ttft_weight, &read.tpot_weight]).all(|&weight| weight >= 0.0),
                    "weights must be >= 0",
                )?;
                self.scorer = Some(Scorer::Latency(Latency {
                    ttft_weight: read.ttft_weight,
                    tpot_weight: read.tpot_weight,
                    most_headroom: strategy == "most",
                    fallback_weights: weights,
                    producer: 0,
                }));
                self.needs.extend([Data::Latency, prefix(&read.prefix_match_info_producer_name)]);
                self.effective = effective(&read)?;
            }
            "session-affinity-scorer" => {
                let (effective, sessions) = sessions(parameters)?;
                (self.scorer, self.effective) = (Some(Scorer::Session(sessions)), effective);
            }
            "session-affinity-filter" => {
                let (effective, sessions) = sessions(parameters)?;
                (self.filter, self.effective) = (Some(Filter::Session(sessions)), effective);
            }
            "by-label" => {
                let read: LabelParameters = read(parameters)?;
                require(!read.label.is_empty(), "'label' must be specified")?;
                require(
                    !read.valid_values.is_empty() || read.allows_no_label,
                    "either 'validValues' must be non-empty or 'allowsNoLabel' must be true",
                )?;
                self.effective = effective(&read)?;
                self.filter = Some(Filter::Label {
                    label: read.label,
                    values: read.valid_values,
                    allows_no_label: read.allows_no_label,
                });
            }
            "decode-filter" => {
                let roles = ["decode", "prefill-decode", "encode-prefill-decode", "both"];
                self.filter = Some(role_filter(&roles, true));
            }
            "prefill-filter" => {
                let roles = ["prefill", "encode-prefill", "prefill-decode", "encode-prefill-decode", "both"];
                self.filter = Some(role_filter(&roles, false));
            }
            "encode-filter" => {
                self.filter = Some(role_filter(&["encode", "encode-prefill", "encode-prefill-decode"], false));
            }
            "label-selector-filter" => {
                let read: SelectorParameters = read(parameters)?;
                let expression = |expression: &Expression| {
                    let operator = match expression.operator.as_str() {
                        "In" => Operator::In,
                        "NotIn" => Operator::NotIn,
                        "Exists" => Operator::Exists,
                        "DoesNotExist" => Operator::DoesNotExist,
                        other => return Err(format!("`{other}` is not a valid label selector operator")),
                    };
                    let lists = matches!(operator, Operator::In | Operator::NotIn);
                    require(
                        lists != expression.values.is_empty(),
                        "values must be given for In and NotIn, and for no other operator",
                    )?;
                    require(!expression.key.is_empty(), "an expression of the selector has no key")?;
                    Ok((expression.key.clone(), operator, expression.values.clone()))
                };
                let expressions = read.match_expressions.iter().map(expression).collect::<Result<_, String>>()?;
                self.effective = effective(&read)?;
                self.filter = Some(Filter::Selector(Selector { labels: read.match_labels, expressions }));
            }
            "prefix-cache-affinity-filter" => {
                let read: AffinityParameters = read(parameters)?;
                let unit = 0.0..=1.0;
                require(unit.contains(&read.affinity_threshold), "affinityThreshold must be in [0, 1]")?;
                require(unit.contains(&read.exploration_probability), "explorationProbability must be in [0, 1]")?;
                require(read.max_ttft_penalty_ms >= 0.0, "maxTTFTPenaltyMs must be >= 0")?;
                require(read.peak_prefill_throughput >= 0.0, "peakPrefillThroughput must be >= 0")?;
                let predicted = match read.ttft_source.as_str() {
                    "latencyPredictor" => true,
                    "prefillThroughput" => false,
                    _ => return Err(r#"ttftSource must be "latencyPredictor" or "prefillThroughput""#.to_owned()),
                };
                let gated = read.max_ttft_penalty_ms > 0.0;
                require(
                    predicted || !gated || read.peak_prefill_throughput > 0.0,
                    "peakPrefillThroughput must be > 0 when ttftSource is prefillThroughput",
                )?;
                self.filter = Some(Filter::PrefixAffinity(PrefixAffinity {
                    threshold: read.affinity_threshold,
                    explore: read.exploration_probability,
                    max_ttft_penalty_ms: read.max_ttft_penalty_ms,
                    prefill_tokens_per_s: (!predicted).then_some(read.peak_prefill_throughput),
                    producer: 0,
                    salt: number,
                }));
                self.needs.push(prefix(&read.prefix_match_info_producer_name));
                self.needs.extend(gated.then_some(if predicted { Data::Latency } else { Data::InFlight }));
                self.effective = effective(&read)?;
            }
            "slo-headroom-tier-filter" => {
                let read: HeadroomTierParameters = read(parameters)?;
                require((0.0..=1.0).contains(&read.epsilon_explore_neg), "epsilonExploreNeg must be in [0, 1]")?;
                self.filter = Some(Filter::HeadroomTier { explore: read.epsilon_explore_neg, salt: number });
                self.needs.push(Data::Latency);
                self.effective = effective(&read)?;
            }
            "utilization-filter" => {
                let (effective, filter) = utilization_filter(parameters)?;
                if let Filter::Utilization { conditions, .. } = &filter
                    && conditions.iter().any(|(metric, _)| *metric == Metric::ActiveRequests)
                {
                    self.needs.push(Data::InFlight);
                }
                (self.filter, self.effective) = (Some(filter), effective);
            }
            "max-score-picker" | "random-picker" | "weighted-random-picker" => {
                let read: PickerParameters = read(parameters)?;
                let choice = match self.kind.as_str() {
                    "max-score-picker" => Choice::MaxScore,
                    "random-picker" => Choice::Random,
                    _ => Choice::WeightedRandom,
                };
                self.picker = Some(Picker { choice, count: read.max_num_of_endpoints.max(1) as usize });
                self.effective = effective(&read)?;
            }
            "single-profile-handler" => self.handler = Some(ProfileHandler::Single),
            "disagg-profile-handler" | "pd-profile-handler" => {
                let (mut disaggregated, names) = handler(parameters)?;
                let find = |name: &str| if name.is_empty() { Ok(None) } else { decider(name).map(Some) };
                disaggregated.prefill = find(&names.prefill)?;
                disaggregated.encode = find(&names.encode)?;
                let order = if disaggregated.prefill_first { "prefill-first" } else { "decode-first" };
                self.effective = serde_json::json!({ "stageOrder": order });
                self.needs.extend([Data::Tokens, prefix(APPROXIMATE)]);
                self.handler = Some(ProfileHandler::Disaggregated(disaggregated));
            }
            "always-disagg-pd-decider" => self.decider = Some(Decider::Always),
            "always-disagg-multimodal-decider" => self.decider = Some(Decider::Multimodal),
            "prefix-based-pd-decider" => {
                let read: DeciderParameters = read(parameters)?;
                let at_least = |value: i64, name: &str| {
                    require(value >= 0, format!("{name} parameter of prefix disaggregation decider cannot be negative"))
                };
                at_least(read.non_cached_tokens, "nonCachedTokens")?;
                at_least(read.prompt_tokens, "promptTokens")?;
                self.decider = Some(Decider::Prefix {
                    non_cached_tokens: read.non_cached_tokens,
                    prompt_tokens: read.prompt_tokens,
                    producer: 0,
                });
                self.effective = effective(&read)?;
            }
            APPROXIMATE => {
                let mut read: ApproximateParameters = read(parameters)?;
                require(read.max_prefix_tokens_to_match >= 0, "MaxPrefixTokensToMatch must be >= 0")?;
                require(read.max_prefix_blocks_to_match >= 0, "MaxPrefixBlocksToMatch must be >= 0")?;
                if read.block_size > 0 && read.block_size_tokens == ApproximateParameters::default().block_size_tokens {
                    read.block_size_tokens = read.block_size;
                }
                read.block_size = 0;
                require(
                    read.auto_tune || read.block_size_tokens > 0,
                    "BlockSizeTokens must be > 0 when AutoTune is disabled",
                )?;
                self.prefix = Some(PrefixProducer::Approximate(Approximate::new(
                    read.auto_tune,
                    read.block_size_tokens.max(0) as usize,
                    read.max_prefix_blocks_to_match as usize,
                    read.max_prefix_tokens_to_match as usize,
                    read.lru_capacity_per_server.max(0) as usize,
                )));
                self.makes.push(Data::Prefix(self.name.clone()));
                self.needs.push(Data::Tokens);
                self.effective = effective(&read)?;
            }
            "precise-prefix-cache-producer" | "precise-prefix-cache-scorer" => {
                let read: PreciseParameters = read(parameters)?;
                require(read.token_processor_config.block_size > 0, "tokenProcessorConfig.blockSize must be > 0")?;
                let ttl_ms = super::units::duration_ms(&read.speculative_ttl)?;
                let block_size = read.token_processor_config.block_size as usize;
                let speculative_ttl_ms = read.speculative_indexing.then_some(ttl_ms);
                self.prefix = Some(PrefixProducer::Precise(Precise::new(block_size, speculative_ttl_ms)));
                if self.kind == "precise-prefix-cache-scorer" {
                    self.scorer = Some(Scorer::Prefix { length_weight: 0.0, length_scale_tokens: 8192.0, producer: 0 });
                    self.needs.push(Data::Prefix(self.name.clone()));
                }
                self.makes.push(Data::Prefix(self.name.clone()));
                self.needs.push(Data::Tokens);
                self.effective = effective(&read)?;
            }
            "inflight-load-producer" => {
                let read: InFlightParameters = read(parameters)?;
                require(read.output_ratio >= 0.0, "outputRatio must be non-negative")?;
                let max = read.max_estimated_output_tokens;
                require(max.is_none_or(|max| max >= 0), "maxEstimatedOutputTokens must be non-negative")?;
                self.in_flight = Some(InFlightLoad::new(read.add_estimated_output_tokens, read.output_ratio, max));
                self.makes.extend([Data::InFlight, Data::UncachedTokens]);
                self.needs.push(Data::Tokens);
                self.effective = effective(&read)?;
            }
            "token-producer" => {
                self.makes.push(Data::Tokens);
                role = Some(Role::Producer);
            }
            "predicted-latency-producer" => {
                self.makes.push(Data::Latency);
                role = Some(Role::Producer);
            }
            "utilization-detector" => {
                let read: UtilizationParameters = read(parameters)?;
                require(read.queue_depth_threshold > 0, "queueDepthThreshold must be strictly positive")?;
                let kv_usage = read.kv_cache_util_threshold;
                require(kv_usage > 0.0 && kv_usage <= 1.0, "kvCacheUtilThreshold must be in (0.0, 1.0]")?;
                let stale_ms = super::units::duration_ms(&read.metrics_staleness_threshold)?;
                require(stale_ms > 0.0, "metricsStalenessThreshold must be strictly positive")?;
                require(read.headroom >= 0.0, "headroom must be a non-negative value")?;
                let queue = read.queue_depth_threshold as f64;
                self.detector = Some(Detector::Utilization { queue, kv_usage, stale_ms, headroom: read.headroom });
                self.effective = effective(&read)?;
            }
            "concurrency-detector" => {
                let read: ConcurrencyParameters = read(parameters)?;
                require(read.max_concurrency > 0, "maxConcurrency must be strictly positive")?;
                require(read.max_token_concurrency > 0, "maxTokenConcurrency must be strictly positive")?;
                require(read.headroom >= 0.0, "headroom must be a non-negative value")?;
                let (by_requests, by_tokens) = match read.concurrency_mode.as_str() {
                    "requests" => (true, false),
                    "tokens" => (false, true),
                    "hybrid" => (true, true),
                    other => return Err(format!("unsupported concurrencyMode `{other}`: requests, tokens or hybrid")),
                };
                self.detector = Some(Detector::Concurrency {
                    requests: by_requests.then_some(read.max_concurrency as f64),
                    tokens: by_tokens.then_some(read.max_token_concurrency as f64),
                    headroom: read.headroom,
                });
                self.needs.push(Data::InFlight);
                self.effective = effective(&read)?;
            }
            "fcfs-ordering-policy" => self.ordering = Some(Ordering::Fcfs),
            "edf-ordering-policy" => self.ordering = Some(Ordering::Edf),
            "slo-deadline-ordering-policy" => self.ordering = Some(Ordering::SloDeadline),
            "global-strict-fairness-policy" => self.fairness = Some(Fairness::GlobalStrict),
            "round-robin-fairness-policy" => self.fairness = Some(Fairness::RoundRobin { last: None }),
            "program-aware-fairness" => {
                let read: ProgramAwareParameters = read(parameters)?;
                require(read.las_half_life_seconds >= 0.0, "lasHalfLifeSeconds must be >= 0")?;
                require(
                    read.las_weight_service >= 0.0 && read.las_weight_head_wait >= 0.0,
                    "lasWeightService and lasWeightHeadWait must be >= 0",
                )?;
                require(read.strategy == "las", "strategy must be `las`: others are not simulated")?;
                self.fairness = Some(Fairness::ProgramAware(LeastAttainedService::new(
                    read.las_weight_service,
                    read.las_weight_head_wait,
                    read.las_half_life_seconds,
                )));
                self.effective = effective(&read)?;
            }
            "static-usage-limit-policy" => {
                let read: StaticLimitParameters = read(parameters)?;
                self.usage_limit = Some(UsageLimit::Static { ceiling: read.threshold });
                self.effective = effective(&read)?;
            }
            "priority-holdback-policy" => {
                let read: HoldbackParameters = read(parameters)?;
                let min = read.min_ceiling.ok_or("minCeiling is required")?;
                require(read.shape == "linear", "unsupported shape: linear")?;
                require((0.0..1.0).contains(&min), "minCeiling must be in [0.0, 1.0)")?;
                require(read.max_ceiling > 0.0 && read.max_ceiling <= 1.0, "maxCeiling must be in (0.0, 1.0]")?;
                require(min < read.max_ceiling, "minCeiling must be strictly less than maxCeiling")?;
                let by_value = match read.domain.as_str() {
                    "rank" => false,
                    "value" => true,
                    other => return Err(format!("unsupported domain `{other}`: rank or value")),
                };
                self.usage_limit = Some(UsageLimit::PriorityHoldback { min, max: read.max_ceiling, by_value });
                self.effective = effective(&read)?;
            }
            "soft-reflective-ceiling-policy" => {
                let NoParameters {} = read(parameters).map_err(|error| format!("takes no parameters: {error}"))?;
                self.usage_limit = Some(UsageLimit::SoftReflective { ticks: 0 });
            }
            "probabilistic-admitter" => {
                let read: ProbabilisticParameters = read(parameters)?;
                require(read.queue_depth_threshold > 0, "queueDepthThreshold must be > 0")?;
                require(read.kv_cache_util_threshold > 0.0, "kvCacheUtilThreshold must be > 0")?;
                require(read.power > 0.0, "power must be > 0")?;
                require(read.k > 0.0, "k must be > 0")?;
                self.admitter = Some(Admitter::Probabilistic {
                    queue: read.queue_depth_threshold as f64,
                    kv_usage: read.kv_cache_util_threshold,
                    power: read.power,
                    k: read.k,
                });
                self.effective = effective(&read)?;
            }
            "latency-slo-admitter" => {
                self.admitter = Some(Admitter::LatencySlo);
                self.needs.push(Data::Latency);
            }
            "openai-parser" | "anthropic-parser" | "vllmhttp-parser" | "passthrough-parser" => {
                role = Some(Role::Parser);
            }
            "metrics-data-source" | "endpoint-notification-source" => role = Some(Role::DataSource),
            "core-metrics-extractor" => role = Some(Role::Extractor),
            "file-discovery" | "disagg-headers-handler" | "prefill-header-handler" => role = Some(Role::Other),
            _ => return Ok(false),
        }
        if let Some(detector) = self.detector {
            self.filter = Some(Filter::Unsaturated(detector));
        }
        let roles = [
            (Role::Filter, self.filter.is_some()),
            (Role::Scorer, self.scorer.is_some()),
            (Role::Picker, self.picker.is_some()),
            (Role::ProfileHandler, self.handler.is_some()),
            (Role::Decider, self.decider.is_some()),
            (Role::Producer, self.prefix.is_some() || self.in_flight.is_some()),
            (Role::SaturationDetector, self.detector.is_some()),
            (Role::Ordering, self.ordering.is_some()),
            (Role::Fairness, self.fairness.is_some()),
            (Role::UsageLimit, self.usage_limit.is_some()),
            (Role::Admitter, self.admitter.is_some()),
        ];
        self.roles = roles.into_iter().filter_map(|(role, has)| has.then_some(role)).chain(role).collect();
        Ok(true)
    }

    /// Whether it can be used as something.
    pub fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Names of the deciders it refers to, if it is a profile handler of disaggregation.
    pub fn deciders(kind: &str, parameters: Option<&Value>) -> Vec<String> {
        let handler = matches!(kind, "disagg-profile-handler" | "pd-profile-handler").then(|| handler(parameters).ok());
        let names = handler.flatten().map(|(_, names)| [names.prefill, names.encode]);
        names.into_iter().flatten().filter(|name| !name.is_empty()).collect()
    }

    /// The prefix producer it reads, by name.
    pub(super) fn reads_prefix_of(&self) -> Option<&str> {
        self.needs.iter().find_map(|need| match need {
            Data::Prefix(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The sessions it keeps, as a filter or a scorer.
    pub fn sessions_mut(&mut self) -> Option<&mut Sessions> {
        match (&mut self.filter, &mut self.scorer) {
            (Some(Filter::Session(sessions)), _) | (_, Some(Scorer::Session(sessions))) => Some(sessions),
            _ => None,
        }
    }

    /// Tells the plugin where the prefix producer stands whose data it reads.
    pub(super) fn set_producer(&mut self, place: usize) {
        match &mut self.scorer {
            Some(Scorer::Prefix { producer, .. }) => *producer = place,
            Some(Scorer::NoHitLru(scorer)) => scorer.producer = place,
            Some(Scorer::Latency(scorer)) => scorer.producer = place,
            _ => {}
        }
        if let Some(Filter::PrefixAffinity(filter)) = &mut self.filter {
            filter.producer = place;
        }
        if let Some(Decider::Prefix { producer, .. }) = &mut self.decider {
            *producer = place;
        }
        if let Some(ProfileHandler::Disaggregated(handler)) = &mut self.handler {
            for decider in [&mut handler.prefill, &mut handler.encode].into_iter().flatten() {
                if let Decider::Prefix { producer, .. } = decider {
                    *producer = place;
                }
            }
        }
        if let Some(load) = &mut self.in_flight {
            load.producer = place;
        }
    }
}
