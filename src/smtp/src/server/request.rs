//! What a session asks its driver, and the answers.

use bytes::Bytes;

#[cfg(doc)]
use super::Session;
use crate::{Hold, MailParameters, Password, Priority, Recipient, Reply, ReversePath};

/// What the driver decides.
#[derive(Debug)]
pub enum Request {
    /// Does the password prove the name? 535 5.7.8 if not, 454 4.7.0 if that cannot be said now.
    Authenticate {
        /// At most 255 octets, without control characters.
        username: String,
        /// Not empty.
        password: Password,
    },
    /// May this sender send?
    Sender(Sender),
    /// May mail go there?
    Recipient(Recipient),
    /// Keep this message; 250 must mean that it is kept.
    Message(ReceivedMessage),
}

/// What MAIL says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sender {
    /// The path.
    pub path: ReversePath,
    /// What goes on with the message.
    pub parameters: MailParameters,
    /// The `SIZE` parameter.
    pub declared_size: Option<u64>,
    /// `HOLDFOR` or `HOLDUNTIL`, within the bounds that are announced.
    pub hold: Option<Hold>,
}

/// A message with its envelope.
#[derive(Debug)]
pub struct ReceivedMessage {
    /// What MAIL said; the priority is the one that was granted.
    pub sender: Sender,
    /// The accepted recipients in order; at least one.
    pub recipients: Vec<Recipient>,
    /// Without what framed it. Declared as binary, it is what was sent. Else it is canonical, empty or ending
    /// with CRLF, and holds no NUL.
    pub content: Bytes,
}

/// The answer to a [`Request`]. One that does not belong to the request grants nothing: 451 4.3.0.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Yes.
    Accept,
    /// No, and why. A reply with code 421 also closes the connection.
    Refuse(Reply),
    /// Yes to a sender, with another priority than was asked for (RFC 6710 §4.1).
    Reprioritized(Priority),
    /// The message is kept; the text of the 250, as in `Ok: queued as 1A2B`. It gets the status 2.0.0 unless it begins
    /// with another.
    Queued(String),
}
