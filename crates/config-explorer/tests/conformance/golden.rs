//! What the original `config_explorer` answered, against what this project answers: equal, or different for a reason that
//! has a number.
//!
//! The numbers are those of the original's known faults (`design/original.md`, section e). A difference without a
//! reason fails, and so does a reason that nothing needs any more.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

use config_explorer::deployment::{Nodes, Parallelism};
use config_explorer::engine::{EngineRules, EngineSettings, Fraction, ServeArgs};
use config_explorer::hardware::{Accelerator, Accelerators};
use config_explorer::memory::{self, MemoryPlan, PlanRequest};
use config_explorer::model::{Architecture, Attention, DType, FeedForward, Model, tensor_parallel_problem};
use config_explorer::units::gib;
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::models::{load, models};

/// One recorded call.
#[derive(Deserialize)]
struct Record {
    /// `seed` or `last`.
    version: String,
    model: Option<String>,
    function: String,
    run: String,
    args: Value,
    /// `null` where the original raised an error.
    #[serde(default)]
    result: Value,
}

impl Record {
    /// The run and the model.
    fn whose(&self) -> Option<(&str, &str)> {
        Some((&self.run, self.model.as_deref()?))
    }
}

/// Calls that nothing of ours answers, and why.
const NO_COUNTERPART: [(&str, &str); 2] = [
    ("get_text_config", "where a field stands is the reader's business"),
    ("bits_to_bytes", "types are asked for their bits"),
];

/// A deliberate difference.
struct Difference {
    functions: &'static [&'static str],
    number: u8,
    what: &'static str,
    applies: fn(&Case<'_>) -> bool,
}

/// A call with both answers.
struct Case<'a> {
    record: &'a Record,
    model: Option<&'a Model>,
    ours: Value,
    /// Bytes of an element of the original's KV cache of this model.
    kv_element_bytes: Option<f64>,
    /// Weights of this model for the original, over ours.
    weights_ratio: f64,
}

const KV: &[&str] = &["KVCacheDetail", "kv_cache_req"];
const CAPACITY: &[&str] = &["max_concurrent_requests", "total_kv_cache_blocks", "auto_max_model_len"];
const KV_AND_CAPACITY: &[&str] =
    &["KVCacheDetail", "kv_cache_req", "max_concurrent_requests", "total_kv_cache_blocks", "auto_max_model_len"];
const PLANNED: &[&str] = &[
    "per_gpu_model_memory_required",
    "allocatable_kv_cache_memory",
    "max_concurrent_requests",
    "total_kv_cache_blocks",
    "auto_max_model_len",
];
const CHECKPOINT: &[&str] =
    &["get_model_info_from_hf", "model_params_by_dtype", "model_total_params", "model_memory_req"];

/// Checkpoints whose header is not in the data, and what their config does not say of it.
const WITHOUT_HEADER: [(&str, &str); 2] = [
    ("nvidia/DeepSeek-V3.1-NVFP4", "the recorded header lacks the draft layer"),
    ("XiaomiMiMo/MiMo-V2-Flash", "`o_proj` is stored in BF16"),
];

const fn differs(
    functions: &'static [&'static str],
    number: u8,
    what: &'static str,
    applies: fn(&Case<'_>) -> bool,
) -> Difference {
    Difference { functions, number, what, applies }
}

