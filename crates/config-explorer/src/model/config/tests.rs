use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::{
    AttentionHeads, Mamba, Moe, RankSplit, VisionKind, WeightFormat, Weights, rank_bytes, tensor_parallel_problem,
};

fn parse(config: &Value) -> ParsedConfig {
    parse_config(&config.to_string(), None, "config.json").unwrap()
}

fn architecture(config: &Value) -> Architecture {
    let parsed = parse(config);
    assert_eq!(parsed.warnings, Vec::<String>::new());
    parsed.architecture
}

fn attentions(config: &Value) -> Vec<Attention> {
    architecture(config).layers.iter().map(|layer| layer.attention).collect()
}

/// `base` with the fields of `over`.
fn with(base: &Value, over: &Value) -> Value {
    let mut base = base.clone();
    for (name, value) in over.as_object().unwrap() {
        base[name] = value.clone();
    }
    base
}

fn llama() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 160,
        "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000,
        "max_position_embeddings": 512, "torch_dtype": "bfloat16"
    })
}

const HEADS: AttentionHeads = AttentionHeads { query_heads: 8, kv_heads: 2, head_dim: 8, value_head_dim: 8 };

#[test]
fn a_dense_model_is_layers_of_one_kind() {
    let architecture = architecture(&llama());
    assert_eq!((architecture.name.as_str(), architecture.layers.len()), ("LlamaForCausalLM", 4));
    let feed_forward = FeedForward::Dense { intermediate_size: 160, gated: true };
    assert!(
        architecture.layers.iter().all(|layer| *layer == Layer { attention: Attention::Full(HEADS), feed_forward })
    );
    assert!(!architecture.tied_embeddings && architecture.vision.is_none() && architecture.mtp_layers.is_empty());
}

#[test]
fn older_families_use_names_of_their_own() {
    let bigcode = json!({
        "model_type": "gpt_bigcode", "n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 128, "n_inner": null,
        "vocab_size": 500, "multi_query": true, "torch_dtype": "float32"
    });
    let parsed = architecture(&bigcode);
    assert_eq!(parsed.layers[0].attention.heads().unwrap().kv_heads, 1);
    assert_eq!(parsed.layers[0].feed_forward, FeedForward::Dense { intermediate_size: 256, gated: false });
    assert_eq!((parsed.max_position_embeddings, parsed.dtype, parsed.tied_embeddings), (Some(128), DType::F32, true));

    let falcon = json!({"model_type": "falcon", "hidden_size": 71, "num_attention_heads": 71, "num_hidden_layers": 1,
        "vocab_size": 100, "multi_query": true, "bias": false});
    let parsed = architecture(&falcon);
    assert_eq!((parsed.layers[0].attention.heads().unwrap().kv_heads, parsed.max_position_embeddings), (1, Some(2048)));
    let newer = with(&falcon, &json!({"new_decoder_architecture": true, "num_kv_heads": 8}));
    assert_eq!(architecture(&newer).layers[0].attention.heads().unwrap().kv_heads, 8);

    let opt = json!({"model_type": "opt", "hidden_size": 64, "ffn_dim": 96, "num_attention_heads": 4,
        "num_hidden_layers": 1, "vocab_size": 100, "max_position_embeddings": 32});
    let parsed = architecture(&opt);
    assert_eq!(parsed.layers[0].feed_forward, FeedForward::Dense { intermediate_size: 96, gated: false });
    let positions = Weights::from_architecture(&parsed).groups.remove(1);
    assert_eq!((positions.module.as_str(), positions.shape[0]), ("embed_positions.weight", 34));
}

