//! The third part: the message that the report is about, or its headers (RFC 6522 §3).

use bytes::Bytes;
use memchr::memmem;

use super::{HEADERS_MAX, Kind, Report, Returned, WHOLE_MAX};
use crate::convert::{self, Width};
use crate::encode;
use crate::inspect;

/// The part with its headers, up to the line break before the boundary.
pub(super) struct Original {
    pub(super) octets: Vec<u8>,
    pub(super) width: Width,
    pub(super) holds: Holds,
}

/// How much there is of the message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Holds {
    Nothing,
    Headers,
    Message,
}

/// Writes the part, if there is to be one. Nothing in it looks like the boundary.
pub(super) fn part(report: &Report, boundary: &str) -> Option<Original> {
    let has_failed = report.recipients.iter().any(|one| one.kind == Kind::Failed);
    let whole = match report.returned {
        Returned::Nothing => return None,
        Returned::Whole if has_failed => whole(&report.message, boundary),
        Returned::Whole | Returned::Headers => None,
    };
    Some(whole.unwrap_or_else(|| headers(&report.message, boundary)))
}

/// The whole message if it is small and sure to arrive.
fn whole(pieces: &[Bytes], boundary: &str) -> Option<Original> {
    let length: usize = pieces.iter().map(Bytes::len).sum();
    if length == 0 || length > WHOLE_MAX {
        return None;
    }
    let message = pieces.concat();
    let is_free = memmem::find(&message, boundary.as_bytes()).is_none();
    let has_utf8_header = {
        let section = inspect::section(&message);
        !section.is_ascii() && std::str::from_utf8(section).is_ok()
    };
    let (head, octets, width) = if Width::SevenBit.fits(&message) && is_free {
        (
            "Content-Type: message/rfc822\r\n\r\n",
            message,
            Width::SevenBit,
        )
    } else if has_utf8_header && Width::EightBit.fits(&message) {
        // Unlike message/rfc822 it may be encoded (RFC 6532 §3.7), and so gets through everywhere.
        let mut octets = Vec::new();
        encode::base64(&mut octets, &message);
        let head = "Content-Type: message/global\r\nContent-Transfer-Encoding: base64\r\n\r\n";
        (head, octets, Width::SevenBit)
    } else if Width::EightBit.fits(&message)
        && is_free
        && convert::convert(&message, Width::SevenBit).is_ok()
    {
        let head = "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n";
        (head, message, Width::EightBit)
    } else {
        return None;
    };
    Some(original(head, &octets, width, Holds::Message))
}

fn headers(pieces: &[Bytes], boundary: &str) -> Original {
    let content = beginning(pieces);
    let headers = inspect::section(&content);
    let is_free = memmem::find(headers, boundary.as_bytes()).is_none();
    if Width::SevenBit.fits(headers) && is_free {
        let head = "Content-Type: text/rfc822-headers\r\n\r\n";
        return original(head, headers, Width::SevenBit, Holds::Headers);
    }
    let head =
        "Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n";
    let mut octets = Vec::new();
    // Every `=` is encoded, so the boundary, which begins with one, cannot occur.
    encode::quoted_printable(&mut octets, headers);
    original(head, &octets, Width::SevenBit, Holds::Headers)
}

fn original(head: &str, octets: &[u8], width: Width, holds: Holds) -> Original {
    let mut octets = [head.as_bytes(), octets].concat();
    if !octets.ends_with(b"\r\n") {
        octets.extend_from_slice(b"\r\n");
    }
    Original {
        octets,
        width,
        holds,
    }
}

/// As much of the message as headers may have.
fn beginning(pieces: &[Bytes]) -> Vec<u8> {
    let mut content = Vec::new();
    for piece in pieces {
        let room = HEADERS_MAX - content.len();
        content.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    content
}
