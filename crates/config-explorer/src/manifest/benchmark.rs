//! Measuring a deployment with llm-d-benchmark: a run against what is up already, and a scenario that stands it up.

use serde_json::{Value, json};

use super::description::{Description, Load};
use super::facts::Facts;
use super::files::{patch, text};
use super::router;
use crate::Result;
use crate::recommend::Demand;

/// A run against the deployment (the form of llm-d 7edda66d, `guides/agentic-serving/benchmark-templates/guide.yaml`).
pub(super) fn run(description: &Description, load: &Load) -> Value {
    let facts = Facts::built_in();
    let url = format!("http://{}-epp", description.name);
    let length = |tokens: u64| json!({"type": "fixed", "mean": tokens, "min": tokens, "max": tokens, "std_dev": 0, "total_count": load.requests});
    let (arrivals, stage) = match load.demand {
        Demand::Users(users) => {
            ("concurrent", json!({"num_requests": load.requests, "concurrency_level": users.ceil() as u64}))
        }
        Demand::Rate(rate) => {
            ("poisson", json!({"rate": rate, "duration": (load.requests as f64 / rate).ceil() as u64}))
        }
    };
    json!({
        "endpoint": {
            "stack_name": description.name,
            "model": description.model,
            "namespace": description.namespace,
            "base_url": url,
            "hf_token_secret": facts.secret.name,
        },
        "control": {"kubectl": "kubectl"},
        "harness": {
            "name": "inference-perf",
            "results_pvc": "benchmark-results",
            "namespace": description.namespace,
            "parallelism": 1,
            "image": facts.images.benchmark,
        },
        "workload": {
            "proposal": {
                "load": {"type": arrivals, "stages": [stage]},
                "api": {"type": "completion", "streaming": true},
                "server": {"type": "vllm", "model_name": description.model, "base_url": url, "ignore_eos": true},
                "tokenizer": {"pretrained_model_name_or_path": description.model},
                "data": {
                    "type": "random",
                    "input_distribution": length(load.input_len),
                    "output_distribution": length(load.output_len),
                },
                "report": {"request_lifecycle": {"summary": true, "per_stage": true, "per_request": false}},
            },
        },
    })
}

/// A deployment that llm-d-benchmark stands up as one of llm-d's guides, with patches.
pub(super) struct Standup {
    /// The deployment under the guide's name, which joins router, model servers and endpoint.
    pub(super) description: Description,
    /// The scenario.
    pub(super) scenario: Value,
    /// The router's values beside those of the guide.
    pub(super) router_values: Value,
}

/// The scenario for `llmdbenchmark standup -t kustomize` (llm-d-benchmark, `docs/kustomize.md`); `None` where no guide has
/// model servers of this kind.
pub(super) fn standup(description: &Description) -> Result<Option<Standup>> {
    let facts = Facts::built_in();
    let Some(guide) = facts.guides.of(description) else { return Ok(None) };
    let description = Description { name: guide.name.clone(), ..description.clone() };
    let patches = (description.roles.iter())
        .map(|role| {
            let mut patch = patch(&description, role)?;
            patch["metadata"] = json!({"name": format!("{}{}", guide.prefix, role.kind.label())});
            Ok(json!({"patch": text(&[patch])?}))
        })
        .collect::<Result<Vec<_>>>()?;
    let scenario = json!({
        "scenario": [{
            "name": description.name,
            "kustomize": {
                "enabled": true,
                "guideName": guide.name,
                "acceleratorBackend": "gpu/vllm",
                "gaieVersion": facts.versions.gateway_api_inference_extension,
                "routerChartVersion": facts.versions.router_chart,
                "patches": patches,
                // Read from where `llmdbenchmark` is started.
                "extraHelmValues": ["standup/router.values.yaml"],
                "guideVariableOverrides": {"INFRA_PROVIDER": "base"},
            },
            "model": {"name": description.model, "huggingfaceId": description.model},
            "modelservice": {"enabled": false},
            "standalone": {"enabled": false},
            "harness": {"name": "inference-perf"},
        }],
    });
    let mut router_values = router::values(&description)?;
    // The guide's own values join it with the guide's model servers.
    if let Some(servers) = router_values.pointer_mut("/router/modelServers").and_then(Value::as_object_mut) {
        servers.shift_remove("matchLabels");
    }
    Ok(Some(Standup { description, scenario, router_values }))
}
