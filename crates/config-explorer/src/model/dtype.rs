//! Element types of tensors, as safetensors headers spell them.

use super::gguf::GgmlType;

/// Element type of a stored tensor.
///
/// The names are those of safetensors headers. `Other` is a type this program does not know: its tensors still count
/// with the bytes that the header's `data_offsets` give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each name is the type")]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    F8E4M3,
    F8E5M2,
    F8E8M0,
    F4,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
    /// A block type of a GGUF file.
    Ggml(GgmlType),
    Other,
}

impl DType {
    /// The type by its name in a safetensors header.
    pub fn from_safetensors(name: &str) -> Self {
        match name {
            "F64" => Self::F64,
            "F32" => Self::F32,
            "F16" => Self::F16,
            "BF16" => Self::BF16,
            "F8_E4M3" => Self::F8E4M3,
            "F8_E5M2" => Self::F8E5M2,
            "F8_E8M0" => Self::F8E8M0,
            "F4" => Self::F4,
            "I64" => Self::I64,
            "I32" => Self::I32,
            "I16" => Self::I16,
            "I8" => Self::I8,
            "U64" => Self::U64,
            "U32" => Self::U32,
            "U16" => Self::U16,
            "U8" => Self::U8,
            "BOOL" => Self::Bool,
            _ => Self::Other,
        }
    }

    /// The name in a safetensors header (`OTHER` for an unknown type), or llama.cpp's name of a block type.
    pub fn safetensors_name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::F8E4M3 => "F8_E4M3",
            Self::F8E5M2 => "F8_E5M2",
            Self::F8E8M0 => "F8_E8M0",
            Self::F4 => "F4",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U64 => "U64",
            Self::U32 => "U32",
            Self::U16 => "U16",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
            Self::Ggml(block) => block.name(),
            Self::Other => "OTHER",
        }
    }

    /// The type by its name in `config.json` (`torch_dtype`/`dtype`) or in vLLM's `--dtype`: `bfloat16`, `torch.float16`,
    /// `half`, …
    pub fn from_torch(name: &str) -> Option<Self> {
        Some(match name.trim().trim_start_matches("torch.") {
            "float64" | "double" => Self::F64,
            "float32" | "float" => Self::F32,
            "float16" | "half" => Self::F16,
            "bfloat16" => Self::BF16,
            "float8_e4m3fn" | "fp8" | "fp8_e4m3" => Self::F8E4M3,
            "float8_e5m2" | "fp8_e5m2" => Self::F8E5M2,
            _ => return None,
        })
    }

    /// The name that torch and vLLM use.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F64 => "float64",
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::F8E4M3 => "float8_e4m3fn",
            Self::F8E5M2 => "float8_e5m2",
            other => other.safetensors_name(),
        }
    }

    /// Bits of one element; `None` for an unknown type, and for a block type, whose elements share their scale.
    pub fn bits(self) -> Option<u64> {
        Some(match self {
            Self::F64 | Self::I64 | Self::U64 => 64,
            Self::F32 | Self::I32 | Self::U32 => 32,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 16,
            Self::F8E4M3 | Self::F8E5M2 | Self::F8E8M0 | Self::I8 | Self::U8 | Self::Bool => 8,
            Self::F4 => 4,
            Self::Ggml(_) | Self::Other => return None,
        })
    }
}
