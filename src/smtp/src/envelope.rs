//! What MAIL and RCPT say besides the paths: the parameters of the extensions, parsed.
//!
//! The same types serve both directions. The server parses them from a command, the relay keeps what
//! they say, the client writes them again: parsing what is written gives an equal value. No value can hold
//! a control character, so that none can break out of a command or a report.
//!
//! # Failures
//! A constructor gives `None` for what is not of the form that its RFC prescribes. That is always the
//! writer's mistake, and depends on nothing but the text.

mod deliver_by;
mod dsn;
mod hold;
mod priority;
#[cfg(test)]
mod tests;
mod xtext;

use crate::{Extension, Extensions, ForwardPath};

pub use deliver_by::{DeliverBy, OnExpiry};
pub(crate) use dsn::Charset;
pub use dsn::{Envid, Notify, NotifyError, OriginalRecipient, Ret};
pub use hold::Hold;
pub(crate) use hold::date_time;
pub use priority::Priority;

/// What a message body is declared to hold: the `BODY` parameter (RFC 6152 §2, RFC 3030 §3).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum BodyKind {
    /// `BODY=7BIT`, or nothing said.
    #[default]
    SevenBit,
    /// `BODY=8BITMIME`.
    EightBit,
    /// `BODY=BINARYMIME`: not made of lines. Goes over BDAT only.
    Binary,
}

/// Whether each hop must be under verified TLS (RFC 8689).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum RequireTls {
    /// Not asked for.
    #[default]
    No,
    /// `REQUIRETLS` was said.
    Yes,
}

/// What MAIL says about a message, as far as it goes on from hop to hop.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MailParameters {
    /// `BODY=` (RFC 6152, RFC 3030).
    pub body: BodyKind,
    /// `SMTPUTF8` (RFC 6531): addresses or header fields may be UTF-8.
    pub smtputf8: bool,
    /// `RET=` (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// `ENVID=` (RFC 3461 §4.4).
    pub envid: Option<Envid>,
    /// `REQUIRETLS` (RFC 8689).
    pub require_tls: RequireTls,
    /// `BY=` (RFC 2852).
    pub deliver_by: Option<DeliverBy>,
    /// `MT-PRIORITY=` (RFC 6710); 0 if nothing was said.
    pub priority: Priority,
}

/// A recipient: what RCPT says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recipient {
    /// The path.
    pub path: ForwardPath,
    /// `NOTIFY=` (RFC 3461 §4.1).
    pub notify: Option<Notify>,
    /// `ORCPT=` (RFC 3461 §4.2).
    pub orcpt: Option<OriginalRecipient>,
}

impl MailParameters {
    /// The extensions that these parameters are of.
    #[must_use]
    pub fn extensions(&self) -> Extensions {
        let Self {
            body,
            smtputf8,
            ret,
            envid,
            require_tls,
            deliver_by,
            priority,
        } = self;
        let asked = [
            (Extension::EightBitMime, *body == BodyKind::EightBit),
            (Extension::BinaryMime, *body == BodyKind::Binary),
            (Extension::SmtpUtf8, *smtputf8),
            (Extension::Dsn, ret.is_some() || envid.is_some()),
            (Extension::RequireTls, *require_tls == RequireTls::Yes),
            (Extension::DeliverBy, deliver_by.is_some()),
            (Extension::MtPriority, *priority != Priority::default()),
        ];
        let asked = asked.into_iter().filter(|(_, asked)| *asked);
        asked.map(|(extension, _)| extension).collect()
    }
}

impl Recipient {
    /// Whether RCPT says something that only a server with DSN understands.
    #[must_use]
    pub fn asks_for_dsn(&self) -> bool {
        self.notify.is_some() || self.orcpt.is_some()
    }
}

impl From<ForwardPath> for Recipient {
    fn from(path: ForwardPath) -> Self {
        Self {
            path,
            notify: None,
            orcpt: None,
        }
    }
}
