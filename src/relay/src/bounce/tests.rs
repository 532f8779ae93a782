use postroad_smtp::EnhancedStatus;
use postroad_spool::IdGenerator;

use super::*;

const CONTENT: &str = "Subject: hello\r\n\r\nthe text\r\n";

fn message(envelope: Envelope) -> Message {
    Message {
        id: IdGenerator::new([0; 10]).next(0),
        arrival_ms: 0,
        envelope: Envelope {
            sender: "s@example.com".into(),
            ..envelope
        },
        headers: Bytes::from_static(b"Received: from a\r\n"),
        body: Bytes::from_static(CONTENT.as_bytes()),
    }
}

fn to(notify: Option<&str>, orcpt: Option<&str>) -> Envelope {
    Envelope {
        recipients: vec![Recipient {
            address: "r@example.net".into(),
            notify: notify.map(str::to_owned),
            orcpt: orcpt.map(str::to_owned),
        }],
        ..Envelope::default()
    }
}

fn notice(kind: Kind) -> Notice {
    Notice {
        index: 0,
        kind,
        status: EnhancedStatus::new(5, 1, 1),
        expired: None,
        diagnostic: "550 5.1.1 no such user".into(),
    }
}

fn report(message: &Message, kind: Kind) -> Option<Message> {
    let id = IdGenerator::new([1; 10]).next(1);
    let remote = Some("mx.example.net");
    write(
        message,
        &[notice(kind)],
        "mail.example.com",
        remote,
        id,
        86_400_000,
    )
}

fn text(message: &Message) -> String {
    let report = report(message, Kind::Failed).unwrap();
    String::from_utf8(report.body.to_vec()).unwrap()
}

#[test]
fn a_report_goes_from_nobody_to_the_sender() {
    let report = report(&message(to(None, None)), Kind::Failed).unwrap();
    let expected = Envelope {
        recipients: vec![Recipient {
            address: "s@example.com".into(),
            ..Recipient::default()
        }],
        author: Author::Relay,
        ..Envelope::default()
    };
    assert_eq!((report.envelope, report.arrival_ms), (expected, 86_400_000));
    assert!(report.headers.is_empty());
}

#[test]
fn a_report_is_never_reported_on() {
    let original = message(to(Some("FAILURE"), None));
    let first = report(&original, Kind::Failed).unwrap();
    assert_eq!(report(&first, Kind::Failed), None);
}

#[test]
fn what_the_sender_gave_comes_back() {
    let mut original = message(to(None, Some("rfc822;alias@example.net")));
    original.envelope.envid = Some("QQ314159".into());
    original.envelope.not_before_ms = 3_600_999;
    let report = text(&original);
    for field in [
        "\r\nOriginal-Envelope-Id: QQ314159\r\n",
        "\r\nFuture-Release-Request: until;1970-01-01T01:00:00Z\r\n",
        "\r\nOriginal-Recipient: rfc822;alias@example.net\r\nFinal-Recipient: rfc822; r@example.net\r\n",
        "\r\nRemote-MTA: dns; mx.example.net\r\n",
        "\r\nReceived: from a\r\nSubject: hello\r\n",
    ] {
        assert!(report.contains(field), "{field}: {report}");
    }
}

#[test]
fn ret_says_how_much_comes_back() {
    let demand = |tls| Envelope {
        tls,
        ..to(None, None)
    };
    let cases = [
        (TlsDemand::Default, None, true, false),
        (TlsDemand::Default, Some(Ret::Headers), true, false),
        (TlsDemand::Default, Some(Ret::Full), true, true),
        (TlsDemand::Optional, Some(Ret::Full), true, true),
        (TlsDemand::Required, Some(Ret::Full), false, false),
    ];
    for (tls, ret, headers, content) in cases {
        let mut original = message(demand(tls));
        original.envelope.ret = ret;
        let report = report(&original, Kind::Failed).unwrap();
        assert_eq!(report.envelope.tls, TlsDemand::Default, "{tls:?}");
        let text = text(&original);
        assert_eq!(text.contains("Subject: hello"), headers, "{tls:?} {ret:?}");
        assert_eq!(text.contains("the text"), content, "{tls:?} {ret:?}");
    }
}

#[test]
fn the_reports_on_a_message_return_little_of_it_together() {
    const CONTENT_BYTES: usize = 60 << 10;
    let header = "Subject: hello\r\n".to_owned();
    let long = header + &"X-Filler: 0123456789\r\n".repeat(CONTENT_BYTES / 22);
    let body = format!(
        "Subject: hello\r\n\r\n{}",
        "the text\r\n".repeat(CONTENT_BYTES / 10)
    );
    for content in [long + "\r\n", body] {
        for (recipients, whole) in [(1, true), (4, true), (5, false), (1_000, false)] {
            let mut original = message(to(None, None));
            original.envelope.ret = Some(Ret::Full);
            let one = original.envelope.recipients[0].clone();
            original.envelope.recipients = vec![one; recipients];
            original.body = Bytes::from(content.clone());
            let report = report(&original, Kind::Failed).unwrap();
            let text = String::from_utf8(report.body.to_vec()).unwrap();
            assert_eq!(text.contains(&content), whole, "{recipients}");
            assert!(text.contains("Subject: hello\r\n"), "{recipients}");
            assert!(
                !text.contains("\r\nX-Filler: 0123456789X"),
                "lines are whole"
            );
            let all = recipients * report.body.len();
            let most = 2 * (load::RETURNED_MAX + recipients * load::RETURNED_MIN);
            assert!(all <= most, "{recipients}: {all}");
        }
    }
}

#[test]
fn eight_bit_content_makes_an_eight_bit_report() {
    let mut original = message(to(None, None));
    original.envelope.ret = Some(Ret::Full);
    original.body = Bytes::from_static("Subject: x\r\n\r\ngr\u{fc}n\r\n".as_bytes());
    let report = report(&original, Kind::Failed).unwrap();
    assert_eq!(report.envelope.body, BodyType::EightBitMime);
}

/// What is delayed or relayed has been asked about before: [`crate::outcome`] knows the time and the next hop.
#[test]
fn failures_are_told_to_those_who_want_to_know() {
    let delayed = Kind::Delayed {
        retry_until_ms: 172_800_000,
    };
    let cases = [
        (None, true),
        (Some("FAILURE"), true),
        (Some("SUCCESS,DELAY"), false),
        (Some("NEVER"), false),
    ];
    for (notify, expected) in cases {
        let original = message(to(notify, None));
        assert_eq!(
            report(&original, Kind::Failed).is_some(),
            expected,
            "{notify:?}"
        );
        for kind in [delayed, Kind::Relayed] {
            assert!(report(&original, kind).is_some(), "{notify:?}");
        }
    }
}
