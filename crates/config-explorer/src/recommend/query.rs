//! What is asked.

use std::str::FromStr;

use crate::engine::{EngineRules, Flag, ServeArgs};
use crate::hardware::{Accelerator, Accelerators, Prices};
use crate::latency::Calibration;
use crate::model::Model;
use crate::reports::Run;
use crate::serving::{Load, Traffic};
use crate::simulation;
use crate::workload::Objectives;
use crate::{Error, Result};

/// Accelerators of one kind.
#[derive(Debug, Clone, Copy)]
pub struct PoolShare<'a> {
    /// The kind.
    pub accelerator: &'a Accelerator,
    /// How many there are.
    pub gpus: u32,
    /// How many of them share a node.
    pub gpus_per_node: u32,
}

/// One way to start an engine, its layout aside: a checkpoint and flags.
#[derive(Debug, Clone)]
pub struct Variant<'a> {
    /// The checkpoint.
    pub model: &'a Model,
    /// The flags; layouts fill in the parallel sizes that they leave open.
    pub serve: ServeArgs,
}

/// The load to be served.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Demand {
    /// Poisson arrivals, requests per second.
    Rate(f64),
    /// Users, each sending the next request when the last one has ended.
    Users(f64),
}

/// What comes first among the configurations that meet the objectives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankBy {
    /// The least cost that serves the demand.
    Cost,
    /// The highest rate that the whole pool can hold within the objectives.
    Throughput,
    /// The shortest mean time of a request, with the whole pool.
    Latency,
}

/// Whether prefill and decode may have engines of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disaggregation {
    /// Where it is better.
    Auto,
    /// Never.
    Never,
    /// Always.
    Always,
}

/// Runs, and the accelerators that they name.
#[derive(Debug, Clone, Copy)]
pub struct Measurements<'a> {
    /// The runs; what does not concern the query is passed over.
    pub runs: &'a [Run],
    /// Accelerators by all their names.
    pub accelerators: &'a Accelerators,
}

/// One of several parts that can be done apart: what is the `index`-th of every `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which part, from 0.
    pub index: usize,
    /// How many parts there are.
    pub count: usize,
}

impl Shard {
    /// Whether the part holds what is at a place.
    pub fn holds(self, place: usize) -> bool {
        place % self.count == self.index
    }
}

impl FromStr for Shard {
    type Err = Error;

    /// `0/4`: the first of four.
    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        let shard = parts.map(|(index, count)| Self { index, count }).filter(|shard| shard.index < shard.count);
        shard.ok_or_else(|| Error::InvalidSetting {
            setting: format!("--shard {text}"),
            reason: "write INDEX/COUNT with INDEX from 0, such as 0/4".to_owned(),
        })
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    /// What a version of the engine does.
    pub rules: &'a EngineRules,
    /// Ways to start an engine; the first one is preferred where others are as good.
    pub variants: Vec<Variant<'a>>,
    /// The accelerators there are; an engine has those of one share.
    pub pool: Vec<PoolShare<'a>>,
    /// Mean length of a prompt, tokens.
    pub input_tokens: f64,
    /// Mean length of an output, tokens.
    pub output_tokens: f64,
    /// Share of prompt tokens that prefix caches hold.
    pub prefix_hit_rate: f64,
    /// The load.
    pub demand: Demand,
    /// What is really sent, of which lengths, hit rate and load are the means: what finalists are simulated with. `None`:
    /// equal requests of these means.
    pub workload: Option<&'a simulation::Traffic>,
    /// What it must meet.
    pub objectives: Objectives,
    /// What comes first.
    pub rank_by: RankBy,
    /// Pools for prefill and decode.
    pub disaggregation: Disaggregation,
    /// What accelerators cost.
    pub prices: &'a Prices,
    /// Coefficients of the latency model.
    pub calibration: &'a Calibration,
    /// Measured runs, which outrank predictions.
    pub measured: Option<Measurements<'a>>,
    /// The part of the deployments that this search looks at; `None`: all.
    pub shard: Option<Shard>,
    /// The answer holds every deployment that was scored.
    pub keep_all: bool,
    /// Finalists are simulated; otherwise the answer is estimated.
    pub simulate: bool,
    /// How many configurations to return.
    pub top: usize,
}

