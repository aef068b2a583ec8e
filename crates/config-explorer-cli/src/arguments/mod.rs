//! Arguments that several commands share.

pub(crate) mod engine;
pub(crate) mod hardware;
pub(crate) mod kernels;
pub(crate) mod model;
pub(crate) mod names;
pub(crate) mod picture;
pub(crate) mod target;
pub(crate) mod workload;