/// The first that applies to a difference is its reason.
const DIFFERENCES: &[Difference] = &[
    differs(&["get_model_config_from_hf"], 24, "transformers has to know the model", original_failed),
    differs(&["is_quantized", "get_quant_bytes"], 22, "hf_quant_config.json is not looked at", |case| {
        original_failed(case) && case.quantised()
    }),
    differs(&["get_quant_method", "get_quant_bytes"], 15, "no quant_method, no quantisation", |case| {
        [json!(""), json!(0.0)].contains(&theirs(case.record)) && case.quantised()
    }),
    differs(
        &["precision_to_byte", "parameter_memory_req"],
        15,
        "guesses a size from any digits in a name, and does not know F4",
        |case| case.ours.is_null() || original_failed(case),
    ),
    differs(
        &["inference_dtype", "inference_dtype_byte"],
        9,
        "a quantisation method, or nothing, as compute type",
        |case| !matches!(theirs(case.record).as_str(), Some("bfloat16" | "float16")) && case.ours != json!(1.0),
    ),
    differs(&["find_possible_tp"], 20, "every divisor of the heads", |case| {
        let theirs = theirs(case.record);
        let theirs = theirs.as_array().unwrap();
        case.ours.as_array().unwrap().iter().all(|size| theirs.contains(size))
    }),
    differs(
        &["is_moe", "get_num_experts", "experts_per_ep_group"],
        21,
        "num_local_experts is not known, nor the text config of a multimodal model",
        |case| [json!(false), json!(null), json!(0)].contains(&theirs(case.record)),
    ),
    differs(&["use_mla"], 3, "MLA by two names", mla_missed),
    differs(
        &[
            "is_multimodal",
            "estimate_vllm_activation_memory",
            "estimate_vllm_non_torch_memory",
            "estimate_vllm_cuda_graph_memory",
        ],
        7,
        "a table by names, measured with one version on one GPU",
        |case| case.record.version == "last",
    ),
    differs(PLANNED, 20, "sizes that vLLM refuses", |case| case.ours.is_null()),
    differs(KV_AND_CAPACITY, 12, "heads that differ from layer to layer", |case| {
        original_failed(case) && case.heads_vary()
    }),
    differs(KV_AND_CAPACITY, 13, "no num_key_value_heads in the config", original_failed),
    differs(KV_AND_CAPACITY, 3, "MLA by two names", mla_missed),
    differs(KV_AND_CAPACITY, 11, "states counted as full attention", has_states),
    differs(KV_AND_CAPACITY, 9, "the checkpoint's type as the KV cache's", kv_type_mistaken),
    differs(KV_AND_CAPACITY, 10, "windows and chunks counted as full attention", has_windows),
    differs(KV, 5, "no block rounding", |case| case.size("context_len") < SHORTEST),
    differs(CHECKPOINT, 0, "no header in the data, and a config that says less", without_header),
    differs(&["model_memory_req"], 15, "bytes of a type taken from the quantisation's name", |case| {
        case.weights_ratio < 0.5
    }),
    differs(CHECKPOINT, 14, "the hub's counts: packed weights unpacked, scales left out", |case| {
        case.record.version == "seed"
    }),
    differs(PLANNED, 15, "bytes of a type taken from the quantisation's name", |case| case.weights_ratio < 0.5),
    differs(PLANNED, 14, "the hub's counts at the container's size", |case| {
        (case.weights_ratio - 1.0).abs() > 0.01 && !without_header(case)
    }),
    differs(&["per_gpu_model_memory_required"], 18, "stages are equal", |case| case.size("pp") > 1),
    differs(&["per_gpu_model_memory_required"], 17, "nothing is replicated", |case| case.size("tp") > 1),
    differs(&["per_gpu_model_memory_required"], 16, "the checkpoint is what is loaded", |case| {
        (0.7..1.3).contains(&(case.ours.as_f64().unwrap() / theirs(case.record).as_f64().unwrap()))
    }),
    differs(&["allocatable_kv_cache_memory"], 8, "a shortfall is no memory", |case| {
        theirs(case.record) == json!(0) && case.ours.as_f64().unwrap() < 0.0
    }),
    differs(&["total_kv_cache_blocks"], 8, "a number of blocks below 0", |case| {
        case.record.version == "seed" && theirs(case.record).as_f64() < Some(0.0) && case.ours == json!(0)
    }),
    differs(&["allocatable_kv_cache_memory"], 16, "a draft layer that is not loaded", |case| {
        case.record.version == "seed" && !case.too_high() && is_mla(case.model())
    }),
    differs(&["allocatable_kv_cache_memory"], 6, "activation once for each replica", |case| {
        case.record.version == "last" && case.size("tp") * case.size("pp") > 1 && case.too_high()
    }),
    differs(CAPACITY, 2, "MLA's latent is divided over ranks", |case| {
        is_mla(case.model()) && case.size("tp") > 1 && case.too_high()
    }),
    differs(CAPACITY, 1, "key/value heads are divided beyond one a rank", |case| {
        case.heads_replicated() && case.too_high()
    }),
    differs(&["total_kv_cache_blocks", "auto_max_model_len"], 4, "memory of all GPUs over the bytes of one", |case| {
        case.gpus() > 1 && case.too_high()
    }),
    differs(&["max_concurrent_requests"], 5, "requests in parts over replicas", |case| {
        case.size("dp") > 1 && case.too_high()
    }),
    differs(PLANNED, 7, "no activation, no overhead", |case| case.record.version == "seed" && case.too_high()),
    differs(PLANNED, 7, "overhead of one version and one GPU", |case| case.record.version == "last"),
];

