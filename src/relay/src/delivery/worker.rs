//! Serves one connection to an upstream: takes due messages, sends them, records what came of it.

use std::sync::Arc;
use std::time::Duration;

use postroad_config::status::UpstreamFailure;
use postroad_smtp::client::{
    ConnectFailure, Connection as Afterwards, End, FailureKind, RecipientOutcome, Transaction,
};
use postroad_smtp::{BodyKind, EnhancedStatus, ForwardPath, Reply, ReversePath};
use postroad_spool::{BodyType, Message, MessageId};

use super::connect::{Connection, Sent, Usage, describe};
use super::course::Course;
use super::holds::Blame;
use super::{SharedUpstreams, announce};
use crate::clock::{self, Moment};
use crate::context::{Context, Phase};
use crate::live::LiveUpstream;
use crate::schedule::Entry;
use crate::unreadable;
use crate::upstreams::{Backlog, FailedStage};

/// How long an idle connection is kept for the next message. Postfix keeps one for 2 seconds too.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves one connection.
pub(super) struct Worker {
    context: Context,
    upstream: Arc<LiveUpstream>,
    slot: Slot,
}

/// The connection's place in the count; given back when dropped, however the worker ends.
struct Slot {
    upstreams: SharedUpstreams,
    context: Context,
    name: String,
}

/// Whether the connection can take another message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Then {
    GoOn,
    Stop,
}

impl Worker {
    /// A worker for an upstream; the connection has been counted as open.
    pub(super) fn new(
        context: Context,
        upstreams: SharedUpstreams,
        upstream: Arc<LiveUpstream>,
    ) -> Self {
        let name = upstream.config.name.clone();
        Self {
            slot: Slot {
                upstreams,
                context: context.clone(),
                name,
            },
            context,
            upstream,
        }
    }

    /// Opens the connection and uses it for as long as there is work.
    pub(super) async fn run(self) {
        if let Some(connection) = self.open().await {
            self.serve(connection).await;
        }
    }

    /// Opens the connection as for mail, and ends it.
    pub(super) async fn check(self) {
        if let Some(connection) = self.open().await {
            connection.quit().await;
        }
    }

    async fn open(&self) -> Option<Connection> {
        let hostname = self.context.live().config.hostname.clone();
        let opened = tokio::select! {
            biased;
            () = self.context.reached(Phase::Stopping) => return None,
            opened = Connection::open(&self.upstream, &hostname) => opened,
        };
        match opened {
            Ok(connection) => {
                self.report_connected();
                // Mail may have come meanwhile, and waits for what has just become known.
                self.context.queue.nudge();
                Some(connection)
            }
            Err(failure) => {
                self.report_failed(FailedStage::Connecting, &failure);
                None
            }
        }
    }

    async fn serve(&self, mut connection: Connection) {
        for sent in 0..self.upstream.config.limits.messages_per_connection {
            let Some((id, entry)) = self.next_message().await else {
                break;
            };
            let _reclaim = self.context.queue.reclaim_on_panic(id);
            // There may be more to do than one connection can.
            self.context.queue.nudge();
            if sent > 0 && connection.is_stale().await {
                self.context.queue.release(id, entry, clock::now_ms());
                return;
            }
            if self.deliver(&mut connection, id, entry).await == Then::Stop {
                return;
            }
        }
        connection.quit().await;
    }

    async fn next_message(&self) -> Option<(MessageId, Entry)> {
        if self.is_outdated() || !self.slot.upstreams.lock().is_preferred(&self.slot.name) {
            return None;
        }
        tokio::select! {
            biased;
            () = self.context.reached(Phase::Stopping) => None,
            taken = self.context.queue.take_within(IDLE_TIMEOUT) => taken,
        }
    }

    /// Whether the upstream has been changed since this connection was opened.
    fn is_outdated(&self) -> bool {
        let LiveUpstream {
            config,
            fingerprint,
            ..
        } = &*self.upstream;
        let live = self.context.live();
        !live
            .upstreams
            .iter()
            .any(|one| one.fingerprint == *fingerprint && one.config.limits == config.limits)
    }

    async fn deliver(&self, connection: &mut Connection, id: MessageId, entry: Entry) -> Then {
        let (message, _room) = match self.context.queue.load(id, &entry).await {
            Ok(loaded) => loaded,
            Err(error) => {
                unreadable::settle(&self.context, id, entry, error).await;
                return Then::GoOn;
            }
        };
        let course = Course::new(&self.context, &message, entry);
        let (left, then) = self.transmit(connection, course).await;
        match left {
            Some(left) => left.release(),
            None => self.slot.upstreams.lock_holds().forget(id),
        }
        then
    }

