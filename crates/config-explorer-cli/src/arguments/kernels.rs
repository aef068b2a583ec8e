//! Measured kernels instead of fitted curves.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use config_explorer::engine::Version;
use config_explorer::hardware::{Accelerator, Accelerators};
use config_explorer::latency::{Calibration, MeasuredKernels};
use config_explorer::reports::KernelTables;

/// Where measured kernels are.
#[derive(Debug, Args)]
pub(crate) struct KernelArgs {
    /// Measured kernels instead of the fitted curves where there are any: the folder of an installed aiconfigurator-core,
    /// or its systems/data.
    #[arg(long, value_name = "DIR")]
    pub(crate) kernel_tables: Option<PathBuf>,
}

impl KernelArgs {
    /// Puts the kernels of an accelerator into a calibration; those nearest to an engine's version.
    pub(crate) fn add(
        &self,
        calibration: &mut Calibration,
        accelerators: &Accelerators,
        accelerator: &Accelerator,
        engine: Version,
    ) -> config_explorer::Result<Option<Arc<MeasuredKernels>>> {
        let Some(folder) = &self.kernel_tables else { return Ok(None) };
        let tables = KernelTables::read(folder, accelerators, accelerator, engine)?;
        let kernels = Arc::new(MeasuredKernels::new(&tables, accelerator));
        calibration.kernels.insert(accelerator.name.clone(), Arc::clone(&kernels));
        Ok(Some(kernels))
    }
}
