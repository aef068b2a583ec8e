use serde_json::{Value, json};

use super::*;
use crate::model::fields::Fields;

fn parse_with_warnings(config: &Value) -> (Quantisation, Vec<String>) {
    let mut warnings = Vec::new();
    let fields = Fields::new(config, "config.json").unwrap();
    let quantisation = Quantisation::parse(&fields, DType::F32, false, &mut warnings).unwrap();
    (quantisation, warnings)
}

fn parse(config: &Value) -> Quantisation {
    let (quantisation, warnings) = parse_with_warnings(config);
    assert_eq!(warnings, Vec::<String>::new());
    quantisation
}

/// Names, shapes and types of the tensors of a 256 x 512 matrix (outputs x inputs).
fn tensors(format: WeightFormat) -> Vec<(&'static str, Vec<u64>, DType)> {
    let mut tensors = Vec::new();
    format.tensors(256, 512, DType::BF16, |name, shape, dtype| tensors.push((name, shape, dtype)));
    tensors
}

const UP: &str = "model.layers.3.mlp.up_proj";

#[test]
fn fp8_has_one_scale_a_matrix_or_a_block() {
    let block = parse(&json!({"quant_method": "fp8", "weight_block_size": [128, 64], "activation_scheme": "dynamic"}));
    let format = block.format_of(UP);
    let scale = ("weight_scale_inv", vec![2, 8], DType::F32);
    assert_eq!(tensors(format), [("weight", vec![256, 512], DType::F8E4M3), scale]);
    assert_eq!((format.output_multiple(), format.input_multiple(), format.bits()), (128, 64, Some(8)));
    // Nobody quantises these, though no list names them.
    for module in ["lm_head", "model.layers.3.mlp.gate", "model.layers.61.eh_proj"] {
        assert_eq!(block.format_of(module), WeightFormat::Plain, "{module}");
    }
    let fixed = parse(&json!({"quant_method": "fp8", "activation_scheme": "static"}));
    let names: Vec<_> = tensors(fixed.format_of(UP)).into_iter().map(|(name, shape, _)| (name, shape)).collect();
    assert_eq!(names, [("weight", vec![256, 512]), ("weight_scale", vec![]), ("input_scale", vec![])]);
}

#[test]
fn awq_and_gptq_pack_along_different_sides() {
    let awq = parse(&json!({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true,
                            "modules_to_not_convert": ["visual"]}));
    let expected = [
        ("qweight", vec![512, 32], DType::I32),
        ("qzeros", vec![4, 32], DType::I32),
        ("scales", vec![4, 256], DType::F16),
    ];
    assert_eq!(tensors(awq.format_of(UP)), expected);
    assert_eq!(awq.format_of("visual.blocks.0.attn.qkv"), WeightFormat::Plain);
    let gptq = parse(&json!({"quant_method": "gptq", "bits": 8, "group_size": -1, "dynamic": {"-:.*down.*": {}}}));
    let expected = [
        ("qweight", vec![128, 256], DType::I32),
        ("qzeros", vec![1, 64], DType::I32),
        ("scales", vec![1, 256], DType::F16),
        ("g_idx", vec![512], DType::I32),
    ];
    assert_eq!(tensors(gptq.format_of(UP)), expected);
    assert_eq!(gptq.format_of("model.layers.3.mlp.down_proj"), WeightFormat::Plain);
    let rounded = parse(&json!({"quant_method": "auto-round", "bits": 4, "group_size": 128,
        "packing_format": "auto_round:auto_awq", "extra_config": {"model.layers.3.mlp.up_proj": {"bits": 16}}}));
    assert_eq!(rounded.format_of(UP), WeightFormat::Plain);
    assert!(matches!(rounded.format_of("model.layers.4.mlp.up_proj"), WeightFormat::Awq { bits: 4, .. }));
}

