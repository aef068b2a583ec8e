//! What end-to-end measurements say on top of the kernels: bounded multipliers per generation, and the engine's own time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use super::{Format, MeasuredKernels};
use crate::hardware::Accelerator;
use crate::{Error, Result};

/// A multiplier of kernel times (above 1: slower than the kernel's benchmark).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each name is the operator and the part of its time")]
pub enum Multiplier {
    GemmFloor,
    GemmMemoryBf16,
    GemmMemoryFp8,
    GemmMemoryFp4,
    GemmComputeBf16,
    GemmComputeQuantised,
    ExpertsFloor,
    ExpertsMemoryBf16,
    ExpertsMemoryFp8,
    ExpertsMemoryMxfp4,
    ExpertsMemoryNvfp4,
    ExpertsComputeBf16,
    ExpertsComputeFp8,
    ExpertsComputeMxfp4,
    ExpertsComputeNvfp4,
    DecodeFloor,
    DecodeMemory,
    PrefillCompute,
    Collective,
}

impl Multiplier {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::GemmFloor,
        Self::GemmMemoryBf16,
        Self::GemmMemoryFp8,
        Self::GemmMemoryFp4,
        Self::GemmComputeBf16,
        Self::GemmComputeQuantised,
        Self::ExpertsFloor,
        Self::ExpertsMemoryBf16,
        Self::ExpertsMemoryFp8,
        Self::ExpertsMemoryMxfp4,
        Self::ExpertsMemoryNvfp4,
        Self::ExpertsComputeBf16,
        Self::ExpertsComputeFp8,
        Self::ExpertsComputeMxfp4,
        Self::ExpertsComputeNvfp4,
        Self::DecodeFloor,
        Self::DecodeMemory,
        Self::PrefillCompute,
        Self::Collective,
    ];

    /// Value without measurements (the reference's neutral multipliers, set after a look at the data: sustained 16-bit
    /// GEMMs are slower than short benchmarks, decode attention launches are cheaper inside a CUDA graph).
    pub fn neutral(self) -> f64 {
        match self {
            Self::GemmComputeBf16 => 1.1,
            Self::DecodeFloor => 0.8,
            _ => 1.0,
        }
    }

    /// The two multipliers of a matrix multiplication's memory and compute time in a format.
    pub(super) fn of_gemm(format: Format) -> (Self, Self) {
        match format {
            Format::Bf16 => (Self::GemmMemoryBf16, Self::GemmComputeBf16),
            Format::Fp8 | Format::Fp8Block => (Self::GemmMemoryFp8, Self::GemmComputeQuantised),
            Format::Nvfp4 => (Self::GemmMemoryFp4, Self::GemmComputeQuantised),
            Format::Mxfp4 | Format::Int4 => (Self::GemmMemoryFp4, Self::GemmComputeBf16),
        }
    }

    /// The two multipliers of the experts' memory and compute time in a format.
    pub(super) fn of_experts(format: Format) -> (Self, Self) {
        match format {
            Format::Bf16 => (Self::ExpertsMemoryBf16, Self::ExpertsComputeBf16),
            Format::Fp8 | Format::Fp8Block => (Self::ExpertsMemoryFp8, Self::ExpertsComputeFp8),
            Format::Mxfp4 | Format::Int4 => (Self::ExpertsMemoryMxfp4, Self::ExpertsComputeMxfp4),
            Format::Nvfp4 => (Self::ExpertsMemoryNvfp4, Self::ExpertsComputeNvfp4),
        }
    }
}

/// A time of the engine or of the API server, the same on all accelerators, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineTime {
    /// Of a step.
    Step,
    /// Of a step for each sequence that is sampled.
    StepPerSequence,
    /// Of a step, on top, where scheduling waits for the device.
    SynchronousStep,
    /// The same, for each sequence.
    SynchronousPerSequence,
    /// Of a layer in a step beyond the CUDA graphs.
    EagerLayer,
    /// The same for the experts of a layer.
    EagerExperts,
    /// Of an elementwise kernel.
    Elementwise,
    /// Of a request outside of the engine.
    Request,
    /// The same for each token of the prompt.
    RequestPerToken,
    /// The same for each request that the API server streams at the time.
    RequestPerStream,
    /// Evenness of the experts' popularity: not a time. Popularities are gamma-distributed with this shape; random
    /// routing is infinity, and below 1 a few experts get most of the tokens.
    RoutingEvenness,
}

