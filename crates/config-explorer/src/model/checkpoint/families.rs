//! The table of families.

use super::{Experts, Family, LinearLayout, MtpLayout, QkNorm, Qkv};
use crate::model::DType;

const PROJECTIONS: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];
/// The same under Mixtral's names.
const MIXTRAL_PROJECTIONS: [&str; 3] = ["w1", "w3", "w2"];
/// A biased `LayerNorm` before each half, as GPT-2 names them.
const LN: [&[&str]; 2] = [&["ln_1"], &["ln_2"]];
/// Gemma 2 and later: a norm before and after each half.
const SANDWICH: [&[&str]; 2] =
    [&["input_layernorm", "post_attention_layernorm"], &["pre_feedforward_layernorm", "post_feedforward_layernorm"]];

/// Llama 1 to 3 and what was built on it.
const LLAMA: Family = Family {
    model_types: &[
        "llama",
        "mistral",
        "ministral",
        "ministral3",
        "granite",
        "smollm3",
        "seed_oss",
        "aquila",
        "internlm",
    ],
    defaults: &[],
    gated: true,
    bias_fields: ["attention_bias", "attention_bias", "mlp_bias"],
    qk_norm: QkNorm::None,
    embedding: "embed_tokens",
    position_embedding: None,
    final_norm: "norm",
    head: "lm_head",
    head_bias: false,
    norm_bias: false,
    attention_norms: &["input_layernorm"],
    feed_forward_norms: &["post_attention_layernorm"],
    moe_norms: &[],
    layer_scalar: None,
    attention: "self_attn",
    qkv: Qkv::Separate,
    output: "o_proj",
    gate_up: None,
    mlp: ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"],
    router: "mlp.gate",
    router_dtype: None,
    moe_bias: false,
    correction_bias: "mlp.gate.e_score_correction_bias",
    router_scales: None,
    experts: Experts::Separate { module: "mlp.experts", names: PROJECTIONS },
    shared: "mlp.shared_experts",
    shared_names: PROJECTIONS,
    shared_gate: None,
    latent: ["mlp.fc1_latent_proj", "mlp.fc2_latent_proj"],
    linear: LinearLayout::Separate,
    mtp: MtpLayout::Absent,
    light_mtp: false,
    block_scale_dtype: DType::F32,
};

