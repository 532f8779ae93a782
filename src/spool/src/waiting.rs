//! What waits for the writer, and for how long the writer lets it wait.
//!
//! It takes all there is as soon as it can: while one flush runs, the next batch gathers by itself. There is one exception. The end of a
//! message ([`Record::Done`]) comes shortly after the message, and often shortly before the next one of the same client: alone it would take a
//! flush of its own, and that message would wait for two. So while mail comes, ends wait for it, until [`LINGER`] after
//! the last message. Whoever can do nothing more before its end is stored says so: [`Waiting::hurry`].

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::answer::Answer;
use crate::record::{Author, Record};
use crate::{SubmitError, WAITING_BYTES_MAX, WAITING_GROUPS_MAX};

/// For how long after a message has been stored the next one is expected: a client that waits for each answer needs four round trips, of half
/// a millisecond between two nodes. What is delivered meanwhile a power cut delivers again, so that it should not be longer.
pub(crate) const LINGER: Duration = Duration::from_millis(2);

/// Records that are to be stored together.
pub(crate) struct Group {
    pub(crate) records: Vec<Record>,
    pub(crate) bytes: u64,
    pub(crate) done: Answer,
}

impl Group {
    /// Whether it is a message that was received.
    pub(crate) fn is_mail(&self) -> bool {
        matches!(self.records[..], [Record::Message(_)])
    }

    /// Whether one of its messages is a report.
    pub(crate) fn has_report(&self) -> bool {
        let mut records = self.records.iter();
        records.any(|record| matches!(record, Record::Message(message) if message.envelope.author == Author::Relay))
    }

    /// Whether it does nothing but end messages.
    fn is_end(&self) -> bool {
        let mut records = self.records.iter();
        records.all(|record| matches!(record, Record::Done(_)))
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Groups in the order in which they were submitted.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    groups: VecDeque<Group>,
    bytes: u64,
    /// Groups that do more than end messages.
    urgent: usize,
    /// Somebody is held up by one of them.
    hurried: bool,
    closed: bool,
    /// If the writer sleeps: how long it lets ends wait.
    asleep: Option<Duration>,
}

impl Waiting {
    /// Adds a group. One that is alone is admitted whatever its size, or it could never be written.
    pub(crate) fn push(&mut self, group: Group) -> Result<(), SubmitError> {
        if self.closed {
            return Err(SubmitError::Closed);
        }
        let full = self.bytes.saturating_add(group.bytes) > WAITING_BYTES_MAX
            || self.groups.len() >= WAITING_GROUPS_MAX;
        if full && !self.groups.is_empty() {
            return Err(SubmitError::Full);
        }
        self.bytes += group.bytes;
        self.urgent += usize::from(!group.is_end());
        self.groups.push_back(group);
        Ok(())
    }

    /// Takes so many bytes; at least one group if there is any.
    pub(crate) fn take(&mut self, bytes_max: u64) -> Vec<Group> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(group) = self.groups.front() {
            if !batch.is_empty() && bytes + group.bytes > bytes_max {
                break;
            }
            bytes += group.bytes;
            self.urgent -= usize::from(!group.is_end());
            batch.extend(self.groups.pop_front());
        }
        self.bytes -= bytes;
        // Those beyond the batch are still waited for.
        self.hurried &= !self.groups.is_empty();
        batch
    }

    /// Nothing that is here now waits for mail.
    pub(crate) fn hurry(&mut self) {
        self.hurried = !self.groups.is_empty();
    }

    #[cfg(feature = "simulation")]
    pub(crate) fn ignore_hurry(&mut self) {
        self.hurried = false;
    }

    /// Nothing more is taken in.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How long the writer may sleep, which lets ends wait for so long and has nothing else to do for `idle`; `None` if there is work.
    pub(crate) fn sleep(&mut self, idle: Duration, linger: Duration) -> Option<Duration> {
        let patience = match self.groups.is_empty() {
            // An end that comes meanwhile wakes nobody, so that its time has to be kept.
            true if !linger.is_zero() => idle.min(linger),
            true => idle,
            false => linger,
        };
        let sleeps = !patience.is_zero() && !self.is_due(linger);
        self.asleep = sleeps.then_some(linger);
        sleeps.then_some(patience)
    }

    /// Whether the writer is to be woken: once for what it has to do.
    pub(crate) fn wake(&mut self) -> bool {
        let wakes = self.asleep.is_some_and(|linger| self.is_due(linger));
        if wakes {
            self.asleep = None;
        }
        wakes
    }

    /// The writer is awake, whatever has woken it.
    pub(crate) fn woken(&mut self) {
        self.asleep = None;
    }

    fn is_due(&self, linger: Duration) -> bool {
        let ends_are_due = linger.is_zero() && !self.groups.is_empty();
        ends_are_due || self.urgent > 0 || self.hurried || self.closed
    }
}
