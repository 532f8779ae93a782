//! Lengths in memory are `usize`; on disk they have 64 bits.

/// A length in memory as one on disk: no machine has more memory than that.
pub(crate) const fn wide(length: usize) -> u64 {
    length as u64
}
