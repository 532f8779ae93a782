//! The header of a message or a part, as far as its encoding goes (RFC 2045).

use std::ops::Range;

use memchr::{memchr, memmem};

use super::{Role, Unconvertible};
use crate::inspect;

/// Longest Content-Type that is understood, in octets; those of real mail are under 1 KiB.
const TYPE_MAX: usize = 16 << 10;

/// A message or a part of one. Ranges are of the whole content.
pub(super) struct Entity {
    /// The fields, without the empty line.
    pub(super) header: Range<usize>,
    /// What is behind the empty line.
    pub(super) body: Range<usize>,
    pub(super) media: Media,
    pub(super) label: Label,
    /// The field of the label with its CRLF.
    pub(super) label_at: Option<Range<usize>>,
    pub(super) has_mime_version: bool,
    pub(super) has_type: bool,
}

/// What an entity is made of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Media {
    /// Parts.
    Multipart { boundary: Vec<u8>, kind: Kind },
    /// A message: message/rfc822.
    Message,
    /// Something that must stay as it is: any other message/*, but message/global and its kin (RFC 6532 §3.7).
    Restricted,
    /// Anything else.
    Leaf,
}

/// The multiparts that matter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Digest,
    Signed,
    Other,
}

/// The Content-Transfer-Encoding (RFC 2045 §6.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Label {
    /// The same as 7bit, in theory.
    Unsaid,
    SevenBit,
    EightBit,
    Binary,
    /// Quoted-printable or base64.
    Encoded,
    Unknown,
}

impl Label {
    fn parse(value: &[u8]) -> Self {
        let value = first_word(value).to_ascii_lowercase();
        match &value[..] {
            b"7bit" => Self::SevenBit,
            b"8bit" => Self::EightBit,
            b"binary" => Self::Binary,
            b"quoted-printable" | b"base64" => Self::Encoded,
            _ => Self::Unknown,
        }
    }

    /// Whether the body is text that stands for something else.
    pub(super) const fn is_encoded(self) -> bool {
        match self {
            Self::Encoded | Self::Unknown => true,
            Self::Unsaid | Self::SevenBit | Self::EightBit | Self::Binary => false,
        }
    }
}

impl Entity {
    /// Reads the header of what stands in this range.
    pub(super) fn parse(
        content: &[u8],
        at: Range<usize>,
        role: Role,
    ) -> Result<Self, Unconvertible> {
        let octets = &content[at.clone()];
        let section = inspect::section(octets);
        let header = at.start..at.start + section.len();
        let body = match &octets[section.len()..] {
            [] => at.end..at.end,
            [b'\r', b'\n', ..] => header.end + 2..at.end,
            // Who reads it next may see the end of the header elsewhere.
            _ => return Err(Unconvertible::Malformed),
        };
        let mut entity = Self {
            media: match role {
                Role::Message | Role::Part => Media::Leaf,
                Role::DigestPart => Media::Message,
            },
            header,
            body,
            label: Label::Unsaid,
            label_at: None,
            has_mime_version: false,
            // What is a message by default needs no type to be encoded: it is not encoded.
            has_type: false,
        };
        for field in fields(section) {
            entity.read(at.start, &section[field.clone()], field)?;
        }
        Ok(entity)
    }

    fn read(&mut self, start: usize, field: &[u8], at: Range<usize>) -> Result<(), Unconvertible> {
        let Some(name) = inspect::field_name(field) else {
            return Err(Unconvertible::Malformed);
        };
        let value = memchr(b':', field).map_or(&[][..], |colon| &field[colon + 1..]);
        if name.eq_ignore_ascii_case(b"MIME-Version") {
            self.has_mime_version = true;
        } else if name.eq_ignore_ascii_case(b"Content-Type") {
            if std::mem::replace(&mut self.has_type, true) || value.len() > TYPE_MAX {
                return Err(Unconvertible::Malformed);
            }
            self.media = media(value)?;
        } else if name.eq_ignore_ascii_case(b"Content-Transfer-Encoding") {
            let at = start + at.start..start + at.end;
            if self.label_at.replace(at).is_some() {
                return Err(Unconvertible::Malformed);
            }
            self.label = Label::parse(value);
        }
        Ok(())
    }
}

/// The fields of a header section, each with its continuations and CRLF.
fn fields(section: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        while let Some(length) = memmem::find(&section[at..], b"\r\n") {
            at += length + 2;
            if !matches!(section.get(at), Some(b' ' | b'\t')) {
                break;
            }
        }
        (at > start).then_some(start..at)
    })
}

/// Reads Content-Type (RFC 2045 §5.1).
fn media(value: &[u8]) -> Result<Media, Unconvertible> {
    let segments = segments(value);
    let full = first_word(&segments[0]).to_ascii_lowercase();
    let (kind, subtype) = match memchr(b'/', &full) {
        Some(slash) => (&full[..slash], &full[slash + 1..]),
        None => (&full[..], &[][..]),
    };
    Ok(match (kind, subtype) {
        (b"multipart", subtype) => Media::Multipart {
            boundary: boundary(&segments[1..]).ok_or(Unconvertible::Malformed)?,
            kind: match subtype {
                b"digest" => Kind::Digest,
                b"signed" => Kind::Signed,
                _ => Kind::Other,
            },
        },
        (b"message", b"rfc822") => Media::Message,
        (b"message", subtype) if !subtype.starts_with(b"global") => Media::Restricted,
        _ => Media::Leaf,
    })
}

