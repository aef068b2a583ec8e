use serde_json::{Value, json};

use super::*;
use crate::model::parse_config;

fn problem(config: &Value, ranks: u64) -> Option<String> {
    tensor_parallel_problem(&parse_config(&config.to_string(), None, "config.json").unwrap().architecture, ranks, false)
}

fn valid(config: &Value) -> Vec<u64> {
    (1..=16).filter(|ranks| problem(config, *ranks).is_none()).collect()
}

/// The config with other values of some fields.
fn with(mut config: Value, over: &Value) -> Value {
    for (name, value) in over.as_object().unwrap() {
        config[name] = value.clone();
    }
    config
}

fn llama() -> Value {
    json!({"model_type": "llama", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 1,
           "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 32000})
}

fn experts() -> Value {
    with(llama(), &json!({"num_experts": 32, "num_experts_per_tok": 2, "moe_intermediate_size": 768}))
}

#[test]
fn heads_of_both_kinds_have_to_fit() {
    assert_eq!(valid(&llama()), [1, 2, 4, 8, 16]);
    assert_eq!(problem(&llama(), 3).unwrap(), "16 attention heads cannot be divided by 3");
    let three = with(llama(), &json!({"num_attention_heads": 12, "num_key_value_heads": 3}));
    assert_eq!(problem(&three, 2).unwrap(), "3 key/value heads neither divide nor are divided by 2");
    assert_eq!(valid(&three), [1, 3, 6, 12].into_iter().filter(|ranks| 32_000 % ranks == 0).collect::<Vec<_>>());
    assert_eq!(problem(&llama(), 0).unwrap(), "there has to be at least one rank");
}

#[test]
fn the_padded_vocabulary_and_the_mlp_have_to_fit() {
    let heads = with(llama(), &json!({"num_attention_heads": 30, "num_key_value_heads": 30}));
    assert_eq!(problem(&heads, 3).unwrap(), "32000 rows of the padded vocabulary cannot be divided by 3");
    let narrow = with(llama(), &json!({"intermediate_size": 1020}));
    assert_eq!(problem(&narrow, 8).unwrap(), "1020 columns of the MLP cannot be divided by 8");
}

#[test]
fn fp8_blocks_are_not_split() {
    let fp8 =
        with(experts(), &json!({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}));
    // Qwen3-30B-A3B-FP8: 768 columns over 4 ranks are one block and a half.
    assert_eq!(valid(&with(fp8.clone(), &json!({"head_dim": 128}))), [1, 2]);
    let reason = problem(&with(fp8.clone(), &json!({"head_dim": 128})), 4).unwrap();
    assert_eq!(reason, "192 outputs of an expert's projections on each of 4 ranks split the 128 that share a scale");
    let architecture = parse_config(&with(fp8, &json!({"head_dim": 128})).to_string(), None, "c").unwrap().architecture;
    assert_eq!(tensor_parallel_problem(&architecture, 4, true), None);
}

#[test]
fn quantisation_groups_are_not_split() {
    let gptq = json!({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}});
    let gptq = with(with(llama(), &json!({"intermediate_size": 1536, "head_dim": 128})), &gptq);
    assert_eq!(valid(&gptq), [1, 2, 4]);
    assert!(problem(&gptq, 8).unwrap().starts_with("192 inputs of the MLP's down projection on each of 8 ranks"));
    let excluded = json!({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128,
                          "dynamic": {"-:.*mlp.*": {}}}});
    assert_eq!(valid(&with(gptq, &excluded)), [1, 2, 4, 8, 16]);
}

#[test]
fn experts_bound_the_number_of_ranks() {
    let few = with(experts(), &json!({"num_experts": 4}));
    assert_eq!(problem(&few, 8).unwrap(), "8 ranks are more than the 4 experts");
    let odd = with(experts(), &json!({"moe_intermediate_size": 772}));
    assert_eq!(problem(&odd, 8).unwrap(), "772 columns of an expert cannot be divided by 8");
}

#[test]
fn mixers_and_towers_have_heads_too() {
    let nemotron = json!({"model_type": "nemotron_h", "hidden_size": 64, "hybrid_override_pattern": "M*",
        "num_attention_heads": 16, "num_key_value_heads": 2, "mamba_num_heads": 32, "mamba_head_dim": 8,
        "ssm_state_size": 16, "n_groups": 4, "vocab_size": 1024});
    assert_eq!(problem(&nemotron, 8).unwrap(), "4 groups of the Mamba mixer cannot be divided by 8");
    assert_eq!(problem(&with(nemotron, &json!({"n_groups": 1})), 8), None);
    let linear = with(
        llama(),
        &json!({"model_type": "qwen3_next", "linear_num_key_heads": 4, "linear_num_value_heads": 8,
        "linear_key_head_dim": 16, "linear_value_head_dim": 16}),
    );
    assert_eq!(problem(&linear, 8).unwrap(), "4 key heads of linear attention cannot be divided by 8");
    let tower = json!({"text_config": llama(), "vision_config": {"model_type": "pixtral", "num_attention_heads": 4}});
    assert_eq!(
        problem(&tower, 8).unwrap(),
        "4 heads of the vision tower cannot be divided by 8 (`--mm-encoder-tp-mode data` keeps the tower whole)"
    );
    let latent = json!({"model_type": "deepseek_v2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
        "num_attention_heads": 8, "vocab_size": 1024, "kv_lora_rank": 32, "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8, "v_head_dim": 16});
    assert_eq!(valid(&latent), [1, 2, 4, 8]);
}
