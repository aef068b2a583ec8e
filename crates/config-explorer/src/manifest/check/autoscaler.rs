//! Rules on autoscalers: what they scale, and how far.

use serde_json::Value;

use super::server::{Gathered, number, text, texts};
use super::{CheckedRole, Findings, Place};

/// Kinds whose objects are gathered, so that one which is not there is known to be missing.
const SCALED: [&str; 4] = ["Deployment", "StatefulSet", "ReplicaSet", "LeaderWorkerSet"];
/// The metric of llm-d's workload variant autoscaler (workload-autoscaling guide).
const VARIANT_METRIC: &str = "wva_desired_replicas";

/// A `HorizontalPodAutoscaler`, or a `ScaledObject` of KEDA.
pub(super) struct Autoscaler {
    place: Place,
    guide: Option<String>,
    /// Kind and name of what it scales, as an object's place has them.
    target: Option<(String, String)>,
    min: Option<u64>,
    max: Option<u64>,
    /// `variant_name` of the metric of the variant autoscaler.
    variants: Vec<String>,
}

impl Autoscaler {
    /// Reads one; the object's kind says which.
    pub(super) fn read(document: &Value, place: &Place) -> Self {
        let spec = &document["spec"];
        let target = text(spec, "/scaleTargetRef/name").map(|name| {
            // KEDA scales a Deployment where no kind is named.
            (text(spec, "/scaleTargetRef/kind").unwrap_or("Deployment").to_owned(), name.to_owned())
        });
        let bound = |keys: [&str; 2]| keys.iter().find_map(|key| number(spec.get(*key)));
        let metrics = spec.get("metrics").and_then(Value::as_array).into_iter().flatten();
        let variants = metrics.filter(|metric| text(metric, "/external/metric/name") == Some(VARIANT_METRIC));
        let variants = variants
            .filter_map(|metric| text(metric, "/external/metric/selector/matchLabels/variant_name"))
            .map(str::to_owned);
        Self {
            place: place.clone(),
            guide: texts(document.pointer("/metadata/labels")).remove("llm-d.ai/guide"),
            target,
            min: bound(["minReplicas", "minReplicaCount"]),
            max: bound(["maxReplicas", "maxReplicaCount"]),
            variants: variants.collect(),
        }
    }

    /// Whether the files have the model servers that it is for: others may be checked without them.
    fn is_complete(&self, gathered: &Gathered) -> bool {
        let servers = gathered.servers.iter().filter(|server| !server.bare && server.args.is_some());
        servers
            .into_iter()
            .any(|server| self.guide.is_none() || server.labels.get("llm-d.ai/guide") == self.guide.as_ref())
    }
}

/// Checks every autoscaler, and tells each role how far it may grow.
pub(super) fn check(gathered: &Gathered, checked: &mut [CheckedRole], findings: &mut Findings) {
    for autoscaler in &gathered.autoscalers {
        let place = &autoscaler.place;
        if let (min, Some(max)) = (autoscaler.min.unwrap_or(1), autoscaler.max)
            && (min > max || max == 0)
        {
            findings.error(
                "autoscaler-bounds",
                place,
                "spec",
                format!("at least {min} and at most {max} replicas: Kubernetes refuses it"),
                "give the maximum the larger number",
            );
        }
        let Some((kind, name)) = &autoscaler.target else {
            findings.error("autoscaler-target", place, "spec.scaleTargetRef", "it names nothing to scale", "name it");
            continue;
        };
        let object = format!("{kind}/{name}");
        if !gathered.workloads.contains(&object) && SCALED.contains(&kind.as_str()) && autoscaler.is_complete(gathered)
        {
            let close = gathered.workloads.iter().map(|known| (strsim::osa_distance(known, &object), known)).min();
            findings.error(
                "autoscaler-target",
                place,
                "spec.scaleTargetRef",
                format!("it scales `{object}`, which is not in these files"),
                close.map_or_else(|| "name what is to be scaled".to_owned(), |(_, known)| format!("name `{known}`")),
            );
            continue;
        }
        for variant in autoscaler.variants.iter().filter(|variant| *variant != name) {
            findings.warning(
                "autoscaler-metric",
                place,
                "spec.metrics",
                format!("it scales `{name}` by the replicas that the variant autoscaler wants for `{variant}`"),
                "give `variant_name` the name of what is scaled",
            );
        }
        for role in checked.iter_mut().filter(|role| role.path == object) {
            role.replicas_max = autoscaler.max;
        }
    }
}
