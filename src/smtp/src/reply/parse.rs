//! Replies off the wire: strict, bounded, and independent of how the bytes were split.

use bytes::BytesMut;

use super::{EnhancedStatus, Reply, TEXT_MAX, clean, cut};
use crate::line::{Line, LineReader};

/// Longest line that is read. RFC 5321 allows 512 octets; servers are known to exceed it.
const LINE_READ_MAX: usize = 8 << 10;
/// Most lines of one reply. The longest EHLO replies known have about 25.
const LINES_READ_MAX: usize = 100;

/// Why bytes are no reply. After any of these the stream cannot be trusted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ReplyError {
    #[error("a reply line has a CR or LF that is not part of CRLF")]
    BareNewline,
    #[error("a reply line is longer than {LINE_READ_MAX} octets")]
    LineTooLong,
    #[error("a reply has more than {LINES_READ_MAX} lines")]
    TooManyLines,
    #[error("a reply line does not begin with a code from 200 to 599")]
    Code,
    #[error("the lines of a reply have different codes")]
    CodeChanged,
}

/// Collects the lines of one reply after the other.
#[derive(Debug, Default)]
pub(crate) struct ReplyReader {
    reader: LineReader,
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    code: u16,
    seen: usize,
    kept: usize,
    lines: Vec<String>,
}

impl ReplyReader {
    /// The next reply, or `None` if `input` does not hold all of it.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Reply>, ReplyError> {
        while let Some(line) = self.reader.next(input, LINE_READ_MAX) {
            let line = match line {
                Line::Complete(line) => line,
                Line::BareNewline(_) => return Err(ReplyError::BareNewline),
                Line::TooLong(_) => return Err(ReplyError::LineTooLong),
            };
            let (code, last, text) = split(&line)?;
            let partial = self.partial.get_or_insert(Partial {
                code,
                seen: 0,
                kept: 0,
                lines: Vec::new(),
            });
            partial.add(code, text)?;
            if last && let Some(partial) = self.partial.take() {
                return Ok(Some(partial.finish()));
            }
        }
        Ok(None)
    }
}

impl Partial {
    fn add(&mut self, code: u16, text: &[u8]) -> Result<(), ReplyError> {
        if code != self.code {
            return Err(ReplyError::CodeChanged);
        }
        self.seen += 1;
        if self.seen > LINES_READ_MAX {
            return Err(ReplyError::TooManyLines);
        }
        let text = String::from_utf8_lossy(text);
        let text = cut(&text, TEXT_MAX - self.kept);
        // The first line always stays, so that a reply has one.
        if !text.is_empty() || self.lines.is_empty() {
            self.kept += text.len();
            self.lines.push(clean(text));
        }
        Ok(())
    }

    /// Takes the enhanced status off the front of every line that carries it (RFC 2034 §4).
    fn finish(self) -> Reply {
        let status = self.lines.first().and_then(|line| {
            let status: EnhancedStatus = line.split(' ').next()?.parse().ok()?;
            (u16::from(status.class) == self.code / 100).then_some(status)
        });
        let Some(shown) = status.map(|status| status.to_string()) else {
            return Reply {
                code: self.code,
                status,
                lines: self.lines,
            };
        };
        let lines = self.lines.iter().map(|line| {
            line.strip_prefix(shown.as_str())
                .filter(|rest| rest.is_empty() || rest.starts_with(' '))
                .map_or(line.as_str(), str::trim_start)
                .to_owned()
        });
        Reply {
            code: self.code,
            status,
            lines: lines.collect(),
        }
    }
}

/// `Reply-code [ "-" / SP ] [ textstring ]`: the code, whether it is the last line, and the text.
fn split(line: &[u8]) -> Result<(u16, bool, &[u8]), ReplyError> {
    let (digits, rest) = line.split_at_checked(3).ok_or(ReplyError::Code)?;
    if !matches!(digits[0], b'2'..=b'5') || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ReplyError::Code);
    }
    let code = digits
        .iter()
        .fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match rest.split_first() {
        None => Ok((code, true, rest)),
        Some((b' ', text)) => Ok((code, true, text)),
        Some((b'-', text)) => Ok((code, false, text)),
        Some(_) => Err(ReplyError::Code),
    }
}
