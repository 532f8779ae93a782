//! Which mail goes where, when, and in which order. Pure: `now` is a parameter, nothing blocks.
//!
//! A message is filed as one *piece* for each destination that its open recipients have ([`crate::route`]): what goes to one place goes in
//! one copy. A piece is *waiting* (it has a due time: [`crate::wheel`]), *ready* (it stands in its destination's queue: [`lanes`]) or
//! *active* (a delivery worker holds its [`Ticket`]). Several pieces of a message may be active at once; no recipient is in two of them.
//! The schedule never forgets a message by itself: only [`Schedule::finish`] removes one.
//!
//! To which destination a connection is opened next follows from turns, bounds, and what is known of each: [`places`], [`lines`],
//! [`connections`], [`site`].
//!
//! # Changes of the routing table
//! [`Schedule::set_table`] counts for what is filed from then on, [`Schedule::review`] goes over the rest bit by bit. A message of which a
//! piece is active is filed anew when the last of them comes back, so that nobody takes a recipient that another has.
//!
//! # Cost
//! Nothing that happens to one message looks at others: what waits is in intrusive lists over slabs. What a message costs in memory is
//! bounded by [`bytes`] and what names and destinations take ([`Schedule::shared_bytes`]); envelope and content stay on disk. How much there may be is [`crate::room`]'s to say.

mod accounts;
mod connections;
mod destination;
mod file;
mod lanes;
mod lines;
mod message;
mod overdue;
mod places;
mod report;
mod site;
mod transit;
mod work;

use std::collections::BTreeSet;
use std::sync::Arc;

use postroad_spool::{MessageId, Queued};

use crate::memory;
use crate::names::{self, Name, Names};
use crate::room::load::Load;
use crate::room::{Account, Weight};
use crate::route::Table;
use crate::share::Holdings;
use crate::slab::{List, NONE, Slab};
use crate::wheel::Wheel;

use message::{Message, Piece, State};
use places::Places;

pub use connections::{CONNECTIONS_MAX, Connections};
pub use file::Wake;
use file::each_once;
pub use message::bytes;
pub use overdue::{Limits as OverdueLimits, Swept, Untold};
pub use report::{Destination, Idle, Opening};
pub use site::{SiteLimits, Standing, Verdict};
pub use transit::{Handle, Outlook};
pub use work::Left;

/// A destination's number, for as long as it has mail or a connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Place(u32);

/// A piece that a worker holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ticket {
    /// The message.
    pub id: MessageId,
    piece: u32,
}

/// What the schedule knows of a piece that is taken.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Entry {
    /// Since when it could have been delivered, in milliseconds since the epoch: its arrival, or the end of the time for which it was held.
    pub since_ms: u64,
    /// Size of headers and body.
    pub bytes: u64,
    /// Failed attempts of the piece so far; after a start, of the message.
    pub attempts: u32,
    /// How many recipients the envelope names.
    pub recipients: u32,
    /// Whether the sender has been told that the message is late.
    pub delay_notified: bool,
    /// Who it counts for.
    pub account: Account,
    /// Indexes of the recipients of the piece that have no final outcome yet, ascending.
    pub open: Box<[u32]>,
}

impl Entry {
    /// What the message takes of memory while it is delivered, in bytes.
    #[must_use]
    pub fn footprint(&self) -> u64 {
        let recipients = usize::try_from(self.recipients).unwrap_or(usize::MAX);
        memory::footprint(self.bytes, recipients)
    }
}

/// A piece in the hands of a worker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Taken {
    /// To be given back.
    pub ticket: Ticket,
    /// What is known of it.
    pub entry: Entry,
}

/// Whether the disk gave a message back when it was last tried.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Reading {
    /// It did, or was not asked yet.
    #[default]
    Fine,
    /// It did not.
    Failed,
}

/// Whether a message was filed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Filed {
    /// It is in the schedule.
    Queued,
    /// All its recipients have their final outcome: it only has to be said that it is done.
    Settled,
}

/// Counts for status and metrics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Messages known.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them with at least one failed attempt.
    pub deferred: u64,
    /// Those of them that the disk did not give back when they were last tried.
    pub unreadable: u64,
    /// Pieces of them that an override holds.
    pub held: u64,
    /// What they weigh in the bound on the queue, names and destinations apart.
    pub weight: Weight,
    /// What reports on them may take of the disk beyond what they take, in bytes.
    pub owed: u64,
}

