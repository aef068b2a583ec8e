//! Tensor names of GGUF files as transformers would write them.
//!
//! Source: `TENSOR_NAMES` in llama.cpp's `gguf-py/gguf/constants.py` (commit 0024aa7). A name without a counterpart is
//! kept.

/// Modules outside the layers.
const MODEL: &[(&str, &str)] = &[
    ("token_embd", "model.embed_tokens"),
    ("token_embd_norm", "model.word_embeddings_layernorm"),
    ("per_layer_token_embd", "model.embed_tokens_per_layer"),
    ("per_layer_model_proj", "model.per_layer_model_projection"),
    ("per_layer_proj_norm", "model.per_layer_projection_norm"),
    ("position_embd", "model.embed_positions"),
    ("output_norm", "model.norm"),
    ("output", "lm_head"),
];

/// Modules of a layer.
const LAYER: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_qkv", "self_attn.qkv_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_sinks", "self_attn.sinks"),
    ("attn_q_a", "self_attn.q_a_proj"),
    ("attn_q_a_norm", "self_attn.q_a_layernorm"),
    ("attn_q_b", "self_attn.q_b_proj"),
    ("attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"),
    ("attn_kv_a_norm", "self_attn.kv_a_layernorm"),
    ("attn_kv_b", "self_attn.kv_b_proj"),
    ("attn_k_b", "self_attn.k_b_proj"),
    ("attn_v_b", "self_attn.v_b_proj"),
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("ffn_gate_inp", "mlp.gate"),
    ("exp_probs_b", "mlp.gate.e_score_correction_bias"),
    ("ffn_gate_exps", "mlp.experts.*.gate_proj"),
    ("ffn_up_exps", "mlp.experts.*.up_proj"),
    ("ffn_down_exps", "mlp.experts.*.down_proj"),
    ("ffn_gate_up_exps", "mlp.experts.*.gate_up_proj"),
    ("ffn_gate_inp_shexp", "mlp.shared_expert_gate"),
    ("ffn_gate_shexp", "mlp.shared_experts.gate_proj"),
    ("ffn_up_shexp", "mlp.shared_experts.up_proj"),
    ("ffn_down_shexp", "mlp.shared_experts.down_proj"),
    ("nextn.eh_proj", "eh_proj"),
    ("nextn.embed_tokens", "embed_tokens"),
    ("nextn.enorm", "enorm"),
    ("nextn.hnorm", "hnorm"),
    ("nextn.shared_head_head", "shared_head.head"),
    ("nextn.shared_head_norm", "shared_head.norm"),
];

/// The name that transformers gives the tensor: `blk.3.attn_q.weight` is `model.layers.3.self_attn.q_proj.weight`.
/// A tensor that holds all experts of a layer has `*` for their index.
pub(super) fn transformers_name(name: &str) -> String {
    let (module, kind) = name.rsplit_once('.').unwrap_or((name, ""));
    let translated = |table: &[(&str, &'static str)], module: &str| {
        table.iter().find(|(gguf, _)| *gguf == module).map(|&(_, transformers)| transformers)
    };
    let in_layer = module.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    let path = match in_layer {
        Some((layer, module)) => {
            format!("model.layers.{layer}.{}", translated(LAYER, module).unwrap_or(module))
        }
        None => translated(MODEL, module).unwrap_or(module).to_owned(),
    };
    if kind.is_empty() { path } else { format!("{path}.{kind}") }
}