#[test]
fn compressed_tensors_have_a_format_for_each_group_of_targets() {
    let weights = |bits: u64, kind: &str, strategy: &str, size: Value| json!({"num_bits": bits, "type": kind, "strategy": strategy, "group_size": size, "symmetric": true});
    let config = json!({
        "quant_method": "compressed-tensors", "format": "mixed-precision", "ignore": ["lm_head", "re:.*self_attn.*"],
        "config_groups": {
            "group_0": {"targets": ["Linear"], "format": "pack-quantized", "weights": weights(4, "int", "group", json!(128))},
            "group_1": {"targets": ["re:.*down_proj"], "format": "float-quantized", "input_activations": {"dynamic": true},
                        "weights": weights(8, "float", "channel", Value::Null)},
        }
    });
    let mixed = parse(&config);
    let packed = [
        ("weight_packed", vec![256, 64], DType::I32),
        ("weight_scale", vec![256, 4], DType::BF16),
        ("weight_shape", vec![2], DType::I32),
    ];
    assert_eq!(tensors(mixed.format_of(UP)), packed);
    let scaled = [("weight", vec![256, 512], DType::F8E4M3), ("weight_scale", vec![256, 1], DType::BF16)];
    assert_eq!(tensors(mixed.format_of("model.layers.3.mlp.down_proj")), scaled);
    assert_eq!(mixed.format_of("language_model.model.layers.3.self_attn.q_proj"), WeightFormat::Plain);

    let one = |layout: &str, weights: Value, input: Value| {
        let group = json!({"targets": ["Linear"], "weights": weights, "input_activations": input});
        let config =
            json!({"quant_method": "compressed-tensors", "format": layout, "config_groups": {"group_0": group}});
        parse(&config).format_of(UP)
    };
    let w8a8 = one("int-quantized", weights(8, "int", "channel", Value::Null), json!({"dynamic": true}));
    assert_eq!(tensors(w8a8)[0], ("weight", vec![256, 512], DType::I8));
    let nvfp4 = one("nvfp4-pack-quantized", weights(4, "float", "tensor_group", json!(16)), json!({"dynamic": false}));
    let names: Vec<_> = tensors(nvfp4).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["weight_packed", "weight_scale", "weight_global_scale", "input_global_scale"]);
    let mxfp4 = one("mxfp4-pack-quantized", weights(4, "float", "group", json!(32)), Value::Null);
    assert_eq!(tensors(mxfp4)[1], ("weight_scale", vec![256, 16], DType::U8));
    let asymmetric = with_zero_points(weights(4, "int", "group", json!(128)));
    let asymmetric = tensors(one("pack-quantized", asymmetric, Value::Null));
    assert_eq!(asymmetric[3], ("weight_zero_point", vec![32, 4], DType::I32));
    assert_eq!(asymmetric[4], ("weight_g_idx", vec![512], DType::I32));
}

fn with_zero_points(mut weights: Value) -> Value {
    weights["symmetric"] = json!(false);
    weights["actorder"] = json!("group");
    weights
}

#[test]
fn modelopt_is_known_by_its_algorithm() {
    // The quantisation of `config.json` has no `quant_method` in older exports.
    let fp8 = parse(&json!({"quant_algo": "FP8", "kv_cache_scheme": "FP8", "ignore": ["lm_head"]}));
    assert_eq!((fp8.method(), fp8.kv_cache_dtype()), (Some("modelopt"), Some(DType::F8E4M3)));
    let names: Vec<_> = tensors(fp8.format_of(UP)).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["weight", "weight_scale", "input_scale"]);
    let nvfp4 = parse(&json!({"quant_method": "modelopt", "quant_algo": "NVFP4",
        "ignore": ["model.language_model.layers.3.self_attn*", "mtp*"],
        "kv_cache_scheme": {"type": "float", "num_bits": 8}}));
    let expected = [
        ("weight", vec![256, 256], DType::U8),
        ("weight_scale", vec![256, 32], DType::F8E4M3),
        ("weight_scale_2", vec![], DType::F32),
        ("input_scale", vec![], DType::F32),
    ];
    assert_eq!(tensors(nvfp4.format_of(UP)), expected);
    assert_eq!(nvfp4.format_of("layers.3.self_attn.q_proj"), WeightFormat::Plain);
    assert_ne!(nvfp4.format_of("layers.30.self_attn.q_proj"), WeightFormat::Plain);
    assert_eq!(nvfp4.format_of("mtp.layers.0.mlp.up_proj"), WeightFormat::Plain);
    assert_eq!(nvfp4.kv_cache_dtype(), Some(DType::F8E4M3));
}

