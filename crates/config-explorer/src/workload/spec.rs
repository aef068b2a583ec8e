//! The description of a workload that a user writes: one YAML schema.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Distribution, Gaps, Objectives, Trace, TraceFormat};
use crate::{Error, Result, yaml};

/// What is sent to a deployment, and when.
///
/// What `classes` do not give themselves they take from the workload. It must end: by `requests`, `sessions`,
/// `duration_s`, a schedule that does not repeat, or a trace.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorkloadSpec {
    /// Most requests to send, every turn of a session counted.
    pub requests: Option<u32>,
    /// Most sessions to start.
    pub sessions: Option<u32>,
    /// Nothing is sent after so many seconds.
    pub duration_s: Option<f64>,
    /// When requests (with `session`: the first ones of sessions) are sent. A trace has its own times, which this
    /// overrides.
    pub arrivals: Option<Arrivals>,
    /// Tokens that every prompt starts with, before the `prefix`.
    pub system_prompt_tokens: u32,
    /// Tokens that follow what is shared; in a session, the tokens that a turn adds.
    pub input: Option<Distribution>,
    /// Tokens of an answer.
    pub output: Option<Distribution>,
    /// Groups of prompts that start alike.
    pub prefix: Option<Prefix>,
    /// Conversations; requests are independent without it.
    pub session: Option<Session>,
    /// Objectives, as of `--slo`.
    #[schemars(with = "Option<String>")]
    pub slo: Option<Objectives>,
    /// Kinds of requests. One that has all of the above, if none is given.
    pub classes: Vec<ClassSpec>,
    /// Recorded requests, instead of `input`, `output`, `prefix` and `session`. Their classes get their priority and
    /// objectives by name from `classes`.
    pub trace: Option<TraceSource>,
}

/// A kind of requests.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassSpec {
    /// Its name.
    pub name: String,
    /// Part of the requests (of the sessions, where there are sessions), relative to the other classes. 1 without it.
    #[serde(default)]
    pub share: Option<f64>,
    /// Lower is more urgent, as vLLM's `priority`.
    #[serde(default)]
    pub priority: i32,
    /// Objectives of these requests.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub slo: Option<Objectives>,
    /// As of the workload.
    #[serde(default)]
    pub input: Option<Distribution>,
    /// As of the workload.
    #[serde(default)]
    pub output: Option<Distribution>,
    /// As of the workload.
    #[serde(default)]
    pub prefix: Option<Prefix>,
    /// As of the workload.
    #[serde(default)]
    pub session: Option<Session>,
}

/// When requests are sent.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrivals {
    /// At a rate, whatever the server does.
    Open {
        /// Requests per second; `.inf` to send all at once.
        rate_per_s: f64,
        /// How the gaps vary.
        #[serde(default)]
        gaps: Gaps,
        /// Most requests in flight: what is due beyond waits at the client, unsent. A session keeps its place up to its
        /// end.
        #[serde(default)]
        concurrency: Option<u32>,
    },
    /// At a rate that changes, whatever the server does.
    Schedule {
        /// One after the other.
        stages: Vec<Stage>,
        /// The first stage follows the last one again.
        #[serde(default)]
        cycle: bool,
        /// How the gaps vary around the rate.
        #[serde(default)]
        gaps: Gaps,
        /// As of `open`.
        #[serde(default)]
        concurrency: Option<u32>,
    },
    /// By clients that send their next request when the last one has ended. All start at time zero.
    Closed {
        /// How many.
        clients: u32,
        /// Seconds between the end of a request (of a session) and the next one.
        #[serde(default = "zero")]
        think_time_s: Distribution,
    },
}

fn zero() -> Distribution {
    Distribution::fixed(0.0)
}

/// A part of a schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stage {
    /// Requests (on average) that come at once when the stage starts.
    pub burst: f64,
    /// Requests per second at its start.
    pub rate_per_s: f64,
    /// Requests per second at its end, where the rate changes evenly.
    pub to_rate_per_s: Option<f64>,
    /// Seconds.
    pub duration_s: f64,
}

/// Groups of prompts; those of a group start with the same tokens.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prefix {
    /// Tokens that the prompts of a group share.
    pub tokens: u32,
    /// Groups, at least 1.
    #[serde(default = "one")]
    pub groups: u32,
    /// Different prompts of a group: a request repeats one of them. Every request has a prompt of its own without it.
    #[serde(default)]
    pub prompts_per_group: Option<u32>,
    /// Which group a request is of.
    #[serde(default)]
    pub popularity: Popularity,
}

