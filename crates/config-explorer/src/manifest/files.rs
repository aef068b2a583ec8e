//! The files of a deployment: what is applied, the alternatives, and how.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};

use super::benchmark;
use super::description::{Description, Role, RoleKind, RouterProfile};
use super::facts::Facts;
use super::kubernetes::Document;
use super::kustomize::is_remote;
use super::render::{self, autoscalers, documents, pool, tokenizer};
use super::router;
use crate::engine::join_command;
use crate::{Error, Result, yaml};

/// Every file of a deployment, by its path below the directory it is written to.
///
/// # Errors
/// [`Error::Malformed`] if a value cannot be written as YAML.
pub fn write_files(description: &Description) -> Result<Vec<(String, String)>> {
    let mut files = overlay(description)?;
    let mut add = |path: &str, text: String| files.push((path.to_owned(), text));
    add("router.values.yaml", text(&[router::values(description)?])?);
    add("rendered.yaml", text(&documents(description))?);
    let tokenizer = tokenizer(description);
    if !tokenizer.is_empty() {
        add("render.yaml", text(&tokenizer)?);
    }
    let autoscalers = autoscalers(description);
    if !autoscalers.is_empty() {
        add("autoscaling.yaml", text(&autoscalers)?);
    }
    add("alternatives/inference-pool.yaml", text(&[pool(description)])?);
    add("alternatives/modelservice.values.yaml", text(&[modelservice_values(description)])?);
    add("alternatives/serve.sh", commands(description));
    if let Some(load) = &description.load {
        add("benchmark.yaml", text(&[benchmark::run(description, load)])?);
    }
    if let Some(standup) = benchmark::standup(description)? {
        add("standup/scenario.yaml", text(&[standup.scenario])?);
        add("standup/router.values.yaml", text(&[standup.router_values])?);
        if let Some(load) = &description.load {
            add("standup/benchmark.yaml", text(&[benchmark::run(&standup.description, load)])?);
        }
    }
    add("README.md", readme(description));
    Ok(files)
}

pub(super) fn text<T: Serialize>(documents: &[T]) -> Result<String> {
    yaml::to_string(documents).map_err(|reason| Error::Malformed { place: "manifest".to_owned(), reason })
}

/// An overlay on llm-d's recipes. Groups of hosts have no recipe: their overlay holds them whole.
fn overlay(description: &Description) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    let mut kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": description.namespace,
    });
    if description.roles.iter().any(|role| role.hosts > 1) {
        let mut resources = vec!["service-account.yaml".to_owned()];
        let (account, workloads): (Vec<_>, Vec<_>) =
            documents(description).into_iter().partition(|document| matches!(document, Document::ServiceAccount(_)));
        files.push(("modelserver/service-account.yaml".to_owned(), text(&account)?));
        for (role, document) in description.roles.iter().zip(workloads) {
            let file = format!("{}.yaml", role.kind.label());
            files.push((format!("modelserver/{file}"), text(&[document])?));
            resources.push(file);
        }
        kustomization["resources"] = json!(resources);
    } else {
        let apart = description.roles.iter().any(|role| role.kind != RoleKind::Both);
        let base = if apart { "modelserver/base/single-host/pd/vllm" } else { "modelserver/base/single-host/default" };
        let mut components = vec![recipe(description, "modelserver/components/images/gpu-vllm")];
        if apart {
            components.push(recipe(description, "modelserver/components/images/routing-sidecar"));
        }
        let mut patches = Vec::new();
        for role in &description.roles {
            let file = format!("patch-{}.yaml", role.kind.label());
            files.push((format!("modelserver/{file}"), text(&[patch(description, role)?])?));
            patches.push(json!({"path": file}));
        }
        kustomization["resources"] = json!([recipe(description, base)]);
        kustomization["namePrefix"] = json!(description.name_prefix);
        kustomization["components"] = json!(components);
        kustomization["labels"] =
            json!([{"pairs": description.labels_of(None), "includeSelectors": true, "includeTemplates": true}]);
        kustomization["patches"] = json!(patches);
    }
    files.insert(0, ("modelserver/kustomization.yaml".to_owned(), text(&[kustomization])?));
    Ok(files)
}

