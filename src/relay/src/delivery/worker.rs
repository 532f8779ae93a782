//! Serves one connection to an upstream: takes due messages, sends them, records what came of it.

use std::sync::Arc;
use std::time::Duration;

use postroad_config::status::UpstreamFailure;
use postroad_smtp::client::{
    Connection as Afterwards, RecipientOutcome, Transaction, TransactionOutcome,
};
use postroad_smtp::{BodyKind, EnhancedStatus, ForwardPath, Reply, ReversePath};
use postroad_spool::{BodyType, Message, MessageId};

use super::connect::{Connection, Sent, describe};
use super::{SharedUpstreams, announce, open_recipients, record};
use crate::clock;
use crate::context::{Context, Phase};
use crate::live::LiveUpstream;
use crate::schedule::Entry;

/// How long an idle connection is kept for the next message. Postfix keeps one for 2 seconds too.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause before a message that could not be read from the disk is tried again.
const UNREADABLE_PAUSE_MS: u64 = 60_000;

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
        let hostname = self.context.live().config.hostname.clone();
        let opened = tokio::select! {
            biased;
            () = self.context.reached(Phase::Stopping) => return,
            opened = Connection::open(&self.upstream, &hostname) => opened,
        };
        match opened {
            Ok(connection) => {
                self.report_ready();
                self.serve(connection).await;
            }
            Err(failure) => self.report_failed(&failure),
        }
    }

    async fn serve(&self, mut connection: Connection) {
        for sent in 0..self.upstream.config.limits.messages_per_connection {
            let Some((id, entry)) = self.next_message().await else {
                break;
            };
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
        if self.is_outdated() {
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
        let live = self.context.live();
        !live
            .upstreams
            .iter()
            .any(|one| one.fingerprint == self.upstream.fingerprint)
    }

    async fn deliver(&self, connection: &mut Connection, id: MessageId, entry: Entry) -> Then {
        let (message, _room) = match self.context.queue.load(id, entry.bytes).await {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(%id, %error, "cannot load a message; it stays in the queue");
                self.context
                    .queue
                    .release(id, entry, clock::now_ms() + UNREADABLE_PAUSE_MS);
                return Then::GoOn;
            }
        };
        let (outcomes, then) = self.transmit(connection, &message, &entry).await;
        if outcomes.is_empty() {
            // Not a word about this message: it is not charged with an attempt.
            self.context.queue.release(id, entry, clock::now_ms());
            return then;
        }
        self.log(&message, &outcomes);
        let live = self.context.live();
        let remote = Some(self.upstream.config.host.as_str());
        record(&self.context, &live, &message, entry, outcomes, remote).await;
        then
    }

    /// Sends to all open recipients, in as few transactions as the upstream's limit allows.
    async fn transmit(
        &self,
        connection: &mut Connection,
        message: &Message,
        entry: &Entry,
    ) -> (Vec<(u32, RecipientOutcome)>, Then) {
        let limit = usize::try_from(self.upstream.config.limits.recipients_per_message)
            .unwrap_or(usize::MAX);
        let (paths, mut outcomes) = parse_recipients(message, entry);
        for paths in paths.chunks(limit) {
            let (indexes, recipients): (Vec<_>, Vec<_>) = paths.iter().cloned().unzip();
            let outcome = match connection.send(transaction(message, recipients)).await {
                Sent::Finished(outcome) => outcome,
                Sent::Held(failure) => {
                    self.report_failed(&failure);
                    return (outcomes, Then::Stop);
                }
                Sent::Lost(why) => {
                    tracing::info!(upstream = self.slot.name, why, "connection lost");
                    return (outcomes, Then::Stop);
                }
            };
            let TransactionOutcome {
                recipients,
                connection: afterwards,
                hold,
            } = outcome;
            let judged = indexes.into_iter().zip(recipients);
            if let Some(hold) = hold {
                outcomes.extend(judged.filter(|(_, outcome)| is_final(outcome)));
                // A demand that stands beside an accepted recipient is about the others, not about us.
                if outcomes.is_empty() {
                    self.report_failed(&describe(&hold));
                }
                return (outcomes, Then::Stop);
            }
            outcomes.extend(judged);
            if afterwards == Afterwards::Closing {
                return (outcomes, Then::Stop);
            }
        }
        (outcomes, Then::GoOn)
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

    fn report_ready(&self) {
        let now_ms = clock::now_ms();
        let fingerprint = &self.upstream.fingerprint;
        let change = self
            .slot
            .upstreams
            .lock()
            .ready(&self.slot.name, fingerprint, now_ms);
        announce(&self.slot.name, change, None);
    }

    fn report_failed(&self, failure: &UpstreamFailure) {
        let change = self.slot.upstreams.lock().failed(
            &self.slot.name,
            &self.upstream.fingerprint,
            failure.clone(),
            clock::now_ms(),
            clock::random_unit(),
        );
        announce(&self.slot.name, change, Some(failure));
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

/// The open recipients, and outcomes for those whose address cannot be read back: they were accepted by the same
/// parser, so only a damaged or foreign spool has any.
fn parse_recipients(message: &Message, entry: &Entry) -> (Paths, Vec<(u32, RecipientOutcome)>) {
    let mut paths = Vec::new();
    let mut outcomes = Vec::new();
    for index in open_recipients(message, entry) {
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