fn one() -> u32 {
    1
}

impl Default for Prefix {
    /// One group that shares nothing.
    fn default() -> Self {
        Self { tokens: 0, groups: 1, prompts_per_group: None, popularity: Popularity::default() }
    }
}

/// How often the groups of a [`Prefix`] come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Popularity {
    /// All equally often, by chance.
    #[default]
    Uniform,
    /// One after the other, and so the prompts of each.
    InTurn,
    /// All prompts (where none repeat: all groups) once by chance, and then again in the same order.
    Shuffled,
    /// The nth as often as n to the power of minus the exponent.
    Zipf {
        /// At least 0, where all come equally often.
        exponent: f64,
    },
}

/// A conversation: each prompt starts with all prompts and answers before it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Requests of a session.
    pub turns: Distribution,
    /// Seconds between an answer and the next request.
    #[serde(default = "zero")]
    pub think_time_s: Distribution,
    /// Tokens that a session starts with, besides `system_prompt_tokens`, the prefix and the first turn's.
    #[serde(default = "zero")]
    pub context_tokens: Distribution,
    /// A session ends before the turn whose prompt and answer would be longer.
    #[serde(default)]
    pub max_context_tokens: Option<u32>,
}

/// Where recorded requests come from, and how they are replayed.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TraceSource {
    /// The file, relative to the workload file.
    pub file: PathBuf,
    /// Its format; known from its content without it.
    pub format: Option<TraceFormat>,
    /// Times are multiplied by it: at 0.5, requests come twice as fast. 1 without it.
    pub time_scale: Option<f64>,
    /// Seconds of the record to leave out at its start.
    pub start_s: f64,
    /// Most requests to read.
    pub limit: Option<u32>,
    /// A line that cannot be read is an error; without it, it is left out and counted.
    pub strict: bool,
}

/// A kind of requests, complete.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Class {
    /// Its name; empty for the only one.
    pub name: String,
    /// Part of the requests (of the sessions), 0 to 1. Of a trace, as recorded.
    pub share: f64,
    /// Lower is more urgent.
    pub priority: i32,
    /// What they must meet.
    pub objectives: Objectives,
}

/// What the requests of a class hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Contents {
    /// As of [`WorkloadSpec`].
    pub input: Distribution,
    /// As of [`WorkloadSpec`].
    pub output: Distribution,
    /// As of [`WorkloadSpec`].
    pub prefix: Option<Prefix>,
    /// As of [`WorkloadSpec`].
    pub session: Option<Session>,
}

fn refuse<T>(setting: impl Into<String>, reason: &str) -> Result<T> {
    Err(Error::InvalidSetting { setting: setting.into(), reason: reason.to_owned() })
}

impl WorkloadSpec {
    /// Reads a workload in this schema; `place` names it in errors. Files that it names are not opened.
    ///
    /// # Errors
    /// [`Error::Malformed`], with line and column.
    pub fn parse(bytes: &[u8], place: &str) -> Result<Self> {
        yaml::from_slice(bytes).map_err(|reason| Error::Malformed { place: place.to_owned(), reason })
    }

    /// The classes, at least one. Those of a trace are the trace's.
    pub fn classes(&self, trace: Option<&Trace>) -> Vec<Class> {
        let objectives = |class: Option<&ClassSpec>| {
            class.and_then(|class| class.slo.clone()).or_else(|| self.slo.clone()).unwrap_or_default()
        };
        if let Some(trace) = trace {
            let class = |(name, share): (&str, f64)| {
                let spec = self.classes.iter().find(|class| class.name == name);
                let priority = spec.map_or(0, |class| class.priority);
                Class { name: name.to_owned(), share, priority, objectives: objectives(spec) }
            };
            return trace.classes().map(class).collect();
        }
        if self.classes.is_empty() {
            return vec![Class { share: 1.0, objectives: objectives(None), ..Class::default() }];
        }
        let share = |class: &ClassSpec| class.share.unwrap_or(1.0);
        let sum: f64 = self.classes.iter().map(share).sum();
        let class = |class: &ClassSpec| Class {
            name: class.name.clone(),
            share: share(class) / sum,
            priority: class.priority,
            objectives: objectives(Some(class)),
        };
        self.classes.iter().map(class).collect()
    }

