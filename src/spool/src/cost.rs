//! What it costs at most to keep something in memory: for bounds that say how much fits. Pure.
//!
//! Fragmentation comes on top; no program can bound it, so that whoever adds these up leaves room.

use crate::number::wide;

/// Most entries in a node of the standard library's B-tree.
const NODE_ENTRIES_MAX: usize = 11;

/// Fewest entries in such a node, the root apart.
const NODE_ENTRIES_MIN: usize = 5;

/// What a node holds beside its entries: the way to its parent (16 with padding), and a sixth of the 12 edges of the node above.
const NODE_BYTES: usize = 16 + 12 * 8 / 6;

/// An allocator rounds sizes up by less than one part in so many.
const ROUNDING_PARTS: usize = 4;

/// Most memory for one entry (key and value together) of a large `BTreeMap` or `BTreeSet`, in bytes.
#[must_use]
pub const fn tree_bytes(entry: usize) -> u64 {
    allocated(NODE_ENTRIES_MAX * entry + NODE_BYTES).div_ceil(wide(NODE_ENTRIES_MIN))
}

/// Most memory for a value of so many bytes in a box of its own, in bytes.
#[must_use]
pub const fn allocated(bytes: usize) -> u64 {
    wide(bytes + bytes / ROUNDING_PARTS)
}
