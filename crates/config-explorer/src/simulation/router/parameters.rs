//! The parameters of each type of plugin, with their defaults (llm-d-router ebab687, the factory of each plugin).

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plugin::APPROXIMATE;

/// Reads parameters; a null is as good as none. The error names the field.
pub(super) fn read<T: DeserializeOwned>(parameters: Option<&Value>) -> Result<T, String> {
    fn without_nulls(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let fields = fields.iter().filter(|(_, value)| !value.is_null());
                Value::Object(fields.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
            }
            other => other.clone(),
        }
    }
    let parameters = parameters.map_or_else(|| Value::Object(serde_json::Map::new()), without_nulls);
    let parameters = if parameters.is_null() { Value::Object(serde_json::Map::new()) } else { parameters };
    serde_json::from_value(parameters).map_err(|error| error.to_string())
}

pub(super) fn require(holds: bool, reason: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason.into()) }
}

/// Parameters as JSON, defaults included.
pub(super) fn effective(read: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(read).map_err(|error| error.to_string())
}

/// Parameters of one type: fields in camel case, with defaults.
macro_rules! parameters {
    ($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty = $default:expr),* $(,)? }) => {
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
        pub(super) struct $name { $($(#[$attribute])* pub(super) $field: $type),* }
        impl Default for $name {
            fn default() -> Self { Self { $($field: $default),* } }
        }
    };
}

parameters!(LoadAwareParameters { threshold: i64 = 128 });
parameters!(ActiveRequestParameters {
    idle_threshold: i64 = 0,
    max_busy_score: f64 = 1.0,
    // No longer used, but still in files.
    request_timeout: Option<Value> = None,
    in_flight_load_producer_name: Option<String> = None,
});
parameters!(TokenLoadParameters {
    queue_threshold_tokens: i64 = 4_194_304,
    in_flight_load_producer_name: Option<String> = None,
});
parameters!(PrefixScorerParameters {
    match_length_weight: f64 = 0.0,
    match_length_scale_tokens: i64 = 8192,
    prefix_match_info_producer_name: String = APPROXIMATE.to_owned(),
});
parameters!(NoHitLruParameters {
    lru_size: i64 = 1024,
    prefix_match_info_producer_name: String = APPROXIMATE.to_owned(),
    // Names of the plugin that made the data before producers existed.
    prefix_plugin_type: Option<String> = None,
    prefix_plugin_name: Option<String> = None,
});
parameters!(ContextLengthParameters {
    label: String = "llm-d.ai/context-length-range".to_owned(),
    enable_filtering: bool = false,
});
parameters!(LatencyParameters {
    ttft_weight: f64 = 0.8,
    tpot_weight: f64 = 0.2,
    headroom_selection_strategy: String = "least".to_owned(),
    #[serde(rename = "compositeKVWeight")]
    composite_kv_weight: f64 = 1.0,
    composite_queue_weight: f64 = 1.0,
    composite_prefix_weight: f64 = 1.0,
    prefix_match_info_producer_name: String = APPROXIMATE.to_owned(),
    latency_prediction_info_producer_name: Option<String> = None,
});
parameters!(SessionParameters {
    strategy: String = "encoded_endpoint_header".to_owned(),
    profile_name: String = String::new(),
    encoded_endpoint_header_config: EncodedHeaderParameters = EncodedHeaderParameters::default(),
    session_id_config: SessionIdParameters = SessionIdParameters::default(),
});
parameters!(EncodedHeaderParameters { header: String = "x-session-token".to_owned() });
parameters!(SessionIdParameters {
    sources: Vec<SessionSource> = Vec::new(),
    eviction_ttl_seconds: f64 = 0.0,
    eviction_sweep_seconds: f64 = 0.0,
});
parameters!(SessionSource { header: String = String::new(), attribute: String = String::new() });
parameters!(LabelParameters {
    label: String = String::new(),
    valid_values: Vec<String> = Vec::new(),
    allows_no_label: bool = false,
});
parameters!(SelectorParameters {
    match_labels: BTreeMap<String, String> = BTreeMap::new(),
    match_expressions: Vec<Expression> = Vec::new(),
});
parameters!(Expression {
    key: String = String::new(),
    operator: String = String::new(),
    values: Vec<String> = Vec::new(),
});
parameters!(AffinityParameters {
    affinity_threshold: f64 = 0.8,
    exploration_probability: f64 = 0.0,
    #[serde(rename = "maxTTFTPenaltyMs")]
    max_ttft_penalty_ms: f64 = 18_000.0,
    ttft_source: String = "prefillThroughput".to_owned(),
    // Measured by the router's authors: Qwen 32B on 2 H100 with vLLM 0.19.
    peak_prefill_throughput: f64 = 15_928.0,
    prefix_match_info_producer_name: String = APPROXIMATE.to_owned(),
    latency_prediction_info_producer_name: Option<String> = None,
    in_flight_load_producer_name: Option<String> = None,
});
parameters!(HeadroomTierParameters {
    epsilon_explore_neg: f64 = 0.01,
    latency_prediction_info_producer_name: Option<String> = None,
});
parameters!(UtilizationFilterParameters {
    conditions: Vec<Condition> = Vec::new(),
    fallback_on_empty: bool = false,
});
parameters!(Condition { metric: String = String::new(), max_value: Option<f64> = None });
parameters!(PickerParameters { max_num_of_endpoints: i64 = 1 });
// It reads the default prefix producer's matches, whatever others there are.
parameters!(DeciderParameters { non_cached_tokens: i64 = 0, prompt_tokens: i64 = 0 });
parameters!(HandlerParameters {
    stage_order: String = String::new(),
    profiles: Option<StageNames> = None,
    deciders: Option<DeciderNames> = None,
    // The form before `profiles` and `deciders`.
    decode_profile: Option<String> = None,
    prefill_profile: Option<String> = None,
    encode_profile: Option<String> = None,
    decider_plugin_name: Option<String> = None,
    prefill_decider_plugin_name: Option<String> = None,
    encode_decider_plugin_name: Option<String> = None,
});
parameters!(StageNames {
    decode: String = String::new(),
    prefill: String = String::new(),
    encode: String = String::new(),
});
parameters!(DeciderNames { prefill: String = String::new(), encode: String = String::new() });
parameters!(ApproximateParameters {
    auto_tune: bool = true,
    block_size: i64 = 0,
    block_size_tokens: i64 = 16,
    max_prefix_blocks_to_match: i64 = 2048,
    max_prefix_tokens_to_match: i64 = 131_072,
    lru_capacity_per_server: i64 = 31_250,
});
parameters!(PreciseParameters {
    token_processor_config: TokenProcessor = TokenProcessor::default(),
    speculative_indexing: bool = false,
    #[serde(rename = "speculativeTTL")]
    speculative_ttl: String = "2s".to_owned(),
    // How events reach the index has no part in what it says.
    indexer_config: Option<Value> = None,
    kv_events_config: Option<Value> = None,
});
parameters!(TokenProcessor { block_size: i64 = 16, hash_seed: Option<Value> = None });
parameters!(InFlightParameters {
    add_estimated_output_tokens: bool = false,
    output_ratio: f64 = 1.5,
    max_estimated_output_tokens: Option<i64> = None,
    prefix_match_info_producer_name: String = APPROXIMATE.to_owned(),
    sync_cross_replica_state: Option<bool> = None,
});
parameters!(UtilizationParameters {
    queue_depth_threshold: i64 = 5,
    kv_cache_util_threshold: f64 = 0.8,
    metrics_staleness_threshold: String = "200ms".to_owned(),
    headroom: f64 = 0.0,
});
parameters!(ConcurrencyParameters {
    concurrency_mode: String = "requests".to_owned(),
    max_concurrency: i64 = 100,
    max_token_concurrency: i64 = 1_000_000,
    headroom: f64 = 0.0,
    in_flight_load_producer_name: Option<String> = None,
});
parameters!(StaticLimitParameters { threshold: f64 = 1.0 });
parameters!(HoldbackParameters {
    shape: String = "linear".to_owned(),
    domain: String = "rank".to_owned(),
    min_ceiling: Option<f64> = None,
    max_ceiling: f64 = 1.0,
});
parameters!(NoParameters {});
parameters!(ProbabilisticParameters {
    queue_depth_threshold: i64 = 5,
    kv_cache_util_threshold: f64 = 0.8,
    power: f64 = 5.0,
    k: f64 = 300.0,
});
parameters!(ProgramAwareParameters {
    strategy: String = "las".to_owned(),
    las_weight_service: f64 = 0.8,
    las_weight_head_wait: f64 = 0.2,
    las_half_life_seconds: f64 = 60.0,
});
