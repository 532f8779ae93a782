//! Pieces in the hands of workers.

use super::message::{More, State};
use super::{Entry, Place, Reading, Schedule, Taken, Ticket};
use crate::memory;
use crate::room::Account;
use crate::slab::NONE;

/// Pieces that become ready in one go; what else is due does so at the next.
const ADVANCE_MAX: usize = 1_000;

/// Pieces that one call passes by that turn out to be somebody else's.
const PASSED_MAX: usize = 100;

/// Pieces that are looked at in one go to see whether there is a better one to take: some ten microseconds.
const LOOKED_AT_MAX: usize = 100;

/// Pause before a message is looked at again that was filed by another table and that somebody still has a piece of, in milliseconds.
const STALE_PAUSE_MS: u64 = 1_000;

/// What a message has left after outcomes were recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Left {
    /// Open recipients, of this piece or of others.
    Open,
    /// Nothing: it is done, and somebody has to say so.
    Nothing,
}

impl Schedule {
    /// Takes the piece whose turn it is at a destination; it is active until released or finished. After a change of the table there
    /// may be more although it gives none: [`Self::has_ready`] tells.
    pub fn take(&mut self, Place(place): Place, now_ms: u64) -> Option<Taken> {
        self.advance(now_ms);
        let id = self.places.all.get(place)?.id;
        for _ in 0..PASSED_MAX {
            // What is filed anew may have been its last.
            let destination = self.places.all.get_mut(place)?;
            if destination.id != id {
                return None;
            }
            let ready = (place, &mut destination.ready);
            let piece = self.lanes.pop(&mut self.pieces, ready)?;
            self.pieces[piece].state = State::Active;
            if let Some(taken) = self.hand_out(piece, now_ms) {
                self.places
                    .update(&mut self.names, &self.lanes, place, now_ms);
                return Some(taken);
            }
        }
        None
    }

    /// Makes ready what is due; when more is due than goes at once, [`Self::next_due_ms`] is past.
    pub fn advance(&mut self, now_ms: u64) {
        for _ in 0..ADVANCE_MAX {
            let Some(piece) = self.wheel.pop(&mut self.pieces, now_ms) else {
                return;
            };
            let due_ms = self.pieces[piece].due_ms.min(now_ms);
            self.enqueue(piece, due_ms, now_ms);
        }
    }

