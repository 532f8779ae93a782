//! Message content on the wire: dot-stuffing (RFC 5321 §4.5.2) and its end.
//!
//! *Canonical* content has no CR that is not followed by LF and no LF that is not preceded by CR.
//! [`Decoder`] makes any input canonical, [`Encoder`] takes nothing else, so that no message can pass
//! through with a bare newline that the next server might take for the end of the message.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub(crate) use decode::{Decoded, Decoder};
pub(crate) use encode::{Encoder, Written, is_canonical};

const CRLF: &[u8] = b"\r\n";
