//! The number format in which a linear layer computes.

use serde::{Deserialize, Serialize};

use crate::hardware::Accelerator;
use crate::model::{DType, Scaling, WeightFormat};

/// Number format of a linear layer: what its weights take in memory and which units of the device multiply them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// 16 bits.
    Bf16,
    /// 8 bits, one scale per matrix or row (INT8 with 8-bit activations counts as this).
    Fp8,
    /// 8 bits, one scale per block of 128 x 128.
    Fp8Block,
    /// 4-bit floats with a scale per 16 weights, 4-bit activations.
    Nvfp4,
    /// 4-bit floats with a scale per 32 weights.
    Mxfp4,
    /// 4-bit integers, computed in 16 bits.
    Int4,
}

impl Format {
    /// The format that a stored weight computes in.
    pub fn of_weight(format: WeightFormat) -> Self {
        match format {
            WeightFormat::Plain => Self::Bf16,
            WeightFormat::Scaled { scaling: Scaling::Block { .. } | Scaling::Group(_), element, .. }
                if element != DType::I8 =>
            {
                Self::Fp8Block
            }
            WeightFormat::Scaled { .. } | WeightFormat::BitsAndBytes8 => Self::Fp8,
            WeightFormat::PackedInt { bits, .. } | WeightFormat::Awq { bits, .. } | WeightFormat::Gptq { bits, .. } => {
                if bits > 4 {
                    Self::Fp8
                } else {
                    Self::Int4
                }
            }
            WeightFormat::Nvfp4 { .. } => Self::Nvfp4,
            WeightFormat::Mxfp4 => Self::Mxfp4,
            WeightFormat::BitsAndBytes4 { .. } => Self::Int4,
        }
    }

    /// Bytes of a weight, its share of the scales included.
    pub fn weight_bytes(self) -> f64 {
        match self {
            Self::Bf16 => 2.0,
            Self::Fp8 => 1.0,
            // An FP32 scale for 128 x 128 weights.
            Self::Fp8Block => 1.0 + 4.0 / (128.0 * 128.0),
            // An FP8 scale for 16 weights.
            Self::Nvfp4 => 0.5 + 1.0 / 16.0,
            // An 8-bit scale for 32 weights; 16 bits for groups of 64 to 128 integers are as much or less.
            Self::Mxfp4 | Self::Int4 => 0.5 + 1.0 / 32.0,
        }
    }

    /// Bytes of an activation as it is read by the multiplication.
    pub(super) fn activation_bytes(self) -> f64 {
        match self {
            Self::Bf16 | Self::Mxfp4 | Self::Int4 => 2.0,
            Self::Fp8 | Self::Fp8Block | Self::Nvfp4 => 1.0,
        }
    }

    /// Dense peak of the units that compute it, FLOP per us. What a device has no units for is computed in 16 bits.
    pub(super) fn peak(self, accelerator: &Accelerator) -> f64 {
        let sixteen_bit = accelerator.peak_bf16_tflops.or(accelerator.peak_fp16_tflops);
        let tflops = match self {
            Self::Bf16 | Self::Int4 => None,
            Self::Fp8 | Self::Fp8Block => accelerator.peak_fp8_tflops,
            Self::Nvfp4 => accelerator.peak_fp4_tflops,
            // Devices with 4-bit units multiply MXFP4 weights with 8-bit activations (vLLM's default, W4A8).
            Self::Mxfp4 => accelerator.peak_fp4_tflops.and(accelerator.peak_fp8_tflops),
        };
        // Every row of the table of accelerators has a 16-bit peak (its tests check it); a user's row may not, and then
        // memory is all that binds.
        tflops.or(sixteen_bit).unwrap_or(f64::MAX / 1e12) * 1e6
    }

    /// Formats whose measured efficiency stands in, in order of likeness.
    pub(super) fn stand_ins(self) -> &'static [Self] {
        match self {
            Self::Bf16 => &[Self::Bf16],
            Self::Fp8 => &[Self::Fp8, Self::Fp8Block, Self::Bf16],
            Self::Fp8Block => &[Self::Fp8Block, Self::Fp8, Self::Bf16],
            Self::Nvfp4 => &[Self::Nvfp4, Self::Fp8Block, Self::Fp8, Self::Bf16],
            Self::Mxfp4 => &[Self::Mxfp4, Self::Int4, Self::Bf16],
            Self::Int4 => &[Self::Int4, Self::Mxfp4, Self::Bf16],
        }
    }
}
