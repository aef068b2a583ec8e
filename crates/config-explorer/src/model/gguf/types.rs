//! Element types of GGUF files.
//!
//! Numbers, block sizes and block bytes are those of `GGML_QUANT_SIZES` in llama.cpp's `gguf-py/gguf/constants.py`
//! (commit 0024aa7).

use crate::model::DType;

/// A type that stores a block of elements together, with scales that they share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GgmlType {
    name: &'static str,
}

impl GgmlType {
    /// llama.cpp's name, e.g. `Q4_K`.
    pub fn name(self) -> &'static str {
        self.name
    }
}

/// How a tensor's elements are stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage {
    pub(super) dtype: DType,
    /// Elements of a block.
    pub(super) block_elements: u64,
    /// Bytes of a block.
    pub(super) block_bytes: u64,
}

/// The storage by its number in a GGUF file; `None` for numbers that no version uses.
pub(super) fn storage(number: u32) -> Option<Storage> {
    let plain = |dtype: DType, bytes| Storage { dtype, block_elements: 1, block_bytes: bytes };
    let block = |name, block_elements, block_bytes| Storage {
        dtype: DType::Ggml(GgmlType { name }),
        block_elements,
        block_bytes,
    };
    Some(match number {
        0 => plain(DType::F32, 4),
        1 => plain(DType::F16, 2),
        2 => block("Q4_0", 32, 18),
        3 => block("Q4_1", 32, 20),
        6 => block("Q5_0", 32, 22),
        7 => block("Q5_1", 32, 24),
        8 => block("Q8_0", 32, 34),
        9 => block("Q8_1", 32, 40),
        10 => block("Q2_K", 256, 84),
        11 => block("Q3_K", 256, 110),
        12 => block("Q4_K", 256, 144),
        13 => block("Q5_K", 256, 176),
        14 => block("Q6_K", 256, 210),
        15 => block("Q8_K", 256, 292),
        16 => block("IQ2_XXS", 256, 66),
        17 => block("IQ2_XS", 256, 74),
        18 => block("IQ3_XXS", 256, 98),
        19 => block("IQ1_S", 256, 50),
        20 => block("IQ4_NL", 32, 18),
        21 => block("IQ3_S", 256, 110),
        22 => block("IQ2_S", 256, 82),
        23 => block("IQ4_XS", 256, 136),
        24 => plain(DType::I8, 1),
        25 => plain(DType::I16, 2),
        26 => plain(DType::I32, 4),
        27 => plain(DType::I64, 8),
        28 => plain(DType::F64, 8),
        29 => block("IQ1_M", 256, 56),
        30 => plain(DType::BF16, 2),
        34 => block("TQ1_0", 256, 54),
        35 => block("TQ2_0", 256, 66),
        39 => block("MXFP4", 32, 17),
        40 => block("NVFP4", 64, 36),
        41 => block("Q1_0", 128, 18),
        _ => return None,
    })
}
