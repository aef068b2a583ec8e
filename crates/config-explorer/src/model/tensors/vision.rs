//! Tensors of vision towers and of the projectors behind them.

use super::Tensors;
use crate::model::{Vision, VisionKind};

impl Tensors<'_> {
    /// A tower and its projector.
    pub(super) fn vision(&mut self, vision: &Vision) {
        match vision.kind {
            VisionKind::Siglip => self.siglip(vision),
            VisionKind::Pixtral => self.pixtral(vision),
            VisionKind::QwenVl | VisionKind::Qwen25Vl => self.qwen(vision),
            VisionKind::Llama4 => self.llama4(vision),
            VisionKind::Gemma4 => self.gemma4(vision),
            VisionKind::MoonVit => self.moonvit(vision),
        }
    }

    /// The blocks, under `module.*`: matrices as (name, outputs, inputs) and norms, all with biases or none.
    fn blocks(&mut self, vision: &Vision, module: &str, bias: bool, linears: &[(&str, u64, u64)], norms: &[&str]) {
        self.repeated(vision.layers, |tensors| {
            for (name, rows, columns) in linears {
                tensors.linear(&format!("{module}.*.{name}"), *rows, *columns, bias);
            }
            for name in norms {
                tensors.encoder_norm(&format!("{module}.*.{name}"), vision.hidden_size, bias);
            }
        });
    }

    fn encoder_norm(&mut self, module: &str, width: u64, bias: bool) {
        self.plain(format!("{module}.weight"), &[width]);
        if bias {
            self.plain(format!("{module}.bias"), &[width]);
        }
    }

    fn siglip(&mut self, vision: &Vision) {
        let Vision { hidden_size: width, intermediate_size: inner, patch_size, positions, output_size, .. } = *vision;
        let tower = "vision_tower.vision_model";
        self.plain(format!("{tower}.embeddings.patch_embedding.weight"), &[width, 3, patch_size, patch_size]);
        self.plain(format!("{tower}.embeddings.patch_embedding.bias"), &[width]);
        if positions > 0 {
            self.plain(format!("{tower}.embeddings.position_embedding.weight"), &[positions, width]);
        }
        let linears = [
            ("self_attn.q_proj", width, width),
            ("self_attn.k_proj", width, width),
            ("self_attn.v_proj", width, width),
            ("self_attn.out_proj", width, width),
            ("mlp.fc1", inner, width),
            ("mlp.fc2", width, inner),
        ];
        self.blocks(vision, &format!("{tower}.encoder.layers"), true, &linears, &["layer_norm1", "layer_norm2"]);
        self.encoder_norm(&format!("{tower}.post_layernorm"), width, true);
        self.plain("multi_modal_projector.mm_input_projection_weight", &[width, output_size]);
        self.plain("multi_modal_projector.mm_soft_emb_norm.weight", &[width]);
    }

    fn pixtral(&mut self, vision: &Vision) {
        let Vision { hidden_size: width, intermediate_size: inner, patch_size, merge_size, output_size, .. } = *vision;
        let heads = vision.heads * vision.head_dim;
        self.plain("vision_tower.ln_pre.weight", &[width]);
        self.plain("vision_tower.patch_conv.weight", &[width, 3, patch_size, patch_size]);
        let linears = [
            ("attention.q_proj", heads, width),
            ("attention.k_proj", heads, width),
            ("attention.v_proj", heads, width),
            ("attention.o_proj", width, heads),
            ("feed_forward.gate_proj", inner, width),
            ("feed_forward.up_proj", inner, width),
            ("feed_forward.down_proj", width, inner),
        ];
        self.blocks(vision, "vision_tower.transformer.layers", false, &linears, &["attention_norm", "ffn_norm"]);
        self.linear("multi_modal_projector.linear_1", output_size, width, false);
        self.linear("multi_modal_projector.linear_2", output_size, output_size, false);
        self.plain("multi_modal_projector.norm.weight", &[width]);
        let merged = width * merge_size * merge_size;
        self.linear("multi_modal_projector.patch_merger.merging_layer", width, merged, false);
    }

    fn qwen(&mut self, vision: &Vision) {
        let Vision { hidden_size: width, intermediate_size: inner, patch_size, positions, output_size, .. } = *vision;
        let older = vision.kind == VisionKind::Qwen25Vl;
        self.plain("visual.patch_embed.proj.weight", &[width, 3, vision.temporal_patch_size, patch_size, patch_size]);
        if positions > 0 {
            self.plain("visual.patch_embed.proj.bias", &[width]);
            self.plain("visual.pos_embed.weight", &[positions, width]);
        }
        let mut linears = vec![("attn.qkv", 3 * width, width), ("attn.proj", width, width)];
        if older {
            linears.extend([
                ("mlp.gate_proj", inner, width),
                ("mlp.up_proj", inner, width),
                ("mlp.down_proj", width, inner),
            ]);
        } else {
            linears.extend([("mlp.linear_fc1", inner, width), ("mlp.linear_fc2", width, inner)]);
        }
        let norms = ["norm1", "norm2"];
        self.blocks(vision, "visual.blocks", true, &linears, if older { &[] } else { &norms });
        if older {
            self.blocks(vision, "visual.blocks", false, &[], &norms);
        }
        let merged = width * vision.merge_size * vision.merge_size;
        self.qwen_merger("visual.merger", width, merged, output_size, !older);
        if vision.deepstack_layers > 0 {
            // The mergers of inner layers norm what they have merged.
            self.repeated(vision.deepstack_layers, |tensors| {
                tensors.qwen_merger("visual.deepstack_merger_list.*", merged, merged, output_size, true);
            });
        }
    }

    fn qwen_merger(&mut self, module: &str, norm: u64, merged: u64, output_size: u64, norm_bias: bool) {
        self.encoder_norm(&format!("{module}.norm"), norm, norm_bias);
        self.linear(&format!("{module}.linear_fc1"), merged, merged, true);
        self.linear(&format!("{module}.linear_fc2"), output_size, merged, true);
    }

    fn llama4(&mut self, vision: &Vision) {
        let Vision { hidden_size: width, intermediate_size: inner, patch_size, positions, output_size, .. } = *vision;
        self.plain("vision_model.class_embedding", &[width]);
        self.plain("vision_model.positional_embedding_vlm", &[positions, width]);
        self.plain("vision_model.patch_embedding.linear.weight", &[width, 3 * patch_size * patch_size]);
        for norm in ["vision_model.layernorm_pre", "vision_model.layernorm_post"] {
            self.encoder_norm(norm, width, true);
        }
        let linears = [
            ("self_attn.q_proj", width, width),
            ("self_attn.k_proj", width, width),
            ("self_attn.v_proj", width, width),
            ("self_attn.o_proj", width, width),
            ("mlp.fc1", inner, width),
            ("mlp.fc2", width, inner),
        ];
        let norms = ["input_layernorm", "post_attention_layernorm"];
        self.blocks(vision, "vision_model.model.layers", true, &linears, &norms);
        let merged = width * vision.merge_size * vision.merge_size;
        self.linear("vision_model.vision_adapter.mlp.fc1", vision.projector_size, merged, false);
        self.linear("vision_model.vision_adapter.mlp.fc2", vision.projector_size, vision.projector_size, false);
        self.linear("multi_modal_projector.linear_1", output_size, vision.projector_size, false);
    }

    fn gemma4(&mut self, vision: &Vision) {
        let Vision { hidden_size: width, intermediate_size: inner, patch_size, positions, output_size, .. } = *vision;
        self.plain("vision_tower.patch_embedder.input_proj.weight", &[width, 3 * patch_size * patch_size]);
        self.plain("vision_tower.patch_embedder.position_embedding_table", &[2, positions / 2, width]);
        let linears = [
            ("self_attn.q_proj.linear", width, width),
            ("self_attn.k_proj.linear", width, width),
            ("self_attn.v_proj.linear", width, width),
            ("self_attn.o_proj.linear", width, width),
            ("mlp.gate_proj.linear", inner, width),
            ("mlp.up_proj.linear", inner, width),
            ("mlp.down_proj.linear", width, inner),
        ];
        let norms =
            ["input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"];
        self.blocks(vision, "vision_tower.encoder.layers", false, &linears, &norms);
        self.repeated(vision.layers, |tensors| {
            for name in ["q_norm", "k_norm"] {
                tensors.plain(format!("vision_tower.encoder.layers.*.self_attn.{name}.weight"), &[vision.head_dim]);
            }
        });
        self.plain("vision_tower.std_bias", &[width]);
        self.plain("vision_tower.std_scale", &[width]);
        self.linear("embed_vision.embedding_projection", output_size, width, false);
    }

    fn moonvit(&mut self, vision: &Vision) {
        let Vision { hidden_size: width, intermediate_size: inner, patch_size, positions, output_size, biases, .. } =
            *vision;
        let heads = vision.heads * vision.head_dim;
        self.plain("vision_tower.patch_embed.proj.weight", &[width, 3, patch_size, patch_size]);
        if biases {
            self.plain("vision_tower.patch_embed.proj.bias", &[width]);
        }
        self.plain("vision_tower.patch_embed.pos_emb.weight", &[positions, width]);
        let linears =
            [("wqkv", 3 * heads, width), ("wo", width, heads), ("mlp.fc0", inner, width), ("mlp.fc1", width, inner)];
        self.blocks(vision, "vision_tower.encoder.blocks", biases, &linears, &["norm0", "norm1"]);
        self.encoder_norm("vision_tower.encoder.final_layernorm", width, biases);
        let merged = width * vision.merge_size * vision.merge_size;
        self.encoder_norm("mm_projector.pre_norm", width, true);
        self.linear("mm_projector.proj.0", merged, merged, true);
        self.linear("mm_projector.proj.2", output_size, merged, true);
    }
}