const QWEN2: Family = Family {
    model_types: &["qwen2", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text"],
    defaults: &[("qkv_bias", 1), ("max_position_embeddings", 32_768), ("use_sliding_window", 0)],
    bias_fields: ["qkv_bias", "o_bias", "mlp_bias"],
    ..LLAMA
};

const QWEN3: Family = Family {
    model_types: &["qwen3", "qwen3_moe", "qwen3_vl", "qwen3_vl_text", "qwen3_omni_moe_text"],
    defaults: &[("max_position_embeddings", 32_768), ("use_sliding_window", 0)],
    qk_norm: QkNorm::PerHead,
    block_scale_dtype: DType::BF16,
    ..LLAMA
};

const QWEN3_NEXT: Family = Family {
    model_types: &["qwen3_next"],
    defaults: &[("max_position_embeddings", 32_768), ("attn_output_gate", 1), ("full_attention_interval", 4)],
    shared: "mlp.shared_expert",
    shared_gate: Some("mlp.shared_expert_gate"),
    linear: LinearLayout::Fused,
    mtp: MtpLayout::Qwen,
    ..QWEN3
};

const DEEPSEEK: Family = Family {
    model_types: &["deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "deepseek_vl_v2", "glm4_moe_lite"],
    mtp: MtpLayout::NextLayers,
    ..LLAMA
};

const MIXTRAL: Family = Family {
    model_types: &["mixtral"],
    router: "block_sparse_moe.gate",
    experts: Experts::Separate { module: "block_sparse_moe.experts", names: MIXTRAL_PROJECTIONS },
    shared: "block_sparse_moe.shared_experts",
    ..LLAMA
};

const MINIMAX: Family = Family {
    model_types: &["minimax_m2", "minimax_m3", "minimax_m3_vl"],
    qk_norm: QkNorm::AllHeads,
    router_dtype: Some(DType::F32),
    correction_bias: "block_sparse_moe.e_score_correction_bias",
    ..MIXTRAL
};

const GEMMA: Family = Family {
    model_types: &["gemma"],
    defaults: &[("tie_word_embeddings", 1), ("max_position_embeddings", 8192), ("head_dim", 256)],
    ..LLAMA
};

const GEMMA2: Family = Family {
    model_types: &["gemma2"],
    defaults: &[
        ("tie_word_embeddings", 1),
        ("max_position_embeddings", 8192),
        ("head_dim", 256),
        ("sliding_window", 4096),
        ("sliding_window_pattern", 2),
    ],
    attention_norms: SANDWICH[0],
    feed_forward_norms: SANDWICH[1],
    ..GEMMA
};

const GEMMA3: Family = Family {
    model_types: &["gemma3", "gemma3_text"],
    defaults: &[
        ("tie_word_embeddings", 1),
        ("max_position_embeddings", 131_072),
        ("vocab_size", 262_208),
        ("num_attention_heads", 8),
        ("num_key_value_heads", 4),
        ("head_dim", 256),
        ("sliding_window", 4096),
        ("sliding_window_pattern", 6),
    ],
    qk_norm: QkNorm::PerHead,
    ..GEMMA2
};

const NEMOTRON_H: Family = Family {
    model_types: &["nemotron_h", "nemotron_h_puzzle"],
    defaults: &[("use_routing_bias", 1)],
    gated: false,
    embedding: "embeddings",
    final_norm: "norm_f",
    attention_norms: &["norm"],
    feed_forward_norms: &["norm"],
    attention: "mixer",
    mlp: ["", "mixer.up_proj", "mixer.down_proj"],
    router: "mixer.gate",
    correction_bias: "mixer.gate.e_score_correction_bias",
    experts: Experts::Separate { module: "mixer.experts", names: PROJECTIONS },
    shared: "mixer.shared_experts",
    latent: ["mixer.fc1_latent_proj", "mixer.fc2_latent_proj"],
    mtp: MtpLayout::Nemotron,
    ..LLAMA
};

const GPT2: Family = Family {
    model_types: &["gpt2", "gpt_bigcode"],
    defaults: &[("tie_word_embeddings", 1), ("qkv_bias", 1), ("o_bias", 1), ("mlp_bias", 1)],
    gated: false,
    bias_fields: ["qkv_bias", "o_bias", "mlp_bias"],
    embedding: "wte",
    position_embedding: Some(("wpe", 0)),
    final_norm: "ln_f",
    norm_bias: true,
    attention_norms: LN[0],
    feed_forward_norms: LN[1],
    attention: "attn",
    qkv: Qkv::Fused("c_attn"),
    output: "c_proj",
    mlp: ["", "mlp.c_fc", "mlp.c_proj"],
    ..LLAMA
};

const FALCON: Family = Family {
    model_types: &["falcon", "RefinedWeb", "RefinedWebModel"],
    defaults: &[("tie_word_embeddings", 1), ("max_position_embeddings", 2048), ("multi_query", 1)],
    gated: false,
    bias_fields: ["bias", "bias", "bias"],
    embedding: "word_embeddings",
    final_norm: "ln_f",
    norm_bias: true,
    feed_forward_norms: &[],
    attention: "self_attention",
    qkv: Qkv::Fused("query_key_value"),
    output: "dense",
    mlp: ["", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"],
    ..LLAMA
};

/// The families, the one that unknown ones are read as first.
pub(super) static FAMILIES: [Family; 37] = [
    LLAMA,
    QWEN2,
    Family {
        model_types: &["qwen2_moe"],
        shared: "mlp.shared_expert",
        shared_gate: Some("mlp.shared_expert_gate"),
        ..QWEN2
    },
    Family { model_types: &["mimo"], mtp: MtpLayout::MiMo, ..QWEN2 },
    QWEN3,
    Family {
        model_types: &["qwen3_vl_moe", "qwen3_vl_moe_text"],
        experts: Experts::Fused {
            module: "mlp.experts",
            gate_up: "mlp.experts.gate_up_proj",
            down: "mlp.experts.down_proj",
            inputs_first: true,
        },
        ..QWEN3
    },
    QWEN3_NEXT,
    Family {
        model_types: &["qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"],
        experts: Experts::Fused {
            module: "mlp.experts",
            gate_up: "mlp.experts.gate_up_proj",
            down: "mlp.experts.down_proj",
            inputs_first: false,
        },
        linear: LinearLayout::Separate,
        ..QWEN3_NEXT
    },
    DEEPSEEK,
    Family {
        model_types: &["glm4_moe", "glm_moe_dsa"],
        defaults: &[("use_qk_norm", 0), ("use_routing_bias", 1)],
        bias_fields: ["attention_bias", "o_bias", "mlp_bias"],
        qk_norm: QkNorm::PerHead,
        ..DEEPSEEK
    },
    Family {
        model_types: &["mimo_v2_flash", "mimo_v2"],
        bias_fields: ["attention_bias", "o_bias", "mlp_bias"],
        mtp: MtpLayout::MiMo,
        light_mtp: true,
        ..LLAMA
    },
    MIXTRAL,
    MINIMAX,
    Family {
        model_types: &["phimoe"],
        bias_fields: ["attention_bias", "attention_bias", "mlp_bias"],
        head_bias: true,
        norm_bias: true,
        ..MIXTRAL
    },
    Family {
        model_types: &["kimi_linear"],
        defaults: &[("use_routing_bias", 1)],
        correction_bias: "block_sparse_moe.gate.e_score_correction_bias",
        latent: ["block_sparse_moe.routed_expert_down_proj", "block_sparse_moe.routed_expert_up_proj"],
        linear: LinearLayout::Kda,
        ..MIXTRAL
    },
    Family {
        model_types: &["deepseek_v4", "deepseek_ref"],
        embedding: "embed",
        head: "head",
        attention_norms: &["attn_norm"],
        feed_forward_norms: &["ffn_norm"],
        attention: "attn",
        router: "ffn.gate",
        correction_bias: "ffn.gate.bias",
        experts: Experts::Separate { module: "ffn.experts", names: MIXTRAL_PROJECTIONS },
        shared: "ffn.shared_experts",
        shared_names: MIXTRAL_PROJECTIONS,
        mtp: MtpLayout::Qwen,
        block_scale_dtype: DType::F8E8M0,
        ..LLAMA
    },
    GEMMA,
    GEMMA2,
    GEMMA3,
    Family {
        model_types: &["gemma4", "gemma4_text", "gemma3n", "gemma3n_text"],
        defaults: &[("tie_word_embeddings", 1), ("max_position_embeddings", 131_072)],
        moe_norms: &["pre_feedforward_layernorm_2", "post_feedforward_layernorm_1", "post_feedforward_layernorm_2"],
        layer_scalar: Some("layer_scalar"),
        router: "router.proj",
        router_scales: Some(["router.scale", "router.per_expert_scale"]),
        experts: Experts::Fused {
            module: "moe.experts",
            gate_up: "moe.gate_up_proj",
            down: "moe.down_proj",
            inputs_first: false,
        },
        shared: "mlp",
        ..GEMMA3
    },
    Family {
        model_types: &["gpt_oss"],
        defaults: &[
            ("attention_bias", 1),
            ("sliding_window_pattern", 2),
            ("add_full_attention_sink_bias", 1),
            ("add_swa_attention_sink_bias", 1),
        ],
        router: "mlp.router",
        moe_bias: true,
        experts: Experts::Fused {
            module: "mlp.experts",
            gate_up: "mlp.experts.gate_up_proj",
            down: "mlp.experts.down_proj",
            inputs_first: false,
        },
        ..LLAMA
    },
    Family {
        model_types: &["llama4", "llama4_text"],
        defaults: &[
            ("attention_chunk_size", 8192),
            ("n_shared_experts", 1),
            ("no_rope_layer_interval", 4),
            ("interleave_moe_layer_step", 1),
        ],
        mlp: ["feed_forward.gate_proj", "feed_forward.up_proj", "feed_forward.down_proj"],
        router: "feed_forward.router",
        experts: Experts::Fused {
            module: "feed_forward.experts",
            gate_up: "feed_forward.experts.gate_up_proj",
            down: "feed_forward.experts.down_proj",
            inputs_first: true,
        },
        shared: "feed_forward.shared_expert",
        ..LLAMA
    },
    NEMOTRON_H,
    Family { model_types: &["mamba", "mamba2", "falcon_mamba"], mtp: MtpLayout::Absent, ..NEMOTRON_H },
    Family {
        model_types: &["bamba", "granitemoehybrid"],
        router: "block_sparse_moe.router.layer",
        experts: Experts::Fused {
            module: "block_sparse_moe.experts",
            gate_up: "block_sparse_moe.input_linear.weight",
            down: "block_sparse_moe.output_linear.weight",
            inputs_first: false,
        },
        shared: "shared_mlp",
        ..LLAMA
    },
    Family { model_types: &["nemotron-nas", "deci"], ..LLAMA },
    Family {
        model_types: &["step3p5", "step3p7"],
        qk_norm: QkNorm::PerHead,
        router: "moe.gate",
        router_dtype: Some(DType::F32),
        correction_bias: "moe.router_bias",
        experts: Experts::Stacked { names: ["moe.gate_proj", "moe.up_proj", "moe.down_proj"] },
        shared: "share_expert",
        mtp: MtpLayout::NextLayers,
        light_mtp: true,
        ..LLAMA
    },
    Family {
        model_types: &["phi3", "phi4mm"],
        defaults: &[("max_position_embeddings", 4096)],
        qkv: Qkv::Fused("qkv_proj"),
        gate_up: Some("mlp.gate_up_proj"),
        ..LLAMA
    },
    Family {
        model_types: &["glm4"],
        bias_fields: ["attention_bias", "o_bias", "mlp_bias"],
        attention_norms: &["input_layernorm", "post_self_attn_layernorm"],
        feed_forward_norms: &["post_attention_layernorm", "post_mlp_layernorm"],
        gate_up: Some("mlp.gate_up_proj"),
        ..LLAMA
    },
    Family {
        model_types: &["cohere", "cohere2"],
        defaults: &[("tie_word_embeddings", 1), ("use_qk_norm", 0), ("sliding_window_pattern", 4)],
        qk_norm: QkNorm::PerHead,
        feed_forward_norms: &[],
        ..LLAMA
    },
    Family {
        model_types: &["olmo2", "olmo3"],
        qk_norm: QkNorm::AllHeads,
        attention_norms: &["post_attention_layernorm"],
        feed_forward_norms: &["post_feedforward_layernorm"],
        ..LLAMA
    },
    Family {
        model_types: &["phi", "phi-msft"],
        defaults: &[("qkv_bias", 1), ("o_bias", 1), ("mlp_bias", 1)],
        gated: false,
        bias_fields: ["qkv_bias", "o_bias", "mlp_bias"],
        final_norm: "final_layernorm",
        head_bias: true,
        norm_bias: true,
        feed_forward_norms: &[],
        output: "dense",
        mlp: ["", "mlp.fc1", "mlp.fc2"],
        ..LLAMA
    },
    Family {
        model_types: &["starcoder2"],
        defaults: &[("tie_word_embeddings", 1), ("use_bias", 1), ("max_position_embeddings", 4096)],
        gated: false,
        bias_fields: ["use_bias", "use_bias", "use_bias"],
        norm_bias: true,
        mlp: ["", "mlp.c_fc", "mlp.c_proj"],
        ..LLAMA
    },
    GPT2,
    FALCON,
    Family {
        model_types: &["opt"],
        defaults: &[("tie_word_embeddings", 1), ("enable_bias", 1), ("max_position_embeddings", 2048)],
        gated: false,
        bias_fields: ["enable_bias", "enable_bias", "enable_bias"],
        position_embedding: Some(("embed_positions", 2)),
        final_norm: "final_layer_norm",
        norm_bias: true,
        attention_norms: &["self_attn_layer_norm"],
        feed_forward_norms: &["final_layer_norm"],
        output: "out_proj",
        mlp: ["", "fc1", "fc2"],
        ..LLAMA
    },
    Family {
        model_types: &["gpt_neox"],
        defaults: &[("attention_bias", 1), ("mlp_bias", 1), ("max_position_embeddings", 2048)],
        gated: false,
        embedding: "embed_in",
        final_norm: "final_layer_norm",
        head: "embed_out",
        norm_bias: true,
        attention: "attention",
        qkv: Qkv::Fused("query_key_value"),
        output: "dense",
        mlp: ["", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"],
        ..LLAMA
    },
];
