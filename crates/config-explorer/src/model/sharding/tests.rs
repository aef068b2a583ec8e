use serde_json::{Value, json};

use super::*;
use crate::model::{DType, Weights, parse_config};

fn architecture(config: &Value) -> Architecture {
    parse_config(&config.to_string(), None, "config.json").unwrap().architecture
}

fn tensor_parallel(ranks: u64) -> RankSplit {
    RankSplit { tensor_parallel: ranks, expert_parallel: 1, encoder_data_parallel: false }
}

/// Elements of one type per rank of every tensor of layer 0 whose name begins so, over those of the whole.
fn share(config: &Value, module: &str, split: RankSplit) -> f64 {
    let architecture = architecture(config);
    let weights = Weights::from_architecture(&architecture);
    let groups = weights.groups.iter().filter(|group| group.module.starts_with(module));
    let (rank, whole) = groups.fold((0, 0), |(rank, whole), group| {
        (rank + rank_bytes(group, &architecture, split), whole + group.count * group.bytes)
    });
    assert!(whole > 0, "{module}");
    rank as f64 / whole as f64
}

fn assert_share(config: &Value, module: &str, ranks: u64, expected: f64) {
    let share = share(config, module, tensor_parallel(ranks));
    assert!((share - expected).abs() < 1e-9, "{module} over {ranks}: {share}, not {expected}");
}

