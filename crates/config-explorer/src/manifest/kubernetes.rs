//! The Kubernetes objects that are written, with the fields that are used. Read back, any other field is an error.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// Labels, or any other text by name.
pub type Texts = BTreeMap<String, String>;

macro_rules! objects {
    ($($(#[doc = $doc:literal])* $name:ident { $($field:ident: $type:ty,)* })*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
            #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
            #[expect(missing_docs, reason = "each field is Kubernetes' own")]
            pub struct $name {
                $(#[serde(skip_serializing_if = "Blank::is_blank")] pub $field: $type,)*
            }
        )*
    };
}

/// What is left out where it says nothing.
trait Blank {
    fn is_blank(&self) -> bool;
}

impl<T> Blank for Option<T> {
    fn is_blank(&self) -> bool {
        self.is_none()
    }
}

impl<T> Blank for Vec<T> {
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl Blank for Texts {
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

/// One that is always written.
macro_rules! never_blank {
    ($($type:ty),*) => { $(impl Blank for $type { fn is_blank(&self) -> bool { false } })* };
}

never_blank!(
    String,
    u32,
    u16,
    Metadata,
    PodSpec,
    PodTemplate,
    Selector,
    WorkerTemplate,
    PoolPort,
    ScaleTarget,
    Resources
);

objects! {
    /// `metadata`
    Metadata { name: Option<String>, namespace: Option<String>, labels: Texts, annotations: Texts, }
    /// A selector by labels.
    Selector { match_labels: Texts, }
    /// A pod of a workload.
    PodTemplate { metadata: Option<Metadata>, spec: PodSpec, }
    /// What runs in a pod.
    PodSpec {
        service_account_name: Option<String>,
        automount_service_account_token: Option<bool>,
        restart_policy: Option<String>,
        security_context: Option<PodSecurityContext>,
        node_selector: Texts,
        init_containers: Vec<Container>,
        containers: Vec<Container>,
        volumes: Vec<Volume>,
        termination_grace_period_seconds: Option<u32>,
    }
    /// A container.
    Container {
        name: String,
        image: Option<String>,
        image_pull_policy: Option<String>,
        command: Vec<String>,
        args: Vec<String>,
        env: Vec<EnvVar>,
        ports: Vec<ContainerPort>,
        resources: Option<Resources>,
        security_context: Option<SecurityContext>,
        restart_policy: Option<String>,
        startup_probe: Option<Probe>,
        liveness_probe: Option<Probe>,
        readiness_probe: Option<Probe>,
        volume_mounts: Vec<VolumeMount>,
    }
    /// A variable of a container.
    EnvVar { name: String, value: Option<String>, value_from: Option<EnvSource>, }
    /// Where a variable's value comes from.
    EnvSource { secret_key_ref: Option<SecretKey>, field_ref: Option<FieldPath>, }
    /// A key of a secret.
    SecretKey { name: String, key: String, optional: Option<bool>, }
    /// A field of the pod.
    FieldPath { field_path: String, }
    /// A port of a container.
    ContainerPort { name: Option<String>, container_port: u16, protocol: Option<String>, }
    /// CPU, memory and devices.
    Resources { requests: Texts, limits: Texts, }
    /// What a container may do.
    SecurityContext {
        allow_privilege_escalation: Option<bool>,
        run_as_non_root: Option<bool>,
        run_as_user: Option<u32>,
        run_as_group: Option<u32>,
        capabilities: Option<Capabilities>,
    }
    /// Capabilities of a container.
    Capabilities { add: Vec<String>, }
    /// A probe.
    Probe {
        http_get: Option<HttpGet>,
        initial_delay_seconds: Option<u32>,
        period_seconds: Option<u32>,
        timeout_seconds: Option<u32>,
        failure_threshold: Option<u32>,
    }
    /// What a probe asks; the port by its name.
    HttpGet { path: String, port: String, }
    /// Where a volume is mounted.
    VolumeMount { name: String, mount_path: String, }
    /// A volume: as long as its pod lives, or for longer.
    Volume { name: String, empty_dir: Option<EmptyDir>, persistent_volume_claim: Option<Claim>, }
    /// The claim of a volume.
    Claim { claim_name: String, }
    /// Who the processes of a pod run as.
    PodSecurityContext { run_as_user: Option<u32>, fs_group: Option<u32>, }
    /// An empty directory, on disk or in memory.
    EmptyDir { medium: Option<String>, size_limit: Option<String>, }
    /// `ServiceAccount`
    ServiceAccount { api_version: String, kind: String, metadata: Metadata, automount_service_account_token: Option<bool>, }
    /// `spec` of a `Deployment`.
    DeploymentSpec { replicas: Option<u32>, selector: Option<Selector>, template: PodTemplate, }
    /// `spec` of a `Job`.
    JobSpec {
        completion_mode: String,
        completions: u32,
        parallelism: u32,
        backoff_limit_per_index: Option<u32>,
        template: PodTemplate,
    }
    /// `spec` of a `PersistentVolumeClaim`.
    ClaimSpec { access_modes: Vec<String>, storage_class_name: Option<String>, resources: Resources, }
    /// `spec` of a `LeaderWorkerSet`.
    LeaderWorkerSetSpec { replicas: Option<u32>, leader_worker_template: WorkerTemplate, }
    /// The pods of a group.
    WorkerTemplate { size: u32, worker_template: PodTemplate, }
    /// `spec` of a `Service`.
    ServiceSpec { selector: Texts, ports: Vec<ServicePort>, }
    /// A port of a service.
    ServicePort { name: Option<String>, port: u16, protocol: Option<String>, target_port: String, }
    /// `spec` of an `InferencePool`.
    InferencePoolSpec { selector: Selector, target_ports: Vec<PoolPort>, endpoint_picker_ref: Option<EndpointPicker>, }
    /// A port of a pool.
    PoolPort { number: u16, }
    /// Who picks the endpoint.
    EndpointPicker { name: String, port: PoolPort, failure_mode: Option<String>, }
    /// `spec` of a `HorizontalPodAutoscaler`.
    AutoscalerSpec { scale_target_ref: ScaleTarget, min_replicas: Option<u32>, max_replicas: u32, metrics: Vec<Metric>, }
    /// What is scaled.
    ScaleTarget { api_version: String, kind: String, name: String, }
    /// A metric from outside of Kubernetes.
    Metric { r#type: String, external: Option<ExternalMetric>, }
    /// A metric and what it should be.
    ExternalMetric { metric: Option<MetricName>, target: Option<MetricTarget>, }
    /// A metric by name and labels.
    MetricName { name: String, selector: Option<Selector>, }
    /// The value of a metric that is aimed at.
    MetricTarget { r#type: String, average_value: Option<String>, }
}

/// An object with a `spec`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Object<S> {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name and labels.
    pub metadata: Metadata,
    /// What it is.
    pub spec: S,
}

/// An object that is written.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "each name is the kind")]
pub enum Document {
    ServiceAccount(ServiceAccount),
    Deployment(Box<Object<DeploymentSpec>>),
    LeaderWorkerSet(Box<Object<LeaderWorkerSetSpec>>),
    Service(Box<Object<ServiceSpec>>),
    InferencePool(Box<Object<InferencePoolSpec>>),
    HorizontalPodAutoscaler(Box<Object<AutoscalerSpec>>),
    Job(Box<Object<JobSpec>>),
    PersistentVolumeClaim(Box<Object<ClaimSpec>>),
}

impl Document {
    /// Reads back an object that was written.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a kind or a field that is never written.
    pub fn read(value: Value) -> Result<Self> {
        fn of<T: DeserializeOwned>(value: Value) -> Result<T, String> {
            serde_json::from_value(value).map_err(|error| error.to_string())
        }
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        let document = match kind.as_str() {
            "ServiceAccount" => of(value).map(Self::ServiceAccount),
            "Deployment" => of(value).map(Self::Deployment),
            "LeaderWorkerSet" => of(value).map(Self::LeaderWorkerSet),
            "Service" => of(value).map(Self::Service),
            "InferencePool" => of(value).map(Self::InferencePool),
            "HorizontalPodAutoscaler" => of(value).map(Self::HorizontalPodAutoscaler),
            "Job" => of(value).map(Self::Job),
            "PersistentVolumeClaim" => of(value).map(Self::PersistentVolumeClaim),
            _ => Err("this kind is not written".to_owned()),
        };
        document.map_err(|reason| Error::Malformed { place: format!("kind `{kind}`"), reason })
    }
}

impl EnvVar {
    /// A variable with a value.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: Some(value.into()), ..Self::default() }
    }

    /// A variable with the value of a field of the pod.
    pub fn of_pod(name: &str, field_path: &str) -> Self {
        let field_ref = Some(FieldPath { field_path: field_path.to_owned() });
        Self { name: name.to_owned(), value: None, value_from: Some(EnvSource { field_ref, ..EnvSource::default() }) }
    }
}

impl ContainerPort {
    /// A TCP port.
    pub fn tcp(name: impl Into<String>, port: u16) -> Self {
        Self { name: Some(name.into()), container_port: port, protocol: Some("TCP".to_owned()) }
    }
}
