//! One accelerator with its calibrated kernels: what an operator of a given size takes on it.

use super::coefficients::{Kernels, Link, kernels};
use super::kernel::{Experts, Kernel, Roofline};
use super::{Calibration, EngineTime, Format, KernelBasis, Multiplier};
use crate::hardware::Accelerator;
use crate::model::Moe;

/// Share of the memory bandwidth that elementwise kernels reach (the reference's 2.5).
const ELEMENTWISE_MEMORY: f64 = 0.7;
/// Share of an inter-node link that a collective reaches, and its latency: a ring over RDMA, not validated.
const NETWORK_EFFICIENCY: f64 = 0.7;
const NETWORK_LATENCY_US: f64 = 30.0;

/// An accelerator with its calibrated kernels.
pub(super) struct Device<'a> {
    pub(super) accelerator: &'a Accelerator,
    kernels: &'static Kernels,
    generation: &'static str,
    pub(super) basis: KernelBasis,
    calibration: &'a Calibration,
    /// Bytes per us.
    pub(super) bandwidth: f64,
}

impl<'a> Device<'a> {
    pub(super) fn new(accelerator: &'a Accelerator, calibration: &'a Calibration) -> Self {
        let (kernels, generation, basis) = kernels(accelerator);
        let bandwidth = accelerator.memory_bandwidth_gb_per_s * 1e3;
        Self { accelerator, kernels, generation, basis, calibration, bandwidth }
    }

    pub(super) fn multiplier(&self, multiplier: Multiplier) -> f64 {
        self.calibration.multiplier(self.generation, multiplier)
    }

    pub(super) fn engine_time_us(&self, time: EngineTime) -> f64 {
        self.calibration.engine_time_us(time)
    }

    /// Bytes per us that a kernel of this efficiency reaches. No calibration makes a kernel faster than the device.
    fn reached_bandwidth(&self, efficiency: f64, multiplier: Multiplier) -> (f64, f64) {
        let share = (efficiency / self.multiplier(multiplier)).min(1.0);
        (self.bandwidth * share, share)
    }

    /// A matrix of `outputs` x `inputs` in a format.
    pub(super) fn gemm(&self, outputs: f64, inputs: f64, format: Format) -> Kernel {
        let curve = self.kernels.gemm(format);
        let (memory, compute) = Multiplier::of_gemm(format);
        let (bandwidth, memory_share) = self.reached_bandwidth(curve.memory, memory);
        let compute_share = (curve.compute / self.multiplier(compute)).min(1.0);
        Kernel::Roofline(Roofline {
            floor_us: curve.floor_us * self.multiplier(Multiplier::GemmFloor),
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
        let curve = self.kernels.experts(format);
        let (memory, compute) = Multiplier::of_experts(format);
        let (bandwidth, memory_share) =
            self.reached_bandwidth(curve.memory / (1.0 + curve.memory_tile / slice), memory);
        let compute_share = (curve.compute / (1.0 + curve.compute_tile / slice) / self.multiplier(compute)).min(1.0);
        let hidden = moe.expert_hidden_size as f64;
        let per_token = moe.experts_per_token as f64;
        // Gate, up and down projection; without a gate, two of them.
        let matrices = if moe.gated { 3.0 } else { 2.0 };
        let activations = 2.0 * per_token * (2.0 * hidden + matrices * slice) / ranks;
        Kernel::Experts(Experts {
            roofline: Roofline {
                floor_us: curve.floor_us * self.multiplier(Multiplier::ExpertsFloor),
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
    fn all_reduce_algorithms(&self, ranks: u32) -> Vec<Link> {
        let slowdown = self.multiplier(Multiplier::Collective);
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
        Kernel::Collective { bytes_per_token, algorithms: self.all_reduce_algorithms(ranks) }
    }

    /// Gather of the logits over `ranks` GPUs, at the bandwidth of the all-reduce for large messages.
    pub(super) fn gather(&self, latency_us: f64, bytes_per_sequence: f64, ranks: u32) -> Kernel {
        let bandwidths = self.all_reduce_algorithms(ranks).into_iter().map(|link| link.bytes_per_us);
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
        (floor_us, self.reached_bandwidth(curve.memory, Multiplier::DecodeMemory).0)
    }

    /// Prefill attention of heads so wide: floor (us), FLOP per us, and the length of half efficiency.
    pub(super) fn prefill_attention(&self, head_dim: f64) -> (f64, f64, f64) {
        let curve = self.kernels.prefill_attention.of_head(head_dim);
        let share = (curve.compute / self.multiplier(Multiplier::PrefillCompute)).min(1.0);
        (curve.floor_us, share * Format::Bf16.peak(self.accelerator), curve.half_length)
    }
}
