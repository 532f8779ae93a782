//! What it costs at most to keep something in memory: for bounds that say how much fits. Pure.
//!
//! Fragmentation comes on top; no program can bound it, so that whoever adds these up leaves room.

use crate::number::wide;

/// An allocator rounds sizes up by less than one part in so many.
const ROUNDING_PARTS: usize = 4;

/// Most memory for a value of so many bytes in a box of its own, in bytes.
#[must_use]
pub const fn allocated(bytes: usize) -> u64 {
    wide(bytes + bytes / ROUNDING_PARTS)
}
