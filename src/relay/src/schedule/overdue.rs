//! What has waited for too long at a destination that does not work. While a destination works, a message expires or its sender is told of the
//! delay with an attempt; where there are none, somebody has to look.

use std::sync::Arc;

use postroad_config::status::UpstreamFailure;

use super::destination::Kind;
use super::message::State;
use super::{Reading, Schedule, Taken};
use crate::slab::NONE;

/// Messages that one look passes by, so that no look takes long.
const VISITS_MAX: u32 = 1_000;

/// Pause between two looks at a message that should have been delivered by now, in milliseconds: where its destination works it has its
/// attempts.
const LOOK_PAUSE_MS: u64 = 60_000;

/// What has waited for too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// What arrived before this has expired, in milliseconds since the epoch.
    pub expired_before_ms: u64,
    /// Senders of what arrived before this are to be told of the delay, once.
    pub late_before_ms: u64,
}

/// What a look found.
#[derive(Clone, Debug, PartialEq)]
pub enum Swept {
    /// A piece, taken, and why its destination does not work.
    Taken(Taken, Arc<UpstreamFailure>),
    /// Nothing so far: look again.
    More,
    /// All have been looked at; the next look begins with the oldest.
    End,
}

impl Schedule {
    /// Takes a piece that has waited for too long behind a destination that does not work, due or not, unless the disk did not give it
    /// back: then it is tried again when it is due.
    pub fn take_overdue(&mut self, limits: Limits, now_ms: u64) -> Swept {
        // By turns, so that neither keeps the other waiting.
        self.deadlines_first = !self.deadlines_first;
        if self.deadlines_first
            && let Some(taken) = self.take_past_deadline(now_ms)
        {
            return taken;
        }
        match self.take_old(limits, now_ms) {
            taken @ Swept::Taken(..) => taken,
            swept if self.deadlines_first => swept,
            swept => self.take_past_deadline(now_ms).unwrap_or(swept),
        }
    }

    fn take_old(&mut self, limits: Limits, now_ms: u64) -> Swept {
        let oldest_ms = limits.expired_before_ms.max(limits.late_before_ms);
        if self.cursor == NONE {
            self.cursor = self.age.first();
        }
        for _ in 0..VISITS_MAX {
            let Some(message) = self.messages.get(self.cursor) else {
                break;
            };
            // One that came from a clock that was ahead tells nothing of those behind it.
            let is_of_the_future = message.arrival_ms > now_ms;
            if message.arrival_ms >= oldest_ms && !is_of_the_future {
                self.cursor = NONE;
                break;
            }
            let since_ms = message.waiting_since_ms();
            let is_overdue = since_ms < limits.expired_before_ms
                || (since_ms < limits.late_before_ms && !message.marks.delay_notified);
            let index = std::mem::replace(&mut self.cursor, message.age.next());
            if is_overdue && let Some(taken) = self.take_stuck(index, now_ms) {
                return taken;
            }
        }
        match self.cursor {
            NONE => Swept::End,
            _ => Swept::More,
        }
    }

    /// Why mail does not go to the upstreams of a destination; `None` if it does. What goes to domains is known from their connections.
    pub fn set_failure(&mut self, place: super::Place, failure: Option<UpstreamFailure>) {
        if let Some(destination) = self.places.all.get_mut(place.0) {
            destination.site.failure = failure.map(Arc::new);
        }
    }

    /// The sender of what [`Self::take_overdue`] gave knows of the delay, or need not. If the time by which it should have been delivered is
    /// past, nothing more follows from that.
    pub fn delay_told(&mut self, ticket: super::Ticket) {
        let Some(index) = self.message_of(ticket) else {
            return;
        };
        let message = &mut self.messages[index];
        message.marks.delay_notified = true;
        if let Some(more) = &message.more
            && more.look_ms > more.deliver_by_ms
        {
            self.deadlines.remove(&(more.look_ms, index));
        }
    }

    /// Whether the holder of this piece is the one to tell the sender of the delay: the first who asks.
    #[must_use]
    pub fn claim_delay_notice(&mut self, ticket: super::Ticket) -> bool {
        let Some(index) = self.known(ticket) else {
            return false;
        };
        let marks = &mut self.messages[index].marks;
        !std::mem::replace(&mut marks.delay_notified, true)
    }

    fn take_past_deadline(&mut self, now_ms: u64) -> Option<Swept> {
        for _ in 0..VISITS_MAX {
            let &(look_ms, index) = self.deadlines.first()?;
            if look_ms > now_ms {
                return None;
            }
            self.deadlines.remove(&(look_ms, index));
            if let Some(more) = &mut self.messages[index].more {
                more.look_ms = now_ms.saturating_add(LOOK_PAUSE_MS);
                self.deadlines.insert((more.look_ms, index));
            }
            if let Some(taken) = self.take_stuck(index, now_ms) {
                return Some(taken);
            }
        }
        None
    }

    /// Takes a piece of a message whose destination does not work, unless it would not be sent yet if it did.
    fn take_stuck(&mut self, index: u32, now_ms: u64) -> Option<Swept> {
        let message = &self.messages[index];
        if message.not_before_ms() > now_ms {
            return None;
        }
        let unreadable = message.marks.unreadable;
        let mut next = self.messages[index].pieces;
        while next != NONE {
            let (this, piece) = (next, &self.pieces[next]);
            next = piece.sibling;
            let destination = &self.places.all[piece.place];
            let may_go = piece.state == State::Ready
                || (piece.state == State::Waiting && (!unreadable || piece.due_ms <= now_ms));
            if !may_go || destination.id.0 == Kind::Hold {
                continue;
            }
            let Some(failure) = destination.site.failure.clone() else {
                continue;
            };
            let place = piece.place;
            self.dequeue(this);
            let taken = self.hand_out(this, now_ms);
            self.places
                .update(&mut self.names, &self.lanes, place, now_ms);
            return taken.map(|taken| Swept::Taken(taken, failure));
        }
        None
    }

    /// Gives back a piece that could not be settled: as [`Self::release`], due at once.
    pub fn put_back(&mut self, ticket: super::Ticket, now_ms: u64) {
        self.release(ticket, now_ms, Reading::Fine, now_ms);
    }
}
