use mail_parser::{MessageParser, PartType};
use proptest::prelude::*;

use super::*;

/// Converts content given with LF as line end.
fn converted(content: &str, to: Width) -> Result<String, Unconvertible> {
    let content = content.replace('\n', "\r\n");
    let octets = convert(content.as_bytes(), to)?;
    assert!(to.fits(&octets));
    let text = String::from_utf8(octets.into_owned()).unwrap();
    Ok(text.replace("\r\n", "\n"))
}

#[test]
fn plain_text_becomes_quoted_printable_and_says_what_it_is() {
    let expected = "\
Subject: x
MIME-Version: 1.0
Content-Type: text/plain; charset=unknown-8bit
Content-Transfer-Encoding: quoted-printable

Viele Gr=C3=BC=C3=9Fe aus dem Norden, und eine Zeile, die nicht auf eine=20=
Zeile passt.
";
    let content = "Subject: x\n\nViele Gr\u{fc}\u{df}e aus dem Norden, und eine Zeile, die nicht auf eine Zeile passt.\n";
    let converted = converted(content, Width::SevenBit).unwrap();
    let expected = expected.replace("=20=\n", " =\n");
    assert_eq!(converted, expected);
}

/// Of every kind a part, and much that looks odd.
const MIXED: &str = "\
Received: from a
 by b
Content-type: multipart/mixed; (a comment) boundary=\"out er\"
mime-version: 1.0
CONTENT-transfer-encoding: 8BIT (so it is)

Preamble.
--out er
Content-Type: text/plain; charset=utf-8
X-Kept: as   it
\tis
Content-Transfer-Encoding: 8bit
X-Behind: y

-- gr\u{fc}n, the colour of the meadows, and more text
--out er  \nContent-Transfer-Encoding: base64

/w==
--out er
Content-Type: message/rfc822

Subject: inner
Content-Type: multipart/alternative; boundary=in

--in

seven
--in
Content-Type: text/html

\u{4f60}\u{597d}
--in--
--out er--
Epilogue.
";

/// The same for a next hop without 8BITMIME.
const MIXED_IN_SEVEN_BITS: &str = "\
Received: from a
 by b
Content-type: multipart/mixed; (a comment) boundary=\"out er\"
mime-version: 1.0
Content-Transfer-Encoding: 7bit

Preamble.
--out er
Content-Type: text/plain; charset=utf-8
X-Kept: as   it
\tis
Content-Transfer-Encoding: quoted-printable
X-Behind: y

=2D- gr=C3=BCn, the colour of the meadows, and more text
--out er  \nContent-Transfer-Encoding: base64

/w==
--out er
Content-Type: message/rfc822

Subject: inner
Content-Type: multipart/alternative; boundary=in

--in

seven
--in
Content-Type: text/html
Content-Transfer-Encoding: base64

5L2g5aW9
--in--
--out er--
Epilogue.
";

#[test]
fn only_what_does_not_fit_is_changed() {
    let converted = |width| converted(MIXED, width).unwrap();
    assert_eq!(converted(Width::SevenBit), MIXED_IN_SEVEN_BITS);
    assert_eq!(converted(Width::EightBit), MIXED);
}