#[test]
fn a_sliding_window_covers_all_layers_some_or_none() {
    let sliding = Attention::SlidingWindow { heads: HEADS, window: 128 };
    let full = Attention::Full(HEADS);
    let window = |over: &Value| attentions(&with(&llama(), &with(&json!({"sliding_window": 128}), over)));
    assert_eq!(window(&json!({"model_type": "mistral"})), [sliding; 4]);
    assert_eq!(window(&json!({"model_type": "qwen2"})), [full; 4]);
    assert_eq!(window(&json!({"model_type": "qwen2", "use_sliding_window": false})), [full; 4]);
    let some = json!({"model_type": "qwen2", "use_sliding_window": true, "max_window_layers": 3});
    assert_eq!(window(&some), [full, full, full, sliding]);
    assert_eq!(window(&json!({"sliding_window_pattern": 2})), [sliding, full, sliding, full]);
    assert_eq!(window(&json!({"sliding_window_pattern": "LLG"})), [sliding, sliding, full, sliding]);
    let types = json!(["full_attention", "sliding_attention", "full_attention", "full_attention"]);
    assert_eq!(window(&json!({"layer_types": types})), [full, sliding, full, full]);
    // A null is not the family's default.
    assert_eq!(
        attentions(&with(&llama(), &json!({"model_type": "gemma2", "sliding_window": null, "head_dim": 8}))),
        [full; 4]
    );
    let gemma2 = attentions(&with(&llama(), &json!({"model_type": "gemma2", "head_dim": 8})));
    assert_eq!(gemma2[..2], [Attention::SlidingWindow { heads: HEADS, window: 4096 }, full]);
}

#[test]
fn mimo_gives_sliding_layers_heads_of_their_own() {
    let config = with(
        &llama(),
        &json!({
            "model_type": "mimo_v2_flash", "sliding_window": 16, "hybrid_layer_pattern": [0, 1, 1, 0], "head_dim": 12,
            "v_head_dim": 8, "swa_num_key_value_heads": 4, "swa_head_dim": 12, "swa_v_head_dim": 8,
            "attention_chunk_size": 16, "num_nextn_predict_layers": 1
        }),
    );
    let parsed = architecture(&config);
    let heads = AttentionHeads { query_heads: 8, kv_heads: 2, head_dim: 12, value_head_dim: 8 };
    let sliding = Attention::SlidingWindow { heads: AttentionHeads { kv_heads: 4, ..heads }, window: 16 };
    assert_eq!(parsed.layers[0].attention, Attention::Full(heads));
    assert_eq!(parsed.layers[1].attention, sliding);
    assert_eq!(parsed.mtp_layers[0].attention, sliding);
}

#[test]
fn llama_4_sees_everything_in_every_fourth_layer() {
    let text = with(
        &llama(),
        &json!({
            "model_type": "llama4_text", "attention_chunk_size": 64, "num_local_experts": 4, "num_experts_per_tok": 1,
            "interleave_moe_layer_step": 2, "intermediate_size_mlp": 320, "no_rope_layers": []
        }),
    );
    let config = json!({"model_type": "llama4", "text_config": text});
    let layers = architecture(&config).layers;
    let chunked = Attention::ChunkedLocal { heads: HEADS, chunk: 64 };
    let expected = [chunked, chunked, chunked, Attention::Full(HEADS)];
    assert_eq!(layers.iter().map(|layer| layer.attention).collect::<Vec<_>>(), expected);
    assert_eq!(layers[0].feed_forward, FeedForward::Dense { intermediate_size: 320, gated: true });
    let FeedForward::Moe(moe) = layers[1].feed_forward else { panic!("layer 1 has experts") };
    assert_eq!((moe.intermediate_size, moe.shared_intermediate_size), (160, 160));
    let explicit = with(&text, &json!({"no_rope_layers": [0, 1, 1, 1]}));
    assert_eq!(architecture(&json!({"text_config": explicit})).layers[0].attention, Attention::Full(HEADS));
}

fn deepseek() -> Value {
    with(
        &llama(),
        &json!({
            "model_type": "deepseek_v3", "kv_lora_rank": 32, "q_lora_rank": 48, "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 8, "v_head_dim": 16, "n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1,
            "moe_intermediate_size": 40, "first_k_dense_replace": 1, "moe_layer_freq": 1, "num_nextn_predict_layers": 1,
            "topk_method": "noaux_tc"
        }),
    )
}

