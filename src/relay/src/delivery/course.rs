//! One piece in the hands of a worker, from the first transaction to the last.
//!
//! What each transaction came to is recorded before the next of the piece begins. The piece is charged with one attempt, however many
//! transactions it takes.

use std::time::Duration;

use postroad_smtp::Reply;
use postroad_smtp::client::RecipientOutcome;
use postroad_spool::Message;

use super::look::{Loaded, Telling, telling};
use crate::backoff::Backoff;
use crate::bounce;
use crate::clock;
use crate::context::Context;
use crate::live::Live;
use crate::notify::{DelayNotices, NextHop};
use crate::outcome::{self, Charge, Kind, Notice, Recorded, Rules, Tried};
use crate::queue::{Heard, LoadedRoom, Owed, Passing, Told};
use crate::schedule::{Entry, Left, Taken, Ticket, Untold};

/// A piece that is taken, with what is known of it by now.
pub(super) struct Course<'a> {
    context: &'a Context,
    message: &'a Message,
    progress: Progress,
}

/// What is known of a piece by now.
#[derive(Debug)]
pub(super) struct Progress {
    ticket: Ticket,
    /// As it was at the beginning.
    entry: Entry,
    /// Failed attempts by now.
    attempts: u32,
    /// Recipients without a final outcome by now.
    open: Vec<u32>,
    charge: Charge,
    /// Before this, in milliseconds since the epoch, who is put off is not tried again.
    not_before_ms: u64,
    /// If the message is not stored yet, and its client waits.
    passing: Option<Passing>,
}

impl<'a> Course<'a> {
    /// Nothing has been tried yet.
    pub(super) fn new(context: &'a Context, message: &'a Message, taken: Taken) -> Self {
        let Taken { ticket, entry } = taken;
        let progress = Progress {
            ticket,
            attempts: entry.attempts,
            open: entry.open.to_vec(),
            entry,
            charge: Charge::None,
            not_before_ms: 0,
            passing: None,
        };
        Self::resume(context, message, progress)
    }

    /// Of a message of which as much was loaded as is needed.
    pub(super) fn of(context: &'a Context, loaded: &'a Loaded, taken: Taken) -> Self {
        match loaded {
            Loaded::Envelope(message) => Self::new(context, message, taken),
            Loaded::Whole(message, room) => Self::new(context, message, taken).under(room),
        }
    }

    /// With what the message was loaded under.
    pub(super) fn under(mut self, held: &LoadedRoom) -> Self {
        self.progress.passing = held.passing().cloned();
        self
    }

    /// Goes on with what [`Self::pause`] gave.
    pub(super) fn resume(context: &'a Context, message: &'a Message, progress: Progress) -> Self {
        Self {
            context,
            message,
            progress,
        }
    }

    /// What is known by now, for [`Self::resume`].
    pub(super) fn pause(self) -> Box<Progress> {
        Box::new(self.progress)
    }

    /// Whoever is put off by what is recorded next waits until then at least.
    pub(super) fn wait_until(&mut self, time_ms: u64) {
        self.progress.not_before_ms = time_ms;
    }

    /// Puts it off until then without an attempt: that is charged with nothing.
    pub(super) fn put_off(&mut self, until_ms: u64) {
        self.progress.charge = Charge::Until(until_ms);
    }

    /// What the schedule knew of the piece at the beginning.
    pub(super) fn entry(&self) -> &Entry {
        &self.progress.entry
    }

