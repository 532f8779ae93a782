//! Lines that end with CRLF and nothing else.

use bytes::Bytes;
use memchr::{memchr2, memchr2_iter};

use super::CRLF;

/// Makes content canonical that comes with its length, not with an end: each bare CR or LF becomes CRLF.
#[derive(Debug, Default)]
pub struct Canonicalizer {
    at: At,
}

/// What has been handed on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum At {
    /// Nothing, or a CRLF last.
    #[default]
    LineStart,
    Text,
    /// A CR has come and is not handed on yet.
    Cr,
}

impl Canonicalizer {
    /// Hands the octets of `input` to `sink` in as few runs as possible.
    pub fn convert(&mut self, input: &[u8], sink: &mut impl FnMut(&[u8])) {
        // Octets from `run` to `next` are looked at and not handed on yet.
        let (mut run, mut next) = (0, 0);
        if self.at == At::Cr && !input.is_empty() {
            sink(CRLF);
            self.at = At::LineStart;
            run = usize::from(input[0] == b'\n');
            next = run;
        }
        while let Some(offset) = memchr2(b'\r', b'\n', &input[next..]) {
            let newline = next + offset;
            next = newline + 1;
            match (input[newline], input.get(next)) {
                (b'\r', Some(b'\n')) => {
                    next += 1;
                    self.at = At::LineStart;
                    continue;
                }
                (b'\r', None) => self.at = At::Cr,
                (_, _) => self.at = At::LineStart,
            }
            sink(&input[run..newline]);
            if self.at == At::LineStart {
                sink(CRLF);
            }
            run = next;
        }
        if next < input.len() {
            self.at = At::Text;
        }
        sink(&input[run..]);
    }

    /// The content is over: its last line gets the newline that it may lack.
    pub fn finish(self, sink: &mut impl FnMut(&[u8])) {
        match self.at {
            At::LineStart => {}
            At::Text | At::Cr => sink(CRLF),
        }
    }
}

/// Whether every CR in the concatenated chunks is followed by LF and every LF preceded by CR.
#[must_use]
pub fn is_canonical(content: &[Bytes]) -> bool {
    let mut after_cr = false;
    for chunk in content.iter().filter(|chunk| !chunk.is_empty()) {
        // A CR may wait for an LF only at the very end of the chunk before.
        let mut expected = after_cr.then_some(0);
        after_cr = false;
        for at in memchr2_iter(b'\r', b'\n', chunk) {
            match (chunk[at], expected) {
                (b'\n', Some(wanted)) if wanted == at => expected = None,
                (b'\r', None) => expected = Some(at + 1),
                _ => return false,
            }
        }
        match expected {
            None => {}
            Some(wanted) if wanted == chunk.len() => after_cr = true,
            Some(_) => return false,
        }
    }
    !after_cr
}
