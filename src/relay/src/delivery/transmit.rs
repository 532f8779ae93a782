//! One message over one connection.

use postroad_smtp::client::{
    ConnectFailure, Connection as Afterwards, End, FailureKind, RecipientOutcome,
};
use postroad_smtp::{BodyKind, EnhancedStatus, Extension, ForwardPath, Reply};
use postroad_spool::{Message, MessageId};

use super::connect::{Connection, Sent, Usage, describe};
use super::course::Course;
use super::holds::Blame;
use super::worker::{Then, Worker};
use crate::adapt::{Adapted, adapt};
use crate::clock;
use crate::context::Phase;
use crate::envelope;
use crate::notify::{NextHop, Offer};
use crate::upstreams::FailedStage;

/// Content that is larger is converted on a thread of its own, in bytes: some milliseconds.
const CONVERSION_BYTES_MAX: usize = 256 << 10;

/// What a transaction came to.
struct Transacted {
    /// The outcomes that stand; none means that not a word was said about the message.
    outcomes: Outcomes,
    /// Recipients that did not fit, to be tried in another transaction.
    surplus: Paths,
    then: Then,
}

pub(super) type Outcomes = Vec<(u32, RecipientOutcome)>;
type Paths = Vec<(u32, ForwardPath)>;

impl Worker {
    /// Sends to all open recipients, in as few transactions as the limits allow, and records what each came
    /// to before the next begins. Gives what is left of the piece.
    pub(super) async fn transmit<'a>(
        &self,
        connection: &mut Connection,
        course: Course<'a>,
    ) -> (Option<Course<'a>>, Then) {
        let message = course.message();
        let (mut paths, outcomes) = parse_recipients(&course);
        let content = match content(message, connection).await {
            Ok(content) => content,
            Err(reply) => {
                let failed = RecipientOutcome::Failed(reply);
                return (self.judge_all(course, &failed).await, Then::GoOn);
            }
        };
        let hop = next_hop(connection);
        let mut left = self.record(course, outcomes, hop, connection).await;
        for transactions in 0_u32.. {
            let Some(course) = left else {
                return (None, Then::GoOn);
            };
            let is_over = paths.is_empty() || self.context.phase() >= Phase::Stopping;
            if is_over || (transactions > 0 && self.hop.permit().is_err()) {
                return (Some(course), Then::GoOn);
            }
            let most = self.recipients_max(connection).min(paths.len());
            let chunk: Paths = paths.drain(..most).collect();
            let done = self.transact(connection, message, &content, chunk).await;
            let is_stuck = done.outcomes.is_empty();
            paths.splice(0..0, done.surplus);
            left = self.record(course, done.outcomes, hop, connection).await;
            if done.then == Then::Stop || is_stuck {
                return (left, done.then);
            }
        }
        (left, Then::GoOn)
    }

    async fn record<'a>(
        &self,
        course: Course<'a>,
        outcomes: Outcomes,
        hop: NextHop,
        connection: &Connection,
    ) -> Option<Course<'a>> {
        self.log(course.message(), &outcomes);
        course
            .record(outcomes, hop, Some(connection.remote()))
            .await
    }

    /// What we allow, and what the peer does (RFC 9422 §4.2).
    fn recipients_max(&self, connection: &Connection) -> usize {
        let theirs = connection.peer().recipients_max().unwrap_or(u32::MAX);
        let most = self.hop.recipients_max().min(theirs).max(1);
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    async fn transact(
        &self,
        connection: &mut Connection,
        message: &Message,
        content: &Adapted,
        paths: Paths,
    ) -> Transacted {
        let usage = connection.usage();
        let mut transaction = envelope::transaction(message, paths.clone(), clock::now_ms());
        transaction.parameters.body = content.body;
        transaction.content.clone_from(&content.content);
        let outcome = match connection.send(transaction).await {
            Sent::Finished(outcome) => outcome,
            Sent::Held(failure) => {
                self.hop.report_failed(FailedStage::Sending, &failure);
                return Transacted::nothing();
            }
            Sent::Lost(why) => {
                tracing::info!(upstream = self.hop.label(), why, "connection lost");
                return Transacted::nothing();
            }
        };
        let mut done = Transacted {
            outcomes: Vec::with_capacity(paths.len()),
            surplus: Vec::new(),
            then: match outcome.connection {
                Afterwards::Reusable => Then::GoOn,
                Afterwards::Closing => Then::Stop,
            },
        };
        for ((index, path), judged) in paths.into_iter().zip(outcome.recipients) {
            match judged.is_surplus() {
                true => done.surplus.push((index, path)),
                false => done.outcomes.push((index, judged)),
            }
        }
        match outcome.end {
            End::Held(failure) => {
                done.then = Then::Stop;
                if self.blame(message.id, &failure, usage) == Blame::Upstream {
                    done.outcomes.retain(|(_, one)| is_final(one));
                }
            }
            End::Answered => {
                self.upstreams.lock_holds().forget(message.id);
                self.hop.report_answered();
            }
            End::Unanswered => {}
        }
        done
    }

    /// The server takes no mail now. Whether the message has something to do with it. One that closes a connection over
    /// which it has taken mail may only have had enough of that connection: that is no failure, but it counts.
    fn blame(&self, id: MessageId, failure: &ConnectFailure, usage: Usage) -> Blame {
        if usage == Usage::Fresh || failure.kind != FailureKind::Disconnected {
            self.hop
                .report_failed(FailedStage::Sending, &describe(failure));
        }
        let blame = self.upstreams.lock_holds().count(id);
        tracing::info!(%id, upstream = self.hop.label(), kind = ?failure.kind, ?blame, "not judged");
        blame
    }

    pub(super) fn log(&self, message: &Message, outcomes: &[(u32, RecipientOutcome)]) {
        for (index, outcome) in outcomes {
            let recipient = usize::try_from(*index)
                .ok()
                .and_then(|index| message.envelope.recipients.get(index))
                .map_or("", |recipient| recipient.address.as_str());
            let (what, reply) = match outcome {
                RecipientOutcome::Delivered(reply) => ("delivered", reply),
                RecipientOutcome::Deferred(reply) => ("deferred", reply),
                RecipientOutcome::Failed(reply) => ("refused", reply),
            };
            tracing::info!(id = %message.id, recipient, upstream = self.hop.label(),
                outcome = what, %reply, "attempt");
        }
    }
}