    /// What the requests of each class hold, in the order of the classes. Not of a trace.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if a length is not given.
    pub fn contents(&self) -> Result<Vec<Contents>> {
        let default = ClassSpec::default();
        let classes = if self.classes.is_empty() { std::slice::from_ref(&default) } else { &self.classes[..] };
        let contents = |class: &ClassSpec| {
            let Some(input) = class.input.as_ref().or(self.input.as_ref()) else {
                return refuse(class.field("input"), "the tokens of the prompts are not given");
            };
            let Some(output) = class.output.as_ref().or(self.output.as_ref()) else {
                return refuse(class.field("output"), "the tokens of the answers are not given");
            };
            Ok(Contents {
                input: input.clone(),
                output: output.clone(),
                prefix: class.prefix.or(self.prefix),
                session: class.session.as_ref().or(self.session.as_ref()).cloned(),
            })
        };
        classes.iter().map(contents).collect()
    }

    /// Refuses what cannot be drawn from, and what never ends. `trace` is the one that [`WorkloadSpec::trace`] names.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`], with the field.
    pub fn check(&self, trace: Option<&Trace>) -> Result<()> {
        for (field, given) in [("requests", self.requests), ("sessions", self.sessions)] {
            if given == Some(0) {
                return refuse(field, "must be at least 1");
            }
        }
        if self.duration_s.is_some_and(|duration| !(duration > 0.0 && duration < 1e9)) {
            return refuse("duration_s", "must be above 0 and below 10^9 seconds");
        }
        if trace.is_none() {
            if self.trace.is_some() {
                return refuse("trace", "the file has not been read");
            }
            for (contents, index) in self.contents()?.iter().zip(0..) {
                contents.check(self.classes.get(index).map_or("", |class| &class.name))?;
            }
        }
        for class in &self.classes {
            if class.share.is_some_and(|share| !(share > 0.0 && share < 1e9)) {
                return refuse(class.field("share"), "must be above 0");
            }
        }
        if self.classes.len() > usize::from(u16::MAX) {
            return refuse("classes", "are more than 65,535");
        }
        let ends = self.requests.is_some() || self.sessions.is_some() || self.duration_s.is_some() || trace.is_some();
        match &self.arrivals {
            Some(arrivals) => arrivals.check(ends, self.duration_s),
            None if trace.is_some() => Ok(()),
            None => refuse("arrivals", "neither a rate nor a number of clients is given"),
        }
    }
}

impl ClassSpec {
    /// A field of this class, as errors name it.
    fn field(&self, field: &str) -> String {
        if self.name.is_empty() { field.to_owned() } else { format!("classes.{}.{field}", self.name) }
    }
}

impl Contents {
    fn check(&self, class: &str) -> Result<()> {
        let class = ClassSpec { name: class.to_owned(), ..ClassSpec::default() };
        self.input.check(&class.field("input"))?;
        self.output.check(&class.field("output"))?;
        if let Some(session) = &self.session {
            session.turns.check(&class.field("session.turns"))?;
            session.think_time_s.check(&class.field("session.think_time_s"))?;
            session.context_tokens.check(&class.field("session.context_tokens"))?;
        }
        let Some(prefix) = self.prefix else { return Ok(()) };
        if prefix.groups == 0 || prefix.groups > 1 << 20 {
            return refuse(class.field("prefix.groups"), "must be at least 1 and at most 2^20");
        }
        if prefix.tokens > 1 << 30 {
            return refuse(class.field("prefix.tokens"), "must be at most 2^30");
        }
        let prompts = prefix.prompts_per_group.map(|prompts| u64::from(prompts) * u64::from(prefix.groups));
        if prompts.is_some_and(|prompts| prompts == 0 || prompts > 1 << 28) {
            return refuse(
                class.field("prefix.prompts_per_group"),
                "must be at least 1 and, of all groups, at most 2^28",
            );
        }
        if prefix.popularity == Popularity::Shuffled && prompts.is_some_and(|prompts| prompts > 1 << 24) {
            return refuse(class.field("prefix.popularity"), "at most 2^24 prompts can be shuffled");
        }
        match prefix.popularity {
            Popularity::Zipf { exponent } if !(0.0..=100.0).contains(&exponent) => {
                refuse(class.field("prefix.popularity.zipf.exponent"), "must lie between 0 and 100")
            }
            _ => Ok(()),
        }
    }
}

