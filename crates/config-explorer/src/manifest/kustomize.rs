//! Kustomize overlays, resolved without `kubectl`.
//!
//! In: a directory with a `kustomization.yaml` and a function that reads files. Out: the documents that `kubectl kustomize`
//! prints, in any order. What an overlay of llm-d uses is followed: resources, components, strategic merge and JSON 6902
//! patches, `labels`, `images`, `replicas`, prefix, suffix and namespace. Generators and replacements are not. The order of the
//! steps is that of kustomize's `internal/target/kusttarget.go`.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use regex_lite::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Error, Result, yaml};

/// Names under which kustomize looks for the file of a directory.
pub const FILE_NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Most files of one overlay, and how deep they may refer: far beyond any real one.
const FILES_MAX: usize = 2000;
const DEPTH_MAX: usize = 32;

/// Kinds whose lists kustomize merges by key; those of other kinds it replaces, as it has no schema of them.
const MERGED_KINDS: [&str; 7] = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "Pod", "Service"];

/// Fields that name another resource, and its kind (kustomize `internal/builtins`, `nameReference`).
const REFERENCES: [(&str, &str); 6] = [
    ("serviceAccountName", "ServiceAccount"),
    ("resourceClaimTemplateName", "ResourceClaimTemplate"),
    ("claimName", "PersistentVolumeClaim"),
    ("secretName", "Secret"),
    ("configMap", "ConfigMap"),
    ("configMapRef", "ConfigMap"),
];

/// Reads a file; `None` where there is none.
pub type ReadFile<'a> = dyn Fn(&Path) -> Option<Vec<u8>> + 'a;

/// What an overlay resolves to.
#[derive(Debug, Clone, Default)]
pub struct Kustomized {
    /// The documents.
    pub documents: Vec<Value>,
    /// Resources and components that lie on other machines, which are not read.
    pub remote: Vec<String>,
    /// Files in which an object has a key twice, and where. The first counts.
    pub repeated: Vec<(PathBuf, String)>,
}

