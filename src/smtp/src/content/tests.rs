use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

/// Decodes pieces until the end; gives the content and what is left, or `None` if no end came.
fn decode(pieces: &[&[u8]]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut decoder = Decoder::default();
    let mut content = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let decoded = decoder.decode(piece, &mut |run| content.extend_from_slice(run));
        if let Decoded::End(octets) = decoded {
            let rest = [&piece[octets..], &pieces[index + 1..].concat()].concat();
            return Some((content, rest));
        }
    }
    None
}

fn encode(content: &[Bytes], budget: usize) -> Vec<u8> {
    let mut encoder = Encoder::new(content.to_vec());
    let mut output = BytesMut::new();
    while encoder.write(&mut output, budget) == Written::Part {}
    output.to_vec()
}

fn canonical(content: &[u8]) -> bool {
    is_canonical(&[Bytes::copy_from_slice(content)])
}

#[test]
fn only_crlf_dot_crlf_ends_content() {
    let ends: [(&[u8], &[u8]); 5] = [
        (b".\r\n", b""),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\r\n.\r\n", b"a\r\n\r\n"),
        (b"a\r\n..\r\n.\r\n", b"a\r\n.\r\n"),
    ];
    for (wire, expected) in ends {
        let with_more = [wire, b"RSET\r\n"].concat();
        let (content, rest) = decode(&[&with_more]).unwrap();
        assert_eq!(
            (content.as_slice(), rest.as_slice()),
            (expected, b"RSET\r\n".as_slice())
        );
    }
    let no_ends: [&[u8]; 12] = [
        b"a\n.\n",
        b"a\n.\r\n",
        b"a\r.\r\n",
        b"a\r.\r",
        b"a\r\n.\n",
        b"a\r\n.\r",
        b"a\r\n.\r\r\n",
        b"a\r\n\0.\r\n",
        b"a\r\n.\0\r\n",
        b".\n",
        b".\r\r\n",
        b"a.\r\n",
    ];
    for wire in no_ends {
        assert_eq!(
            decode(&[wire]),
            None,
            "{:?}",
            wire.escape_ascii().to_string()
        );
    }
}

#[test]
fn a_dot_behind_a_bare_newline_is_content() {
    let (content, _) = decode(&[b"a\n.\r\n.b\r..c\r\n.\r\n"]).unwrap();
    assert_eq!(content, b"a\r\n.\r\nb\r\n..c\r\n");
    let sent = encode(&[Bytes::from(content.clone())], usize::MAX);
    assert_eq!(sent, b"a\r\n..\r\nb\r\n...c\r\n.\r\n");
    assert_eq!(decode(&[&sent]).unwrap().0, content);
}

#[test]
fn a_missing_last_newline_is_added() {
    let cases: [(&[u8], &[u8]); 4] = [
        (b"", b".\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
    ];
    for (content, wire) in cases {
        assert_eq!(encode(&[Bytes::from_static(content)], usize::MAX), wire);
    }
}

#[test]
fn bare_newlines_are_seen_across_chunks() {
    let chunks = |parts: &[&'static [u8]]| {
        is_canonical(
            &parts
                .iter()
                .map(|part| Bytes::from_static(part))
                .collect::<Vec<_>>(),
        )
    };
    assert!(chunks(&[b"a\r", b"\nb"]));
    assert!(!chunks(&[b"a\r", b"", b"\r\n"]));
    assert!(chunks(&[b"a\r", b"", b"\n"]));
    assert!(chunks(&[]) && chunks(&[b""]) && chunks(&[b"no newline"]));
    for parts in [
        &[b"a\r".as_slice(), b"b"][..],
        &[b"a", b"\nb"],
        &[b"\r"],
        &[b"a\r\n\n"],
        &[b"\r\r\n"],
    ] {
        let parts: Vec<Bytes> = parts
            .iter()
            .map(|part| Bytes::copy_from_slice(part))
            .collect();
        assert!(!is_canonical(&parts), "{parts:?}");
    }
}

/// Octets among which those that matter are frequent.
fn octets() -> impl Strategy<Value = Vec<u8>> {
    let octet = prop_oneof![
        Just(b'\r'),
        Just(b'\n'),
        Just(b'.'),
        Just(0),
        Just(b'a'),
        any::<u8>()
    ];
    proptest::collection::vec(octet, 0..200)
}

fn canonical_octets() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b".".to_vec()),
        proptest::collection::vec(
            any::<u8>().prop_filter("newline", |o| *o != 13 && *o != 10),
            0..5
        )
    ];
    proptest::collection::vec(part, 0..60).prop_map(|parts| {
        let mut content = parts.concat();
        if !content.is_empty() && !content.ends_with(b"\r\n") {
            content.extend_from_slice(b"\r\n");
        }
        content
    })
}

fn pieces(octets: &[u8], size: usize) -> Vec<&[u8]> {
    octets.chunks(size).collect()
}

proptest! {
    #[test]
    fn canonical_content_arrives_as_it_was_sent(
        content in canonical_octets(),
        chunk in 1usize..40,
        budget in 1usize..40,
        read in 1usize..40,
    ) {
        let chunks: Vec<Bytes> = content.chunks(chunk).map(Bytes::copy_from_slice).collect();
        prop_assert!(is_canonical(&chunks));
        let wire = encode(&chunks, budget);
        prop_assert_eq!(&wire, &encode(&chunks, usize::MAX));
        let (received, rest) = decode(&pieces(&wire, read)).unwrap();
        prop_assert_eq!(received, content);
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn whatever_arrives_is_canonical_and_ends_with_crlf(octets in octets(), read in 1usize..40) {
        let wire = [octets.as_slice(), b"\r\n.\r\n"].concat();
        let whole = decode(&[&wire]).unwrap();
        prop_assert!(canonical(&whole.0));
        prop_assert!(whole.0.is_empty() || whole.0.ends_with(b"\r\n"));
        prop_assert_eq!(decode(&pieces(&wire, read)).unwrap(), whole);
    }

    #[test]
    fn canonical_is_what_the_definition_says(octets in octets(), chunk in 1usize..10) {
        let text: Vec<u8> = octets.clone();
        let stripped = String::from_utf8_lossy(&text).replace("\r\n", "");
        let expected = !stripped.contains(['\r', '\n']);
        let chunks: Vec<Bytes> = octets.chunks(chunk).map(Bytes::copy_from_slice).collect();
        prop_assert_eq!(is_canonical(&chunks), expected);
    }
}
