//! What has waited for too long without an attempt. While a destination works, a message expires or its sender is told of the delay with an
//! attempt; where there are none, somebody has to look: because the destination does not work, or because the turn of the message does not come
//! (a rate, no room in memory, much mail before it). Whoever is looked at keeps its place.

use std::sync::Arc;

use postroad_config::status::UpstreamFailure;
use postroad_spool::MessageId;

use super::destination::Kind;
use super::lanes::{Label, Upcoming};
use super::message::{Piece, State};
use super::{Reading, Schedule, Taken, Ticket};
use crate::room::load::Sender;
use crate::slab::NONE;

/// Messages that one look passes by, so that no look takes long.
const VISITS_MAX: u32 = 1_000;

/// Pause between two looks at a message that should have been delivered by now, in milliseconds: where its destination works it has its
/// attempts.
const LOOK_PAUSE_MS: u64 = 60_000;

/// For so long after its time a message is left to the attempt that may be due just then, if its destination works, in milliseconds: that
/// knows better what to say of it.
const TURN_MS: u64 = 30_000;

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
    /// A piece, taken, and why its destination does not work; `None` if that does, and the piece waits for its turn.
    Taken(Taken, Option<Arc<UpstreamFailure>>),
    /// Nothing so far: look again.
    More,
    /// All have been looked at; the next look begins with the oldest.
    End,
}

/// Where a piece stood that is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Seat {
    ticket: Ticket,
    /// The piece that stood behind it; [`NONE`] if it was the last, or was not due.
    behind: u32,
    /// Whose turn came after its own.
    next: Option<Upcoming>,
}

/// For how much of a message somebody need not know how old it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Untold {
    /// The piece that was looked at.
    Piece,
    /// All of it, whatever its other pieces wait for.
    Message,
}

/// From where a piece is taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reach {
    /// What does not work.
    Failing,
    /// What works too.
    Any,
}

/// Why a message is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cause {
    /// It is to be returned.
    Expired,
    /// Its sender may have to be told, or wants it back.
    Late,
}

impl Reach {
    /// Where the time was over for long enough.
    fn long_over(is_over: bool) -> Self {
        match is_over {
            true => Self::Any,
            false => Self::Failing,
        }
    }
}