/// Resolves the overlay of a directory.
///
/// # Errors
/// [`Error::Malformed`] for a file that is missing or is not what its place asks for, and for a patch without a target.
pub fn resolve(directory: &Path, read: &ReadFile<'_>) -> Result<Kustomized> {
    let mut resolver = Resolver { read, open: Vec::new(), files: 0, remote: Vec::new(), repeated: Vec::new() };
    let mut set = Vec::new();
    resolver.accumulate(&normal(directory), &mut set)?;
    let documents = set.into_iter().map(|resource| resource.value).collect();
    Ok(Kustomized { documents, remote: resolver.remote, repeated: resolver.repeated })
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Kustomization {
    resources: Option<Vec<String>>,
    bases: Option<Vec<String>>,
    components: Option<Vec<String>>,
    name_prefix: Option<String>,
    name_suffix: Option<String>,
    namespace: Option<String>,
    labels: Option<Vec<Labels>>,
    common_labels: Option<BTreeMap<String, Value>>,
    patches: Option<Vec<Patch>>,
    patches_strategic_merge: Option<Vec<String>>,
    patches_json6902: Option<Vec<Patch>>,
    images: Option<Vec<Image>>,
    replicas: Option<Vec<Replicas>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Labels {
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
#[serde(default)]
struct Patch {
    path: Option<String>,
    #[serde(rename = "patch")]
    inline: Option<String>,
    target: Option<Target>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Target {
    group: Option<String>,
    version: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    label_selector: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Image {
    name: String,
    new_name: Option<String>,
    new_tag: Option<String>,
    digest: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Replicas {
    name: String,
    count: u64,
}

#[derive(Debug, Deserialize)]
struct Operation {
    op: String,
    path: String,
    from: Option<String>,
    #[serde(default)]
    value: Value,
}

/// A document and every name it has had: patches may use any of them.
struct Resource {
    value: Value,
    names: Vec<String>,
}

impl Resource {
    fn new(value: Value) -> Self {
        let names = text(&value, "/metadata/name").map(str::to_owned).into_iter().collect();
        Self { value, names }
    }

    fn kind(&self) -> &str {
        text(&self.value, "/kind").unwrap_or_default()
    }

    fn name(&self) -> &str {
        text(&self.value, "/metadata/name").unwrap_or_default()
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// A path without `.` and `..`, as far as they can be taken out by name.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(normal.components().next_back(), Some(Component::Normal(_))) => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

fn malformed(place: &Path, reason: impl Into<String>) -> Error {
    Error::Malformed { place: place.display().to_string(), reason: reason.into() }
}

pub(super) fn is_remote(resource: &str) -> bool {
    resource.contains("://") || resource.starts_with("git@") || resource.starts_with("github.com/")
}

struct Resolver<'a> {
    read: &'a ReadFile<'a>,
    /// Directories that are being read.
    open: Vec<PathBuf>,
    files: usize,
    remote: Vec<String>,
    repeated: Vec<(PathBuf, String)>,
}

impl Resolver<'_> {
    fn file(&mut self, path: &Path) -> Result<Option<Vec<u8>>> {
        self.files += 1;
        if self.files > FILES_MAX {
            return Err(malformed(path, format!("the overlay refers to more than {FILES_MAX} files")));
        }
        let bytes = (self.read)(path);
        if let Some(place) = bytes.as_deref().and_then(yaml::repeated_key) {
            self.repeated.push((path.to_owned(), place));
        }
        Ok(bytes)
    }

    fn required(&mut self, path: &Path) -> Result<Vec<u8>> {
        self.file(path)?.ok_or_else(|| malformed(path, "there is no such file"))
    }

    fn kustomization(&mut self, directory: &Path) -> Result<Option<(PathBuf, Kustomization)>> {
        for name in FILE_NAMES {
            let path = directory.join(name);
            if let Some(bytes) = self.file(&path)? {
                let kustomization = yaml::from_slice(&bytes).map_err(|reason| malformed(&path, reason))?;
                return Ok(Some((path, kustomization)));
            }
        }
        Ok(None)
    }

    /// Reads the overlay or component of a directory into a set: its resources are added, and what it changes is changed in
    /// the whole set.
    fn accumulate(&mut self, directory: &Path, set: &mut Vec<Resource>) -> Result<()> {
        if self.open.len() >= DEPTH_MAX || self.open.iter().any(|open| open == directory) {
            return Err(malformed(directory, "the overlay refers to itself"));
        }
        let Some((place, kustomization)) = self.kustomization(directory)? else {
            return Err(malformed(directory, "there is no kustomization.yaml"));
        };
        self.open.push(directory.to_owned());
        let resources = kustomization.resources.iter().chain(&kustomization.bases).flatten();
        for resource in resources {
            self.resource(directory, resource, set)?;
        }
        for component in kustomization.components.iter().flatten() {
            if is_remote(component) {
                self.remote.push(component.clone());
            } else {
                self.accumulate(&normal(&directory.join(component)), set)?;
            }
        }
        self.open.pop();
        self.patch(directory, &place, &kustomization, set)?;
        transform(&kustomization, set);
        Ok(())
    }

    fn resource(&mut self, directory: &Path, resource: &str, set: &mut Vec<Resource>) -> Result<()> {
        if is_remote(resource) {
            self.remote.push(resource.to_owned());
            return Ok(());
        }
        let path = normal(&directory.join(resource));
        // A directory reads as no file.
        if let Some(bytes) = self.file(&path)? {
            let documents: Vec<Value> = yaml::documents(&bytes).map_err(|reason| malformed(&path, reason))?;
            set.extend(documents.into_iter().filter(Value::is_object).map(Resource::new));
            return Ok(());
        }
        let mut inner = Vec::new();
        self.accumulate(&path, &mut inner)?;
        set.extend(inner);
        Ok(())
    }

    fn patch(
        &mut self,
        directory: &Path,
        place: &Path,
        kustomization: &Kustomization,
        set: &mut Vec<Resource>,
    ) -> Result<()> {
        for file in kustomization.patches_strategic_merge.iter().flatten() {
            let path = normal(&directory.join(file));
            let bytes = self.required(&path)?;
            self.apply(&bytes, &path, None, set)?;
        }
        let patches = kustomization.patches.iter().chain(&kustomization.patches_json6902).flatten();
        for patch in patches {
            match (&patch.path, &patch.inline) {
                (Some(file), _) => {
                    let path = normal(&directory.join(file));
                    let bytes = self.required(&path)?;
                    self.apply(&bytes, &path, patch.target.as_ref(), set)?;
                }
                (None, Some(text)) => self.apply(text.as_bytes(), place, patch.target.as_ref(), set)?,
                (None, None) => return Err(malformed(place, "a patch has neither `path` nor `patch`")),
            }
        }
        Ok(())
    }

    fn apply(&self, bytes: &[u8], place: &Path, target: Option<&Target>, set: &mut Vec<Resource>) -> Result<()> {
        let wrong = |reason: String| malformed(place, reason);
        let documents: Vec<Value> = yaml::documents(bytes).map_err(wrong)?;
        for document in documents {
            if document.is_array() {
                let operations: Vec<Operation> =
                    serde_json::from_value(document).map_err(|error| wrong(error.to_string()))?;
                let target = target.ok_or_else(|| wrong("a JSON 6902 patch needs a `target`".to_owned()))?;
                for at in chosen(target, set).map_err(wrong)? {
                    for operation in &operations {
                        run(operation, &mut set[at].value).map_err(wrong)?;
                    }
                }
                continue;
            }
            let chosen = match target {
                Some(target) => chosen(target, set).map_err(wrong)?,
                None => {
                    let (kind, name) = (text(&document, "/kind"), text(&document, "/metadata/name"));
                    let found: Vec<usize> = (0..set.len())
                        .filter(|&at| {
                            Some(set[at].kind()) == kind
                                && name.is_some_and(|name| set[at].names.iter().any(|had| had == name))
                        })
                        .collect();
                    // What it would patch may come from another machine.
                    if found.is_empty() && self.remote.is_empty() {
                        let (kind, name) = (kind.unwrap_or_default(), name.unwrap_or_default());
                        return Err(wrong(format!("there is no {kind} `{name}` for the patch")));
                    }
                    found
                }
            };
            for &at in chosen.iter().rev() {
                if document.get("$patch").and_then(Value::as_str) == Some("delete") {
                    set.remove(at);
                    continue;
                }
                let keyed = MERGED_KINDS.contains(&set[at].kind());
                let (kind, name) =
                    (set[at].value.get("kind").cloned(), set[at].value.pointer("/metadata/name").cloned());
                merge(&mut set[at].value, document.clone(), keyed);
                // A patch that found its target does not rename it.
                for (pointer, key, value) in [("", "kind", kind), ("/metadata", "name", name)] {
                    let place = set[at].value.pointer_mut(pointer).and_then(Value::as_object_mut);
                    if let (Some(place), Some(value)) = (place, value) {
                        place.insert(key.to_owned(), value);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Places of the resources that a target chooses. Kind, name, group and version are patterns of the whole text.
fn chosen(target: &Target, set: &[Resource]) -> Result<Vec<usize>, String> {
    let pattern = |text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty());
        text.map(|text| Regex::new(&format!("^(?:{text})$")).map_err(|error| format!("target: {error}"))).transpose()
    };
    let [group, version, kind, name] =
        [pattern(&target.group)?, pattern(&target.version)?, pattern(&target.kind)?, pattern(&target.name)?];
    let labels = target.label_selector.as_deref().unwrap_or_default();
    let labels: Vec<(&str, &str)> = labels
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.trim(), value.trim_start_matches('=').trim()))
        .collect();
    let fits = |pattern: &Option<Regex>, text: &str| pattern.as_ref().is_none_or(|pattern| pattern.is_match(text));
    let has = |resource: &Resource, key: &str, value: &str| {
        let found = resource.value.pointer("/metadata/labels").and_then(|labels| labels.get(key));
        found.and_then(Value::as_str) == Some(value)
    };
    Ok((0..set.len())
        .filter(|&at| {
            let resource = &set[at];
            let api = text(&resource.value, "/apiVersion").unwrap_or_default();
            let (api_group, api_version) = api.split_once('/').unwrap_or(("", api));
            fits(&group, api_group)
                && fits(&version, api_version)
                && fits(&kind, resource.kind())
                && (name.is_none() || resource.names.iter().any(|had| fits(&name, had)))
                && labels.iter().all(|(key, value)| has(resource, key, value))
        })
        .collect())
}

/// The key by which kustomize merges a list, and `None` for a list that it replaces.
fn merge_key(field: &str, items: &[Value]) -> Option<&'static str> {
    Some(match field {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" | "resourceClaims" | "claims" => {
            "name"
        }
        "volumeMounts" => "mountPath",
        "volumeDevices" => "devicePath",
        "ports" if items.iter().all(|item| item.get("containerPort").is_some()) => "containerPort",
        "ports" => "port",
        _ => return None,
    })
}

/// Lays a strategic merge patch over a value.
fn merge(base: &mut Value, mut patch: Value, keyed: bool) {
    let directive = patch.as_object_mut().and_then(|patch| patch.shift_remove("$patch"));
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) if directive.is_none() => {
            for (key, value) in patch {
                let deletes = value.get("$patch").and_then(Value::as_str) == Some("delete");
                if value.is_null() || deletes {
                    base.shift_remove(&key);
                    continue;
                }
                let Some(slot) = base.get_mut(&key) else {
                    let mut slot = if value.is_object() { Value::Object(Map::new()) } else { Value::Null };
                    merge(&mut slot, value, keyed);
                    base.insert(key, slot);
                    continue;
                };
                match (slot, value) {
                    (Value::Array(base), Value::Array(patch)) => merge_list(base, patch, &key, keyed),
                    (slot, value) => merge(slot, value, keyed),
                }
            }
        }
        (base, patch) => *base = patch,
    }
}

fn merge_list(base: &mut Vec<Value>, patch: Vec<Value>, field: &str, keyed: bool) {
    let key = merge_key(field, &patch).filter(|_| keyed);
    let replaces = patch.iter().any(|item| item.get("$patch").and_then(Value::as_str) == Some("replace"));
    let Some(key) = key.filter(|_| !replaces) else {
        *base = patch.into_iter().filter(|item| item.get("$patch").is_none()).collect();
        return;
    };
    // The patch's own come first, as in kustomize.
    let mut merged = Vec::new();
    for item in patch {
        let place = base.iter().position(|old| old.get(key).is_some() && old.get(key) == item.get(key));
        let old = place.map(|place| base.remove(place));
        if item.get("$patch").and_then(Value::as_str) == Some("delete") {
            continue;
        }
        let mut value = old.unwrap_or_else(|| Value::Object(Map::new()));
        merge(&mut value, item, true);
        merged.push(value);
    }
    // A key that the list had twice is there once after it was merged.
    for item in base.drain(..) {
        if item.get(key).is_none() || merged.iter().all(|other| other.get(key) != item.get(key)) {
            merged.push(item);
        }
    }
    *base = merged;
}

/// Runs one operation of a JSON 6902 patch.
fn run(operation: &Operation, document: &mut Value) -> Result<(), String> {
    let Operation { op, path, from, value } = operation;
    match op.as_str() {
        "add" => add(document, path, value.clone()),
        "remove" => remove(document, path).map(drop),
        "replace" => remove_or_replace(document, path, value.clone()),
        "move" | "copy" => {
            let from = from.as_deref().unwrap_or_default();
            let value = if op == "move" { remove(document, from)? } else { at(document, from)?.clone() };
            add(document, path, value)
        }
        "test" => {
            let found = at(document, path)?;
            if found == value { Ok(()) } else { Err(format!("`{path}` is {found}, which the patch does not expect")) }
        }
        other => Err(format!("`{other}` is no operation of a JSON 6902 patch")),
    }
}

fn at<'a>(document: &'a Value, path: &str) -> Result<&'a Value, String> {
    document.pointer(path).ok_or_else(|| format!("the patch names `{path}`, which is not there"))
}

/// The value that holds the last part of a path, and that part.
fn parent<'a>(document: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), String> {
    let missing = || format!("the patch names `{path}`, which is not there");
    let (parent, last) = path.rsplit_once('/').ok_or_else(missing)?;
    let parent = document.pointer_mut(parent).ok_or_else(missing)?;
    Ok((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let missing = || format!("the patch names `{path}`, which is not there");
    match parent(document, path)? {
        (Value::Object(map), key) => {
            map.insert(key, value);
        }
        (Value::Array(list), key) if key == "-" => list.push(value),
        (Value::Array(list), key) => {
            let place = key.parse().ok().filter(|place| *place <= list.len()).ok_or_else(missing)?;
            list.insert(place, value);
        }
        _ => return Err(missing()),
    }
    Ok(())
}

fn remove(document: &mut Value, path: &str) -> Result<Value, String> {
    let missing = || format!("the patch names `{path}`, which is not there");
    match parent(document, path)? {
        (Value::Object(map), key) => map.shift_remove(&key).ok_or_else(missing),
        (Value::Array(list), key) => {
            let place = key.parse().ok().filter(|place| *place < list.len()).ok_or_else(missing)?;
            Ok(list.remove(place))
        }
        _ => Err(missing()),
    }
}

fn remove_or_replace(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    at(document, path)?;
    let slot = document.pointer_mut(path).ok_or_else(|| format!("`{path}` is not there"))?;
    *slot = value;
    Ok(())
}

/// What a kustomization changes besides its patches.
fn transform(kustomization: &Kustomization, set: &mut [Resource]) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILES: [(&str, &str); 5] = [
        (
            "/o/overlay/kustomization.yaml",
            "resources: [../base, https://example.org/other]\nnamePrefix: x-\ncomponents: [../component]\n\
             labels: [{pairs: {app: a}, includeSelectors: true}]\nimages: [{name: 'h:5000/i', newTag: v2}]\n\
             replicas: [{name: d, count: 3}]\npatches: [{path: patch.yaml}]\n",
        ),
        (
            "/o/overlay/patch.yaml",
            "kind: Deployment\nmetadata: {name: d}\nspec: {template: {spec: {containers: [{name: c, env: [{name: B, value: b}], \
             args: [2], stdin: null}, {name: e, $patch: delete}]}}}\n",
        ),
        (
            "/o/component/kustomization.yaml",
            "kind: Component\npatches:\n- target: {kind: Deploy.*}\n  patch: |-\n    - {op: add, path: /spec/template/spec/containers/0/env/-, value: {name: A}}\n\
             \x20   - {op: copy, from: /kind, path: /metadata/annotations~1x}\n\
             \x20   - {op: test, path: /kind, value: Deployment}\n",
        ),
        ("/o/base/kustomization.yaml", "resources: [d.yaml]\n"),
        (
            "/o/base/d.yaml",
            "kind: Deployment\nmetadata: {name: d}\nspec: {template: {spec: {serviceAccountName: s, containers: [{name: c, image: 'h:5000/i:v1', \
             args: [1], env: [], stdin: true}, {name: e}]}}}\n---\nkind: ServiceAccount\nmetadata: {name: s}\n",
        ),
    ];

    fn read(files: &[(&str, Vec<u8>)], path: &Path) -> Option<Vec<u8>> {
        files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, bytes)| bytes.clone())
    }

    fn files() -> Vec<(&'static str, Vec<u8>)> {
        FILES.iter().map(|(name, text)| (*name, text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn patches_names_labels_and_images() {
        let files = files();
        let kustomized = resolve(Path::new("/o/overlay"), &|path| read(&files, path)).unwrap();
        assert_eq!(kustomized.remote, ["https://example.org/other"]);
        let labels = serde_json::json!({"app": "a"});
        let expected = serde_json::json!([
            {"kind": "Deployment",
             "metadata": {"name": "x-d", "annotations/x": "Deployment", "labels": labels},
             "spec": {
                "template": {
                    "spec": {"serviceAccountName": "x-s", "containers": [{"name": "c", "image": "h:5000/i:v2",
                        "args": [2], "env": [{"name": "B", "value": "b"}, {"name": "A"}]}]},
                    "metadata": {"labels": labels}},
                "selector": {"matchLabels": labels},
                "replicas": 3}},
            {"kind": "ServiceAccount", "metadata": {"name": "x-s", "labels": labels}},
        ]);
        assert_eq!(Value::Array(kustomized.documents), expected);
    }

    #[test]
    fn what_is_missing_or_circular_is_an_error() {
        let error = |text: &str| {
            let files = [("/o/kustomization.yaml", text.as_bytes().to_vec())];
            resolve(Path::new("/o"), &|path| read(&files, path)).unwrap_err().to_string()
        };
        assert!(error("resources: [.]").contains("refers to itself"));
        assert!(error("resources: [gone]").contains("/o/gone"));
        assert!(error("patches: [{patch: '{kind: Deployment, metadata: {name: d}}'}]").contains("no Deployment `d`"));
        assert!(error("patches: [{target: {kind: '('}, patch: '[]'}]").contains("target"));
        assert!(error("resources: 3").contains("kustomization.yaml"));
    }

    proptest! {
        #[test]
        fn any_files_resolve_or_fail(at in 0..FILES.len(), cut in any::<prop::sample::Index>(), junk in "[\\PC\n]{0,12}") {
            let mut files = files();
            let bytes = &mut files[at].1;
            let cut = cut.index(bytes.len());
            let rest = bytes.split_off(cut);
            bytes.extend(junk.as_bytes());
            bytes.extend(rest.iter().skip(junk.len()));
            let _ = resolve(Path::new("/o/overlay"), &|path| read(&files, path));
        }
    }
}
