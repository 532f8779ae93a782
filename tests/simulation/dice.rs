//! Chance that follows from a seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the state of `SplitMix64` grows by.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A source of chance. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Dice(Arc<AtomicU64>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    /// A source of its own, so that what one part asks for moves nothing for the others.
    pub(crate) fn split(&self) -> Self {
        Self::new(self.next())
    }

    /// `SplitMix64`.
    pub(crate) fn next(&self) -> u64 {
        let state = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// At least `from`, less than `to`.
    pub(crate) fn between(&self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    /// Less than `length`.
    pub(crate) fn index(&self, length: usize) -> usize {
        usize::try_from(self.next() % length as u64).unwrap()
    }

    /// True in so many of 1,000 cases.
    pub(crate) fn permille(&self, cases: u64) -> bool {
        self.between(0, 1000) < cases
    }

    /// In 0..=1.
    #[expect(clippy::cast_precision_loss, reason = "dice")]
    pub(crate) fn share(&self) -> f64 {
        self.between(0, 1001) as f64 / 1000.0
    }
}
