//! What a message has to become for a next hop that cannot take it as it is (RFC 6152 §3, RFC 3030 §3). Pure.
//!
//! What was declared 7BIT goes out as it is even if that is not true: nobody said otherwise, and servers that mind are not in use.

use std::borrow::Cow;

use bytes::Bytes;
use postroad_message::convert::{self, Unconvertible, Width};
use postroad_smtp::{BodyKind, EnhancedStatus, Reply};
use postroad_spool::{BodyType, Message};

/// RFC 3463 §3.7: conversion required but not supported.
const STATUS: EnhancedStatus = EnhancedStatus::new(5, 6, 3);

/// A message's content for one next hop.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Adapted {
    /// What it is to be declared as.
    pub body: BodyKind,
    /// Headers and body in pieces. Shares the message's memory if nothing had to change; else it takes half as much again, and
    /// up to 1 MiB.
    pub content: Vec<Bytes>,
}

/// The content for a next hop that `takes` these kinds. Converting reads the whole message: some milliseconds for each MiB.
///
/// # Errors
/// The reply with which every recipient fails.
pub fn adapt(message: &Message, takes: impl Fn(BodyKind) -> bool) -> Result<Adapted, Reply> {
    let declared = declared(message);
    if is_fit(message, &takes) {
        return Ok(Adapted {
            body: declared,
            content: vec![message.headers.clone(), message.body.clone()],
        });
    }
    let (width, body) = match takes(BodyKind::EightBit) {
        true => (Width::EightBit, BodyKind::EightBit),
        false => (Width::SevenBit, BodyKind::SevenBit),
    };
    converted(message, width)
        .map(|content| Adapted { body, content })
        .map_err(|error| refusal(declared, error))
}

/// Whether the next hop takes it as it is declared.
pub fn is_fit(message: &Message, takes: impl Fn(BodyKind) -> bool) -> bool {
    let declared = declared(message);
    declared == BodyKind::SevenBit || takes(declared)
}

fn declared(message: &Message) -> BodyKind {
    match message.envelope.body {
        BodyType::SevenBit => BodyKind::SevenBit,
        BodyType::EightBitMime => BodyKind::EightBit,
        BodyType::BinaryMime => BodyKind::Binary,
    }
}

fn converted(message: &Message, width: Width) -> Result<Vec<Bytes>, Unconvertible> {
    let whole = [&message.headers[..], &message.body[..]].concat();
    match convert::convert(&whole, width)? {
        Cow::Borrowed(_) => Ok(vec![message.headers.clone(), message.body.clone()]),
        Cow::Owned(content) => Ok(vec![Bytes::from(content)]),
    }
}

fn refusal(declared: BodyKind, error: Unconvertible) -> Reply {
    let lacking = match declared {
        BodyKind::SevenBit | BodyKind::EightBit => "8BITMIME",
        BodyKind::Binary => "BINARYMIME",
    };
    let text =
        format!("the next server lacks {lacking}, and the message cannot be converted: {error}");
    Reply::new(554, STATUS, text)
}

#[cfg(test)]
mod tests {
    use postroad_spool::{Envelope, IdGenerator};

    use super::*;

    type Takes<'a> = &'a dyn Fn(BodyKind) -> bool;

    const TEXT: &str = "Subject: x\r\n\r\ngr\u{fc}n, the colour of the meadows\r\n";
    const BINARY: &str = "Subject: x\r\nContent-Transfer-Encoding: binary\r\n\r\n\0";

    fn message(body: BodyType, content: &str) -> Message {
        Message {
            id: IdGenerator::new([0; 10]).next(0),
            arrival_ms: 0,
            envelope: Envelope {
                body,
                ..Envelope::default()
            },
            headers: Bytes::from_static(b"Received: from a\r\n"),
            body: Bytes::from(content.to_owned()),
        }
    }

    #[test]
    fn content_stays_where_the_next_hop_takes_it_or_nothing_must_change() {
        let all = |_| true;
        let none = |kind| kind == BodyKind::SevenBit;
        let cases: [(BodyType, &str, Takes<'_>, BodyKind); 6] = [
            (BodyType::SevenBit, TEXT, &none, BodyKind::SevenBit),
            (BodyType::EightBitMime, TEXT, &all, BodyKind::EightBit),
            (
                BodyType::EightBitMime,
                "X: y\r\n\r\n",
                &none,
                BodyKind::SevenBit,
            ),
            (BodyType::BinaryMime, BINARY, &all, BodyKind::Binary),
            (
                BodyType::BinaryMime,
                "X: y\r\n\r\n",
                &none,
                BodyKind::SevenBit,
            ),
            (
                BodyType::BinaryMime,
                TEXT,
                &|kind| kind != BodyKind::Binary,
                BodyKind::EightBit,
            ),
        ];
        for (body, content, takes, expected) in cases {
            let message = message(body, content);
            let adapted = adapt(&message, takes).unwrap();
            assert_eq!(adapted.body, expected, "{body:?}");
            assert_eq!(adapted.content, [message.headers, message.body], "{body:?}");
        }
    }

    #[test]
    fn content_is_converted_as_far_as_the_next_hop_needs() {
        let no_binary = |kind| kind != BodyKind::Binary;
        let none = |kind| kind == BodyKind::SevenBit;
        let cases: [(BodyType, &str, Takes<'_>, BodyKind, &str); 3] = [
            (
                BodyType::EightBitMime,
                TEXT,
                &none,
                BodyKind::SevenBit,
                "quoted-printable\r\n\r\ngr=C3=BCn,",
            ),
            (
                BodyType::BinaryMime,
                BINARY,
                &no_binary,
                BodyKind::EightBit,
                "\r\n\r\nAA==",
            ),
            (
                BodyType::BinaryMime,
                BINARY,
                &none,
                BodyKind::SevenBit,
                "\r\n\r\nAA==",
            ),
        ];
        for (body, content, takes, expected, found) in cases {
            let adapted = adapt(&message(body, content), takes).unwrap();
            let text = String::from_utf8(adapted.content.concat()).unwrap();
            assert_eq!(adapted.body, expected, "{text}");
            assert!(
                text.starts_with("Received: from a\r\nSubject: x\r\n"),
                "{text}"
            );
            assert!(text.contains(found), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_converted_fails_and_says_why() {
        let message = message(BodyType::EightBitMime, "Subject: gr\u{fc}n\r\n\r\n");
        let reply = adapt(&message, |kind| kind == BodyKind::SevenBit).unwrap_err();
        let expected = "554 5.6.3 the next server lacks 8BITMIME, and the message cannot be converted: \
                        a header has eight-bit octets";
        assert_eq!(reply.to_string(), expected);
    }
}