#[test]
fn binary_parts_become_base64_and_the_rest_stays_eight_bit() {
    let content = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: binary\r\n\r\n\
        --b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\x89PNG\r\n\x1a\n\0\r\n\
        --b\r\nContent-Transfer-Encoding: binary\r\n\r\n\xe4\r\n\
        --b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xe4\r\n--b--\r\n";
    let expected = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
        --b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgoA\r\n\
        --b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xe4\r\n\
        --b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xe4\r\n--b--\r\n";
    let converted = convert(content, Width::EightBit).unwrap();
    assert_eq!(
        converted.escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
}

#[test]
fn what_cannot_be_converted_is_told_apart() {
    let signed =
        "Content-Type: multipart/signed; boundary=b\n\n--b\n\n\u{fc}\n--b\n\nsignature\n--b--\n";
    let partial = "Content-Type: message/partial\n\n\u{fc}\n";
    let parts = format!(
        "Content-Type: multipart/mixed; boundary=b\n\n{}\u{fc}",
        "--b\n\n".repeat(PARTS_MAX)
    );
    let endless_type = format!(
        "Content-Type: text/plain{}x\n\n\u{fc}\n",
        ";\n ".repeat(8_000)
    );
    let deep = format!(
        "{}\n\u{fc}",
        "Content-Type: message/rfc822\n\n".repeat(DEPTH_MAX + 1)
    );
    let cases: [(&str, Unconvertible); 13] = [
        ("Subject: \u{fc}\n\nbody\n", Unconvertible::EightBitHeader),
        (
            "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: x/y; name=\u{fc}\n\n--b--\n",
            Unconvertible::EightBitHeader,
        ),
        (signed, Unconvertible::Signed),
        (partial, Unconvertible::Restricted),
        (
            "Content-Transfer-Encoding: base64\n\n\u{fc}\n",
            Unconvertible::Mislabelled,
        ),
        (
            "Content-Transfer-Encoding: x-uuencode\n\n\u{fc}\n",
            Unconvertible::Mislabelled,
        ),
        (
            "Content-Type: multipart/mixed\n\n\u{fc}\n",
            Unconvertible::Malformed,
        ),
        (
            "Content-Type: multipart/mixed; boundary=b\n\n\u{fc}\n--b--\n",
            Unconvertible::Malformed,
        ),
        ("Subject: x\nno field\n\n\u{fc}\n", Unconvertible::Malformed),
        (" continues nothing\n\n\u{fc}\n", Unconvertible::Malformed),
        (&parts, Unconvertible::TooLarge),
        (&deep, Unconvertible::TooLarge),
        (&endless_type, Unconvertible::Malformed),
    ];
    for (content, expected) in cases {
        let shown = &content[..content.floor_char_boundary(80)];
        assert_eq!(
            converted(content, Width::SevenBit),
            Err(expected),
            "{shown}"
        );
        let ascii = content.replace('\u{fc}', "u");
        assert_eq!(
            converted(&ascii, Width::SevenBit).as_ref(),
            Ok(&ascii),
            "{shown}"
        );
    }
}

#[test]
fn a_header_with_nul_or_a_bare_newline_goes_to_nobody_who_cannot_take_it() {
    let part = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: a\0b\r\n\r\n--b--\r\n";
    for content in [
        "Subject: a\0b\r\n\r\nbody\r\n",
        "Subject: a\0b\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\r\n",
        "Subject: a\nb\r\n\r\nbody\r\n",
        "Subject: a\rb\r\n\r\nbody\r\n",
        part,
    ] {
        for width in [Width::SevenBit, Width::EightBit] {
            let found = convert(content.as_bytes(), width);
            let found = found.map(|octets| octets.escape_ascii().to_string());
            assert_eq!(found, Err(Unconvertible::BinaryHeader), "{content:?}");
        }
    }
}

#[test]
fn long_header_lines_keep_nobody_from_conversion() {
    let content = format!(
        "To: {}x\n\nplain text as it comes every day, and \u{fc}\n",
        "a@b, ".repeat(300)
    );
    let content = content.replace('\n', "\r\n");
    for (width, expected) in [(Width::SevenBit, "=C3=BC"), (Width::EightBit, "\u{fc}")] {
        let octets = convert(content.as_bytes(), width).unwrap();
        let text = String::from_utf8(octets.into_owned()).unwrap();
        assert!(text.ends_with(&format!("and {expected}\r\n")), "{text}");
    }
}

/// A tree of MIME parts as somebody could have written it.
#[derive(Clone, Debug)]
enum Part {
    Leaf {
        octets: Vec<u8>,
        label: &'static str,
    },
    Multipart {
        parts: Vec<Part>,
        label: &'static str,
    },
    Message(Box<Part>),
}

impl Part {
    fn leaves<'a>(&'a self, into: &mut Vec<&'a [u8]>) {
        match self {
            Self::Leaf { octets, .. } => into.push(octets),
            Self::Multipart { parts, .. } => parts.iter().for_each(|part| part.leaves(into)),
            Self::Message(part) => part.leaves(into),
        }
    }

    /// Every boundary is the beginning of those within, as a hostile or careless sender may have it.
    fn write(&self, boundary: &str, out: &mut Vec<u8>) {
        let label = |label: &str| match label {
            "" => String::new(),
            label => format!("Content-Transfer-Encoding: {label}\r\n"),
        };
        match self {
            Self::Leaf {
                octets,
                label: name,
            } => {
                let label = label(name);
                let head = format!("Content-Type: application/octet-stream\r\n{label}\r\n");
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(octets);
            }
            Self::Multipart { parts, label: name } => {
                let label = label(name);
                let head = format!(
                    "{label}Content-Type: multipart/mixed;\r\n boundary=\"{boundary}\"\r\n\r\n"
                );
                out.extend_from_slice(head.as_bytes());
                for (index, part) in parts.iter().enumerate() {
                    out.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
                    part.write(&format!("{boundary}{index}x"), out);
                }
                out.extend_from_slice(format!("\r\n--{boundary}--").as_bytes());
            }
            Self::Message(part) => {
                out.extend_from_slice(b"Content-Type: message/rfc822\r\n\r\nMIME-Version: 1.0\r\n");
                part.write(&format!("{boundary}m"), out);
            }
        }
    }
}