impl Case<'_> {
    fn model(&self) -> &Model {
        self.model.unwrap()
    }

    fn size(&self, name: &str) -> u64 {
        self.record.args[name].as_u64().unwrap_or(1)
    }

    fn gpus(&self) -> u64 {
        self.size("tp") * self.size("pp") * self.size("dp")
    }

    fn too_high(&self) -> bool {
        theirs(self.record).as_f64() > self.ours.as_f64()
    }

    fn quantised(&self) -> bool {
        self.model().architecture.checkpoint.quantisation.method().is_some()
    }

    fn heads_vary(&self) -> bool {
        let mut heads = self.model().architecture.layers.iter().filter_map(|layer| layer.attention.heads());
        let first = heads.next();
        heads.any(|heads| Some(heads) != first)
    }

    fn heads_replicated(&self) -> bool {
        let layers = &self.model().architecture.layers;
        layers.iter().filter_map(|layer| layer.attention.heads()).any(|heads| heads.kv_heads < self.size("tp"))
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the summary is for people")]
fn differences_from_the_original_have_a_number() {
    let Some(folder) = crate::data() else { return };
    let records = records(&folder);
    let models: HashMap<String, Model> = models(&folder)
        .into_iter()
        .filter(|id| records.iter().any(|record| record.model.as_deref() == Some(id)))
        .map(|id| {
            let model = load(&folder, &id);
            (id, model)
        })
        .collect();
    let figures = |function: &str, field: fn(&Value) -> Option<f64>| -> HashMap<(&str, &str), f64> {
        let records = records.iter().filter(|record| record.function == function);
        records.filter_map(|record| Some((record.whose()?, field(&record.result)?))).collect()
    };
    let kv_element_bytes = figures("KVCacheDetail", |detail| detail["precision_in_bytes"].as_f64());
    let weights_gib = figures("model_memory_req", Value::as_f64);
    let planner = Planner::new();
    let any = &models["Qwen/Qwen3-0.6B"];
    let mut tally: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    let mut used = vec![0; DIFFERENCES.len()];
    let mut unexplained: Vec<String> = Vec::new();
    for record in &records {
        let mut count = |what: String| *tally.entry(&record.function).or_default().entry(what).or_default() += 1;
        let model = record.model.as_deref().map(|id| models.get(id));
        if model.is_some_and(|model| model.is_none()) {
            count("no config".to_owned());
            continue;
        }
        let model = model.flatten();
        let Some(ours) = ours(record, model, any, &planner) else {
            count("no counterpart".to_owned());
            continue;
        };
        if equal(&ours, &theirs(record)) {
            count("equal".to_owned());
            continue;
        }
        let figure = |figures: &HashMap<_, f64>| record.whose().and_then(|whose| figures.get(&whose).copied());
        let case = Case {
            record,
            model,
            ours,
            kv_element_bytes: figure(&kv_element_bytes),
            weights_ratio: figure(&weights_gib)
                .zip(model)
                .map_or(1.0, |(theirs, model)| theirs / gib(model.weights.bytes())),
        };
        let explained = DIFFERENCES.iter().position(|difference| {
            difference.functions.contains(&record.function.as_str()) && (difference.applies)(&case)
        });
        if let Some(index) = explained {
            used[index] += 1;
            count(format!("({})", DIFFERENCES[index].number));
        } else {
            count("UNEXPLAINED".to_owned());
            unexplained.push(format!(
                "{} {} {} {}: {} here, {} there",
                record.version,
                record.function,
                record.model.as_deref().unwrap_or("-"),
                record.args,
                case.ours,
                theirs(record)
            ));
        }
    }
    for (function, counts) in &tally {
        let counts: Vec<_> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
        println!("{function}: {}", counts.join(", "));
    }
    for (difference, count) in DIFFERENCES.iter().zip(&used) {
        println!("({}) {}: {count} of {}", difference.number, difference.what, difference.functions.join(", "));
    }
    assert!(unexplained.is_empty(), "{} without a reason:\n{}", unexplained.len(), unexplained.join("\n"));
    let idle: Vec<_> = DIFFERENCES.iter().zip(&used).filter(|(_, count)| **count == 0).map(|(d, _)| d.what).collect();
    assert!(idle.is_empty(), "reasons that nothing needs: {idle:?}");
}

fn original_failed(case: &Case<'_>) -> bool {
    [Value::Null, json!(false)].contains(&theirs(case.record))
}

fn mla_missed(case: &Case<'_>) -> bool {
    is_mla(case.model()) && !case.model().architecture.name.contains("DeepseekV3ForCausalLM")
}

fn has_states(case: &Case<'_>) -> bool {
    let layers = &case.model().architecture.layers;
    layers.iter().any(|layer| matches!(layer.attention, Attention::Linear(_) | Attention::Mamba(_)))
}

fn kv_type_mistaken(case: &Case<'_>) -> bool {
    let bits = case.model().architecture.kv_cache_dtype.and_then(DType::bits).unwrap_or(16);
    case.kv_element_bytes.is_some_and(|bytes| (bytes * 8.0 - bits as f64).abs() > 1e-9)
}

fn has_windows(case: &Case<'_>) -> bool {
    let windowed = |attention| matches!(attention, Attention::SlidingWindow { .. } | Attention::ChunkedLocal { .. });
    case.model().architecture.layers.iter().any(|layer| windowed(layer.attention))
}

fn without_header(case: &Case<'_>) -> bool {
    WITHOUT_HEADER.iter().any(|(model, _)| case.record.model.as_deref() == Some(model))
}

fn records(folder: &Path) -> Vec<Record> {
    #[derive(Deserialize)]
    struct Golden {
        records: Vec<Record>,
    }
    let file = File::open(folder.join("golden/capacity.json.gz")).unwrap();
    let golden: Golden = serde_json::from_reader(std::io::BufReader::new(GzDecoder::new(file))).unwrap();
    golden.records
}

/// What the original answered, reduced to what is compared.
fn theirs(record: &Record) -> Value {
    let result = &record.result;
    match record.function.as_str() {
        "get_model_config_from_hf" => json!(!result.is_null()),
        "get_model_info_from_hf" => result["safetensors"]["parameters"].clone(),
        "KVCacheDetail" if !result.is_null() => {
            json!([result["per_token_memory_bytes"], result["kv_cache_size_gb"]])
        }
        _ => result.clone(),
    }
}

fn equal(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(ours), Value::Number(theirs)) => {
            let (ours, theirs) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
            (ours - theirs).abs() <= 1e-9 * theirs.abs()
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| equal(ours, theirs))
        }
        _ => ours == theirs,
    }
}

