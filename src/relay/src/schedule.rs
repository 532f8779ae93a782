//! Which message is due when. Pure: `now` is a parameter, nothing blocks.
//!
//! A message is *waiting* (it has a due time) or *active* (a delivery worker holds it). The
//! schedule never forgets a message by itself: only [`Schedule::finish`] removes one.
//!
//! An entry costs about a hundred bytes, so that ten million waiting messages fit in memory; the
//! envelope and the content stay on disk.

use std::collections::{BTreeMap, BTreeSet};

use postroad_spool::MessageId;

/// What the schedule knows of a message.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Entry {
    /// Arrival, milliseconds since the epoch.
    pub arrival_ms: u64,
    /// Size of headers and body.
    pub bytes: u64,
    /// Failed attempts so far.
    pub attempts: u32,
    /// Indexes of the recipients that have their final outcome, ascending; mostly empty.
    pub settled: Box<[u32]>,
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
    /// `None` while active.
    due_ms: Option<u64>,
}

impl Schedule {
    /// Adds a message that is to be tried at `due_ms`.
    pub fn insert(&mut self, id: MessageId, entry: Entry, due_ms: u64) {
        self.finish(id);
        self.totals.messages += 1;
        self.totals.bytes += entry.bytes;
        self.totals.deferred += u64::from(entry.attempts > 0);
        self.due.insert((due_ms, id));
        self.entries.insert(
            id,
            Slot {
                entry,
                due_ms: Some(due_ms),
            },
        );
    }

    /// Takes the message that has been due longest; it is active until returned or finished.
    pub fn take(&mut self, now_ms: u64) -> Option<(MessageId, Entry)> {
        let &(due_ms, id) = self.due.first()?;
        if due_ms > now_ms {
            return None;
        }
        self.activate(id)
    }

    /// Takes up to `limit` waiting messages that arrived before `arrival_ms`, due or not.
    pub fn take_older(&mut self, arrival_ms: u64, limit: usize) -> Vec<(MessageId, Entry)> {
        let ids: Vec<_> = self
            .entries
            .iter()
            .take_while(|(_, slot)| slot.entry.arrival_ms < arrival_ms)
            .filter(|(_, slot)| slot.due_ms.is_some())
            .map(|(id, _)| *id)
            .take(limit)
            .collect();
        ids.into_iter().filter_map(|id| self.activate(id)).collect()
    }

    /// Puts an active message back, to be tried at `due_ms`.
    pub fn put_back(&mut self, id: MessageId, entry: Entry, due_ms: u64) {
        self.insert(id, entry, due_ms);
    }

    /// Forgets a message.
    pub fn finish(&mut self, id: MessageId) {
        let Some(slot) = self.entries.remove(&id) else {
            return;
        };
        if let Some(due_ms) = slot.due_ms {
            self.due.remove(&(due_ms, id));
        }
        self.totals.messages -= 1;
        self.totals.bytes -= slot.entry.bytes;
        self.totals.deferred -= u64::from(slot.entry.attempts > 0);
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
                slot.due_ms = Some(now_ms);
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
        let due_ms = slot.due_ms.take()?;
        self.due.remove(&(due_ms, id));
        Some((id, slot.entry.clone()))
    }
}

#[cfg(test)]
mod tests {
    use postroad_spool::IdGenerator;

    use super::*;

    fn entry(arrival_ms: u64, attempts: u32) -> Entry {
        Entry {
            arrival_ms,
            bytes: 10,
            attempts,
            settled: Box::default(),
        }
    }

    fn ids(count: u64) -> Vec<MessageId> {
        let generator = IdGenerator::new([0; 10]);
        (0..count).map(|now| generator.next(now)).collect()
    }

    #[test]
    fn takes_what_has_been_due_longest_and_nothing_early() {
        let ids = ids(3);
        let mut schedule = Schedule::default();
        for (id, due) in ids.iter().zip([30, 10, 20]) {
            schedule.insert(*id, entry(0, 0), due);
        }
        assert_eq!(schedule.take(9), None);
        assert_eq!(schedule.next_due_ms(), Some(10));
        let order: Vec<_> = std::iter::from_fn(|| schedule.take(30))
            .map(|(id, _)| id)
            .collect();
        assert_eq!(order, [ids[1], ids[2], ids[0]]);
        assert_eq!(
            schedule.take(99),
            None,
            "active messages are not handed out twice"
        );
        assert_eq!(schedule.totals().messages, 3);
    }

    #[test]
    fn counts_follow_every_move() {
        let ids = ids(2);
        let mut schedule = Schedule::default();
        schedule.insert(ids[0], entry(1, 0), 0);
        schedule.insert(ids[1], entry(2, 3), 0);
        assert_eq!(
            schedule.totals(),
            Totals {
                messages: 2,
                bytes: 20,
                deferred: 1
            }
        );
        let (id, mut taken) = schedule.take(0).unwrap();
        taken.attempts += 1;
        schedule.put_back(id, taken, 50);
        assert_eq!(
            schedule.totals(),
            Totals {
                messages: 2,
                bytes: 20,
                deferred: 2
            }
        );
        assert_eq!(schedule.oldest_arrival_ms(), Some(1));
        schedule.finish(ids[0]);
        schedule.finish(ids[1]);
        schedule.finish(ids[1]);
        assert_eq!(schedule.totals(), Totals::default());
        assert_eq!(
            (schedule.oldest_arrival_ms(), schedule.next_due_ms()),
            (None, None)
        );
    }

    #[test]
    fn waking_makes_everything_due_and_keeps_what_is_active() {
        let ids = ids(3);
        let mut schedule = Schedule::default();
        for (id, due) in ids.iter().zip([0, 500, 900]) {
            schedule.insert(*id, entry(0, 1), due);
        }
        let active = schedule.take(0).unwrap();
        schedule.wake_all(100);
        assert_eq!(std::iter::from_fn(|| schedule.take(100)).count(), 2);
        schedule.put_back(active.0, active.1, 200);
        assert!(schedule.has_due(200));
    }

    #[test]
    fn takes_older_messages_whether_due_or_not() {
        let ids = ids(3);
        let mut schedule = Schedule::default();
        for (id, arrival) in ids.iter().zip([1, 2, 3]) {
            schedule.insert(*id, entry(arrival, 0), 1000);
        }
        let old: Vec<_> = schedule
            .take_older(3, 9)
            .into_iter()
            .map(|(id, _)| id)
            .collect();
        assert_eq!(old, ids[..2]);
        assert!(schedule.take_older(3, 9).is_empty());
    }
}
