//! Limits and policies of flow control as configured, with their defaults.

use std::collections::BTreeMap;

use serde_json::Value;

use super::document::{BandSpec, FlowControlSpec};
use super::flow_control::WaitBudget;
use super::units::{duration_ms, quantity};

pub(super) const ORDERING: &str = "fcfs-ordering-policy";
pub(super) const FAIRNESS: &str = "global-strict-fairness-policy";
pub(super) const USAGE_LIMIT: &str = "static-usage-limit-policy";

/// The limits and policies of one priority, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BandConfig {
    /// Most bytes; 0 is no limit.
    pub max_bytes: u64,
    /// Most requests; 0 is no limit.
    pub max_requests: u64,
    /// Plugin of the order inside of a flow.
    pub ordering: String,
    /// Plugin of the order among flows.
    pub fairness: String,
}

/// Flow control as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowControlConfig {
    /// Most bytes over all priorities; 0 is no limit.
    pub max_bytes: u64,
    /// Most requests over all priorities; 0 is no limit.
    pub max_requests: u64,
    /// Priorities that were named.
    pub bands: BTreeMap<i64, BandConfig>,
    /// Any other.
    pub default_band: BandConfig,
    /// Any other below 0.
    pub default_negative_band: Option<BandConfig>,
    /// How long requests wait.
    pub wait: WaitBudget,
    /// Plugin of the ceilings.
    pub usage_limit: String,
}

impl FlowControlConfig {
    /// How often requests that waited too long are removed, ms.
    pub const EXPIRY_INTERVAL_MS: f64 = 1000.0;
    /// Requests between the router's parts that no limit counts.
    pub const ENQUEUE_BUFFER: usize = 100;

    /// Reads the section `flowControl`; without one, all is as the router has it by default. The error says which field is
    /// wrong.
    pub fn resolve(spec: Option<&FlowControlSpec>) -> Result<Self, String> {
        let none = FlowControlSpec::default();
        let spec = spec.unwrap_or(&none);
        let wait = |text: &Option<String>, name: &str| {
            let ms = text.as_ref().map_or(Ok(60_000.0), |text| duration_ms(text))?;
            if ms < 0.0 { Err(format!("{name} cannot be negative")) } else { Ok(ms) }
        };
        let mut bands = BTreeMap::new();
        for band in &spec.priority_bands {
            let resolved = BandConfig::resolve(band, &format!("priority band {}", band.priority))?;
            if bands.insert(band.priority, resolved).is_some() {
                return Err(format!("duplicate priority level {}", band.priority));
            }
        }
        let negative = spec.default_negative_priority_band.as_ref();
        Ok(Self {
            max_bytes: limit(spec.max_bytes.as_ref(), "global MaxBytes")?.unwrap_or(0),
            max_requests: limit(spec.max_requests.as_ref(), "global MaxRequests")?.unwrap_or(0),
            bands,
            default_band: BandConfig::resolve(
                spec.default_priority_band.as_ref().unwrap_or(&BandSpec::default()),
                "default priority band",
            )?,
            default_negative_band: negative
                .map(|band| BandConfig::resolve(band, "default negative priority band"))
                .transpose()?,
            wait: WaitBudget {
                default_ms: wait(&spec.default_request_ttl, "DefaultRequestTTL")?,
                no_endpoint_ms: wait(&spec.no_endpoint_request_ttl, "NoEndpointRequestTTL")?,
            },
            usage_limit: spec.usage_limit_policy_plugin_ref.clone().unwrap_or_else(|| USAGE_LIMIT.to_owned()),
        })
    }
}

impl BandConfig {
    /// Bytes of a band that does not say (1 GB).
    const MAX_BYTES: u64 = 1_000_000_000;
    /// Requests of a band that does not say.
    const MAX_REQUESTS: u64 = 5000;

    fn resolve(spec: &BandSpec, place: &str) -> Result<Self, String> {
        let max_bytes = limit(spec.max_bytes.as_ref(), &format!("{place} MaxBytes"))?;
        let max_requests = limit(spec.max_requests.as_ref(), &format!("{place} MaxRequests"))?;
        let or = |name: &Option<String>, default: &str| {
            name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| default.to_owned())
        };
        Ok(Self {
            max_bytes: max_bytes.filter(|&bytes| bytes > 0).unwrap_or(Self::MAX_BYTES),
            max_requests: max_requests.unwrap_or(Self::MAX_REQUESTS),
            ordering: or(&spec.ordering_policy_ref, ORDERING),
            fairness: or(&spec.fairness_policy_ref, FAIRNESS),
        })
    }
}

fn limit(value: Option<&Value>, place: &str) -> Result<Option<u64>, String> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
    let number = quantity(value)?;
    u64::try_from(number).map(Some).map_err(|_| format!("{place} must be non-negative"))
}
