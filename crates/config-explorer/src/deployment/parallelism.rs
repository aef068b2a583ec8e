//! Tensor, pipeline, data, expert and decode-context parallelism of one engine.

use std::ops::Range;

use crate::engine::ServeArgs;
use crate::{Error, Result};

/// Parallel sizes of one engine, each at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Parallelism {
    tensor: u32,
    pipeline: u32,
    data: u32,
    experts_spread: bool,
    decode_context: u32,
}

/// The nodes that an engine's GPUs stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nodes {
    /// Nodes that may be used; `None`: as many as it takes.
    pub count: Option<u32>,
    /// GPUs of one node.
    pub gpus_per_node: u32,
}

impl Parallelism {
    /// One GPU.
    pub const SINGLE: Self = Self { tensor: 1, pipeline: 1, data: 1, experts_spread: false, decode_context: 1 };

    /// Sizes as vLLM's flags name them.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for a size of 0, a product beyond `u32`, or a decode context size that does not divide
    /// the tensor-parallel size (its ranks are tensor-parallel ranks).
    pub fn new(tensor: u32, pipeline: u32, data: u32, experts_spread: bool, decode_context: u32) -> Result<Self> {
        let invalid =
            |setting: &str, reason: String| Err(Error::InvalidSetting { setting: setting.to_owned(), reason });
        for (setting, size) in [
            ("--tensor-parallel-size", tensor),
            ("--pipeline-parallel-size", pipeline),
            ("--data-parallel-size", data),
            ("--decode-context-parallel-size", decode_context),
        ] {
            if size == 0 {
                return invalid(setting, "must be at least 1".to_owned());
            }
        }
        if tensor.checked_mul(pipeline).and_then(|ranks| ranks.checked_mul(data)).is_none() {
            return invalid("--tensor-parallel-size", "TP x PP x DP is beyond any cluster".to_owned());
        }
        if !tensor.is_multiple_of(decode_context) {
            return invalid(
                "--decode-context-parallel-size",
                format!("{decode_context} must divide the tensor-parallel size {tensor}"),
            );
        }
        Ok(Self { tensor, pipeline, data, experts_spread, decode_context })
    }

    /// The sizes that a `vllm serve` command gives, 1 where it gives none.
    ///
    /// # Errors
    /// As [`Parallelism::new`].
    pub fn from_args(args: &ServeArgs) -> Result<Self> {
        let size = |size: Option<std::num::NonZeroU32>| size.map_or(1, std::num::NonZero::get);
        Self::new(
            size(args.tensor_parallel_size),
            size(args.pipeline_parallel_size),
            size(args.data_parallel_size),
            args.enable_expert_parallel.unwrap_or(false),
            size(args.decode_context_parallel_size),
        )
    }

    /// Tensor-parallel size.
    pub fn tensor(self) -> u32 {
        self.tensor
    }

    /// Pipeline stages.
    pub fn pipeline(self) -> u32 {
        self.pipeline
    }

    /// Data-parallel ranks: engines with a KV cache each.
    pub fn data(self) -> u32 {
        self.data
    }

    /// Tensor-parallel ranks that split a sequence's KV cache during decode.
    pub fn decode_context(self) -> u32 {
        self.decode_context
    }

    /// `--enable-expert-parallel`.
    pub fn experts_spread(self) -> bool {
        self.experts_spread
    }

    /// GPUs of the engine.
    pub fn gpus(self) -> u32 {
        self.tensor * self.pipeline * self.data
    }

    /// Ranks over which whole experts are distributed (vLLM `fused_moe/config.py`: TP x DP); 1 without expert
    /// parallelism.
    pub fn expert_ranks(self) -> u32 {
        if self.experts_spread { self.tensor * self.data } else { 1 }
    }

    /// Decoder layers of each pipeline stage, as vLLM's `get_pp_indices` deals them: what does not divide goes to the
    /// stages before the last, from the last but one backwards.
    pub fn stage_layers(self, layers: usize) -> Vec<Range<usize>> {
        let stages = self.pipeline as usize;
        let mut sizes = vec![layers / stages; stages];
        let remainder = layers % stages;
        for size in sizes.iter_mut().rev().skip(1).take(remainder) {
            *size += 1;
        }
        let mut start = 0;
        sizes
            .into_iter()
            .map(|size| {
                start += size;
                start - size..start
            })
            .collect()
    }

    /// Why this engine cannot stand in these nodes; `None` if it can.
    pub fn placement_problem(self, nodes: Nodes) -> Option<String> {
        let per_node = nodes.gpus_per_node.max(1);
        if let Some(count) = nodes.count
            && u64::from(self.gpus()) > u64::from(count) * u64::from(per_node)
        {
            return Some(format!("needs {} GPUs, and {count} x {per_node} are there", self.gpus()));
        }
        let straddles = if self.tensor <= per_node {
            !per_node.is_multiple_of(self.tensor) && self.gpus() > per_node
        } else {
            !self.tensor.is_multiple_of(per_node)
        };
        straddles.then(|| {
            format!(
                "TP {} does not fill nodes of {per_node} GPUs evenly: a group would straddle two nodes",
                self.tensor
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(layers: usize, pipeline: u32) -> Vec<usize> {
        let parallelism = Parallelism::new(1, pipeline, 1, false, 1).unwrap();
        parallelism.stage_layers(layers).into_iter().map(|stage| stage.len()).collect()
    }

    #[test]
    fn the_remainder_goes_before_the_last_stage() {
        assert_eq!(stages(32, 4), [8, 8, 8, 8]);
        assert_eq!(stages(61, 2), [31, 30]);
        assert_eq!(stages(62, 4), [15, 16, 16, 15]);
        assert_eq!(stages(3, 4), [1, 1, 1, 0]);
    }

    #[test]
    fn refuses_sizes_that_cannot_be() {
        assert!(Parallelism::new(0, 1, 1, false, 1).is_err());
        assert!(Parallelism::new(4, 1, 1, false, 3).is_err());
        assert!(Parallelism::new(u32::MAX, 2, 1, false, 1).is_err());
    }

    #[test]
    fn groups_do_not_straddle_nodes() {
        let eight = Nodes { count: None, gpus_per_node: 8 };
        let tp = |tp, dp| Parallelism::new(tp, 1, dp, false, 1).unwrap();
        assert_eq!(tp(8, 2).placement_problem(eight), None);
        assert_eq!(tp(16, 1).placement_problem(eight), None);
        assert!(tp(12, 1).placement_problem(eight).is_some());
        assert!(tp(3, 4).placement_problem(eight).is_some());
        let two = Nodes { count: Some(1), gpus_per_node: 2 };
        assert!(tp(4, 1).placement_problem(two).unwrap().contains("needs 4 GPUs"));
    }
}
