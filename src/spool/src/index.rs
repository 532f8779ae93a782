//! Where every unfinished message lies, and what is left alive in each segment. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::MessageId;
use crate::format::MessageHead;
use crate::record::{Attempt, Queued, RecipientResult};

/// Where a message's record lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// Sequence of the segment.
    pub(crate) segment: u64,
    /// Offset of the record's header.
    pub(crate) offset: u64,
    /// Length with the header.
    pub(crate) length: u64,
}

/// What is left alive in a segment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Live {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// The state of deliveries so far, for those messages that have any.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Progress {
    pub(crate) next_attempt_ms: u64,
    pub(crate) attempts: u32,
    pub(crate) results: BTreeMap<u32, RecipientResult>,
}

impl Progress {
    fn merge(&mut self, attempt: Attempt) {
        self.next_attempt_ms = attempt.next_attempt_ms;
        self.attempts = attempt.attempts;
        self.results.extend(attempt.results);
    }

    /// As one record, for when the message is moved.
    pub(crate) fn to_attempt(&self, id: MessageId) -> Attempt {
        Attempt {
            id,
            next_attempt_ms: self.next_attempt_ms,
            attempts: self.attempts,
            results: self
                .results
                .iter()
                .map(|(index, result)| (*index, result.clone()))
                .collect(),
        }
    }
}

/// All unfinished messages.
#[derive(Debug, Default)]
pub(crate) struct Index {
    places: HashMap<MessageId, Place>,
    progress: HashMap<MessageId, Progress>,
    live: BTreeMap<u64, Live>,
}

impl Index {
    /// A message was written here; if it was known, this is where it is now.
    pub(crate) fn insert(&mut self, id: MessageId, place: Place) {
        if let Some(before) = self.places.insert(id, place) {
            self.release(before);
        }
        let live = self.live.entry(place.segment).or_default();
        live.messages += 1;
        live.bytes += place.length;
    }

    /// An attempt was recorded.
    pub(crate) fn merge(&mut self, attempt: Attempt) {
        if !self.places.contains_key(&attempt.id) {
            return;
        }
        let fresh = || Progress {
            next_attempt_ms: 0,
            attempts: 0,
            results: BTreeMap::new(),
        };
        self.progress
            .entry(attempt.id)
            .or_insert_with(fresh)
            .merge(attempt);
    }

    /// A message is finished.
    pub(crate) fn remove(&mut self, id: MessageId) {
        self.progress.remove(&id);
        if let Some(place) = self.places.remove(&id) {
            self.release(place);
        }
    }

    pub(crate) fn place(&self, id: MessageId) -> Option<Place> {
        self.places.get(&id).copied()
    }

    pub(crate) fn progress(&self, id: MessageId) -> Option<&Progress> {
        self.progress.get(&id)
    }

    pub(crate) fn live(&self, segment: u64) -> Live {
        self.live.get(&segment).copied().unwrap_or_default()
    }

    pub(crate) fn live_bytes(&self) -> u64 {
        self.live.values().map(|live| live.bytes).sum()
    }

    /// A message as recovery reports it.
    pub(crate) fn queued(&self, head: MessageHead) -> Queued {
        let progress = self.progress.get(&head.id);
        let results = progress.map(|progress| {
            progress
                .results
                .iter()
                .map(|(index, result)| (*index, result.clone()))
                .collect()
        });
        Queued {
            id: head.id,
            arrival_ms: head.arrival_ms,
            bytes: head.bytes,
            recipients: head.recipients,
            next_attempt_ms: progress.map_or(head.arrival_ms, |progress| progress.next_attempt_ms),
            attempts: progress.map_or(0, |progress| progress.attempts),
            results: results.unwrap_or_default(),
        }
    }

    fn release(&mut self, place: Place) {
        let Some(live) = self.live.get_mut(&place.segment) else {
            return;
        };
        live.messages = live.messages.saturating_sub(1);
        live.bytes = live.bytes.saturating_sub(place.length);
        if live.messages == 0 {
            self.live.remove(&place.segment);
        }
    }
}