/// All messages that are not finished.
#[derive(Debug)]
pub struct Schedule {
    table: Arc<Table>,
    /// Of the table; wraps around.
    generation: u8,
    names: Names,
    /// Those of the table's routes and overrides, by index; in use as long as the table is.
    routes: Vec<Name>,
    overrides: Vec<Name>,
    /// The empty name: of the null sender and of no login. In use for ever.
    nobody: Name,
    messages: Slab<Message>,
    pieces: Slab<Piece>,
    lanes: lanes::Lanes,
    places: Places,
    wheel: Wheel,
    /// All messages in the order in which they were filed: that of arrival, but for what commits in another.
    age: List,
    /// Those with a time by which they should be delivered: when to look at them, at first then.
    deadlines: BTreeSet<(u64, u32)>,
    /// Whether [`Self::take_overdue`] began with them when it was last asked.
    deadlines_first: bool,
    /// Where [`Self::take_overdue`] goes on.
    cursor: u32,
    /// Where what it gave last has its place.
    seat: Option<overdue::Seat>,
    totals: Totals,
    /// What each tenant has in the queue.
    held: Holdings<Name, Load>,
    /// Destinations that got work since [`Self::stirred`]; one that got much may stand here often.
    stirred: Vec<u32>,
    /// How often the table was asked.
    #[cfg(test)]
    lookups: std::cell::Cell<usize>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Schedule {
    /// Nothing, to be filed by this table.
    #[must_use]
    pub fn new(table: Arc<Table>) -> Self {
        let mut names = Names::default();
        Self {
            generation: 0,
            routes: table.routes().map(|name| names.get(name)).collect(),
            overrides: table.overrides().map(|name| names.get(name)).collect(),
            table,
            nobody: names.get(""),
            names,
            messages: Slab::default(),
            pieces: Slab::default(),
            lanes: lanes::Lanes::default(),
            places: Places::default(),
            wheel: Wheel::default(),
            age: List::default(),
            deadlines: BTreeSet::new(),
            deadlines_first: false,
            cursor: NONE,
            seat: None,
            totals: Totals::default(),
            held: Holdings::default(),
            stirred: Vec::new(),
            #[cfg(test)]
            lookups: std::cell::Cell::default(),
        }
    }

    /// Files a message: one that has been committed, or that a start has found.
    pub fn insert(&mut self, queued: &Queued<'_>, now_ms: u64) -> Filed {
        match self.file(queued, now_ms) {
            Some(_) => Filed::Queued,
            None => Filed::Settled,
        }
    }

    /// Gives its index; `None` if nothing is open.
    fn file(&mut self, queued: &Queued<'_>, now_ms: u64) -> Option<u32> {
        let message = Message::new(queued, &mut self.names, self.generation);
        if message.open() == 0 {
            message.give_back(&mut self.names);
            return None;
        }
        let attempts = u16::try_from(queued.attempts).unwrap_or(u16::MAX);
        let totals = &mut self.totals;
        totals.messages += 1;
        totals.bytes += u64::from(message.bytes);
        totals.deferred += u64::from(message.marks.deferred);
        let deliver_by_ms = message.deliver_by_ms();
        let index = self.messages.insert(message);
        self.charge(index);
        self.age.push(&mut self.messages, index);
        self.deadlines
            .extend(deliver_by_ms.map(|by_ms| (by_ms, index)));
        let ways = self.ways(index);
        for id in each_once(&ways) {
            self.add_piece(index, id, attempts, queued.next_attempt_ms, now_ms);
        }
        self.note_places(index, &ways);
        Some(index)
    }

    /// Forgets the message of a piece that is taken, with all its pieces. Nothing happens if it is gone already.
    pub fn finish(&mut self, ticket: Ticket, now_ms: u64) {
        if let Some(index) = self.message_of(ticket) {
            self.remove(index, now_ms);
        }
    }

    /// As [`Self::finish`], once the disk has it that the message is done: also if the piece was given back meanwhile.
    pub fn finish_recorded(&mut self, ticket: Ticket, now_ms: u64) {
        if let Some(index) = self.known(ticket) {
            self.remove(index, now_ms);
        }
    }

    fn remove(&mut self, index: u32, now_ms: u64) {
        while self.messages[index].pieces != NONE {
            let first = self.messages[index].pieces;
            self.remove_piece(first, now_ms);
        }
        if self.cursor == index {
            self.cursor = self.messages[index].age.next();
        }
        self.age.remove(&mut self.messages, index);
        let Some(message) = self.messages.remove(index) else {
            return;
        };
        if let Some(more) = &message.more {
            self.deadlines.remove(&(more.look_ms, index));
        }
        let totals = &mut self.totals;
        totals.messages -= 1;
        totals.bytes -= u64::from(message.bytes);
        totals.deferred -= u64::from(message.marks.deferred);
        totals.unreadable -= u64::from(message.marks.unreadable);
        let load = message.load();
        self.uncharge(message.account, load);
        message.give_back(&mut self.names);
    }

    /// Counts over everything that is not finished.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// What names and destinations take, in bytes: a destination for each name, because the sender's domain is one when the message fails.
    #[must_use]
    pub fn shared_bytes(&self) -> u64 {
        let domains = self.names.count().saturating_mul(destination::PLACE_BYTES);
        self.names.bytes().saturating_add(domains)
    }

    /// What filing a message adds to [`Self::shared_bytes`] at most, as things are now.
    #[must_use]
    pub fn shared_bytes_of(&self, queued: &Queued<'_>) -> u64 {
        let domains = queued.domains.iter().map(|run| &*run.domain);
        let all = domains.chain([&*queued.sender_domain, &*queued.credential]);
        let new = all.filter(|name| self.names.find(name).is_none());
        new.map(|name| names::cost(name) + destination::PLACE_BYTES)
            .sum()
    }

    /// When the oldest unfinished message arrived, by the order in which they were filed.
    #[must_use]
    pub fn oldest_arrival_ms(&self) -> Option<u64> {
        let oldest = self.messages.get(self.age.first())?;
        Some(oldest.arrival_ms)
    }

    /// Nobody is waiting for work yet.
    pub fn forget_stirred(&mut self) {
        self.stirred = Vec::new();
    }

    /// Destinations that have got work since this was last asked.
    pub fn stirred(&mut self) -> Option<Place> {
        self.stirred.pop().map(Place)
    }

    /// The message of a piece, if the ticket still stands for it.
    fn message_of(&self, ticket: Ticket) -> Option<u32> {
        let piece = self.pieces.get(ticket.piece)?;
        let message = self.messages.get(piece.message)?;
        (message.id == ticket.id && piece.state == State::Active).then_some(piece.message)
    }

    /// As [`Self::message_of`], also if the piece was given back meanwhile: what the disk has taken counts even so.
    fn known(&self, ticket: Ticket) -> Option<u32> {
        let index = self.pieces.get(ticket.piece)?.message;
        (self.messages.get(index)?.id == ticket.id).then_some(index)
    }
}

#[cfg(test)]
mod tests;
