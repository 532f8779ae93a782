//! Pieces: a message under each of its destinations.

use std::sync::Arc;

use postroad_config::Subject;

use super::Schedule;
use super::destination::{Id, Kind};
use super::message::{Piece, State};
use crate::names::Name;
use crate::route::{Table, Way};
use crate::slab::{Link, NONE};

/// Messages that one step of a review looks at: well under a millisecond.
const REVIEW_STEP: u32 = 1_000;

/// What a review makes due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wake {
    /// All that waits, except what must not be sent yet.
    All,
    /// What an override flushes that was not there before.
    Flushed,
}

impl Schedule {
    /// Files by another table from now on; [`Self::review`] does it for what is there.
    pub fn set_table(&mut self, table: Arc<Table>) {
        let (routes, overrides) = (
            table.routes().map(|name| self.names.get(name)).collect(),
            table.overrides().map(|name| self.names.get(name)).collect(),
        );
        let before = std::mem::replace(&mut self.routes, routes).into_iter();
        let before = before.chain(std::mem::replace(&mut self.overrides, overrides));
        before.for_each(|name| self.names.give_back(name));
        self.table = table;
        self.generation = self.generation.wrapping_add(1);
    }

    /// The table in force.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Files what was filed by another table, a bit of it: from `from` on, which is 0 at first and then what this returned, until that is
    /// `None`. `before` is the table until now.
    pub fn review(&mut self, from: u32, before: &Table, wake: Wake, now_ms: u64) -> Option<u32> {
        let end = self.messages.end().min(from.saturating_add(REVIEW_STEP));
        for index in from..end {
            if self.messages.get(index).is_none() {
                continue;
            }
            self.file_anew(index, NONE, now_ms);
            if wake == Wake::All || self.is_flushed(index, before) {
                self.wake(index, now_ms);
            }
        }
        (end < self.messages.end()).then_some(end)
    }

    /// The destination of each run of a message by the table in force, which is asked here and nowhere else; `None` if nobody in the run
    /// is open.
    pub(super) fn ways(&self, index: u32) -> Vec<Option<Id>> {
        let runs = self.messages[index].open_runs();
        runs.map(|(run, mut open)| open.next().map(|_| self.id(index, run.domain)))
            .collect()
    }

    /// Lets every run know its piece, by its destination: until the message is filed anew, whatever the table says by then.
    pub(super) fn note_places(&mut self, index: u32, ways: &[Option<Id>]) {
        let Some(more) = &mut self.messages[index].more else {
            return;
        };
        for (run, way) in more.runs.iter_mut().zip(ways) {
            run.place = way.and_then(|id| self.places.find(id)).unwrap_or(NONE);
        }
    }

    /// The destination of the recipients of a message at a domain.
    fn id(&self, index: u32, domain: Name) -> Id {
        #[cfg(test)]
        self.lookups.set(self.lookups.get() + 1);
        let way = |arrival_ms, subject| self.table.way(&subject, arrival_ms);
        match way(self.messages[index].arrival_ms, self.subject(index, domain)) {
            Way::Domain => (Kind::Domain, domain),
            Way::Default => (Kind::Default, self.nobody),
            Way::Route(route) => (Kind::Route, self.routes[route]),
            Way::Hold(found) => (Kind::Hold, self.overrides[found]),
            Way::Bounce(found) => (Kind::Bounce, self.overrides[found]),
        }
    }

    /// Files a message anew if it was filed by another table, unless somebody has a piece of it. The piece `mine` is the caller's, and active:
    /// it stays so, or is gone.
    pub(super) fn file_anew(&mut self, index: u32, mine: u32, now_ms: u64) {
        if self.messages[index].generation == self.generation || self.has_active(index, mine) {
            return;
        }
        self.messages[index].generation = self.generation;
        let ways = self.ways(index);
        let mut missing = each_once(&ways);
        let (mut due_ms, mut attempts) = (None, 0);
        let mut next = self.messages[index].pieces;
        while next != NONE {
            let piece = &self.pieces[next];
            let (this, id) = (next, self.places.all[piece.place].id);
            // What was held has waited for long enough.
            let piece_due_ms = match id.0 {
                Kind::Hold => now_ms.max(self.messages[index].not_before_ms()),
                _ => piece.due_ms,
            };
            next = piece.sibling;
            match missing.binary_search(&id) {
                Ok(found) => drop(missing.remove(found)),
                Err(_) => {
                    due_ms =
                        Some(due_ms.map_or(piece_due_ms, |due_ms: u64| due_ms.min(piece_due_ms)));
                    attempts = attempts.max(piece.attempts);
                    self.remove_piece(this, now_ms);
                }
            }
        }
        for id in missing {
            self.add_piece(index, id, attempts, due_ms.unwrap_or(now_ms), now_ms);
        }
        self.note_places(index, &ways);
    }

    /// Whether somebody has another piece of a message than this.
    fn has_active(&self, index: u32, mine: u32) -> bool {
        let mut next = self.messages[index].pieces;
        while let Some(piece) = self.pieces.get(next) {
            if next != mine && piece.state == State::Active {
                return true;
            }
            next = piece.sibling;
        }
        false
    }

