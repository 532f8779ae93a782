//! What the header section of a message says, as far as a relay has to know.

use memchr::{memchr, memmem};

/// Most `Received:` headers of a message that is not going in circles (RFC 5321 §6.3 asks for a threshold of
/// 100 at least). Past it: 554 5.4.6.
pub const HOPS_MAX: usize = 100;

/// Octets of content that are looked at. Header sections beyond 64 KiB are unheard of among real mail; a message
/// that hides its trace behind 1 MiB of headers is caught when the lifetime of its copies ends.
const LOOKED_AT_MAX: usize = 1 << 20;

/// Which headers a message has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HeaderSummary {
    /// How many `Received:` fields; compare with [`HOPS_MAX`].
    pub received_count: usize,
    /// Whether there is a `Date:`.
    pub has_date: bool,
    /// Whether there is a `Message-ID:`.
    pub has_message_id: bool,
    /// Whether there is a `From:`.
    pub has_from: bool,
    /// What `TLS-Required:` says.
    pub tls_required: TlsRequired,
}

/// What the sender says about TLS in the header (RFC 8689 §3). REQUIRETLS in the envelope outweighs it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TlsRequired {
    /// There is no such field.
    #[default]
    Unsaid,
    /// `No`: delivery is more important than TLS.
    No,
    /// Something that the RFC does not know, or the field more than once: it means nothing.
    Unclear,
}

/// Reads the header section of canonical content: up to the first empty line, or the first line that is neither a
/// field nor the continuation of one. Each octet is looked at once. Content that begins with a continuation has none:
/// see [`crate::received::separator`].
#[must_use]
pub fn headers(content: &[u8]) -> HeaderSummary {
    let mut summary = HeaderSummary::default();
    let mut rest = &content[..content.len().min(LOOKED_AT_MAX)];
    if matches!(rest.first(), Some(b' ' | b'\t')) {
        return summary;
    }
    while !rest.is_empty() {
        let end = memmem::find(rest, b"\r\n").unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 2..).unwrap_or_default();
        match line.first() {
            Some(b' ' | b'\t') => {}
            _ => match field_name(line) {
                Some(name) => summary.add(name, line),
                None => break,
            },
        }
    }
    summary
}

impl HeaderSummary {
    fn add(&mut self, name: &[u8], line: &[u8]) {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        if is("Received") {
            self.received_count += 1;
        }
        self.has_date |= is("Date");
        self.has_message_id |= is("Message-ID");
        self.has_from |= is("From");
        if is("TLS-Required") {
            let value = memchr(b':', line).map_or(&[][..], |colon| line[colon + 1..].trim_ascii());
            self.tls_required = match self.tls_required {
                TlsRequired::Unsaid if value.eq_ignore_ascii_case(b"No") => TlsRequired::No,
                _ => TlsRequired::Unclear,
            };
        }
    }
}

/// The header section with its last CRLF, without the empty line behind it: up to the first line that is neither a field nor
/// the continuation of one.
pub(crate) fn section(content: &[u8]) -> &[u8] {
    let mut end = 0;
    while let Some(length) = memmem::find(&content[end..], b"\r\n") {
        let line = &content[end..end + length];
        let continues = end > 0 && matches!(line.first(), Some(b' ' | b'\t'));
        if !continues && field_name(line).is_none() {
            break;
        }
        end += length + 2;
    }
    &content[..end]
}

/// What stands before the colon, if it can be a field name (RFC 5322 §3.6.8, §4.5 for the space before the colon).
pub(crate) fn field_name(line: &[u8]) -> Option<&[u8]> {
    let name = line[..memchr(b':', line)?].trim_ascii_end();
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_headers_in_any_case_and_layout() {
        let summary = headers(
            b"RECEIVED: a\r\n\tfolded\r\nreceived : b\r\nFrom: c\r\ndate:\r\nMessage-Id: <d@e>\r\n\r\n",
        );
        let expected = HeaderSummary {
            received_count: 2,
            has_date: true,
            has_message_id: true,
            has_from: true,
            tls_required: TlsRequired::Unsaid,
        };
        assert_eq!(summary, expected);
    }

    #[test]
    fn tls_is_optional_only_if_the_header_says_so_once_and_clearly() {
        let cases = [
            ("Subject: x\r\n", TlsRequired::Unsaid),
            ("TLS-Required: No\r\n", TlsRequired::No),
            ("tls-required:no \r\n", TlsRequired::No),
            ("TLS-Required: Yes\r\n", TlsRequired::Unclear),
            ("TLS-Required:\r\n", TlsRequired::Unclear),
            (
                "TLS-Required: No\r\nTLS-Required: No\r\n",
                TlsRequired::Unclear,
            ),
            (
                "Subject: x\r\n\r\nTLS-Required: No\r\n",
                TlsRequired::Unsaid,
            ),
        ];
        for (content, expected) in cases {
            let summary = headers(content.as_bytes());
            assert_eq!(summary.tls_required, expected, "{content:?}");
        }
    }

    #[test]
    fn the_section_ends_where_the_fields_end() {
        let cases = [
            ("A: b\r\n c\r\n\r\nbody\r\n", "A: b\r\n c\r\n"),
            ("A: b\r\nno field\r\n", "A: b\r\n"),
            ("A: b\r\n", "A: b\r\n"),
            ("A: b", ""),
            (" A: b\r\n", ""),
            ("\r\nA: b\r\n", ""),
            ("", ""),
        ];
        for (content, expected) in cases {
            let actual = section(content.as_bytes());
            assert_eq!(actual, expected.as_bytes(), "{content:?}");
        }
    }

    #[test]
    fn reads_no_further_than_the_header_section() {
        let bodies: [&[u8]; 6] = [
            b" continues nothing\r\nReceived: in the body\r\nDate: no\r\n",
            b"Subject: x\r\n\r\nReceived: in the body\r\nDate: no\r\n",
            b"Subject: x\r\nno field at all\r\nReceived: in the body\r\n",
            b"\r\nReceived: in the body\r\n",
            b"X-Y: folded\r\n Received: is a continuation\r\n",
            b"",
        ];
        for content in bodies {
            let shown = String::from_utf8_lossy(content);
            assert_eq!(headers(content), HeaderSummary::default(), "{shown}");
        }
    }

    #[test]
    fn counts_past_the_hop_limit() {
        let content = "Received: x\r\n".repeat(HOPS_MAX + 1);
        assert_eq!(headers(content.as_bytes()).received_count, HOPS_MAX + 1);
    }

    #[test]
    fn looks_at_a_bounded_part() {
        let content = "Received: x\r\n".repeat(LOOKED_AT_MAX);
        assert_eq!(
            headers(content.as_bytes()).received_count,
            LOOKED_AT_MAX.div_ceil(13)
        );
    }
}
