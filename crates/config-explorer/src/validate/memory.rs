//! The memory of a server that was started, predicted from what it was started with.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{StartUp, plan_of_server, rules_of};
use crate::hardware::{Accelerator, Accelerators};
use crate::model::Model;
use crate::{Error, Result};

/// What is predicted for one server. Fields are empty where the row says too little, or the server would not start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, schemars::JsonSchema)]
pub struct MemoryPrediction {
    /// Weights of rank 0.
    pub pred_weights_gib: Option<f64>,
    /// Peak activation of rank 0.
    pub pred_activation_gib: Option<f64>,
    /// KV cache of rank 0.
    pub pred_kv_gib: Option<f64>,
    /// Tokens of the KV cache, as the version prints them.
    pub pred_tokens: Option<u64>,
    /// Requests of full length at once.
    pub pred_concurrency: Option<f64>,
    /// Why something could not be predicted, and what was assumed.
    pub note: String,
}

/// Predicts what a server printed. `models` holds the models by id.
pub fn predict(start_up: &StartUp, models: &BTreeMap<String, Model>, accelerators: &Accelerators) -> MemoryPrediction {
    let mut notes = start_up.problems.clone();
    let unknown = || Error::Unknown { kind: "model", name: start_up.model.clone(), similar: Vec::new() };
    let prediction = models
        .get(&start_up.model)
        .ok_or_else(unknown)
        .and_then(|model| predict_model(start_up, model, accelerators, &mut notes));
    let prediction = prediction.unwrap_or_else(|error| {
        notes.push(error.to_string());
        MemoryPrediction::default()
    });
    MemoryPrediction { note: notes.join("; "), ..prediction }
}

fn predict_model(
    start_up: &StartUp,
    model: &Model,
    accelerators: &Accelerators,
    notes: &mut Vec<String>,
) -> Result<MemoryPrediction> {
    let args = &start_up.args;
    let rules = rules_of(start_up.version, start_up.core)?;
    if start_up.version.is_none() {
        notes.push(format!("the version is not known: {} assumed", rules.version));
    }
    if args.gpu_memory_utilization.is_none() {
        notes.push(format!("the utilization is not known: {} assumed", rules.defaults.gpu_memory_utilization));
    }
    let batch_known = args.max_num_batched_tokens.is_some() && args.max_num_seqs.is_some();
    if !batch_known {
        notes.push("the batch limits are not known: defaults assumed".to_owned());
    }
    let gpu = Gpu::of(start_up, accelerators, notes)?;
    let plan = plan_of_server(args, &rules, model, gpu.accelerator, gpu.total_gib)?;
    notes.extend(plan.reason.filter(|_| gpu.known));
    let rank = plan.ranks.first();
    let if_known = |known: bool| rank.filter(|_| known);
    let kv = plan.kv_cache.filter(|_| gpu.known);
    Ok(MemoryPrediction {
        pred_weights_gib: rank.map(|rank| rank.weights_gib),
        // The defaults of the batch limits depend on the GPU.
        pred_activation_gib: if_known(gpu.known || batch_known).map(|rank| rank.activation_gib),
        pred_kv_gib: if_known(gpu.known).map(|rank| rank.kv_cache_gib),
        pred_tokens: kv.map(|kv| kv.tokens_as_logged),
        pred_concurrency: kv.map(|kv| kv.max_concurrency),
        note: String::new(),
    })
}

/// The GPU of a start-up.
struct Gpu<'a> {
    accelerator: &'a Accelerator,
    total_gib: f64,
    /// Name or memory was told; else the accelerator only stands in.
    known: bool,
}

impl<'a> Gpu<'a> {
    /// The GPU by its name; by its memory where it has no name that is known.
    fn of(start_up: &StartUp, accelerators: &'a Accelerators, notes: &mut Vec<String>) -> Result<Self> {
        /// Stands in for an unknown GPU: weights hardly depend on it.
        const STAND_IN: &str = "H100-SXM-80GB";
        // What people add to a name: "NVIDIA GB10 (DGX Spark, unified memory)", "NVIDIA A100-SXM4-40GB      On", "GB10?".
        let name = start_up.gpu.split(['(', '?']).next().unwrap_or_default();
        let name = name.split("  ").next().unwrap_or_default().trim();
        let by_name = Some(name).filter(|name| !name.is_empty()).and_then(|name| accelerators.find(name).ok());
        match (by_name, start_up.gpu_total_gib) {
            (Some(accelerator), total_gib) => {
                Ok(Self { accelerator, total_gib: total_gib.unwrap_or(accelerator.memory_gib), known: true })
            }
            (None, Some(total_gib)) => {
                let distance = |accelerator: &&Accelerator| (accelerator.memory_gib - total_gib).abs();
                let nearest = accelerators.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
                let accelerator = nearest.ok_or_else(|| unknown(name))?;
                notes.push(format!("the GPU is not known: by its memory taken for {}", accelerator.name));
                Ok(Self { accelerator, total_gib, known: true })
            }
            (None, None) => {
                notes.push("the GPU is not known".to_owned());
                let accelerator = accelerators.find(STAND_IN)?;
                Ok(Self { accelerator, total_gib: accelerator.memory_gib, known: false })
            }
        }
    }
}

