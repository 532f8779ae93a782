//! What went wrong, in words for users.

use std::io;

use postroad_config::status::{FailureReason, UpstreamFailure};
use postroad_smtp::client::{ConnectFailure, FailureKind, Stage};

use crate::upstreams::failure;

/// The one place where a failed dialogue becomes a reason that users see.
pub(in crate::delivery) fn describe(failed: &ConnectFailure) -> UpstreamFailure {
    let (reason, what) = match failed.kind {
        FailureKind::Throttled => (FailureReason::Throttled, "asks for less"),
        FailureKind::Refused => (FailureReason::Refused, "refuses to talk to us"),
        FailureKind::AuthenticationFailed => {
            (FailureReason::AuthenticationFailed, "refused the login")
        }
        FailureKind::AuthUnavailable => (
            FailureReason::AuthenticationFailed,
            "offers no login that could be used",
        ),
        FailureKind::Disconnected => {
            let reason = match failed.stage {
                Stage::Transaction => FailureReason::ProtocolError,
                _ => FailureReason::ConnectionRefused,
            };
            (reason, "closed the connection")
        }
        FailureKind::TimedOut => (FailureReason::ConnectionTimedOut, "did not answer in time"),
        FailureKind::TlsDemanded => (FailureReason::TlsFailed, "demands TLS"),
        FailureKind::TlsNotOffered => (FailureReason::TlsFailed, "does not offer STARTTLS"),
        FailureKind::Protocol => (FailureReason::ProtocolError, "broke the protocol"),
    };
    let text = match &failed.reply {
        Some(reply) => format!("the server {what} ({:?}): {reply}", failed.stage),
        None => format!("the server {what} ({:?})", failed.stage),
    };
    failure(reason, text)
}

/// What the system said about a connection.
pub(super) fn io_failure(error: &io::Error) -> UpstreamFailure {
    let reason = match error.kind() {
        io::ErrorKind::TimedOut => FailureReason::ConnectionTimedOut,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => FailureReason::ProtocolError,
        _ => FailureReason::ConnectionRefused,
    };
    failure(reason, error.to_string())
}