/// Where a recipe of llm-d is.
fn recipe(description: &Description, path: &str) -> String {
    let place = format!("{}/{path}", description.recipes.trim_end_matches('/'));
    if is_remote(&place) { format!("{place}?ref={}", Facts::built_in().recipes.commit) } else { place }
}

/// What a role has beyond the recipe below it.
pub(super) fn patch(description: &Description, role: &Role) -> Result<Value> {
    let wrong = |error: serde_json::Error| Error::Malformed { place: "manifest".to_owned(), reason: error.to_string() };
    let mut workload = serde_json::to_value(render::workload(description, role)).map_err(wrong)?;
    workload["metadata"] = json!({"name": role.kind.label()});
    let remove = |value: Option<&mut Value>, keys: &[&str]| {
        if let Some(map) = value.and_then(Value::as_object_mut) {
            keys.iter().for_each(|key| drop(map.shift_remove(*key)));
        }
    };
    remove(workload.pointer_mut("/spec"), &["selector"]);
    remove(workload.pointer_mut("/spec/template"), &["metadata"]);
    remove(workload.pointer_mut("/spec/template/spec"), &["serviceAccountName", "initContainers"]);
    // A group's list of containers is replaced, not merged.
    remove(workload.pointer_mut("/spec/leaderWorkerTemplate/workerTemplate/spec"), &["serviceAccountName"]);
    if role.image.is_none() {
        // The image's component names it, and sets its variables.
        let container = workload.pointer_mut("/spec/template/spec/containers/0");
        remove(container, &["image"]);
        if let Some(Value::Array(env)) = workload.pointer_mut("/spec/template/spec/containers/0/env") {
            let set = &Facts::built_in().images.engine_env;
            env.retain(|variable| !variable["name"].as_str().is_some_and(|name| set.contains_key(name)));
        }
    }
    Ok(workload)
}

/// Values of the llm-d-modelservice chart. The command is written out whole (`modelCommand: custom`): the chart knows neither
/// pipeline nor expert parallelism.
pub fn modelservice_values(description: &Description) -> Value {
    let facts = Facts::built_in();
    let role_values = |role: &Role| {
        let size = |size: Option<std::num::NonZeroU32>| size.map_or(1, std::num::NonZeroU32::get);
        let document = serde_json::to_value(render::workload(description, role)).unwrap_or_default();
        let pod = document
            .pointer("/spec/template/spec")
            .or_else(|| document.pointer("/spec/leaderWorkerTemplate/workerTemplate/spec"));
        let part = |key: &str| pod.and_then(|pod| pod.get(key)).cloned();
        let mut container = part("containers").and_then(|containers| containers.get(0).cloned()).unwrap_or_default();
        container["modelCommand"] = json!("custom");
        let mut values = json!({
            "create": true,
            "replicas": role.replicas,
            "parallelism": {
                "tensor": size(role.args.tensor_parallel_size),
                "data": size(role.args.data_parallel_size),
                "dataLocal": role.args.data_parallel_size_local.unwrap_or_else(|| size(role.args.data_parallel_size)),
                "workers": role.hosts,
            },
            "containers": [container],
        });
        if let Some(volumes) = part("volumes") {
            values["volumes"] = volumes;
        }
        values
    };
    let mut values = json!({
        "multinode": description.roles.iter().any(|role| role.hosts > 1),
        "modelArtifacts": {
            "name": description.model,
            "uri": format!("hf://{}", description.model),
            "authSecretName": facts.secret.name,
            "labels": description.labels_of(None),
        },
        "accelerator": {"type": "nvidia"},
        "routing": {
            "servicePort": facts.ports.server,
            "proxy": {
                "enabled": description.roles.iter().any(|role| role.kind == RoleKind::Decode),
                "image": facts.images.sidecar,
                "connector": "nixlv2",
                "targetPort": facts.ports.behind_proxy,
            },
        },
    });
    for name in ["decode", "prefill"] {
        let role = description.roles.iter().find(|role| role.kind.label() == name);
        values[name] = role.map_or_else(|| json!({"create": false}), role_values);
    }
    values
}

