//! How the weight of one linear layer is stored.

use crate::model::DType;

/// What one scale covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaling {
    /// The whole matrix.
    Tensor,
    /// One output row.
    Channel,
    /// This many inputs of one output row.
    Group(u64),
    /// A block of outputs x inputs.
    Block {
        /// Outputs of a block.
        rows: u64,
        /// Inputs of a block.
        columns: u64,
    },
}

impl Scaling {
    /// Shape of the scales of a `rows` x `columns` matrix.
    fn shape(self, rows: u64, columns: u64) -> Vec<u64> {
        match self {
            Self::Tensor => vec![],
            Self::Channel => vec![rows, 1],
            Self::Group(size) => vec![rows, columns.div_ceil(size)],
            Self::Block { rows: height, columns: width } => vec![rows.div_ceil(height), columns.div_ceil(width)],
        }
    }
}

/// Who wrote an NVFP4 checkpoint; the two name their tensors differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nvfp4Layout {
    /// NVIDIA Model Optimizer.
    ModelOpt,
    /// compressed-tensors (`nvfp4-pack-quantized`).
    CompressedTensors,
}

/// How the weight of one linear layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightFormat {
    /// In the model's own type.
    Plain,
    /// One 8-bit element per weight: FP8 (static, dynamic, block), INT8, MXFP8.
    Scaled {
        /// Type of the elements.
        element: DType,
        /// What a scale covers.
        scaling: Scaling,
        /// Type of the scales; `None`: the model's.
        scale_dtype: Option<DType>,
        /// The scales are stored inverted, as `weight_scale_inv`.
        inverse: bool,
        /// Activations have a stored scale.
        static_input: bool,
    },
    /// Integers packed into 32-bit words along the input (compressed-tensors `pack-quantized`).
    PackedInt {
        /// Bits of a weight.
        bits: u64,
        /// Inputs that share a scale; `None`: a row's.
        group_size: Option<u64>,
        /// Has zero points.
        zero_points: bool,
        /// Groups are in activation order, with an index per input.
        act_order: bool,
    },
    /// AWQ (`gemm` layout): packed along the output.
    Awq {
        /// Bits of a weight.
        bits: u64,
        /// Inputs that share a scale; `None`: all.
        group_size: Option<u64>,
        /// Has zero points.
        zero_points: bool,
    },
    /// GPTQ: packed along the input, with a group index per input.
    Gptq {
        /// Bits of a weight.
        bits: u64,
        /// Inputs that share a scale; `None`: all.
        group_size: Option<u64>,
    },
    /// NVFP4: two 4-bit floats a byte, an FP8 scale for 16 of them, a scale for the matrix.
    Nvfp4 {
        /// Who wrote it.
        layout: Nvfp4Layout,
        /// Activations have a stored scale (not in weight-only checkpoints).
        static_input: bool,
    },
    /// MXFP4: two 4-bit floats a byte, a power-of-two scale for 32 of them. `inverse_name` checkpoints (DeepSeek-V4)
    /// call the scale `scale`.
    Mxfp4,
    /// bitsandbytes: 4-bit (NF4 or FP4, blocks of 64).
    BitsAndBytes4 {
        /// The block scales are themselves quantised.
        double: bool,
    },
    /// bitsandbytes: `LLM.int8()`.
    BitsAndBytes8,
}

/// Inputs of an NVFP4 scale.
const NVFP4_GROUP: u64 = 16;
/// Inputs of an MX scale (OCP Microscaling Formats 1.0).
const MX_GROUP: u64 = 32;
/// Weights of a bitsandbytes block, and block scales of a nested one.
const BNB_BLOCK: u64 = 64;
const BNB_NESTED_BLOCK: u64 = 256;

impl WeightFormat {
    /// FP8 with one scale a matrix, made from a 16-bit checkpoint while loading.
    pub(super) const ONLINE_FP8: Self = Self::Scaled {
        element: DType::F8E4M3,
        scaling: Scaling::Tensor,
        scale_dtype: Some(DType::F32),
        inverse: false,
        static_input: false,
    };

    /// MXFP8: FP8 with a power-of-two scale for 32 inputs.
    pub(super) const MXFP8: Self = Self::Scaled {
        element: DType::F8E4M3,
        scaling: Scaling::Group(MX_GROUP),
        scale_dtype: Some(DType::U8),
        inverse: false,
        static_input: false,
    };