/// What we answer; `None` where the question cannot be put to us. Where no model is named, any will do.
fn ours(record: &Record, model: Option<&Model>, any: &Model, planner: &Planner) -> Option<Value> {
    let function = record.function.as_str();
    if NO_COUNTERPART.iter().any(|(name, _)| *name == function) {
        return None;
    }
    match model {
        Some(model) => of_model(record, model, planner),
        None => without_model(record, any, planner),
    }
}

fn without_model(record: &Record, any: &Model, planner: &Planner) -> Option<Value> {
    let args = &record.args;
    let number = |name: &str| args[name].as_f64().unwrap();
    let size = |name: &str| args[name].as_u64().unwrap() as u32;
    Some(match record.function.as_str() {
        "precision_to_byte" => json!(bytes_of(args["precision"].as_str().unwrap())),
        "parameter_memory_req" => {
            json!(bytes_of(args["precision"].as_str().unwrap()).map(|bytes| gib((number("parameter") * bytes) as u64)))
        }
        "available_gpu_memory" => {
            let plan = planner.plan(any, number("memory"), number("gpu_utilization"), Parallelism::SINGLE, None);
            json!(plan.memory_per_gpu.map(|memory| memory.requested_gib))
        }
        "estimate_vllm_non_torch_memory" => {
            let layout = Parallelism::new(size("tp"), 1, 1, false, 1).unwrap();
            json!(planner.plan(any, 80.0, 0.9, layout, None).memory_per_gpu.map(|memory| memory.non_torch_gib))
        }
        "estimate_vllm_cuda_graph_memory" => {
            let plan = planner.plan(any, 80.0, 0.9, Parallelism::SINGLE, None);
            json!(plan.memory_per_gpu.map(|memory| memory.cuda_graph_gib))
        }
        "gpus_required" => json!(Parallelism::new(size("tp"), size("pp"), size("dp"), false, 1).unwrap().gpus()),
        _ => return None,
    })
}

