//! What the spool keeps.

use bytes::Bytes;

use crate::MessageId;

/// A message with its envelope.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Its name.
    pub id: MessageId,
    /// Arrival, milliseconds since the epoch.
    pub arrival_ms: u64,
    /// Who sends it to whom.
    pub envelope: Envelope,
    /// Header fields that the relay puts before the content; complete lines.
    pub headers: Bytes,
    /// The content as received.
    pub body: Bytes,
}

/// The envelope of a message (RFC 5321 §2.3.1) with its DSN parameters (RFC 3461).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Envelope {
    /// The reverse-path without brackets; empty for the null one.
    pub sender: String,
    /// In the order in which they were named; outcomes refer to them by index.
    pub recipients: Vec<Recipient>,
    /// What the body was declared to be.
    pub body: BodyType,
    /// Whether SMTPUTF8 was asked for (RFC 6531).
    pub smtputf8: bool,
    /// The user who submitted it; empty for none.
    pub credential: String,
    /// ENVID.
    pub envid: Option<String>,
    /// RET.
    pub ret: Option<Ret>,
}

/// One recipient.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recipient {
    /// The forward-path without brackets.
    pub address: String,
    /// NOTIFY as given.
    pub notify: Option<String>,
    /// ORCPT as given.
    pub orcpt: Option<String>,
}

/// The BODY parameter (RFC 6152).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyType {
    /// 8BITMIME.
    EightBitMime,
    /// 7BIT, or nothing said.
    SevenBit,
}

/// The RET parameter (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ret {
    /// Return the whole message.
    Full,
    /// Return the headers.
    Headers,
}

/// What came of an attempt to deliver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// The message.
    pub id: MessageId,
    /// When to try again, milliseconds since the epoch.
    pub next_attempt_ms: u64,
    /// Failed attempts so far.
    pub attempts: u32,
    /// By index into the envelope's recipients: those that were tried.
    pub results: Vec<(u32, RecipientResult)>,
}

/// What came of an attempt for one recipient. The reply is not kept: whoever needs it has it at the attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RecipientResult {
    /// To be tried again.
    Deferred,
    /// Taken by the next hop.
    Delivered,
    /// Refused for good.
    Failed,
}

impl RecipientResult {
    /// Whether nothing is left to do for the recipient.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Delivered | Self::Failed => true,
            Self::Deferred => false,
        }
    }
}

/// One entry of the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Record {
    /// An attempt that left recipients open.
    Attempt(Attempt),
    /// Nothing is left to do for this message.
    Done(MessageId),
    /// A new message.
    Message(Message),
}

/// A message that recovery found unfinished.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Queued {
    /// Its name.
    pub id: MessageId,
    /// Arrival, milliseconds since the epoch.
    pub arrival_ms: u64,
    /// Bytes of headers and body.
    pub bytes: u64,
    /// How many recipients the envelope names.
    pub recipients: u32,
    /// When to try next; the arrival if it never was.
    pub next_attempt_ms: u64,
    /// Failed attempts so far.
    pub attempts: u32,
    /// Indexes of the recipients that have their final outcome, ascending.
    pub settled: Box<[u32]>,
}
