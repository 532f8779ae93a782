//! Where the parts of a multipart are (RFC 2046 §5.1.1).

use std::ops::Range;

use memchr::memmem;

use super::{PARTS_MAX, Unconvertible};

/// A multipart's body, cut along its boundary. The delimiter lines are between the ranges.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Split {
    /// What comes before the first delimiter; everything if there is none.
    pub(super) preamble: Range<usize>,
    /// Each without the CRLF that belongs to the delimiter behind it.
    pub(super) parts: Vec<Range<usize>>,
    /// What comes behind the last delimiter, if that closes the multipart. If none does, the last part goes on to the end.
    pub(super) epilogue: Range<usize>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Line {
    Text,
    Delimiter,
    Close,
}

/// Cuts `body`, a range of `content`. [`Unconvertible::TooLarge`] for more than [`PARTS_MAX`] parts.
pub(super) fn split(
    content: &[u8],
    body: Range<usize>,
    boundary: &[u8],
) -> Result<Split, Unconvertible> {
    let mut parts = Vec::new();
    let mut preamble = None;
    let mut begin = body.start;
    let mut at = body.start;
    while at < body.end {
        let length = memmem::find(&content[at..body.end], b"\r\n");
        let end = length.map_or(body.end, |length| at + length);
        let next = length.map_or(body.end, |length| at + length + 2);
        let line = classify(&content[at..end], boundary);
        if line != Line::Text {
            // The CRLF before the delimiter is part of it, if there is one between it and the last one.
            let piece = begin..at.saturating_sub(2).max(begin);
            match preamble {
                None => preamble = Some(piece),
                Some(_) => parts.push(piece),
            }
            begin = next;
        }
        if line == Line::Close {
            return Ok(Split {
                preamble: preamble.unwrap_or(body.start..body.start),
                parts,
                epilogue: next..body.end,
            });
        }
        if parts.len() > PARTS_MAX {
            return Err(Unconvertible::TooLarge);
        }
        at = next;
    }
    let rest = begin..body.end;
    let preamble = match preamble {
        None => rest,
        Some(preamble) => {
            parts.push(rest);
            preamble
        }
    };
    Ok(Split {
        preamble,
        parts,
        epilogue: body.end..body.end,
    })
}

fn classify(line: &[u8], boundary: &[u8]) -> Line {
    let is_padding = |rest: &[u8]| rest.iter().all(|octet| matches!(octet, b' ' | b'\t'));
    let rest = line
        .strip_prefix(b"--")
        .and_then(|rest| rest.strip_prefix(boundary));
    match rest {
        Some(rest) if is_padding(rest) => Line::Delimiter,
        Some(rest) if rest.strip_prefix(b"--").is_some_and(is_padding) => Line::Close,
        _ => Line::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, preamble: &str, parts: &[&str], epilogue: &str) {
        let split = split(body.as_bytes(), 0..body.len(), b"b").unwrap();
        assert_eq!(&body[split.preamble], preamble, "{body:?}");
        let actual: Vec<&str> = split.parts.into_iter().map(|part| &body[part]).collect();
        assert_eq!(actual, parts, "{body:?}");
        assert_eq!(&body[split.epilogue], epilogue, "{body:?}");
    }

    #[test]
    fn cuts_along_the_boundary() {
        check(
            "pre\r\n--b\r\none\r\n--b \t\r\ntwo\r\n\r\n--b--\r\nepi\r\n",
            "pre",
            &["one", "two\r\n"],
            "epi\r\n",
        );
        check("--b\r\n--b\r\n\r\n--b--", "", &["", ""], "");
        check("--b\r\none\r\n--b\r\ntwo\r\n", "", &["one", "two\r\n"], "");
        check("--b--\r\nrest", "", &[], "rest");
        check("no delimiter\r\n", "no delimiter\r\n", &[], "");
        check("", "", &[], "");
    }

    #[test]
    fn nothing_else_is_a_boundary() {
        let text = "--bb\r\n--b x\r\n-- b\r\n --b\r\nx--b\r\n--b\n";
        check(&format!("--b\r\n{text}\r\n--b--"), "", &[text], "");
    }
}
