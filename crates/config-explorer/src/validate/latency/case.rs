//! From a measured row to what is predicted for it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::MeasuredRun;
use crate::deployment::{Nodes, Parallelism};
use crate::engine::{EngineRules, EngineSettings, KvCacheDType, ServeArgs};
use crate::hardware::Accelerators;
use crate::latency::Calibration;
use crate::memory::PlanRequest;
use crate::model::{Model, ModelSource, Weights, parse_config};
use crate::serving::{Capacity, Deployment, Engine, Prediction, Traffic, estimate};
use crate::simulation::PlannedEngine;
use crate::{Error, Result};

/// A deployment that was measured, resolved.
#[derive(Debug, Clone)]
pub struct MeasuredCase {
    pub(super) engine: Engine,
    pub(super) replicas: u32,
    pub(super) kv_tokens: f64,
    pub(super) traffic: Traffic,
    /// The same engine for the simulation.
    pub(super) planned: PlannedEngine,
}

impl MeasuredCase {
    /// What is predicted for it.
    ///
    /// # Errors
    /// Those of [`estimate`].
    pub fn predict(&self, calibration: &Calibration) -> Result<Prediction> {
        estimate(&Deployment::Aggregated(self.engine.role(self.replicas, calibration)?), &self.traffic)
    }
}

/// The models that rows name, each in the precisions they name.
#[derive(Debug, Default)]
pub struct MeasuredModels(BTreeMap<(String, String), std::result::Result<Model, String>>);

impl MeasuredModels {
    /// Reads the configs that the rows name from a directory of `ORG--NAME/config.json` folders. A config that cannot be
    /// read is told by the rows that need it.
    pub fn read<'a>(directory: &Path, rows: impl IntoIterator<Item = &'a MeasuredRun>) -> Self {
        let mut models = BTreeMap::new();
        for row in rows {
            let key = (row.config.clone(), row.precision.clone());
            models.entry(key).or_insert_with(|| read_model(directory, row).map_err(|error| error.to_string()));
        }
        Self(models)
    }

    /// Adds the model of a row that names none of a directory's folders.
    pub fn insert(&mut self, row: &MeasuredRun, model: Result<Model>) {
        self.0.insert((row.config.clone(), row.precision.clone()), model.map_err(|error| error.to_string()));
    }

    /// The case of a row.
    ///
    /// # Errors
    /// What the row lacks, or why its deployment cannot be predicted.
    pub fn case(&self, row: &MeasuredRun, accelerators: &Accelerators) -> Result<MeasuredCase> {
        let missing =
            |field: &str, reason: &str| Error::InvalidSetting { setting: field.to_owned(), reason: reason.to_owned() };
        if row.config.is_empty() {
            return Err(missing("config", "names no config"));
        }
        if !row.aggregated {
            return Err(missing("layout", "the sizes of prefill and decode pools are not columns"));
        }
        let (input, output) = row.lengths.ok_or_else(|| missing("isl", "the lengths are not known"))?;
        let load = row.load.ok_or_else(|| missing("load_kind", "the load is not known"))?;
        let traffic = Traffic::new(input, output.max(1.0), 0.0, load)?;
        let model = match self.0.get(&(row.config.clone(), row.precision.clone())) {
            Some(Ok(model)) => model,
            Some(Err(reason)) => return Err(missing("config", reason)),
            None => return Err(missing("config", "was not read")),
        };
        let accelerator = accelerators.find(gpu_name(&row.gpu))?;
        let rules = match row.version {
            Some(version) => EngineRules::of(version)?,
            None => EngineRules::of_default_version(),
        };
        let [tensor, pipeline, data, expert, replicas] = row.layout;
        let parallelism = Parallelism::new(tensor, pipeline, data, expert > 1, 1)?;
        let mut args = ServeArgs { async_scheduling: row.async_scheduling, ..row.args.clone() };
        args.kv_cache_dtype = row.fp8_kv_cache.then_some(KvCacheDType::Fp8);
        let architecture = &model.architecture;
        let settings = EngineSettings::resolve(&args, &rules, architecture, accelerator.memory_gib, &accelerator.name)?;
        let request = PlanRequest {
            model,
            accelerator,
            total_gib: accelerator.memory_gib,
            rules: &rules,
            settings,
            parallelism,
            nodes: Nodes { count: None, gpus_per_node: accelerator.gpus_per_node.max(tensor) },
            concurrency: None,
        };
        let engine = Engine::new(&request, &traffic)?;
        let kv_tokens = match &engine.capacity {
            Capacity::Fits { kv_tokens, .. } => *kv_tokens,
            Capacity::DoesNotFit { reason } => return Err(missing("memory", reason)),
        };
        // The longest length is rarely known, and any that the memory allows served the row.
        let settings = EngineSettings { max_model_len: None, ..request.settings.clone() };
        let planned = PlannedEngine::new(&PlanRequest { settings, ..request })?;
        Ok(MeasuredCase { engine, replicas, kv_tokens, traffic, planned })
    }
}

