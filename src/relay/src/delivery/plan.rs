//! What a worker does with a piece: decided before its content is read.
//!
//! The envelope is read alone where something follows from it: where no connection is open yet, because what hangs while it is being opened would
//! otherwise hold the room of the content; where the upstream rejects senders, because their mail may wait in any number; and where it limits the
//! domains that may be named over a connection (RFC 9422 §4.3), because another may be needed. Otherwise, which is most of the time, nothing is
//! read twice.
//!
//! What is not tried is not charged with an attempt, and nothing is recorded of it, unless its sender is to be told of the delay, or its time is over:
//! then it is judged as if it had been put off by an answer. It is due again when the next of that is.

use std::time::Duration;

use postroad_smtp::client::RecipientOutcome;
use postroad_smtp::{EnhancedStatus, Reply};
use postroad_spool::Message;

use super::connect::Connection;
use super::content;
use super::course::{self, Course};
use super::look::{self, Need};
use super::senders::Admission;
use super::transmit::{Rest, unsendable};
use super::worker::{Closed, Then, Worker};
use crate::clock;
use crate::context::Phase;
use crate::envelope;
use crate::outcome;
use crate::schedule::{Entry, Taken};
use crate::upstreams::Intent;

/// For how long a piece is put off whose hosts have as many connections as we allow ourselves. Idle ones are closed by then.
const BUSY_PAUSE: Duration = Duration::from_secs(2);

/// For how long a piece is put off that finds no room in memory.
pub(super) const NO_ROOM_PAUSE: Duration = Duration::from_secs(5);

/// Mail that is not to be tried now.
pub(super) struct Waits {
    /// It may be at this time, in milliseconds since the epoch.
    pub(super) until_ms: u64,
    /// The answer that stands for those that it would have had.
    pub(super) why: Reply,
}

/// What is to be done with a piece.
pub(super) enum Plan {
    /// It is sent. Over the connection that is there by then, unless nothing is known of its envelope.
    Send,
    /// It is not tried now, and there is something to be done about it that takes its content.
    PutOff(Waits),
    /// All its recipients get this outcome.
    Settle(RecipientOutcome),
    /// It is returned because of its sender, if that is still rejected when its content is there.
    Reject,
}

impl Worker {
    /// Decides about a piece, and sees to it that there is a connection if it is sent.
    ///
    /// # Errors
    /// It has been given back: there is nothing to be done.
    pub(super) async fn plan(
        &self,
        connection: &mut Option<Connection>,
        taken: &Taken,
    ) -> Result<Plan, Then> {
        let is_ready = connection
            .as_ref()
            .is_some_and(|open| !self.hop.limits_domains(open));
        if is_ready && !self.hop.rejects_senders() {
            return Ok(Plan::Send);
        }
        // What cannot be read, or is not stored yet, is for whoever loads all of it.
        let Ok(envelope) = self.context.queue.load_envelope(taken.ticket.id).await else {
            return Ok(Plan::Send);
        };
        match self.screen(&envelope, taken)? {
            Plan::Send => {}
            plan => return Ok(plan),
        }
        let demand = envelope::demand(&envelope.envelope);
        if let Some(used_up) = connection.take_if(|open| !may_name_any(open, &envelope, taken)) {
            used_up.quit().await;
        }
        match self.connect(connection, demand).await {
            Ok(_) => Ok(Plan::Send),
            Err(Closed::Busy) => self.put_off_unread(&envelope, taken, Waits::busy(), Then::Stop),
            Err(Closed::Never(reply)) => Ok(Plan::Settle(RecipientOutcome::Failed(reply))),
            Err(Closed::Failed | Closed::Stopping) => {
                self.context.queue.release(taken.ticket, clock::now_ms());
                Err(Then::Stop)
            }
        }
    }

    /// Whether there is mail that would be sent to an upstream. What is not sent is seen to: no connection is opened for that.
    pub(super) async fn has_mail(&self) -> bool {
        let queue = &self.context.queue;
        while self.hop.rejects_senders() {
            if self.context.phase() >= Phase::Stopping {
                return false;
            }
            let Some(taken) = self.door.take() else {
                return false;
            };
            let reclaim = queue.reclaim_on_panic(taken.ticket);
            let plan = match queue.load_envelope(taken.ticket.id).await {
                Ok(envelope) => self.screen(&envelope, &taken),
                Err(_) => Ok(Plan::Send),
            };
            let Ok(plan) = plan else {
                continue;
            };
            if let Plan::Send = plan {
                // It goes over whichever connection is there first.
                queue.release(taken.ticket, clock::now_ms());
                return true;
            }
            let mut none = None;
            let done = self.carry_out(plan, &mut none, taken, reclaim, None);
            if let (Some(unfinished), _) = done.await {
                self.finish(unfinished).await;
            }
        }
        true
    }

