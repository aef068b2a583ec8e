//! The weights that one rank holds, as the engine loads them.
//!
//! vLLM builds its own parameters (query, key and value in one matrix, all experts in one tensor) in the compute type and
//! copies the checkpoint's tensors into them; what a rank then has allocated is the sum of these parameters, each rounded
//! as [`CachingAllocator`] does, and the tables of the rotary embedding.

use std::collections::HashMap;
use std::ops::Range;

use super::PlanRequest;
use super::allocator::CachingAllocator;
use crate::engine::{Mxfp4Padding, Speculative};
use crate::model::{
    Architecture, DType, FeedForward, Part, Quantisation, RankSplit, TensorGroup, WeightFormat, rank_bytes,
};
use crate::units::gib;

/// Weights of one rank of a pipeline stage.
#[derive(Debug)]
pub(super) struct RankWeights {
    /// What is allocated.
    pub bytes: u64,
    /// What of it is rounding.
    pub rounding_bytes: u64,
    /// By part of the model.
    pub parts: Vec<WeightPart>,
}

/// Weights of one part of the model on one rank.
#[derive(Debug)]
pub(super) struct WeightPart {
    pub name: &'static str,
    pub arithmetic: String,
    pub bytes: u64,
}

/// A parameter of the engine, summed over the tensors that are copied into it.
struct Parameter {
    kind: Kind,
    bytes: u64,
}

/// Parts of the model that the explanation tells apart, in the order in which they are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Embedding,
    Attention,
    FeedForward,
    Experts,
    Norms,
    Head,
    Drafts,
    Encoder,
    Rotary,
}

impl Kind {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Embedding, "embedding"),
        (Self::Attention, "attention"),
        (Self::FeedForward, "feed-forward"),
        (Self::Experts, "experts"),
        (Self::Norms, "norms and routers"),
        (Self::Head, "head"),
        (Self::Drafts, "draft layers"),
        (Self::Encoder, "encoder"),
        (Self::Rotary, "rotary tables"),
    ];

    fn of(group: &TensorGroup) -> Self {
        match group.part {
            Part::Embedding => Self::Embedding,
            Part::Head => Self::Head,
            Part::FinalNorm => Self::Norms,
            Part::Mtp(_) => Self::Drafts,
            Part::Encoder => Self::Encoder,
            Part::Layer(_) if group.module.contains("experts.") => Self::Experts,
            Part::Layer(_) if ["norm", "gate.", "router"].iter().any(|name| group.module.contains(name)) => Self::Norms,
            Part::Layer(_) if ["mlp", "feed_forward", "ffn", "moe"].iter().any(|name| group.module.contains(name)) => {
                Self::FeedForward
            }
            Part::Layer(_) => Self::Attention,
        }
    }
}

/// Weights of one rank of a stage: the one with most experts.
pub(super) fn stage_weights(request: &PlanRequest<'_>, stage: usize, layers: Range<usize>) -> RankWeights {
    let PlanRequest { model, settings, parallelism, .. } = request;
    let architecture = &model.architecture;
    let (first, last) = (stage == 0, stage + 1 == parallelism.pipeline() as usize);
    let split = RankSplit {
        tensor_parallel: parallelism.tensor().into(),
        expert_parallel: parallelism.expert_ranks().into(),
        encoder_data_parallel: false,
    };
    let drafts = settings.speculative.as_ref().is_some_and(Speculative::uses_mtp_layers);
    let is_loaded = |group: &&TensorGroup| match group.part {
        Part::Embedding => first || (last && (architecture.tied_embeddings || drafts)),
        Part::Layer(layer) => layers.contains(&(layer as usize)),
        Part::FinalNorm => last,
        // A stored copy of a tied head is not loaded.
        Part::Head => last && !architecture.tied_embeddings,
        Part::Mtp(_) => last && drafts,
        Part::Encoder => !settings.language_model_only,
    };
    let loading = Loading::new(request);
    let mut order: Vec<(Part, String)> = Vec::new();
    let mut parameters: HashMap<(Part, String), Parameter> = HashMap::new();
    for group in model.weights.groups.iter().filter(is_loaded) {
        let Some(bytes) = loading.loaded_bytes(group, rank_bytes(group, architecture, split)) else { continue };
        let key = (group.part, parameter_name(&group.module));
        let parameter = parameters.entry(key.clone()).or_insert_with(|| {
            order.push(key);
            Parameter { kind: Kind::of(group), bytes: 0 }
        });
        parameter.bytes += bytes;
    }
    let rotary = rotary_bytes(architecture, settings.dtype);
    // Headers list tensors in any order; the engine builds its parameters part by part.
    order.sort_by_key(|(part, _)| *part);
    let parameters: Vec<&Parameter> = order.iter().map(|key| &parameters[key]).collect();

    let mut allocator = CachingAllocator::default();
    let mut by_kind = [0_u64; Kind::ALL.len()];
    for parameter in &parameters {
        allocator.allocate(parameter.bytes);
        by_kind[parameter.kind as usize] += parameter.bytes;
    }
    for table in rotary {
        allocator.allocate(table);
        by_kind[Kind::Rotary as usize] += table;
    }
    let bytes = allocator.allocated_bytes();
    RankWeights {
        bytes,
        rounding_bytes: bytes - by_kind.iter().sum::<u64>(),
        parts: parts(request, by_kind, layers.len()),
    }
}

