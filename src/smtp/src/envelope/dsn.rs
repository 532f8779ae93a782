//! The parameters of DSN (RFC 3461 §4), and their forms for UTF-8 addresses (RFC 6533 §3).

use std::fmt::{self, Write as _};
use std::str::FromStr;

use super::xtext;
use crate::reply::is_hostile;

/// Longest ENVID in characters, as encoded (RFC 3461 §4.4).
const ENVID_MAX: usize = 100;
/// Longest ORCPT in octets, as encoded (RFC 3461 §5.4, RFC 6533 §3). An address has some 320 at most.
const ORCPT_MAX: usize = 500;
/// Longest NOTIFY in characters: all three words and repetitions of one (RFC 3461 §5.4 has 28).
const NOTIFY_MAX: usize = 28;
/// The address type whose addresses are UTF-8 (RFC 6533 §3).
const UTF8: &str = "utf-8";

/// What to return of a message that fails (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Ret {
    /// All of it.
    Full,
    /// The header section.
    Headers,
}

impl Ret {
    pub(crate) fn parse(value: &str) -> Option<Self> {
        match value.to_ascii_uppercase().as_str() {
            "FULL" => Some(Self::Full),
            "HDRS" => Some(Self::Headers),
            _ => None,
        }
    }
}

impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        })
    }
}

/// The sender's name for a message, for its reports (RFC 3461 §4.4): printable ASCII, not empty.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Envid(String);

impl Envid {
    /// From the text itself.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        Self::from_xtext(&xtext::encode(text))
    }

    /// From the value of the parameter.
    #[must_use]
    pub fn from_xtext(value: &str) -> Option<Self> {
        match value.len() {
            1..=ENVID_MAX => xtext::decode(value).map(Self),
            _ => None,
        }
    }

    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of the parameter.
    #[must_use]
    pub fn to_xtext(&self) -> String {
        xtext::encode(&self.0)
    }
}

/// When the sender wants to hear of a recipient (RFC 3461 §4.1).
///
/// `Display` and `FromStr` are the value of the parameter.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Notify(u8);

const SUCCESS: u8 = 1;
const FAILURE: u8 = 2;
const DELAY: u8 = 4;
/// The words and what they set, in the order in which they are written.
const WORDS: [(&str, u8); 3] = [("SUCCESS", SUCCESS), ("FAILURE", FAILURE), ("DELAY", DELAY)];

impl Notify {
    /// Under no circumstances.
    pub const NEVER: Self = Self(0);

    /// Under no circumstances.
    #[must_use]
    pub const fn never(self) -> bool {
        self.0 == 0
    }

    /// When the message is delivered.
    #[must_use]
    pub const fn success(self) -> bool {
        self.0 & SUCCESS != 0
    }

    /// When it cannot be.
    #[must_use]
    pub const fn failure(self) -> bool {
        self.0 & FAILURE != 0
    }

    /// When it takes unusually long.
    #[must_use]
    pub const fn delay(self) -> bool {
        self.0 & DELAY != 0
    }
}

/// The text is not `NEVER` or a list of `SUCCESS`, `FAILURE` and `DELAY`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not NEVER or a list of SUCCESS, FAILURE and DELAY")]
pub struct NotifyError;

impl FromStr for Notify {
    type Err = NotifyError;

    fn from_str(value: &str) -> Result<Self, NotifyError> {
        if value.eq_ignore_ascii_case("NEVER") {
            return Ok(Self::NEVER);
        }
        if value.len() > NOTIFY_MAX {
            return Err(NotifyError);
        }
        value.split(',').try_fold(Self::NEVER, |set, word| {
            let mut known = WORDS.iter();
            let found = known.find(|(known, _)| word.eq_ignore_ascii_case(known));
            found.map(|(_, bit)| Self(set.0 | bit)).ok_or(NotifyError)
        })
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.never() {
            return f.write_str("NEVER");
        }
        let set = WORDS.iter().filter(|(_, bit)| self.0 & bit != 0);
        for (at, (word, _)) in set.enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{word}")?;
        }
        Ok(())
    }
}

