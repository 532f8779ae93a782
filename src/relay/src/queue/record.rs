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
        let mut records = Vec::with_capacity(2);
        records.extend(report.clone().map(Record::Message));
        match (is_taken, is_last) {
            (true, true) => records.push(Record::Done(ticket.id)),
            (true, false) => records.push(Record::Attempt(attempt(ticket, &recorded))),
            // Somebody has given up the whole message meanwhile.
            (false, _) => {}
        }
        if !self.is_kept_in_memory(&recorded, report.is_some()) {
            self.write(records).await;
        }
        if let Some(report) = report {
            self.scheduled(report, None);
        }
        let left = self.change(|schedule, _| {
            let Recorded {
                attempts,
                delay_notified,
                ..
            } = recorded;
            schedule.settle(ticket, &settled, attempts, delay_notified)
        });
        if left == Left::Nothing {
            if !is_last {
                self.write(vec![Record::Done(ticket.id)]).await;
            }
            self.forget(ticket);
        }
        left
    }

    /// On a full disk, what room is left is for outcomes: when to try again, if nobody has the message or never will, is known
    /// to the schedule alone. A start then tries sooner than it would have.
    fn is_kept_in_memory(&self, recorded: &Recorded, owes_report: bool) -> bool {
        let mut results = recorded.results.iter();
        let put_off = results.all(|(_, result)| !result.is_final());
        put_off && !owes_report && self.shared.spool.is_full()
    }

    /// Until the disk has taken it.
    async fn write(&self, records: Vec<Record>) {
        while !self.try_write(&records).await {
            tokio::time::sleep(SPOOL_RETRY).await;
        }
    }

    async fn try_write(&self, records: &[Record]) -> bool {
        let (answer, committed) = oneshot::channel();
        let done = move |result: Result<(), CommitError>| {
            let _ = answer.send(result);
        };
        if let Err(error) = self.shared.spool.submit(records.to_vec(), done) {
            tracing::warn!(%error, "the spool did not take an outcome, trying again");
            return false;
        }
        match committed.await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "an outcome could not be stored, trying again");
                false
            }
            Err(_) => false,
        }
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
