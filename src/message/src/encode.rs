//! The encodings of RFC 2045, and what needs them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::{memchr, memmem};

/// Longest line of any message in octets, without CRLF (RFC 5322 §2.1.1).
pub(crate) const LINE_MAX: usize = 998;
/// Longest line of an encoding in octets, without CRLF (RFC 2045 §6.7, §6.8).
const ENCODED_LINE_MAX: usize = 76;
/// Octets that make one full line of base64.
const BASE64_LINE_OCTETS: usize = ENCODED_LINE_MAX / 4 * 3;

/// What octets are on a line (RFC 2045 §2.7 to §2.9); each kind includes those before it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Form {
    /// ASCII in lines.
    SevenBit,
    /// Octets in lines.
    EightBit,
    /// Octets, and lines that are too long.
    EndlessLines,
    /// Anything: NUL, CR or LF alone.
    Binary,
}

/// The narrowest form that fits.
pub(crate) fn form(octets: &[u8]) -> Form {
    let mut form = match octets.is_ascii() {
        true => Form::SevenBit,
        false => Form::EightBit,
    };
    if memchr(0, octets).is_some() {
        return Form::Binary;
    }
    let mut rest = octets;
    while !rest.is_empty() {
        let end = memmem::find(rest, b"\r\n").unwrap_or(rest.len());
        if memchr::memchr2(b'\r', b'\n', &rest[..end]).is_some() {
            return Form::Binary;
        }
        if end > LINE_MAX {
            form = Form::EndlessLines;
        }
        rest = rest.get(end + 2..).unwrap_or_default();
    }
    form
}

/// Quoted-printable (RFC 2045 §6.7). CRLF stays a line break, so that nothing is added at the end.
///
/// Neither `=` nor a hyphen at the beginning of a line comes out as it is: no line can be taken for a boundary.
pub(crate) fn quoted_printable(out: &mut Vec<u8>, octets: &[u8]) {
    let mut rest = octets;
    while let Some(end) = memmem::find(rest, b"\r\n") {
        quote_line(out, &rest[..end]);
        out.extend_from_slice(b"\r\n");
        rest = &rest[end + 2..];
    }
    quote_line(out, rest);
}

fn quote_line(out: &mut Vec<u8>, line: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut column = 0;
    for (at, &octet) in line.iter().enumerate() {
        // Room for the longest encoding and the `=` of a soft break.
        if column + 3 > ENCODED_LINE_MAX - 1 {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        let plain = match octet {
            b' ' | b'\t' => at + 1 < line.len(),
            b'-' => column > 0,
            octet => !is_escaped(octet),
        };
        if plain {
            out.push(octet);
            column += 1;
        } else {
            let (high, low) = (usize::from(octet >> 4), usize::from(octet & 15));
            out.extend_from_slice(&[b'=', HEX[high], HEX[low]]);
            column += 3;
        }
    }
}

/// Whether quoted-printable is no longer than base64: one octet in six is escaped at most.
pub(crate) fn is_mostly_text(octets: &[u8]) -> bool {
    let escaped = octets.iter().filter(|octet| is_escaped(**octet)).count();
    escaped.saturating_mul(6) <= octets.len()
}

/// Whether quoted-printable takes three octets for this one wherever it stands; CR and LF are left to the line breaks.
const fn is_escaped(octet: u8) -> bool {
    !matches!(octet, b' '..=b'<' | b'>'..=b'~' | b'\t')
}

/// Base64 (RFC 2045 §6.8) in full lines; no CRLF at the end.
pub(crate) fn base64(out: &mut Vec<u8>, octets: &[u8]) {
    for (index, piece) in octets.chunks(BASE64_LINE_OCTETS).enumerate() {
        if index > 0 {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(STANDARD.encode(piece).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_forms_apart() {
        let long = "x".repeat(LINE_MAX);
        let cases: [(Vec<u8>, Form); 9] = [
            (b"".to_vec(), Form::SevenBit),
            (b"a\r\nb".to_vec(), Form::SevenBit),
            (format!("{long}\r\n{long}").into(), Form::SevenBit),
            (b"a\r\n\xff\r\n".to_vec(), Form::EightBit),
            (format!("{long}x\r\n").into(), Form::EndlessLines),
            (b"a\0".to_vec(), Form::Binary),
            (b"a\rb".to_vec(), Form::Binary),
            (b"a\nb".to_vec(), Form::Binary),
            (b"a\r\r\n".to_vec(), Form::Binary),
        ];
        for (octets, expected) in cases {
            let shown = octets.escape_ascii();
            assert_eq!(form(&octets), expected, "{shown}");
        }
    }

    #[test]
    fn quotes_what_it_must_and_nothing_else() {
        let cases: [(&[u8], &str); 7] = [
            (b"plain text\r\n", "plain text\r\n"),
            (
                b"gr\xc3\xbc\xc3\x9fe = \t\r\n",
                "gr=C3=BC=C3=9Fe =3D =09\r\n",
            ),
            (b"--boundary\r\n-", "=2D-boundary\r\n=2D"),
            (b"end", "end"),
            (b"space ", "space=20"),
            (b"\r\n\r\n", "\r\n\r\n"),
            (b"", ""),
        ];
        for (octets, expected) in cases {
            let mut out = Vec::new();
            quoted_printable(&mut out, octets);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }

    #[test]
    fn no_line_of_an_encoding_is_too_long_or_a_boundary() {
        let octets = ["-".repeat(500), "\u{fc}".repeat(500), "x ".repeat(500)].concat();
        for encode in [quoted_printable, base64] {
            let mut out = Vec::new();
            encode(&mut out, octets.as_bytes());
            let text = String::from_utf8(out).unwrap();
            for line in text.split("\r\n") {
                assert!(line.len() <= 76 && !line.starts_with('-'), "{line}");
            }
        }
    }
}
