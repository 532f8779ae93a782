//! Header work on messages. Pure: the time is a parameter, nothing does IO.
//!
//! | module | what it does |
//! |---|---|
//! | [`received`] | writes the trace header (RFC 5321 §4.4) |
//! | [`inspect`] | counts hops and looks for the headers a message needs |
//! | [`submission`] | writes the headers that submitted mail lacks (RFC 6409 §8) |
//! | [`dsn`] | writes the reports that tell a sender what became of a message (RFC 3464) |
//! | [`convert`] | makes content fit for a next hop without 8BITMIME or BINARYMIME (RFC 6152 §3) |
//!
//! # Invariants
//! Whatever is written is canonical (CRLF only) and ASCII, with one exception: a recipient that needs
//! SMTPUTF8 stands in `Received:` as it is (RFC 6531 §4.3). Text that comes from a peer is cleaned on the
//! way in: it cannot end a line, a comment or a field.

pub mod convert;
pub mod dsn;
mod encode;
pub mod inspect;
pub mod received;
pub mod submission;
mod text;
