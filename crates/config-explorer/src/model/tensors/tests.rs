use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::model::parse_config;

fn weights(config: &Value) -> Weights {
    Weights::from_architecture(&parse_config(&config.to_string(), None, "config.json").unwrap().architecture)
}

/// Shapes of the tensors of one part.
fn shapes(weights: &Weights, part: Part) -> BTreeMap<&str, &[u64]> {
    let groups = weights.groups.iter().filter(|group| group.part == part);
    groups.map(|group| (group.module.as_str(), group.shape.as_slice())).collect()
}

fn qwen3() -> Value {
    json!({"model_type": "qwen3", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 16,
           "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000, "torch_dtype": "bfloat16"})
}

#[test]
fn tensors_have_the_names_and_shapes_of_a_checkpoint() {
    let weights = weights(&qwen3());
    let expected: BTreeMap<&str, &[u64]> = BTreeMap::from([
        ("input_layernorm.weight", &[64][..]),
        ("mlp.down_proj.weight", &[64, 96]),
        ("mlp.gate_proj.weight", &[96, 64]),
        ("mlp.up_proj.weight", &[96, 64]),
        ("post_attention_layernorm.weight", &[64]),
        ("self_attn.k_norm.weight", &[16]),
        ("self_attn.k_proj.weight", &[32, 64]),
        ("self_attn.o_proj.weight", &[64, 128]),
        ("self_attn.q_norm.weight", &[16]),
        ("self_attn.q_proj.weight", &[128, 64]),
        ("self_attn.v_proj.weight", &[32, 64]),
    ]);
    assert_eq!(shapes(&weights, Part::Layer(1)), expected);
    assert_eq!(shapes(&weights, Part::Embedding), BTreeMap::from([("embed_tokens.weight", &[1000, 64][..])]));
    assert_eq!(shapes(&weights, Part::Head), BTreeMap::from([("lm_head.weight", &[1000, 64][..])]));
    assert_eq!(shapes(&weights, Part::FinalNorm), BTreeMap::from([("norm.weight", &[64][..])]));
    assert!(weights.groups.iter().all(|group| group.dtype == DType::BF16 && group.bytes == 2 * group.elements()));
}

#[test]
fn a_tied_head_is_not_stored() {
    let mut tied = qwen3();
    tied["tie_word_embeddings"] = json!(true);
    assert!(shapes(&weights(&tied), Part::Head).is_empty());
}

#[test]
fn experts_are_one_group_or_one_tensor() {
    let mut config = qwen3();
    for (name, value) in [("num_experts", 4), ("num_experts_per_tok", 2), ("moe_intermediate_size", 32)] {
        config[name] = json!(value);
    }
    config["model_type"] = json!("qwen3_moe");
    let separate = weights(&config);
    let up = separate.groups.iter().find(|group| group.module == "mlp.experts.*.up_proj.weight").unwrap();
    assert_eq!((up.count, up.shape.as_slice()), (4, &[32, 64][..]));
    config["model_type"] = json!("qwen3_vl_moe_text");
    let fused = weights(&config);
    assert_eq!(shapes(&fused, Part::Layer(0))["mlp.experts.gate_up_proj"], [4, 64, 64]);
    assert_eq!(shapes(&fused, Part::Layer(0))["mlp.experts.down_proj"], [4, 32, 64]);
    assert_eq!(fused.bytes(), separate.bytes());
    // Exporters take fused experts apart.
    config["quantization_config"] = json!({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]});
    let quantised = weights(&config);
    let down = quantised.groups.iter().find(|group| group.module == "mlp.experts.*.down_proj.weight").unwrap();
    assert_eq!((down.count, down.shape.as_slice(), down.dtype), (4, &[64, 16][..], DType::U8));
}

#[test]
fn only_some_layers_may_be_quantised() {
    let mut config = qwen3();
    config["quantization_config"] =
        json!({"quant_method": "fp8", "weight_block_size": [32, 32], "modules_to_not_convert": ["model.layers.0.mlp"]});
    let weights = weights(&config);
    let layers = [Part::Layer(0), Part::Layer(1)].map(|part| shapes(&weights, part));
    assert!(!layers[0].contains_key("mlp.up_proj.weight_scale_inv"));
    assert_eq!(layers[1]["mlp.up_proj.weight_scale_inv"], [3, 2]);
    // Qwen stores these scales in 16 bits.
    assert_eq!(weights.elements_by_dtype().keys().copied().collect::<Vec<_>>(), [DType::BF16, DType::F8E4M3]);
}

#[test]
fn draft_layers_are_a_part_of_their_own() {
    let mut config = qwen3();
    config["model_type"] = json!("deepseek_v3");
    config["num_nextn_predict_layers"] = json!(1);
    let weights = weights(&config);
    let draft = shapes(&weights, Part::Mtp(0));
    assert_eq!(draft["eh_proj.weight"], [64, 128]);
    assert_eq!(draft["shared_head.head.weight"], [1000, 64]);
    assert_eq!(draft["mlp.up_proj.weight"], [96, 64]);
    // MiniMax-M2 declares draft layers and publishes none.
    config["model_type"] = json!("minimax_m2");
    assert!(shapes(&self::weights(&config), Part::Mtp(0)).is_empty());
}

#[test]
fn mxfp4_experts_are_blocks_and_scales() {
    let config = json!({"model_type": "gpt_oss", "hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 100, "num_local_experts": 4,
        "num_experts_per_tok": 2, "quantization_config": {"quant_method": "mxfp4",
        "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"]}});
    let weights = weights(&config);
    let layer = shapes(&weights, Part::Layer(0));
    assert_eq!(layer["mlp.experts.gate_up_proj_blocks"], [4, 64, 2, 16]);
    assert_eq!(layer["mlp.experts.down_proj_scales"], [4, 64, 1]);
    assert_eq!(layer["mlp.experts.gate_up_proj_bias"], [4, 64]);
    assert_eq!(layer["self_attn.sinks"], [4]);
    assert_eq!(layer["self_attn.q_proj.bias"], [64]);
}
