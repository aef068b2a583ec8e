//! The one unit conversion everybody needs. Byte counts are `u64` in fields named `_bytes`; GiB are `f64` in fields
//! named `_gib`.

/// Bytes in one GiB (2^30).
pub const GIB: f64 = 1_073_741_824.0;

/// Bytes as GiB.
pub fn gib(bytes: u64) -> f64 {
    bytes as f64 / GIB
}