/// The parts that are there, with what they are a share of.
fn parts(request: &PlanRequest<'_>, by_kind: [u64; Kind::ALL.len()], stage_layers: usize) -> Vec<WeightPart> {
    let mut stored = [0_u64; Kind::ALL.len()];
    for group in &request.model.weights.groups {
        stored[Kind::of(group) as usize] += group.count * group.bytes;
    }
    let parallelism = request.parallelism;
    Kind::ALL
        .into_iter()
        .zip(by_kind)
        .filter(|(_, bytes)| *bytes > 0)
        .map(|((kind, name), bytes)| {
            let share = match kind {
                Kind::Rotary => "cosines and sines of every position".to_owned(),
                Kind::Experts if parallelism.expert_ranks() > 1 => {
                    format!("share of EP {} in {stage_layers} layers", parallelism.expert_ranks())
                }
                Kind::Attention | Kind::FeedForward | Kind::Experts | Kind::Norms => {
                    format!("share of TP {} in {stage_layers} layers", parallelism.tensor())
                }
                _ => format!("share of TP {}", parallelism.tensor()),
            };
            let arithmetic = match kind {
                Kind::Rotary => share,
                _ => format!("{:.3} GiB in the checkpoint; {share}", gib(stored[kind as usize])),
            };
            WeightPart { name, arithmetic, bytes }
        })
        .collect()
}

/// How the checkpoint's tensors change while they are loaded.
struct Loading<'a> {
    dtype: DType,
    quantisation: Option<&'a Quantisation>,
    mxfp4: Option<Mxfp4Layout<'a>>,
}

/// What the MXFP4 kernels of a device make of the experts.
struct Mxfp4Layout<'a> {
    padding: &'a Mxfp4Padding,
    hidden_size: u64,
    /// Inner width of an expert on this rank.
    intermediate_size: u64,
}

impl<'a> Loading<'a> {
    fn new(request: &'a PlanRequest<'_>) -> Self {
        let PlanRequest { model, rules, settings, parallelism, .. } = request;
        let split = if parallelism.experts_spread() { 1 } else { u64::from(parallelism.tensor()) };
        let moe = model.architecture.layers.iter().find_map(|layer| match layer.feed_forward {
            FeedForward::Moe(moe) => Some(moe),
            _ => None,
        });
        let padding = rules.mxfp4_padding(&request.accelerator.architecture);
        Self {
            dtype: settings.dtype,
            quantisation: settings.load_quantization.as_ref(),
            mxfp4: moe.zip(padding).map(|(moe, padding)| Mxfp4Layout {
                padding,
                hidden_size: moe.expert_hidden_size,
                intermediate_size: moe.intermediate_size.div_ceil(split),
            }),
        }
    }

    /// Bytes that `stored` bytes of a group take once they are loaded; `None` for tensors that are not kept.
    fn loaded_bytes(&self, group: &TensorGroup, stored: u64) -> Option<u64> {
        let module = group.module.as_str();
        if ["weight_shape", "rotary_emb.inv_freq"].iter().any(|name| module.ends_with(name)) {
            return None;
        }
        if let Some(format) = self.load_format(group) {
            return Some(scaled(stored, matrix_bytes(format, group, self.dtype), group.bytes));
        }
        if let Some(mxfp4) = &self.mxfp4
            && let Some(bytes) = mxfp4.loaded_bytes(module, stored)
        {
            return Some(bytes);
        }
        let keeps_type = ["scale", "scale_inv", "A_log", "correction_bias"].iter().any(|name| module.ends_with(name));
        match (group.dtype, keeps_type) {
            (DType::F64 | DType::F32 | DType::F16 | DType::BF16, false) => {
                Some(scaled(stored, self.dtype.bits()?, group.dtype.bits()?))
            }
            _ => Some(stored),
        }
    }