/// What people add to a name: `H20 (8xH20)`.
pub(super) fn gpu_name(text: &str) -> &str {
    text.split('(').next().unwrap_or_default().trim()
}

fn read_model(directory: &Path, row: &MeasuredRun) -> Result<Model> {
    let path = directory.join(&row.config).join("config.json");
    let place = path.display().to_string();
    if row.config.contains(['/', '\\']) || row.config.starts_with('.') {
        return Err(Error::Malformed { place, reason: "`config` must be the name of a folder".to_owned() });
    }
    let text = std::fs::read_to_string(&path).map_err(|source| Error::Io { path, source })?;
    let malformed = |error: serde_json::Error| Error::Malformed { place: place.clone(), reason: error.to_string() };
    let mut config: Value = serde_json::from_str(&text).map_err(malformed)?;
    quantise(&mut config, &row.precision).map_err(|reason| Error::Malformed { place: place.clone(), reason })?;
    let parsed = parse_config(&config.to_string(), None, &place)?;
    Ok(Model {
        id: row.config.clone(),
        revision: None,
        source: ModelSource::Directory,
        parameters: 0,
        weights: Weights::from_architecture(&parsed.architecture),
        architecture: parsed.architecture,
        warnings: parsed.warnings,
    })
}

/// Puts the quantisation that a row's `precision` means into a config.
fn quantise(config: &mut Value, precision: &str) -> Result<(), String> {
    // ModelOpt leaves the attention of models with experts or latent attention in 16 bits.
    let text = config.get("text_config").unwrap_or(config);
    let plain_attention = ["kv_lora_rank", "num_local_experts", "num_experts", "n_routed_experts"]
        .iter()
        .any(|field| text.get(field).is_some_and(|value| !value.is_null()));
    let quantization = match precision {
        // The config is that of the checkpoint.
        "" | "int4_experts" => return Ok(()),
        "bf16" => Value::Null,
        "fp8" => json!({"quant_method": "fp8", "activation_scheme": "static", "modules_to_not_convert": ["lm_head"]}),
        "fp8_block" => {
            json!({"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head"]})
        }
        "nvfp4" if plain_attention => {
            json!({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head", "*self_attn*"]})
        }
        "nvfp4" => json!({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}),
        "mxfp4" => json!({
            "quant_method": "mxfp4",
            "modules_to_not_convert": ["lm_head", "model.layers.*.self_attn", "model.layers.*.mlp.router"],
        }),
        "int4" => json!({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true}),
        "int8-w8a8" => {
            json!({"quant_method": "fp8", "activation_scheme": "dynamic", "modules_to_not_convert": ["lm_head"]})
        }
        other => return Err(format!("the precision `{other}` is not known")),
    };
    for part in ["text_config", "llm_config"] {
        if let Some(Value::Object(nested)) = config.get_mut(part) {
            nested.remove("quantization_config");
        }
    }
    if let Value::Object(fields) = config {
        fields.insert("quantization_config".to_owned(), quantization);
    }
    Ok(())
}
