//! Peak activation memory of the profile run, by phase.
//!
//! vLLM runs one forward of `max_num_batched_tokens` tokens and, on the last pipeline stage, one sampler pass over
//! `max_num_seqs` rows of logits; the peak over both is taken from the KV cache. With S sequences, T tokens, vocabulary V,
//! hidden size H, intermediate size I and d bytes an element:
//!
//! ```text
//! sampler = S V (bytes_per_logit) + SMs x 4 V + copies x T H d + constant      (coefficients by version)
//! forward = T (4 H + 3 I / tp) d (2 I ungated) + 0.015 GiB (+ 2 T H d with pipeline stages)
//! experts = T k (max(I_moe / tp, H) + max(2 I_moe / tp, H)) d + T H d          (workspaces that stay allocated)
//! peak    = encoder outputs + max(sampler + experts, forward, T 4 H d + experts)
//! ```
//!
//! The sampler works on the gathered logits, so it does not shrink with tensor parallelism. Coefficients and their fit:
//! `data/engines.toml`. The experts' workspaces are `TritonExperts.workspace_shapes` of vLLM's
//! `fused_moe/fused_moe.py`, unfitted.

use crate::engine::ActivationRules;
use crate::model::{Architecture, FeedForward, Moe};
use crate::units::GIB;

/// Kernels' own scratch space during a forward, fitted on forward-bound starts of 0.17 to 0.19.
pub(super) const FORWARD_CONSTANT_BYTES: f64 = 0.015 * GIB;

/// The phase whose memory is the peak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActivationPhase {
    /// Logits, probabilities and noise of the sampler; grows with `max_num_seqs` x vocabulary.
    Sampler,
    /// The layers' forward; grows with `max_num_batched_tokens`.
    Forward,
    /// The vision encoder's outputs, kept while the text model runs.
    Encoder,
}

/// Peak activation memory of one rank, and the phases it is the largest of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activation {
    /// Sampler pass, 0 on all but the last stage.
    pub sampler_bytes: f64,
    /// Elements that a token keeps alive in the widest dense layer.
    pub forward_width: f64,
    /// Forward of dense layers.
    pub forward_bytes: f64,
    /// Workspaces of the experts, kept allocated.
    pub moe_workspace_bytes: f64,
    /// Encoder outputs, kept in the encoder cache.
    pub encoder_bytes: f64,
    /// The peak.
    pub peak_bytes: f64,
    /// The phase that makes the peak.
    pub bound_by: ActivationPhase,
}

/// What the profile run of one rank depends on.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a condition of its own")]
pub(super) struct ProfileRun<'a> {
    pub architecture: &'a Architecture,
    /// Bytes of an activation element.
    pub element_bytes: u64,
    /// Activations are quantised to int8 (W8A8), which keeps a second copy of the intermediate.
    pub int8_activations: bool,
    pub max_num_batched_tokens: u64,
    pub max_num_seqs: u64,
    pub tensor: u32,
    /// Ranks that share the experts; 1 without expert parallelism.
    pub expert_ranks: u32,
    pub pipelined: bool,
    pub last_stage: bool,
    /// The encoder is loaded and may see items.
    pub encoder: bool,
    /// Streaming multiprocessors of the device.
    pub multiprocessors: u32,
    /// MXFP4 experts run in kernels without these workspaces.
    pub experts_without_workspace: bool,
}

/// Peak activation memory of one rank.
pub(super) fn activation(run: ProfileRun<'_>, rules: &ActivationRules) -> Activation {
    let tokens = run.max_num_batched_tokens as f64;
    let element = run.element_bytes as f64;
    let hidden_copy = tokens * run.architecture.hidden_size as f64 * element;
    let tensor = f64::from(run.tensor);

    let sampler_bytes = if run.last_stage {
        let rows = run.max_num_seqs.min(run.max_num_batched_tokens) as f64;
        let vocabulary = run.architecture.vocab_size as f64;
        // `bytes_per_logit` is for 16-bit logits; wider ones add their own difference.
        let per_logit = rules.sampler_bytes_per_logit + (element - 2.0);
        rows * vocabulary * per_logit
            + rules.sampler_vocab_rows_per_sm as f64 * f64::from(run.multiprocessors) * 4.0 * vocabulary
            + rules.sampler_hidden_copies * hidden_copy
            + rules.sampler_constant_gib * GIB
    } else {
        0.0
    };

    let mut intermediate_copies = 0.0_f64;
    let mut workspace_width = 0.0_f64;
    for layer in &run.architecture.layers {
        match layer.feed_forward {
            FeedForward::None | FeedForward::Projection => {}
            FeedForward::Dense { intermediate_size, gated } => {
                let copies = if gated { 3.0 } else { 2.0 } + if run.int8_activations { 1.0 / element } else { 0.0 };
                intermediate_copies = intermediate_copies.max(copies * intermediate_size as f64 / tensor);
            }
            FeedForward::Moe(moe) => workspace_width = workspace_width.max(expert_workspace_width(moe, run)),
        }
    }
    // What a stage receives from the one before, and what it hands on.
    let hidden_copies = if run.pipelined { 6.0 } else { 4.0 };
    let forward_width = hidden_copies * run.architecture.hidden_size as f64 + intermediate_copies;
    let forward_bytes = tokens * forward_width * element + FORWARD_CONSTANT_BYTES;
    let has_workspace = rules.moe_workspace && workspace_width > 0.0 && !run.experts_without_workspace;
    let moe_workspace_bytes = if has_workspace { tokens * workspace_width * element + hidden_copy } else { 0.0 };
    let encoder_bytes = if run.encoder { hidden_copy } else { 0.0 };

    let sampler_phase = if run.last_stage { sampler_bytes + moe_workspace_bytes } else { 0.0 };
    let forward_phase = forward_bytes.max(4.0 * hidden_copy + moe_workspace_bytes);
    let bound_by = if sampler_phase >= forward_phase { ActivationPhase::Sampler } else { ActivationPhase::Forward };
    let peak_bytes = encoder_bytes + sampler_phase.max(forward_phase);
    Activation { sampler_bytes, forward_width, forward_bytes, moe_workspace_bytes, encoder_bytes, peak_bytes, bound_by }
}