/// Bytes of an element of the type with this name.
fn bytes_of(name: &str) -> Option<f64> {
    let name = name.trim();
    let dtype = match DType::from_safetensors(name) {
        DType::Other => DType::from_torch(name)?,
        dtype => dtype,
    };
    dtype.bits().map(|bits| bits as f64 / 8.0)
}

fn of_model(record: &Record, model: &Model, planner: &Planner) -> Option<Value> {
    let architecture = &model.architecture;
    let quantisation = &architecture.checkpoint.quantisation;
    let args = &record.args;
    let size = |name: &str| args[name].as_u64().map_or(1, |size| size as u32);
    let layout = || Parallelism::new(size("tp"), size("pp"), size("dp"), false, 1).unwrap();
    let plan = |len: Option<u64>| {
        planner.plan(model, args["gpu_memory"].as_f64().unwrap(), args["gpu_mem_util"].as_f64().unwrap(), layout(), len)
    };
    Some(match record.function.as_str() {
        "get_model_config_from_hf" => json!(true),
        "get_model_info_from_hf" | "model_params_by_dtype" => elements(model),
        "model_total_params" => json!(model.weights.elements_by_dtype().values().sum::<u64>()),
        "model_memory_req" => json!(gib(model.weights.bytes())),
        "max_context_len" => json!(architecture.max_position_embeddings),
        "is_quantized" => json!(quantisation.method().is_some()),
        "get_quant_method" => json!(quantisation.method().unwrap_or_default()),
        "get_quant_bytes" => json!(linear_bytes(model)),
        "inference_dtype" => json!(planner.settings(model, 0.9).dtype.torch_name()),
        "inference_dtype_byte" => json!(planner.settings(model, 0.9).dtype.bits().map(|bits| bits as f64 / 8.0)),
        "find_possible_tp" => json!(tensor_parallel_sizes(model)),
        "is_moe" => json!(experts(model).is_some()),
        "get_num_experts" => json!(experts(model)),
        "experts_per_ep_group" => {
            let ranks = Parallelism::new(size("tp"), 1, size("dp"), true, 1).unwrap().expert_ranks();
            json!(experts(model).map_or(0.0, |experts| experts as f64 / f64::from(ranks)))
        }
        "use_mla" => json!(is_mla(model)),
        "is_multimodal" => json!(architecture.vision.is_some()),
        "KVCacheDetail" => {
            let len = args["context_len"].as_u64().filter(|len| *len > 0)?;
            let kv = planner.endless(model, len).kv_cache.unwrap();
            json!([kv.bytes_per_token_per_gpu, kv.request_gib * f64::from(size("batch_size"))])
        }
        "kv_cache_req" => {
            let len = args["context_len"].as_u64().filter(|len| *len > 0)?;
            json!(planner.endless(model, len).kv_cache.unwrap().request_gib * f64::from(size("batch_size")))
        }
        "estimate_vllm_activation_memory" => {
            let plan = planner.plan(model, 1e5, 0.9, layout(), None);
            json!(plan.memory_per_gpu.map(|memory| memory.activation_gib))
        }
        "per_gpu_model_memory_required" => {
            json!(
                planner
                    .plan(model, 80.0, 0.9, layout(), Some(SHORTEST))
                    .memory_per_gpu
                    .map(|memory| memory.weights_gib)
            )
        }
        "allocatable_kv_cache_memory" => {
            let plan = plan(Some(SHORTEST));
            json!(plan.memory_per_gpu.map(|memory| memory.kv_cache_gib * f64::from(plan.gpus)))
        }
        "total_kv_cache_blocks" => {
            let plan = plan(Some(SHORTEST));
            json!(plan.memory_per_gpu.map(|_| plan.kv_cache.map_or(0, |kv| kv.num_blocks)))
        }
        "max_concurrent_requests" => {
            let plan = plan(Some(args["max_model_len"].as_u64().unwrap()));
            let requests = plan.kv_cache.map_or(0, |kv| kv.max_concurrency as u64);
            json!(plan.memory_per_gpu.map(|_| requests * u64::from(plan.parallelism.dp)))
        }
        "auto_max_model_len" => {
            let plan = plan(Some(SHORTEST));
            json!(plan.memory_per_gpu.map(|_| plan.max_model_len_that_fits))
        }
        _ => return None,
    })
}

