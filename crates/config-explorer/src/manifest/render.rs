//! A description as the Kubernetes objects that run it.

use super::description::{Description, Role, RoleKind, RouterProfile};
use super::facts::{Facts, VolumeFacts};
use super::kubernetes::{
    AutoscalerSpec, Capabilities, Container, ContainerPort, DeploymentSpec, Document, EmptyDir, EndpointPicker,
    EnvSource, EnvVar, ExternalMetric, InferencePoolSpec, LeaderWorkerSetSpec, Metadata, Metric, MetricName,
    MetricTarget, Object, PodSpec, PodTemplate, PoolPort, Probe, Resources, ScaleTarget, SecretKey, SecurityContext,
    Selector, ServiceAccount, ServicePort, ServiceSpec, Texts, Volume, VolumeMount, WorkerTemplate,
};
use crate::engine::join_command;

/// Name of the container of an engine on one host, and in a group (llm-d guides).
pub(super) const CONTAINER: &str = "modelserver";
const GROUP_CONTAINER: &str = "vllm";

/// Every object of a deployment but those that the router's chart makes.
pub fn documents(description: &Description) -> Vec<Document> {
    let mut documents = vec![service_account(description)];
    documents.extend(description.roles.iter().map(|role| workload(description, role)));
    documents
}

/// The token of the hub, from the namespace's secret.
pub(super) fn secret() -> EnvVar {
    let secret = &Facts::built_in().secret;
    let secret_key_ref = Some(SecretKey { name: secret.name.clone(), key: secret.key.clone(), optional: None });
    EnvVar {
        name: secret.key.clone(),
        value_from: Some(EnvSource { secret_key_ref, ..EnvSource::default() }),
        ..EnvVar::default()
    }
}

pub(super) fn named(name: impl Into<String>, labels: Texts) -> Metadata {
    Metadata { name: Some(name.into()), labels, ..Metadata::default() }
}

fn service_account(description: &Description) -> Document {
    Document::ServiceAccount(ServiceAccount {
        api_version: "v1".to_owned(),
        kind: "ServiceAccount".to_owned(),
        metadata: named(&description.service_account, description.labels_of(None)),
        automount_service_account_token: Some(false),
    })
}

/// Name of the workload of a role.
pub(super) fn name_of(description: &Description, role: &Role) -> String {
    format!("{}{}", description.name_prefix, role.kind.label())
}

pub(super) fn workload(description: &Description, role: &Role) -> Document {
    let labels = description.labels_of(Some(role.kind));
    let metadata = named(name_of(description, role), labels.clone());
    let pod_metadata = Metadata { labels: labels.clone(), ..Metadata::default() };
    let template = PodTemplate { metadata: Some(pod_metadata), spec: pod(description, role) };
    if role.hosts > 1 {
        return Document::LeaderWorkerSet(Box::new(Object {
            api_version: "leaderworkerset.x-k8s.io/v1".to_owned(),
            kind: "LeaderWorkerSet".to_owned(),
            metadata,
            spec: LeaderWorkerSetSpec {
                replicas: Some(role.replicas),
                leader_worker_template: WorkerTemplate { size: role.hosts, worker_template: template },
            },
        }));
    }
    Document::Deployment(Box::new(Object {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        metadata,
        spec: DeploymentSpec {
            replicas: Some(role.replicas),
            selector: Some(Selector { match_labels: labels }),
            template,
        },
    }))
}

/// The workload of a role of another engine image, and who it runs as.
fn pod(description: &Description, role: &Role) -> PodSpec {
    PodSpec {
        service_account_name: Some(description.service_account.clone()),
        node_selector: role.node_selector.clone(),
        init_containers: if role.kind == RoleKind::Decode { vec![routing_proxy(role)] } else { Vec::new() },
        containers: vec![engine(description, role)],
        volumes: role.volumes.iter().map(volume).collect(),
        termination_grace_period_seconds: role.termination_grace_s,
        ..PodSpec::default()
    }
}

