//! Groups as they are written, and for how long they are kept: until they are on stable storage.
//!
//! In the durable mode that is one batch. In the relaxed mode groups are answered before they are flushed, and so they are kept: if the
//! flush fails, what was written is lost to the file, whatever the system shows of it, but not to this program, which writes it
//! anew elsewhere.

use crate::MessageId;
use crate::format::{Encoded, Mark, encode_group, mark_group};
use crate::number::wide;
use crate::record::Record;
use crate::waiting::Group;

/// A buffer that grew past this for one large batch is given back.
const BUFFER_KEPT: usize = 32 << 20;

/// What is not flushed: groups that were answered, and behind them those of the batch.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Groups, one after the other.
    pub(super) bytes: Vec<u8>,
    /// So many of them lie in the active segment, behind its durable end; none of what a failed segment took with it.
    pub(super) written: usize,
    /// So many of them belong to groups that were answered.
    answered: usize,
    /// Where groups begin.
    starts: Vec<usize>,
    /// Messages in groups that were answered, as they lie in the window.
    messages: Vec<(MessageId, Encoded)>,
}

impl Window {
    /// Whether there are answered groups that no segment holds.
    pub(super) fn is_homeless(&self) -> bool {
        self.written < self.answered
    }

    /// Whether there are groups that were answered.
    pub(super) fn is_promised(&self) -> bool {
        self.answered > 0
    }

    /// Adds a batch; where each group begins, and where the records of it lie, counted from there.
    pub(super) fn encode(&mut self, batch: &[Group]) -> Vec<(u64, Vec<Encoded>)> {
        let mut places = Vec::with_capacity(batch.len());
        for group in batch {
            let start = self.bytes.len();
            self.starts.push(start);
            places.push((wide(start), encode_group(&group.records, &mut self.bytes)));
        }
        places
    }

    /// Puts the mark of the segment they go to into the groups that are to be written.
    pub(super) fn mark(&mut self, mark: Mark) {
        let new = self.starts.partition_point(|start| *start < self.written);
        for start in &self.starts[new..] {
            mark_group(&mut self.bytes[*start..], mark);
        }
    }

    /// The batch is written, and is going to be answered before it is flushed.
    pub(super) fn promise(&mut self, batch: &[Group], places: &[(u64, Vec<Encoded>)]) {
        self.answered = self.bytes.len();
        for (group, (start, encoded)) in batch.iter().zip(places) {
            for (record, encoded) in group.records.iter().zip(encoded) {
                if let Record::Message(message) = record {
                    let offset = start + encoded.offset;
                    self.messages
                        .push((message.id, Encoded { offset, ..*encoded }));
                }
            }
        }
    }

    /// The batch is refused.
    pub(super) fn refuse(&mut self) {
        self.bytes.truncate(self.answered);
        self.written = self.written.min(self.answered);
        let kept = self.starts.partition_point(|start| *start < self.answered);
        self.starts.truncate(kept);
    }

    /// All of it is on stable storage.
    pub(super) fn clear(&mut self) {
        let Self {
            bytes,
            written,
            answered,
            starts,
            messages,
        } = self;
        (*written, *answered) = (0, 0);
        bytes.clear();
        if bytes.capacity() > BUFFER_KEPT {
            *bytes = Vec::new();
        }
        starts.clear();
        messages.clear();
    }

    /// Messages whose place is another one now, in the order in which they were written.
    pub(super) fn messages(&self) -> &[(MessageId, Encoded)] {
        &self.messages
    }
}
