//! Every `config.json` of `models/` parses, and the tensors computed from it are those of the checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use config_explorer::model::{
    DType, FeedForward, ParsedConfig, Part, TensorGroup, Weights, parse_config, safetensors, tensor_parallel_problem,
};
use flate2::read::GzDecoder;
use serde_json::Value;

/// `hf_quant_config.json` of checkpoints whose quantisation stands there only; the list of `models/` says what it
/// excludes.
const HF_QUANT_CONFIGS: [(&str, &str); 3] = [
    (
        "nvidia/Llama-3.1-70B-Instruct-FP8",
        r#"{"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}}"#,
    ),
    (
        "nvidia/Qwen3-235B-A22B-NVFP4",
        r#"{"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "group_size": 16,
            "exclude_modules": ["lm_head"]}}"#,
    ),
    (
        "nvidia/DeepSeek-V3.1-NVFP4",
        r#"{"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "group_size": 16,
            "exclude_modules": ["lm_head", "model.layers.*.self_attn.q_*", "model.layers.*.self_attn.kv_*"]}}"#,
    ),
];

/// Elements by type.
type Differences = &'static [(DType, i64)];

/// What the checkpoint holds more (or less) than the architecture does, in elements by type, and why.
const EXPLAINED: [(&str, Differences, &str); 8] = [
    ("Qwen/Qwen3-0.6B", &[(DType::BF16, 151_936 * 1024)], "the tied head is stored"),
    ("tiiuae/falcon-7b", &[(DType::BF16, 65_024 * 4544)], "the tied head is stored"),
    ("meta-llama/Llama-2-7b-hf", &[(DType::F32, 32 * 64)], "rotary frequencies are stored, which nothing loads"),
    ("meta-llama/Llama-4-Scout-17B-16E-Instruct", &[(DType::BF16, 871_932_416)], "the config lacks the vision tower"),
    (
        "meta-llama/Llama-4-Maverick-17B-128E-Instruct",
        &[(DType::BF16, 871_932_416)],
        "the config lacks the vision tower",
    ),
    (
        "zai-org/GLM-5-FP8",
        &[(DType::F8E4M3, -79 * 9_175_040), (DType::BF16, 79 * 9_175_040), (DType::F32, -44_240)],
        "the list takes the indexer's projections and norm for BF16; the config excludes the norm and `weights_proj` only",
    ),
    (
        "XiaomiMiMo/MiMo-V2-Flash",
        &[(DType::F8E4M3, -48 * 33_554_432), (DType::BF16, 48 * 33_554_432), (DType::F32, -48 * 2048)],
        "`o_proj` is stored in BF16, which the config (retyped) does not say",
    ),
    ("google/gemma-4-26B-A4B", &[(DType::BF16, -30)], "the list lacks the scalar of each layer"),
];

fn parse(folder: &Path, model: &str) -> ParsedConfig {
    let file = folder.join("models").join(model.replace('/', "--")).join("config.json");
    let hf_quant_config = HF_QUANT_CONFIGS.iter().find(|(name, _)| *name == model).map(|(_, config)| *config);
    parse_config(&fs::read_to_string(file).unwrap(), hf_quant_config, model).unwrap_or_else(|error| panic!("{error}"))
}

/// Names of the folders of `models/`.
fn models(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("models")).unwrap().map(Result::unwrap);
    let folders = entries.filter(|entry| entry.path().is_dir());
    folders.map(|entry| entry.file_name().into_string().unwrap().replacen("--", "/", 1)).collect()
}

#[test]
fn every_config_parses() {
    let Some(folder) = crate::data() else { return };
    let models = models(&folder);
    assert_eq!(models.len(), 133);
    for model in models {
        let ParsedConfig { architecture, warnings } = parse(&folder, &model);
        assert!(!architecture.layers.is_empty() && architecture.max_position_embeddings.is_some(), "{model}");
        assert!(warnings.iter().all(|warning| !warning.contains("not known")), "{model}: {warnings:?}");
        assert_eq!(architecture.not_modelled.is_some(), model.contains("DeepSeek-V4"), "{model}");
        assert_eq!(tensor_parallel_problem(&architecture, 1, false), None, "{model}");
        let experts = architecture.layers.iter().any(|layer| matches!(layer.feed_forward, FeedForward::Moe(_)));
        let bytes = Weights::from_architecture(&architecture).bytes();
        assert!(bytes > if experts { 10 << 30 } else { 100 << 20 } && bytes < 2 << 40, "{model}: {bytes}");
    }
}