fn volume(volume: &VolumeFacts) -> Volume {
    let medium = volume.memory.as_ref().map(|_| "Memory".to_owned());
    let size_limit = volume.memory.clone().filter(|size| !size.is_empty());
    Volume { name: volume.name.clone(), empty_dir: Some(EmptyDir { medium, size_limit }), ..Volume::default() }
}

/// The command of a role's engine, as words.
pub fn command(description: &Description, role: &Role) -> Vec<String> {
    role.args.to_command(&description.model)
}

/// The script that starts a host of a group: which ranks it has is known there only.
fn group_script(description: &Description, role: &Role) -> String {
    let local = role.args.data_parallel_size_local.unwrap_or(1);
    format!(
        "# Shared memory of a crashed engine would fill up: https://github.com/llm-d/llm-d/issues/352\n\
         find /dev/shm -type f -delete\n\
         START_RANK=$(( ${{LWS_WORKER_INDEX:-0}} * {local} ))\n\
         exec {} --data-parallel-address ${{LWS_LEADER_ADDRESS}} --data-parallel-start-rank $START_RANK\n",
        join_command(&command(description, role))
    )
}

fn engine(description: &Description, role: &Role) -> Container {
    let facts = Facts::built_in();
    let group = role.hosts > 1;
    let words = command(description, role);
    let (command, args) = if group {
        (vec!["/bin/bash".to_owned(), "-c".to_owned()], vec![group_script(description, role)])
    } else {
        let (program, args) = words.split_at(2.min(words.len()));
        (program.to_vec(), args.to_vec())
    };
    let mut env = role.env.clone();
    if role.image.is_none() {
        env.extend(facts.images.engine_env.iter().map(|(name, value)| EnvVar::new(name, value)));
    }
    let probes = if group { &facts.probes.group } else { &facts.probes.single_host };
    let privileged = SecurityContext {
        run_as_user: Some(0),
        run_as_group: Some(0),
        capabilities: Some(Capabilities { add: vec!["IPC_LOCK".to_owned(), "SYS_RAWIO".to_owned()] }),
        ..SecurityContext::default()
    };
    Container {
        name: if group { GROUP_CONTAINER } else { CONTAINER }.to_owned(),
        image: Some(role.image.clone().unwrap_or_else(|| facts.images.engine.clone())),
        image_pull_policy: group.then(|| "Always".to_owned()),
        command,
        args,
        env,
        ports: ports(role),
        resources: Some(Resources { requests: role.requests.clone(), limits: role.limits.clone() }),
        // GPU-initiated RDMA needs both (wide-ep-lws guide).
        security_context: group.then_some(privileged),
        restart_policy: None,
        startup_probe: Some(probes.startup.clone()),
        liveness_probe: Some(probes.liveness.clone()),
        readiness_probe: Some(probes.readiness.clone()),
        volume_mounts: (role.volumes.iter())
            .map(|volume| VolumeMount { name: volume.name.clone(), mount_path: volume.path.clone() })
            .collect(),
    }
}

/// Ports `first`, `first + 1`, …, by rank.
fn rank_ports(prefix: &str, first: u16, ranks: u32) -> Vec<ContainerPort> {
    let ports = (0..ranks).filter_map(|rank| first.checked_add(u16::try_from(rank).ok()?));
    ports.enumerate().map(|(rank, port)| ContainerPort::tcp(format!("{prefix}{rank}"), port)).collect()
}

