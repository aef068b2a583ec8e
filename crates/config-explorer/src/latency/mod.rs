//! The time of one engine step: a batch of prompt chunks and decoding sequences with their true contexts.
//!
//! In: a [`Configuration`]: a model's layers ([`Decoder`]), an accelerator, a layout, engine settings and a
//! [`Calibration`]. Out: [`StepTimes`], compiled once so that a step costs two table look-ups and some ten
//! multiplications, and its [`breakdown`] into operators, each with what binds it. Pure: no input or output.
//!
//! A step is the sum of its operators. Each takes the launch floor and a p-norm of its memory and compute time, whose
//! efficiencies were measured kernel by kernel (`data/coefficients/<generation>.toml`) and corrected end to end by
//! bounded multipliers (`data/coefficients/calibration.toml`). No coefficient belongs to a model. What is not in a
//! kernel table (state updates of linear attention, indexers, pipelines, exchanges between data-parallel ranks) is
//! computed from bytes and FLOP with assumed efficiencies, named where they stand.

mod bounds;
mod calibration;
mod coefficients;
mod decoder;
mod device;
mod format;
mod kernel;
mod kernel_tables;
mod operators;
mod step;

pub use calibration::{Calibration, EngineTime, IntervalQuantiles, Multiplier, Regime};
pub use coefficients::{KernelBasis, generation, kernel_basis};
pub use decoder::{Decoder, LayerFormats};
pub use format::Format;
pub use kernel::{BoundBy, OperatorTime};
pub use kernel_tables::MeasuredKernels;
pub use step::{Chunk, Configuration, Decodes, OperatorShare, StepTimes, breakdown};
