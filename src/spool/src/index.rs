//! Where every unfinished message lies, and what is left alive in each segment. Pure.
//!
//! Memory: what is kept per message is bounded by [`MESSAGE_BYTES`] and, per recipient that is settled while others are
//! open, [`SETTLED_BYTES`].

use std::collections::BTreeMap;

use crate::MessageId;
use crate::format::{ATTEMPT_BYTES, END_MARK, GROUP_HEADER, RECORD_HEADER, RESULT_BYTES};
use crate::number::wide;
use crate::record::{Attempt, RecipientResult};
use crate::runs::Runs;

/// Most memory that the index takes for one message, in bytes, settled recipients apart.
pub const MESSAGE_BYTES: u64 = Runs::<Known>::entry_bytes_max();

/// Most memory that the index takes for one settled recipient of an unfinished message, in bytes: of a list of one, the least
/// that an allocator gives out.
pub const SETTLED_BYTES: u64 = Runs::<Box<[u32]>>::entry_bytes_max() + 8;

/// What a group takes on disk beside its records.
const GROUP_BYTES: u64 = wide(GROUP_HEADER + END_MARK);

/// Where a message's record lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// Sequence of the segment.
    pub(crate) segment: u64,
    /// Offset of the record's header.
    pub(crate) offset: u64,
    /// Length with the header.
    pub(crate) length: u32,
}

/// What is left alive in a segment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Live {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// The state of deliveries so far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Progress<'a> {
    pub(crate) next_attempt_ms: u64,
    pub(crate) attempts: u32,
    pub(crate) delay_notified: bool,
    /// Indexes of the recipients that have their final outcome, ascending.
    pub(crate) settled: &'a [u32],
}

impl Progress<'_> {
    /// As one record, for when the message is moved: whether a settled recipient got it is no longer known, nor needed.
    pub(crate) fn to_attempt(self, id: MessageId) -> Attempt {
        let settled = self.settled.iter();
        Attempt {
            id,
            next_attempt_ms: self.next_attempt_ms,
            attempts: self.attempts,
            delay_notified: self.delay_notified,
            results: settled
                .map(|index| (*index, RecipientResult::Delivered))
                .collect(),
        }
    }
}

/// What is known of a message.
#[derive(Clone, Copy, Debug)]
struct Known {
    next_attempt_ms: u64,
    /// Of the sequence of the segment, the lower half: see [`Index::newest`].
    segment: u32,
    /// No segment is larger than that: see [`crate::format::GROUP_MAX`].
    offset: u32,
    length: u32,
    /// More are not told apart.
    attempts: u16,
    attempted: bool,
    delay_notified: bool,
}

/// All unfinished messages.
#[derive(Debug, Default)]
pub(crate) struct Index {
    messages: Runs<Known>,
    /// Indexes of the recipients that have their final outcome, ascending. Apart, since most messages never have any.
    settled: Runs<Box<[u32]>>,
    live: BTreeMap<u64, Live>,
    live_bytes: u64,
    /// The highest sequence of all so far. There are never so many segments that the lower half does not tell them apart.
    newest: u64,
    /// What the progress of all takes on disk when it is written anew.
    progress_bytes: u64,
}

impl Index {
    /// A message was written here; if it was known, this is where it is now.
    pub(crate) fn insert(&mut self, id: MessageId, place: Place) {
        self.newest = self.newest.max(place.segment);
        let (segment, offset) = (lower(place.segment), lower(place.offset));
        let length = place.length;
        if let Some(known) = self.messages.get_mut(id) {
            let before = *known;
            (known.segment, known.offset, known.length) = (segment, offset, length);
            self.release(before);
        } else {
            let known = Known {
                next_attempt_ms: 0,
                segment,
                offset,
                length,
                attempts: 0,
                attempted: false,
                delay_notified: false,
            };
            self.messages.insert(id, known);
        }
        let live = self.live.entry(place.segment).or_default();
        live.messages += 1;
        live.bytes += u64::from(length);
        self.live_bytes += u64::from(length);
    }

    /// An attempt was recorded.
    pub(crate) fn merge(&mut self, attempt: &Attempt) {
        let before = self.progress_bytes_of(attempt.id);
        let Some(known) = self.messages.get_mut(attempt.id) else {
            return;
        };
        known.next_attempt_ms = attempt.next_attempt_ms;
        known.attempts = u16::try_from(attempt.attempts).unwrap_or(u16::MAX);
        // Whoever was told of it once was told, whatever another part of the message says later.
        known.delay_notified |= attempt.delay_notified;
        known.attempted = true;
        self.settle(attempt);
        self.progress_bytes += self.progress_bytes_of(attempt.id);
        self.progress_bytes -= before;
    }