    /// What is to be returned is due at once, however long it was to wait.
    pub(super) fn add_piece(
        &mut self,
        index: u32,
        id: Id,
        attempts: u16,
        due_ms: u64,
        now_ms: u64,
    ) {
        let place = self.places.get(&mut self.names, id);
        let message = &mut self.messages[index];
        let piece = self.pieces.insert(Piece {
            due_ms,
            link: Link::default(),
            message: index,
            place,
            sibling: message.pieces,
            attempts,
            state: State::Active,
            age_ignored: false,
        });
        message.pieces = piece;
        let destination = &mut self.places.all[place];
        destination.pieces += 1;
        destination.deferred += u32::from(attempts > 0);
        destination.oldest_ms = destination.oldest_ms.min(message.arrival_ms);
        self.totals.held += u64::from(id.0 == Kind::Hold);
        let due_ms = match id.0 {
            Kind::Bounce => now_ms,
            Kind::Default | Kind::Route | Kind::Domain | Kind::Hold => due_ms,
        };
        self.enqueue(piece, due_ms, now_ms);
    }

    /// Gives up a piece, whatever its state.
    pub(super) fn remove_piece(&mut self, piece: u32, now_ms: u64) {
        self.dequeue(piece);
        let Some(removed) = self.pieces.remove(piece) else {
            return;
        };
        self.unlink(piece, &removed);
        let destination = &mut self.places.all[removed.place];
        destination.pieces -= 1;
        destination.deferred -= u32::from(removed.attempts > 0);
        if destination.pieces == 0 {
            destination.oldest_ms = u64::MAX;
        }
        self.totals.held -= u64::from(destination.id.0 == Kind::Hold);
        self.places
            .update(&mut self.names, &self.lanes, removed.place, now_ms);
    }

    /// Puts a piece that is in no list where its due time says. What has to be delivered by a time is due then. What must not be sent
    /// before a time never is due earlier, except to be returned.
    pub(super) fn enqueue(&mut self, piece: u32, due_ms: u64, now_ms: u64) {
        let (index, place) = (self.pieces[piece].message, self.pieces[piece].place);
        let message = &self.messages[index];
        let label = message.label(self.nobody);
        let due_ms = match message.deliver_by_ms() {
            Some(by_ms) if by_ms > now_ms => due_ms.min(by_ms),
            _ => due_ms,
        };
        let due_ms = match self.places.all[place].id.0 {
            Kind::Bounce => due_ms,
            Kind::Default | Kind::Route | Kind::Domain | Kind::Hold => {
                due_ms.max(message.not_before_ms())
            }
        };
        let is_due = due_ms <= now_ms;
        let found = &mut self.pieces[piece];
        found.due_ms = due_ms;
        found.state = if is_due { State::Ready } else { State::Waiting };
        if is_due {
            let ready = &mut self.places.all[place].ready;
            self.lanes
                .push(&mut self.pieces, (place, ready), label, piece);
            self.stirred.push(place);
        } else {
            self.wheel.insert(&mut self.pieces, piece);
        }
        self.places
            .update(&mut self.names, &self.lanes, place, now_ms);
    }

    /// Takes a piece out of the list that it is in. It is active then.
    pub(super) fn dequeue(&mut self, piece: u32) {
        let found = &mut self.pieces[piece];
        let (place, label) = (found.place, self.messages[found.message].label(self.nobody));
        match std::mem::replace(&mut found.state, State::Active) {
            State::Active => {}
            State::Waiting => self.wheel.remove(&mut self.pieces, piece),
            State::Ready => {
                let ready = &mut self.places.all[place].ready;
                self.lanes
                    .remove(&mut self.pieces, (place, ready), label, piece);
            }
        }
    }

    fn unlink(&mut self, piece: u32, removed: &Piece) {
        let message = &mut self.messages[removed.message];
        if message.pieces == piece {
            message.pieces = removed.sibling;
            return;
        }
        let mut before = message.pieces;
        while let Some(found) = self.pieces.get_mut(before) {
            if found.sibling == piece {
                found.sibling = removed.sibling;
                return;
            }
            before = found.sibling;
        }
    }

    fn is_flushed(&self, index: u32, before: &Table) -> bool {
        let message = &self.messages[index];
        let mut runs = message.runs();
        runs.any(|run| {
            let subject = self.subject(index, run.domain);
            self.table.flushes(before, &subject, message.arrival_ms)
        })
    }

    /// Makes what waits of a message due, unless it must not be sent yet.
    pub(super) fn wake(&mut self, index: u32, now_ms: u64) {
        let due_ms = now_ms.max(self.messages[index].not_before_ms());
        let mut next = self.messages[index].pieces;
        while next != NONE {
            let (this, piece) = (next, &self.pieces[next]);
            next = piece.sibling;
            if piece.state == State::Waiting && piece.due_ms > due_ms {
                self.dequeue(this);
                self.enqueue(this, due_ms, now_ms);
            }
        }
    }

    fn subject(&self, index: u32, domain: Name) -> Subject<'_> {
        let message = &self.messages[index];
        Subject {
            sender: self.names.text(message.sender),
            recipient: self.names.text(domain),
            credential: self.names.text(message.submitter(self.nobody)),
        }
    }
}

/// The destinations of a message, each once, in order.
pub(super) fn each_once(ways: &[Option<Id>]) -> Vec<Id> {
    let mut wanted: Vec<_> = ways.iter().copied().flatten().collect();
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}
