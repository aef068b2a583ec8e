//! Tensors of the token mixers.

use super::Tensors;
use crate::model::checkpoint::{LinearLayout, OutputGate, QkNorm, Qkv};
use crate::model::quantisation::KvScales;
use crate::model::{Attention, AttentionHeads, CompressedSparse, DType, GatedDeltaNet, Mamba, Mla, SparseIndexer};

impl Tensors<'_> {
    /// An attention layer with its norms.
    pub(super) fn attention(&mut self, attention: &Attention) {
        let [sinks_full, sinks_sliding] = self.extras.sinks;
        match attention {
            Attention::None => return,
            Attention::Projection => {
                let width = self.architecture.hidden_size;
                self.linear("self_attn.linear_attn", width, width, false);
            }
            Attention::Full(heads) => self.multi_head(heads, sinks_full, !self.extras.key_is_value),
            Attention::SlidingWindow { heads, .. } => self.multi_head(heads, sinks_sliding, true),
            Attention::ChunkedLocal { heads, .. } | Attention::Shared { heads, .. } => {
                self.multi_head(heads, false, true);
            }
            Attention::Mla(mla) => self.mla(mla, None),
            Attention::MlaSparse { mla, indexer } => self.mla(mla, indexer.as_ref()),
            Attention::CompressedSparse(attention) => self.compressed_sparse(attention),
            Attention::Linear(linear) => match self.family.linear {
                LinearLayout::Kda => self.kda(linear),
                LinearLayout::Fused | LinearLayout::Separate => self.gated_delta_net(linear),
            },
            Attention::Mamba(mamba) => self.mamba(mamba),
        }
        for norm in self.family.attention_norms {
            self.norm(norm);
        }
    }

    fn multi_head(&mut self, heads: &AttentionHeads, sinks: bool, stores_value: bool) {
        let AttentionHeads { query_heads, kv_heads, head_dim, value_head_dim } = *heads;
        let hidden_size = self.architecture.hidden_size;
        let module = self.family.attention;
        let bias = self.extras.qkv_bias;
        let gate = if self.extras.output_gate == OutputGate::InQuery { 2 } else { 1 };
        let [query, key, value] = [query_heads * head_dim * gate, kv_heads * head_dim, kv_heads * value_head_dim];
        match self.family.qkv {
            Qkv::Separate => {
                self.linear(&format!("{module}.q_proj"), query, hidden_size, bias);
                self.linear(&format!("{module}.k_proj"), key, hidden_size, bias);
                if stores_value {
                    self.linear(&format!("{module}.v_proj"), value, hidden_size, bias);
                }
            }
            Qkv::Fused(name) => self.linear(&format!("{module}.{name}"), query + key + value, hidden_size, bias),
        }
        let output = format!("{module}.{}", self.family.output);
        self.linear(&output, hidden_size, query_heads * value_head_dim, self.extras.output_bias);
        let norms = match self.extras.qk_norm {
            QkNorm::None => None,
            QkNorm::PerHead => Some([head_dim, head_dim]),
            QkNorm::AllHeads => Some([query_heads * head_dim, key]),
        };
        if let Some([query, key]) = norms {
            self.plain(format!("{module}.q_norm.weight"), &[query]);
            self.plain(format!("{module}.k_norm.weight"), &[key]);
        }
        if self.extras.output_gate == OutputGate::PerHead {
            self.linear(&format!("{module}.g_proj"), query_heads, hidden_size, false);
        }
        if sinks {
            self.plain(format!("{module}.sinks"), &[query_heads]);
        }
        let scales = match self.architecture.checkpoint.quantisation.kv_scales() {
            KvScales::None => return,
            KvScales::OnProjections => ["k_proj.k_scale", "v_proj.v_scale"],
            KvScales::OnAttention => ["k_scale", "v_scale"],
        };
        for scale in scales {
            self.tensor(format!("{module}.{scale}"), vec![], DType::F32);
        }
    }

    fn mla(&mut self, mla: &Mla, indexer: Option<&SparseIndexer>) {
        let Mla { query_heads, q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim } = *mla;
        let hidden_size = self.architecture.hidden_size;
        let query = query_heads * (qk_nope_head_dim + qk_rope_head_dim);
        match q_lora_rank {
            Some(rank) => {
                self.linear("self_attn.q_a_proj", rank, hidden_size, false);
                self.plain("self_attn.q_a_layernorm.weight", &[rank]);
                self.linear("self_attn.q_b_proj", query, rank, false);
            }
            None => self.linear("self_attn.q_proj", query, hidden_size, false),
        }
        self.linear("self_attn.kv_a_proj_with_mqa", kv_lora_rank + qk_rope_head_dim, hidden_size, false);
        self.plain("self_attn.kv_a_layernorm.weight", &[kv_lora_rank]);
        self.linear("self_attn.kv_b_proj", query_heads * (qk_nope_head_dim + v_head_dim), kv_lora_rank, false);
        self.linear("self_attn.o_proj", hidden_size, query_heads * v_head_dim, false);
        if self.extras.output_gate == OutputGate::PerValue {
            self.linear("self_attn.g_proj", query_heads * v_head_dim, hidden_size, false);
        }
        if let Some(indexer) = indexer {
            let SparseIndexer { heads, head_dim, .. } = *indexer;
            self.linear("self_attn.indexer.wq_b", heads * head_dim, q_lora_rank.unwrap_or(hidden_size), false);
            self.linear("self_attn.indexer.wk", head_dim, hidden_size, false);
            self.tensor("self_attn.indexer.k_norm.weight".to_owned(), vec![head_dim], DType::F32);
            self.tensor("self_attn.indexer.k_norm.bias".to_owned(), vec![head_dim], DType::F32);
            self.linear("self_attn.indexer.weights_proj", heads, hidden_size, false);
        }
    }

    /// DeepSeek-V4. The compressors of keys (a projection of the key and of its gate, and a position bias) are counted
    /// as vLLM builds them; the hyper-connections around the layer, a few thousand values, are not.
    fn compressed_sparse(&mut self, attention: &CompressedSparse) {
        let CompressedSparse { query_heads, head_dim, q_lora_rank, o_lora_rank, o_groups, indexer, compress_ratio } =
            *attention;
        let hidden_size = self.architecture.hidden_size;
        self.linear("attn.wq_a", q_lora_rank, hidden_size, false);
        self.plain("attn.q_norm.weight", &[q_lora_rank]);
        self.linear("attn.wq_b", query_heads * head_dim, q_lora_rank, false);
        self.linear("attn.wkv", head_dim, hidden_size, false);
        self.plain("attn.kv_norm.weight", &[head_dim]);
        self.linear("attn.wo_a", o_groups * o_lora_rank, query_heads * head_dim / o_groups, false);
        self.linear("attn.wo_b", hidden_size, o_groups * o_lora_rank, false);
        self.tensor("attn.attn_sink".to_owned(), vec![query_heads], DType::F32);
        if compress_ratio > 0 {
            self.plain("attn.compressor.wkv.weight", &[head_dim, hidden_size]);
            self.plain("attn.compressor.wgate.weight", &[head_dim, hidden_size]);
        }
        // Only the weakly compressed layers choose among their blocks.
        if compress_ratio == 4 {
            self.linear("attn.indexer.wq_b", indexer.heads * indexer.head_dim, q_lora_rank, false);
            self.linear("attn.indexer.weights_proj", indexer.heads, hidden_size, false);
            self.plain("attn.indexer.compressor.wkv.weight", &[indexer.head_dim, hidden_size]);
            self.plain("attn.indexer.compressor.wgate.weight", &[indexer.head_dim, hidden_size]);
        }
    }

    fn gated_delta_net(&mut self, linear: &GatedDeltaNet) {
        let GatedDeltaNet { key_heads, value_heads, key_head_dim, value_head_dim, conv_kernel, .. } = *linear;
        let hidden_size = self.architecture.hidden_size;
        let [key, value] = [key_heads * key_head_dim, value_heads * value_head_dim];
        if self.family.linear == LinearLayout::Fused {
            self.linear("linear_attn.in_proj_qkvz", 2 * key + 2 * value, hidden_size, false);
            self.linear("linear_attn.in_proj_ba", 2 * value_heads, hidden_size, false);
        } else {
            self.linear("linear_attn.in_proj_qkv", 2 * key + value, hidden_size, false);
            self.linear("linear_attn.in_proj_z", value, hidden_size, false);
            self.linear("linear_attn.in_proj_a", value_heads, hidden_size, false);
            self.linear("linear_attn.in_proj_b", value_heads, hidden_size, false);
        }
        self.plain("linear_attn.conv1d.weight", &[2 * key + value, 1, conv_kernel]);
        self.plain("linear_attn.dt_bias", &[value_heads]);
        // Qwen3.5 keeps what enters the recurrence in 32 bits.
        let dtype = if self.family.linear == LinearLayout::Fused { self.architecture.dtype } else { DType::F32 };
        self.tensor("linear_attn.A_log".to_owned(), vec![value_heads], dtype);
        self.tensor("linear_attn.norm.weight".to_owned(), vec![value_head_dim], dtype);
        self.linear("linear_attn.out_proj", hidden_size, value, false);
    }

    fn kda(&mut self, linear: &GatedDeltaNet) {
        let GatedDeltaNet { value_heads, value_head_dim, conv_kernel, .. } = *linear;
        let hidden_size = self.architecture.hidden_size;
        let inner = value_heads * value_head_dim;
        for name in ["q", "k", "v"] {
            self.linear(&format!("self_attn.{name}_proj"), inner, hidden_size, false);
            self.plain(format!("self_attn.{name}_conv1d.weight"), &[inner, 1, conv_kernel]);
        }
        self.linear("self_attn.f_a_proj", value_head_dim, hidden_size, false);
        self.linear("self_attn.f_b_proj", inner, value_head_dim, false);
        self.linear("self_attn.b_proj", value_heads, hidden_size, false);
        if self.extras.full_rank_gate {
            self.linear("self_attn.g_proj", inner, hidden_size, false);
        } else {
            self.linear("self_attn.g_a_proj", value_head_dim, hidden_size, false);
            self.linear("self_attn.g_b_proj", inner, value_head_dim, false);
        }
        self.tensor("self_attn.A_log".to_owned(), vec![1, 1, value_heads, 1], DType::F32);
        self.tensor("self_attn.dt_bias".to_owned(), vec![inner], DType::F32);
        self.plain("self_attn.o_norm.weight", &[value_head_dim]);
        self.linear("self_attn.o_proj", hidden_size, inner, false);
    }

    fn mamba(&mut self, mamba: &Mamba) {
        let Mamba { version, inner_size, heads, state_size, groups, conv_kernel, .. } = *mamba;
        let hidden_size = self.architecture.hidden_size;
        let bias = self.extras.mamba_bias;
        let module = if self.family.attention == "mixer" { "mixer" } else { "mamba" };
        let conv = if version == 1 { inner_size } else { inner_size + 2 * groups * state_size };
        let projected = if version == 1 { 2 * inner_size } else { inner_size + conv + heads };
        self.linear(&format!("{module}.in_proj"), projected, hidden_size, bias);
        self.plain(format!("{module}.conv1d.weight"), &[conv, 1, conv_kernel]);
        if self.extras.conv_bias {
            self.plain(format!("{module}.conv1d.bias"), &[conv]);
        }
        if version == 1 {
            let step_rank = hidden_size.div_ceil(16);
            self.linear(&format!("{module}.x_proj"), step_rank + 2 * state_size, inner_size, false);
            self.linear(&format!("{module}.dt_proj"), inner_size, step_rank, true);
            self.plain(format!("{module}.A_log"), &[inner_size, state_size]);
            self.plain(format!("{module}.D"), &[inner_size]);
        } else {
            for name in ["A_log", "D", "dt_bias"] {
                self.plain(format!("{module}.{name}"), &[heads]);
            }
            self.plain(format!("{module}.norm.weight"), &[inner_size]);
        }
        self.linear(&format!("{module}.out_proj"), hidden_size, inner_size, bias);
    }
}
