//! One accelerator with its calibrated kernels: what an operator of a given size takes on it.

use std::sync::Arc;

use super::coefficients::{Kernels, Link, kernels};
use super::kernel::{Experts, Kernel, Measured, Roofline};
use super::kernel_tables::{ExpertsShape, HeadsShape, MeasuredKernels};
use super::{Calibration, EngineTime, Format, KernelBasis, Multiplier};
use crate::hardware::Accelerator;
use crate::model::Moe;

/// Share of the memory bandwidth that elementwise kernels reach (the reference's 2.5).
const ELEMENTWISE_MEMORY: f64 = 0.7;
/// Share of an inter-node link that a collective reaches, and its latency: a ring over RDMA, not validated.
const NETWORK_EFFICIENCY: f64 = 0.7;
const NETWORK_LATENCY_US: f64 = 30.0;

/// What a kernel's parts are multiplied by.
type Multipliers<'a> = dyn Fn(Multiplier) -> f64 + 'a;

/// An accelerator with its calibrated kernels.
pub(super) struct Device<'a> {
    pub(super) accelerator: &'a Accelerator,
    kernels: &'static Kernels,
    generation: &'static str,
    pub(super) basis: KernelBasis,
    calibration: &'a Calibration,
    /// Measured kernels, where there are any of this accelerator.
    measured: Option<&'a MeasuredKernels>,
    /// Bytes per us.
    pub(super) bandwidth: f64,
}

impl<'a> Device<'a> {
    pub(super) fn new(accelerator: &'a Accelerator, calibration: &'a Calibration) -> Self {
        let (kernels, generation, basis) = kernels(accelerator);
        let bandwidth = accelerator.memory_bandwidth_gb_per_s * 1e3;
        let measured = calibration.kernels.get(&accelerator.name).map(Arc::as_ref);
        Self { accelerator, kernels, generation, basis, calibration, measured, bandwidth }
    }

    pub(super) fn multiplier(&self, multiplier: Multiplier) -> f64 {
        self.calibration.multiplier(self.generation, multiplier)
    }

    pub(super) fn engine_time_us(&self, time: EngineTime) -> f64 {
        self.calibration.engine_time_us(time)
    }

    /// Bytes per us that a kernel of this efficiency reaches. No calibration makes a kernel faster than the device.
    fn reached_bandwidth(&self, efficiency: f64, multiplier: f64) -> (f64, f64) {
        let share = (efficiency / multiplier).min(1.0);
        (self.bandwidth * share, share)
    }

    /// A matrix of `outputs` x `inputs` in a format.
    pub(super) fn gemm(&self, outputs: f64, inputs: f64, format: Format) -> Kernel {
        let curve = |multiplier: &Multipliers<'_>| self.gemm_curve(outputs, inputs, format, multiplier);
        let points = self.measured.and_then(|measured| measured.gemm(self.accelerator, outputs, inputs, format));
        self.measured_or(points, 1.0, curve)
    }

