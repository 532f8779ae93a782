//! To the wire: a bounded piece at a time, with what its framing asks for.

use std::vec;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use memchr::memmem;

use super::CRLF;

/// Content on its way out.
#[derive(Debug)]
pub struct Encoder {
    rest: vec::IntoIter<Bytes>,
    current: Bytes,
    framing: Framing,
    line: LineState,
}

/// How the other side knows where the content ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// By a lone dot: dots at the start of a line are doubled. The content must be [canonical](super::is_canonical).
    Dots,
    /// By its length, told before. A missing CRLF at the end is added; the content must be canonical.
    Lines,
    /// By its length, told before. Goes out as it is.
    Octets,
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
pub enum Written {
    /// There is more to write.
    Part,
    /// The last octets are in the output.
    All,
}

impl Encoder {
    /// An encoder of the chunks in order.
    #[must_use]
    pub fn new(content: Vec<Bytes>, framing: Framing) -> Self {
        Self {
            rest: content.into_iter(),
            current: Bytes::new(),
            framing,
            line: LineState::Start,
        }
    }

    /// Appends about `budget` octets of content to `output`; after the last of them what ends it.
    pub fn write(&mut self, output: &mut BytesMut, budget: usize) -> Written {
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
            self.put(piece, output);
            self.current.advance(piece);
            left -= piece;
        }
        Written::Part
    }

    fn put(&mut self, piece: usize, output: &mut BytesMut) {
        let piece = &self.current[..piece];
        let Some(last) = piece.last() else {
            return;
        };
        match self.framing {
            Framing::Dots => stuff(piece, self.line, output),
            Framing::Lines | Framing::Octets => output.put_slice(piece),
        }
        self.line = match last {
            b'\n' => LineState::Start,
            b'\r' => LineState::Cr,
            _ => LineState::Within,
        };
    }

    fn finish(&self, output: &mut BytesMut) {
        if self.line != LineState::Start && self.framing != Framing::Octets {
            output.put_slice(CRLF);
        }
        if self.framing == Framing::Dots {
            output.put_slice(b".\r\n");
        }
    }
}

/// Copies a piece, doubling each dot that begins a line.
fn stuff(piece: &[u8], line: LineState, output: &mut BytesMut) {
    output.reserve(piece.len());
    if line == LineState::Start && piece.first() == Some(&b'.') {
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
}