    /// When the next piece is due that waits, or a destination may be tried again; `None` if nothing waits for time.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        let next = [self.wheel.next_ms(), self.places.next_ms()];
        next.into_iter().flatten().min()
    }

    /// Whether these outcomes are the last that the message of this piece waits for.
    #[must_use]
    pub fn is_last(&self, ticket: Ticket, settled: &[u32]) -> bool {
        let Some(index) = self.message_of(ticket) else {
            return false;
        };
        let message = &self.messages[index];
        let known = message.settled();
        let is_new = |index: &&u32| known.binary_search(index).is_err();
        let new = settled.iter().filter(is_new).count();
        u32::try_from(new).unwrap_or(u32::MAX) >= message.open()
    }

    /// Notes what has been recorded of a piece that is, or was, taken: recipients with a final outcome, its attempts, whether the sender has been told
    /// of the delay. It stays taken.
    pub fn settle(
        &mut self,
        ticket: Ticket,
        settled: &[u32],
        attempts: u32,
        delay_notified: bool,
    ) -> Left {
        let Some(index) = self.known(ticket) else {
            return Left::Nothing;
        };
        self.charge_attempts(ticket.piece, attempts);
        let message = &mut self.messages[index];
        message.marks.delay_notified |= delay_notified;
        if settled.is_empty() {
            return Left::Open;
        }
        let (account, before) = (message.account, message.load());
        let more = message.more.get_or_insert_with(Box::<More>::default);
        more.settled.extend_from_slice(settled);
        more.settled.sort_unstable();
        more.settled.dedup();
        self.uncharge(account, before);
        self.charge(index);
        match self.messages[index].open() {
            0 => Left::Nothing,
            _ => Left::Open,
        }
    }

    /// Gives a piece back, to be tried at `due_ms` if any of it is left.
    pub fn release(&mut self, ticket: Ticket, due_ms: u64, reading: Reading, now_ms: u64) {
        let Some(index) = self.message_of(ticket) else {
            return;
        };
        let message = &mut self.messages[index];
        let unreadable = reading == Reading::Failed;
        self.totals.unreadable += u64::from(unreadable);
        self.totals.unreadable -= u64::from(message.marks.unreadable);
        message.marks.unreadable = unreadable;
        if self.open(ticket.piece).is_empty() {
            self.remove_piece(ticket.piece, now_ms);
        } else {
            self.enqueue_again(ticket, due_ms, now_ms);
        }
        if self.messages[index].generation != self.generation {
            self.file_anew(index, NONE, now_ms);
        }
    }

    /// The open recipients of the message of a piece that is taken, whoever has them.
    #[must_use]
    pub fn all_open(&self, ticket: Ticket) -> Box<[u32]> {
        let Some(index) = self.message_of(ticket) else {
            return Box::default();
        };
        let runs = self.messages[index].open_runs();
        runs.flat_map(|(_, open)| open).collect()
    }

    /// The open recipients of a message that nobody else has: those of the piece, and of all that are not taken. From now on nobody can take
    /// these: whoever asks has to settle them.
    #[must_use]
    pub fn orphans(&mut self, ticket: Ticket, now_ms: u64) -> Box<[u32]> {
        let Some(index) = self.message_of(ticket) else {
            return Box::default();
        };
        let mut taken = Vec::new();
        let mut next = self.messages[index].pieces;
        while let Some(piece) = self.pieces.get(next) {
            let (this, state) = (next, piece.state);
            next = piece.sibling;
            match state {
                _ if this == ticket.piece => {}
                State::Active => taken.extend(self.open(this)),
                State::Ready | State::Waiting => self.remove_piece(this, now_ms),
            }
        }
        taken.sort_unstable();
        let open = self.all_open(ticket).into_iter();
        open.filter(|index| taken.binary_search(index).is_err())
            .collect()
    }

    /// Whether a piece is still taken under this ticket.
    #[must_use]
    pub fn is_taken(&self, ticket: Ticket) -> bool {
        self.message_of(ticket).is_some()
    }

    /// Whether other mail is ready at the destination of a piece that is taken of which this is true: whom it counts for (reports: for whom they
    /// tell), and what it takes in memory, in bytes. `None` if it is of none that is looked at, and there is more.
    #[must_use]
    pub fn any_ready(
        &self,
        ticket: Ticket,
        is_such: impl Fn(&Account, u64) -> bool,
    ) -> Option<bool> {
        if !self.is_taken(ticket) {
            return Some(false);
        }
        let ready = &self.places.all[self.pieces[ticket.piece].place].ready;
        let pieces = self.lanes.pieces(&self.pieces, ready);
        let found = pieces.take(LOOKED_AT_MAX).any(|piece| {
            let message = &self.messages[piece.message];
            let recipients = usize::try_from(message.recipients).unwrap_or(usize::MAX);
            let bytes = memory::footprint(u64::from(message.bytes), recipients);
            is_such(&self.account(message.account), bytes)
        });
        let count = usize::try_from(ready.count()).unwrap_or(usize::MAX);
        (found || count <= LOOKED_AT_MAX).then_some(found)
    }

    /// What a worker gets that takes this piece; `None` if there is nothing to take, or not now: then it is put where it belongs.
    pub(super) fn hand_out(&mut self, piece: u32, now_ms: u64) -> Option<Taken> {
        let index = self.pieces[piece].message;
        if self.messages[index].generation != self.generation {
            self.file_anew(index, piece, now_ms);
            if self.messages[index].generation != self.generation {
                self.enqueue(piece, now_ms.saturating_add(STALE_PAUSE_MS), now_ms);
                return None;
            }
            // Its number may be that of another piece by now, which nobody has.
            if self
                .pieces
                .get(piece)
                .is_none_or(|found| found.state != State::Active)
            {
                return None;
            }
        }
        let open = self.open(piece);
        if open.is_empty() {
            self.remove_piece(piece, now_ms);
            return None;
        }
        let message = &self.messages[index];
        Some(Taken {
            ticket: Ticket {
                id: message.id,
                piece,
            },
            entry: Entry {
                since_ms: message.waiting_since_ms(),
                bytes: u64::from(message.bytes),
                attempts: u32::from(self.pieces[piece].attempts),
                recipients: message.recipients,
                delay_notified: message.marks.delay_notified,
                account: self.account(message.account),
                open,
            },
        })
    }

    /// The open recipients of a piece.
    fn open(&self, piece: u32) -> Box<[u32]> {
        let Some(piece) = self.pieces.get(piece) else {
            return Box::default();
        };
        let message = &self.messages[piece.message];
        let only = message.pieces != NONE && self.pieces[message.pieces].sibling == NONE;
        let runs = message.open_runs();
        let runs = runs.filter(|(run, _)| only || run.place == piece.place);
        runs.flat_map(|(_, open)| open).collect()
    }

    fn charge_attempts(&mut self, piece: u32, attempts: u32) {
        let piece = &mut self.pieces[piece];
        let before = piece.attempts > 0;
        piece.attempts = u16::try_from(attempts).unwrap_or(u16::MAX);
        let destination = &mut self.places.all[piece.place];
        destination.deferred -= u32::from(before);
        destination.deferred += u32::from(piece.attempts > 0);
        let marks = &mut self.messages[piece.message].marks;
        if piece.attempts > 0 && !marks.deferred {
            marks.deferred = true;
            self.totals.deferred += 1;
        }
    }
}