impl Schedule {
    /// Takes a piece that has waited for too long: behind a destination that does not work, due or not; else if it is due, or was put off
    /// without ever being tried, half a minute after its time. Not what the disk did not give back: that is tried again when it is due.
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
            let marks = message.marks;
            let is_told = marks.delay_notified || marks.age_ignored;
            let may_be_told = !is_told && marks.sender == Sender::Somebody;
            let is_overdue = |since_ms| {
                since_ms < limits.expired_before_ms
                    || (since_ms < limits.late_before_ms && may_be_told)
            };
            let index = std::mem::replace(&mut self.cursor, message.age.next());
            let is_expired = since_ms < limits.expired_before_ms;
            // What could not be tried until now, because it was held or the process was down, is not returned without an attempt.
            let is_told = !is_expired && is_overdue(since_ms.saturating_add(TURN_MS));
            let reach = Reach::long_over(is_told);
            let cause = if is_expired {
                Cause::Expired
            } else {
                Cause::Late
            };
            if is_overdue(since_ms)
                && let Some(taken) = self.take_stuck(index, cause, reach, now_ms)
            {
                return taken;
            }
        }
        match self.cursor {
            NONE => Swept::End,
            _ => Swept::More,
        }
    }

    /// Takes a piece of a message, wherever it waits; `None` if somebody has one of it, or it is gone. Looks at all messages, a millisecond or
    /// two for a full queue: for what is rare, damaged mail that keeps the disk, of which the spool tells a hundred a minute at most.
    pub fn take_of(&mut self, id: MessageId, now_ms: u64) -> Option<Taken> {
        let mut all = 0..self.messages.end();
        let is_it = |index: &u32| self.messages.get(*index).is_some_and(|one| one.id == id);
        let first = self.messages[all.find(is_it)?].pieces;
        let mut next = first;
        while let Some(piece) = self.pieces.get(next) {
            if piece.state == State::Active {
                return None;
            }
            next = piece.sibling;
        }
        self.pieces.get(first)?;
        self.take_aside(first, now_ms)
    }

    /// Why mail does not go to the upstreams of a destination; `None` if it does. What goes to domains is known from their connections.
    pub fn set_failure(&mut self, place: super::Place, failure: Option<UpstreamFailure>) {
        if let Some(destination) = self.places.all.get_mut(place.0) {
            let site = &mut destination.site;
            site.failure = failure.map(Arc::new);
            if site.failure.is_some() {
                site.answer = None;
            }
        }
    }

    /// The sender of what [`Self::take_overdue`] gave knows of the delay.
    pub fn delay_told(&mut self, ticket: Ticket) {
        if let Some(index) = self.message_of(ticket) {
            self.messages[index].marks.delay_notified = true;
            self.forget_deadline(index);
        }
    }

    /// The sender of what [`Self::take_overdue`] gave need not know how old so much of it is. When the time comes by which it should have been
    /// delivered, it is looked at again.
    pub fn nothing_to_tell(&mut self, ticket: Ticket, untold: Untold) {
        let Some(index) = self.message_of(ticket) else {
            return;
        };
        match untold {
            Untold::Piece => self.pieces[ticket.piece].age_ignored = true,
            Untold::Message => {
                self.messages[index].marks.age_ignored = true;
                self.forget_deadline(index);
            }
        }
    }

    /// If the time by which a message should have been delivered is past, nothing more follows from that.
    fn forget_deadline(&mut self, index: u32) {
        if let Some(more) = &self.messages[index].more
            && more.look_ms > more.deliver_by_ms
        {
            self.deadlines.remove(&(more.look_ms, index));
        }
    }

    /// Whether the holder of this piece is the one to tell the sender of the delay: the first who asks.
    #[must_use]
    pub fn claim_delay_notice(&mut self, ticket: Ticket) -> bool {
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
            let mut reach = Reach::Failing;
            let mut is_first = false;
            if let Some(more) = &mut self.messages[index].more {
                reach = Reach::long_over(more.deliver_by_ms.saturating_add(TURN_MS) <= now_ms);
                is_first = more.look_ms == more.deliver_by_ms;
                more.look_ms = now_ms.saturating_add(LOOK_PAUSE_MS);
                self.deadlines.insert((more.look_ms, index));
            }
            if is_first {
                self.heed_age(index);
            }
            if let Some(taken) = self.take_stuck(index, Cause::Late, reach, now_ms) {
                return Some(taken);
            }
        }
        None
    }

    /// Whom the age of its pieces did not concern, the deadline may.
    fn heed_age(&mut self, index: u32) {
        let mut next = self.messages[index].pieces;
        while let Some(piece) = self.pieces.get_mut(next) {
            piece.age_ignored = false;
            next = piece.sibling;
        }
    }

    /// Takes a piece of a message that waits there, unless it must not be sent yet, or nobody is to be told of that piece.
    fn take_stuck(&mut self, index: u32, cause: Cause, reach: Reach, now_ms: u64) -> Option<Swept> {
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
            let is_asked = cause == Cause::Expired || !piece.age_ignored;
            let may_go = piece.state == State::Ready
                || (piece.state == State::Waiting && (!unreadable || piece.due_ms <= now_ms));
            let failure = destination.site.failure.clone();
            let is_stuck = match destination.id.0 {
                Kind::Hold | Kind::Bounce => false,
                // What was put off by an answer hears of the delay with the next.
                Kind::Default | Kind::Route | Kind::Domain => {
                    let is_untried = piece.state == State::Ready || piece.attempts == 0;
                    failure.is_some() || (reach == Reach::Any && is_untried)
                }
            };
            if is_asked && may_go && is_stuck {
                let taken = self.take_aside(this, now_ms);
                return taken.map(|taken| Swept::Taken(taken, failure));
            }
        }
        None
    }

    fn take_aside(&mut self, this: u32, now_ms: u64) -> Option<Taken> {
        let piece = &self.pieces[this];
        let place = piece.place;
        let (behind, next) = match piece.state {
            State::Ready => {
                let (_, label) = self.stand(this);
                (piece.link.next(), self.lanes.after(place, label.turn))
            }
            State::Waiting | State::Active => (NONE, None),
        };
        self.dequeue(this);
        let taken = self.hand_out(this, now_ms);
        self.places
            .update(&mut self.names, &self.lanes, place, now_ms);
        self.seat = taken.as_ref().map(|taken| Seat {
            ticket: taken.ticket,
            behind,
            next,
        });
        taken
    }

    /// Puts a piece that is given back where its due time says. What was only looked at is due no earlier than it was, and has its
    /// place again: before what stood behind it, or first of all if the turn of that has come meanwhile. So has its tenant, if it has nothing else
    /// there. After a change of the table it may have been woken: then it is due at once.
    pub(super) fn enqueue_again(&mut self, ticket: Ticket, due_ms: u64, now_ms: u64) {
        let piece = ticket.piece;
        let index = self.pieces[piece].message;
        let is_current = self.messages[index].generation == self.generation;
        let seat = self.seat.take_if(|seat| seat.ticket == ticket);
        let Some(Seat { behind, next, .. }) = seat.filter(|_| is_current) else {
            return self.enqueue(piece, due_ms, now_ms);
        };
        let due_ms = due_ms.max(self.pieces[piece].due_ms);
        let (place, label) = self.stand(piece);
        let next = next.filter(|_| !self.lanes.has(place, label.turn));
        self.enqueue(piece, due_ms, now_ms);
        if self.pieces[piece].state != State::Ready {
            return;
        }
        if let Some(next) = next {
            let ready = &mut self.places.all[place].ready;
            self.lanes
                .move_turn_before((place, ready), label.turn, next);
        }
        if behind != NONE {
            let is_there = self.pieces.get(behind).is_some_and(|found| {
                found.state == State::Ready && self.stand(behind) == (place, label)
            });
            let behind = is_there.then_some(behind);
            self.lanes
                .move_before(&mut self.pieces, (place, label), piece, behind);
        }
    }

    /// The line in which a piece stands if it is ready.
    fn stand(&self, piece: u32) -> (u32, Label) {
        let Piece { place, message, .. } = self.pieces[piece];
        (place, self.messages[message].label(self.nobody))
    }

    /// Gives back a piece that could not be settled: as [`Self::release`], due at once.
    pub fn put_back(&mut self, ticket: Ticket, now_ms: u64) {
        self.release(ticket, now_ms, Reading::Fine, now_ms);
    }
}
