//! From a received message to one that is kept: trace header, loop check, commit.

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use postroad_message::inspect;
use postroad_message::received::{self, Trace};
use postroad_message::submission;
use postroad_smtp::Reply;
use postroad_smtp::server::{ReceivedMessage, SessionInfo};
use postroad_spool::{CommitError, Failure, Message, MessageId, SubmitError};

use crate::clock;
use crate::context::Context;
use crate::envelope::{self, TlsRequired};
use crate::memory::{Full, Reservation};
use crate::passthrough;
use crate::queue::{AcceptError, NeedsDisk, NoRoom, Passed};
use crate::refusal::Refusal;
use crate::room::Account;

/// What the session knows about where a message comes from.
#[derive(Debug)]
pub struct Origin<'a> {
    /// The dialogue so far.
    pub info: &'a SessionInfo,
    /// The client's address.
    pub peer: IpAddr,
    /// Protocol version and cipher, if under TLS.
    pub tls: Option<String>,
}

/// What became of a message that was received.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Accepted {
    /// It is kept.
    Queued(MessageId),
    /// The next servers have it.
    PassedOn(MessageId),
    /// They refused it; the answer for the client.
    Refused(Reply),
}

/// Whether it is worth sending a message here, for a client with or without login: refused at MAIL already, before the content crosses the
/// network.
///
/// # Errors
/// The refusal to answer with.
pub fn check_room(context: &Context, user: Option<&str>) -> Result<(), Refusal> {
    let queue = &context.queue;
    if queue.spool().health().failure == Some(Failure::WriterDied) {
        return Err(Refusal::StorageFailed);
    }
    let needs_disk = match context.hands_on() {
        true => NeedsDisk::Perhaps,
        false => NeedsDisk::Yes,
    };
    let account = Account::from(user.unwrap_or_default());
    let room = queue.check_room_for(&account, needs_disk);
    room.map_err(|full| no_room(context, full, &account))
}

/// Counts it. The log says once a minute whose share is used up; of what is full for everybody the metric tells how often.
fn no_room(context: &Context, full: NoRoom, account: &Account) -> Refusal {
    match full {
        NoRoom::Queue => {
            tracing::debug!("a message was refused: the queue is full");
            context.metrics.queue_refusals.inc();
            Refusal::QueueFull
        }
        NoRoom::Disk => disk_full(context),
        NoRoom::Share(resource) => {
            context.metrics.refused_for_share(resource);
            if let Some(refusals) = context.queue.refused_share(account, clock::now_ms()) {
                let user = match account {
                    Account::Network => "none",
                    Account::Login(login) => login,
                };
                tracing::warn!(
                    user,
                    refusals,
                    "mail is refused: what waits of this user takes as much of {resource} as one may; \
                    more is taken when some has gone"
                );
            }
            Refusal::ShareFull
        }
    }
}

/// Counts it. No line in the log above debug: a client that does not let off would write one for each message.
fn disk_full(context: &Context) -> Refusal {
    tracing::debug!("a message was refused: the disk is full");
    context.metrics.disk_refusals.inc();
    Refusal::DiskFull
}

/// Counts it by whose memory is used up, and lets the status show that memory is short.
pub(crate) fn memory_full(context: &Context, why: Full) -> Refusal {
    tracing::debug!(%why, "a message was refused: there is no room in memory");
    context.metrics.refused_for_memory(why);
    context.queue.memory().refused(why, clock::now_ms());
    Refusal::MemoryFull
}