    /// Sends to all open recipients, in as few transactions as the upstream's limit allows, and records what each came
    /// to before the next begins. Gives what is left of the message.
    async fn transmit<'a>(
        &self,
        connection: &mut Connection,
        course: Course<'a>,
    ) -> (Option<Course<'a>>, Then) {
        let message = course.message();
        let limit = usize::try_from(self.upstream.config.limits.recipients_per_message)
            .unwrap_or(usize::MAX);
        let remote = Some(self.upstream.config.host.as_str());
        let (paths, unreadable) = parse_recipients(&course);
        self.log(message, &unreadable);
        let mut left = course.record(unreadable, remote).await;
        for paths in paths.chunks(limit) {
            let Some(course) = left else { break };
            if self.context.phase() >= Phase::Stopping {
                return (Some(course), Then::GoOn);
            }
            let (outcomes, then) = self.transact(connection, message, paths).await;
            self.log(message, &outcomes);
            left = course.record(outcomes, remote).await;
            if then == Then::Stop {
                return (left, Then::Stop);
            }
        }
        (left, Then::GoOn)
    }

    /// Sends to these recipients. Gives the outcomes that stand: none means that not a word was said about the message.
    async fn transact(
        &self,
        connection: &mut Connection,
        message: &Message,
        paths: &[(u32, ForwardPath)],
    ) -> (Outcomes, Then) {
        let (indexes, recipients): (Vec<_>, Vec<_>) = paths.iter().cloned().unzip();
        let usage = connection.usage();
        let outcome = match connection.send(transaction(message, recipients)).await {
            Sent::Finished(outcome) => outcome,
            Sent::Held(failure) => {
                self.report_failed(FailedStage::Sending, &failure);
                return (Vec::new(), Then::Stop);
            }
            Sent::Lost(why) => {
                tracing::info!(upstream = self.slot.name, why, "connection lost");
                return (Vec::new(), Then::Stop);
            }
        };
        let then = match outcome.connection {
            Afterwards::Reusable => Then::GoOn,
            Afterwards::Closing => Then::Stop,
        };
        let judged = indexes.into_iter().zip(outcome.recipients);
        match outcome.end {
            End::Held(failure) => {
                let stands = match self.blame(message.id, &failure, usage) {
                    Blame::Upstream => judged.filter(|(_, one)| is_final(one)).collect(),
                    Blame::Message => judged.collect(),
                };
                return (stands, Then::Stop);
            }
            End::Answered => self.report_answered(message.id),
            End::Unanswered => {}
        }
        (judged.collect(), then)
    }

    /// The upstream takes no mail now. Whether the message has something to do with it. One that closes a connection over
    /// which it has taken mail may only have had enough of that connection: that is no failure, but it counts.
    fn blame(&self, id: MessageId, failure: &ConnectFailure, usage: Usage) -> Blame {
        if usage == Usage::Fresh || failure.kind != FailureKind::Disconnected {
            self.report_failed(FailedStage::Sending, &describe(failure));
        }
        let blame = self.slot.upstreams.lock_holds().count(id);
        tracing::info!(%id, upstream = self.slot.name, kind = ?failure.kind, ?blame, "not judged");
        blame
    }

    fn log(&self, message: &Message, outcomes: &[(u32, RecipientOutcome)]) {
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
            tracing::info!(id = %message.id, recipient, upstream = self.slot.name,
                outcome = what, %reply, "attempt");
        }
    }

    fn report_connected(&self) {
        let backlog = match self.context.queue.totals().0.messages {
            0 => Backlog::Empty,
            _ => Backlog::Waiting,
        };
        let (name, fingerprint) = (&self.slot.name, &self.upstream.fingerprint);
        let mut upstreams = self.slot.upstreams.lock();
        let change = upstreams.connected(name, fingerprint, backlog, Moment::now());
        announce(name, change, None);
    }

    fn report_answered(&self, id: MessageId) {
        self.slot.upstreams.lock_holds().forget(id);
        let (name, fingerprint) = (&self.slot.name, &self.upstream.fingerprint);
        let mut upstreams = self.slot.upstreams.lock();
        let change = upstreams.answered(name, fingerprint, Moment::now());
        announce(name, change, None);
    }

    fn report_failed(&self, stage: FailedStage, failure: &UpstreamFailure) {
        let (name, fingerprint) = (&self.slot.name, &self.upstream.fingerprint);
        let mut upstreams = self.slot.upstreams.lock();
        let change = upstreams.failed(name, fingerprint, stage, failure.clone(), Moment::now());
        announce(name, change, Some(failure));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.upstreams.lock().closed(&self.name);
        self.context.queue.nudge();
    }
}

/// Whether the upstream has said its last word: what it took or refused stands, whatever else it demands.
fn is_final(outcome: &RecipientOutcome) -> bool {
    match outcome {
        RecipientOutcome::Delivered(_) | RecipientOutcome::Failed(_) => true,
        RecipientOutcome::Deferred(_) => false,
    }
}

type Paths = Vec<(u32, ForwardPath)>;
type Outcomes = Vec<(u32, RecipientOutcome)>;

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

fn transaction(message: &Message, recipients: Vec<ForwardPath>) -> Transaction {
    let sender = &message.envelope.sender;
    Transaction {
        // An unreadable sender could not be told anything either way.
        sender: sender
            .parse()
            .map_or(ReversePath::Null, ReversePath::Mailbox),
        recipients,
        body: match message.envelope.body {
            BodyType::SevenBit => BodyKind::SevenBit,
            BodyType::EightBitMime => BodyKind::EightBit,
        },
        smtputf8: message.envelope.smtputf8,
        content: vec![message.headers.clone(), message.body.clone()],
    }
}
