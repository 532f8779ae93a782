//! What a start found unfinished, small enough that a million messages fit beside what is made of them.
//!
//! Names (domains, users) are kept once, and so is what most messages have in common; [`Queue::iter`] puts each message together
//! again, borrowed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use indexmap::IndexSet;

use super::{Author, Message};
use crate::MessageId;
use crate::index::Index;
use crate::number::wide;

/// Unfinished messages, oldest first. To be dropped as soon as all are filed: it serves nothing else.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    entries: Vec<Entry>,
    names: IndexSet<Box<str>>,
    domains: IndexSet<Box<[(Name, u32)]>>,
    terms: IndexSet<Terms>,
    settled: BTreeMap<MessageId, Box<[u32]>>,
}

/// An unfinished message: what it can be filed by without reading it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Queued<'a> {
    /// Its name.
    pub id: MessageId,
    /// Arrival, milliseconds since the epoch.
    pub arrival_ms: u64,
    /// Bytes of headers and body.
    pub bytes: u64,
    /// How many recipients the envelope names.
    pub recipients: u32,
    /// Whether the sender may have to be told of any of them.
    pub reportable: bool,
    /// When to try next; if it never was, its arrival or [`Self::not_before_ms`], whichever is later.
    pub next_attempt_ms: u64,
    /// Failed attempts so far.
    pub attempts: u32,
    /// Whether the sender has been told of the delay.
    pub delay_notified: bool,
    /// Indexes of the recipients that have their final outcome, ascending.
    pub settled: Cow<'a, [u32]>,
    /// The domain of the sender in lower case; empty for the null one.
    pub sender_domain: Cow<'a, str>,
    /// As in the envelope.
    pub credential: Cow<'a, str>,
    /// As in the envelope.
    pub author: Author,
    /// As in the envelope.
    pub priority: i8,
    /// As in the envelope.
    pub not_before_ms: u64,
    /// The deadline in the envelope.
    pub deliver_by_ms: Option<u64>,
    /// The domains of all recipients, in their order: so the index of a recipient tells its domain.
    pub domains: Vec<DomainRun<'a>>,
}

/// Recipients next to each other at one domain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DomainRun<'a> {
    /// In lower case; empty if the addresses have none.
    pub domain: Cow<'a, str>,
    /// How many.
    pub recipients: u32,
}

/// What few messages ask for.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
struct Terms {
    priority: i8,
    not_before_ms: u64,
    deliver_by_ms: Option<u64>,
}

/// Number of a value in one of the sets.
type Name = u32;

/// Number of a value in a set that is full: four thousand million names do not fit into memory.
const NO_NAME: Name = Name::MAX;

#[derive(Clone, Debug)]
struct Entry {
    id: MessageId,
    arrival_ms: u64,
    next_attempt_ms: u64,
    bytes: u32,
    attempts: u32,
    sender_domain: Name,
    credential: Name,
    domains: Name,
    terms: Name,
    delay_notified: bool,
    author: Author,
    reportable: bool,
}

impl Message {
    /// As a start would report it if it came right after the message was stored.
    #[must_use]
    pub fn queued(&self) -> Queued<'_> {
        let Self {
            id,
            arrival_ms,
            envelope,
            headers,
            body,
        } = self;
        Queued {
            id: *id,
            arrival_ms: *arrival_ms,
            bytes: wide(headers.len() + body.len()),
            recipients: u32::try_from(envelope.recipients.len()).unwrap_or(u32::MAX),
            reportable: envelope.is_reportable(),
            next_attempt_ms: envelope.not_before_ms.max(*arrival_ms),
            attempts: 0,
            delay_notified: false,
            settled: Cow::default(),
            sender_domain: envelope.sender_domain(),
            credential: Cow::Borrowed(&envelope.credential),
            author: envelope.author,
            priority: envelope.priority,
            not_before_ms: envelope.not_before_ms,
            deliver_by_ms: envelope.deliver_by.map(|by| by.deadline_ms),
            domains: envelope.domains(),
        }
    }
}

impl Queued<'_> {
    /// With names of its own.
    pub(crate) fn into_owned(self) -> Queued<'static> {
        let runs = self.domains.into_iter();
        Queued {
            settled: self.settled.into_owned().into(),
            sender_domain: self.sender_domain.into_owned().into(),
            credential: self.credential.into_owned().into(),
            domains: runs
                .map(|run| DomainRun {
                    domain: run.domain.into_owned().into(),
                    recipients: run.recipients,
                })
                .collect(),
            ..self
        }
    }
}

