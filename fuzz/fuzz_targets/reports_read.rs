//! Result files of any benchmark tool: read or refused, and what was read can be written as a benchmark report.

#![no_main]

use std::path::Path;

use config_explorer::reports::{read, to_benchmark_report};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for run in read(bytes, Path::new("fuzz")).into_iter().flatten() {
        to_benchmark_report(&run).expect("every run can be written");
    }
});