impl Transacted {
    fn nothing() -> Self {
        Self {
            outcomes: Vec::new(),
            surplus: Vec::new(),
            then: Then::Stop,
        }
    }
}

/// Whether the server has said its last word: what it took or refused stands, whatever else it demands.
fn is_final(outcome: &RecipientOutcome) -> bool {
    match outcome {
        RecipientOutcome::Delivered(_) | RecipientOutcome::Failed(_) => true,
        RecipientOutcome::Deferred(_) => false,
    }
}

/// What the server promises to see to.
fn next_hop(connection: &Connection) -> NextHop {
    let offer = |extension| match connection.peer().offers(extension) {
        true => Offer::Offered,
        false => Offer::Missing,
    };
    NextHop {
        dsn: offer(Extension::Dsn),
        deliver_by: offer(Extension::DeliverBy),
    }
}

/// The content as the server takes it.
async fn content(message: &Message, connection: &Connection) -> Result<Adapted, Reply> {
    let peer = connection.peer();
    let eight_bit = peer.takes(BodyKind::EightBit);
    let binary = peer.takes(BodyKind::Binary);
    let takes = move |kind| match kind {
        BodyKind::SevenBit => true,
        BodyKind::EightBit => eight_bit,
        BodyKind::Binary => binary,
    };
    if message.body.len() <= CONVERSION_BYTES_MAX || (eight_bit && binary) {
        return adapt(message, takes);
    }
    let whole = message.clone();
    let adapted = tokio::task::spawn_blocking(move || adapt(&whole, takes)).await;
    adapted.unwrap_or_else(|_| {
        let status = EnhancedStatus {
            class: 5,
            subject: 6,
            detail: 0,
        };
        let text = "the message could not be converted for the next server";
        Err(Reply::new(554, status, text))
    })
}

/// The open recipients, and outcomes for those whose address cannot be read back: they were accepted by the same
/// parser, so only a damaged or foreign spool has any.
fn parse_recipients(course: &Course<'_>) -> (Paths, Outcomes) {
    let mut paths = Vec::new();
    let mut outcomes = Vec::new();
    let message = course.message();
    for index in course.open_recipients() {
        let recipient = usize::try_from(index)
            .ok()
            .and_then(|index| message.envelope.recipients.get(index));
        match recipient.and_then(|recipient| recipient.address.parse().ok()) {
            Some(path) => paths.push((index, path)),
            None => {
                let status = EnhancedStatus {
                    class: 5,
                    subject: 1,
                    detail: 3,
                };
                let reply = Reply::new(553, status, "the recipient's address cannot be read");
                outcomes.push((index, RecipientOutcome::Failed(reply)));
            }
        }
    }
    (paths, outcomes)
}
