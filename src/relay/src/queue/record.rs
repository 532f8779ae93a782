//! Outcomes, on their way to the disk.

use std::time::Duration;

use postroad_spool::{Attempt, CommitError, Message, Record};
use tokio::sync::oneshot;

use super::Queue;
use crate::outcome::Recorded;
use crate::schedule::{Left, Ticket};

/// Pause before a record that the spool could not take is offered again.
const SPOOL_RETRY: Duration = Duration::from_secs(1);

impl Queue {
    /// Records what came of a transaction, with the report that it owes, as one atomic group; waits until the disk
    /// has taken it, however long that is. Until then the piece counts as being delivered, so that
    /// no failure of the disk can deliver it twice. It stays taken, unless nothing is left of its message: then that is done.
    ///
    /// A message may be at work at several destinations. Whoever settles its last recipient writes that it is done: in the same group if it
    /// is known before, else after it.
    pub async fn record(
        &self,
        ticket: Ticket,
        recorded: Recorded,
        report: Option<Message>,
    ) -> Left {
        let settled = recorded.settled();
        let (is_taken, is_last) = self.change(|schedule, _| {
            let is_last = schedule.is_last(ticket, &settled);
            (schedule.is_taken(ticket), is_last)
        });
        let noted = Noted {
            ticket,
            settled,
            attempts: recorded.attempts,
            delay_notified: recorded.delay_notified,
            is_last,
            report: report.clone(),
        };
        let mut records = Vec::with_capacity(2);
        let owes_report = report.is_some();
        records.extend(report.map(Record::Message));
        match (is_taken, is_last) {
            (true, true) => records.push(Record::Done(ticket.id)),
            (true, false) => records.push(Record::Attempt(attempt(ticket, &recorded))),
            // Somebody has given up the whole message meanwhile.
            (false, _) => {}
        }
        let left = match self.is_kept_in_memory(&recorded, owes_report) {
            true => noted.apply(self),
            false => self.write(records, noted).await,
        };
        if left == Left::Nothing && is_taken && !is_last {
            let done = Noted::done(ticket);
            self.write(vec![Record::Done(ticket.id)], done).await;
        }
        left
    }

    /// Says that a message is done, without waiting for the disk. If that fails, the next start says it.
    pub(super) fn finish(&self, ticket: Ticket) {
        let (queue, id) = (self.clone(), ticket.id);
        let done = move |result: Result<(), CommitError>| match result {
            Ok(()) => drop(Noted::done(ticket).apply(&queue)),
            Err(error) => {
                tracing::warn!(%id, %error, "a finished message stays until the next start");
            }
        };
        if let Err(error) = self.shared.spool.submit(vec![Record::Done(id)], done) {
            tracing::warn!(%id, %error, "a finished message stays until the next start");
        }
    }

    /// On a full disk, what room is left is for outcomes: when to try again, if nobody has the message or never will, is known
    /// to the schedule alone. A start then tries sooner than it would have.
    fn is_kept_in_memory(&self, recorded: &Recorded, owes_report: bool) -> bool {
        let mut results = recorded.results.iter();
        let put_off = results.all(|(_, result)| !result.is_final());
        put_off && !owes_report && self.shared.spool.is_full()
    }

    /// Until the disk has taken it.
    async fn write(&self, records: Vec<Record>, noted: Noted) -> Left {
        loop {
            if let Some(left) = self.try_write(&records, noted.clone()).await {
                return left;
            }
            tokio::time::sleep(SPOOL_RETRY).await;
        }
    }

    async fn try_write(&self, records: &[Record], noted: Noted) -> Option<Left> {
        let (answer, committed) = oneshot::channel();
        let queue = self.clone();
        let done = move |result: Result<(), CommitError>| {
            // A worker that has panicked meanwhile no longer cares; the schedule does.
            let _ = answer.send(result.map(|()| noted.apply(&queue)));
        };
        if let Err(error) = self.shared.spool.submit(records.to_vec(), done) {
            tracing::warn!(%error, "the spool did not take an outcome, trying again");
            return None;
        }
        match committed.await {
            Ok(Ok(left)) => Some(left),
            Ok(Err(error)) => {
                tracing::warn!(%error, "an outcome could not be stored, trying again");
                None
            }
            Err(_) => None,
        }
    }
}

/// What the schedule learns once a record is on the disk.
#[derive(Clone)]
struct Noted {
    ticket: Ticket,
    settled: Vec<u32>,
    attempts: u32,
    delay_notified: bool,
    is_last: bool,
    report: Option<Message>,
}

impl Noted {
    /// Nothing but that the message is done.
    fn done(ticket: Ticket) -> Self {
        Self {
            ticket,
            settled: Vec::new(),
            attempts: 0,
            delay_notified: false,
            is_last: true,
            report: None,
        }
    }

    fn apply(self, queue: &Queue) -> Left {
        if let Some(report) = self.report {
            queue.scheduled(report, None);
        }
        if self.is_last {
            queue.change(|schedule, now_ms| schedule.finish_recorded(self.ticket, now_ms));
            return Left::Nothing;
        }
        queue.change(|schedule, _| {
            schedule.settle(
                self.ticket,
                &self.settled,
                self.attempts,
                self.delay_notified,
            )
        })
    }
}

fn attempt(ticket: Ticket, recorded: &Recorded) -> Attempt {
    Attempt {
        id: ticket.id,
        next_attempt_ms: recorded.due_ms,
        attempts: recorded.attempts,
        delay_notified: recorded.delay_notified,
        results: recorded.results.clone(),
    }
}
