//! What becomes of transactions and connections.

#[cfg(doc)]
use super::{ClientStep, Transaction};
use crate::{EnhancedStatus, Extensions, Reply};

/// How a transaction ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TransactionOutcome {
    /// One outcome per recipient, in the order of [`Transaction::recipients`].
    pub recipients: Vec<RecipientOutcome>,
    /// Whether the connection can carry another.
    pub connection: Connection,
    /// What it says about the server.
    pub end: End,
    /// What it says about the sender.
    pub sender: SenderVerdict,
    /// What the transaction asked for, the server does not offer, and the message went without.
    pub dropped: Extensions,
}

/// What a transaction says about the server, apart from its recipients.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// It has answered all that it was asked, whatever the answers: it does its work.
    Answered,
    /// It does not take mail from us now, and has not judged the message: 421 before its answer to the content, another throttle
    /// that no message can have caused (to MAIL 432, 454, 4.3.2 or 4.7.28; to the content 432 or 454 after a login), an end of the connection
    /// before the final dot, or a demand for a login or TLS (530, 534, 535, 538) that is not about one recipient or message. Those who have
    /// no verdict are deferred.
    Held(ConnectFailure),
    /// Nothing: it was not asked. What it cannot be sent is known from what it offers; and [`RecipientOutcome::is_surplus`] of everybody
    /// says that only another connection will do.
    Unasked,
    /// Nothing: the answer to the final dot was lost, or it broke the protocol.
    Unanswered,
}

/// What a transaction says about the sender.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SenderVerdict {
    /// Nothing: MAIL was not answered, or the answer was about something else.
    Unknown,
    /// MAIL was accepted.
    Accepted,
    /// MAIL was answered with 4yz that is not about the server: another time the answer may be another.
    PutOff,
    /// MAIL was refused for good because of who sends. Every recipient is [`RecipientOutcome::Failed`] with the same reply. Where
    /// that is an account's matter and not the recipient's, the caller may know better.
    Rejected(Reply),
}

/// What became of one recipient.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RecipientOutcome {
    /// The server took responsibility.
    Delivered(Reply),
    /// Trying again later may work.
    Deferred(Reply),
    /// Trying again will not work.
    Failed(Reply),
}

impl RecipientOutcome {
    /// Whether the server only wants fewer recipients at a time (RFC 5321 §4.5.3.1.10, RFC 9422): another transaction
    /// may begin at once.
    #[must_use]
    pub fn is_surplus(&self) -> bool {
        let too_many = EnhancedStatus::new(4, 5, 3);
        matches!(self, Self::Deferred(reply) if reply.code() == 452 && reply.status() == Some(too_many))
    }
}

/// Whether a connection can be used again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Connection {
    /// [`ClientStep::Ready`] comes next.
    Reusable,
    /// [`ClientStep::Closed`] comes next.
    Closing,
}

/// Why a server cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConnectFailure {
    /// How far it came.
    pub stage: Stage,
    /// What went wrong.
    pub kind: FailureKind,
    /// What the server said, if anything.
    pub reply: Option<Reply>,
}

/// The steps of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Waiting for 220.
    Greeting,
    /// EHLO or HELO.
    Ehlo,
    /// STARTTLS and the handshake.
    StartTls,
    /// AUTH.
    Auth,
    /// MAIL to the content.
    Transaction,
}

/// Why a server takes no mail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FailureKind {
    /// 4yz: the server wants less, or is not well.
    Throttled,
    /// 5yz.
    Refused,
    /// The login was refused, or the server demands one.
    AuthenticationFailed,
    /// There is a login, and no way to use it: no TLS that protects it, or no AUTH PLAIN or LOGIN.
    AuthUnavailable,
    /// TLS is required and not offered.
    TlsNotOffered,
    /// The server demands TLS and the configuration does not ask for it.
    TlsDemanded,
    /// The server broke the protocol.
    Protocol,
    /// The connection ended.
    Disconnected,
    /// The server did not answer in time.
    TimedOut,
}