    /// A kernel of a curve under some multipliers: interpolated between points where there are any.
    fn measured_or(
        &self,
        points: Option<Vec<(f64, f64)>>,
        work_per_token: f64,
        curve: impl Fn(&Multipliers<'_>) -> Kernel,
    ) -> Kernel {
        let calibrated = curve(&|multiplier| self.multiplier(multiplier));
        match points {
            Some(points) if !points.is_empty() => Kernel::Measured(Measured {
                points,
                work_per_token,
                calibrated: Box::new(calibrated),
                benchmark: Box::new(curve(&|_| 1.0)),
            }),
            _ => calibrated,
        }
    }

    fn gemm_curve(&self, outputs: f64, inputs: f64, format: Format, multiplier: &Multipliers<'_>) -> Kernel {
        let curve = self.kernels.gemm(format);
        let (memory, compute) = Multiplier::of_gemm(format);
        let (bandwidth, memory_share) = self.reached_bandwidth(curve.memory, multiplier(memory));
        let compute_share = (curve.compute / multiplier(compute)).min(1.0);
        Kernel::Roofline(Roofline {
            floor_us: curve.floor_us * multiplier(Multiplier::GemmFloor),
            memory_us: outputs * inputs * format.weight_bytes() / bandwidth,
            memory_per_token_us: (inputs * format.activation_bytes() + 2.0 * outputs) / bandwidth,
            compute_per_token_us: 2.0 * outputs * inputs / (compute_share * format.peak(self.accelerator)),
            rho: curve.rho,
            efficiency: (memory_share, compute_share),
        })
    }

    /// The routed experts of a layer: slices of `slice` of the intermediate size, spread over `ranks`, for the tokens of
    /// `token_multiple` ranks.
    pub(super) fn experts(&self, moe: &Moe, slice: f64, ranks: f64, token_multiple: f64, format: Format) -> Kernel {
        let curve =
            |multiplier: &Multipliers<'_>| self.experts_curve(moe, slice, ranks, token_multiple, format, multiplier);
        let shape = ExpertsShape {
            hidden: moe.expert_hidden_size,
            slice: slice as u64,
            experts: moe.experts,
            per_token: moe.experts_per_token,
        };
        // The benchmark's experts have a gate; how it counts tokens of several expert ranks is not said.
        let comparable = moe.gated && ranks <= 1.0 && slice.fract() == 0.0;
        let measured = self.measured.filter(|_| comparable).and_then(|measured| measured.experts(format, shape));
        self.measured_or(measured.cloned(), token_multiple, curve)
    }

    fn experts_curve(
        &self,
        moe: &Moe,
        slice: f64,
        ranks: f64,
        token_multiple: f64,
        format: Format,
        multiplier: &Multipliers<'_>,
    ) -> Kernel {
        let curve = self.kernels.experts(format);
        let (memory, compute) = Multiplier::of_experts(format);
        let (bandwidth, memory_share) =
            self.reached_bandwidth(curve.memory / (1.0 + curve.memory_tile / slice), multiplier(memory));
        let compute_share = (curve.compute / (1.0 + curve.compute_tile / slice) / multiplier(compute)).min(1.0);
        let hidden = moe.expert_hidden_size as f64;
        let per_token = moe.experts_per_token as f64;
        // Gate, up and down projection; without a gate, two of them.
        let matrices = if moe.gated { 3.0 } else { 2.0 };
        let activations = 2.0 * per_token * (2.0 * hidden + matrices * slice) / ranks;
        Kernel::Experts(Experts {
            roofline: Roofline {
                floor_us: curve.floor_us * multiplier(Multiplier::ExpertsFloor),
                memory_us: 0.0,
                memory_per_token_us: activations / bandwidth,
                compute_per_token_us: 2.0 * matrices * hidden * slice * per_token
                    / ranks
                    / (compute_share * format.peak(self.accelerator)),
                rho: curve.rho,
                efficiency: (memory_share, compute_share),
            },
            expert_us: matrices * hidden * slice * format.weight_bytes() / bandwidth,
            experts: moe.experts as f64,
            per_token,
            evenness: self.engine_time_us(EngineTime::RoutingEvenness),
            ranks,
            token_multiple,
        })
    }

    /// Elementwise work that takes `floor_us` and moves `bytes_per_token`.
    pub(super) fn elementwise(&self, floor_us: f64, bytes_per_token: f64) -> Kernel {
        Kernel::Roofline(Roofline {
            floor_us,
            memory_us: 0.0,
            memory_per_token_us: bytes_per_token / (ELEMENTWISE_MEMORY * self.bandwidth),
            compute_per_token_us: 0.0,
            rho: 1.0,
            efficiency: (ELEMENTWISE_MEMORY, 1.0),
        })
    }

    /// The algorithms of an all-reduce over `ranks` GPUs.
    fn all_reduce_algorithms(&self, ranks: u32, slowdown: f64) -> Vec<Link> {
        let scale_up = self.accelerator.scale_up_gpus.unwrap_or(self.accelerator.gpus_per_node);
        if ranks > scale_up {
            let bytes_per_us = self.accelerator.inter_node_gb_per_s * 1e3 * NETWORK_EFFICIENCY / 2.0;
            return vec![Link { latency_us: NETWORK_LATENCY_US, bytes_per_us }];
        }
        // Another accelerator's links stand in, scaled to what this one's can carry.
        let own = self.accelerator.intra_node_gb_per_s.unwrap_or(self.accelerator.inter_node_gb_per_s);
        let carried = match self.basis {
            KernelBasis::Generation => {
                let measured = crate::hardware::Accelerators::built_in().find(&self.kernels.name);
                let link = measured.ok().and_then(|accelerator| accelerator.intra_node_gb_per_s).unwrap_or(own);
                (own / link).min(1.0)
            }
            _ => 1.0,
        };
        let mut links = self.kernels.all_reduce(ranks);
        for link in &mut links {
            link.latency_us *= slowdown;
            link.bytes_per_us *= carried / slowdown;
        }
        links
    }

    /// All-reduce of `bytes_per_token` over `ranks` GPUs.
    pub(super) fn all_reduce(&self, bytes_per_token: f64, ranks: u32) -> Kernel {
        let curve = |multiplier: &Multipliers<'_>| Kernel::Collective {
            bytes_per_token,
            algorithms: self.all_reduce_algorithms(ranks, multiplier(Multiplier::Collective)),
        };
        let measured = self.measured.and_then(|measured| measured.all_reduce(ranks));
        self.measured_or(measured.cloned(), bytes_per_token, curve)
    }