/// The address that a sender named first (RFC 3461 §4.2), decoded: `rfc822;user@example.com`.
///
/// The address is printable ASCII, or for the type `utf-8` (RFC 6533) text without controls and without marks that reorder what is shown.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct OriginalRecipient(String);

impl OriginalRecipient {
    /// From the decoded form.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let (kind, address) = text.split_once(';')?;
        let fits = is_kind(kind) && is_address(kind, address);
        let orcpt = Self(text.to_owned());
        (fits && orcpt.to_parameter(Charset::Utf8).is_some()).then_some(orcpt)
    }

    /// From the value of the parameter.
    #[must_use]
    pub fn from_parameter(value: &str) -> Option<Self> {
        let (kind, encoded) = value.split_once(';')?;
        let address = match kind.eq_ignore_ascii_case(UTF8) {
            true => decode_utf8(encoded)?,
            false => xtext::decode(encoded)?,
        };
        Self::new(&format!("{kind};{address}"))
    }

    /// The decoded form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of the parameter, for a transaction with SMTPUTF8 or without; `None` if escapes make it longer than it may be.
    pub(crate) fn to_parameter(&self, charset: Charset) -> Option<String> {
        let (kind, address) = self.0.split_once(';').unwrap_or_default();
        let encoded = match kind.eq_ignore_ascii_case(UTF8) {
            true => encode_utf8(address, charset),
            false => xtext::encode(address),
        };
        let value = format!("{kind};{encoded}");
        (value.len() <= ORCPT_MAX).then_some(value)
    }
}

/// What the parameter of a UTF-8 address may be written in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Charset {
    /// `utf-8-addr-xtext`.
    Ascii,
    /// `utf-8-addr-unitext`: in a transaction with SMTPUTF8.
    Utf8,
}

/// `addr-type`: an atom.
fn is_kind(kind: &str) -> bool {
    let is_atext =
        |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*/?^_`{|}~-".contains(&octet);
    !kind.is_empty() && kind.bytes().all(is_atext)
}

fn is_address(kind: &str, address: &str) -> bool {
    let ascii = |c: char| matches!(c, ' '..='~');
    let utf8 = kind.eq_ignore_ascii_case(UTF8);
    !address.is_empty()
        && address
            .chars()
            .all(|c| ascii(c) || utf8 && is_non_ascii_text(c))
}

/// No more than an address may have, but for spaces.
fn is_non_ascii_text(c: char) -> bool {
    !c.is_ascii() && !is_hostile(c)
}

/// `utf-8-addr-xtext` or `utf-8-addr-unitext`: characters as they are, and `\x{HEX}`.
fn decode_utf8(encoded: &str) -> Option<String> {
    let mut decoded = String::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some(c) = rest.chars().next() {
        let c = match rest.strip_prefix("\\x{") {
            Some(escape) => {
                let (digits, after) = escape.split_once('}')?;
                rest = after;
                scalar(digits)?
            }
            None if is_plain(c) || is_non_ascii_text(c) => {
                rest = &rest[c.len_utf8()..];
                c
            }
            None => return None,
        };
        decoded.push(c);
    }
    Some(decoded)
}

/// `HEXPOINT`: two to six upper-case digits without needless zeros, and a character that is none of those that may stand for themselves.
fn scalar(digits: &str) -> Option<char> {
    let upper = |octet: u8| matches!(octet, b'0'..=b'9' | b'A'..=b'F');
    let well_formed = (2..=6).contains(&digits.len()) && digits.bytes().all(upper);
    let shortest = digits.len() == 2 || !digits.starts_with('0');
    let number = u32::from_str_radix(digits, 16).ok()?;
    let c = char::from_u32(number).filter(|c| !is_plain(*c))?;
    (well_formed && shortest).then_some(c)
}

fn encode_utf8(address: &str, charset: Charset) -> String {
    let mut encoded = String::with_capacity(address.len());
    for c in address.chars() {
        if is_plain(c) || charset == Charset::Utf8 && !c.is_ascii() {
            encoded.push(c);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "\\x{{{:02X}}}", u32::from(c));
        }
    }
    encoded
}

/// `QCHAR`: printable ASCII less `+`, `=` and the backslash.
fn is_plain(c: char) -> bool {
    matches!(c, '!'..='~') && !matches!(c, '+' | '=' | '\\')
}