fn ports(role: &Role) -> Vec<ContainerPort> {
    let facts = Facts::built_in();
    let port = role.args.port.unwrap_or(facts.ports.server);
    if role.hosts > 1 {
        let prefix = if role.kind == RoleKind::Decode { "vllm-rank" } else { "rank" };
        let mut ports = rank_ports(prefix, port, role.ranks_per_host());
        let supervisor = role.args.data_parallel_supervisor_port;
        ports.extend(supervisor.map(|port| ContainerPort::tcp("supervisor", port)));
        return ports;
    }
    let mut ports = vec![ContainerPort::tcp(CONTAINER, port)];
    if role.kind != RoleKind::Both {
        ports.push(ContainerPort::tcp("nixl", facts.ports.nixl));
    }
    if role.args.kv_events_config.is_some() {
        ports.push(ContainerPort::tcp("kv-events", facts.ports.kv_events));
    }
    ports
}

/// Takes requests in a decode pod's place, and has them prefilled elsewhere first.
fn routing_proxy(role: &Role) -> Container {
    let facts = Facts::built_in();
    let ranks = role.ranks_per_host();
    let target = role.args.port.unwrap_or(facts.ports.behind_proxy);
    let mut args =
        vec![format!("--port={}", facts.ports.server), format!("{}={target}", facts.router.sidecar_port_flag)];
    if ranks > 1 {
        args.push(format!("--data-parallel-size={ranks}"));
    }
    args.extend(["--kv-connector=nixlv2", "--zap-log-level=1", "--secure-proxy=false"].map(str::to_owned));
    if ranks > 1 {
        args.push("--enable-prefiller-sampling".to_owned());
    }
    let one = vec![ContainerPort::tcp("sidecar", facts.ports.server)];
    Container {
        image_pull_policy: Some("Always".to_owned()),
        args,
        ports: if ranks > 1 { rank_ports("rank", facts.ports.server, ranks) } else { one },
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            run_as_non_root: Some(true),
            ..SecurityContext::default()
        }),
        restart_policy: Some("Always".to_owned()),
        ..bare("routing-proxy", &facts.images.sidecar)
    }
}

pub(super) fn bare(name: &str, image: &str) -> Container {
    Container { name: name.to_owned(), image: Some(image.to_owned()), ..Container::default() }
}

/// Name of the service that turns prompts into tokens for the router.
pub(super) fn tokenizer_name(description: &Description) -> String {
    format!("{}-render", description.name)
}

/// The tokenizer of a router that follows the engines' KV cache: a deployment and its service. Their pods do not carry the
/// label of the model servers, or the router would send requests to them.
pub fn tokenizer(description: &Description) -> Vec<Document> {
    if description.router != RouterProfile::Precise {
        return Vec::new();
    }
    let facts = Facts::built_in();
    let port = facts.ports.server;
    let label = |name: &str, value: &str| (format!("app.kubernetes.io/{name}"), value.to_owned());
    let selector = Texts::from([label("component", "vllm-render"), label("part-of", &description.name)]);
    let metadata = || {
        let guide = ("llm-d.ai/guide".to_owned(), description.name.clone());
        named(tokenizer_name(description), Texts::from([guide]))
    };
    let resource = |cpu: &str, memory: &str| {
        Texts::from([("cpu".to_owned(), cpu.to_owned()), ("memory".to_owned(), memory.to_owned())])
    };
    let probe: Probe = Probe {
        http_get: Some(super::kubernetes::HttpGet { path: "/health".to_owned(), port: "render-http".to_owned() }),
        initial_delay_seconds: Some(30),
        period_seconds: Some(10),
        timeout_seconds: Some(5),
        failure_threshold: Some(60),
    };
    let container = Container {
        command: ["vllm", "launch", "render"].map(str::to_owned).into(),
        args: vec![description.model.clone(), format!("--port={port}")],
        env: vec![EnvVar::new("HF_HOME", "/tmp/hf"), secret(), EnvVar::new("DO_NOT_TRACK", "1")],
        ports: vec![ContainerPort::tcp("render-http", port)],
        resources: Some(Resources { requests: resource("1", "4Gi"), limits: resource("4", "12Gi") }),
        readiness_probe: Some(probe),
        volume_mounts: vec![VolumeMount { name: "hf-cache".to_owned(), mount_path: "/tmp/hf".to_owned() }],
        ..bare("vllm-render", &facts.images.tokenizer)
    };
    let volume = Volume { name: "hf-cache".to_owned(), empty_dir: Some(EmptyDir::default()), ..Volume::default() };
    let spec = PodSpec {
        automount_service_account_token: Some(false),
        containers: vec![container],
        volumes: vec![volume],
        ..PodSpec::default()
    };
    let pod = Metadata { labels: selector.clone(), ..Metadata::default() };
    let deployment = Object {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        metadata: metadata(),
        spec: DeploymentSpec {
            replicas: Some(3),
            selector: Some(Selector { match_labels: selector.clone() }),
            template: PodTemplate { metadata: Some(pod), spec },
        },
    };
    let service = Object {
        api_version: "v1".to_owned(),
        kind: "Service".to_owned(),
        metadata: metadata(),
        spec: ServiceSpec {
            selector,
            ports: vec![ServicePort {
                name: Some("render-http".to_owned()),
                port,
                protocol: Some("TCP".to_owned()),
                target_port: "render-http".to_owned(),
            }],
        },
    };
    vec![Document::Deployment(Box::new(deployment)), Document::Service(Box::new(service))]
}

