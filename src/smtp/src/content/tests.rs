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
    let mut encoder = Encoder::new(content.to_vec(), Framing::Dots);
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

/// What [`Canonicalizer`] makes of pieces.
fn canonicalize(pieces: &[&[u8]]) -> Vec<u8> {
    let mut canonicalizer = Canonicalizer::default();
    let mut content = Vec::new();
    for piece in pieces {
        canonicalizer.convert(piece, &mut |run| content.extend_from_slice(run));
    }
    canonicalizer.finish(&mut |run| content.extend_from_slice(run));
    content
}

/// The same, an octet at a time.
fn canonicalize_plainly(content: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    let mut rest = content;
    while let Some(at) = rest.iter().position(|octet| b"\r\n".contains(octet)) {
        lines.extend_from_slice(&rest[..at]);
        lines.extend_from_slice(CRLF);
        rest = match &rest[at..] {
            [b'\r', b'\n', behind @ ..] | [_, behind @ ..] => behind,
            [] => &[],
        };
    }
    if !rest.is_empty() {
        lines.extend_from_slice(rest);
        lines.extend_from_slice(CRLF);
    }
    lines
}

#[test]
fn chunks_become_lines_that_end_with_crlf() {
    let cases: [(&[u8], &[u8]); 10] = [
        (b"", b""),
        (b"a", b"a\r\n"),
        (b"a\r\n", b"a\r\n"),
        (b"a\r", b"a\r\n"),
        (b"a\n", b"a\r\n"),
        (b"\n\r", b"\r\n\r\n"),
        (b"\r\r\n", b"\r\n\r\n"),
        (b"a\nb\rc\r\nd", b"a\r\nb\r\nc\r\nd\r\n"),
        (b".\r\n.", b".\r\n.\r\n"),
        (b"\r\n\r\n", b"\r\n\r\n"),
    ];
    for (sent, expected) in cases {
        let shown = sent.escape_ascii();
        assert_eq!(canonicalize(&[sent]), expected, "{shown}");
        assert_eq!(canonicalize_plainly(sent), expected, "{shown}");
    }
}

proptest! {
    #[test]
    fn chunks_become_the_same_lines_however_they_are_split(
        content in proptest::collection::vec(proptest::sample::select(b"\r\n.ab".to_vec()), 0..60),
        at in 0usize..60,
    ) {
        let whole = canonicalize(&[&content]);
        prop_assert_eq!(&whole, &canonicalize_plainly(&content));
        prop_assert!(canonical(&whole));
        let single: Vec<&[u8]> = content.chunks(1).collect();
        prop_assert_eq!(&canonicalize(&single), &whole);
        let (head, tail) = content.split_at(at.min(content.len()));
        prop_assert_eq!(&canonicalize(&[head, b"", tail]), &whole);
    }

    #[test]
    fn counted_content_goes_out_whole_however_it_is_cut(
        content in proptest::collection::vec(any::<u8>(), 0..60),
        at in 0usize..60,
        budget in 1usize..70,
    ) {
        let (head, tail) = content.split_at(at.min(content.len()));
        let pieces = vec![Bytes::copy_from_slice(head), Bytes::copy_from_slice(tail)];
        for framing in [Framing::Octets, Framing::Lines] {
            let mut encoder = Encoder::new(pieces.clone(), framing);
            let mut output = BytesMut::new();
            while encoder.write(&mut output, budget) == Written::Part {}
            let missing = framing == Framing::Lines && !content.is_empty() && !content.ends_with(b"\n");
            let end: &[u8] = if missing { b"\r\n" } else { b"" };
            prop_assert_eq!(&output[..], &[&content[..], end].concat()[..]);
        }
    }
}
