//! Tensors of the channel mixers.

use super::Tensors;
use crate::model::checkpoint::Experts;
use crate::model::{DType, FeedForward, Moe, WeightFormat};

impl Tensors<'_> {
    /// A feed-forward with its norms.
    pub(super) fn feed_forward(&mut self, feed_forward: &FeedForward) {
        match feed_forward {
            FeedForward::None => return,
            FeedForward::Projection => {
                let width = self.architecture.hidden_size;
                self.linear("mlp.linear_mlp", width, width, false);
            }
            FeedForward::Dense { intermediate_size, gated } => {
                let [gate, up, down] = self.family.mlp;
                self.mlp([gate, up, down], *intermediate_size, *gated);
            }
            FeedForward::Moe(moe) => {
                self.moe(moe);
                for norm in self.family.moe_norms {
                    self.norm(norm);
                }
            }
        }
        for norm in self.family.feed_forward_norms {
            self.norm(norm);
        }
    }

    fn mlp(&mut self, [gate, up, down]: [&str; 3], intermediate_size: u64, gated: bool) {
        let hidden_size = self.architecture.hidden_size;
        let bias = self.extras.mlp_bias;
        if let Some(gate_up) = self.family.gate_up {
            self.linear(gate_up, 2 * intermediate_size, hidden_size, bias);
        } else {
            if gated {
                self.linear(gate, intermediate_size, hidden_size, bias);
            }
            self.linear(up, intermediate_size, hidden_size, bias);
        }
        self.linear(down, hidden_size, intermediate_size, bias);
    }

    fn moe(&mut self, moe: &Moe) {
        let hidden_size = self.architecture.hidden_size;
        let family = self.family;
        match family.router_dtype {
            Some(dtype) => self.tensor(format!("{}.weight", family.router), vec![moe.experts, hidden_size], dtype),
            None => self.linear(family.router, moe.experts, hidden_size, family.moe_bias),
        }
        if self.extras.correction_bias {
            self.tensor(family.correction_bias.to_owned(), vec![moe.experts], DType::F32);
        }
        if let Some([scale, expert_scale]) = family.router_scales {
            self.plain(scale, &[hidden_size]);
            self.plain(expert_scale, &[moe.experts]);
        }
        if moe.expert_hidden_size != hidden_size {
            let [into, back] = family.latent;
            self.linear(into, moe.expert_hidden_size, hidden_size, false);
            self.linear(back, hidden_size, moe.expert_hidden_size, false);
        }
        self.experts(moe);
        if moe.shared_intermediate_size > 0 {
            let [gate, up, down] = family.shared_names.map(|name| format!("{}.{name}", family.shared));
            self.mlp([&gate, &up, &down], moe.shared_intermediate_size, moe.gated);
            if let Some(gate) = family.shared_gate {
                self.linear(gate, 1, hidden_size, false);
            }
        }
    }

    fn experts(&mut self, moe: &Moe) {
        let Moe { experts, intermediate_size, expert_hidden_size, gated, .. } = *moe;
        let gate_up = if gated { 2 * intermediate_size } else { intermediate_size };
        match self.family.experts {
            Experts::Separate { module, names } => self.separate_experts(moe, module, names),
            Experts::Stacked { names: [gate, up, down] } => {
                let projections = [
                    (gate, intermediate_size, expert_hidden_size),
                    (up, intermediate_size, expert_hidden_size),
                    (down, expert_hidden_size, intermediate_size),
                ];
                for (name, rows, columns) in projections {
                    if gated || name != gate {
                        self.stacked(name, experts, rows, columns);
                    }
                }
            }
            Experts::Fused { module, gate_up: up_name, down, inputs_first } => match self.format_of(up_name) {
                WeightFormat::Plain => {
                    let shape =
                        |rows, columns| if inputs_first { [experts, columns, rows] } else { [experts, rows, columns] };
                    self.plain(up_name, &shape(gate_up, expert_hidden_size));
                    self.plain(down, &shape(expert_hidden_size, intermediate_size));
                    self.expert_biases(&[(up_name, gate_up), (down, expert_hidden_size)], experts);
                }
                WeightFormat::Mxfp4 => {
                    for (name, rows, columns) in
                        [(up_name, gate_up, expert_hidden_size), (down, expert_hidden_size, intermediate_size)]
                    {
                        let blocks = columns.div_ceil(32);
                        self.tensor(format!("{name}_blocks"), vec![experts, rows, blocks, 16], DType::U8);
                        self.tensor(format!("{name}_scales"), vec![experts, rows, blocks], DType::U8);
                    }
                    self.expert_biases(&[(up_name, gate_up), (down, expert_hidden_size)], experts);
                }
                _ => self.separate_experts(moe, module, ["gate_proj", "up_proj", "down_proj"]),
            },
        }
    }

    fn separate_experts(&mut self, moe: &Moe, module: &str, [gate, up, down]: [&str; 3]) {
        let Moe { experts, intermediate_size, expert_hidden_size, gated, .. } = *moe;
        let bias = self.family.moe_bias;
        self.repeated(experts, |tensors| {
            if gated {
                tensors.linear(&format!("{module}.*.{gate}"), intermediate_size, expert_hidden_size, bias);
            }
            tensors.linear(&format!("{module}.*.{up}"), intermediate_size, expert_hidden_size, bias);
            tensors.linear(&format!("{module}.*.{down}"), expert_hidden_size, intermediate_size, bias);
        });
    }

    /// A projection of all experts in one tensor; its scales, if it is quantised, likewise.
    fn stacked(&mut self, module: &str, experts: u64, rows: u64, columns: u64) {
        let format = self.format_of(module);
        format.tensors(rows, columns, self.architecture.dtype, |name, mut shape, dtype| {
            shape.insert(0, experts);
            self.tensor(format!("{module}.{name}"), shape, dtype);
        });
    }

    fn expert_biases(&mut self, modules: &[(&str, u64)], experts: u64) {
        if self.family.moe_bias {
            for (module, rows) in modules {
                self.plain(format!("{module}_bias"), &[experts, *rows]);
            }
        }
    }
}
