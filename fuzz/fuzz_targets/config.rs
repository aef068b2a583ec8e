//! `config.json`: read or refused, and the tensors of what was read can be listed.

#![no_main]

use config_explorer::model::{Weights, parse_config};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|config: &str| {
    if let Ok(parsed) = parse_config(config, None, "fuzz") {
        Weights::from_architecture(&parsed.architecture);
    }
});
