//! What a server can never be sent: told without asking it.

use bytes::Bytes;
use memchr::{memchr, memmem};

use super::Certificate;
use super::RecipientOutcome;
use super::limits::Room;
use super::peer::{Peer, Size};
use super::recipient::local;
use crate::content::is_canonical;
use crate::{
    BodyKind, Extension, ForwardPath, MailParameters, OnExpiry, Reply, RequireTls, ReversePath,
};

/// What a transaction carries.
pub(super) struct Message<'a> {
    pub(super) sender: &'a ReversePath,
    pub(super) parameters: &'a MailParameters,
    pub(super) content: &'a [Bytes],
    pub(super) size: u64,
}

/// Why nobody can get the message over this connection.
pub(super) fn message(
    message: &Message<'_>,
    peer: &Peer,
    certificate: Certificate,
) -> Option<Reply> {
    content(message, peer)
        .or_else(|| international(message, peer))
        .or_else(|| require_tls(message.parameters, peer, certificate))
        .or_else(|| deliver_by(message.parameters, peer))
}

/// Why this recipient cannot be named in the transaction.
pub(super) fn recipient(
    path: &ForwardPath,
    peer: &Peer,
    room: &mut Room,
) -> Option<RecipientOutcome> {
    if !path.is_ascii() && !peer.offers(Extension::SmtpUtf8) {
        return Some(RecipientOutcome::Failed(not_ascii()));
    }
    // RFC 9422 §4.2: as if the server had said so itself.
    let text = "The server takes no more recipients in one message";
    (!room.take(path)).then(|| RecipientOutcome::Deferred(local(452, 4, 5, 3, text)))
}

fn content(message: &Message<'_>, peer: &Peer) -> Option<Reply> {
    let Message { content, size, .. } = message;
    let body = message.parameters.body;
    match peer.size {
        _ if body == BodyKind::Binary && !peer.takes(body) => {
            // RFC 3030 §3.
            let text = "The message is binary, and the server does not offer BINARYMIME";
            Some(local(554, 5, 6, 3, text))
        }
        _ if body != BodyKind::Binary && !is_canonical(content) => {
            Some(local(554, 5, 6, 0, "The message holds a bare CR or LF"))
        }
        // RFC 5321 §4.5.2 allows it, RFC 5322 §4 for old mail only: servers cut or change such content in ways of their own.
        _ if body != BodyKind::Binary && has_nul(content) => {
            Some(local(554, 5, 6, 0, "The message holds NUL"))
        }
        Size::Limit(limit) if *size > limit => {
            let text = format!("The message has {size} bytes, the server takes {limit}");
            Some(local(552, 5, 3, 4, &text))
        }
        _ => None,
    }
}

fn has_nul(content: &[Bytes]) -> bool {
    content.iter().any(|piece| memchr(0, piece).is_some())
}

/// RFC 6531 §3.2: what needs SMTPUTF8 is not for a server without it. A message that was submitted with SMTPUTF8 and turns
/// out to be ASCII where that matters needs nothing.
fn international(message: &Message<'_>, peer: &Peer) -> Option<Reply> {
    if peer.offers(Extension::SmtpUtf8) {
        None
    } else if !message.sender.is_ascii() {
        Some(not_ascii())
    } else if message.parameters.smtputf8 && !has_ascii_headers(message.content) {
        let text = "The header section is not ASCII, and the server does not offer SMTPUTF8";
        Some(local(550, 5, 6, 9, text))
    } else {
        None
    }
}

fn not_ascii() -> Reply {
    let text = "The address is not ASCII, and the server does not offer SMTPUTF8";
    local(553, 5, 6, 7, text)
}

/// RFC 8689 §4.2.1.
fn require_tls(
    parameters: &MailParameters,
    peer: &Peer,
    certificate: Certificate,
) -> Option<Reply> {
    if parameters.require_tls == RequireTls::No {
        None
    } else if certificate == Certificate::Unverified {
        let text = "The message asks for REQUIRETLS, and the server's certificate is not verified";
        Some(local(550, 5, 7, 10, text))
    } else if !peer.offers(Extension::RequireTls) {
        let text = "The message asks for REQUIRETLS, which the server does not offer";
        Some(local(550, 5, 7, 30, text))
    } else {
        None
    }
}

/// RFC 2852 §4.1.4.1: a message that is to be returned in time may only go where that is promised, and for that time.
fn deliver_by(parameters: &MailParameters, peer: &Peer) -> Option<Reply> {
    let by = parameters.deliver_by?;
    let (seconds, min) = (by.seconds(), peer.deliver_by_min);
    if by.on_expiry() == OnExpiry::Notify {
        None
    } else if !peer.offers(Extension::DeliverBy) {
        let text =
            "The message is to be returned if it is late, and the server does not offer DELIVERBY";
        Some(local(550, 5, 3, 3, text))
    } else if seconds < i64::from(min) {
        let text = format!(
            "The message is to be returned in {seconds} seconds, the server wants at least {min}"
        );
        Some(local(550, 5, 4, 7, &text))
    } else {
        None
    }
}

/// Whether everything up to the first empty line is ASCII. An empty line that is cut within a newline is passed over: then
/// body counts as header section, and nothing that needs SMTPUTF8 gets by.
fn has_ascii_headers(content: &[Bytes]) -> bool {
    let mut at_line_start = true;
    for piece in content.iter().filter(|piece| !piece.is_empty()) {
        if at_line_start && piece.starts_with(b"\r\n") {
            return true;
        }
        match memmem::find(piece, b"\r\n\r\n") {
            Some(end) => return piece[..end].is_ascii(),
            None if piece.is_ascii() => at_line_start = piece.ends_with(b"\r\n"),
            None => return false,
        }
    }
    true
}