#[test]
fn mla_is_recognised_by_its_latent() {
    let parsed = architecture(&deepseek());
    let Attention::Mla(mla) = parsed.layers[3].attention else { panic!("MLA") };
    assert_eq!((mla.kv_lora_rank, mla.qk_rope_head_dim, mla.q_lora_rank), (32, 8, Some(48)));
    assert_eq!(parsed.layers[0].feed_forward, FeedForward::Dense { intermediate_size: 160, gated: true });
    let moe = Moe {
        experts: 8,
        experts_per_token: 2,
        intermediate_size: 40,
        shared_intermediate_size: 40,
        gated: true,
        expert_hidden_size: 64,
    };
    assert_eq!(parsed.layers[1].feed_forward, FeedForward::Moe(moe));
    assert_eq!(parsed.mtp_layers, [parsed.layers[3]]);
}

#[test]
fn sparse_mla_layers_may_share_an_indexer() {
    let indexer = json!({"index_n_heads": 4, "index_head_dim": 16, "index_topk": 64});
    let owns = |config: &Value| -> Vec<bool> {
        let layers = architecture(config).layers;
        layers.iter().map(|layer| matches!(layer.attention, Attention::MlaSparse { indexer: Some(_), .. })).collect()
    };
    let sparse = with(&deepseek(), &indexer);
    assert_eq!(owns(&sparse), [true; 4]);
    let types = with(&sparse, &json!({"indexer_types": ["full", "shared", "shared", "full"]}));
    assert_eq!(owns(&types), [true, false, false, true]);
    let period = with(&sparse, &json!({"index_topk_freq": 2, "index_skip_topk_offset": 1}));
    assert_eq!(owns(&period), [true, false, true, false]);
    // A draft layer has an indexer of its own.
    let parsed = architecture(&with(&sparse, &json!({"indexer_types": ["full", "shared", "shared", "shared"]})));
    assert!(matches!(parsed.mtp_layers[0].attention, Attention::MlaSparse { indexer: Some(_), .. }));
}

#[test]
fn compressed_sparse_attention_is_not_modelled() {
    let config = with(
        &deepseek(),
        &json!({
            "model_type": "deepseek_v4", "kv_lora_rank": null, "compress_ratios": [0, 4, 128, 4, 0], "head_dim": 32,
            "o_groups": 2, "o_lora_rank": 16, "index_n_heads": 4, "index_head_dim": 16, "index_topk": 64,
            "num_key_value_heads": 1
        }),
    );
    let parsed = architecture(&config);
    assert!(parsed.not_modelled.unwrap().contains("compressed sparse attention"));
    assert!(
        matches!(parsed.layers[1].attention, Attention::CompressedSparse(attention) if attention.compress_ratio == 4)
    );
}

#[test]
fn gated_delta_net_stands_beside_full_attention() {
    let text = with(
        &llama(),
        &json!({
            "model_type": "qwen3_5_moe_text", "full_attention_interval": 4, "linear_num_key_heads": 2,
            "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_conv_kernel_dim": 4,
            "mamba_ssm_dtype": "float32", "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 24, "mtp_num_hidden_layers": 1
        }),
    );
    let vision = json!({"depth": 2, "hidden_size": 32, "out_hidden_size": 64});
    let config = json!({"model_type": "qwen3_5_moe", "text_config": text, "vision_config": vision});
    let parsed = architecture(&config);
    let Attention::Linear(linear) = parsed.layers[0].attention else { panic!("linear attention") };
    assert_eq!((linear.key_heads, linear.value_heads, linear.state_dtype), (2, 4, DType::F32));
    assert_eq!(parsed.layers[3].attention, Attention::Full(HEADS));
    assert_eq!(parsed.mtp_layers[0].attention, Attention::Full(HEADS));
    assert_eq!(parsed.vision.unwrap().kind, VisionKind::QwenVl);
    // Without a type of its own the state has the model's.
    let text = with(&text, &json!({"mamba_ssm_dtype": null}));
    let Attention::Linear(linear) = architecture(&json!({"text_config": text})).layers[0].attention else { panic!() };
    assert_eq!(linear.state_dtype, DType::BF16);
}

