//! What is kept of a message that waits, and of each of its pieces.

use std::mem::size_of;

use postroad_spool::cost::allocated;
use postroad_spool::{Author, MessageId, Queued};

use super::lanes::{Class, Label, Lanes, Turn};
use crate::names::{Name, Names};
use crate::room::Weight;
use crate::room::load::{Load, Sender};
use crate::slab::{Link, Linked, NONE, Slab};
use crate::wheel::Timed;

/// Most memory that the schedule takes for a message with one open recipient, and for each further open recipient, in bytes; names and
/// destinations apart.
pub(super) const MESSAGE_BYTES: u64 = Slab::<Message>::ENTRY_BYTES
    + Slab::<Piece>::ENTRY_BYTES
    + Lanes::LANE_BYTES
    + allocated(size_of::<More>())
    + 2 * size_of::<Run>() as u64;

/// Most memory that the schedule takes for one settled recipient of an unfinished message, in bytes: its index in a list that doubles
/// as it grows, and its run.
pub(super) const SETTLED_BYTES: u64 = 2 * size_of::<u32>() as u64 + size_of::<Run>() as u64;

/// Most memory that mail of this weight takes, in the spool's index and here, in bytes.
#[must_use]
pub fn bytes(weight: Weight) -> u64 {
    let Weight { open, further } = weight;
    let open = open.saturating_mul(postroad_spool::MESSAGE_BYTES + MESSAGE_BYTES);
    let settled = further.saturating_mul(postroad_spool::SETTLED_BYTES + SETTLED_BYTES);
    open.saturating_add(settled)
}

/// A message that is not finished.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) id: MessageId,
    pub(super) arrival_ms: u64,
    /// What few messages have.
    pub(super) more: Option<Box<More>>,
    /// In the order of arrival.
    pub(super) age: Link,
    /// The first; the others are its siblings.
    pub(super) pieces: u32,
    pub(super) bytes: u32,
    pub(super) recipients: u32,
    pub(super) sender: Name,
    /// The name of whom it counts for; that login submitted it unless it is a report.
    pub(super) account: Name,
    /// Of the first recipients, and mostly of all.
    pub(super) domain: Name,
    pub(super) priority: i8,
    /// Of the table by which it is filed.
    pub(super) generation: u8,
    pub(super) marks: Marks,
}

/// What happened to a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Marks {
    /// An attempt failed.
    pub(super) deferred: bool,
    /// The sender knows that it is late.
    pub(super) delay_notified: bool,
    /// The sender need not know how old it is, whatever its pieces wait for.
    pub(super) age_ignored: bool,
    /// The disk did not give it back when it was last tried.
    pub(super) unreadable: bool,
    /// Who has written it.
    pub(super) author: Author,
    /// Whether anybody may have to be told of it.
    pub(super) sender: Sender,
}

/// What few messages have.
#[derive(Debug, Default)]
pub(super) struct More {
    /// If the recipients are at several domains.
    pub(super) runs: Box<[Run]>,
    /// Indexes of the recipients with a final outcome, ascending.
    pub(super) settled: Vec<u32>,
    /// DELIVERBY (RFC 2852); 0 for never.
    pub(super) deliver_by_ms: u64,
    /// When [`super::Schedule::take_overdue`] looks at it because of that.
    pub(super) look_ms: u64,
    /// FUTURERELEASE (RFC 4865).
    pub(super) not_before_ms: u64,
}

impl More {
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            runs,
            settled,
            deliver_by_ms,
            look_ms: _,
            not_before_ms,
        } = self;
        runs.is_empty() && settled.is_empty() && *deliver_by_ms == 0 && *not_before_ms == 0
    }
}

/// So many recipients in a row at one domain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Run {
    pub(super) domain: Name,
    pub(super) recipients: u32,
    /// The destination under which they were filed, and so their piece, if the message has several runs.
    pub(super) place: u32,
}

/// The recipients of a message that go to one destination.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) due_ms: u64,
    /// In the wheel or in a lane.
    pub(super) link: Link,
    pub(super) message: u32,
    pub(super) place: u32,
    /// The next piece of the message.
    pub(super) sibling: u32,
    pub(super) attempts: u16,
    pub(super) state: State,
    /// The sender need not know how old it is.
    pub(super) age_ignored: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// A worker has it. In no list.
    Active,
    /// In a lane of its destination.
    Ready,
    /// In the wheel.
    Waiting,
}

impl Linked for Message {
    fn link(&mut self) -> &mut Link {
        &mut self.age
    }
}

