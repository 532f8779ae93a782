//! From the wire: finds the end, removes stuffed dots, makes newlines canonical.
//!
//! Only CRLF.CRLF ends the content; the CRLF of the DATA line counts as the first of the two (RFC 5321
//! §4.1.1.4). A bare CR or LF is content: it becomes CRLF, but it does not begin a line in the sense of
//! dot-stuffing, so a dot behind it is neither an end nor removed. When the content is sent on, that
//! dot begins a real line and is stuffed.

use memchr::memchr2;

use super::CRLF;

/// Where the decoder stands between two reads. Only these few bits are kept.
#[derive(Clone, Copy, Debug, Default)]
enum At {
    /// Behind a CRLF.
    #[default]
    LineStart,
    /// Behind a dot at the start of a line, which is not handed on.
    Dot,
    /// Behind `.` CR at the start of a line; neither is handed on yet.
    DotCr,
    /// Within a line, or behind a bare newline.
    Text,
    /// Behind a CR that is not handed on yet.
    Cr,
}

/// Turns stuffed content into canonical content, octet runs at a time.
#[derive(Debug, Default)]
pub struct Decoder {
    at: At,
}

/// How far a call of [`Decoder::decode`] came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decoded {
    /// All input taken, the content goes on.
    More,
    /// The content ended; this many octets of the input belong to it.
    End(usize),
}

impl Decoder {
    /// Hands the decoded octets of `input` to `sink` in as few runs as possible.
    ///
    /// Every octet is looked at once, and a run of ordinary lines goes out as one slice.
    pub fn decode(&mut self, input: &[u8], sink: &mut impl FnMut(&[u8])) -> Decoded {
        // Octets from `run` to `next` are looked at and not handed on yet.
        let (mut run, mut next) = (0, 0);
        while let Some(&octet) = input.get(next) {
            match (self.at, octet) {
                (At::LineStart, b'.') => {
                    sink(&input[run..next]);
                    next += 1;
                    run = next;
                    self.at = At::Dot;
                }
                (At::Dot, b'\r') => {
                    next += 1;
                    run = next;
                    self.at = At::DotCr;
                }
                (At::DotCr, b'\n') => return Decoded::End(next + 1),
                (At::Cr, b'\n') => {
                    sink(CRLF);
                    next += 1;
                    run = next;
                    self.at = At::LineStart;
                }
                (At::Cr | At::DotCr, _) => {
                    sink(CRLF);
                    self.at = At::Text;
                }
                (At::LineStart | At::Dot | At::Text, _) => {
                    (run, next) = self.text(input, run, next, sink);
                }
            }
        }
        sink(&input[run..next]);
        Decoded::More
    }

    /// Goes on to the next newline; gives the new `run` and `next`.
    fn text(
        &mut self,
        input: &[u8],
        run: usize,
        next: usize,
        sink: &mut impl FnMut(&[u8]),
    ) -> (usize, usize) {
        self.at = At::Text;
        let Some(offset) = memchr2(b'\r', b'\n', &input[next..]) else {
            return (run, input.len());
        };
        let newline = next + offset;
        match (input[newline], input.get(newline + 1)) {
            (b'\r', Some(b'\n')) => {
                self.at = At::LineStart;
                return (run, newline + CRLF.len());
            }
            (b'\r', None) => {
                self.at = At::Cr;
                sink(&input[run..newline]);
            }
            (_, _) => {
                sink(&input[run..newline]);
                sink(CRLF);
            }
        }
        (newline + 1, newline + 1)
    }
}