    /// A message is finished.
    pub(crate) fn remove(&mut self, id: MessageId) {
        let progress_bytes = self.progress_bytes_of(id);
        if let Some(known) = self.messages.remove(id) {
            self.progress_bytes -= progress_bytes;
            self.settled.remove(id);
            self.release(known);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn place(&self, id: MessageId) -> Option<Place> {
        self.messages.get(id).map(|known| self.place_of(known))
    }

    /// What is alive in a segment. Looks at all that is known.
    pub(crate) fn placed_in(&self, segment: u64) -> Vec<(MessageId, Place)> {
        let all = self.messages.iter();
        let here = all.filter(|(_, known)| self.sequence(known.segment) == segment);
        here.map(|(id, known)| (id, self.place_of(known))).collect()
    }

    /// `None` if there was no attempt.
    pub(crate) fn progress(&self, id: MessageId) -> Option<Progress<'_>> {
        let known = self.messages.get(id).filter(|known| known.attempted)?;
        Some(Progress {
            next_attempt_ms: known.next_attempt_ms,
            attempts: known.attempts.into(),
            delay_notified: known.delay_notified,
            settled: self.settled.get(id).map_or(&[], |settled| settled),
        })
    }

    pub(crate) fn live(&self, segment: u64) -> Live {
        self.live.get(&segment).copied().unwrap_or_default()
    }

    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// What would be left if all were written anew, each message in a group of its own.
    pub(crate) fn compact_bytes(&self) -> u64 {
        let groups = wide(self.messages.len()) * GROUP_BYTES;
        self.live_bytes + groups + self.progress_bytes
    }

    fn settle(&mut self, attempt: &Attempt) {
        let results = attempt.results.iter();
        let mut settled: Vec<u32> = results
            .filter(|(_, result)| result.is_final())
            .map(|(index, _)| *index)
            .collect();
        if settled.is_empty() {
            return;
        }
        let before = self.settled.get(attempt.id);
        settled.extend(before.into_iter().flatten());
        settled.sort_unstable();
        settled.dedup();
        self.settled.insert(attempt.id, settled.into_boxed_slice());
    }

    fn place_of(&self, known: &Known) -> Place {
        Place {
            segment: self.sequence(known.segment),
            offset: known.offset.into(),
            length: known.length,
        }
    }

    /// The sequence with this lower half, counted back from the newest.
    fn sequence(&self, segment: u32) -> u64 {
        let back = lower(self.newest).wrapping_sub(segment);
        self.newest.saturating_sub(back.into())
    }

    fn release(&mut self, known: Known) {
        let segment = self.sequence(known.segment);
        let Some(live) = self.live.get_mut(&segment) else {
            return;
        };
        let length = u64::from(known.length);
        live.messages = live.messages.saturating_sub(1);
        live.bytes = live.bytes.saturating_sub(length);
        if live.messages == 0 {
            self.live.remove(&segment);
        }
        self.live_bytes = self.live_bytes.saturating_sub(length);
    }

    /// What the progress of a message takes on disk.
    fn progress_bytes_of(&self, id: MessageId) -> u64 {
        let attempt = self.progress(id).map(|progress| progress.settled.len());
        let record = |settled| RECORD_HEADER + ATTEMPT_BYTES + settled * RESULT_BYTES;
        wide(attempt.map_or(0, record))
    }
}

/// The lower half of a number.
fn lower(number: u64) -> u32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::allocated;
    use crate::format::record_bytes;
    use crate::record::Record;

    /// The bound on the queue rests on this: whoever lets it grow sees here that fewer messages fit.
    #[test]
    fn a_message_costs_this_much_memory() {
        assert_eq!((MESSAGE_BYTES, SETTLED_BYTES), (82, 74));
        let lists = [1, 2, 7, 1000].map(|count| (count, allocated(4 * count)));
        let entry = Runs::<Box<[u32]>>::entry_bytes_max();
        for (count, bytes) in lists {
            assert!(
                entry + bytes.max(8) <= SETTLED_BYTES * count as u64,
                "{count}"
            );
        }
    }

    #[test]
    fn only_which_recipients_are_settled_is_kept() {
        let (id, place) = (MessageId::from_bytes([1; 16]), place(1, 100));
        let mut index = Index::default();
        index.insert(id, place);
        assert_eq!(index.progress(id), None);
        let attempt = |attempts, results: &[(u32, RecipientResult)]| Attempt {
            id,
            next_attempt_ms: 1000 * u64::from(attempts),
            attempts,
            delay_notified: attempts == 2,
            results: results.to_vec(),
        };
        index.merge(&attempt(1, &[(0, RecipientResult::Deferred)]));
        assert_eq!(index.progress(id).unwrap().settled, []);
        index.merge(&attempt(
            2,
            &[(7, RecipientResult::Failed), (0, RecipientResult::Deferred)],
        ));
        index.merge(&attempt(3, &[(3, RecipientResult::Delivered)]));
        let expected = Progress {
            next_attempt_ms: 3000,
            attempts: 3,
            delay_notified: true,
            settled: &[3, 7],
        };
        assert_eq!(index.progress(id), Some(expected));
        let mut again = Index::default();
        again.insert(id, place);
        let moved = expected.to_attempt(id);
        again.merge(&moved);
        assert_eq!(
            again.progress(id),
            Some(expected),
            "what is moved says the same"
        );
        let written = record_bytes(&Record::Attempt(moved));
        assert_eq!(index.compact_bytes(), 100 + GROUP_BYTES + written);
        index.remove(id);
        assert_eq!((index.compact_bytes(), index.settled.len()), (0, 0));
    }

    #[test]
    fn segments_are_told_apart_beyond_what_half_a_number_holds() {
        let mut index = Index::default();
        let first = u64::from(u32::MAX) - 1;
        let places = (0..4).map(|number| place(first + number, 100));
        let ids = (0..4).map(|number| MessageId::from_bytes([number; 16]));
        let placed: Vec<_> = ids.zip(places).collect();
        for (id, place) in &placed {
            index.insert(*id, *place);
        }
        for (id, place) in &placed {
            assert_eq!(index.place(*id), Some(*place));
            index.remove(*id);
            assert_eq!(index.live(place.segment), Live::default());
        }
        assert_eq!(index.live_bytes(), 0);
    }

    fn place(segment: u64, length: u32) -> Place {
        Place {
            segment,
            offset: 48,
            length,
        }
    }
}
