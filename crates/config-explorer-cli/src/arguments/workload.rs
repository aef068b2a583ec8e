//! `--workload FILE`: what is sent, from a file.

use std::path::Path;

use config_explorer::simulation::Traffic;
use config_explorer::workload::{ReadOptions, read_workload};

/// The requests of a file, and what it says that is left out.
pub(crate) fn read(path: &Path, seed: u64) -> config_explorer::Result<(Traffic, Vec<String>)> {
    let file = read_workload(path, &ReadOptions::default())?;
    let warnings = file.warnings.clone();
    let traffic = Traffic::of_file(file, seed);
    traffic.check()?;
    Ok((traffic, warnings))
}
