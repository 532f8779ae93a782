use bytes::Bytes;
use postroad_spool::IdGenerator;

use super::*;

const NOW_MS: u64 = 1_800_000_000_000;

fn received() -> ReceivedMessage {
    ReceivedMessage {
        sender: Sender {
            path: "a@example.org".parse().unwrap(),
            parameters: MailParameters {
                body: BodyKind::Binary,
                smtputf8: true,
                ret: Some(Ret::Headers),
                envid: Envid::new("QQ 314159"),
                require_tls: RequireTls::Yes,
                deliver_by: DeliverBy::new(120, OnExpiry::Notify, true),
                priority: Priority::new(-4).unwrap(),
            },
            declared_size: Some(7),
            hold: Some(Hold::For(60)),
        },
        recipients: vec![
            Recipient {
                path: "b@example.net".parse().unwrap(),
                notify: Some("success,delay".parse().unwrap()),
                orcpt: OriginalRecipient::new("rfc822;b+c@example.net"),
            },
            Recipient::from("d@example.net".parse::<ForwardPath>().unwrap()),
        ],
        content: Bytes::from_static(b"x\r\n"),
    }
}

fn message(envelope: Envelope) -> Message {
    Message {
        id: IdGenerator::new([0; 10]).next(NOW_MS),
        arrival_ms: NOW_MS,
        envelope,
        headers: Bytes::from_static(b"Received: x\r\n"),
        body: Bytes::from_static(b"x\r\n"),
    }
}

#[test]
fn what_a_client_said_is_said_again_to_the_next_hop() {
    let received = received();
    let envelope = keep(&received, Some("app"), TlsRequired::Unsaid, NOW_MS);
    assert_eq!(envelope.credential, "app");
    assert_eq!(envelope.not_before_ms, NOW_MS + 60_000);
    let paths = received.recipients.iter().map(|one| one.path.clone());
    let to = (0..).zip(paths).collect();
    let transaction = transaction(&message(envelope), to, NOW_MS + 30_000);
    let left = DeliverBy::new(90, OnExpiry::Notify, true);
    let expected = MailParameters {
        deliver_by: left,
        ..received.sender.parameters
    };
    assert_eq!(transaction.parameters, expected);
    assert_eq!(transaction.sender, received.sender.path);
    assert_eq!(transaction.recipients, received.recipients);
}

#[test]
fn the_header_field_counts_only_without_requiretls() {
    let cases = [
        (RequireTls::No, TlsRequired::Unsaid, TlsDemand::Default),
        (RequireTls::No, TlsRequired::No, TlsDemand::Optional),
        (RequireTls::Yes, TlsRequired::Unsaid, TlsDemand::Required),
        (RequireTls::Yes, TlsRequired::No, TlsDemand::Required),
    ];
    for (parameter, header, expected) in cases {
        let mut received = received();
        received.sender.parameters.require_tls = parameter;
        let envelope = keep(&received, None, header, NOW_MS);
        assert_eq!(envelope.tls, expected, "{parameter:?} {header:?}");
    }
}

#[test]
fn times_become_moments_and_seconds_again() {
    let mut received = received();
    received.sender.hold = Some(Hold::Until(1_900_000_000));
    received.sender.parameters.deliver_by = DeliverBy::new(10, OnExpiry::Return, false);
    let envelope = keep(&received, None, TlsRequired::Unsaid, NOW_MS);
    assert_eq!(envelope.not_before_ms, 1_900_000_000_000);
    let message = message(envelope);
    for (later_ms, left) in [(0, 10), (1, 9), (9_000, 1), (9_999, 1)] {
        let transaction = transaction(&message, Vec::new(), NOW_MS + later_ms);
        let by = transaction.parameters.deliver_by;
        assert_eq!(
            by,
            DeliverBy::new(left, OnExpiry::Return, false),
            "{later_ms}"
        );
    }
}

#[test]
fn a_report_demands_nothing_of_the_way() {
    let cases = [
        ("a@example.org", TlsDemand::Required, TlsDemand::Required),
        ("", TlsDemand::Required, TlsDemand::Default),
        ("", TlsDemand::Optional, TlsDemand::Optional),
        ("a@example.org", TlsDemand::Default, TlsDemand::Default),
    ];
    for (sender, tls, expected) in cases {
        let envelope = Envelope {
            sender: sender.to_owned(),
            tls,
            ..Envelope::default()
        };
        assert_eq!(demand(&envelope), expected, "{sender} {tls:?}");
    }
}
