//! Which message is due when. Pure: `now` is a parameter, nothing blocks.
//!
//! A message is *waiting* (it has a due time) or *active* (a delivery worker holds it). The
//! schedule never forgets a message by itself: only [`Schedule::finish`] removes one.
//!
//! What a message costs in memory is bounded by [`MESSAGE_BYTES`] and [`SETTLED_BYTES`]; the envelope and the content stay on
//! disk. How many there may be is [`crate::room`]'s to say.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::size_of;

use postroad_spool::MessageId;
use postroad_spool::cost::tree_bytes;

use crate::room::Weight;

/// Most memory that the schedule takes for one message, in bytes, settled recipients apart.
pub const MESSAGE_BYTES: u64 = tree_bytes(size_of::<MessageId>() + size_of::<Slot>())
    + tree_bytes(size_of::<(u64, MessageId)>());

/// Most memory that the schedule takes for one settled recipient of an unfinished message, in bytes: its index, and of
/// a list of one the least that an allocator gives out.
pub const SETTLED_BYTES: u64 = 8;

/// What the schedule knows of a message.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Entry {
    /// Arrival, milliseconds since the epoch.
    pub arrival_ms: u64,
    /// Size of headers and body.
    pub bytes: u64,
    /// Failed attempts so far.
    pub attempts: u32,
    /// How many recipients the envelope names.
    pub recipients: u32,
    /// Indexes of the recipients that have their final outcome, ascending; mostly empty.
    pub settled: Box<[u32]>,
}

impl Entry {
    /// How many recipients have no final outcome yet.
    #[must_use]
    pub fn open(&self) -> u64 {
        let settled = u64::try_from(self.settled.len()).unwrap_or(u64::MAX);
        u64::from(self.recipients).saturating_sub(settled)
    }

    /// What it weighs in the bound on the queue.
    #[must_use]
    pub fn weight(&self) -> Weight {
        Weight::of(self.recipients, self.open())
    }
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

/// Counts for status and metrics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Messages known, waiting or active.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them with at least one failed attempt.
    pub deferred: u64,
    /// Those of them that the disk did not give back when they were last tried.
    pub unreadable: u64,
    /// What they weigh in the bound on the queue.
    pub weight: Weight,
}

/// All messages that are not finished.
#[derive(Debug, Default)]
pub struct Schedule {
    /// By id, and ids are in order of arrival: the first is the oldest.
    entries: BTreeMap<MessageId, Slot>,
    /// The waiting ones by due time.
    due: BTreeSet<(u64, MessageId)>,
    totals: Totals,
}

#[derive(Debug)]
struct Slot {
    entry: Entry,
    /// Means nothing while active.
    due_ms: u64,
    state: State,
    reading: Reading,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Active,
    Waiting,
}

impl Slot {
    fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }
}

impl Schedule {
    /// Adds a message that is to be tried at `due_ms`.
    pub fn insert(&mut self, id: MessageId, entry: Entry, due_ms: u64) {
        self.add(id, entry, due_ms, Reading::Fine);
    }

    /// Takes the message that has been due longest; it is active until returned or finished.
    pub fn take(&mut self, now_ms: u64) -> Option<(MessageId, Entry)> {
        let &(due_ms, id) = self.due.first()?;
        if due_ms > now_ms {
            return None;
        }
        self.activate(id)
    }

    /// Takes the oldest waiting message if it arrived before `arrival_ms`; due or not, unless the disk did not give it
    /// back: then it is tried again when it is due.
    pub fn take_older(&mut self, arrival_ms: u64, now_ms: u64) -> Option<(MessageId, Entry)> {
        let mut old = self
            .entries
            .iter()
            .take_while(|(_, slot)| slot.entry.arrival_ms < arrival_ms);
        let may_go = |slot: &Slot| {
            slot.is_waiting() && (slot.reading == Reading::Fine || slot.due_ms <= now_ms)
        };
        let (id, _) = old.find(|(_, slot)| may_go(slot))?;
        self.activate(*id)
    }