    /// Calls `store` with the name (below the module), shape and type of every tensor that holds a `rows` x `columns`
    /// (outputs x inputs) matrix of a model of type `dtype`.
    pub fn tensors(self, rows: u64, columns: u64, dtype: DType, mut store: impl FnMut(&'static str, Vec<u64>, DType)) {
        let groups = |size: Option<u64>| size.map_or(1, |size| columns.div_ceil(size));
        match self {
            Self::Plain => store("weight", vec![rows, columns], dtype),
            Self::Scaled { element, scaling, scale_dtype, inverse, static_input } => {
                store("weight", vec![rows, columns], element);
                let name = if inverse { "weight_scale_inv" } else { "weight_scale" };
                store(name, scaling.shape(rows, columns), scale_dtype.unwrap_or(dtype));
                if static_input {
                    store("input_scale", vec![], scale_dtype.unwrap_or(dtype));
                }
            }
            Self::PackedInt { bits, group_size, zero_points, act_order } => {
                store("weight_packed", vec![rows, words(columns, bits)], DType::I32);
                store("weight_scale", vec![rows, groups(group_size)], dtype);
                store("weight_shape", vec![2], DType::I32);
                if zero_points {
                    store("weight_zero_point", vec![words(rows, bits), groups(group_size)], DType::I32);
                }
                if act_order {
                    store("weight_g_idx", vec![columns], DType::I32);
                }
            }
            Self::Awq { bits, group_size, zero_points } => {
                store("qweight", vec![columns, words(rows, bits)], DType::I32);
                if zero_points {
                    store("qzeros", vec![groups(group_size), words(rows, bits)], DType::I32);
                }
                store("scales", vec![groups(group_size), rows], DType::F16);
            }
            Self::Gptq { bits, group_size } => {
                store("qweight", vec![words(columns, bits), rows], DType::I32);
                store("qzeros", vec![groups(group_size), words(rows, bits)], DType::I32);
                store("scales", vec![groups(group_size), rows], DType::F16);
                store("g_idx", vec![columns], DType::I32);
            }
            Self::Nvfp4 { layout, static_input } => {
                let (weight, matrix_scale, input_scale) = match layout {
                    Nvfp4Layout::ModelOpt => ("weight", "weight_scale_2", "input_scale"),
                    Nvfp4Layout::CompressedTensors => ("weight_packed", "weight_global_scale", "input_global_scale"),
                };
                store(weight, vec![rows, columns.div_ceil(2)], DType::U8);
                store("weight_scale", vec![rows, columns.div_ceil(NVFP4_GROUP)], DType::F8E4M3);
                store(matrix_scale, vec![], DType::F32);
                if static_input {
                    store(input_scale, vec![], DType::F32);
                }
            }
            Self::Mxfp4 => {
                store("weight_packed", vec![rows, columns.div_ceil(2)], DType::U8);
                store("weight_scale", vec![rows, columns.div_ceil(MX_GROUP)], DType::U8);
            }
            Self::BitsAndBytes4 { double } => {
                let elements = rows * columns;
                let blocks = elements.div_ceil(BNB_BLOCK);
                store("weight", vec![elements.div_ceil(2), 1], DType::U8);
                store("weight.absmax", vec![blocks], if double { DType::U8 } else { DType::F32 });
                store("weight.quant_map", vec![16], DType::F32);
                if double {
                    store("weight.nested_absmax", vec![blocks.div_ceil(BNB_NESTED_BLOCK)], DType::F32);
                    store("weight.nested_quant_map", vec![256], DType::F32);
                }
            }
            Self::BitsAndBytes8 => {
                store("weight", vec![rows, columns], DType::I8);
                store("SCB", vec![rows], DType::F32);
            }
        }
    }

    /// Stored bytes of a `rows` x `columns` matrix, scales included, of a model of type `dtype`.
    pub fn bytes(self, rows: u64, columns: u64, dtype: DType) -> u64 {
        let mut bytes = 0;
        self.tensors(rows, columns, dtype, |_, shape, dtype| {
            bytes += shape.iter().product::<u64>() * dtype.bits().unwrap_or(0) / 8;
        });
        bytes
    }

    /// Bits of one weight, without its share of the scales; `None`: those of the model's type.
    pub fn bits(self) -> Option<u64> {
        match self {
            Self::Plain => None,
            Self::Scaled { .. } | Self::BitsAndBytes8 => Some(8),
            Self::PackedInt { bits, .. } | Self::Awq { bits, .. } | Self::Gptq { bits, .. } => Some(bits),
            Self::Nvfp4 { .. } | Self::Mxfp4 | Self::BitsAndBytes4 { .. } => Some(4),
        }
    }

    /// Outputs that share a scale, of which a rank's share has to be a multiple.
    pub fn output_multiple(self) -> u64 {
        match self {
            Self::Scaled { scaling: Scaling::Block { rows, .. }, .. } => rows,
            _ => 1,
        }
    }

    /// Inputs that share a scale or a packed word, of which a rank's share has to be a multiple.
    pub fn input_multiple(self) -> u64 {
        match self {
            Self::Scaled { scaling: Scaling::Block { columns, .. }, .. } => columns,
            Self::Scaled { scaling: Scaling::Group(size), .. } => size,
            Self::Nvfp4 { .. } => NVFP4_GROUP,
            Self::PackedInt { bits, group_size, .. } | Self::Gptq { bits, group_size } => {
                group_size.unwrap_or(32 / bits.clamp(1, 32))
            }
            Self::Awq { group_size, .. } => group_size.unwrap_or(1),
            // Kernels pad MXFP4; the others have no groups along the inputs.
            Self::Plain | Self::Scaled { .. } | Self::Mxfp4 | Self::BitsAndBytes4 { .. } | Self::BitsAndBytes8 => 1,
        }
    }
}

/// 32-bit words that hold `count` values of `bits` bits.
fn words(count: u64, bits: u64) -> u64 {
    (count * bits).div_ceil(32)
}
