//! Kernel efficiencies of each accelerator: `data/coefficients/*.toml`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::Format;
use crate::hardware::Accelerator;

/// Efficiency of a matrix multiplication in one format.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GemmCurve {
    pub(super) floor_us: f64,
    pub(super) memory: f64,
    pub(super) compute: f64,
    pub(super) rho: f64,
}

/// Efficiency of the fused experts of a layer in one format.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpertsCurve {
    pub(super) floor_us: f64,
    pub(super) memory: f64,
    pub(super) compute: f64,
    pub(super) rho: f64,
    pub(super) compute_tile: f64,
    pub(super) memory_tile: f64,
}

/// Efficiency of decode attention for one type of KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DecodeCurve {
    pub(super) floor_us: f64,
    pub(super) memory: f64,
}

/// Efficiency of prefill attention for one width of a head.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PrefillCurve {
    pub(super) floor_us: f64,
    pub(super) compute: f64,
    pub(super) half_length: f64,
}

/// One algorithm of a collective.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Link {
    pub(super) latency_us: f64,
    pub(super) bytes_per_us: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DecodeCurves {
    pub(super) bf16: DecodeCurve,
    pub(super) fp8: DecodeCurve,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "a field is a key of the file: the width of a head")]
pub(super) struct PrefillCurves {
    pub(super) head_64: PrefillCurve,
    pub(super) head_128: PrefillCurve,
    pub(super) head_256: PrefillCurve,
}

impl PrefillCurves {
    pub(super) fn of_head(&self, head_dim: f64) -> PrefillCurve {
        match head_dim {
            ..=64.0 => self.head_64,
            ..=128.0 => self.head_128,
            _ => self.head_256,
        }
    }
}

/// Kernel efficiencies of one accelerator, before calibration; `data/coefficients/hopper.toml` explains each.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kernels {
    pub(super) name: String,
    pub(super) measured: bool,
    source: String,
    pub(super) gemm: BTreeMap<Format, GemmCurve>,
    pub(super) experts: BTreeMap<Format, ExpertsCurve>,
    pub(super) decode_attention: DecodeCurves,
    pub(super) prefill_attention: PrefillCurves,
    all_reduce: BTreeMap<String, Vec<Link>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    generation: String,
    architectures: Vec<String>,
    accelerator: Vec<Kernels>,
}

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    [
        include_str!("../../data/coefficients/hopper.toml"),
        include_str!("../../data/coefficients/blackwell.toml"),
        include_str!("../../data/coefficients/ampere.toml"),
        include_str!("../../data/coefficients/ada.toml"),
        include_str!("../../data/coefficients/assumed.toml"),
    ]
    .into_iter()
    .map(|text| toml::from_str(text).expect("data/coefficients is valid (tests read it)"))
    .collect()
});

/// How near the measured kernels are to an accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KernelBasis {
    /// Measured on this accelerator.
    Measured,
    /// Measured on another accelerator of its generation.
    Generation,
    /// Nobody measured one like it.
    Assumed,
}

/// The kernels of an accelerator, the name of its generation, and how near they are.
pub(super) fn kernels(accelerator: &Accelerator) -> (&'static Kernels, &'static str, KernelBasis) {
    let files = &*FILES;
    let of_name = files.iter().find_map(|file| {
        let row = file.accelerator.iter().find(|row| row.name == accelerator.name)?;
        Some((row, file.generation.as_str(), if row.measured { KernelBasis::Measured } else { KernelBasis::Assumed }))
    });
    let of_generation = || {
        let file = files.iter().find(|file| file.architectures.contains(&accelerator.architecture))?;
        let row = file.accelerator.first()?;
        let basis = if row.measured { KernelBasis::Generation } else { KernelBasis::Assumed };
        Some((row, file.generation.as_str(), basis))
    };
    of_name.or_else(of_generation).unwrap_or_else(|| {
        let file = files.last().expect("the list above is not empty");
        (&file.accelerator[0], file.generation.as_str(), KernelBasis::Assumed)
    })
}

/// The generation whose multipliers apply to an accelerator.
pub fn generation(accelerator: &Accelerator) -> &'static str {
    kernels(accelerator).1
}

/// How near measured kernels are to an accelerator.
pub fn kernel_basis(accelerator: &Accelerator) -> KernelBasis {
    kernels(accelerator).2
}

impl Kernels {
    /// The curve of a format, or of what resembles it most.
    pub(super) fn gemm(&self, format: Format) -> GemmCurve {
        *stand_in(&self.gemm, format)
    }

    /// The curve of a format, or of what resembles it most.
    pub(super) fn experts(&self, format: Format) -> ExpertsCurve {
        *stand_in(&self.experts, format)
    }

    /// All-reduce over `ranks` GPUs of one node.
    pub(super) fn all_reduce(&self, ranks: u32) -> Vec<Link> {
        let mut sizes: Vec<(u32, &Vec<Link>)> =
            self.all_reduce.iter().filter_map(|(size, links)| Some((size.parse().ok()?, links))).collect();
        sizes.sort_by_key(|(size, _)| *size);
        let at_least = sizes.iter().find(|(size, _)| *size >= ranks).or(sizes.last());
        at_least.map(|(_, links)| (*links).clone()).unwrap_or_default()
    }
}

fn stand_in<T>(curves: &BTreeMap<Format, T>, format: Format) -> &T {
    format.stand_ins().iter().find_map(|stand_in| curves.get(stand_in)).expect("every row has bf16 (tests check it)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::Accelerators;

    #[test]
    fn every_row_is_within_physics() {
        for file in &*FILES {
            assert!(!file.accelerator.is_empty() && !file.generation.is_empty());
            for row in &file.accelerator {
                assert!(
                    row.gemm.contains_key(&Format::Bf16) && row.experts.contains_key(&Format::Bf16),
                    "{}",
                    row.name
                );
                assert!(Accelerators::built_in().find(&row.name).is_ok(), "{}", row.name);
                let gemm = row.gemm.values().flat_map(|curve| [curve.memory, curve.compute]);
                let experts = row.experts.values().flat_map(|curve| [curve.memory, curve.compute]);
                assert!(gemm.chain(experts).all(|share| share > 0.0 && share <= 1.0), "{}", row.name);
                for ranks in [2, 4, 8] {
                    assert!(!row.all_reduce(ranks).is_empty());
                }
            }
        }
    }

    #[test]
    fn an_accelerator_without_a_row_takes_its_generations() {
        let basis = |name| {
            let (row, _, basis) = kernels(Accelerators::built_in().find(name).unwrap());
            (row.name.as_str(), basis)
        };
        assert_eq!(basis("H200"), ("H200-SXM-141GB", KernelBasis::Measured));
        assert_eq!(basis("H100-PCIe-80GB"), ("H100-SXM-80GB", KernelBasis::Generation));
        assert_eq!(basis("L4"), ("L40S", KernelBasis::Generation));
        assert_eq!(basis("MI300X"), ("MI300X", KernelBasis::Assumed));
        assert_eq!(basis("Gaudi3"), ("MI300X", KernelBasis::Assumed));
    }
}
