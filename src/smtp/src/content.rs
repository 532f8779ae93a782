//! Message content on the wire: dot-stuffed behind DATA (RFC 5321 §4.5.2), counted behind BDAT (RFC 3030).
//!
//! *Canonical* content has no CR that is not followed by LF and no LF that is not preceded by CR.
//! [`Decoder`] and [`Canonicalizer`] make any input canonical, [`Encoder`] takes nothing else unless the
//! content was declared binary, so that no message can pass through with a bare newline that the next
//! server might take for the end of the message.
//!
//! Public for the benchmarks; sessions use it for everyone else.

mod canonical;
mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use canonical::{Canonicalizer, is_canonical};
pub use decode::{Decoded, Decoder};
pub use encode::{Encoder, Framing, Written};

const CRLF: &[u8] = b"\r\n";