#[test]
fn mixed_precision_names_its_layers() {
    let mixed = parse(&json!({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": {
        "model.language_model.layers.3.self_attn.q_proj": {"quant_algo": "FP8"},
        "model.language_model.layers.3.mlp.experts": {"quant_algo": "W4A16_NVFP4", "group_size": 16},
        "model.layers.4.block_sparse_moe.experts.0.w1": {"quant_algo": "NVFP4"},
        "model.layers.4.block_sparse_moe.experts.1.w1": {"quant_algo": "NVFP4"},
        "lm_head": {"quant_algo": "W4A16_NVFP4"},
    }}));
    assert_eq!(mixed.format_of("layers.3.self_attn.q_proj").bits(), Some(8));
    let weight_only = WeightFormat::Nvfp4 { layout: Nvfp4Layout::ModelOpt, static_input: false };
    assert_eq!(mixed.format_of("layers.3.mlp.experts.*.up_proj"), weight_only);
    assert_eq!(mixed.format_of("lm_head"), weight_only);
    assert_eq!(mixed.format_of("layers.4.block_sparse_moe.experts.*.w1").bits(), Some(4));
    assert_eq!(mixed.format_of("layers.4.self_attn.q_proj"), WeightFormat::Plain);
    // Experts of another format in an FP8 checkpoint, whose `ignore` speaks of those experts' exporter.
    let fp8 = parse(&json!({"quant_method": "fp8", "weight_block_size": [128, 128], "ignore": ["*.attn.*"],
        "quantized_layers": {"layers.0.ffn.experts": {"quant_algo": "NVFP4"}}}));
    assert_eq!(fp8.format_of("layers.0.ffn.experts.*.w1").bits(), Some(4));
    assert_eq!(fp8.format_of("layers.0.attn.wq_a").bits(), Some(8));
}

#[test]
fn what_is_not_known_is_counted_unquantised_and_said_so() {
    let (unknown, warnings) = parse_with_warnings(&json!({"quant_method": "squeeze"}));
    assert_eq!(unknown.format_of(UP), WeightFormat::Plain);
    assert_eq!(warnings, ["quantisation `squeeze` is not known; the weights are counted unquantised"]);
    let (_, warnings) = parse_with_warnings(&json!({"quant_method": "modelopt", "quant_algo": "FP3"}));
    assert_eq!(warnings, ["`quant_algo` `FP3` is not known; its weights are counted unquantised"]);
    let (_, warnings) = parse_with_warnings(&json!({"quant_method": "fp8", "modules_to_not_convert": ["re:(?=x)"]}));
    assert!(warnings[0].contains("`re:(?=x)`, which is not understood"), "{warnings:?}");
}

#[test]
fn bitsandbytes_keeps_its_scales_below_the_weight() {
    let nf4 = parse(&json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_use_double_quant": true}));
    let tensors = tensors(nf4.format_of(UP));
    assert_eq!(tensors[0], ("weight", vec![65_536, 1], DType::U8));
    assert_eq!(tensors[1], ("weight.absmax", vec![2048], DType::U8));
    let int8 =
        parse(&json!({"quant_method": "bitsandbytes", "load_in_8bit": true, "llm_int8_skip_modules": ["up_proj"]}));
    assert_eq!(int8.format_of(UP), WeightFormat::Plain);
    assert_eq!(int8.format_of("layers.0.mlp.down_proj"), WeightFormat::BitsAndBytes8);
}

#[test]
fn a_16_bit_checkpoint_can_be_quantised_while_loading() {
    let fp8 = Quantisation::while_loading("fp8").unwrap();
    assert_eq!(fp8.format_of(UP).bytes(256, 512, DType::BF16), 256 * 512 + 4);
    assert_eq!(fp8.format_of("lm_head"), WeightFormat::Plain);
    assert_eq!(WeightFormat::Plain.bytes(256, 512, DType::BF16), 2 * 256 * 512);
    let error = Quantisation::while_loading("awq").unwrap_err().to_string();
    assert!(error.contains("`fp8` and `bitsandbytes`"), "{error}");
}
