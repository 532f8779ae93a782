//! Mail addresses and the paths of MAIL and RCPT (RFC 5321 §4.1.2, RFC 6531 §3.3).
//!
//! The grammar is the RFC's, without the comments and folding of header addresses. An address is
//! kept in parsed form and written anew from it, so that nothing a peer wrote between the tokens
//! survives: a quoted local part loses quotes and backslashes that it does not need, an IPv6 literal
//! is written in its canonical form, a source route is dropped (RFC 5321 appendix C).
//!
//! # Failures
//! Every [`Error`] is the writer's mistake; none of them depends on anything but the text.

mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

pub use parse::is_host;
pub(crate) use parse::{forward_path, reverse_path};

/// Longest local part in octets, quotes included (RFC 5321 §4.5.3.1.1).
pub const LOCAL_PART_MAX: usize = 64;
/// Longest domain in octets (RFC 5321 §4.5.3.1.2).
pub const DOMAIN_MAX: usize = 255;
/// Longest path in octets, angle brackets included (RFC 5321 §4.5.3.1.3).
pub const PATH_MAX: usize = 256;
/// Longest label of a domain in octets (RFC 1035 §2.3.4).
const LABEL_MAX: usize = 63;

/// Why a text is no address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// The part before the `@` is neither a dot-string nor a quoted string.
    #[error("the part before the @ is malformed")]
    LocalPart,
    /// The part before the `@` is longer than [`LOCAL_PART_MAX`].
    #[error("the part before the @ is longer than {LOCAL_PART_MAX} octets")]
    LocalPartTooLong,
    /// No `@` follows the local part.
    #[error("the address needs an @ and a domain")]
    MissingDomain,
    /// The domain is malformed.
    #[error("the domain is malformed")]
    Domain,
    /// The domain is longer than [`DOMAIN_MAX`].
    #[error("the domain is longer than {DOMAIN_MAX} octets")]
    DomainTooLong,
    /// The text in square brackets is no IPv4 or `IPv6:` address.
    #[error("the address literal is malformed")]
    Literal,
    /// The path does not stand in angle brackets.
    #[error("the address must stand in angle brackets")]
    Brackets,
    /// The source route before the address is malformed.
    #[error("the source route is malformed")]
    SourceRoute,
    /// The path is longer than [`PATH_MAX`].
    #[error("the path is longer than {PATH_MAX} octets")]
    PathTooLong,
    /// Something follows the address.
    #[error("something follows the address")]
    Trailing,
}

/// `local-part@domain`, or `local-part@[literal]`.
///
/// Domains compare without regard to ASCII case, local parts exactly (RFC 5321 §2.4).
/// `Display` writes the form that goes on the wire; parsing it again gives an equal value.
#[derive(Clone, Debug)]
pub struct Mailbox {
    /// Without quotes and backslashes.
    local: String,
    domain: String,
}

impl Mailbox {
    /// The local part, unquoted. Holds no control character, but may hold spaces, `@` or `"`.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain as written, or the address literal with its square brackets.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Whether the address can go to a server without SMTPUTF8.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.local.is_ascii() && self.domain.is_ascii()
    }
}

impl FromStr for Mailbox {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match parse::mailbox(text)? {
            (mailbox, "") => Ok(mailbox),
            (_, _) => Err(Error::Trailing),
        }
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if parse::is_dot_string(&self.local) {
            f.write_str(&self.local)?;
        } else {
            f.write_str("\"")?;
            for part in self.local.split_inclusive(['"', '\\']) {
                match part.char_indices().next_back() {
                    Some((at, last @ ('"' | '\\'))) => write!(f, "{}\\{last}", &part[..at])?,
                    _ => f.write_str(part)?,
                }
            }
            f.write_str("\"")?;
        }
        write!(f, "@{}", self.domain)
    }
}

impl PartialEq for Mailbox {
    fn eq(&self, other: &Self) -> bool {
        self.local == other.local && self.domain.eq_ignore_ascii_case(&other.domain)
    }
}

impl Eq for Mailbox {}

impl Hash for Mailbox {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.local.hash(state);
        self.domain.to_ascii_lowercase().hash(state);
    }
}

/// Where a message comes from and bounces go: the path of MAIL.
///
/// `Display` and `FromStr` work without angle brackets; the null path is the empty string.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ReversePath {
    /// `<>`: a bounce, which must not be bounced again.
    Null,
    /// An address.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// The address, unless the path is null.
    #[must_use]
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }

    /// Whether the path can go to a server without SMTPUTF8.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.mailbox().is_none_or(Mailbox::is_ascii)
    }
}

impl FromStr for ReversePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "" => Ok(Self::Null),
            text => text.parse().map(Self::Mailbox),
        }
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Mailbox(mailbox) => mailbox.fmt(f),
        }
    }
}

/// Where a message goes: the path of RCPT.
///
/// `Display` and `FromStr` work without angle brackets.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ForwardPath {
    /// An address.
    Mailbox(Mailbox),
    /// `<Postmaster>` without a domain (RFC 5321 §4.1.1.3).
    Postmaster,
}

impl ForwardPath {
    /// The address, unless the path is the bare postmaster.
    #[must_use]
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Mailbox(mailbox) => Some(mailbox),
            Self::Postmaster => None,
        }
    }

    /// Whether the path can go to a server without SMTPUTF8.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.mailbox().is_none_or(Mailbox::is_ascii)
    }
}

impl FromStr for ForwardPath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.eq_ignore_ascii_case(POSTMASTER) {
            return Ok(Self::Postmaster);
        }
        text.parse().map(Self::Mailbox)
    }
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mailbox(mailbox) => mailbox.fmt(f),
            Self::Postmaster => f.write_str(POSTMASTER),
        }
    }
}

const POSTMASTER: &str = "Postmaster";