#[test]
fn kimi_delta_attention_is_named_as_an_assumption() {
    let config = with(
        &deepseek(),
        &json!({
            "model_type": "kimi_linear", "num_nextn_predict_layers": 0,
            "linear_attn_config": {"full_attn_layers": [4], "kda_layers": [1, 2, 3], "num_heads": 4, "head_dim": 16,
                                   "short_conv_kernel_size": 4}
        }),
    );
    let parsed = parse(&config);
    assert!(parsed.warnings[0].contains("Kimi Delta Attention"));
    assert!(matches!(parsed.architecture.layers[0].attention, Attention::Linear(linear) if linear.key_heads == 4));
    assert!(matches!(parsed.architecture.layers[3].attention, Attention::Mla(_)));
}

fn nemotron_h() -> Value {
    json!({
        "model_type": "nemotron_h", "hidden_size": 64, "intermediate_size": 96, "hybrid_override_pattern": "M-*E",
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 8, "mamba_num_heads": 4, "mamba_head_dim": 16,
        "ssm_state_size": 32, "n_groups": 2, "conv_kernel": 4, "chunk_size": 128, "use_conv_bias": true,
        "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_shared_experts": 1,
        "moe_shared_expert_intermediate_size": 48, "moe_latent_size": 16, "vocab_size": 1000,
        "max_position_embeddings": 512, "torch_dtype": "bfloat16", "time_step_limit": [0.0, null]
    })
}

#[test]
fn nemotron_h_has_one_mixer_a_layer() {
    let layers = architecture(&nemotron_h()).layers;
    let mamba = Mamba {
        version: 2,
        inner_size: 64,
        heads: 4,
        head_dim: 16,
        state_size: 32,
        groups: 2,
        conv_kernel: 4,
        chunk_size: Some(128),
        state_dtype: None,
    };
    assert_eq!(layers[0], Layer { attention: Attention::Mamba(mamba), feed_forward: FeedForward::None });
    let mlp = FeedForward::Dense { intermediate_size: 96, gated: false };
    assert_eq!(layers[1], Layer { attention: Attention::None, feed_forward: mlp });
    assert_eq!(layers[2], Layer { attention: Attention::Full(HEADS), feed_forward: FeedForward::None });
    let FeedForward::Moe(moe) = layers[3].feed_forward else { panic!("experts") };
    assert_eq!((moe.expert_hidden_size, moe.shared_intermediate_size, moe.gated), (16, 48, false));
    // Later configs spell the blocks out, and leave out their number.
    let spelled = json!({"hybrid_override_pattern": null, "layers_block_type": ["mamba", "mlp", "attention", "moe"]});
    assert_eq!(architecture(&with(&nemotron_h(), &spelled)).layers, layers);
    let drafts = json!({"num_nextn_predict_layers": 1, "mtp_hybrid_override_pattern": "*E"});
    assert_eq!(architecture(&with(&nemotron_h(), &drafts)).mtp_layers, layers[2..]);
}

#[test]
fn searched_architectures_choose_each_block() {
    let block = |attention: Value, ffn: Value| json!({"attention": attention, "ffn": ffn});
    let config = with(
        &llama(),
        &json!({
            "model_type": "nemotron-nas", "hidden_size": 512, "num_key_value_heads": null, "intermediate_size": null,
            "block_configs": [
                block(json!({"n_heads_in_group": 4}), json!({"ffn_mult": 2.625})),
                block(json!({"no_op": true, "n_heads_in_group": null}), json!({"ffn_mult": 1.0})),
                block(json!({"replace_with_linear": true}), json!({"replace_with_linear": true})),
                block(json!({"n_heads_in_group": 8}), json!({"no_op": true})),
            ]
        }),
    );
    let layers = architecture(&config).layers;
    assert_eq!(layers[0].attention.heads().unwrap().kv_heads, 2);
    assert_eq!(layers[0].feed_forward, FeedForward::Dense { intermediate_size: 1024, gated: true });
    assert_eq!(layers[1].attention, Attention::None);
    assert_eq!(layers[2], Layer { attention: Attention::Projection, feed_forward: FeedForward::Projection });
    assert_eq!(layers[3].attention.heads().unwrap().kv_heads, 1);
    assert_eq!(layers[3].feed_forward, FeedForward::None);
}

