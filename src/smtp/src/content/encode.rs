//! To the wire: stuffs dots and writes the end, a bounded piece at a time.

use std::vec;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use memchr::{memchr2_iter, memmem};

use super::CRLF;

/// Canonical content on its way out.
#[derive(Debug)]
pub(crate) struct Encoder {
    rest: vec::IntoIter<Bytes>,
    current: Bytes,
    line: LineState,
}

/// What the octets written so far end with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LineState {
    Start,
    Within,
    /// Behind CR, when a chunk ends between CR and LF.
    Cr,
}

/// What a call of [`Encoder::write`] achieved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Written {
    /// There is more to write.
    Part,
    /// The last octets, the lone dot among them, are in the output.
    All,
}

impl Encoder {
    /// An encoder of the chunks in order. They must be [canonical](is_canonical) together.
    pub(crate) fn new(content: Vec<Bytes>) -> Self {
        Self {
            rest: content.into_iter(),
            current: Bytes::new(),
            line: LineState::Start,
        }
    }

    /// Appends about `budget` octets of stuffed content to `output`; after the last of them the
    /// CRLF that may be missing, and the lone dot.
    pub(crate) fn write(&mut self, output: &mut BytesMut, budget: usize) -> Written {
        let mut left = budget;
        while left > 0 {
            if self.current.is_empty() {
                match self.rest.next() {
                    Some(chunk) => self.current = chunk,
                    None => {
                        self.finish(output);
                        return Written::All;
                    }
                }
            }
            let piece = self.current.len().min(left);
            self.line = stuff(&self.current[..piece], self.line, output);
            self.current.advance(piece);
            left -= piece;
        }
        Written::Part
    }

    fn finish(&self, output: &mut BytesMut) {
        if self.line != LineState::Start {
            output.put_slice(CRLF);
        }
        output.put_slice(b".\r\n");
    }
}

/// Copies a piece, doubling each dot that begins a line; gives the state behind it.
fn stuff(piece: &[u8], line: LineState, output: &mut BytesMut) -> LineState {
    let (Some(first), Some(last)) = (piece.first(), piece.last()) else {
        return line;
    };
    output.reserve(piece.len());
    if line == LineState::Start && *first == b'.' {
        output.put_u8(b'.');
    }
    let mut copied = 0;
    // Canonical content has LF only behind CR, so LF alone tells the start of a line.
    for at in memmem::find_iter(piece, b"\n.") {
        output.put_slice(&piece[copied..=at]);
        output.put_u8(b'.');
        copied = at + 1;
    }
    output.put_slice(&piece[copied..]);
    match last {
        b'\n' => LineState::Start,
        b'\r' => LineState::Cr,
        _ => LineState::Within,
    }
}

/// Whether every CR in the concatenated chunks is followed by LF and every LF preceded by CR.
pub(crate) fn is_canonical(content: &[Bytes]) -> bool {
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
