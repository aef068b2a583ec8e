//! `model.safetensors.index.json`: read or refused, and no file name leaves its directory.

#![no_main]

use std::path::{Component, Path};

use config_explorer::model::safetensors;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for file in safetensors::parse_index(bytes, "fuzz").into_iter().flatten().map(|(file, _)| file) {
        assert!(Path::new(&file).components().all(|component| matches!(component, Component::Normal(_))));
    }
});
