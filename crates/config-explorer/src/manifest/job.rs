//! A search spread over a cluster: a Kubernetes indexed Job whose pods each do a shard, and the volume that they write to.
//!
//! In: a command of this program, and how many shards. Out: the objects. A pod finds its shard by the index that Kubernetes
//! gives it (`JOB_COMPLETION_INDEX`, kubernetes.io/docs/concepts/workloads/controllers/job, "Completion mode"). Merging is
//! reading the volume's folder.

use super::facts::Facts;
use super::kubernetes::{
    Claim, ClaimSpec, Container, Document, EmptyDir, EnvSource, EnvVar, JobSpec, Object, PodSecurityContext, PodSpec,
    PodTemplate, Resources, SecretKey, SecurityContext, Texts, Volume, VolumeMount,
};
use super::render::{bare, named};
use crate::{Error, Result, yaml};

/// Where the shards are written.
const RESULTS: &str = "/results";
/// User of the image (`Dockerfile`), in whose group the volume is.
const USER: u32 = 65532;
/// How often Kubernetes sets a failed shard going again.
const RETRIES: u32 = 2;

/// A search in shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardJob {
    /// Name of the Job and of its volume.
    pub name: String,
    /// Namespace; `None`: the one that it is applied to.
    pub namespace: Option<String>,
    /// How many shards.
    pub shards: u32,
    /// How many of them at once.
    pub parallelism: u32,
    /// Image; `None`: the one of this release.
    pub image: Option<String>,
    /// The command's words, without the program's name and the flags of shards.
    pub words: Vec<String>,
    /// CPUs of a pod.
    pub cpu: String,
    /// Memory of a pod.
    pub memory: String,
    /// Size of the volume.
    pub storage: String,
    /// Its storage class, which must let several nodes write; `None`: the cluster's default.
    pub storage_class: Option<String>,
}

impl ShardJob {
    /// Its objects: the volume before what uses it.
    pub fn documents(&self) -> Vec<Document> {
        let facts = Facts::built_in();
        let image = || format!("{}:v{}", facts.images.config_explorer, env!("CARGO_PKG_VERSION"));
        let texts = |pairs: &[(&str, &str)]| -> Texts {
            pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
        };
        let metadata = || {
            let labels =
                texts(&[("app.kubernetes.io/name", "config-explorer"), ("app.kubernetes.io/instance", &self.name)]);
            super::kubernetes::Metadata { namespace: self.namespace.clone(), ..named(&self.name, labels) }
        };
        // Kubernetes replaces `$(NAME)`; what the user typed stays as it is.
        let mut args: Vec<String> = self.words.iter().map(|word| word.replace("$(", "$$(")).collect();
        args.extend(["--shard".to_owned(), format!("$(JOB_COMPLETION_INDEX)/{}", self.shards)]);
        args.extend(["--shard-out".to_owned(), format!("{RESULTS}/shard-$(JOB_COMPLETION_INDEX).parquet")]);
        let token = SecretKey { name: facts.secret.name.clone(), key: facts.secret.key.clone(), optional: Some(true) };
        let token = EnvSource { secret_key_ref: Some(token), ..EnvSource::default() };
        let resources = texts(&[("cpu", &self.cpu), ("memory", &self.memory)]);
        let mount = |name: &str, path: &str| VolumeMount { name: name.to_owned(), mount_path: path.to_owned() };
        let container = Container {
            args,
            // A public model needs no token.
            env: vec![EnvVar { name: facts.secret.key.clone(), value: None, value_from: Some(token) }],
            resources: Some(Resources { requests: resources.clone(), limits: resources }),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                run_as_non_root: Some(true),
                ..SecurityContext::default()
            }),
            volume_mounts: vec![mount("results", RESULTS), mount("tmp", "/tmp")],
            ..bare("config-explorer", &self.image.clone().unwrap_or_else(image))
        };
        let claim = Volume {
            name: "results".to_owned(),
            persistent_volume_claim: Some(Claim { claim_name: self.name.clone() }),
            ..Volume::default()
        };
        let temporary = Volume { name: "tmp".to_owned(), empty_dir: Some(EmptyDir::default()), ..Volume::default() };
        let spec = PodSpec {
            automount_service_account_token: Some(false),
            restart_policy: Some("Never".to_owned()),
            security_context: Some(PodSecurityContext { run_as_user: Some(USER), fs_group: Some(USER) }),
            containers: vec![container],
            volumes: vec![claim, temporary],
            ..PodSpec::default()
        };
        let job = Object {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            metadata: metadata(),
            spec: JobSpec {
                completion_mode: "Indexed".to_owned(),
                completions: self.shards,
                parallelism: self.parallelism,
                backoff_limit_per_index: Some(RETRIES),
                template: PodTemplate { metadata: None, spec },
            },
        };
        let volume = Object {
            api_version: "v1".to_owned(),
            kind: "PersistentVolumeClaim".to_owned(),
            metadata: metadata(),
            spec: ClaimSpec {
                access_modes: vec!["ReadWriteMany".to_owned()],
                storage_class_name: self.storage_class.clone(),
                resources: Resources { requests: texts(&[("storage", &self.storage)]), limits: Texts::new() },
            },
        };
        vec![Document::PersistentVolumeClaim(Box::new(volume)), Document::Job(Box::new(job))]
    }

    /// Its objects as YAML.
    ///
    /// # Errors
    /// [`Error::Malformed`] if a value cannot be written as YAML.
    pub fn to_yaml(&self) -> Result<String> {
        yaml::to_string(&self.documents()).map_err(|reason| Error::Malformed { place: "job".to_owned(), reason })
    }
}
