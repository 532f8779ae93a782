//! What becomes of transactions and connections.

#[cfg(doc)]
use super::{ClientStep, Transaction};
use crate::Reply;

/// How a transaction ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TransactionOutcome {
    /// One outcome per recipient, in the order of [`Transaction::recipients`].
    pub recipients: Vec<RecipientOutcome>,
    /// Whether the connection can carry another.
    pub connection: Connection,
    /// The server demands AUTH or TLS (530, 534, 535, 538): the relay's login is at fault, the message
    /// was not judged. Recipients without a verdict are deferred.
    pub hold: Option<ConnectFailure>,
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

/// The steps before the first transaction.
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
}

/// What goes wrong before the first transaction.
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
}