#[test]
fn gemma_4_widens_full_layers_and_shares_caches() {
    let types = json!(["sliding_attention", "full_attention", "sliding_attention", "full_attention"]);
    let config = with(
        &llama(),
        &json!({
            "model_type": "gemma4_text", "layer_types": types, "sliding_window": 32, "head_dim": 8, "global_head_dim": 16,
            "attention_k_eq_v": true, "num_global_key_value_heads": 1, "num_kv_shared_layers": 2,
            "use_double_wide_mlp": true
        }),
    );
    let parsed = architecture(&config);
    let full = AttentionHeads { query_heads: 8, kv_heads: 1, head_dim: 16, value_head_dim: 16 };
    assert_eq!(parsed.layers[1].attention, Attention::Full(full));
    assert_eq!(parsed.layers[2].attention, Attention::Shared { heads: HEADS, with_layer: 0 });
    assert_eq!(parsed.layers[3].attention, Attention::Shared { heads: full, with_layer: 1 });
    assert_eq!(parsed.layers[3].feed_forward, FeedForward::Dense { intermediate_size: 320, gated: true });
    assert!(parsed.tied_embeddings);
    // Beside experts, the dense MLP sees every token.
    let experts = json!({"enable_moe_block": true, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 24});
    let FeedForward::Moe(moe) = architecture(&with(&config, &experts)).layers[0].feed_forward else {
        panic!("experts")
    };
    assert_eq!((moe.intermediate_size, moe.shared_intermediate_size), (24, 160));
}

