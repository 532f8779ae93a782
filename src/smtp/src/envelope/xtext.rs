//! xtext (RFC 3461 §4): printable ASCII without spaces, with `+` and two digits for everything else.

use std::fmt::Write as _;

/// What the text stands for, if it is well formed and stands for printable ASCII.
///
/// xtext could carry any octet; what we decode goes into reports and commands, where no control
/// character may come.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        let octet = match octet {
            b'+' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            b'=' => return None,
            b'!'..=b'~' => octet,
            _ => return None,
        };
        if !matches!(octet, b' '..=b'~') {
            return None;
        }
        decoded.push(char::from(octet));
    }
    Some(decoded)
}

/// The way to write a text of printable ASCII.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'!'..=b'~' if !matches!(octet, b'+' | b'=') => encoded.push(char::from(octet)),
            _ => push_hex(&mut encoded, octet),
        }
    }
    encoded
}

fn push_hex(encoded: &mut String, octet: u8) {
    // Writing to a string cannot fail.
    let _ = write!(encoded, "+{octet:02X}");
}

/// RFC 3461 §4 has upper-case digits only.
fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
