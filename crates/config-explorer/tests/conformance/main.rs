//! Checks against measured and recorded data. `CONFORMANCE_DATA` names the folder; without it every test passes unrun.

#![expect(clippy::print_stdout, reason = "a check that was not made says so")]

mod checkpoints;
mod explore;
mod golden;
mod kv;
mod ladders;
mod latency;
mod latency_prototype;
mod manifest;
mod memory;
mod models;
mod reports;
mod router;
mod scheduler;
mod scheduler_replay;
mod sweep;
mod workloads;

use std::path::{Path, PathBuf};

/// The data folder; `None`, said so, where there is none. A relative path starts at the repository's root.
fn data() -> Option<PathBuf> {
    let Some(path) = std::env::var_os("CONFORMANCE_DATA") else {
        println!("skipped: CONFORMANCE_DATA is not set");
        return None;
    };
    Some(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path))
}
