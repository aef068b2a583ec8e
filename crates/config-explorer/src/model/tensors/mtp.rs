//! Tensors of multi-token-prediction (draft) layers.

use super::Tensors;
use crate::model::checkpoint::MtpLayout;
use crate::model::{Architecture, Part};

impl Tensors<'_> {
    /// The draft layers, where the family's checkpoints store them.
    pub(super) fn mtp(&mut self) {
        let Architecture { hidden_size, vocab_size, .. } = *self.architecture;
        let layers = self.architecture.layers.len();
        let count = self.architecture.mtp_layers.len();
        for (index, layer) in self.architecture.mtp_layers.iter().enumerate() {
            let part = Part::Mtp(index as u32);
            let join = |tensors: &mut Self, [embedding, hidden, projection]: [&str; 3]| {
                tensors.norm(embedding);
                tensors.norm(hidden);
                tensors.linear(projection, hidden_size, 2 * hidden_size, false);
            };
            match self.family.mtp {
                MtpLayout::Absent => return,
                MtpLayout::NextLayers => {
                    self.enter(part, &format!("layers.{}.", layers + index));
                    self.plain("embed_tokens.weight", &[vocab_size, hidden_size]);
                    join(self, ["enorm", "hnorm", "eh_proj"]);
                    self.norm("shared_head.norm");
                    self.linear("shared_head.head", vocab_size, hidden_size, false);
                }
                MtpLayout::Qwen => {
                    self.enter(part, &format!("mtp.layers.{index}."));
                    if index == 0 {
                        join(self, ["pre_fc_norm_embedding", "pre_fc_norm_hidden", "fc"]);
                        self.norm("norm");
                    }
                }
                MtpLayout::Nemotron => {
                    self.enter(part, &format!("mtp.layers.{index}."));
                    if index == 0 {
                        join(self, ["enorm", "hnorm", "eh_proj"]);
                    }
                    if index + 1 == count {
                        self.norm("final_layernorm");
                    }
                }
                MtpLayout::MiMo => {
                    self.enter(part, &format!("mtp.layers.{index}."));
                    join(self, ["token_layernorm", "hidden_layernorm", "input_proj"]);
                    self.norm("final_layernorm");
                }
            }
            self.layer(layer);
        }
    }
}
