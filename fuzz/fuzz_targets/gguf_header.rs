//! The header of a GGUF file, and the config and tensors made of it: read or refused, and no sum overflows.

#![no_main]

use config_explorer::model::{Weights, WeightsSource, gguf};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = gguf::parse_header(bytes, "fuzz")
        && let Ok(model) = gguf::from_headers([header], "fuzz")
    {
        let weights = Weights { source: WeightsSource::Gguf, groups: model.tensors.groups(1) };
        weights.bytes();
        weights.elements_by_dtype();
    }
});