    /// Puts an active message back, to be tried at `due_ms`.
    pub fn put_back(&mut self, id: MessageId, entry: Entry, due_ms: u64) {
        self.insert(id, entry, due_ms);
    }

    /// Puts an active message back that the disk did not give back, to be tried at `due_ms`.
    pub fn put_back_unread(&mut self, id: MessageId, entry: Entry, due_ms: u64) {
        self.add(id, entry, due_ms, Reading::Failed);
    }

    /// Keeps an active message active, with what is known of it by now.
    pub fn update(&mut self, id: MessageId, entry: Entry) {
        let Some(due_ms) = self.entries.get(&id).map(|slot| slot.due_ms) else {
            return;
        };
        self.put_back(id, entry, due_ms);
        self.activate(id);
    }

    /// Puts a message back as it is known, to be tried at `due_ms`, if it is active.
    pub fn reclaim(&mut self, id: MessageId, due_ms: u64) {
        if let Some(slot) = self.entries.get_mut(&id)
            && !slot.is_waiting()
        {
            (slot.state, slot.due_ms) = (State::Waiting, due_ms);
            self.due.insert((due_ms, id));
        }
    }

    /// Forgets a message.
    pub fn finish(&mut self, id: MessageId) {
        let Some(slot) = self.entries.remove(&id) else {
            return;
        };
        if slot.is_waiting() {
            self.due.remove(&(slot.due_ms, id));
        }
        let Totals {
            messages,
            bytes,
            deferred,
            unreadable,
            weight,
        } = &mut self.totals;
        *messages -= 1;
        *bytes -= slot.entry.bytes;
        *deferred -= u64::from(slot.entry.attempts > 0);
        *unreadable -= u64::from(slot.reading == Reading::Failed);
        *weight -= slot.entry.weight();
    }

    /// Makes everything that waits due now. For when the reason of the wait has been mended.
    pub fn wake_all(&mut self, now_ms: u64) {
        let later: Vec<_> = self
            .due
            .iter()
            .rev()
            .take_while(|(due_ms, _)| *due_ms > now_ms)
            .copied()
            .collect();
        for (due_ms, id) in later {
            self.due.remove(&(due_ms, id));
            self.due.insert((now_ms, id));
            if let Some(slot) = self.entries.get_mut(&id) {
                slot.due_ms = now_ms;
            }
        }
    }

    /// When the next message is due; `None` if nothing waits.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// Whether a message is due.
    pub fn has_due(&self, now_ms: u64) -> bool {
        self.next_due_ms().is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// Counts over everything that is not finished.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// When the oldest unfinished message arrived.
    pub fn oldest_arrival_ms(&self) -> Option<u64> {
        self.entries
            .first_key_value()
            .map(|(_, slot)| slot.entry.arrival_ms)
    }

    fn activate(&mut self, id: MessageId) -> Option<(MessageId, Entry)> {
        let slot = self.entries.get_mut(&id)?;
        if !slot.is_waiting() {
            return None;
        }
        slot.state = State::Active;
        self.due.remove(&(slot.due_ms, id));
        Some((id, slot.entry.clone()))
    }

    fn add(&mut self, id: MessageId, entry: Entry, due_ms: u64, reading: Reading) {
        self.finish(id);
        let Totals {
            messages,
            bytes,
            deferred,
            unreadable,
            weight,
        } = &mut self.totals;
        *messages += 1;
        *bytes += entry.bytes;
        *deferred += u64::from(entry.attempts > 0);
        *unreadable += u64::from(reading == Reading::Failed);
        *weight += entry.weight();
        self.due.insert((due_ms, id));
        self.entries.insert(
            id,
            Slot {
                entry,
                due_ms,
                state: State::Waiting,
                reading,
            },
        );
    }
}

#[cfg(test)]
mod tests;
