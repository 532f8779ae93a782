//! SMTP without IO (RFC 5321 and the extensions listed in [`server`] and [`client`]).
//!
//! Nothing here knows a socket, a clock or a task. A driver reads bytes into a [`bytes::BytesMut`],
//! calls [`server::Session::step`] or [`client::Client::step`], does what the step says, and writes
//! what stands in `output()`. Deadlines, TLS handshakes and policy are the driver's.
//!
//! # Invariants
//! - No [`Mailbox`], [`ReversePath`], [`ForwardPath`] or encoded [`Reply`] can hold CR, LF, NUL or
//!   another control character: constructors fail, values do not.
//! - Message content that leaves the server session is canonical: every CR is followed by LF, every
//!   LF preceded by CR. The client session refuses to send anything else. Together this closes both
//!   halves of SMTP smuggling (CVE-2023-51764 and its relatives). The one exception is content that was
//!   declared BINARYMIME: it comes over BDAT only, and goes on over BDAT only, to a server that offers it.
//! - Whatever a peer can make grow has a named bound.
//! - A [`Password`] shows in no `Debug` output.

pub mod address;
pub mod client;
mod command;
pub mod content;
mod envelope;
mod extension;
#[doc(hidden)]
pub mod line;
mod password;
pub mod reply;
mod sasl;
pub mod server;

pub use address::{ForwardPath, Mailbox, ReversePath};
pub use client::RecipientOutcome;
pub use envelope::{
    BodyKind, DeliverBy, Envid, Hold, MailParameters, Notify, NotifyError, OnExpiry,
    OriginalRecipient, Priority, Recipient, RequireTls, Ret,
};
pub use extension::{Extension, Extensions};
pub use password::Password;
pub use reply::{EnhancedStatus, Reply};
