//! Why the relay turns something down, and the one place that says it in SMTP.
//!
//! Each variant names who can do something about it: the client (5yz), or time (4yz). A text says
//! what to do; it never says anything about other clients, users or the inside of the relay.

use postroad_smtp::{EnhancedStatus, Reply};

/// Why something is turned down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The client may not relay, but could authenticate.
    AuthenticationNeeded,
    /// The client may not relay, and nothing it could do here would help.
    RelayingDenied,
    /// User name or password is wrong; which of them is not said.
    LoginFailed,
    /// The login of this session has been taken away or changed meanwhile.
    LoginRevoked,
    /// What this port asks of its clients has changed meanwhile, or it is gone.
    ListenerChanged,
    /// Logins cannot be checked now.
    LoginUnavailable,
    /// A message may be held for those who may relay only.
    HoldDenied,
    /// The message has passed too many servers: a loop (RFC 5321 §6.3).
    Loop,
    /// The memory for messages is used up.
    MemoryFull,
    /// The queue does not take more.
    QueueFull,
    /// So much mail of the client's login waits, or of all clients without one, that the rest of the room is for others.
    ShareFull,
    /// The disk did not take the message.
    StorageFailed,
    /// The envelope is larger than could be read back.
    TooLarge,
    /// The disk is nearly full.
    DiskFull,
    /// The client has gone while its message was handed on.
    HungUp,
    /// All connections are in use.
    ConnectionsFull,
    /// This client's connections are in use.
    SourceConnectionsFull,
}

impl Refusal {
    /// The reply for the client.
    #[must_use]
    pub fn reply(self) -> Reply {
        let (code, (class, subject, detail)) = self.codes();
        Reply::new(
            code,
            EnhancedStatus::new(class, subject, detail),
            self.text(),
        )
    }

    /// Code and enhanced status (RFC 5321 §4.2.3, RFC 3463).
    const fn codes(self) -> (u16, (u8, u16, u16)) {
        match self {
            Self::AuthenticationNeeded | Self::RelayingDenied => (550, (5, 7, 1)),
            Self::HoldDenied => (530, (5, 7, 0)),
            Self::LoginFailed => (535, (5, 7, 8)),
            Self::LoginRevoked
            | Self::ListenerChanged
            | Self::ConnectionsFull
            | Self::SourceConnectionsFull => (421, (4, 7, 0)),
            Self::LoginUnavailable => (454, (4, 7, 0)),
            Self::Loop => (554, (5, 4, 6)),
            Self::MemoryFull | Self::QueueFull | Self::ShareFull | Self::DiskFull => {
                (452, (4, 3, 1))
            }
            Self::StorageFailed => (451, (4, 3, 0)),
            Self::TooLarge => (552, (5, 3, 4)),
            Self::HungUp => (451, (4, 4, 2)),
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::AuthenticationNeeded => "Relaying denied: use STARTTLS and AUTH first",
            Self::HoldDenied => "Messages are held for known clients only: authenticate first",
            Self::RelayingDenied => "Relaying denied",
            Self::LoginFailed => "Authentication failed: wrong user name or password",
            Self::LoginRevoked => "Your login has changed: connect and authenticate again",
            Self::ListenerChanged => "The rules of this port have changed: connect again",
            Self::LoginUnavailable => "Cannot check the login now, try again later",
            Self::Loop => "Too many hops: the message is in a loop",
            Self::MemoryFull => "Too much mail at once, try again later",
            Self::QueueFull => "Too many messages are waiting here, try again later",
            Self::ShareFull => {
                "Your share of the queue is full: try again when some of your mail has gone"
            }
            Self::StorageFailed => "The message could not be stored, try again later",
            Self::TooLarge => "Too much for one message: send it to fewer recipients at once",
            Self::DiskFull => "The disk of the queue is full, try again later",
            Self::HungUp => "You closed the connection too soon",
            Self::ConnectionsFull => "Too many connections, try again later",
            Self::SourceConnectionsFull => {
                "Too many connections from your address, try again later"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_code_and_a_status_of_the_same_class() {
        use Refusal::{
            AuthenticationNeeded, ConnectionsFull, DiskFull, HungUp, ListenerChanged, LoginFailed,
            LoginRevoked, LoginUnavailable, Loop, MemoryFull, QueueFull, RelayingDenied, ShareFull,
            SourceConnectionsFull, StorageFailed, TooLarge,
        };
        for (refusal, expected) in [
            (AuthenticationNeeded, "550 5.7.1 "),
            (RelayingDenied, "550 5.7.1 "),
            (LoginFailed, "535 5.7.8 "),
            (LoginRevoked, "421 4.7.0 "),
            (ListenerChanged, "421 4.7.0 "),
            (LoginUnavailable, "454 4.7.0 "),
            (Loop, "554 5.4.6 "),
            (MemoryFull, "452 4.3.1 "),
            (QueueFull, "452 4.3.1 "),
            (ShareFull, "452 4.3.1 "),
            (StorageFailed, "451 4.3.0 "),
            (TooLarge, "552 5.3.4 "),
            (DiskFull, "452 4.3.1 "),
            (HungUp, "451 4.4.2 "),
            (ConnectionsFull, "421 4.7.0 "),
            (SourceConnectionsFull, "421 4.7.0 "),
        ] {
            let line = refusal.reply().to_string();
            assert!(line.starts_with(expected), "{line}");
        }
    }
}
