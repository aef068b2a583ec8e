//! Memory that no formula gives: what CUDA, NCCL and the graphs take, from tables of real start-ups.

use crate::deployment::Parallelism;
use crate::engine::{CudaGraphRules, EngineRules};

/// Memory outside of `PyTorch`'s allocator on one rank, GiB: the row with the largest sizes that do not exceed the
/// engine's.
pub(super) fn non_torch_gib(rules: &EngineRules, parallelism: Parallelism) -> f64 {
    let applies = |row: &&crate::engine::NonTorch| row.tp <= parallelism.tensor() && row.pp <= parallelism.pipeline();
    rules.non_torch.iter().filter(applies).max_by_key(|row| (row.tp, row.pp)).map_or(0.0, |row| row.gib)
}

/// CUDA graph memory of one rank, GiB: a graph costs about as much whatever its size, plus a little for each layer.
pub(super) fn cuda_graph_gib(rules: &CudaGraphRules, max_num_seqs: u64, stage_layers: usize) -> f64 {
    let graphs = captured_graphs(max_num_seqs) as f64;
    graphs * (rules.gib_per_graph + rules.gib_per_graph_and_layer * stage_layers as f64)
}

/// Graphs that vLLM captures by default (`config/compilation.py`: sizes 1, 2, 4, then every 8 up to 256 and every 16 up to
/// twice the sequences, 512 at most; once piecewise, and once in full for the sizes that decode can have).
fn captured_graphs(max_num_seqs: u64) -> usize {
    let largest = (2 * max_num_seqs).min(512);
    let sizes = || [1, 2, 4].into_iter().chain((8..256).step_by(8)).chain((256..=512).step_by(16));
    let piecewise = sizes().filter(|&size| size <= largest).count();
    let full = sizes().filter(|&size| size <= max_num_seqs).count();
    piecewise + full
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_are_captured_up_to_twice_the_sequences() {
        assert_eq!(captured_graphs(1024), 102);
        assert_eq!(captured_graphs(32), 11 + 7);
        assert_eq!(captured_graphs(1), 2 + 1);
    }

    #[test]
    fn the_largest_row_that_applies_is_taken() {
        let rules = EngineRules::of("0.19.1".parse().unwrap()).unwrap();
        let gib = |tp, pp| non_torch_gib(&rules, Parallelism::new(tp, pp, 1, false, 1).unwrap());
        assert!((gib(1, 1) - 0.25).abs() < 1e-9);
        assert!((gib(1, 4) - 0.07).abs() < 1e-9);
        assert!((gib(8, 1) - 2.17).abs() < 1e-9);
        assert!((gib(2, 2) - 2.07).abs() < 1e-9);
    }
}