    /// Gather of the logits over `ranks` GPUs, at the bandwidth of the all-reduce for large messages.
    pub(super) fn gather(&self, latency_us: f64, bytes_per_sequence: f64, ranks: u32) -> Kernel {
        let slowdown = self.multiplier(Multiplier::Collective);
        let bandwidths = self.all_reduce_algorithms(ranks, slowdown).into_iter().map(|link| link.bytes_per_us);
        let link = Link { latency_us, bytes_per_us: bandwidths.fold(f64::MIN_POSITIVE, f64::max) };
        Kernel::Collective { bytes_per_token: bytes_per_sequence, algorithms: vec![link] }
    }

    /// Transfer to the next pipeline stage.
    pub(super) fn transfer(&self, latency_us: f64, bytes_per_token: f64) -> Kernel {
        let link = Link { latency_us, bytes_per_us: self.point_to_point() };
        Kernel::Collective { bytes_per_token, algorithms: vec![link] }
    }

    /// Bytes per us of the transfer to the next pipeline stage, or of a KV cache to another engine of the node.
    pub(super) fn point_to_point(&self) -> f64 {
        self.accelerator.intra_node_gb_per_s.unwrap_or(self.accelerator.inter_node_gb_per_s) * 1e3 * NETWORK_EFFICIENCY
    }

    /// Decode attention: floor (us) and bytes per us.
    pub(super) fn decode_attention(&self, fp8: bool) -> (f64, f64) {
        let curves = &self.kernels.decode_attention;
        let curve = if fp8 { curves.fp8 } else { curves.bf16 };
        let floor_us = curve.floor_us * self.multiplier(Multiplier::DecodeFloor);
        (floor_us, self.reached_bandwidth(curve.memory, self.multiplier(Multiplier::DecodeMemory)).0)
    }

    /// The same for measured heads: floor (us), and us for each token of context.
    pub(super) fn measured_decode(&self, shape: HeadsShape) -> Option<(f64, f64)> {
        let [floor_us, us_per_token] = self.measured?.decode(shape)?;
        let [floor, memory] = [Multiplier::DecodeFloor, Multiplier::DecodeMemory].map(|part| self.multiplier(part));
        Some((floor * floor_us, us_per_token * memory.max(1.0)))
    }

    /// Prefill attention of heads so wide: floor (us), FLOP per us, and the length of half efficiency.
    pub(super) fn prefill_attention(&self, head_dim: f64) -> (f64, f64, f64) {
        let curve = self.kernels.prefill_attention.of_head(head_dim);
        let share = (curve.compute / self.multiplier(Multiplier::PrefillCompute)).min(1.0);
        (curve.floor_us, share * Format::Bf16.peak(self.accelerator), curve.half_length)
    }

    /// The same for measured heads: floor (us), us for each pair of a query and a key, us for each token.
    pub(super) fn measured_prefill(&self, shape: HeadsShape) -> Option<(f64, f64, f64)> {
        let [floor_us, us_per_pair, us_per_token] = self.measured?.prefill(shape)?;
        let slower = self.multiplier(Multiplier::PrefillCompute).max(1.0);
        Some((floor_us, us_per_pair * slower, us_per_token * slower))
    }
}