fn boundary(parameters: &[Vec<u8>]) -> Option<Vec<u8>> {
    let value = parameters.iter().find_map(|parameter| {
        let equals = memchr(b'=', parameter)?;
        let name = parameter[..equals].trim_ascii();
        name.eq_ignore_ascii_case(b"boundary")
            .then(|| parameter[equals + 1..].trim_ascii())
    })?;
    let value = match value.strip_prefix(b"\"") {
        Some(quoted) => unquote(quoted)?,
        None => first_word(value).to_vec(),
    };
    // It does not end in a space (RFC 2046 §5.1.1).
    let value = value.trim_ascii_end();
    (!value.is_empty()).then(|| value.to_vec())
}

/// What stands before the closing quote.
fn unquote(quoted: &[u8]) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    let mut octets = quoted.iter();
    loop {
        match octets.next()? {
            b'"' => return Some(value),
            b'\\' => value.push(*octets.next()?),
            octet => value.push(*octet),
        }
    }
}

/// Cuts a value at its semicolons, without comments and line breaks; quoted strings stay whole and quoted. At least one.
fn segments(value: &[u8]) -> Vec<Vec<u8>> {
    let mut segments = vec![Vec::new()];
    let (mut quoted, mut comments) = (false, 0_usize);
    let mut octets = value.iter().copied();
    while let Some(octet) = octets.next() {
        match octet {
            b'\r' | b'\n' => continue,
            b'\\' if quoted || comments > 0 => {
                let escaped = octets.next();
                if comments == 0 {
                    push(&mut segments, octet);
                    escaped
                        .into_iter()
                        .for_each(|octet| push(&mut segments, octet));
                }
                continue;
            }
            b'"' if comments == 0 => quoted = !quoted,
            b'(' if !quoted => comments += 1,
            b')' if comments > 0 => {
                comments -= 1;
                continue;
            }
            b';' if !quoted && comments == 0 => {
                segments.push(Vec::new());
                continue;
            }
            _ => {}
        }
        if comments == 0 {
            push(&mut segments, octet);
        }
    }
    segments
}

fn push(segments: &mut [Vec<u8>], octet: u8) {
    if let Some(last) = segments.last_mut() {
        last.push(octet);
    }
}

/// The first word of a value without parameters; comments before it are passed over.
fn first_word(value: &[u8]) -> &[u8] {
    let mut value = value.trim_ascii();
    while value.starts_with(b"(") {
        let Some(end) = memchr(b')', value) else {
            break;
        };
        value = value[end + 1..].trim_ascii();
    }
    let end = value
        .iter()
        .position(|octet| octet.is_ascii_whitespace() || matches!(octet, b';' | b'('));
    &value[..end.unwrap_or(value.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn multipart(boundary: &str, kind: Kind) -> Result<Media, Unconvertible> {
        Ok(Media::Multipart {
            boundary: boundary.into(),
            kind,
        })
    }

    #[test]
    fn reads_types_as_they_are_written() {
        let cases = [
            (" text/plain; charset=utf-8\r\n", Ok(Media::Leaf)),
            (" MESSAGE/RFC822\r\n", Ok(Media::Message)),
            (" message/global\r\n", Ok(Media::Leaf)),
            (" message/partial; id=x\r\n", Ok(Media::Restricted)),
            (" text\r\n", Ok(Media::Leaf)),
            ("\r\n", Ok(Media::Leaf)),
            ("multipart/mixed; boundary=b", multipart("b", Kind::Other)),
            (
                " Multipart/Signed;\r\n\tmicalg=x;\r\n\tBOUNDARY = \"a;b\\\"(c) \" ;\r\n",
                multipart("a;b\"(c)", Kind::Signed),
            ),
            (
                " multipart/digest (a; \\) boundary=no); (x) boundary=yes (no) ; boundary=z",
                multipart("yes", Kind::Digest),
            ),
            (" multipart/mixed\r\n", Err(Unconvertible::Malformed)),
            (
                " multipart/mixed; boundary=\"x",
                Err(Unconvertible::Malformed),
            ),
            (
                " multipart/mixed; boundary=\"\"",
                Err(Unconvertible::Malformed),
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(media(value.as_bytes()), expected, "{value:?}");
        }
    }

    #[test]
    fn reads_labels_as_they_are_written() {
        let cases = [
            (" 7bit\r\n", Label::SevenBit),
            (" 8BIT (really)\r\n", Label::EightBit),
            (" (no) binary;\r\n", Label::Binary),
            ("\r\n\tBase64\r\n", Label::Encoded),
            (" Quoted-Printable", Label::Encoded),
            (" x-uuencode", Label::Unknown),
            ("", Label::Unknown),
        ];
        for (value, expected) in cases {
            assert_eq!(Label::parse(value.as_bytes()), expected, "{value:?}");
        }
    }

    #[test]
    fn a_header_that_says_things_twice_is_not_understood() {
        for header in [
            "Content-Type: text/plain\r\n",
            "Content-Transfer-Encoding: 8bit\r\n",
        ] {
            let content = format!("{header}{header}\r\nbody");
            let parsed = Entity::parse(content.as_bytes(), 0..content.len(), Role::Part);
            assert!(matches!(parsed, Err(Unconvertible::Malformed)), "{header}");
        }
    }
}
