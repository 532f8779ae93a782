//! Lines out of a byte stream: bounded, and ended by CRLF only.
//!
//! A CR without LF or an LF without CR makes a *bad line*. It is reported as soon as it is seen, and
//! everything up to the next CRLF belongs to it and is skipped. So one bad line gives one error, and
//! what stands behind a bare newline is never taken for a command: a front end that counts lines
//! differently cannot be used to smuggle one in. A line that is too long is treated the same way.
//!
//! What is reported depends on the bytes alone, never on how they were split into reads.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr2, memmem};

const CRLF: &[u8] = b"\r\n";

/// What stood on the wire.
#[derive(Debug, Eq, PartialEq)]
pub enum Line {
    /// A line without its CRLF; holds neither CR nor LF.
    Complete(Bytes),
    /// A bare CR or LF, the last of these octets; the rest is skipped through the next CRLF.
    BareNewline(Bytes),
    /// More octets than allowed, which are these; the rest is skipped through the next CRLF.
    TooLong(Bytes),
}

/// Takes lines from the front of a buffer.
#[derive(Debug, Default)]
pub struct LineReader {
    /// Octets at the front of the buffer known to hold no newline: no octet is looked at twice.
    scanned: usize,
    skipping: Option<Skip>,
}

#[derive(Debug)]
struct Skip {
    after_cr: bool,
}

impl LineReader {
    /// The next line, or `None` if `input` does not hold enough.
    ///
    /// `max` counts the CRLF. While a line is incomplete `input` keeps at most `max` octets of it.
    pub fn next(&mut self, input: &mut BytesMut, max: usize) -> Option<Line> {
        self.skip(input)?;
        // Within this window the line must show its CR.
        let window = input.len().min(max - 1);
        match memchr2(b'\r', b'\n', &input[self.scanned..window]) {
            Some(offset) => self.newline(input, self.scanned + offset),
            None if window == max - 1 => Some(Line::TooLong(self.bad(input, window))),
            None => {
                self.scanned = window;
                None
            }
        }
    }

    /// Whether the next octet of `input` begins a line; drops what is left of a bad one before it.
    pub fn at_start(&mut self, input: &mut BytesMut) -> bool {
        self.skip(input).is_some() && self.scanned == 0
    }

    /// Forgets a line of which only a part has been seen.
    fn reset(&mut self) {
        *self = Self::default();
    }

    fn newline(&mut self, input: &mut BytesMut, at: usize) -> Option<Line> {
        self.scanned = at;
        if input[at] == b'\r' {
            match input.get(at + 1) {
                None => return None,
                Some(b'\n') => {
                    let line = input.split_to(at).freeze();
                    input.advance(CRLF.len());
                    self.reset();
                    return Some(Line::Complete(line));
                }
                Some(_) => {}
            }
        }
        Some(Line::BareNewline(self.bad(input, at + 1)))
    }

    fn bad(&mut self, input: &mut BytesMut, through: usize) -> Bytes {
        self.scanned = 0;
        self.skipping = Some(Skip { after_cr: false });
        input.split_to(through).freeze()
    }

    /// Drops the rest of a bad line; `None` if more of it has to come.
    fn skip(&mut self, input: &mut BytesMut) -> Option<()> {
        let Some(Skip { after_cr }) = self.skipping else {
            return Some(());
        };
        let end = if after_cr && input.first() == Some(&b'\n') {
            Some(1)
        } else {
            memmem::find(input, CRLF).map(|at| at + CRLF.len())
        };
        if let Some(end) = end {
            input.advance(end);
            self.skipping = None;
            return Some(());
        }
        let after_cr = input.last().map_or(after_cr, |last| *last == b'\r');
        self.skipping = Some(Skip { after_cr });
        input.clear();
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 8;

    fn read(pieces: &[&[u8]]) -> Vec<Line> {
        let mut reader = LineReader::default();
        let mut input = BytesMut::new();
        let mut lines = Vec::new();
        for piece in pieces {
            input.extend_from_slice(piece);
            while let Some(line) = reader.next(&mut input, MAX) {
                lines.push(line);
            }
            assert!(input.len() < MAX, "a partial line is bounded");
        }
        lines
    }

    fn complete(text: &'static str) -> Line {
        Line::Complete(Bytes::from_static(text.as_bytes()))
    }

    fn bare(text: &'static str) -> Line {
        Line::BareNewline(Bytes::from_static(text.as_bytes()))
    }

    fn too_long(text: &'static str) -> Line {
        Line::TooLong(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn lines_come_out_the_same_however_they_are_split() {
        let cases: &[(&[u8], Vec<Line>)] = &[
            (
                b"a\r\n\r\nbc\r\n",
                vec![complete("a"), complete(""), complete("bc")],
            ),
            (b"123456\r\n", vec![complete("123456")]),
            (
                b"1234567\r\nok\r\n",
                vec![too_long("1234567"), complete("ok")],
            ),
            (
                b"12345678901234567890\r\nok\r\n",
                vec![too_long("1234567"), complete("ok")],
            ),
            (
                b"123456789\nno\r\nok\r\n",
                vec![too_long("1234567"), complete("ok")],
            ),
            (
                b"1234567\nno\r\nok\r\n",
                vec![too_long("1234567"), complete("ok")],
            ),
            (b"a\nb\r\nok\r\n", vec![bare("a\n"), complete("ok")]),
            (b"a\rb\r\nok\r\n", vec![bare("a\r"), complete("ok")]),
            (b"a\r\r\nok\r\n", vec![bare("a\r"), complete("ok")]),
            (b"a\n\r\nok\r\n", vec![bare("a\n"), complete("ok")]),
            (b"a\nb\nc\rd\r\r\nok\r\n", vec![bare("a\n"), complete("ok")]),
            (b"\n", vec![bare("\n")]),
            (b"ab\r", vec![]),
        ];
        for (bytes, expected) in cases {
            let shown = String::from_utf8_lossy(bytes);
            assert_eq!(&read(&[bytes]), expected, "whole: {shown:?}");
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(&read(&single), expected, "by octet: {shown:?}");
            for at in 0..bytes.len() {
                let (head, tail) = bytes.split_at(at);
                assert_eq!(&read(&[head, tail]), expected, "at {at}: {shown:?}");
            }
        }
    }
}