/// The engines' commands, without Kubernetes.
fn commands(description: &Description) -> String {
    let mut text = String::from("#!/bin/sh\n");
    for role in &description.roles {
        let command = join_command(&render::command(description, role));
        let _ = match role.hosts {
            0 | 1 => writeln!(text, "# {} x {}\n{command}", role.replicas, role.kind.label()),
            hosts => writeln!(
                text,
                "# {} x {}, on each of {hosts} hosts\n{command} --data-parallel-address \"$LEADER\" \
                 --data-parallel-start-rank \"$START_RANK\"",
                role.replicas,
                role.kind.label(),
            ),
        };
    }
    text
}

/// How the files are applied.
fn readme(description: &Description) -> String {
    let facts = Facts::built_in();
    let Description { name, namespace, model, .. } = description;
    let (secret, versions) = (&facts.secret, &facts.versions);
    let mut text = format!("# {name}\n\n{model} on llm-d.\n\n## Apply\n\n```sh\n");
    let mut line = |words: String| {
        let _ = writeln!(text, "{words}");
    };
    line(format!(
        "kubectl apply -f https://github.com/kubernetes-sigs/gateway-api-inference-extension/releases/download/{}/v1-manifests.yaml",
        versions.gateway_api_inference_extension
    ));
    if description.roles.iter().any(|role| role.hosts > 1) {
        line(format!(
            "helm install lws oci://registry.k8s.io/lws/charts/lws --version {} -n lws-system --create-namespace",
            versions.leader_worker_set
        ));
    }
    line(format!("kubectl create namespace {namespace}"));
    line(format!(
        "kubectl create secret generic {} -n {namespace} --from-literal={}=\"$HF_TOKEN\"",
        secret.name, secret.key
    ));
    line(format!(
        "helm install {name} {} --version {} -n {namespace} -f router.values.yaml",
        facts.router.standalone_chart, versions.router_chart
    ));
    line(format!("kubectl apply -n {namespace} -f rendered.yaml"));
    if description.router == RouterProfile::Precise {
        line(format!("kubectl apply -n {namespace} -f render.yaml"));
    }
    if description.autoscaling.is_some() {
        line(format!("kubectl apply -n {namespace} -f autoscaling.yaml"));
    }
    let _ = write!(
        text,
        "```\n\n`rendered.yaml` is what the overlay in `modelserver` renders to. To keep an overlay on llm-d's recipes instead, \
         apply that one: `kubectl apply -n {namespace} -k modelserver`.\n",
    );
    if let RouterProfile::PredictedLatency { objectives: true } = description.router {
        text += "\nSend objectives with each streamed request: `x-llm-d-slo-ttft-ms` and `x-llm-d-slo-tpot-ms`.\n";
    }
    let _ = write!(
        text,
        "\n## Check, use, measure\n\n```sh\n\
         config-explorer check . --gpu GPU\n\
         kubectl port-forward -n {namespace} service/{name}-epp 8000:{}\n\
         curl http://localhost:8000/v1/models\n```\n",
        facts.ports.router
    );
    if description.load.is_some() {
        text +=
            "\n`benchmark.yaml` measures it with llm-d-benchmark: `existing_stack/run_only.sh -c benchmark.yaml`.\n";
    }
    if !description.expected.is_empty() {
        let _ = write!(text, "\nExpected:\n\n- {}\n", description.expected.join("\n- "));
    }
    if let Some(guide) = facts.guides.of(description) {
        let _ = write!(
            text,
            "\nOr have llm-d-benchmark stand it up, as its guide `{}` with the patches in `standup/scenario.yaml`: name that \
             file as `scenario_file` of a specification, and in this folder run\n\n```sh\n\
             llmdbenchmark --spec SPECIFICATION standup -t kustomize -p {namespace} --llmd-repo-path CHECKOUT\n```\n\n\
             with a checkout of {} at {}. `standup/benchmark.yaml` measures that one.\n",
            guide.name, facts.recipes.repository, facts.recipes.commit
        );
    }
    let _ = write!(
        text,
        "\n## Instead\n\n\
         - Without kustomize: llm-d-modelservice {} with `alternatives/modelservice.values.yaml`.\n\
         - Without the router's chart: `alternatives/inference-pool.yaml` is the pool that the chart makes.\n\
         - Without Kubernetes: `alternatives/serve.sh`.\n",
        versions.modelservice_chart
    );
    text
}
