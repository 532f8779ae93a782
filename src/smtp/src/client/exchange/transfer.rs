//! How the content of a transaction goes out.
//!
//! # BDAT ahead of the replies to RCPT
//! With PIPELINING and small content the whole transaction is written at once. That is safe with a server that keeps
//! to RFC 3030 §2: it reads and drops the octets of a BDAT that it refuses. Replies are taken in order, as ever: who
//! is refused by RCPT stays refused whatever BDAT is answered, and the answer to BDAT counts for those
//! who were accepted. If nobody was, an answer that claims otherwise counts for nobody. After a BDAT that was refused
//! the server's state is not defined by the RFC, so RSET goes before the next MAIL.
//!
//! With a server that says more than it is asked, a 250 that belongs to RCPT would be taken for the answer to the chunk. So the
//! first transaction of a connection asks with DATA, whose 354 nothing else looks like; only when that was answered
//! reply for reply is the next one written at once. And a reply behind the last one breaks the transaction before that counts.

use bytes::Bytes;

use crate::client::peer::Peer;
use crate::{BodyKind, Extension};

/// Most octets of content that go out before it is known whether anyone is accepted: one piece, most of all messages.
const UNASKED_MAX: u64 = 64 << 10;

/// How the content goes out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Transfer {
    /// Behind DATA and 354.
    Data,
    /// Behind BDAT, as soon as somebody may be accepted.
    ChunkAtOnce,
    /// Behind BDAT, once the replies to RCPT are in.
    ChunkAfterReplies,
}

/// Whether the replies of this server may be counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::client) enum Trust {
    /// It may say more than it is asked.
    Unknown,
    /// It has given one reply to each command of a whole transaction on this connection.
    Counted,
}

impl Transfer {
    /// With a reply too many in front of it, the answer to RCPT would pass for that to a chunk; none but 354 passes for that to DATA.
    pub(super) fn choose(peer: &Peer, size: u64, body: BodyKind, trust: Trust) -> Self {
        let at_once = peer.offers(Extension::Pipelining) && size <= UNASKED_MAX;
        match (peer.offers(Extension::Chunking), trust) {
            (false, _) => Self::Data,
            (true, Trust::Counted) if at_once => Self::ChunkAtOnce,
            (true, Trust::Unknown) if at_once && body != BodyKind::Binary => Self::Data,
            (true, _) => Self::ChunkAfterReplies,
        }
    }
}

/// Octets of the content as RFC 1870 §5 counts them, with the final CRLF that may be added to lines.
pub(super) fn wire_size(content: &[Bytes], body: BodyKind) -> u64 {
    let octets: u64 = content.iter().map(|chunk| chunk.len() as u64).sum();
    let last = content.iter().rev().find_map(|chunk| chunk.last());
    match (last, body) {
        (None | Some(b'\n'), _) | (_, BodyKind::Binary) => octets,
        (Some(_), BodyKind::SevenBit | BodyKind::EightBit) => octets + 2,
    }
}