impl EngineTime {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Step,
        Self::StepPerSequence,
        Self::SynchronousStep,
        Self::SynchronousPerSequence,
        Self::EagerLayer,
        Self::EagerExperts,
        Self::Elementwise,
        Self::Request,
        Self::RequestPerToken,
        Self::RequestPerStream,
        Self::RoutingEvenness,
    ];

    /// Value without measurements (the reference's round constants).
    pub fn neutral_us(self) -> f64 {
        match self {
            Self::Step | Self::RequestPerStream => 300.0,
            Self::StepPerSequence => 2.0,
            Self::SynchronousStep => 1200.0,
            Self::SynchronousPerSequence => 6.0,
            Self::EagerLayer => 15.0,
            Self::EagerExperts => 60.0,
            Self::Elementwise | Self::RequestPerToken => 2.5,
            Self::Request => 12_000.0,
            Self::RoutingEvenness => 1.0,
        }
    }
}

/// Multipliers and engine times: what `calibrate` writes and `--coefficients` reads.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// What it was fitted to.
    pub source: String,
    /// Engine times; one that is missing has its neutral value.
    #[serde(default)]
    pub engine_us: BTreeMap<EngineTime, f64>,
    /// Multipliers by generation; one that is missing has its neutral value.
    #[serde(default)]
    pub generation: BTreeMap<String, BTreeMap<Multiplier, f64>>,
    /// Accelerators with end-to-end measurements behind it.
    #[serde(default)]
    pub accelerators: Vec<String>,
    /// Quantiles of measured against predicted, by regime.
    #[serde(default)]
    pub interval: BTreeMap<Regime, IntervalQuantiles>,
    /// Measured kernels of an accelerator, by its name, instead of the curves; of no calibration file.
    #[serde(skip)]
    pub kernels: BTreeMap<String, Arc<MeasuredKernels>>,
}

/// How far a case is from what was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Regime {
    /// Kernels and accelerators with end-to-end measurements, at a moderate load.
    Normal,
    /// The same where requests queue, prompts take most of the time, or clients are many.
    Loaded,
    /// Kernels or accelerators without end-to-end measurements.
    Extrapolated,
}

/// Factors on a prediction between which 80 % of the measurements lie.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntervalQuantiles {
    /// Of the mean time to first token.
    pub ttft: [f64; 2],
    /// Of the mean time per output token.
    pub tpot: [f64; 2],
    /// What they rest on.
    pub basis: String,
}

/// Where a calibration says nothing: the reference's judgement for cases without end-to-end measurements (its 7).
static WIDEST: LazyLock<IntervalQuantiles> = LazyLock::new(|| IntervalQuantiles {
    ttft: [0.6, 2.5],
    tpot: [0.7, 1.5],
    basis: "a judgement: nothing like it was measured end to end".to_owned(),
});

static BUILT_IN: LazyLock<Calibration> = LazyLock::new(|| {
    toml::from_str(include_str!("../../data/coefficients/calibration.toml"))
        .expect("data/coefficients/calibration.toml is valid (tests read it)")
});

impl Calibration {
    /// The built-in one, fitted to published measurements.
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// Reads a file that `calibrate` wrote.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Malformed`], the latter also for a value that is not above 0.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let malformed = |reason| Error::Malformed { place: path.display().to_string(), reason };
        let calibration: Self = toml::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        let multipliers = calibration.generation.values().flat_map(BTreeMap::values);
        match calibration.engine_us.values().chain(multipliers).find(|value| !(**value > 0.0 && value.is_finite())) {
            Some(value) => Err(malformed(format!("{value} is not a multiplier or a time: each must be above 0"))),
            None => Ok(calibration),
        }
    }

    /// The file that [`Calibration::read`] reads.
    ///
    /// # Errors
    /// None in practice: every value is a number or a text.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|error| Error::Malformed { place: "calibration".to_owned(), reason: error.to_string() })
    }

    /// The intervals of a regime.
    pub fn interval(&self, regime: Regime) -> &IntervalQuantiles {
        self.interval.get(&regime).unwrap_or(&WIDEST)
    }

    /// End-to-end measurements of this accelerator's generation are behind it: an accelerator whose kernels were measured
    /// needs no more (the errors of GPUs left out are those of models left out).
    pub fn covers(&self, accelerator: &Accelerator) -> bool {
        self.generation.contains_key(super::generation(accelerator))
    }

    /// A multiplier of a generation.
    pub fn multiplier(&self, generation: &str, multiplier: Multiplier) -> f64 {
        let of_generation = self.generation.get(generation);
        of_generation.and_then(|all| all.get(&multiplier)).copied().unwrap_or_else(|| multiplier.neutral())
    }

    /// An engine time, us.
    pub fn engine_time_us(&self, time: EngineTime) -> f64 {
        self.engine_us.get(&time).copied().unwrap_or_else(|| time.neutral_us())
    }
}
