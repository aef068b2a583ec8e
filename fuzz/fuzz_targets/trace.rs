//! A trace of any format: read or refused, and what was read is replayed.

#![no_main]

use std::sync::Arc;

use config_explorer::simulation::Traffic;
use config_explorer::workload::{Trace, TraceSource, WorkloadSpec, trace_format};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(format) = trace_format(bytes) else { return };
    if let Ok(trace) = Trace::read(bytes, format, "fuzz", &TraceSource::default()) {
        let traffic = Traffic { workload: WorkloadSpec::default(), trace: Some(Arc::new(trace)), seed: 1 };
        traffic.summary(50).expect("a trace that was read can be replayed");
    }
});
