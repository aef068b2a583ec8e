//! `accelerators [TEXT]`: the accelerators that `--gpu` takes.

use clap::Args;
use config_explorer::hardware::Accelerator;
use schemars::JsonSchema;
use serde::Serialize;

use crate::ExitStatus;
use crate::arguments::hardware::HardwareArgs;
use crate::arguments::names::NameFilter;
use crate::output::{self, Answer, Format, Table};

/// Arguments of `accelerators`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    filter: NameFilter,

    #[command(flatten)]
    hardware: HardwareArgs,
}

/// The accelerators that are known, or those that were asked for.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AcceleratorList {
    /// In the order of the catalogue.
    accelerators: Vec<Accelerator>,
}

impl Answer for AcceleratorList {
    const COMMAND: &'static str = "accelerators";

    fn table(&self) -> Table {
        let mut table = Table::new([
            "name",
            "memory_gib",
            "memory_bandwidth_gb_per_s",
            "peak_bf16_tflops",
            "peak_fp8_tflops",
            "gpus_per_node",
            "aliases",
        ]);
        let figure = |figure: Option<f64>| figure.map_or_else(String::new, |figure| figure.to_string());
        for accelerator in &self.accelerators {
            table.push([
                accelerator.name.clone(),
                accelerator.memory_gib.to_string(),
                accelerator.memory_bandwidth_gb_per_s.to_string(),
                figure(accelerator.peak_bf16_tflops),
                figure(accelerator.peak_fp8_tflops),
                accelerator.gpus_per_node.to_string(),
                accelerator.aliases.join(", "),
            ]);
        }
        table
    }

    fn status(&self) -> ExitStatus {
        ExitStatus::yes_if(!self.accelerators.is_empty())
    }
}

/// Lists the accelerators.
pub(crate) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitStatus> {
    let known = arguments.hardware.accelerators()?;
    let wanted = known.iter().filter(|accelerator| arguments.filter.accepts(accelerator.names()));
    output::print(&AcceleratorList { accelerators: wanted.cloned().collect() }, format)
}
