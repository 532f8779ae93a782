//! Room in the bound on the queue for what is on its way to the disk.
//!
//! What is queued counts in the schedule; what is not there yet counts here, so that a thousand sessions that all find room do not
//! all take it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Queue, Shared};
use crate::room::Weight;

/// Room for a message; given back when dropped, which is when the schedule has it, or when nobody will.
pub(super) struct Room {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Queue {
    /// Whether a message to one recipient could be taken: what is over this bound is turned down.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.reserve(Weight::of(1, 1)).is_some()
    }

    /// How much of the bound is used up, from 0 to 1; more only if a start found more than the bound.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share for people to look at")]
    pub fn fill(&self) -> f64 {
        let weight = self.schedule().totals().weight;
        weight.bytes() as f64 / self.shared.weight_max as f64
    }

    pub(super) fn reserve(&self, weight: Weight) -> Option<Room> {
        let bytes = weight.bytes();
        // The lock makes looking and taking one step.
        let schedule = self.schedule();
        let reserved = self.shared.reserved.load(Ordering::SeqCst);
        let used = schedule.totals().weight.bytes().saturating_add(reserved);
        if used.saturating_add(bytes) > self.shared.weight_max {
            return None;
        }
        self.shared.reserved.fetch_add(bytes, Ordering::SeqCst);
        Some(Room {
            shared: Arc::clone(&self.shared),
            bytes,
        })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.reserved.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}