fn llama() -> Value {
    json!({"model_type": "llama", "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1,
           "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 1000, "torch_dtype": "bfloat16"})
}

#[test]
fn linear_layers_are_divided_and_norms_are_not() {
    for module in ["self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"] {
        assert_share(&llama(), module, 8, 0.125);
    }
    for module in ["input_layernorm", "post_attention_layernorm", "norm"] {
        assert_share(&llama(), module, 8, 1.0);
    }
}

#[test]
fn key_value_heads_repeat_beyond_their_number() {
    for module in ["self_attn.k_proj", "self_attn.v_proj"] {
        assert_share(&llama(), module, 2, 0.5);
        assert_share(&llama(), module, 4, 0.25);
        assert_share(&llama(), module, 16, 0.25);
    }
    // Falcon: 4 query heads and a key and a value head in one matrix.
    let falcon = json!({"model_type": "falcon", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1,
                        "vocab_size": 100, "multi_query": true});
    assert_share(&falcon, "self_attention.query_key_value", 2, 4.0 / 6.0);
    assert_share(&falcon, "mlp.dense_h_to_4h", 2, 0.5);
    assert_share(&falcon, "self_attention.dense", 2, 0.5);
}

#[test]
fn the_vocabulary_is_padded_then_divided() {
    // 1000 rows become 1024.
    assert_share(&llama(), "embed_tokens", 1, 1.024);
    assert_share(&llama(), "lm_head", 4, 0.256);
    let opt = json!({"model_type": "opt", "hidden_size": 64, "ffn_dim": 128, "num_attention_heads": 4,
                     "num_hidden_layers": 1, "vocab_size": 128, "max_position_embeddings": 30});
    assert_share(&opt, "embed_positions", 4, 1.0);
    // The bias of a layer divided by input stays whole.
    assert_share(&opt, "fc1.bias", 4, 0.25);
    assert_share(&opt, "fc2.bias", 4, 1.0);
    assert_share(&opt, "self_attn.out_proj.bias", 4, 1.0);
}

fn deepseek() -> Value {
    json!({"model_type": "deepseek_v32", "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1,
        "num_attention_heads": 16, "vocab_size": 1024, "kv_lora_rank": 32, "q_lora_rank": 32, "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 16, "v_head_dim": 16, "n_routed_experts": 16, "num_experts_per_tok": 2,
        "n_shared_experts": 1, "moe_intermediate_size": 64, "index_n_heads": 4, "index_head_dim": 16, "index_topk": 64,
        "num_nextn_predict_layers": 1, "topk_method": "noaux_tc"})
}

#[test]
fn latent_attention_is_divided_where_it_has_heads() {
    for module in ["self_attn.q_b_proj", "self_attn.kv_b_proj", "self_attn.o_proj"] {
        assert_share(&deepseek(), module, 8, 0.125);
    }
    for module in ["self_attn.q_a_proj", "self_attn.kv_a_proj_with_mqa", "self_attn.indexer", "mlp.gate.", "eh_proj"] {
        assert_share(&deepseek(), module, 8, 1.0);
    }
    assert_share(&deepseek(), "shared_head.head", 8, 0.125);
}

#[test]
fn experts_are_divided_by_width_or_by_number() {
    assert_share(&deepseek(), "mlp.experts", 8, 0.125);
    assert_share(&deepseek(), "mlp.shared_experts", 8, 0.125);
    let spread = RankSplit { expert_parallel: 32, ..tensor_parallel(4) };
    // 16 experts over 32 ranks: one on each of the first 16.
    assert!((share(&deepseek(), "mlp.experts", spread) - 1.0 / 16.0).abs() < 1e-9);
    assert!((share(&deepseek(), "mlp.shared_experts", spread) - 0.25).abs() < 1e-9);
    let uneven = RankSplit { expert_parallel: 5, ..tensor_parallel(1) };
    assert!((share(&deepseek(), "mlp.experts", uneven) - 4.0 / 16.0).abs() < 1e-9);
    let fused = json!({"model_type": "gpt_oss", "hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128, "num_local_experts": 8,
        "num_experts_per_tok": 2, "quantization_config": {"quant_method": "mxfp4"}});
    let spread = RankSplit { expert_parallel: 4, ..tensor_parallel(1) };
    for module in ["mlp.experts.gate_up_proj_blocks", "mlp.experts.down_proj_scales", "mlp.experts.gate_up_proj_bias"] {
        assert!((share(&fused, module, spread) - 0.25).abs() < 1e-9, "{module}");
    }
    assert_share(&fused, "mlp.experts.gate_up_proj_bias", 2, 0.5);
    assert_share(&fused, "mlp.experts.down_proj_blocks", 2, 0.5);
    assert_share(&fused, "mlp.experts.down_proj_bias", 2, 1.0);
    assert_share(&fused, "mlp.router", 2, 1.0);
    assert_share(&fused, "self_attn.sinks", 2, 0.5);
}

#[test]
fn mixers_are_divided_by_head_and_by_group() {
    let nemotron = json!({"model_type": "nemotron_h", "hidden_size": 64, "hybrid_override_pattern": "M",
        "num_attention_heads": 4, "mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 32, "n_groups": 2,
        "conv_kernel": 4, "vocab_size": 128, "use_conv_bias": true});
    assert_share(&nemotron, "mixer.in_proj", 2, 0.5);
    // 264 outputs by head, 128 by group: two groups over four ranks are one on each.
    assert_share(&nemotron, "mixer.in_proj", 4, (264.0 / 4.0 + 64.0) / 392.0);
    assert_share(&nemotron, "mixer.conv1d", 4, (128.0 / 4.0 + 64.0) / 256.0);
    for module in ["mixer.A_log", "mixer.dt_bias", "mixer.D", "mixer.norm", "mixer.out_proj"] {
        assert_share(&nemotron, module, 4, 0.25);
    }
    assert_share(&nemotron, "norm.", 4, 1.0);

    let qwen = json!({"model_type": "qwen3_5_text", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 128, "linear_num_key_heads": 4,
        "linear_num_value_heads": 8, "linear_key_head_dim": 16, "linear_value_head_dim": 16});
    for module in ["linear_attn.in_proj", "linear_attn.conv1d", "linear_attn.A_log", "linear_attn.out_proj"] {
        assert_share(&qwen, module, 4, 0.25);
    }
    assert_share(&qwen, "linear_attn.norm", 4, 1.0);
}

#[test]
fn scales_follow_their_weight() {
    let quantised = |config: Value| {
        let mut llama = llama();
        llama["quantization_config"] = config;
        llama
    };
    let block = quantised(json!({"quant_method": "fp8", "weight_block_size": [16, 16]}));
    assert_share(&block, "mlp.up_proj.weight_scale_inv", 4, 0.25);
    assert_share(&block, "mlp.down_proj.weight_scale_inv", 4, 0.25);
    let tensor = quantised(json!({"quant_algo": "FP8"}));
    assert_share(&tensor, "mlp.up_proj.weight_scale", 4, 1.0);
    assert_share(&tensor, "mlp.up_proj.input_scale", 4, 1.0);
    let channel = quantised(json!({"quant_method": "fbgemm_fp8"}));
    assert_share(&channel, "mlp.up_proj.weight_scale", 4, 0.25);
    assert_share(&channel, "mlp.down_proj.weight_scale", 4, 1.0);
    let gptq = quantised(json!({"quant_method": "gptq", "bits": 4, "group_size": 32}));
    assert_share(&gptq, "mlp.up_proj.qweight", 4, 0.25);
    assert_share(&gptq, "mlp.down_proj.qzeros", 4, 0.25);
    assert_share(&gptq, "mlp.up_proj.g_idx", 4, 1.0);
    assert_share(&gptq, "mlp.down_proj.g_idx", 4, 0.25);
    assert_share(&gptq, "self_attn.k_proj.qweight", 16, 0.25);
}

#[test]
fn towers_are_divided_unless_told_otherwise() {
    let config = json!({"model_type": "gemma3", "text_config": llama(), "vision_config": {
        "model_type": "siglip_vision_model", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
        "num_attention_heads": 4, "image_size": 28, "patch_size": 14}});
    let layers = "vision_tower.vision_model.encoder.layers.*";
    for module in ["self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.out_proj.weight", "mlp.fc1.bias"] {
        assert_share(&config, &format!("{layers}.{module}"), 4, 0.25);
    }
    assert_share(&config, &format!("{layers}.mlp.fc2.bias"), 4, 1.0);
    assert_share(&config, "vision_tower.vision_model.embeddings", 4, 1.0);
    let whole = RankSplit { encoder_data_parallel: true, ..tensor_parallel(4) };
    assert!((share(&config, layers, whole) - 1.0).abs() < 1e-9);
}

#[test]
fn names_outside_of_any_table_are_replicated() {
    let architecture = architecture(&llama());
    for module in ["", ".", "weight", "rotary_emb.inv_freq", "mystery.weight", "experts"] {
        let group = TensorGroup {
            part: Part::Layer(7),
            module: module.to_owned(),
            shape: vec![],
            dtype: DType::F32,
            count: 1,
            bytes: 4,
        };
        assert_eq!(rank_bytes(&group, &architecture, tensor_parallel(4)), 4, "{module}");
    }
}
