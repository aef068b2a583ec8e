//! Files of a store: read or refused, and what was read can be kept again.

#![no_main]

use std::path::Path;

use config_explorer::reports::{read, store};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Without the magic it would be a result of another format.
    let bytes = [b"PAR1", bytes].concat();
    if let Ok(runs) = read(&bytes, Path::new("model=fuzz/runs.parquet")) {
        let file = std::env::temp_dir().join(format!("fuzz-{}.parquet", std::process::id()));
        store::write(&file, &runs).expect("every run can be kept");
        assert_eq!(store::load(&file).expect("what was kept can be read"), runs);
    }
});