/// The pool that the router's chart makes of its values, for who applies the router without the chart.
pub fn pool(description: &Description) -> Document {
    let guide = ("llm-d.ai/guide".to_owned(), description.name.clone());
    Document::InferencePool(Box::new(Object {
        api_version: "inference.networking.k8s.io/v1".to_owned(),
        kind: "InferencePool".to_owned(),
        metadata: named(&description.name, Texts::new()),
        spec: InferencePoolSpec {
            selector: Selector { match_labels: Texts::from([guide]) },
            target_ports: description.target_ports().into_iter().map(|number| PoolPort { number }).collect(),
            endpoint_picker_ref: Some(EndpointPicker {
                name: format!("{}-epp", description.name),
                // `extProcPort` of the router's chart.
                port: PoolPort { number: 9002 },
                failure_mode: Some("FailOpen".to_owned()),
            }),
        },
    }))
}

/// An autoscaler for each role, on the metric of llm-d's workload variant autoscaler.
pub fn autoscalers(description: &Description) -> Vec<Document> {
    let Some(scaling) = description.autoscaling else { return Vec::new() };
    let of_role = |role: &Role| {
        let name = name_of(description, role);
        let (api_version, kind) = match role.hosts {
            0 | 1 => ("apps/v1", "Deployment"),
            _ => ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"),
        };
        let mut metadata = named(&name, description.labels_of(Some(role.kind)));
        metadata.annotations.insert("llm-d.ai/managed".to_owned(), "true".to_owned());
        metadata.annotations.insert("llm-d.ai/model-id".to_owned(), description.model.clone());
        let variant = [
            ("variant_name".to_owned(), name.clone()),
            ("exported_namespace".to_owned(), description.namespace.clone()),
        ];
        Document::HorizontalPodAutoscaler(Box::new(Object {
            api_version: "autoscaling/v2".to_owned(),
            kind: "HorizontalPodAutoscaler".to_owned(),
            metadata,
            spec: AutoscalerSpec {
                scale_target_ref: ScaleTarget { api_version: api_version.to_owned(), kind: kind.to_owned(), name },
                min_replicas: Some(scaling.min_replicas),
                max_replicas: scaling.max_replicas,
                metrics: vec![Metric {
                    r#type: "External".to_owned(),
                    external: Some(ExternalMetric {
                        metric: Some(MetricName {
                            name: "wva_desired_replicas".to_owned(),
                            selector: Some(Selector { match_labels: variant.into() }),
                        }),
                        target: Some(MetricTarget {
                            r#type: "AverageValue".to_owned(),
                            average_value: Some("1".to_owned()),
                        }),
                    }),
                }],
            },
        }))
    };
    description.roles.iter().map(of_role).collect()
}