impl Queue {
    /// How many messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Each message, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Queued<'_>> {
        self.entries.iter().map(|entry| self.queued(entry))
    }

    /// A message was found in the log; it may be finished further on, or found again where it was moved to.
    pub(crate) fn add(&mut self, queued: &Queued<'_>) {
        let runs = queued.domains.iter();
        let domains: Box<[(Name, u32)]> = runs
            .map(|run| (name(&mut self.names, &run.domain), run.recipients))
            .collect();
        let terms = Terms {
            priority: queued.priority,
            not_before_ms: queued.not_before_ms,
            deliver_by_ms: queued.deliver_by_ms,
        };
        self.entries.push(Entry {
            id: queued.id,
            arrival_ms: queued.arrival_ms,
            next_attempt_ms: queued.next_attempt_ms,
            // What can be stored is smaller than what four bytes tell.
            bytes: u32::try_from(queued.bytes).unwrap_or(u32::MAX),
            reportable: queued.reportable,
            attempts: queued.attempts,
            sender_domain: name(&mut self.names, &queued.sender_domain),
            credential: name(&mut self.names, &queued.credential),
            domains: number(self.domains.insert_full(domains).0),
            terms: number(self.terms.insert_full(terms).0),
            delay_notified: queued.delay_notified,
            author: queued.author,
        });
    }

    /// Forgets what is finished, if that is more than what is not.
    pub(crate) fn trim(&mut self, index: &Index) {
        if self.entries.len() / 2 > index.len() {
            self.entries.retain(|entry| index.place(entry.id).is_some());
        }
    }

    /// Leaves each unfinished message once, with what became of it.
    pub(crate) fn finish(&mut self, index: &Index) {
        self.entries.sort_unstable_by_key(|entry| entry.id);
        self.entries.dedup_by_key(|entry| entry.id);
        let settled = &mut self.settled;
        self.entries.retain_mut(|entry| {
            if let Some(progress) = index.progress(entry.id) {
                entry.next_attempt_ms = progress.next_attempt_ms;
                entry.attempts = progress.attempts;
                entry.delay_notified = progress.delay_notified;
                if !progress.settled.is_empty() {
                    settled.insert(entry.id, progress.settled.into());
                }
            }
            index.place(entry.id).is_some()
        });
        self.entries.shrink_to_fit();
    }

    fn queued<'a>(&'a self, entry: &Entry) -> Queued<'a> {
        let terms = self.terms.get_index(at(entry.terms)).copied();
        let Terms {
            priority,
            not_before_ms,
            deliver_by_ms,
        } = terms.unwrap_or_default();
        let runs = self.domains.get_index(at(entry.domains));
        let run = |(domain, recipients): &(Name, u32)| DomainRun {
            domain: self.name(*domain),
            recipients: *recipients,
        };
        let runs: Vec<_> = runs.into_iter().flatten().map(run).collect();
        let settled = self.settled.get(&entry.id);
        Queued {
            id: entry.id,
            arrival_ms: entry.arrival_ms,
            bytes: entry.bytes.into(),
            recipients: runs.iter().map(|run| run.recipients).sum(),
            reportable: entry.reportable,
            next_attempt_ms: entry.next_attempt_ms,
            attempts: entry.attempts,
            delay_notified: entry.delay_notified,
            settled: settled.map_or_else(Cow::default, |settled| Cow::Borrowed(settled.as_ref())),
            sender_domain: self.name(entry.sender_domain),
            credential: self.name(entry.credential),
            author: entry.author,
            priority,
            not_before_ms,
            deliver_by_ms,
            domains: runs,
        }
    }

    fn name(&self, name: Name) -> Cow<'_, str> {
        let name = self.names.get_index(at(name));
        Cow::Borrowed(name.map_or("", |name| name))
    }
}

impl<'a> FromIterator<&'a Message> for Queue {
    /// As if a start had found these, in this order.
    fn from_iter<T: IntoIterator<Item = &'a Message>>(messages: T) -> Self {
        let mut queue = Self::default();
        for message in messages {
            queue.add(&message.queued());
        }
        queue
    }
}

/// The number of a name, which is kept once.
fn name(names: &mut IndexSet<Box<str>>, name: &str) -> Name {
    match names.get_index_of(name) {
        Some(index) => number(index),
        None => number(names.insert_full(name.into()).0),
    }
}

fn number(index: usize) -> Name {
    Name::try_from(index).unwrap_or(NO_NAME)
}

fn at(name: Name) -> usize {
    usize::try_from(name).unwrap_or(usize::MAX)
}
