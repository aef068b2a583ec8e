//! Pre-flight: what will fail in files that are about to be applied, and why.
//!
//! In: rendered Kubernetes objects, kustomize overlays, values of llm-d-modelservice, values of the router with their
//! `EndpointPickerConfig`, or a `vllm serve` command, and what they will run on. Out: [`Report`]: findings, and the memory plan of
//! every engine that could be planned. The rules across files are those that llm-d's parts rely on: labels that join, ports and
//! block sizes that agree, a connector between prefill and decode. Only what is sure to fail is an error; what was not checked is a
//! note. With a [`Goal`], every deployment is estimated under its load, and a missed objective is an error.

mod autoscaler;
mod flags;
mod inputs;
mod objectives;
mod roles;
mod router;
mod script;
mod server;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use schemars::JsonSchema;
use serde::Serialize;

pub use inputs::{Input, read};
pub use objectives::{CheckedObjective, Goal};
pub use script::expand;
pub use server::serve_args;

use crate::engine::Version;
use crate::hardware::{Accelerator, Accelerators};
use crate::memory::MemoryPlan;
use crate::model::Model;
use crate::{Error, Result};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It will not start, or not serve.
    Error,
    /// It runs, and not as meant.
    Warning,
    /// What was not checked.
    Note,
}

/// Something to know before the files are applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of finding: a fixed word.
    pub code: &'static str,
    /// The file.
    pub file: String,
    /// The object and field in it.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to change.
    pub fix: String,
}

/// An engine that was planned.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CheckedRole {
    /// The file.
    pub file: String,
    /// The object in it.
    pub path: String,
    /// `prefill`, `decode`, … as labelled.
    pub role: Option<String>,
    /// Engines of this kind.
    pub replicas: u64,
    /// Most replicas that an autoscaler may make of them; `null` without one.
    pub replicas_max: Option<u64>,
    /// The plan of one.
    #[serde(flatten)]
    pub plan: MemoryPlan,
}

/// What a check found.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Report {
    /// Worst first, then by file.
    pub findings: Vec<Finding>,
    /// The engines that could be planned.
    pub roles: Vec<CheckedRole>,
    /// Objectives under the load that was given, for each deployment.
    pub objectives: Vec<CheckedObjective>,
}

impl Report {
    /// Whether nothing will fail.
    pub fn passes(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Error)
    }
}

/// What the files will run on, and where models come from.
pub struct Context<'a> {
    /// The accelerators that are known, for nodes that are selected by their name.
    pub accelerators: &'a Accelerators,
    /// The accelerator; `None`: the one that a node selector names.
    pub accelerator: Option<&'a Accelerator>,
    /// Memory of each GPU as CUDA reports it, where it is not the table's.
    pub gpu_memory_gib: Option<f64>,
    /// GPUs of a node, where they are not the table's.
    pub gpus_per_node: Option<u32>,
    /// Version of the engine; `None`: the one of the image.
    pub engine: Option<Version>,
    /// A load, and what has to hold under it.
    pub goal: Option<Goal<'a>>,
    /// Finds a model.
    pub model: &'a dyn Fn(&str) -> Result<Model>,
}

/// Findings as they are made.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        place: &Place,
        field: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let path = match (place.object.as_str(), field) {
            (object, "") => object.to_owned(),
            ("", field) => field.to_owned(),
            (object, field) => format!("{object}: {field}"),
        };
        let finding =
            Finding { severity, code, file: place.file.clone(), path, message: message.into(), fix: fix.into() };
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    fn error(
        &mut self,
        code: &'static str,
        place: &Place,
        field: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(Severity::Error, code, place, field, message, fix);
    }

    fn warning(
        &mut self,
        code: &'static str,
        place: &Place,
        field: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(Severity::Warning, code, place, field, message, fix);
    }

    fn note(
        &mut self,
        code: &'static str,
        place: &Place,
        field: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(Severity::Note, code, place, field, message, fix);
    }
}

/// A file, and an object in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Place {
    file: String,
    object: String,
}

/// A model by its id, or why there is none.
type Found = Rc<std::result::Result<Model, String>>;

/// Models that were looked for, each once.
struct Models<'a> {
    find: &'a dyn Fn(&str) -> Result<Model>,
    found: RefCell<BTreeMap<String, Found>>,
}

impl Models<'_> {
    fn get(&self, id: &str) -> Found {
        let mut found = self.found.borrow_mut();
        let model = found.entry(id.to_owned());
        Rc::clone(model.or_insert_with(|| Rc::new((self.find)(id).map_err(|error: Error| error.to_string()))))
    }
}

/// Checks files, together.
pub fn check(inputs: &[Input], context: &Context<'_>) -> Report {
    let mut findings = Findings::default();
    let mut gathered = server::Gathered::default();
    for input in inputs {
        server::gather(input, &mut gathered, &mut findings);
    }
    let models = Models { find: context.model, found: RefCell::default() };
    let servers = &gathered.servers;
    let planned: Vec<_> = servers.iter().map(|server| roles::check(server, context, &models, &mut findings)).collect();
    roles::together(servers, &mut findings);
    let objectives = context.goal.as_ref().map(|goal| objectives::check(servers, &planned, goal, &mut findings));
    let mut checked: Vec<_> = planned.into_iter().flatten().map(|planned| planned.role).collect();
    autoscaler::check(&gathered, &mut checked, &mut findings);
    for values in &gathered.routers {
        router::check(values, servers, &checked, &mut findings);
    }
    findings.0.sort_by(|a, b| (a.severity, &a.file, &a.path).cmp(&(b.severity, &b.file, &b.path)));
    Report { findings: findings.0, roles: checked, objectives: objectives.unwrap_or_default() }
}