    /// The message.
    pub(super) fn message(&self) -> &'a Message {
        self.message
    }

    /// Indexes of the recipients that have no final outcome yet.
    pub(super) fn open_recipients(&self) -> impl Iterator<Item = u32> + '_ {
        self.progress.open.iter().copied()
    }

    /// Records outcomes with the report that they owe. `hop` and `remote` are who gave them. `None` if nobody is left to deliver to.
    pub(super) async fn record(
        mut self,
        outcomes: Vec<(u32, RecipientOutcome)>,
        hop: NextHop,
        remote: Option<&str>,
    ) -> Option<Self> {
        if outcomes.is_empty() {
            return Some(self);
        }
        let (context, message) = (self.context, self.message);
        let live = context.live();
        let (now_ms, random) = (clock::now_ms(), clock::random_unit());
        let entry = Entry {
            attempts: self.progress.attempts,
            ..self.progress.entry.clone()
        };
        let refusal = refusal(&outcomes).cloned();
        let tried = Tried {
            outcomes,
            hop,
            not_before_ms: self.progress.not_before_ms,
        };
        let rules = rules(context, &live);
        let decision = outcome::decide(
            message,
            &entry,
            self.progress.charge,
            tried,
            rules,
            now_ms,
            random,
        );
        let metrics = &context.metrics;
        metrics.delivered.inc_by(decision.delivered);
        metrics.deferred.inc_by(decision.deferred);
        metrics.failed.inc_by(decision.failed);
        let settled = decision.record.settled();
        (self.progress.charge, self.progress.attempts) =
            (decision.charge, decision.record.attempts);
        let (recorded, notices) = (decision.record, decision.notices);
        let left = match self.tell_client(&recorded, &notices, remote, refusal).await {
            Heard::Noted(left) => left,
            Heard::Gone => return None,
            Heard::Stored => {
                let notices = self.claimed(notices);
                let report = report(context, &live, message, &notices, remote);
                let ticket = self.progress.ticket;
                context.queue.record(ticket, recorded, report).await
            }
        };
        if left == Left::Nothing {
            return None;
        }
        self.progress.open.retain(|index| !settled.contains(index));
        if self.progress.open.is_empty() {
            // Others have the rest of the message.
            self.release();
            return None;
        }
        Some(self)
    }

    /// Without what others have told the sender of meanwhile, who have other parts of the message.
    fn claimed(&self, mut notices: Vec<Notice>) -> Vec<Notice> {
        let is_delay = |notice: &Notice| matches!(notice.kind, Kind::Delayed { .. });
        if notices.iter().any(is_delay)
            && !self.context.queue.claim_delay_notice(self.progress.ticket)
        {
            notices.retain(|notice| !is_delay(notice));
        }
        notices
    }

    /// What came of a transaction while the message is not stored yet.
    async fn tell_client(
        &self,
        recorded: &Recorded,
        notices: &[Notice],
        remote: Option<&str>,
        refusal: Option<Reply>,
    ) -> Heard {
        let Some(passing) = &self.progress.passing else {
            return Heard::Stored;
        };
        let told = Told {
            recorded,
            owed: Owed {
                notices: notices.to_vec(),
                remote: remote.map(str::to_owned),
            },
            refusal,
        };
        let queue = &self.context.queue;
        queue.hear(passing, self.progress.ticket, told).await
    }

    /// Tells the sender that nothing can be tried, for this cause, and gives the piece back. Not again for this message.
    pub(super) async fn tell_of_delay(self, cause: &Reply) {
        // What is not stored yet is not late: its client waits.
        if self.progress.passing.is_some() {
            return self.release();
        }
        let (context, message) = (self.context, self.message);
        if self.progress.entry.delay_notified {
            context.queue.delay_told(self.progress.ticket);
            return self.release();
        }
        let live = context.live();
        let now_ms = clock::now_ms();
        let rules = rules(context, &live);
        let notices = outcome::late(message, self.open_recipients(), cause, rules, now_ms);
        if notices.is_empty() {
            // There has just ceased to be room for it.
            return self.release();
        }
        let notices = self.claimed(notices);
        let report = report(context, &live, message, &notices, None);
        if report.is_some() {
            let recorded = Recorded {
                results: Vec::new(),
                attempts: self.progress.attempts,
                due_ms: now_ms,
                delay_notified: true,
            };
            context
                .queue
                .record(self.progress.ticket, recorded, report)
                .await;
        }
        context.queue.delay_told(self.progress.ticket);
        self.release();
    }

    /// Gives the piece back: nobody wants to hear of its age. Nobody looks again for it because of that; nor for any other piece of the message, if
    /// that is so for all who have no final outcome yet.
    pub(super) fn tell_nobody(self, cause: &Reply) {
        if self.progress.passing.is_none() {
            let live = self.context.live();
            let rules = rules(self.context, &live);
            let queue = &self.context.queue;
            let open = queue.all_open(self.progress.ticket);
            let late = outcome::late(self.message, open, cause, rules, clock::now_ms());
            let untold = match late.is_empty() {
                true => Untold::Message,
                false => Untold::Piece,
            };
            queue.nothing_to_tell(self.progress.ticket, untold);
        }
        self.release();
    }

    /// Gives the piece back untried, due at this time.
    pub(super) fn release_at(self, due_ms: u64) {
        self.context.queue.release(self.progress.ticket, due_ms);
    }

    /// Gives the piece back: due when it was put off to, else at once.
    pub(super) fn release(self) {
        let due_ms = match self.progress.charge {
            Charge::None => clock::now_ms(),
            Charge::Until(due_ms) => due_ms,
        };
        self.context.queue.release(self.progress.ticket, due_ms);
    }
}

fn refusal(outcomes: &[(u32, RecipientOutcome)]) -> Option<&Reply> {
    outcomes.iter().find_map(|(_, outcome)| match outcome {
        RecipientOutcome::Failed(reply) => Some(reply),
        RecipientOutcome::Delivered(_) | RecipientOutcome::Deferred(_) => None,
    })
}

/// What a message owes its sender, if that wants to be told.
pub(crate) fn report(
    context: &Context,
    live: &Live,
    message: &Message,
    notices: &[Notice],
    remote: Option<&str>,
) -> Option<Message> {
    let now_ms = clock::now_ms();
    let id = context.queue.next_id(now_ms);
    let report = bounce::write(message, notices, &live.config.hostname, remote, id, now_ms);
    for notice in notices {
        let is_told = report.is_some() && telling(message, &[notice.index]) == Telling::Sender;
        let what = match is_told || notice.kind != Kind::Failed {
            true => "to be reported",
            false => "nobody is told: the sender does not want to know, or there is none",
        };
        tracing::warn!(id = %message.id, recipient = notice.index, kind = ?notice.kind,
            status = %notice.status, expired = ?notice.expired, diagnostic = notice.diagnostic,
            "{what}");
    }
    context.metrics.bounced.inc_by(u64::from(report.is_some()));
    report
}

/// What outcomes are judged by now.
pub(super) fn rules(context: &Context, live: &Live) -> Rules {
    let retry = &live.config.delivery.retry;
    let queue = &context.queue;
    let has_room = queue.has_room() && !queue.is_disk_full();
    Rules {
        backoff: Backoff {
            initial: Duration::from_secs(retry.initial_seconds),
            maximum: Duration::from_secs(retry.maximum_seconds),
        },
        lifetime: retry.lifetime(),
        // A delay notice is a message more while the original stays.
        delay_notices: match retry.delay_warning_seconds {
            _ if !has_room => DelayNotices::Off,
            Some(seconds) => DelayNotices::After(Duration::from_secs(seconds)),
            None => DelayNotices::OnRequest,
        },
    }
}
