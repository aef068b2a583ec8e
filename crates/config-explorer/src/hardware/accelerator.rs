//! One accelerator.

use serde::{Deserialize, Serialize};

/// Maker of an accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "each name is the maker")]
pub enum Vendor {
    Nvidia,
    Amd,
    Intel,
    Huawei,
}

/// How an accelerator sits in its server, which decides the links it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FormFactor {
    /// NVIDIA's module on an `NVLink` board.
    Sxm,
    /// Open accelerator module, on a board that joins eight.
    Oam,
    /// A card.
    Pcie,
    /// GPU and CPU on one board (GH200, GB200, GB300).
    Superchip,
    /// GPU and CPU in one package that share the memory (GB10).
    Integrated,
}

/// One accelerator: a row of `data/accelerators.toml`, which says what each field means and where it comes from.
///
/// Peaks are dense. Bandwidths are in 10^9 bytes per second and device, links in one direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accelerator {
    /// The name by which the program calls it.
    pub name: String,
    /// Maker.
    pub vendor: Vendor,
    /// Generation, as its maker calls it.
    pub architecture: String,
    /// CUDA compute capability (`9.0`) or `ROCm` target (`gfx942`).
    pub compute_capability: Option<String>,
    /// How it sits in its server.
    pub form_factor: FormFactor,
    /// Other names in use.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Memory that CUDA or `ROCm` reports, which vLLM multiplies by `gpu_memory_utilization`.
    pub memory_gib: f64,
    /// `memory_gib` was seen on a real machine.
    #[serde(default = "yes")]
    pub memory_verified: bool,
    /// The number on the box.
    pub nominal_gb: f64,
    /// Bandwidth of the memory.
    pub memory_bandwidth_gb_per_s: f64,
    /// Peak in bfloat16.
    pub peak_bf16_tflops: Option<f64>,
    /// Peak in float16.
    pub peak_fp16_tflops: Option<f64>,
    /// Peak in 8-bit floating point.
    pub peak_fp8_tflops: Option<f64>,
    /// Peak in 8-bit integers.
    pub peak_int8_tflops: Option<f64>,
    /// Peak in 4-bit floating point.
    pub peak_fp4_tflops: Option<f64>,
    /// Link to the other accelerators of the node; absent where a node has one.
    pub intra_node_gb_per_s: Option<f64>,
    /// Share of the network between nodes.
    pub inter_node_gb_per_s: f64,
    /// Accelerators of a usual node.
    pub gpus_per_node: u32,
    /// Accelerators joined at the intra-node bandwidth, where they are more than a node (72 in an NVL72 rack).
    pub scale_up_gpus: Option<u32>,
    /// Power limit.
    pub watts: f64,
    /// Streaming multiprocessors or compute units (`multi_processor_count` of `PyTorch`).
    pub multiprocessors: Option<u32>,
    /// Where the figures come from.
    pub source: String,
}

fn yes() -> bool {
    true
}

impl Accelerator {
    /// Every name it goes by, its own first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.aliases).map(String::as_str)
    }

    /// What is wrong with the figures, if anything.
    pub(super) fn fault(&self) -> Option<String> {
        // Above any figure of a device.
        const LIMIT: f64 = 1e6;
        let quantities = [
            ("memory_gib", Some(self.memory_gib)),
            ("nominal_gb", Some(self.nominal_gb)),
            ("memory_bandwidth_gb_per_s", Some(self.memory_bandwidth_gb_per_s)),
            ("peak_bf16_tflops", self.peak_bf16_tflops),
            ("peak_fp16_tflops", self.peak_fp16_tflops),
            ("peak_fp8_tflops", self.peak_fp8_tflops),
            ("peak_int8_tflops", self.peak_int8_tflops),
            ("peak_fp4_tflops", self.peak_fp4_tflops),
            ("intra_node_gb_per_s", self.intra_node_gb_per_s),
            ("inter_node_gb_per_s", Some(self.inter_node_gb_per_s)),
            ("gpus_per_node", Some(self.gpus_per_node.into())),
            ("scale_up_gpus", self.scale_up_gpus.map(f64::from)),
            ("watts", Some(self.watts)),
            ("multiprocessors", self.multiprocessors.map(f64::from)),
        ];
        for (field, value) in quantities {
            if value.is_some_and(|value| !(value > 0.0 && value < LIMIT)) {
                return Some(format!("`{field}` must be above 0 and below {LIMIT}"));
            }
        }
        if self.memory_gib > 10_000.0 {
            return Some(format!("`memory_gib` is {}: it is in GiB", self.memory_gib));
        }
        if self.scale_up_gpus.is_some_and(|gpus| gpus < self.gpus_per_node) {
            return Some("`scale_up_gpus` must not be below `gpus_per_node`".to_owned());
        }
        None
    }
}