    /// Format into which a matrix is quantised while it is loaded.
    fn load_format(&self, group: &TensorGroup) -> Option<WeightFormat> {
        let quantisation = self.quantisation?;
        let matrix = group.module.strip_suffix(".weight").or_else(|| {
            // Experts that are one tensor have no `.weight`.
            (group.shape.len() == 3 && group.module.contains("experts.")).then_some(group.module.as_str())
        })?;
        let path = match group.part {
            Part::Layer(layer) => format!("layers.{layer}.{matrix}"),
            Part::Mtp(_) | Part::Embedding | Part::FinalNorm | Part::Head | Part::Encoder => return None,
        };
        let is_matrix = group.shape.len() >= 2 && !module_is_convolution(matrix);
        Some(quantisation.format_of(&path)).filter(|format| is_matrix && *format != WeightFormat::Plain)
    }
}

fn module_is_convolution(module: &str) -> bool {
    module.ends_with("conv1d")
}

/// Bytes of one tensor of the group in another format.
fn matrix_bytes(format: WeightFormat, group: &TensorGroup, dtype: DType) -> u64 {
    let [matrices @ .., rows, columns] = group.shape.as_slice() else { return group.bytes };
    matrices.iter().product::<u64>() * format.bytes(*rows, *columns, dtype)
}

/// `bytes` x `numerator` / `denominator`, rounded up.
fn scaled(bytes: u64, numerator: u64, denominator: u64) -> u64 {
    let scaled = (u128::from(bytes) * u128::from(numerator)).div_ceil(u128::from(denominator.max(1)));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

impl Mxfp4Layout<'_> {
    /// Bytes of a tensor of MXFP4 experts as the kernels want it; `None` for any other tensor.
    fn loaded_bytes(&self, module: &str, stored: u64) -> Option<u64> {
        let tensor = module.rsplit('.').next().filter(|_| module.contains("experts."))?;
        let (matrix, what) = tensor.rsplit_once('_')?;
        let Mxfp4Padding { hidden_multiple, intermediate_multiple, outputs_padded, scales_padded, bias_bytes, .. } =
            *self.padding;
        let hidden = (self.hidden_size, self.hidden_size.next_multiple_of(hidden_multiple));
        let intermediate = (self.intermediate_size, self.intermediate_size.next_multiple_of(intermediate_multiple));
        let (inputs, outputs) = match matrix {
            "gate_up_proj" => (hidden, intermediate),
            "down_proj" => (intermediate, hidden),
            _ => return None,
        };
        let padded_outputs = if outputs_padded { outputs } else { (1, 1) };
        let padded = |bytes, (size, padded): (u64, u64)| scaled(bytes, padded, size);
        match what {
            "blocks" => Some(padded(padded(stored, inputs), padded_outputs)),
            "scales" if scales_padded => Some(padded(padded(stored, inputs), padded_outputs)),
            "scales" => Some(stored),
            // Stored in 16 bits.
            "bias" => Some(padded(stored * bias_bytes / 2, padded_outputs)),
            _ => None,
        }
    }
}

/// The engine's parameter that a checkpoint's tensor is copied into.
fn parameter_name(module: &str) -> String {
    /// What is merged, by the last component of the module or the one before it.
    const MERGED: [(&[&str], &str); 7] = [
        (&["q_proj", "k_proj", "v_proj"], "qkv_proj"),
        (&["gate_proj", "up_proj"], "gate_up_proj"),
        (&["w1", "w3"], "gate_up_proj"),
        (&["w2"], "down_proj"),
        (&["q_a_proj", "kv_a_proj_with_mqa"], "fused_qkv_a_proj"),
        (&["in_proj_qkv", "in_proj_z"], "in_proj_qkvz"),
        (&["in_proj_a", "in_proj_b"], "in_proj_ba"),
    ];
    module
        .split('.')
        .map(|component| {
            let merged = MERGED.iter().find(|(components, _)| components.contains(&component));
            merged.map_or(component, |(_, name)| *name)
        })
        .collect::<Vec<_>>()
        .join(".")
}

/// Bytes of each table of cosines and sines, in the compute type; every rank holds them whole (vLLM
/// `layers/rotary_embedding/base.py`).
fn rotary_bytes(architecture: &Architecture, dtype: DType) -> impl Iterator<Item = u64> {
    let element_bytes = dtype.bits().unwrap_or(16) / 8;
    architecture.rotary.iter().map(move |table| table.positions * table.width * element_bytes)
}