impl Linked for Piece {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl Timed for Piece {
    fn due_ms(&self) -> u64 {
        self.due_ms
    }
}

impl Message {
    /// Of what the spool says of it. Its names are in use until [`Self::give_back`].
    pub(super) fn new(queued: &Queued<'_>, names: &mut Names, generation: u8) -> Self {
        let runs = queued.domains.iter().map(|run| Run {
            domain: names.get(&run.domain),
            recipients: run.recipients,
            place: NONE,
        });
        let mut runs: Vec<_> = runs.collect();
        let first = runs.first().map(|run| run.domain);
        let domain = first.unwrap_or_else(|| names.get(""));
        if runs.len() == 1 {
            runs.clear();
        }
        let more = More {
            runs: runs.into(),
            settled: queued.settled.to_vec(),
            deliver_by_ms: queued.deliver_by_ms.unwrap_or(0),
            look_ms: queued.deliver_by_ms.unwrap_or(0),
            not_before_ms: queued.not_before_ms,
        };
        Self {
            id: queued.id,
            arrival_ms: queued.arrival_ms,
            more: (!more.is_empty()).then(|| Box::new(more)),
            age: Link::default(),
            pieces: NONE,
            bytes: u32::try_from(queued.bytes).unwrap_or(u32::MAX),
            recipients: queued.recipients,
            sender: names.get(&queued.sender_domain),
            account: names.get(&queued.credential),
            domain,
            priority: queued.priority,
            generation,
            marks: Marks {
                deferred: queued.attempts > 0,
                delay_notified: queued.delay_notified,
                age_ignored: false,
                unreadable: false,
                author: queued.author,
                sender: Sender::of(queued.reportable),
            },
        }
    }

    /// Its names may be forgotten.
    pub(super) fn give_back(&self, names: &mut Names) {
        names.give_back(self.sender);
        names.give_back(self.account);
        for run in self.runs() {
            names.give_back(run.domain);
        }
    }

    /// When it goes at its destinations.
    pub(super) fn label(&self, nobody: Name) -> Label {
        Label {
            turn: match (self.marks.author, self.account == nobody) {
                (Author::Relay, _) => Turn::Reports,
                (Author::Submitter, false) => Turn::Login(self.account),
                (Author::Submitter, true) => Turn::Network,
            },
            class: Class::of(self.priority),
        }
    }

    /// What it takes of what its tenant may have.
    pub(super) fn load(&self) -> Load {
        let bytes = u64::from(self.bytes);
        Load::of(bytes, self.recipients, self.open(), self.marks.sender)
    }

    /// The name of the login that submitted it.
    pub(super) fn submitter(&self, nobody: Name) -> Name {
        match self.marks.author {
            Author::Relay => nobody,
            Author::Submitter => self.account,
        }
    }

    /// Indexes of the recipients with a final outcome.
    pub(super) fn settled(&self) -> &[u32] {
        self.more.as_ref().map_or(&[], |more| &more.settled)
    }

    /// How many recipients have no final outcome.
    pub(super) fn open(&self) -> u32 {
        let settled = u32::try_from(self.settled().len()).unwrap_or(u32::MAX);
        self.recipients.saturating_sub(settled)
    }

    /// Domains and how many recipients in a row are there.
    pub(super) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let more = self.more.as_ref().map_or(&[][..], |more| &more.runs);
        let only = more.is_empty().then_some(Run {
            domain: self.domain,
            recipients: self.recipients,
            place: NONE,
        });
        only.into_iter().chain(more.iter().copied())
    }

    /// The open recipients by their runs.
    pub(super) fn open_runs(&self) -> impl Iterator<Item = (Run, impl Iterator<Item = u32> + '_)> {
        let settled = self.settled();
        let mut begin = 0_u32;
        self.runs().map(move |run| {
            let range = begin..begin.saturating_add(run.recipients);
            begin = range.end;
            let open = range.filter(move |index| settled.binary_search(index).is_err());
            (run, open)
        })
    }

    /// Since when it could have been delivered.
    pub(super) fn waiting_since_ms(&self) -> u64 {
        self.arrival_ms.max(self.not_before_ms())
    }

    /// Before this it must not be sent.
    pub(super) fn not_before_ms(&self) -> u64 {
        self.more.as_ref().map_or(0, |more| more.not_before_ms)
    }

    /// From here on it is late for its sender; `None` if there is no such time.
    pub(super) fn deliver_by_ms(&self) -> Option<u64> {
        let more = self.more.as_ref()?;
        (more.deliver_by_ms > 0).then_some(more.deliver_by_ms)
    }
}
