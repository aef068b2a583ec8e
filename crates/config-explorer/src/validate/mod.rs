//! Predictions against what real servers printed when they started.
//!
//! In: a table of server start-ups ([`StartUps`]) or a server's own log ([`StartUpLog`]). Out: the prediction beside every
//! printed figure, and how far they are apart ([`Accuracy`]). What is predicted is [`crate::memory::plan`], unchanged:
//! settings that a row or log does not name take the defaults of its version. Log lines are those of vLLM's
//! `v1/worker/gpu_worker.py`, `v1/core/kv_cache_utils.py` and, for V0, `worker/worker.py`.

mod accuracy;
pub mod latency;
mod logs;
mod memory;
mod python;
mod start_ups;
mod table;

use std::path::Path;

pub use accuracy::{Accuracy, ErrorSummary};
pub use logs::{Comparison, StartUpLog};
pub use memory::{MemoryPrediction, predict};
pub use start_ups::{Printed, StartUp, StartUps};

use crate::Result;
use crate::deployment::{Nodes, Parallelism};
use crate::engine::{Core, EngineRules, EngineSettings, ServeArgs, Version};
use crate::hardware::Accelerator;
use crate::memory::{MemoryPlan, PlanRequest, plan};
use crate::model::{LoadOptions, Model};

/// The model of an id in a directory of `ORG--NAME/config.json` folders; `None` where there is no such folder.
///
/// # Errors
/// Those of [`Model::load`] for the folder's files.
pub fn model_in(directory: &Path, id: &str) -> Result<Option<Model>> {
    let Some((organisation, name)) = id.split_once('/').filter(|(_, name)| !name.contains('/')) else {
        return Ok(None);
    };
    let folder = directory.join(format!("{organisation}--{name}"));
    let Some(path) = folder.to_str().filter(|_| folder.join("config.json").is_file()) else { return Ok(None) };
    let model = Model::load(path, &LoadOptions { offline: true, ..LoadOptions::from_env(|_| None) })?;
    Ok(Some(Model { id: id.to_owned(), ..model }))
}

/// The plan of a server that ran.
///
/// # Errors
/// [`crate::Error::InvalidSetting`] for a combination of settings that vLLM refuses.
pub fn plan_of_server(
    args: &ServeArgs,
    rules: &EngineRules,
    model: &Model,
    accelerator: &Accelerator,
    total_gib: f64,
) -> Result<MemoryPlan> {
    let parallelism = Parallelism::from_args(args)?;
    Ok(plan(&PlanRequest {
        model,
        accelerator,
        total_gib,
        rules,
        settings: EngineSettings::resolve(args, rules, &model.architecture, total_gib, &accelerator.name)?,
        parallelism,
        // It ran, so its tensor-parallel group had the GPUs it needed.
        nodes: Nodes { count: None, gpus_per_node: accelerator.gpus_per_node.max(parallelism.tensor()) },
        concurrency: None,
    }))
}

/// The rules of a version's engine; of the default version where none is known. V0 in a release that also has V1 accounts
/// as it did in the last release of its own.
fn rules_of(version: Option<Version>, core: Core) -> Result<EngineRules> {
    const LAST_OF_V0: Version = Version { major: 0, minor: 7, patch: 3 };
    let Some(version) = version else { return Ok(EngineRules::of_default_version()) };
    EngineRules::of(if core == Core::V0 { version.min(LAST_OF_V0) } else { version })
}
