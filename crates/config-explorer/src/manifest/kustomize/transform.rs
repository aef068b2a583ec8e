//! What a kustomization changes besides its patches: namespace, names, labels, replicas, images.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Kustomization, Resource, text};

/// Fields that name another resource, and its kind (kustomize `internal/builtins`, `nameReference`).
const REFERENCES: [(&str, &str); 6] = [
    ("serviceAccountName", "ServiceAccount"),
    ("resourceClaimTemplateName", "ResourceClaimTemplate"),
    ("claimName", "PersistentVolumeClaim"),
    ("secretName", "Secret"),
    ("configMap", "ConfigMap"),
    ("configMapRef", "ConfigMap"),
];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Labels {
    pairs: BTreeMap<String, Value>,
    include_selectors: bool,
    include_templates: bool,
    fields: Option<Vec<Field>>,
}

/// A place of labels, which replaces the usual `metadata/labels`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Field {
    group: Option<String>,
    version: Option<String>,
    kind: Option<String>,
    path: String,
}

impl Field {
    fn is_of(&self, resource: &Resource) -> bool {
        let api = text(&resource.value, "/apiVersion").unwrap_or_default();
        let (group, version) = api.split_once('/').unwrap_or(("", api));
        let fits = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        fits(&self.group, group) && fits(&self.version, version) && fits(&self.kind, resource.kind())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Image {
    name: String,
    new_name: Option<String>,
    new_tag: Option<String>,
    digest: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Replicas {
    name: String,
    count: u64,
}

/// What a kustomization changes besides its patches.
pub(super) fn transform(kustomization: &Kustomization, set: &mut [Resource]) {
    if let Some(namespace) = &kustomization.namespace {
        for resource in set.iter_mut() {
            insert(&mut resource.value, &["metadata"], "namespace", Value::from(namespace.clone()));
        }
    }
    let prefix = kustomization.name_prefix.as_deref().unwrap_or_default();
    let suffix = kustomization.name_suffix.as_deref().unwrap_or_default();
    if !prefix.is_empty() || !suffix.is_empty() {
        rename(set, prefix, suffix);
    }
    for labels in kustomization.labels.iter().flatten() {
        for resource in set.iter_mut() {
            let fields = labels.fields.as_deref().filter(|fields| !fields.is_empty());
            label(resource, &labels.pairs, labels.include_selectors, labels.include_templates, fields.is_none());
            for field in fields.into_iter().flatten().filter(|field| field.is_of(resource)).collect::<Vec<_>>() {
                let path: Vec<&str> = field.path.split('/').filter(|part| !part.is_empty()).collect();
                for (key, value) in &labels.pairs {
                    insert(&mut resource.value, &path, key, value.clone());
                }
            }
        }
    }
    if let Some(pairs) = &kustomization.common_labels {
        for resource in set.iter_mut() {
            label(resource, pairs, true, true, true);
        }
    }
    for replicas in kustomization.replicas.iter().flatten() {
        for resource in set.iter_mut().filter(|resource| resource.names.contains(&replicas.name)) {
            insert(&mut resource.value, &["spec"], "replicas", Value::from(replicas.count));
        }
    }
    for image in kustomization.images.iter().flatten() {
        for resource in set.iter_mut() {
            set_image(&mut resource.value, image);
        }
    }
}

/// Sets a field of an object below a value; the objects on the way are made where they are missing.
fn insert(value: &mut Value, path: &[&str], key: &str, field: Value) {
    let mut place = value;
    for step in path {
        let Some(map) = place.as_object_mut() else { return };
        let next = map.entry(*step).or_insert_with(|| Value::Object(Map::new()));
        if next.is_null() {
            *next = Value::Object(Map::new());
        }
        place = next;
    }
    if let Some(map) = place.as_object_mut() {
        map.insert(key.to_owned(), field);
    }
}

fn rename(set: &mut [Resource], prefix: &str, suffix: &str) {
    let mut renamed: BTreeMap<(String, String), String> = BTreeMap::new();
    for resource in set.iter_mut() {
        if matches!(resource.kind(), "Namespace" | "CustomResourceDefinition" | "APIService") {
            continue;
        }
        let name = format!("{prefix}{}{suffix}", resource.name());
        renamed.insert((resource.kind().to_owned(), resource.name().to_owned()), name.clone());
        insert(&mut resource.value, &["metadata"], "name", Value::from(name.clone()));
        resource.names.push(name);
    }
    for resource in set {
        follow(&mut resource.value, &renamed);
    }
}

/// Follows renamed resources where they are referred to.
fn follow(value: &mut Value, renamed: &BTreeMap<(String, String), String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| follow(item, renamed)),
        Value::Object(map) => {
            for (key, value) in map {
                let kind = REFERENCES.iter().find(|(field, _)| field == key).map(|(_, kind)| *kind);
                let kind = kind
                    .map(str::to_owned)
                    .or_else(|| (key == "scaleTargetRef").then(|| text(value, "/kind").unwrap_or_default().to_owned()));
                let name = if value.is_object() { value.get_mut("name") } else { Some(&mut *value) };
                if let (Some(kind), Some(Value::String(name))) = (kind, name)
                    && let Some(new) = renamed.get(&(kind, name.clone()))
                {
                    name.clone_from(new);
                }
                follow(value, renamed);
            }
        }
        _ => {}
    }
}

fn label(resource: &mut Resource, pairs: &BTreeMap<String, Value>, selectors: bool, templates: bool, metadata: bool) {
    let workload = matches!(resource.kind(), "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job");
    let service = resource.kind() == "Service";
    for (key, value) in pairs {
        if metadata {
            insert(&mut resource.value, &["metadata", "labels"], key, value.clone());
        }
        if workload && (selectors || templates) {
            insert(&mut resource.value, &["spec", "template", "metadata", "labels"], key, value.clone());
        }
        if workload && selectors && resource.kind() != "Job" {
            insert(&mut resource.value, &["spec", "selector", "matchLabels"], key, value.clone());
        }
        if service && selectors {
            insert(&mut resource.value, &["spec", "selector"], key, value.clone());
        }
    }
}

fn set_image(value: &mut Value, image: &Image) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| set_image(item, image)),
        Value::Object(map) => {
            for key in ["containers", "initContainers"] {
                let containers = map.get_mut(key).and_then(Value::as_array_mut);
                for container in containers.into_iter().flatten() {
                    if let Some(Value::String(name)) = container.get_mut("image")
                        && let Some(new) = renamed_image(name, image)
                    {
                        *name = new;
                    }
                }
            }
            map.values_mut().for_each(|value| set_image(value, image));
        }
        _ => {}
    }
}

fn renamed_image(old: &str, image: &Image) -> Option<String> {
    let (bare, digest) = old.split_once('@').map_or((old, None), |(bare, digest)| (bare, Some(digest)));
    // A port of a registry stands before a slash.
    let (name, tag) = match bare.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (bare, None),
    };
    if name != image.name {
        return None;
    }
    let name = image.new_name.as_deref().unwrap_or(name);
    Some(match (&image.digest, &image.new_tag, tag, digest) {
        (Some(digest), ..) => format!("{name}@{digest}"),
        (None, Some(tag), ..) => format!("{name}:{tag}"),
        (None, None, _, Some(digest)) => format!("{name}@{digest}"),
        (None, None, Some(tag), None) => format!("{name}:{tag}"),
        (None, None, None, None) => name.to_owned(),
    })
}