/// Elements a token needs in the two workspaces of the fused experts.
fn expert_workspace_width(moe: Moe, run: ProfileRun<'_>) -> f64 {
    let hidden = run.architecture.hidden_size as f64;
    // With expert parallelism a rank holds whole experts; otherwise tensor parallelism splits each expert.
    let split = if run.expert_ranks > 1 { 1.0 } else { f64::from(run.tensor) };
    let intermediate = moe.intermediate_size as f64 / split;
    let first_projection = if moe.gated { 2.0 * intermediate } else { intermediate };
    moe.experts_per_token as f64 * (intermediate.max(hidden) + first_projection.max(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineRules;
    use crate::model::parse_config;

    const LLAMA_8B: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
        "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 32,
        "vocab_size": 128256, "max_position_embeddings": 131072, "torch_dtype": "bfloat16"}"#;
    const QWEN3_30B_A3B: &str = r#"{"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "head_dim": 128,
        "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_attention_heads": 32,
        "num_experts": 128, "num_experts_per_tok": 8, "num_key_value_heads": 4, "num_hidden_layers": 48,
        "vocab_size": 151936, "max_position_embeddings": 40960, "torch_dtype": "bfloat16"}"#;

    fn architecture(config: &str) -> Architecture {
        parse_config(config, None, "config.json").unwrap().architecture
    }

    fn run(architecture: &Architecture) -> ProfileRun<'_> {
        ProfileRun {
            architecture,
            element_bytes: 2,
            int8_activations: false,
            max_num_batched_tokens: 8192,
            max_num_seqs: 1024,
            tensor: 1,
            expert_ranks: 1,
            pipelined: false,
            last_stage: true,
            encoder: false,
            multiprocessors: 132,
            experts_without_workspace: false,
        }
    }

    fn peak_gib(run: ProfileRun<'_>, version: &str) -> f64 {
        activation(run, &EngineRules::of(version.parse().unwrap()).unwrap().activation).peak_bytes / GIB
    }

    fn assert_close(gib: f64, printed: f64, tolerance: f64) {
        assert!((gib - printed).abs() < tolerance, "{gib} is not {printed}");
    }

    /// "PyTorch activation peak memory" of Llama-3.1-8B on H100s.
    #[test]
    fn the_sampler_binds_and_does_not_shrink_with_tensor_parallelism() {
        let llama = architecture(LLAMA_8B);
        assert_close(peak_gib(run(&llama), "0.19.0"), 1.89, 0.01);
        assert_close(peak_gib(ProfileRun { tensor: 4, ..run(&llama) }, "0.19.0"), 1.89, 0.01);
        assert_close(peak_gib(ProfileRun { element_bytes: 4, ..run(&llama) }, "0.19.0"), 2.21, 0.01);
        assert_close(peak_gib(run(&llama), "0.11.0"), 4.76, 0.01);
    }

    #[test]
    fn an_early_stage_pays_for_the_forward_only() {
        let llama = architecture(LLAMA_8B);
        let first = ProfileRun { pipelined: true, last_stage: false, ..run(&llama) };
        assert_close(peak_gib(first, "0.19.0"), 1.05, 0.02);
    }

    #[test]
    fn experts_keep_their_workspaces_since_0_14() {
        let qwen = architecture(QWEN3_30B_A3B);
        assert_close(peak_gib(run(&qwen), "0.19.0"), 2.68, 0.04);
        let before = EngineRules::of("0.12.0".parse().unwrap()).unwrap().activation;
        assert!(activation(run(&qwen), &before).moe_workspace_bytes < 1.0);
    }
}
