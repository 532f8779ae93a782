//! Where every unfinished message lies, and what is left alive in each segment. Pure.
//!
//! Memory: what is kept per message is bounded by [`MESSAGE_BYTES`] and, per recipient that is settled while others are
//! open, [`SETTLED_BYTES`].

use std::collections::BTreeMap;
use std::mem::size_of;

use crate::MessageId;
use crate::cost::{allocated, tree_bytes};
use crate::format::{END_MARK, GROUP_HEADER, MessageHead, RECORD_HEADER};
use crate::record::{Attempt, Queued, RecipientResult};

/// Most memory that the index takes for one message, in bytes, settled recipients apart.
pub const MESSAGE_BYTES: u64 =
    tree_bytes(size_of::<MessageId>() + size_of::<Known>()) + allocated(size_of::<Progress>());

/// Most memory that the index takes for one settled recipient of an unfinished message, in bytes: its index, and of a
/// list of one the least that an allocator gives out.
pub const SETTLED_BYTES: u64 = 8;

/// What a group takes on disk beside its records.
const GROUP_BYTES: u64 = (GROUP_HEADER + END_MARK) as u64;

/// What an attempt takes on disk beside its results: see [`crate::format`].
const ATTEMPT_BYTES: u64 = RECORD_HEADER as u64 + 16 + 8 + 4 + 4;

/// What a result without a reply takes on disk.
const RESULT_BYTES: u64 = 4 + 1 + 4;

/// Where a message's record lies, and what its envelope must look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// Sequence of the segment.
    pub(crate) segment: u64,
    /// Offset of the record's header.
    pub(crate) offset: u64,
    /// Length with the header.
    pub(crate) length: u32,
    /// Checksum of the envelope part: the record has one for all of it, which damage to the content makes useless.
    pub(crate) envelope_crc: u32,
}

/// What is left alive in a segment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Live {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// The state of deliveries so far.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Progress {
    next_attempt_ms: u64,
    attempts: u32,
    /// Indexes of the recipients that have their final outcome, ascending.
    settled: Box<[u32]>,
}

impl Progress {
    fn merge(&mut self, attempt: &Attempt) {
        self.next_attempt_ms = attempt.next_attempt_ms;
        self.attempts = attempt.attempts;
        let results = attempt.results.iter();
        let mut settled: Vec<u32> = results
            .filter(|(_, result)| result.is_final())
            .map(|(index, _)| *index)
            .collect();
        if settled.is_empty() {
            return;
        }
        settled.extend_from_slice(&self.settled);
        settled.sort_unstable();
        settled.dedup();
        self.settled = settled.into_boxed_slice();
    }

    /// As one record, for when the message is moved: whether a settled recipient got it is no longer known, nor needed.
    pub(crate) fn to_attempt(&self, id: MessageId) -> Attempt {
        let settled = self.settled.iter();
        Attempt {
            id,
            next_attempt_ms: self.next_attempt_ms,
            attempts: self.attempts,
            results: settled
                .map(|index| (*index, RecipientResult::Delivered))
                .collect(),
        }
    }
}

/// What is known of a message.
#[derive(Debug)]
struct Known {
    place: Place,
    /// Apart, since most messages never have any.
    progress: Option<Box<Progress>>,
}

/// All unfinished messages.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// A tree and no hash table: one that grows holds everything twice for a moment, and is half empty after.
    messages: BTreeMap<MessageId, Known>,
    live: BTreeMap<u64, Live>,
    /// What the progress of all takes on disk when it is written anew.
    progress_bytes: u64,
}

impl Index {
    /// A message was written here; if it was known, this is where it is now.
    pub(crate) fn insert(&mut self, id: MessageId, place: Place) {
        let known = self.messages.get_mut(&id);
        let before = known.map(|known| std::mem::replace(&mut known.place, place));
        match before {
            Some(before) => self.release(before),
            None => {
                let progress = None;
                self.messages.insert(id, Known { place, progress });
            }
        }
        let live = self.live.entry(place.segment).or_default();
        live.messages += 1;
        live.bytes += u64::from(place.length);
    }