    /// What follows from an envelope; as [`Self::plan`].
    fn screen(&self, envelope: &Message, taken: &Taken) -> Result<Plan, Then> {
        if let Some(outcome) = self.objection(envelope, &taken.entry) {
            return Ok(Plan::Settle(outcome));
        }
        match self.admit(envelope, Intent::Look) {
            Ok(Admission::Go(_)) => Ok(Plan::Send),
            Ok(Admission::Rejected(_)) => Ok(Plan::Reject),
            Err(waits) => self.put_off_unread(envelope, taken, waits, Then::Again),
        }
    }

    /// Returns a message because of its sender. Its content may have taken minutes to come: who was accepted meanwhile is tried.
    pub(super) fn reject(&self, course: Course<'_>) -> Rest {
        match self.admit(course.message(), Intent::Look) {
            Ok(Admission::Rejected(reply)) => {
                self.judge_all(course, &RecipientOutcome::Failed(reply))
            }
            Ok(Admission::Go(_)) => {
                course.release_at(clock::now_ms());
                Rest::Nothing
            }
            Err(waits) => self.put_off(course, waits),
        }
    }

    /// Why a message need not even be tried.
    pub(super) fn objection(&self, message: &Message, entry: &Entry) -> Option<RecipientOutcome> {
        if entry.bytes > self.hop.bytes_max() {
            let status = EnhancedStatus::new(5, 3, 4);
            let text = "larger than the next server takes";
            let refusal = Reply::new(552, status, text);
            return Some(unsendable(self.hop.rank(None), refusal));
        }
        let is_late = outcome::return_by_ms(message).is_some_and(|by| by <= clock::now_ms());
        is_late.then(|| {
            let status = EnhancedStatus::new(4, 4, 7);
            // The last answer, as far as the report is concerned: there was none.
            RecipientOutcome::Deferred(Reply::new(451, status, "not tried any more"))
        })
    }

    /// As [`Self::put_off`], of a piece of which only the envelope is known.
    fn put_off_unread(
        &self,
        envelope: &Message,
        taken: &Taken,
        waits: Waits,
        then: Then,
    ) -> Result<Plan, Then> {
        match self.rests_until(envelope, &taken.entry, &waits) {
            Some(due_ms) => {
                self.context.queue.release(taken.ticket, due_ms);
                Err(then)
            }
            None => Ok(Plan::PutOff(waits)),
        }
    }

    /// Puts a piece off for a reason that is neither its own nor the server's.
    pub(super) fn put_off(&self, mut course: Course<'_>, waits: Waits) -> Rest {
        let message = course.message();
        if let Some(due_ms) = self.rests_until(message, course.entry(), &waits) {
            course.release_at(due_ms);
            return Rest::Nothing;
        }
        let lifetime = self.context.live().config.delivery.retry.lifetime();
        let Waits { until_ms, why } = waits;
        course.put_off(until_ms.min(outcome::give_up_ms(message, lifetime)));
        self.judge_all(course, &RecipientOutcome::Deferred(why))
    }

    /// When a piece that waits is due again, in milliseconds since the epoch; `None` if there is something to be done about it at once.
    fn rests_until(&self, message: &Message, entry: &Entry, waits: &Waits) -> Option<u64> {
        let rules = course::rules(&self.context, &self.context.live());
        let now_ms = clock::now_ms();
        match look::need(message, entry, &waits.why, rules, now_ms) {
            Need::Nothing => Some(waits.until_ms.min(outcome::next_ms(message, rules, now_ms))),
            Need::GiveUp(_) | Need::TellOfDelay => None,
        }
    }
}

/// Whether a recipient of a piece may be named over the connection; so may one that cannot be read, of which something is to be said.
fn may_name_any(open: &Connection, envelope: &Message, taken: &Taken) -> bool {
    let all = &envelope.envelope.recipients;
    taken.entry.open.iter().any(|index| {
        let recipient = usize::try_from(*index)
            .ok()
            .and_then(|index| all.get(index));
        let path = recipient.and_then(|recipient| recipient.address.parse().ok());
        path.is_none_or(|path| open.may_name(&path))
    })
}

impl Waits {
    /// Because a message cannot be converted now, as this says.
    pub(super) fn for_room(message: &Message, why: Reply) -> Self {
        let now_ms = clock::now_ms();
        let waited_ms = now_ms.saturating_sub(outcome::waiting_since_ms(message));
        let until_ms = now_ms.saturating_add(content::pause_ms(message, waited_ms));
        Self { until_ms, why }
    }

    /// The rate does not let it go before this time, in milliseconds since the epoch.
    pub(super) fn for_rate(until_ms: u64) -> Self {
        let status = EnhancedStatus::new(4, 4, 5);
        let text = "as many messages have gone as the rate allows";
        let why = Reply::new(451, status, text);
        Self { until_ms, why }
    }

    /// There may be no connection for the time being.
    pub(super) fn busy() -> Self {
        let status = EnhancedStatus::new(4, 4, 5);
        let text = "too many connections are open to the hosts of the domain";
        Self {
            until_ms: clock::after(clock::now_ms(), BUSY_PAUSE),
            why: Reply::new(451, status, text),
        }
    }
}
