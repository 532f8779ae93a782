//! What is known of a message that is not stored yet.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use postroad_smtp::Reply;
use postroad_spool::{Attempt, Message, MessageId, RecipientResult};
use tokio::sync::Notify;

use crate::memory::Reservation;
use crate::outcome::{Notice, Recorded};
use crate::schedule::{Handle, Left, Schedule, Ticket};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// What comes of it comes here.
    Passing,
    /// What comes of it waits.
    Storing,
    /// What comes of it is recorded as usual.
    Stored,
    /// Nobody needs it any more.
    Gone,
}

/// At which stage a message is, for all who wait for it to be stored. They are woken in the order in which they came to wait, as those who wait for
/// [`crate::context::Ending`] are, and for the same reason.
#[derive(Debug)]
pub(super) struct Stages {
    /// A [`Stage`].
    now: AtomicU8,
    moved: Notify,
}

impl Stages {
    pub(super) fn new() -> Self {
        Self {
            now: AtomicU8::new(Stage::Passing as u8),
            moved: Notify::new(),
        }
    }

    pub(super) fn is(&self, stage: Stage) -> bool {
        self.now.load(Ordering::Acquire) == stage as u8
    }

    pub(super) fn move_to(&self, stage: Stage) {
        self.now.store(stage as u8, Ordering::Release);
        self.moved.notify_waiters();
    }

    /// Waits until the message is stored, or gone, if it is being stored.
    pub(super) async fn stored(&self) {
        loop {
            let mut moved = pin!(self.moved.notified());
            // In line before the look, so that no move comes in between.
            moved.as_mut().enable();
            if !self.is(Stage::Storing) {
                return;
            }
            moved.await;
        }
    }
}

/// A message that is not stored yet.
pub(crate) struct Transit {
    pub(super) handle: Handle,
    pub(super) message: Message,
    pub(super) room: Arc<Reservation>,
    pub(super) stages: Arc<Stages>,
    pub(super) progress: Progress,
    /// Wakes its session.
    pub(super) heard: Arc<Notify>,
}

/// What has come of a message so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    results: BTreeMap<u32, RecipientResult>,
    attempts: u32,
    due_ms: Option<u64>,
    delay_notified: bool,
    pub(super) owed: Vec<Owed>,
    refusal: Option<Reply>,
    /// Nobody is left to deliver to.
    pub(super) is_settled: bool,
}

/// What is owed to the sender of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Owed {
    /// What there is to tell.
    pub notices: Vec<Notice>,
    /// Who gave the answers.
    pub remote: Option<String>,
}

/// What came of a transaction.
#[derive(Debug)]
pub struct Told<'a> {
    /// What would be recorded.
    pub recorded: &'a Recorded,
    /// What would be told to the sender.
    pub owed: Owed,
    /// One of the replies that refused recipients for good.
    pub refusal: Option<Reply>,
}

impl Transit {
    pub(super) fn is(&self, stage: Stage) -> bool {
        self.stages.is(stage)
    }

    /// What came of a transaction.
    pub(super) fn note(&mut self, schedule: &mut Schedule, ticket: Ticket, told: Told<'_>) -> Left {
        let Told {
            recorded,
            owed,
            refusal,
        } = told;
        let Recorded {
            results,
            attempts,
            due_ms,
            delay_notified,
        } = recorded;
        let left = schedule.settle(ticket, &recorded.settled(), *attempts, *delay_notified);
        let progress = &mut self.progress;
        if results.iter().any(|(_, result)| !result.is_final()) {
            progress.due_ms = progress.due_ms.into_iter().chain([*due_ms]).min();
        }
        progress.results.extend(results.iter().copied());
        progress.attempts = progress.attempts.max(*attempts);
        progress.delay_notified |= delay_notified;
        progress
            .owed
            .extend((!owed.notices.is_empty()).then_some(owed));
        progress.refusal = progress.refusal.take().or(refusal);
        progress.is_settled |= left == Left::Nothing;
        self.heard.notify_one();
        left
    }
}

impl Progress {
    /// What has come of the message so far, if anything has.
    pub(super) fn attempt(&self, id: MessageId) -> Option<Attempt> {
        let results = self.results.iter();
        let attempt = Attempt {
            id,
            next_attempt_ms: self.due_ms.unwrap_or(0),
            attempts: self.attempts,
            delay_notified: self.delay_notified,
            results: results.map(|(index, result)| (*index, *result)).collect(),
        };
        (!self.results.is_empty()).then_some(attempt)
    }

    /// Whether this is what came of the last attempt for a recipient.
    pub(super) fn has(&self, wanted: RecipientResult) -> bool {
        self.results.values().any(|result| *result == wanted)
    }

    /// The reply for the client, if nobody took the message.
    pub(super) fn refusal(&mut self) -> Option<Reply> {
        match self.has(RecipientResult::Delivered) {
            true => None,
            false => self.refusal.take(),
        }
    }
}
