//! Room in the bound on the queue for what is on its way to the disk.
//!
//! What is queued counts in the schedule; what is not there yet counts here, so that a thousand sessions that all find room do not
//! all take it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use postroad_spool::Message;

use super::{Queue, Shared, State};
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
        self.reserve(&self.state(), Weight::of(1, 1).bytes())
            .is_some()
    }

    /// How much of the bound is used up, from 0 to 1; more only if a start found more than the bound.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share for people to look at")]
    pub fn fill(&self) -> f64 {
        let used = used(&self.state());
        used as f64 / self.shared.bytes_max.load(Ordering::SeqCst) as f64
    }

    /// Room for a message, as it will be filed.
    pub(super) fn reserve_for(&self, message: &Message) -> Option<Room> {
        let queued = message.queued();
        let weight = Weight::of(queued.recipients, u64::from(queued.recipients));
        let state = self.state();
        let shared = state.schedule.shared_bytes_of(&queued);
        self.reserve(&state, weight.bytes().saturating_add(shared))
    }

    /// The lock makes looking and taking one step.
    fn reserve(&self, state: &State, bytes: u64) -> Option<Room> {
        let reserved = self.shared.reserved.load(Ordering::SeqCst);
        let used = used(state).saturating_add(reserved);
        if used.saturating_add(bytes) > self.shared.bytes_max.load(Ordering::SeqCst) {
            return None;
        }
        self.shared.reserved.fetch_add(bytes, Ordering::SeqCst);
        Some(Room {
            shared: Arc::clone(&self.shared),
            bytes,
        })
    }
}

/// What is queued takes of memory, in bytes.
fn used(state: &State) -> u64 {
    let weight = state.schedule.totals().weight.bytes();
    weight.saturating_add(state.schedule.shared_bytes())
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.reserved.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}
