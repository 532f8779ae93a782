//! What becomes of a message whose worker panics.
//!
//! Nobody else would ever give it back before the next start. What it was doing is not known, the upstream may have
//! taken the message: that is the same window as that of a process that dies.

use super::Queue;
use crate::clock;
use crate::schedule::Ticket;

/// Pause before the message is tried again: whatever panicked over it will most likely do so again.
const PAUSE_MS: u64 = 60_000;

/// Puts a message back that is still taken when the task that has this panics. Otherwise it does nothing.
pub struct ReclaimOnPanic {
    queue: Queue,
    ticket: Ticket,
}

impl Queue {
    /// To be kept for as long as a message is taken.
    #[must_use]
    pub fn reclaim_on_panic(&self, ticket: Ticket) -> ReclaimOnPanic {
        let queue = self.clone();
        ReclaimOnPanic { queue, ticket }
    }
}

impl Drop for ReclaimOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(id = %self.ticket.id, "a worker panicked over this message; what is left of it is tried again in a minute");
            self.queue.reclaim(self.ticket);
        }
    }
}

impl Queue {
    fn reclaim(&self, ticket: Ticket) {
        // Whoever settles the last recipient says that the message is done: it has not come to that.
        let is_settled = self.change(|schedule, _| schedule.is_last(ticket, &[]));
        match is_settled {
            true => self.finish(ticket),
            false => self.release(ticket, clock::now_ms().saturating_add(PAUSE_MS)),
        }
    }
}

#[cfg(test)]
mod tests;
