//! Replies (RFC 5321 §4.2) and enhanced status codes (RFC 3463, RFC 2034).
//!
//! One type serves both directions: the server session encodes replies, the client session parses
//! them, and both put them in logs, outcomes and bounces. Text is cleaned on construction: no control
//! character survives, so neither an injected line nor a terminal escape can come out again.

mod parse;
#[cfg(test)]
mod tests;

use std::fmt::{self, Write as _};
use std::str::FromStr;

use bytes::{BufMut, BytesMut};

pub(crate) use parse::{ReplyError, ReplyReader};

/// Longest reply line that is sent, in octets with code and CRLF (RFC 5321 §4.5.3.1.5).
pub const LINE_MAX: usize = 512;
/// Most text that one reply keeps, in octets. Replies of large providers with their links stay under
/// 1 KiB, EHLO under 2 KiB; 8 KiB for each of a thousand recipients is 8 MiB.
pub const TEXT_MAX: usize = 8 << 10;
/// Longest one-line form, in octets: what status, logs and bounces show of a reply.
pub const DISPLAY_MAX: usize = 1024;

/// `class.subject.detail` of RFC 3463.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct EnhancedStatus {
    /// 2 (success), 4 (transient) or 5 (permanent).
    pub class: u8,
    /// What the status is about, 0 to 999.
    pub subject: u16,
    /// The detail, 0 to 999.
    pub detail: u16,
}

impl EnhancedStatus {
    /// A status from its three numbers.
    #[must_use]
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self {
            class,
            subject,
            detail,
        }
    }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// The text is not of the form `class.subject.detail`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an enhanced status code like 5.7.1")]
pub struct StatusError;

impl FromStr for EnhancedStatus {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, StatusError> {
        let mut parts = text.split('.');
        let class = match parts.next() {
            Some("2") => 2,
            Some("4") => 4,
            Some("5") => 5,
            _ => return Err(StatusError),
        };
        let mut number = || {
            let digits = parts.next().filter(|digits| {
                (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
            });
            digits
                .and_then(|digits| digits.parse().ok())
                .ok_or(StatusError)
        };
        let status = Self::new(class, number()?, number()?);
        match parts.next() {
            None => Ok(status),
            Some(_) => Err(StatusError),
        }
    }
}

/// A reply: code, enhanced status if there is one, and at least one line of text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    code: u16,
    status: Option<EnhancedStatus>,
    lines: Vec<String>,
}

impl Reply {
    /// A reply from its parts. `text` may hold `\n` for several lines.
    ///
    /// A code outside 200 to 599 is brought into that range, control characters become `?`, text past
    /// [`TEXT_MAX`] is cut.
    pub fn new(
        code: u16,
        status: impl Into<Option<EnhancedStatus>>,
        text: impl Into<String>,
    ) -> Self {
        let text = text.into();
        let text = cut(&text, TEXT_MAX);
        Self {
            code: code.clamp(200, 599),
            status: status.into(),
            lines: text.split('\n').map(clean).collect(),
        }
    }

    /// The three-digit code.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status, if the reply carries one.
    #[must_use]
    pub fn status(&self) -> Option<EnhancedStatus> {
        self.status
    }

    /// The text without codes; never empty, though its one line may be.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// 4yz: trying again later may work.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        (400..500).contains(&self.code)
    }

    /// 5yz: trying again will not work.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    /// Appends the reply as it goes on the wire, one line or several, each at most [`LINE_MAX`].
    ///
    /// Non-ASCII text becomes `?`: the peer has not always agreed to UTF-8 (RFC 6531 §3.7.4).
    pub fn encode(&self, output: &mut BytesMut) {
        let status = self.status.map(|s| format!("{s} ")).unwrap_or_default();
        let room = LINE_MAX - "250-".len() - status.len() - "\r\n".len();
        let mut pieces = self.lines.iter().flat_map(|l| wrap(l, room)).peekable();
        while let Some(piece) = pieces.next() {
            let mark = if pieces.peek().is_some() { '-' } else { ' ' };
            // Buffers take whatever is written to them.
            let _ = write!(output, "{}{mark}{status}", self.code);
            match piece.is_ascii() {
                true => output.put_slice(piece.as_bytes()),
                false => output.extend(piece.bytes().map(|b| if b.is_ascii() { b } else { b'?' })),
            }
            output.put_slice(b"\r\n");
        }
    }
}

/// One line for logs and bounces: `550 5.7.1 text`, at most [`DISPLAY_MAX`] octets.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Bounded {
            out: f,
            left: DISPLAY_MAX,
        };
        write!(out, "{}", self.code)?;
        if let Some(status) = self.status {
            write!(out, " {status}")?;
        }
        for line in self.lines.iter().filter(|line| !line.is_empty()) {
            out.write_str(" ")?;
            out.write_str(line)?;
        }
        Ok(())
    }
}

/// Writes so many octets and passes over the rest. A reply is shown for each recipient: nothing is put together first.
struct Bounded<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    left: usize,
}

impl fmt::Write for Bounded<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let piece = cut(text, self.left);
        // Behind a character that was cut off nothing follows.
        self.left = match piece.len() == text.len() {
            true => self.left - piece.len(),
            false => 0,
        };
        self.out.write_str(piece)
    }
}

fn clean(line: &str) -> String {
    if line.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        return line.to_owned();
    }
    line.trim_end_matches('\r')
        .chars()
        .map(|c| if is_hostile(c) { '?' } else { c })
        .collect()
}

/// Controls, the Unicode line breaks, and the marks that reorder text on a screen.
pub(crate) fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{061c}' | '\u{200e}' | '\u{200f}'
        )
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The longest prefix of at most `max` octets that ends between characters.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// Pieces of at most `room` octets; one empty piece for an empty line.
fn wrap(line: &str, room: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let piece = cut(line, room);
        rest = Some(&line[piece.len()..]).filter(|left| !left.is_empty());
        Some(piece)
    })
}