impl Demand {
    /// The demand of a load in the steady state.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for a burst, which is over before it is a load.
    pub fn of(load: &Load) -> Result<Self> {
        match *load {
            Load::Open { rate_per_s } => Ok(Self::Rate(rate_per_s)),
            Load::Closed { clients, .. } => Ok(Self::Users(clients)),
            Load::Burst { .. } => Err(Error::InvalidSetting {
                setting: "arrivals".to_owned(),
                reason: "a burst is no lasting load: give the workload a rate or a number of clients".to_owned(),
            }),
        }
    }
}

impl Query<'_> {
    /// Leaves what this part of the search looks at.
    pub(super) fn keep_part<T>(&self, items: &mut Vec<T>) {
        if let Some(shard) = self.shard {
            let mut place = 0..;
            items.retain(|_| place.next().is_some_and(|place| shard.holds(place)));
        }
    }

    /// Refuses what cannot be answered.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for lengths and loads that [`Traffic::new`] refuses, for a pool without accelerators and
    /// for no variant.
    pub(super) fn check(&self) -> Result<()> {
        self.traffic()?;
        if self.pool.is_empty() || self.pool.iter().any(|share| share.gpus == 0) {
            let reason = "name at least one accelerator, such as H100:8".to_owned();
            return Err(Error::InvalidSetting { setting: "--gpus".to_owned(), reason });
        }
        if self.variants.is_empty() {
            let reason = "there is no checkpoint to serve".to_owned();
            return Err(Error::InvalidSetting { setting: "MODEL".to_owned(), reason });
        }
        Ok(())
    }

    /// The demand as traffic.
    pub(super) fn traffic(&self) -> Result<Traffic> {
        let load = match self.demand {
            Demand::Rate(rate_per_s) => Load::Open { rate_per_s },
            Demand::Users(clients) => Load::Closed { clients, requests: None },
        };
        Traffic::new(self.input_tokens, self.output_tokens, self.prefix_hit_rate, load)
    }
}

impl Variant<'_> {
    /// This variant once for each value of a flag: `max-num-seqs=64,256`. A switch takes `true` and `false`.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for a flag that vLLM does not have, and for a value that it does not take.
    pub fn vary(&self, flag_and_values: &str) -> Result<Vec<Self>> {
        let wrong = |reason: String| Error::InvalidSetting { setting: format!("--vary {flag_and_values}"), reason };
        let (name, values) =
            flag_and_values.split_once('=').ok_or_else(|| wrong("write FLAG=VALUE,VALUE".to_owned()))?;
        let spelling = format!("--{}", name.trim().trim_start_matches('-'));
        let (flag, _) =
            Flag::find(&spelling).ok_or_else(|| wrong(format!("vLLM has no flag `{spelling}` that is known here")))?;
        let of = |value: &str| {
            let mut serve = self.serve.clone();
            flag.set(&mut serve, &[value.trim().to_owned()])?;
            Ok(Variant { model: self.model, serve })
        };
        values.split(',').map(of).collect()
    }
}

impl<'a> PoolShare<'a> {
    /// The shares of a pool: `H100:16,H200:8`.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for another form or no GPU, and the errors of [`Accelerators::find`].
    pub fn parse(text: &str, accelerators: &'a Accelerators) -> Result<Vec<Self>> {
        let share = |part: &str| {
            let wrong = || Error::InvalidSetting {
                setting: format!("--gpus {text}"),
                reason: format!("`{}` is not NAME:COUNT, such as H100:16", part.trim()),
            };
            let (name, count) = part.rsplit_once(':').ok_or_else(wrong)?;
            let gpus = count.trim().parse().ok().filter(|count| (1..=GPUS_MAX).contains(count)).ok_or_else(wrong)?;
            let accelerator = accelerators.find(name.trim())?;
            Ok(Self { accelerator, gpus, gpus_per_node: accelerator.gpus_per_node })
        };
        text.split(',').map(share).collect()
    }
}

/// Most accelerators of a share: more than any cluster of one kind, and few enough to try each number of replicas.
const GPUS_MAX: u32 = 100_000;
