//! Strategic merge and JSON 6902 patches.

use std::path::Path;

use regex_lite::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Resource, malformed, text};
use crate::{Result, yaml};

/// Kinds whose lists kustomize merges by key; those of other kinds it replaces, as it has no schema of them.
const MERGED_KINDS: [&str; 7] = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "Pod", "Service"];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Target {
    group: Option<String>,
    version: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    label_selector: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Operation {
    op: String,
    path: String,
    from: Option<String>,
    #[serde(default)]
    value: Value,
}

/// Applies the patches of a file, or of a text at `place`. With `part` the set is not whole, and a patch may lack its target.
pub(super) fn apply(
    bytes: &[u8],
    place: &Path,
    target: Option<&Target>,
    set: &mut Vec<Resource>,
    part: bool,
) -> Result<()> {
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
                if found.is_empty() && !part {
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
            let (kind, name) = (set[at].value.get("kind").cloned(), set[at].value.pointer("/metadata/name").cloned());
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