/// A length that needs one block, where only memory is asked about.
const SHORTEST: u64 = 16;

fn elements(model: &Model) -> Value {
    model
        .weights
        .elements_by_dtype()
        .into_iter()
        .map(|(dtype, count)| (dtype.safetensors_name().to_owned(), json!(count)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn is_mla(model: &Model) -> bool {
    model
        .architecture
        .layers
        .iter()
        .any(|layer| matches!(layer.attention, Attention::Mla(_) | Attention::MlaSparse { .. }))
}

fn experts(model: &Model) -> Option<u64> {
    model.architecture.layers.iter().find_map(|layer| match layer.feed_forward {
        FeedForward::Moe(moe) => Some(moe.experts),
        _ => None,
    })
}

/// Fewest bytes of a linear layer's weight, of a quantised checkpoint, to a thirty-second: the scales of small blocks
/// count, those of large ones do not.
fn linear_bytes(model: &Model) -> Option<f64> {
    const SIDE: u64 = 4096;
    let Architecture { checkpoint, layers, dtype, .. } = &model.architecture;
    checkpoint.quantisation.method()?;
    let modules = ["mlp.down_proj", "mlp.experts.0.down_proj", "mlp.experts"].into_iter();
    let formats =
        modules.map(|module| checkpoint.quantisation.format_of(&format!("layers.{}.{module}", layers.len() - 1)));
    let bytes = formats.map(|format| format.bytes(SIDE, SIDE, *dtype)).min()?;
    Some((bytes as f64 / (SIDE * SIDE) as f64 * 32.0).round() / 32.0)
}

fn tensor_parallel_sizes(model: &Model) -> Vec<u64> {
    let heads = model.architecture.layers.iter().map(|layer| match layer.attention {
        Attention::Mla(mla) | Attention::MlaSparse { mla, .. } => mla.query_heads,
        attention => attention.heads().map_or(0, |heads| heads.query_heads),
    });
    let most = heads.max().unwrap_or(1);
    (1..=most).filter(|size| tensor_parallel_problem(&model.architecture, *size, false).is_none()).collect()
}

/// Plans by their question: many calls of the original ask the same.
struct Planner {
    rules: EngineRules,
    accelerator: &'static Accelerator,
    plans: RefCell<HashMap<String, MemoryPlan>>,
}

impl Planner {
    fn new() -> Self {
        Self {
            rules: EngineRules::of_default_version(),
            accelerator: Accelerators::built_in().find("H100").unwrap(),
            plans: RefCell::default(),
        }
    }

    fn settings(&self, model: &Model, utilization: f64) -> EngineSettings {
        let args = ServeArgs { gpu_memory_utilization: Fraction::new(utilization), ..ServeArgs::default() };
        EngineSettings::resolve(&args, &self.rules, &model.architecture, 80.0, &self.accelerator.name).unwrap()
    }

    fn plan(
        &self,
        model: &Model,
        total_gib: f64,
        utilization: f64,
        parallelism: Parallelism,
        len: Option<u64>,
    ) -> MemoryPlan {
        let question = format!("{} {total_gib} {utilization} {parallelism:?} {len:?}", model.id);
        if let Some(plan) = self.plans.borrow().get(&question) {
            return plan.clone();
        }
        let mut settings = self.settings(model, utilization);
        // The original does not compare a length with the model's own.
        settings.max_model_len = len.or(settings.max_model_len);
        let plan = memory::plan(&PlanRequest {
            model,
            accelerator: self.accelerator,
            total_gib,
            rules: &self.rules,
            settings,
            parallelism,
            nodes: Nodes { count: None, gpus_per_node: parallelism.gpus() },
            concurrency: None,
        });
        self.plans.borrow_mut().insert(question, plan.clone());
        plan
    }

    /// A request of this length on one GPU that holds anything.
    fn endless(&self, model: &Model, len: u64) -> MemoryPlan {
        self.plan(model, 1e5, 0.9, Parallelism::SINGLE, Some(len))
    }
}