    /// An attempt was recorded.
    pub(crate) fn merge(&mut self, attempt: &Attempt) {
        if let Some(known) = self.messages.get_mut(&attempt.id) {
            self.progress_bytes -= progress_bytes(known);
            known.progress.get_or_insert_default().merge(attempt);
            self.progress_bytes += progress_bytes(known);
        }
    }

    /// A message is finished.
    pub(crate) fn remove(&mut self, id: MessageId) {
        if let Some(known) = self.messages.remove(&id) {
            self.progress_bytes -= progress_bytes(&known);
            self.release(known.place);
        }
    }

    pub(crate) fn place(&self, id: MessageId) -> Option<Place> {
        self.messages.get(&id).map(|known| known.place)
    }

    pub(crate) fn progress(&self, id: MessageId) -> Option<&Progress> {
        self.messages.get(&id)?.progress.as_deref()
    }

    pub(crate) fn live(&self, segment: u64) -> Live {
        self.live.get(&segment).copied().unwrap_or_default()
    }

    pub(crate) fn live_bytes(&self) -> u64 {
        self.live.values().map(|live| live.bytes).sum()
    }

    /// What would be left if all were written anew, each message in a group of its own.
    pub(crate) fn compact_bytes(&self) -> u64 {
        let groups = self.messages.len() as u64 * GROUP_BYTES;
        self.live_bytes() + groups + self.progress_bytes
    }

    /// A message as recovery reports it.
    pub(crate) fn queued(&self, head: MessageHead) -> Queued {
        let none = Progress {
            next_attempt_ms: head.arrival_ms,
            ..Progress::default()
        };
        let progress = self.progress(head.id).unwrap_or(&none);
        Queued {
            id: head.id,
            arrival_ms: head.arrival_ms,
            bytes: head.bytes,
            recipients: head.recipients,
            next_attempt_ms: progress.next_attempt_ms,
            attempts: progress.attempts,
            settled: progress.settled.clone(),
        }
    }

    fn release(&mut self, place: Place) {
        let Some(live) = self.live.get_mut(&place.segment) else {
            return;
        };
        live.messages = live.messages.saturating_sub(1);
        live.bytes = live.bytes.saturating_sub(u64::from(place.length));
        if live.messages == 0 {
            self.live.remove(&place.segment);
        }
    }
}

/// What the progress of a message takes on disk.
fn progress_bytes(known: &Known) -> u64 {
    let settled = |progress: &Progress| progress.settled.len() as u64 * RESULT_BYTES;
    let progress = known.progress.as_deref();
    progress.map_or(0, |progress| ATTEMPT_BYTES + settled(progress))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bound on the queue rests on this: whoever lets it grow sees here that fewer messages fit.
    #[test]
    fn a_message_costs_this_much_memory() {
        assert_eq!(MESSAGE_BYTES, 180);
        let lists = [1, 2, 7, 1000].map(|count| (count, allocated(count * size_of::<u32>())));
        for (count, bytes) in lists {
            assert!(bytes.max(8) <= SETTLED_BYTES * count as u64, "{count}");
        }
    }

    #[test]
    fn only_which_recipients_are_settled_is_kept() {
        let mut progress = Progress::default();
        let id = MessageId::from_bytes([1; 16]);
        let attempt = |attempts, results: &[(u32, RecipientResult)]| Attempt {
            id,
            next_attempt_ms: 1000 * u64::from(attempts),
            attempts,
            results: results.to_vec(),
        };
        progress.merge(&attempt(1, &[(0, RecipientResult::Deferred)]));
        assert_eq!(progress.settled.len(), 0);
        progress.merge(&attempt(
            2,
            &[(7, RecipientResult::Failed), (0, RecipientResult::Deferred)],
        ));
        progress.merge(&attempt(3, &[(3, RecipientResult::Delivered)]));
        let expected = Progress {
            next_attempt_ms: 3000,
            attempts: 3,
            settled: Box::new([3, 7]),
        };
        assert_eq!(progress, expected);
        let mut again = Progress::default();
        again.merge(&progress.to_attempt(id));
        assert_eq!(again, expected, "what is moved says the same");
    }
}
