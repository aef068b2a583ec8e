//! Kustomize overlays, resolved without `kubectl`.
//!
//! In: a directory with a `kustomization.yaml` and a function that reads files. Out: the documents that `kubectl kustomize`
//! prints, in any order. What an overlay of llm-d uses is followed: resources, components, strategic merge and JSON 6902
//! patches, `labels`, `images`, `replicas`, prefix, suffix and namespace. Generators and replacements are not. The order of the
//! steps is that of kustomize's `internal/target/kusttarget.go`.

mod patch;
mod transform;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use patch::{Target, apply};
use transform::{Image, Labels, Replicas, transform};

use crate::{Error, Result, yaml};

/// Names under which kustomize looks for the file of a directory.
pub const FILE_NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Most files of one overlay, and how deep they may refer: far beyond any real one.
const FILES_MAX: usize = 2000;
const DEPTH_MAX: usize = 32;

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
#[serde(default)]
struct Patch {
    path: Option<String>,
    #[serde(rename = "patch")]
    inline: Option<String>,
    target: Option<Target>,
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

pub(in crate::manifest) fn is_remote(resource: &str) -> bool {
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

    /// Whether some of what patches may change lies on other machines.
    fn is_part(&self) -> bool {
        !self.remote.is_empty()
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
            apply(&bytes, &path, None, set, self.is_part())?;
        }
        let patches = kustomization.patches.iter().chain(&kustomization.patches_json6902).flatten();
        for patch in patches {
            match (&patch.path, &patch.inline) {
                (Some(file), _) => {
                    let path = normal(&directory.join(file));
                    let bytes = self.required(&path)?;
                    apply(&bytes, &path, patch.target.as_ref(), set, self.is_part())?;
                }
                (None, Some(text)) => apply(text.as_bytes(), place, patch.target.as_ref(), set, self.is_part())?,
                (None, None) => return Err(malformed(place, "a patch has neither `path` nor `patch`")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
