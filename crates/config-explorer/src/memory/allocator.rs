//! What `PyTorch` counts as allocated.
//!
//! vLLM prints the memory of a model's weights as `PyTorch`'s caching allocator counts it, and takes that figure from the
//! KV cache. The allocator hands out whole blocks: sizes are rounded up to 512 bytes; large blocks are cut from segments
//! of 20 MiB (requests under 10 MiB) or of a multiple of 2 MiB, and what is left of a segment is split off only if it is
//! larger than 1 MiB. With these rules the printed weights of real servers are reproduced to the printed digit (e.g.
//! Qwen2.5-7B: tensors of 14.185 GiB, printed 14.2487). Source: `PyTorch` `c10/cuda/CUDACachingAllocator.cpp`
//! (`kMinBlockSize`, `kSmallSize`, `kLargeBuffer`, `kMinLargeAlloc`, `kRoundLarge`, `should_split`).

const MIB: u64 = 1 << 20;
const MIN_BLOCK_BYTES: u64 = 512;
/// Requests up to this size come from the pool of small blocks, which always splits.
const SMALL_BYTES: u64 = MIB;
/// Requests from this size on get a segment of their own.
const MIN_LARGE_BYTES: u64 = 10 * MIB;
const LARGE_SEGMENT_BYTES: u64 = 20 * MIB;
const LARGE_ROUNDING_BYTES: u64 = 2 * MIB;

/// The allocator of one device, as far as its count of allocated bytes goes.
#[derive(Debug, Default)]
pub(super) struct CachingAllocator {
    free_blocks: Vec<u64>,
    allocated_bytes: u64,
}

impl CachingAllocator {
    /// Allocates one tensor.
    pub(super) fn allocate(&mut self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let size = bytes.next_multiple_of(MIN_BLOCK_BYTES);
        if size <= SMALL_BYTES {
            self.allocated_bytes += size;
            return;
        }
        let best = (0..self.free_blocks.len())
            .filter(|&index| self.free_blocks[index] >= size)
            .min_by_key(|&index| self.free_blocks[index]);
        let block = match best {
            Some(index) => self.free_blocks.swap_remove(index),
            None if size < MIN_LARGE_BYTES => LARGE_SEGMENT_BYTES,
            None => size.next_multiple_of(LARGE_ROUNDING_BYTES),
        };
        if block - size > SMALL_BYTES {
            self.free_blocks.push(block - size);
            self.allocated_bytes += size;
        } else {
            self.allocated_bytes += block;
        }
    }

    /// Bytes counted as allocated.
    pub(super) fn allocated_bytes(&self) -> u64 {
        self.allocated_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocated(sizes: &[u64]) -> u64 {
        let mut allocator = CachingAllocator::default();
        sizes.iter().for_each(|&size| allocator.allocate(size));
        allocator.allocated_bytes()
    }

    #[test]
    fn small_tensors_are_rounded_to_512_bytes() {
        assert_eq!(allocated(&[1, 512, 0]), 1024);
    }

    #[test]
    fn a_remainder_up_to_one_mib_stays_with_its_block() {
        // 21.5 x 2 MiB: half a rounding step is exactly 1 MiB and is not split off.
        assert_eq!(allocated(&[43 * MIB]), 44 * MIB);
        // 12.25 x 2 MiB: 1.5 MiB are left and are split off.
        assert_eq!(allocated(&[24 * MIB + MIB / 2]), 24 * MIB + MIB / 2);
    }

    #[test]
    fn medium_tensors_share_a_segment() {
        // 8 + 8 of 20 MiB leave 4; the third 8 opens a segment, 3.5 fits the leftover of 4 and keeps its half.
        assert_eq!(allocated(&[8 * MIB, 8 * MIB, 8 * MIB]), 24 * MIB);
        assert_eq!(allocated(&[8 * MIB, 8 * MIB, 3 * MIB + MIB / 2]), 20 * MIB);
    }
}
