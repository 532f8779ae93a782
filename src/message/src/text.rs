//! Text of strangers, made fit for headers.

use std::fmt::Write as _;

use jiff::Timestamp;
use postroad_smtp::address::is_host;

/// Longest host or token that is written, in octets; the longest domain.
const TOKEN_MAX: usize = 255;
/// Where lines are folded, in octets (RFC 5322 §2.1.1 recommends 78).
const FOLD_AT: usize = 76;
/// Longest word in octets; one that is longer is broken, so that no line reaches 998.
const WORD_MAX: usize = 900;

/// `Mon, 23 Nov 2026 10:18:03 +0000` (RFC 5322 §3.3).
pub(crate) fn date(now: Timestamp) -> String {
    now.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// A host name or literal as it is; otherwise its harmless characters; `unknown` for nothing.
pub(crate) fn host(text: &str) -> String {
    if text.is_ascii() && is_host(text) {
        return text.to_owned();
    }
    let token = token(text);
    match token.as_str() {
        "" => "unknown".to_owned(),
        _ => token,
    }
}

/// Letters, digits, dots, hyphens and underscores; anything else becomes `?`. Bounded.
pub(crate) fn token(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' => c,
            _ => '?',
        })
        .take(TOKEN_MAX)
        .collect()
}

/// Printable ASCII: control characters become `?`, other characters `\x{HEX}` (the form that RFC 6533 §3 gives
/// addresses in reports). At most `max` octets.
pub(crate) fn ascii(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    for c in text.chars() {
        let before = out.len();
        match c {
            ' '..='~' => out.push(c),
            c if c.is_ascii() || c.is_control() => out.push('?'),
            c => escape(&mut out, c),
        }
        if out.len() > max {
            out.truncate(before);
            break;
        }
    }
    out
}

/// Appends `\x{HEX}`.
pub(crate) fn escape(out: &mut String, c: char) {
    // Writing to a String cannot fail.
    let _ = write!(out, "\\x{{{:X}}}", u32::from(c));
}

/// Appends `text` behind a prefix of `column` octets, and CRLF; lines after the first begin with `indent`.
pub(crate) fn fold(out: &mut String, column: usize, text: &str, indent: &str) {
    let mut column = column;
    let mut first = true;
    for word in words(text) {
        if first {
            first = false;
        } else if column + 1 + word.len() > FOLD_AT {
            out.push_str("\r\n");
            out.push_str(indent);
            column = indent.len();
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out.push_str("\r\n");
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_ascii_whitespace().flat_map(|word| {
        let mut rest = word;
        std::iter::from_fn(move || {
            let piece = &rest[..rest.floor_char_boundary(WORD_MAX)];
            rest = &rest[piece.len()..];
            (!piece.is_empty()).then_some(piece)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_strangers_becomes_printable_ascii() {
        assert_eq!(ascii("a\r\nb\tc", 99), "a??b?c");
        assert_eq!(ascii("grüße\u{7f}\u{85}", 99), "gr\\x{FC}\\x{DF}e??");
        assert_eq!(ascii("abcü", 5), "abc", "an escape is not cut in two");
    }

    #[test]
    fn hosts_stay_hosts() {
        let cases = [
            ("mail.example.com", "mail.example.com"),
            ("[192.0.2.1]", "[192.0.2.1]"),
            ("my_host", "my_host"),
            ("a(b)\r\nBcc: c", "a?b???Bcc??c"),
            ("", "unknown"),
        ];
        for (text, expected) in cases {
            assert_eq!(host(text), expected);
        }
    }

    #[test]
    fn long_text_is_folded_and_no_line_reaches_998() {
        let mut out = String::from("X: ");
        fold(
            &mut out,
            3,
            &format!("{} {}", "word ".repeat(40), "x".repeat(5000)),
            "    ",
        );
        assert!(out.split("\r\n").all(|line| line.len() < 998), "{out}");
        assert!(out.starts_with("X: word word") && out.ends_with("x\r\n"));
    }

    #[test]
    fn dates_are_those_of_rfc_5322() {
        assert_eq!(
            date(Timestamp::UNIX_EPOCH),
            "Thu, 01 Jan 1970 00:00:00 +0000"
        );
    }
}