/// The rates that a schedule may have.
fn is_rate(rate: f64) -> bool {
    (0.0..1e9).contains(&rate)
}

impl Stage {
    /// Requests that come in the stage, on average.
    pub fn requests(&self) -> f64 {
        self.burst + f64::midpoint(self.rate_per_s, self.to_rate_per_s.unwrap_or(self.rate_per_s)) * self.duration_s
    }
}

impl Arrivals {
    /// Whether requests come whatever the server does, and not all at once.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Open { rate_per_s, .. } => rate_per_s.is_finite(),
            Self::Schedule { .. } => true,
            Self::Closed { .. } => false,
        }
    }

    /// `ends`: something else than a schedule ends the workload.
    fn check(&self, ends: bool, duration_s: Option<f64>) -> Result<()> {
        let gaps = match self {
            Self::Open { rate_per_s, .. } if rate_per_s.is_nan() || *rate_per_s <= 0.0 => {
                return refuse("rate_per_s", "must be above 0 requests per second");
            }
            Self::Open { concurrency: Some(0), .. }
            | Self::Schedule { concurrency: Some(0), .. }
            | Self::Closed { clients: 0, .. } => return refuse("concurrency", "must be at least 1"),
            Self::Open { concurrency: Some(limit), .. }
            | Self::Schedule { concurrency: Some(limit), .. }
            | Self::Closed { clients: limit, .. }
                if *limit > 1 << 24 =>
            {
                return refuse("concurrency", "must be at most 2^24");
            }
            Self::Closed { think_time_s, .. } => {
                think_time_s.check("think_time_s")?;
                return if ends { Ok(()) } else { refuse("requests", NEVER_ENDS) };
            }
            Self::Open { rate_per_s, gaps, .. } => {
                if !ends {
                    return refuse("requests", NEVER_ENDS);
                }
                // The bound of numbered requests; infinity times a duration says nothing.
                if rate_per_s.is_finite() && duration_s.is_some_and(|duration| duration * rate_per_s > 1e9) {
                    return refuse("duration_s", "is too long for the rate: more than 10^9 requests");
                }
                gaps
            }
            Self::Schedule { stages, cycle, gaps, .. } => {
                for stage in stages {
                    let rates = [stage.rate_per_s, stage.to_rate_per_s.unwrap_or_default(), stage.burst];
                    if !rates.into_iter().all(is_rate) || !is_rate(stage.duration_s) {
                        return refuse("stages", "rates, bursts and durations must be at least 0 and below 10^9");
                    }
                }
                let requests: f64 = stages.iter().map(Stage::requests).sum();
                let duration: f64 = stages.iter().map(|stage| stage.duration_s).sum();
                if requests <= 0.0 {
                    return refuse("stages", "send nothing: give a stage a rate and a duration, or a burst");
                }
                if *cycle && duration <= 0.0 {
                    return refuse("stages", "a cycle must last longer than 0 seconds");
                }
                if *cycle && !ends {
                    return refuse("requests", NEVER_ENDS);
                }
                if !cycle && requests > 1e9 {
                    return refuse("stages", "send more than 10^9 requests");
                }
                gaps
            }
        };
        gaps.check()
    }
}

const NEVER_ENDS: &str = "the workload never ends: give `requests`, `sessions` or `duration_s`";

impl Gaps {
    fn check(self) -> Result<()> {
        let in_range = |value: f64| (1e-3..=1e3).contains(&value);
        match self {
            Self::Gamma { cv } if !in_range(cv) => {
                refuse("gaps", "the coefficient of variation must lie between 0.001 and 1000")
            }
            Self::Weibull { shape, cv } => match (shape, cv) {
                (Some(shape), None) if (0.1..=100.0).contains(&shape) => Ok(()),
                (None, Some(cv)) if (0.02..=100.0).contains(&cv) => Ok(()),
                _ => refuse("gaps", "Weibull needs a `shape` between 0.1 and 100 or a `cv` between 0.02 and 100"),
            },
            _ => Ok(()),
        }
    }
}