fn leaf() -> impl Strategy<Value = Part> {
    let piece = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"--".to_vec()),
        Just(b"= \t\r\n".to_vec()),
        Just(vec![b'y'; 999]),
        "[ -~]{0,90}".prop_map(String::into_bytes),
        "\\PC{0,30}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..60),
    ];
    let octets = proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat());
    let label = prop_oneof![Just(""), Just("8bit"), Just("binary")];
    (octets, label).prop_map(|(octets, label)| Part::Leaf { octets, label })
}

fn part() -> impl Strategy<Value = Part> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        let label = prop_oneof![Just(""), Just("8bit"), Just("binary")];
        let parts = proptest::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            (parts, label).prop_map(|(parts, label)| Part::Multipart { parts, label }),
            inner.prop_map(|part| {
                let parts = vec![part];
                Part::Message(Box::new(Part::Multipart { parts, label: "" }))
            }),
        ]
    })
}

/// What another reader of MIME sees: the decoded leaves, in order.
fn read(content: &[u8]) -> Vec<Vec<u8>> {
    fn collect(message: &mail_parser::Message<'_>, into: &mut Vec<Vec<u8>>) {
        for part in &message.parts {
            match &part.body {
                PartType::Multipart(_) => {}
                PartType::Message(inner) => collect(inner, into),
                _ => into.push(part.contents().to_vec()),
            }
        }
    }
    let mut leaves = Vec::new();
    collect(
        &MessageParser::default().parse(content).unwrap(),
        &mut leaves,
    );
    leaves
}

proptest! {
    #[test]
    fn what_is_decoded_is_what_was_sent(part in part(), narrow in any::<bool>()) {
        let to = if narrow { Width::SevenBit } else { Width::EightBit };
        // A message that is one part ends with it.
        let part = Part::Multipart { parts: vec![part], label: "binary" };
        let mut content = b"MIME-Version: 1.0\r\nSubject: x\r\n".to_vec();
        part.write("boundary", &mut content);
        content.extend_from_slice(b"\r\n");
        let converted = convert(&content, to).unwrap();
        prop_assert!(to.fits(&converted));
        let mut leaves = Vec::new();
        part.leaves(&mut leaves);
        prop_assert_eq!(read(&converted), leaves);
        // Once is enough.
        let again = convert(&converted, to).unwrap();
        prop_assert!(matches!(again, Cow::Borrowed(_)));
    }

    #[test]
    fn whatever_comes_out_fits_and_whatever_fits_comes_out(content in proptest::collection::vec(any::<u8>(), 0..400), head in "(Content-Type: (multipart/mixed; boundary=b|message/rfc822|x)\r\n)?\r\n(--b\r\n)?") {
        let content = [head.as_bytes(), &content].concat();
        for to in [Width::SevenBit, Width::EightBit] {
            match convert(&content, to) {
                Ok(converted) => prop_assert!(to.fits(&converted)),
                Err(_) => prop_assert!(!to.fits(&content)),
            }
        }
    }
}
