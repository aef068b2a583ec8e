//! Whether what the files start holds objectives under a load.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::roles::Planned;
use super::server::Server;
use super::{Findings, Place};
use crate::Result;
use crate::latency::{Calibration, StepTimes};
use crate::serving::{Deployment, Engine, Latencies, Traffic, latencies};
use crate::workload::{Objective, Objectives};

/// A load, and what has to hold under it.
#[derive(Debug, Clone)]
pub struct Goal<'a> {
    /// What arrives at each deployment.
    pub traffic: Traffic,
    /// What has to hold; that the load is carried always has to.
    pub objectives: Objectives,
    /// Coefficients of the latency model.
    pub calibration: &'a Calibration,
}

/// An objective of a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CheckedObjective {
    /// The file.
    pub file: String,
    /// Its model servers.
    pub path: String,
    /// The objective as it was asked.
    pub objective: String,
    /// What is predicted: ms, or per second; `null` beyond saturation.
    pub predicted: Option<f64>,
    /// Whether it holds.
    pub holds: bool,
}

/// A server, and its plan where there is one.
type Member<'a> = (&'a Server, &'a Option<Planned>);

/// The engines of a deployment: prefill before decode.
struct Group<'a> {
    place: Place,
    engines: Vec<(u32, &'a Engine)>,
}

impl Group<'_> {
    fn latencies(&self, goal: &Goal<'_>) -> Result<Latencies> {
        let calibration = goal.calibration;
        let roles = self.engines.iter().map(|(replicas, engine)| engine.role(*replicas, calibration));
        let roles = roles.collect::<Result<Vec<_>>>()?;
        let steps: Vec<_> = roles.iter().map(|role| StepTimes::compile(&role.configuration)).collect();
        let deployment = match roles.as_slice() {
            [prefill, decode] => Deployment::Disaggregated { prefill: *prefill, decode: *decode },
            [role, ..] => Deployment::Aggregated(*role),
            [] => {
                return Err(crate::Error::InvalidSetting { setting: "replicas".to_owned(), reason: "none".to_owned() });
            }
        };
        latencies(&deployment, &steps.iter().collect::<Vec<_>>(), &goal.traffic)
    }
}

/// Checks every deployment: the vLLM servers of a file with the same `llm-d.ai/guide`, which share the load.
pub(super) fn check(
    servers: &[Server],
    planned: &[Option<Planned>],
    goal: &Goal<'_>,
    findings: &mut Findings,
) -> Vec<CheckedObjective> {
    let mut deployments: BTreeMap<_, Vec<Member<'_>>> = BTreeMap::new();
    for (server, planned) in servers.iter().zip(planned).filter(|(server, _)| server.args.is_some()) {
        let key = (server.place.file.as_str(), server.labels.get("llm-d.ai/guide"));
        deployments.entry(key).or_default().push((server, planned));
    }
    let mut checked = Vec::new();
    for members in deployments.into_values() {
        match group(&members) {
            Ok(Some(group)) => checked.extend(of_group(&group, goal, findings)),
            Ok(None) => {}
            Err((place, reason)) => findings.note("load-not-checked", &place, "", reason, ""),
        }
    }
    checked
}

/// The engines that share a load; nothing where one of them does not start, which is a finding already.
fn group<'a>(members: &[Member<'a>]) -> std::result::Result<Option<Group<'a>>, (Place, String)> {
    let Some((first, _)) = members.first() else { return Ok(None) };
    let objects: Vec<_> = members.iter().map(|(server, _)| server.place.object.as_str()).collect();
    let place = Place { file: first.place.file.clone(), object: objects.join(", ") };
    let not = |reason: &str| Err((place.clone(), format!("{reason}: the load was not checked")));
    let of = |prefill: bool| members.iter().filter(move |(server, _)| server.is_prefill() == prefill);
    let (prefill, others) = (of(true).count(), of(false).count());
    if others != 1 || prefill > 1 {
        return not("how a router shares a load over different servers of the same role is not predicted");
    }
    let mut engines = Vec::new();
    for (server, planned) in of(true).chain(of(false)) {
        let Some(planned) = planned else { return not("an engine was not planned") };
        if !planned.role.plan.fits {
            return Ok(None);
        }
        let replicas = u32::try_from(server.replicas).unwrap_or(u32::MAX);
        match &planned.engine {
            _ if replicas == 0 => return not("there are no replicas"),
            Some(Ok(engine)) => engines.push((replicas, engine)),
            Some(Err(reason)) => return not(reason),
            // The requests are too long for it, which is a finding already.
            None => return Ok(None),
        }
    }
    Ok(Some(Group { place, engines }))
}

fn of_group(group: &Group<'_>, goal: &Goal<'_>, findings: &mut Findings) -> Vec<CheckedObjective> {
    const FIX: &str = "more replicas, or others: `config-explorer recommend` says which";
    let place = &group.place;
    let latencies = match group.latencies(goal) {
        Ok(latencies) => latencies,
        Err(error) => {
            findings.error("objective-missed", place, "", format!("the requests are not served: {error}"), FIX);
            return Vec::new();
        }
    };
    if latencies.saturated {
        let most = latencies.requests_per_s;
        let message = format!("more arrives than can be served, which is {most:.2} requests/s at most");
        findings.error("objective-missed", place, "", message, FIX);
    }
    let of_objective = |objective: &Objective| {
        let predicted = latencies.value(objective.quantity, goal.traffic.output_tokens);
        let holds = objective.is_met_by(predicted);
        if let Some(value) = predicted.filter(|_| !holds) {
            let unit = if objective.quantity.statistic().is_some() { "ms" } else { "/s" };
            let message = format!("{objective} is missed under this load: {value:.1}{unit} predicted");
            findings.error("objective-missed", place, "", message, FIX);
        }
        let (file, path) = (place.file.clone(), place.object.clone());
        CheckedObjective { file, path, objective: objective.to_string(), predicted, holds }
    };
    goal.objectives.0.iter().map(of_objective).collect()
}
