//! Bounds, and what no dialogue can show. The dialogues are in `tests/transcripts`.

mod anything;
mod chunks;
mod contents;

use bytes::BytesMut;

use super::*;
use crate::{BodyKind, Extension, ForwardPath, Password};

fn ready() -> Client {
    let mut client = client(ClientTls::None);
    let mut input = BytesMut::from("220 x\r\n");
    assert!(matches!(client.step(&mut input), ClientStep::NeedInput));
    input.extend_from_slice(b"250-x\r\n250-8BITMIME\r\n250 PIPELINING\r\n");
    assert!(matches!(client.step(&mut input), ClientStep::Ready));
    client.output().clear();
    client
}

fn client(tls: ClientTls) -> Client {
    Client::new(ClientConfig {
        ehlo_name: "relay.example.com".to_owned(),
        tls,
        login: None,
    })
}

fn transaction(recipients: usize, content: &[u8]) -> Transaction {
    let path = |index| format!("{index}@example.net").parse::<ForwardPath>();
    let recipient = |index| path(index).unwrap().into();
    Transaction {
        recipients: (0..recipients).map(recipient).collect(),
        content: vec![Bytes::copy_from_slice(content)],
        ..Transaction::default()
    }
}

fn finished(step: ClientStep) -> TransactionOutcome {
    match step {
        ClientStep::Finished(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_more_than_a_window_of_commands_is_unanswered() {
    let mut client = ready();
    let mut input = BytesMut::new();
    client.send(transaction(1000, b"x\r\n"));
    let (mut sent, mut answered) = (0, 0);
    loop {
        let step = client.step(&mut input);
        let commands = String::from_utf8(client.output().split().to_vec()).unwrap();
        sent += commands.lines().count();
        assert!(
            sent - answered <= 100,
            "{} commands unanswered",
            sent - answered
        );
        if commands.ends_with("DATA\r\n") {
            break;
        }
        assert!(matches!(step, ClientStep::NeedInput));
        input.extend_from_slice(b"250 Ok\r\n");
        answered += 1;
    }
    assert_eq!(sent, 1002);
}

#[test]
fn phases_tell_what_is_waited_for() {
    let mut client = client(ClientTls::None);
    assert_eq!(client.phase(), Phase::Connecting);
    client = ready();
    assert_eq!(client.phase(), Phase::Idle);
    client.send(transaction(1, &b"x\r\n".repeat(100_000)));
    assert_eq!(client.phase(), Phase::Envelope);
    let mut input = BytesMut::from("250 Ok\r\n250 Ok\r\n354 Go\r\n");
    assert!(matches!(client.step(&mut input), ClientStep::Flush));
    assert_eq!(client.phase(), Phase::Content);
    while let ClientStep::Flush = client.step(&mut input) {}
    assert_eq!(client.phase(), Phase::FinalReply);
    client.quit();
    assert_eq!(client.phase(), Phase::Quitting);
}

#[test]
fn a_transaction_out_of_turn_is_deferred() {
    let mut client = client(ClientTls::None);
    client.send(transaction(2, b"x\r\n"));
    let outcome = finished(client.step(&mut BytesMut::new()));
    assert_eq!(outcome.connection, Connection::Closing);
    assert!(
        outcome
            .recipients
            .iter()
            .all(|r| matches!(r, RecipientOutcome::Deferred(_)))
    );
    assert!(matches!(
        client.step(&mut BytesMut::new()),
        ClientStep::Closed
    ));
}

#[test]
fn a_transaction_without_recipients_is_over_at_once() {
    let mut client = ready();
    client.send(transaction(0, b"x\r\n"));
    let outcome = finished(client.step(&mut BytesMut::new()));
    assert_eq!(
        (outcome.recipients.len(), outcome.connection),
        (0, Connection::Reusable)
    );
    assert!(client.output().is_empty());
}

#[test]
fn a_long_password_goes_out_behind_the_prompt() {
    let mut client = Client::new(ClientConfig {
        ehlo_name: "relay.example.com".to_owned(),
        tls: ClientTls::Active,
        login: Some(Login {
            username: "user".to_owned(),
            password: Password::new("p".repeat(1000)),
        }),
    });
    let mut input = BytesMut::from("220 x\r\n");
    client.step(&mut input);
    client.output().clear();
    input.extend_from_slice(b"250-x\r\n250 AUTH PLAIN\r\n");
    assert!(matches!(client.step(&mut input), ClientStep::NeedInput));
    assert_eq!(client.output().split(), "AUTH PLAIN\r\n");
    input.extend_from_slice(b"334 \r\n");
    assert!(matches!(client.step(&mut input), ClientStep::NeedInput));
    assert!(client.output().len() > 1000);
    assert!(
        !format!("{client:?}").contains("pppp"),
        "the password shows"
    );
}

#[test]
fn a_bad_ehlo_name_becomes_localhost() {
    for name in ["", "two words", "x\r\nMAIL FROM:<>", "b\u{fc}cher.example"] {
        let mut client = Client::new(ClientConfig {
            ehlo_name: name.to_owned(),
            tls: ClientTls::None,
            login: None,
        });
        client.step(&mut BytesMut::from("220 x\r\n"));
        assert_eq!(client.output().split(), "EHLO localhost\r\n", "{name:?}");
    }
}

/// Ready for a server that offers these, and that has answered a transaction reply for reply.
fn ready_for(offered: &str) -> Client {
    let mut client = ready_at_first(offered);
    if offered.contains("PIPELINING") {
        client.send(transaction(1, b"x\r\n"));
        let mut input = BytesMut::from("250 Ok\r\n250 Ok\r\n354 Go\r\n");
        assert!(matches!(client.step(&mut input), ClientStep::NeedInput));
        input.extend_from_slice(b"250 Ok\r\n");
        finished(client.step(&mut input));
        assert!(matches!(client.step(&mut input), ClientStep::Ready));
        client.output().clear();
    }
    client
}

/// Ready for a server that offers these.
fn ready_at_first(offered: &str) -> Client {
    let mut client = client(ClientTls::None);
    let mut input = BytesMut::from("220 x\r\n");
    client.step(&mut input);
    input.extend_from_slice(format!("250-x\r\n{offered}250 NOOP\r\n").as_bytes());
    assert!(matches!(client.step(&mut input), ClientStep::Ready));
    client.output().clear();
    client
}

#[test]
fn what_the_server_says_of_itself_can_be_asked() {
    let client = ready_for(
        "250-SIZE 1000\r\n250-BINARYMIME\r\n250-LIMITS RCPTMAX=7 MAILMAX=x RCPTDOMAINMAX=\r\n250-dsn\r\n",
    );
    let peer = client.peer();
    assert_eq!(peer.name(), Some("x"));
    assert_eq!(
        (peer.recipients_max(), peer.messages_max()),
        (Some(7), None)
    );
    assert!(peer.offers(Extension::Dsn) && !peer.offers(Extension::Pipelining));
    // Without CHUNKING there is no way to send it.
    assert!(!peer.takes(BodyKind::Binary) && !peer.takes(BodyKind::EightBit));
    assert!(peer.takes(BodyKind::SevenBit));
}

#[test]
fn who_may_be_named_follows_from_who_was() {
    let path = |text: &str| text.parse::<ForwardPath>().unwrap();
    for (limit, expected) in [
        ("RCPTDOMAINMAX=1", false),
        ("RCPTDOMAINMAX=2", true),
        ("", true),
    ] {
        let mut client = ready_for(&format!("250-LIMITS {limit}\r\n"));
        assert!(client.may_name(&path("a@example.net")) && client.may_name(&path("a@example.com")));
        client.send(transaction(1, b"x\r\n"));
        let mut input = BytesMut::new();
        for replies in ["250 ok\r\n", "250 ok\r\n", "354 go\r\n", "250 ok\r\n"] {
            assert!(!matches!(client.step(&mut input), ClientStep::Finished(_)));
            input.extend_from_slice(replies.as_bytes());
        }
        finished(client.step(&mut input));
        assert!(client.may_name(&path("b@EXAMPLE.net")), "{limit}");
        assert_eq!(client.may_name(&path("a@example.com")), expected, "{limit}");
    }
}

#[test]
fn only_too_many_recipients_are_a_surplus() {
    let cases = [
        (452, Some((4, 5, 3)), true),
        (452, Some((4, 3, 1)), false),
        (452, None, false),
        (450, Some((4, 5, 3)), false),
    ];
    for (code, status, expected) in cases {
        let status = status
            .map(|(class, subject, detail)| crate::EnhancedStatus::new(class, subject, detail));
        let outcome = RecipientOutcome::Deferred(Reply::new(code, status, "x"));
        assert_eq!(outcome.is_surplus(), expected, "{outcome:?}");
    }
}
