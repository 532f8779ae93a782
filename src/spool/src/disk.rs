//! How much of the volume may be used, and how it is divided.
//!
//! Mail is taken only while [`RESERVE_SEGMENTS`] segments are free beyond it. Outcomes, bounces and compaction use the rest, so that
//! a full disk empties by itself: if the outcome of a delivery found no room, nothing could ever be forgotten.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Config;
use crate::sys::FileSystem;

/// The usual size of a segment: large enough that a new one is rare, small enough that space comes back soon.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// A volume holds so many segments at least, or it would be full of what is left of the first few.
const SEGMENTS_PER_VOLUME: u64 = 32;

/// Smaller segments would be begun for every other message.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// So many segments are kept free: one to append to, one for what compaction moves meanwhile, one for outcomes and bounces.
pub const RESERVE_SEGMENTS: u64 = 3;

/// Most that is set aside for outcomes alone, for when others fill the volume: so many bytes hold 70,000 of them.
const OUTCOME_BYTES_MAX: u64 = 4 << 20;

/// Least that is set aside for them: a thousand.
pub(crate) const OUTCOME_BYTES_MIN: u64 = 64 << 10;

/// What is set aside for outcomes is so small a part of a segment, within these bounds.
const OUTCOME_PARTS: u64 = 4;

/// The room on the volume.
#[derive(Debug)]
pub(crate) struct Room {
    /// Size at which a new segment is begun.
    pub(crate) segment_bytes: u64,
    bytes_max: Option<u64>,
    /// As last measured, less what was written since.
    free: AtomicU64,
    /// Bytes of files that will be segments again: taken, and as good as free.
    spare: AtomicU64,
}

impl Room {
    /// As the volume is now; one that cannot be measured counts as large: that it is full shows when it is written.
    pub(crate) fn of(fs: &dyn FileSystem, config: &Config) -> Self {
        let volume = fs.space(&config.directory);
        let total = volume.map_or(u64::MAX, |space| space.total);
        let total = total.min(config.bytes_max.unwrap_or(u64::MAX));
        let fitting = (total / SEGMENTS_PER_VOLUME).max(SEGMENT_BYTES_MIN);
        Self {
            segment_bytes: config.segment_bytes.min(fitting),
            bytes_max: config.bytes_max,
            free: AtomicU64::new(u64::MAX),
            spare: AtomicU64::new(0),
        }
    }

    /// Measures; `disk_bytes` is what the segments hold.
    pub(crate) fn measure(&self, fs: &dyn FileSystem, directory: &Path, disk_bytes: u64) {
        let spare = self.spare();
        let free = fs.space(directory).map_or(u64::MAX, |space| space.free);
        let left = self.bytes_max.map_or(u64::MAX, |most| {
            // The active segment takes all of its length from the start, and so does what is set aside.
            let taken = self.segment_bytes.saturating_add(self.outcome_bytes());
            let taken = taken.saturating_add(spare);
            most.saturating_sub(disk_bytes.saturating_add(taken))
        });
        let free = free.min(left).saturating_add(spare);
        self.free.store(free, Ordering::Relaxed);
    }

    /// Bytes of spare files.
    pub(crate) fn spare(&self) -> u64 {
        self.spare.load(Ordering::Relaxed)
    }

    /// So many bytes are in spare files now; the next measurement takes that in.
    pub(crate) fn set_spare(&self, bytes: u64) {
        self.spare.store(bytes, Ordering::Relaxed);
    }

    /// So much was written. Some of it may have been set aside for the segment already: until the next measurement the disk
    /// counts as a little fuller than it is.
    pub(crate) fn spend(&self, bytes: u64) {
        let spend = |free: u64| Some(free.saturating_sub(bytes));
        // The closure never declines.
        let _ = self
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend);
    }

    /// How much is set aside for outcomes, in bytes: see [`crate::writer`].
    pub(crate) fn outcome_bytes(&self) -> u64 {
        (self.segment_bytes / OUTCOME_PARTS).clamp(OUTCOME_BYTES_MIN, OUTCOME_BYTES_MAX)
    }

    /// Whether a whole segment fits: then what found the disk full is tried again.
    pub(crate) fn has_segment(&self) -> bool {
        self.free() >= self.segment_bytes
    }

    pub(crate) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Whether so many bytes leave the reserve as it is.
    pub(crate) fn admits(&self, bytes: u64) -> bool {
        let reserve = self.segment_bytes.saturating_mul(RESERVE_SEGMENTS);
        self.free() >= reserve.saturating_add(bytes)
    }

    /// With so many bytes free there is room for what is only of use.
    pub(crate) fn ample_bytes(&self) -> u64 {
        self.segment_bytes.saturating_mul(RESERVE_SEGMENTS + 1)
    }

    /// Whether the disk is so full, or nearly, that it matters what old segments keep.
    pub(crate) fn is_tight(&self) -> bool {
        !self.admits(self.segment_bytes)
    }
}
