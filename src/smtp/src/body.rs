//! What a message body is declared to hold.

/// The `BODY` parameter of MAIL (RFC 6152 §2).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum BodyKind {
    /// `BODY=7BIT`, or nothing said.
    #[default]
    SevenBit,
    /// `BODY=8BITMIME`.
    EightBit,
}