#[test]
fn experts_stand_where_the_config_puts_them() {
    let base = with(&llama(), &json!({"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}));
    let sparse = |over: &Value| -> Vec<bool> {
        let layers = architecture(&with(&base, over)).layers;
        layers.iter().map(|layer| matches!(layer.feed_forward, FeedForward::Moe(_))).collect()
    };
    assert_eq!(sparse(&json!({})), [true; 4]);
    assert_eq!(sparse(&json!({"decoder_sparse_step": 2, "mlp_only_layers": [3]})), [false, true, false, false]);
    assert_eq!(sparse(&json!({"moe_layer_freq": [0, 0, 1, 1]})), [false, false, true, true]);
    assert_eq!(sparse(&json!({"first_k_dense_replace": 1, "moe_layer_freq": 2})), [false, false, true, false]);
    assert_eq!(sparse(&json!({"mlp_layer_types": ["dense", "sparse", "dense", "sparse"]})), [false, true, false, true]);
    assert_eq!(sparse(&json!({"moe_layers_enum": "1,2"})), [false, true, true, false]);
    assert_eq!(sparse(&json!({"num_experts": null})), [false; 4]);
    // Mixtral's experts are as wide as `intermediate_size`.
    let mixtral = with(&llama(), &json!({"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}));
    let FeedForward::Moe(moe) = architecture(&mixtral).layers[0].feed_forward else { panic!("experts") };
    assert_eq!((moe.experts, moe.intermediate_size), (8, 160));
}

#[test]
fn the_longest_sequence_is_scaled_as_vllm_does() {
    let lengths = |over: &Value| {
        let parsed = architecture(&with(&llama(), over));
        (parsed.max_position_embeddings.unwrap(), parsed.default_max_model_len.unwrap())
    };
    let rope = |kind: &str| json!({"rope_scaling": {"rope_type": kind, "factor": 4.0}});
    assert_eq!(lengths(&rope("linear")), (2048, 2048));
    assert_eq!(lengths(&rope("llama3")), (512, 512));
    let yarn = json!({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}});
    assert_eq!(lengths(&yarn), (1024, 1024));
    let long = json!({"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 128});
    assert_eq!(lengths(&long), (512, 128));
    let by_layer = json!({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0},
                                              "sliding_attention": {"rope_type": "default"}}});
    assert_eq!(lengths(&by_layer), (1024, 1024));
    assert_eq!(lengths(&json!({"seq_length": 64})), (64, 64));
    assert_eq!(lengths(&json!({"model_max_length": 4096})), (4096, 4096));
    let gemma = with(&rope("linear"), &json!({"model_type": "gemma3_text"}));
    assert_eq!(lengths(&gemma).0, 512);
    let silent = with(&llama(), &json!({"max_position_embeddings": null}));
    assert_eq!(architecture(&silent).max_position_embeddings, None);
}

#[test]
fn type_and_tie_are_found_in_either_config() {
    let mut text = llama();
    text.as_object_mut().unwrap().remove("torch_dtype");
    let outer = json!({"text_config": text, "dtype": "float16", "tie_word_embeddings": true});
    let parsed = architecture(&outer);
    assert_eq!((parsed.dtype, parsed.tied_embeddings), (DType::F16, true));
    let inner = json!({"llm_config": with(&llama(), &json!({"tie_word_embeddings": true}))});
    assert!(architecture(&inner).tied_embeddings);
}

#[test]
fn an_unknown_family_is_what_its_fields_say() {
    let config = with(&llama(), &json!({"model_type": "brand_new", "num_experts": 4, "num_experts_per_tok": 1}));
    let parsed = parse(&config);
    assert!(parsed.warnings[0].contains("`brand_new` is not known"), "{:?}", parsed.warnings);
    assert!(matches!(parsed.architecture.layers[0].feed_forward, FeedForward::Moe(moe) if moe.experts == 4));
    let odd = with(&llama(), &json!({"layer_types": ["full_attention", "wavelet", "wavelet", "full_attention"]}));
    assert_eq!(parse(&odd).warnings, ["layers of type `wavelet` are not known and counted as full attention"]);
}

#[test]
fn what_is_missing_or_impossible_is_named() {
    let error = |config: &Value| parse_config(&config.to_string(), None, "hub: config.json").unwrap_err().to_string();
    let without = |name: &str| with(&llama(), &json!({name: null}));
    for name in ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"] {
        let error = error(&without(name));
        assert!(error.starts_with(&format!("hub: config.json: `{name}`: is missing")), "{error}");
    }
    let nested = error(&json!({"text_config": without("hidden_size")}));
    assert!(nested.contains("`text_config.hidden_size`"), "{nested}");
    for (name, value) in
        [("num_hidden_layers", json!(1_000_000_000)), ("hidden_size", json!(-1)), ("vocab_size", json!("many"))]
    {
        let error = error(&with(&llama(), &json!({name: value})));
        assert!(error.contains(&format!("`{name}`")), "{error}");
    }
    let short = error(&with(&llama(), &json!({"layer_types": ["full_attention"]})));
    assert!(short.ends_with("has 1 elements for 4 layers"), "{short}");
    assert!(error(&json!([])).contains("not a JSON object"));
}

#[test]
fn quantisation_is_found_in_either_config_or_in_its_own_file() {
    let fp8 = json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
    let inner = json!({"text_config": with(&llama(), &json!({"quantization_config": fp8}))});
    let method = |parsed: &Architecture| parsed.checkpoint.quantisation.method().map(str::to_owned);
    assert_eq!(method(&architecture(&inner)).as_deref(), Some("fp8"));
    let file = r#"{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4",
                   "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}}"#;
    let parsed = parse_config(&llama().to_string(), Some(file), "config.json").unwrap().architecture;
    assert_eq!((method(&parsed).as_deref(), parsed.kv_cache_dtype), (Some("modelopt"), Some(DType::F8E4M3)));
    let format = parsed.checkpoint.quantisation.format_of("model.layers.0.mlp.up_proj");
    assert!(matches!(format, WeightFormat::Nvfp4 { .. }));
    let empty = parse_config(&llama().to_string(), Some("{}"), "config.json").unwrap_err().to_string();
    assert_eq!(empty, "hf_quant_config.json: `quantization`: is missing");
}

#[test]
fn the_largest_config_does_not_overflow() {
    let config = with(
        &deepseek(),
        &json!({
            "hidden_size": MAX_WIDTH, "intermediate_size": MAX_WIDTH, "num_hidden_layers": MAX_COUNT,
            "num_attention_heads": MAX_COUNT, "vocab_size": MAX_VOCABULARY, "kv_lora_rank": MAX_WIDTH,
            "q_lora_rank": MAX_WIDTH, "qk_nope_head_dim": MAX_COUNT, "qk_rope_head_dim": MAX_COUNT, "v_head_dim": MAX_COUNT,
            "moe_intermediate_size": 1 << 16, "n_routed_experts": 254, "n_shared_experts": 1, "first_k_dense_replace": 0,
            "num_nextn_predict_layers": 16, "torch_dtype": "float64"
        }),
    );
    assert!(Weights::from_architecture(&architecture(&config)).bytes() > 1 << 62);
    let more = with(&config, &json!({"n_routed_experts": 65_000}));
    let error = parse_config(&more.to_string(), None, "config.json").unwrap_err().to_string();
    assert!(error.contains("`n_routed_experts`") || error.contains("`num_experts`"), "{error}");
}

/// Configs to start mutations from: every shape of config.
fn seeds() -> Vec<Value> {
    let fp8 = json!({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128],
                     "modules_to_not_convert": ["lm_head", "model.layers.0.mlp"]}});
    let packed = json!({"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized",
        "ignore": ["re:.*lm_head"], "config_groups": {"group_0": {"targets": ["Linear"],
        "weights": {"num_bits": 4, "type": "int", "group_size": 32, "strategy": "group"}}}}});
    let vision = json!({"vision_config": {"model_type": "siglip_vision_model", "hidden_size": 32, "image_size": 28,
        "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "patch_size": 14},
        "text_config": with(&llama(), &json!({"model_type": "gemma3_text", "sliding_window": 16}))});
    let rope = json!({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}});
    let linear = json!({"model_type": "qwen3_next", "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_key_head_dim": 8, "linear_value_head_dim": 8, "full_attention_interval": 4});
    vec![with(&llama(), &rope), with(&deepseek(), &fp8), with(&nemotron_h(), &packed), with(&llama(), &linear), vision]
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0_u64..10_000).prop_map(Value::from),
        prop_oneof![Just(1 << 12), Just(1 << 16), Just(1 << 20), Just((1_u64 << 32) - 1)].prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z*.:_M-]{0,12}".prop_map(Value::from),
        proptest::collection::vec(0_u64..3, 0..6).prop_map(Value::from),
        Just(json!({"rope_type": "yarn", "num_bits": 0})),
    ]
}