/// Keeps a message or hands it on: once this returns `Ok`, the client may be told so.
///
/// # Errors
/// The refusal to answer with; nothing was kept.
pub async fn accept(
    context: &Context,
    received: ReceivedMessage,
    origin: &Origin<'_>,
    reservation: Reservation,
) -> Result<Accepted, Refusal> {
    let summary = inspect::headers(&received.content);
    if summary.received_count > inspect::HOPS_MAX {
        return Err(Refusal::Loop);
    }
    let is_passing = context.hands_on();
    let now_ms = clock::now_ms();
    let id = context.queue.next_id(now_ms);
    let headers = headers(context, &received, origin, &summary, id, now_ms);
    let tls_required = match summary.tls_required {
        inspect::TlsRequired::No => TlsRequired::No,
        inspect::TlsRequired::Unsaid | inspect::TlsRequired::Unclear => TlsRequired::Unsaid,
    };
    let user = origin.info.user.as_deref();
    let message = Message {
        id,
        arrival_ms: now_ms,
        envelope: envelope::keep(&received, user, tls_required, now_ms),
        headers,
        body: received.content,
    };
    let (sender, recipients, bytes) = (
        message.envelope.sender.clone(),
        message.envelope.recipients.len(),
        message.body.len(),
    );
    let user = user.unwrap_or_default();
    let passed = match is_passing {
        // Boxed: sessions that do not do this need not have room for it.
        true => Box::pin(passthrough::pass(context, message, reservation)).await,
        false => {
            let accepted = context.queue.accept(message, reservation).await;
            accepted.map(|()| Passed::Stored)
        }
    };
    let (accepted, what) = match passed
        .map_err(|error| refuse(context, &error, &Account::from(user)))?
    {
        Passed::Stored => (Accepted::Queued(id), "accepted"),
        Passed::On => {
            context.metrics.passed.inc();
            (Accepted::PassedOn(id), "passed on")
        }
        Passed::Refused(reply) => {
            tracing::info!(%id, sender, recipients, bytes, peer = %origin.peer, %reply, "refused by the next server");
            return Ok(Accepted::Refused(passthrough::answer(&reply)));
        }
    };
    context.metrics.accepted.inc();
    tracing::info!(%id, sender, recipients, bytes, peer = %origin.peer,
        user, "{what}");
    Ok(accepted)
}

pub(crate) fn refuse(context: &Context, error: &AcceptError, account: &Account) -> Refusal {
    let refusal = match error {
        AcceptError::Room(full) => return no_room(context, *full, account),
        AcceptError::Memory(full) => return memory_full(context, *full),
        AcceptError::Submit(SubmitError::Full) => Refusal::QueueFull,
        AcceptError::Submit(SubmitError::TooLarge) => Refusal::TooLarge,
        AcceptError::Commit(CommitError::DiskFull) => return disk_full(context),
        AcceptError::Submit(SubmitError::Closed)
        | AcceptError::Commit(CommitError::Write(_))
        | AcceptError::Closed => Refusal::StorageFailed,
    };
    context.metrics.spool_refusals.inc();
    tracing::error!(%error, source = source(error), "a message was refused");
    refusal
}

fn source(error: &AcceptError) -> String {
    std::error::Error::source(error)
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn headers(
    context: &Context,
    received: &ReceivedMessage,
    origin: &Origin<'_>,
    summary: &inspect::HeaderSummary,
    id: MessageId,
    now_ms: u64,
) -> Bytes {
    let live = context.live();
    let id = id.to_string();
    let only = match received.recipients.as_slice() {
        [one] => Some(one.path.to_string()),
        _ => None,
    };
    let now = clock::timestamp(now_ms);
    let mut headers = BytesMut::from(
        &received::header(&Trace {
            helo: &origin.info.helo,
            peer_ip: origin.peer,
            hostname: &live.config.hostname,
            protocol: protocol(origin.info, received.sender.parameters.smtputf8),
            id: &id,
            recipient: only.as_deref(),
            tls: origin.tls.as_deref(),
            now,
        })[..],
    );
    if origin.info.user.is_some() {
        let missing = submission::missing_headers(summary, &live.config.hostname, &id, now);
        headers.extend_from_slice(&missing);
    }
    headers.extend_from_slice(received::separator(&received.content));
    headers.freeze()
}

/// RFC 3848, and RFC 6531 §4.3 for the UTF8 names.
fn protocol(info: &SessionInfo, smtputf8: bool) -> &'static str {
    match (smtputf8, info.esmtp, info.tls, info.user.is_some()) {
        (true, _, true, true) => "UTF8SMTPSA",
        (true, _, true, false) => "UTF8SMTPS",
        (true, _, false, true) => "UTF8SMTPA",
        (true, _, false, false) => "UTF8SMTP",
        (false, true, true, true) => "ESMTPSA",
        (false, true, true, false) => "ESMTPS",
        (false, true, false, true) => "ESMTPA",
        (false, true, false, false) => "ESMTP",
        (false, false, _, _) => "SMTP",
    }
}