fn unknown(name: &str) -> Error {
    Error::Unknown { kind: "accelerator", name: name.to_owned(), similar: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LoadOptions;
    use crate::validate::StartUps;

    const MODEL: &str = "meta-llama/Llama-3.1-8B-Instruct";

    /// The prediction of a row with these cells; `columns` come behind `model`.
    fn prediction(columns: &str, cells: &str) -> MemoryPrediction {
        let options = LoadOptions { offline: true, ..LoadOptions::from_env(|_| None) };
        let models = BTreeMap::from([(MODEL.to_owned(), Model::load(MODEL, &options).unwrap())]);
        let text = format!("model,{columns}\n{MODEL},{cells}\n");
        let row = StartUps::read(text.as_bytes(), "starts.csv").unwrap().rows.remove(0);
        predict(&row, &models, Accelerators::built_in())
    }

    #[test]
    fn a_server_that_told_everything_is_predicted() {
        // A real start-up: weights 14.99, activation 1.89, KV cache 58.11 GiB, 476,016 tokens, 58.11 requests.
        let found = prediction(
            "vllm,engine,gpu,gpu_total_gib,tp,util,max_model_len,max_num_batched_tokens,max_num_seqs",
            "0.19.0,V1,NVIDIA-H100-80GB-HBM3,79.19,1,0.95,8192,8192,1024",
        );
        assert_eq!(found.note, "");
        let near = |found: Option<f64>, printed: f64, tolerance: f64| (found.unwrap() - printed).abs() <= tolerance;
        assert!(near(found.pred_weights_gib, 14.99, 0.005), "{found:?}");
        assert!(near(found.pred_activation_gib, 1.89, 0.005), "{found:?}");
        assert!(near(found.pred_kv_gib, 58.11, 0.02), "{found:?}");
        assert!(near(found.pred_tokens.map(|tokens| tokens as f64), 476_016.0, 200.0), "{found:?}");
        assert!(near(found.pred_concurrency, 58.11, 0.02), "{found:?}");
    }

    #[test]
    fn rank_0_of_a_pipeline_is_the_first_stage() {
        // Rank 0 printed 66.54 GiB, which is more than the last stage has.
        let found = prediction(
            "vllm,gpu,gpu_total_gib,tp,pp,util,max_model_len,max_num_batched_tokens,max_num_seqs",
            "0.19.0,H100,79.19,1,2,0.95,8192,8192,1024",
        );
        assert!((found.pred_kv_gib.unwrap() - 66.54).abs() < 0.1, "{found:?}");
        assert!((found.pred_tokens.unwrap() as f64 / 1_075_312.0 - 1.0).abs() < 0.005, "{found:?}");
    }

    #[test]
    fn what_is_not_told_is_noted() {
        let found = prediction("vllm,gpu,max_num_batched_tokens,max_num_seqs", "0.19.0,24GB card,8192,1024");
        assert!(found.pred_weights_gib.is_some() && found.pred_activation_gib.is_some());
        assert_eq!((found.pred_kv_gib, found.pred_tokens), (None, None));
        assert_eq!(found.note, "the utilization is not known: 0.9 assumed; the GPU is not known");

        let found = prediction("gpu,gpu_total_gib", "\"NVIDIA GB10 (DGX Spark, unified memory)\",121.6");
        assert!(found.pred_tokens.is_some(), "{found:?}");
        assert!(found.note.contains("the version is not known") && !found.note.contains("GPU"), "{found:?}");

        let found = prediction("vllm,gpu,tp", "0.19.0,H100,3");
        assert!(found.pred_tokens.is_none() && found.note.contains("heads"), "{found:?}");
    }
}
