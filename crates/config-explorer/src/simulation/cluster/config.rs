//! What a cluster consists of.

use std::collections::BTreeMap;

use crate::engine::SchedulerRules;
use crate::simulation::engine::{Batch, SchedulerConfig};
use crate::simulation::router::RouterConfig;

/// How long the device takes for a batch.
pub trait StepTimer {
    /// Microseconds from the start of a step to its output, the engine's own work included where the device waits for
    /// it. Above 0 and finite. [`Batch::decodes`] and [`Batch::chunks`] are all that may matter: how decodes are spread
    /// over [`Batch::requests`] and [`Batch::cruising`] says nothing.
    fn step_us(&mut self, batch: &Batch) -> f64;
}

impl<F: FnMut(&Batch) -> f64> StepTimer for F {
    fn step_us(&mut self, batch: &Batch) -> f64 {
        self(batch)
    }
}

/// Engines, and how requests find them.
#[derive(Debug, Clone)]
pub struct Cluster<T> {
    /// The engines, alike within a group. In outcomes they are numbered through, group by group.
    pub groups: Vec<EngineGroup<T>>,
    /// How an engine is chosen.
    pub routing: Routing,
    /// The way of KV caches from prefill to decode; needed where a group has the role [`EngineRole::Prefill`].
    pub transfer: Option<KvTransfer>,
}

impl<T> Cluster<T> {
    /// One engine.
    pub fn single(scheduler: SchedulerConfig, rules: SchedulerRules, timer: T) -> Self {
        Self { groups: vec![EngineGroup::new(scheduler, rules, timer)], routing: Routing::RoundRobin, transfer: None }
    }
}

/// Replicas of an engine: one pod each, one endpoint of the router each.
#[derive(Debug, Clone)]
pub struct EngineGroup<T> {
    /// What the pods are named after: `NAME-0`, `NAME-1`, ….
    pub name: String,
    /// Settings of the engine, or of each of its data-parallel ranks. Without a `kv_role`, engines for prefill or decode
    /// get [`KvRole::Both`](crate::simulation::engine::KvRole::Both), as llm-d's guides have it.
    pub scheduler: SchedulerConfig,
    /// What its version of vLLM does.
    pub rules: SchedulerRules,
    /// How long its device takes; one timer for all replicas.
    pub timer: T,
    /// What it does for a request.
    pub role: EngineRole,
    /// How many; 0 is an empty group.
    pub replicas: u32,
    /// Ranks that share the requests of an engine.
    pub data_parallel: DataParallel,
    /// Labels of the pods, which the router reads. The role's label is added unless it is here.
    pub labels: BTreeMap<String, String>,
    /// Seconds after the start from which each replica takes requests; those beyond the list do from the start.
    pub starts_s: Vec<f64>,
    /// When replicas fail.
    pub failures: Vec<Failure>,
}

impl<T> EngineGroup<T> {
    /// One engine named `engine` that is there from the start and does not fail.
    pub fn new(scheduler: SchedulerConfig, rules: SchedulerRules, timer: T) -> Self {
        Self {
            name: "engine".to_owned(),
            scheduler,
            rules,
            timer,
            role: EngineRole::Both,
            replicas: 1,
            data_parallel: DataParallel::default(),
            labels: BTreeMap::new(),
            starts_s: Vec::new(),
            failures: Vec::new(),
        }
    }
}

/// What an engine does for a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EngineRole {
    /// All of it.
    #[default]
    Both,
    /// Computes the prompt, for another engine to load.
    Prefill,
    /// Loads the KV cache of the prompt and generates; where no other engine computes the prompt, does all of it.
    Decode,
}

impl EngineRole {
    /// The value of the label that says so to the router; none for an engine that does all.
    pub fn label(self) -> Option<&'static str> {
        match self {
            Self::Both => None,
            Self::Prefill => Some("prefill"),
            Self::Decode => Some("decode"),
        }
    }
}

/// Data-parallel ranks behind one API server: each has a scheduler and a KV cache of its own.
///
/// The API server gives a request to the rank with the least `4 x waiting + running` (`DPLBAsyncMPClient`,
/// `vllm/v1/engine/core_client.py`). It counts what it gives away as waiting; only ranks in lockstep report what became
/// of it, every 100 ms (`DPCoordinator`), so that ranks without lockstep are served in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataParallel {
    /// How many, at least 1.
    pub ranks: u32,
    /// The experts of a mixture-of-experts model are spread over the ranks: a step is a step of all, as long as the
    /// longest, and a rank without work computes a dummy batch of one token (`DPEngineCoreProc`).
    pub lockstep: bool,
}

impl Default for DataParallel {
    fn default() -> Self {
        Self { ranks: 1, lockstep: false }
    }
}

/// A replica is lost with all it holds.
///
/// Requests sent to it, waiting or running there, and those that load KV from it, get an error at once, as a closed
/// connection does; a request whose prompt it computes is computed by the decode engine alone, as llm-d's sidecar falls
/// back. The router goes on to choose the replica until the next tick of its metrics (at most
/// 50 ms; the notice in Kubernetes takes about a second, which nothing in the router's configuration tells), and what it
/// sends there fails. When the replica is up again, its cache is empty, the router knows nothing about it and takes it
/// for idle until it is scraped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Failure {
    /// Which replica of the group, from 0.
    pub replica: u32,
    /// Seconds after the start at which it fails.
    pub down_s: f64,
    /// Seconds after the start from which it takes requests again, the start-up included; infinite for never.
    pub up_s: f64,
}

/// The way of a KV cache from one engine to another. Every engine has a link of this bandwidth in each direction, and
/// transfers share it equally: each goes at the lower one of its shares at both ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KvTransfer {
    /// Bytes of KV of a token, over all layers and devices of an engine.
    pub bytes_per_token: f64,
    /// Bytes per second that an engine sends or receives, over all its devices; may be infinite.
    pub bandwidth_bytes_per_s: f64,
    /// Seconds of a transfer of nothing: handshake, descriptors, notification.
    pub base_latency_s: f64,
}

/// How an engine is chosen for a request.
#[derive(Debug, Clone)]
pub enum Routing {
    /// llm-d's router.
    Router(Box<RouterConfig>),
    /// One after the other.
    RoundRobin,
    /// The one with the least requests that are not answered; of equal ones the first. Knows all at every moment, as a
    /// proxy that sees every request does.
    LeastRequests,
    /// Any, as a plain Kubernetes Service.
    Random,
}

/// What stands before the engine core and handles one request after the other: HTTP, tokenisation. Every engine has one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FrontEnd {
    /// Microseconds of a request.
    pub request_us: f64,
    /// Microseconds of a token of its prompt.
    pub prompt_token_us: f64,
}

/// How to simulate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimulationOptions {
    /// What stands before every engine.
    pub front_end: FrontEnd,
    /// Clients send a request once more when its engine fails.
    pub retry: bool,
    /// Every step touches every request. The outcome is the same, only later.
    pub exact: bool,
    /// Seconds that an engine holds the blocks of a prompt that nobody comes for (`VLLM_NIXL_ABORT_REQUEST_TIMEOUT`).
    pub hold_s: f64,
}

impl Default for SimulationOptions {
    fn default() -> Self {
        Self { front_end: FrontEnd::default(), retry: false, exact: false, hold_s: 480.0 }
    }
}