/// Replaces one value somewhere in the config.
fn mutate(config: &mut Value, at: usize, value: Value) {
    let leaves = count_leaves(config);
    let mut at = at % leaves.max(1);
    replace(config, &mut at, &mut Some(value));
}

fn count_leaves(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(count_leaves).sum::<usize>(),
        Value::Array(list) => 1 + list.iter().map(count_leaves).sum::<usize>(),
        _ => 1,
    }
}

fn replace(value: &mut Value, at: &mut usize, new: &mut Option<Value>) {
    if *at == 0 {
        if let Some(new) = new.take() {
            *value = new;
        }
        return;
    }
    *at -= 1;
    let children: Vec<&mut Value> = match value {
        Value::Object(map) => map.values_mut().collect(),
        Value::Array(list) => list.iter_mut().collect(),
        _ => return,
    };
    for child in children {
        let leaves = count_leaves(child);
        if *at < leaves {
            return replace(child, at, new);
        }
        *at -= leaves;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn mutated_configs_do_not_panic(
        seed in 0_usize..5,
        mutations in proptest::collection::vec((any::<usize>(), any_value()), 1..6),
        ranks in 1_u64..9,
    ) {
        let mut config = seeds().swap_remove(seed);
        for (at, value) in mutations {
            mutate(&mut config, at, value);
        }
        if let Ok(ParsedConfig { architecture, .. }) = parse_config(&config.to_string(), None, "config.json") {
            let weights = Weights::from_architecture(&architecture);
            let split = RankSplit { tensor_parallel: ranks, expert_parallel: 1, encoder_data_parallel: false };
            for group in &weights.groups {
                rank_bytes(group, &architecture, split);
            }
            prop_assert!(weights.bytes() > 0);
            tensor_parallel_problem(&architecture, ranks, false);
        }
    }

    #[test]
    fn arbitrary_text_does_not_panic(text in "\\PC{0,200}") {
        let _ = parse_config(&text, Some(&text), "config.json");
    }
}
