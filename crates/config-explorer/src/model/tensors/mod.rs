//! The tensors of an architecture, as a published checkpoint of its family stores them.
//!
//! In: an [`Architecture`]. Out: [`Weights`] with the module names, shapes and types that the safetensors headers of
//! such a checkpoint have, below the layer. Used where there are no headers, and checked against 43 headers in
//! `tests/conformance/models.rs`.

mod attention;
mod feed_forward;
mod mtp;
mod vision;

use super::checkpoint::{Extras, Family};
use super::{Architecture, DType, Layer, Part, TensorGroup, WeightFormat, Weights, WeightsSource};

impl Weights {
    /// The tensors that a checkpoint of this architecture holds. A head that is tied to the embedding is not stored.
    pub fn from_architecture(architecture: &Architecture) -> Self {
        let mut tensors = Tensors::new(architecture);
        tensors.embedding();
        for (index, layer) in architecture.layers.iter().enumerate() {
            tensors.enter(Part::Layer(index as u32), &format!("layers.{index}."));
            tensors.layer(layer);
        }
        tensors.enter(Part::FinalNorm, "");
        tensors.norm(tensors.family.final_norm);
        if !architecture.tied_embeddings {
            tensors.enter(Part::Head, "");
            let family = tensors.family;
            tensors.linear(family.head, architecture.vocab_size, architecture.hidden_size, family.head_bias);
        }
        tensors.mtp();
        if let Some(vision) = &architecture.vision {
            tensors.enter(Part::Encoder, "");
            tensors.vision(vision);
        }
        Self { source: WeightsSource::Architecture, groups: tensors.groups }
    }
}

/// The list being made, and where in the model it is.
struct Tensors<'a> {
    architecture: &'a Architecture,
    family: &'static Family,
    extras: &'a Extras,
    groups: Vec<TensorGroup>,
    part: Part,
    /// Path of the part in the checkpoint, to look up formats by.
    prefix: String,
    /// How many tensors are alike.
    count: u64,
}

impl<'a> Tensors<'a> {
    fn new(architecture: &'a Architecture) -> Self {
        let checkpoint = &architecture.checkpoint;
        Self {
            architecture,
            family: checkpoint.family,
            extras: &checkpoint.extras,
            groups: Vec::with_capacity(20 * (architecture.layers.len() + 2)),
            part: Part::Embedding,
            prefix: String::new(),
            count: 1,
        }
    }

    /// What follows belongs to this part, which the checkpoint stores under `prefix`.
    fn enter(&mut self, part: Part, prefix: &str) {
        self.part = part;
        prefix.clone_into(&mut self.prefix);
    }

    /// What `store` adds is there `count` times over (experts, layers of an encoder).
    fn repeated(&mut self, count: u64, store: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.count, count);
        store(self);
        self.count = before;
    }

    fn tensor(&mut self, module: String, shape: Vec<u64>, dtype: DType) {
        let bytes = shape.iter().product::<u64>() * dtype.bits().unwrap_or(0) / 8;
        self.groups.push(TensorGroup { part: self.part, module, shape, dtype, count: self.count, bytes });
    }

    /// A tensor of the model's own type.
    fn plain(&mut self, module: impl Into<String>, shape: &[u64]) {
        self.tensor(module.into(), shape.to_vec(), self.architecture.dtype);
    }

    /// A matrix of `rows` outputs and `columns` inputs, in whatever format the checkpoint keeps it.
    fn linear(&mut self, module: &str, rows: u64, columns: u64, bias: bool) {
        let format = self.format_of(module);
        format.tensors(rows, columns, self.architecture.dtype, |name, shape, dtype| {
            self.tensor(format!("{module}.{name}"), shape, dtype);
        });
        if bias {
            self.plain(format!("{module}.bias"), &[rows]);
        }
    }

    /// The format of a module of the current part.
    fn format_of(&self, module: &str) -> WeightFormat {
        let quantisation = &self.architecture.checkpoint.quantisation;
        if quantisation.method().is_none() {
            return WeightFormat::Plain;
        }
        quantisation.format_of(&format!("{}{module}", self.prefix))
    }

    /// A norm as wide as the model.
    fn norm(&mut self, module: &str) {
        let width = self.architecture.hidden_size;
        self.plain(format!("{module}.weight"), &[width]);
        if self.family.norm_bias {
            self.plain(format!("{module}.bias"), &[width]);
        }
    }

    fn embedding(&mut self) {
        let Architecture { vocab_size, hidden_size, .. } = *self.architecture;
        self.plain(format!("{}.weight", self.family.embedding), &[vocab_size, hidden_size]);
        if let Some((name, extra)) = self.family.position_embedding {
            self.plain(format!("{name}.weight"), &[self.extras.positions + extra, hidden_size]);
        }
        if let Some((rows, width)) = self.extras.per_layer_embedding {
            let width_of_all = width * self.architecture.layers.len() as u64;
            self.plain("embed_tokens_per_layer.weight", &[rows, width_of_all]);
            self.plain("per_layer_model_projection.weight", &[width_of_all, hidden_size]);
            self.plain("per_layer_projection_norm.weight", &[width]);
        }
    }

    fn layer(&mut self, layer: &Layer) {
        let Layer { attention, feed_forward } = layer;
        self.attention(attention);
        self.feed_forward(feed_forward);
        if let Some(scalar) = self.family.layer_scalar {
            self.plain(scalar, &[1]);
        }
        if let Some((_, width)) = self.extras.per_layer_embedding {
            let hidden_size = self.architecture.hidden_size;
            self.linear("per_layer_input_gate", width, hidden_size, false);
            self.linear("per_layer_projection", hidden_size, width, false);
            self.norm("post_per_layer_input_norm");
        }
    }
}

#[cfg(test)]
mod tests;
