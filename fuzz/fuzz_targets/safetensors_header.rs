//! The JSON header of a safetensors file: read or refused, and no sum of it overflows.

#![no_main]

use config_explorer::model::{Weights, WeightsSource, safetensors};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = safetensors::header_length(bytes, "fuzz");
    if let Ok(tensors) = safetensors::parse_header(bytes, "fuzz") {
        let weights = Weights { source: WeightsSource::Safetensors, groups: tensors.groups(1) };
        weights.bytes();
        weights.elements_by_dtype();
    }
});
