//! The sections of an `EndpointPickerConfig` as they are written.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(value: D) -> Result<T, D::Error> {
    Option::deserialize(value).map(Option::unwrap_or_default)
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Document {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) metadata: Option<Value>,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) feature_gates: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) plugins: Vec<PluginSpec>,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) scheduling_profiles: Vec<ProfileSpec>,
    pub(super) saturation_detector: Option<Reference>,
    pub(super) data_layer: Option<DataLayer>,
    pub(super) flow_control: Option<FlowControlSpec>,
    pub(super) request_handler: Option<RequestHandler>,
    pub(super) parser: Option<Reference>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct PluginSpec {
    pub(super) name: Option<String>,
    pub(super) r#type: String,
    pub(super) parameters: Option<Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ProfileSpec {
    pub(super) name: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) plugins: Vec<Reference>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Reference {
    pub(super) plugin_ref: String,
    pub(super) weight: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct DataLayer {
    pub(super) inject_defaults: Option<bool>,
    pub(super) discovery: Option<Reference>,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) sources: Vec<Source>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Source {
    pub(super) plugin_ref: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) extractors: Vec<Reference>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct RequestHandler {
    #[serde(deserialize_with = "null_is_default")]
    pub(super) parsers: Vec<Reference>,
}

/// The section `flowControl` as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FlowControlSpec {
    pub(super) max_bytes: Option<Value>,
    pub(super) max_requests: Option<Value>,
    #[serde(rename = "defaultRequestTTL")]
    pub(super) default_request_ttl: Option<String>,
    #[serde(rename = "noEndpointRequestTTL")]
    pub(super) no_endpoint_request_ttl: Option<String>,
    pub(super) enable_eviction: Option<bool>,
    pub(super) saturation_detector: Option<Reference>,
    pub(super) usage_limit_policy_plugin_ref: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) priority_bands: Vec<BandSpec>,
    pub(super) default_priority_band: Option<BandSpec>,
    pub(super) default_negative_priority_band: Option<BandSpec>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct BandSpec {
    pub(super) priority: i64,
    pub(super) max_bytes: Option<Value>,
    pub(super) max_requests: Option<Value>,
    pub(super) ordering_policy_ref: Option<String>,
    pub(super) fairness_policy_ref: Option<String>,
}