#[test]
fn elements_equal_those_of_the_checkpoint() {
    let Some(folder) = crate::data() else { return };
    let totals = File::open(folder.join("models/checkpoint_totals.json")).unwrap();
    let totals: Vec<Value> = serde_json::from_reader(totals).unwrap();
    let mut compared = 0;
    for total in &totals {
        let model = total["model"].as_str().unwrap();
        let Some(stored) = total["params_by_dtype"].as_object() else { continue };
        let exactness = total["exactness"].as_str().unwrap();
        let mut weights = Weights::from_architecture(&parse(&folder, model).architecture);
        // Some counts leave out what the checkpoint has beside the text model.
        weights.groups.retain(|group| match group.part {
            Part::Mtp(_) => !exactness.contains("MTP omitted") && !exactness.contains("MTP assumed absent"),
            Part::Encoder => !exactness.contains("vision omitted") && !exactness.contains("vision tower omitted"),
            _ => true,
        });
        let computed = weights.elements_by_dtype();
        let count = |dtype: DType| stored.get(dtype.safetensors_name()).and_then(Value::as_i64).unwrap_or(0);
        let dtypes: BTreeSet<_> =
            stored.keys().map(|name| DType::from_safetensors(name)).chain(computed.keys().copied()).collect();
        let differences: BTreeMap<DType, i64> = dtypes
            .into_iter()
            .map(|dtype| (dtype, count(dtype) - computed.get(&dtype).map_or(0, |elements| elements.cast_signed())))
            .filter(|(_, difference)| *difference != 0)
            .collect();
        let explained =
            EXPLAINED.iter().find(|(name, ..)| *name == model).map_or(&[][..], |(_, differences, _)| differences);
        assert_eq!(differences, explained.iter().copied().collect(), "{model} ({exactness})");
        compared += 1;
    }
    assert_eq!(compared, 55);
}

/// Modules that a header has and the architecture has not, or the other way round, and why.
const EXPLAINED_MODULES: [(&str, &[&str], &str); 8] = [
    ("Qwen/Qwen3-0.6B", &["lm_head.weight"], "the tied head is stored"),
    ("tiiuae/falcon-7b", &["lm_head.weight"], "the tied head is stored"),
    ("meta-llama/Llama-2-7b-hf", &["self_attn.rotary_emb.inv_freq"], "nothing loads it"),
    ("google/gemma-4-26B-A4B", &["layer_scalar", "vision"], "the header has neither"),
    ("meta-llama/Llama-4-Scout-17B-16E-Instruct", &["vision"], "the config lacks the vision tower"),
    ("meta-llama/Llama-4-Maverick-17B-128E-Instruct", &["vision"], "the config lacks the vision tower"),
    ("Qwen/Qwen3.5-27B", &["draft"], "the header lacks the draft layer"),
    ("Qwen/Qwen3.5-35B-A3B", &["draft"], "the header lacks the draft layer"),
];

/// Part, module, shape and type of a tensor.
type Tensor = (Part, String, Vec<u64>, DType);

/// The tensors of a list and how many there are of each; the layers of a tower are alike.
fn count(groups: Vec<TensorGroup>) -> BTreeMap<Tensor, u64> {
    let mut tensors = BTreeMap::new();
    for TensorGroup { part, mut module, shape, dtype, count, .. } in groups {
        if part == Part::Encoder {
            let is_index = |component: &&str| component.parse::<u32>().is_ok();
            module = module
                .split('.')
                .map(|component| Some(component).filter(|name| !is_index(name)).unwrap_or("*"))
                .collect::<Vec<_>>()
                .join(".");
        }
        *tensors.entry((part, module, shape, dtype)).or_insert(0) += count;
    }
    tensors
}

#[test]
fn tensors_equal_those_of_the_headers() {
    let Some(folder) = crate::data() else { return };
    let mut compared = 0;
    for entry in fs::read_dir(folder.join("checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().strip_suffix(".header.json.gz").unwrap();
        let model = name.replacen("--", "/", 1);
        let mut header = Vec::new();
        GzDecoder::new(File::open(&path).unwrap()).read_to_end(&mut header).unwrap();
        let architecture = parse(&folder, &model).architecture;
        let stored = safetensors::parse_header(&header, name).unwrap().groups(architecture.layers.len() as u32);
        let (stored, computed) = (count(stored), count(Weights::from_architecture(&architecture).groups));
        let either = stored.keys().chain(computed.keys());
        let differences: BTreeSet<String> =
            either.filter(|tensor| stored.get(*tensor) != computed.get(*tensor)).map(difference).collect();
        let explained =
            EXPLAINED_MODULES.iter().find(|(name, ..)| *name == model).map_or(&[][..], |(_, modules, _)| modules);
        assert_eq!(differences, explained.iter().map(|module| (*module).to_owned()).collect(), "{model}");
        compared += 1;
    }
    assert_eq!(compared, 43);
}

/// How the table above calls a tensor.
fn difference((part, module, ..): &Tensor) -> String {
    match part {
        Part::Encoder => "vision".to_owned(),
        Part::Mtp(_) => "draft".to_owned(),
        _ => module.clone(),
    }
}
