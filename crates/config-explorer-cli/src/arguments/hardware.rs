//! Which accelerators are known.

use std::path::PathBuf;

use clap::Args;
use config_explorer::hardware::Accelerators;

/// Where accelerators come from.
#[derive(Debug, Args)]
pub(crate) struct HardwareArgs {
    /// TOML file that adds accelerators or changes known ones.
    #[arg(long, value_name = "FILE")]
    accelerators: Option<PathBuf>,
}

impl HardwareArgs {
    /// The built-in accelerators with those of the file laid over them.
    pub(crate) fn accelerators(&self) -> config_explorer::Result<Accelerators> {
        let built_in = Accelerators::built_in();
        self.accelerators.as_ref().map_or_else(|| Ok(built_in.clone()), |path| built_in.with_file(path))
    }
}
