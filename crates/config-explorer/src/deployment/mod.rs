//! How engines are laid out over GPUs.
//!
//! In: the parallel sizes of one engine and the nodes it runs on. Out: [`Parallelism`] and what follows from it: GPUs,
//! ranks that share experts, the decoder layers of each pipeline stage. Source: vLLM `config/parallel.py` and
//! `distributed/utils.py` (`get_pp_indices`).

mod parallelism;

pub use parallelism::{Nodes, Parallelism};
