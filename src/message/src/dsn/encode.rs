//! Encodings that keep the report ASCII.

use std::fmt::Write as _;

use memchr::memmem;

use crate::text;

/// Longest line of any message in octets, without CRLF (RFC 5322 §2.1.1).
const LINE_MAX: usize = 998;
/// Longest line in quoted-printable in octets, without CRLF (RFC 2045 §6.7).
const QUOTED_LINE_MAX: usize = 76;

/// `rfc822; address`, or `utf-8; escaped` for what is not ASCII (RFC 6533 §3).
pub(super) fn typed_address(address: &str, max: usize) -> String {
    if address.is_ascii() {
        return format!("rfc822; {}", text::ascii(address, max));
    }
    let mut out = String::from("utf-8; ");
    for c in address.chars() {
        let before = out.len();
        match c {
            // These three introduce escapes in `utf-8-addr-xtext` and must be escaped themselves.
            '\\' | '+' | '=' => text::escape(&mut out, c),
            '!'..='~' => out.push(c),
            c => text::escape(&mut out, c),
        }
        if out.len() > max {
            out.truncate(before);
            break;
        }
    }
    out
}

/// The whole lines among the first `max` octets.
pub(super) fn whole_lines(headers: &[u8], max: usize) -> &[u8] {
    if headers.len() <= max {
        return headers;
    }
    let end = memmem::rfind(&headers[..max], b"\r\n").map_or(0, |at| at + 2);
    &headers[..end]
}

/// The headers if they can stand in the report unencoded: ASCII, canonical, no endless line, no NUL, and nothing
/// that looks like the boundary.
pub(super) fn as_it_is<'a>(headers: &'a [u8], boundary: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(headers).ok()?;
    let plain = text.is_ascii()
        && !text.contains(boundary)
        && text
            .split("\r\n")
            .all(|line| line.len() <= LINE_MAX && !line.contains(['\r', '\n', '\0']));
    plain.then_some(text)
}

/// Quoted-printable (RFC 2045 §6.7). Every `=` is encoded, so the boundary, which begins with one, cannot occur.
pub(super) fn quoted_printable(out: &mut String, octets: &[u8]) {
    let mut rest = octets;
    while !rest.is_empty() {
        let end = memmem::find(rest, b"\r\n").unwrap_or(rest.len());
        quote_line(out, &rest[..end]);
        out.push_str("\r\n");
        rest = rest.get(end + 2..).unwrap_or_default();
    }
}

fn quote_line(out: &mut String, line: &[u8]) {
    let mut column = 0;
    for (at, octet) in line.iter().enumerate() {
        // Room for the longest encoding and the `=` of a soft break.
        if column + 3 > QUOTED_LINE_MAX - 1 {
            out.push_str("=\r\n");
            column = 0;
        }
        let last = at + 1 == line.len();
        match octet {
            b' ' | b'\t' if !last => {
                out.push(char::from(*octet));
                column += 1;
            }
            b'!'..=b'<' | b'>'..=b'~' => {
                out.push(char::from(*octet));
                column += 1;
            }
            octet => {
                let _ = write!(out, "={octet:02X}");
                column += 3;
            }
        }
    }
}
