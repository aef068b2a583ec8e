//! A workload's description, of this project or another tool's: read or refused, and what can be drawn from is.

#![no_main]

use config_explorer::simulation::Traffic;
use config_explorer::workload::{Selection, parse_workload};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((workload, _)) = parse_workload(bytes, "fuzz", &Selection::default()) {
        let _ = Traffic { workload, trace: None, seed: 1 }.summary(50);
    }
});
