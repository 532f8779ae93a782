//! Bounds, and what no dialogue can show. The dialogues are in `tests/transcripts`.

mod chunks;

use bytes::BytesMut;
use proptest::prelude::*;

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
fn content_goes_out_in_bounded_pieces() {
    let mut client = ready();
    let content = b".123456789\r\n".repeat(100_000);
    client.send(transaction(1, &content));
    let mut input = BytesMut::from("250 Ok\r\n250 Ok\r\n354 Go\r\n");
    client.output().clear();
    let mut written = Vec::new();
    while let ClientStep::Flush = client.step(&mut input) {
        // Every line of this content gets a dot more.
        assert!(client.output().len() <= (64 << 10) * 13 / 12 + 1);
        written.extend_from_slice(&client.output().split());
    }
    written.extend_from_slice(&client.output().split());
    assert_eq!(written.len(), content.len() + 100_000 + ".\r\n".len());
    input.extend_from_slice(b"250 Ok\r\n");
    let outcome = finished(client.step(&mut input));
    assert!(matches!(
        outcome.recipients[..],
        [RecipientOutcome::Delivered(_)]
    ));
}

#[test]
fn a_server_that_gives_up_in_the_middle_of_content_is_understood() {
    let content = b"0123456789\r\n".repeat(100_000);
    let cases = [
        ("421 4.3.2 Bye\r\n", "Deferred", "Held"),
        ("552 5.3.4 Too big\r\n", "Failed", "Answered"),
        ("452 4.3.1 Full\r\n", "Deferred", "Answered"),
        ("530 5.7.0 Log in\r\n", "Deferred", "Held"),
        ("250 2.0.0 Fine already\r\n", "Deferred", "Unanswered"),
        ("nonsense\r\n", "Deferred", "Unanswered"),
    ];
    for (said, expected, end) in cases {
        let mut client = ready();
        client.send(transaction(1, &content));
        let mut input = BytesMut::from("250 Ok\r\n250 Ok\r\n354 Go\r\n");
        assert!(matches!(client.step(&mut input), ClientStep::Flush));
        input.extend_from_slice(said.as_bytes());
        let outcome = finished(client.step(&mut input));
        assert_eq!(outcome.connection, Connection::Closing);
        assert!(
            format!("{:?}", outcome.recipients[0]).starts_with(expected),
            "{said}"
        );
        assert!(format!("{:?}", outcome.end).starts_with(end), "{said}");
        assert!(matches!(client.step(&mut input), ClientStep::Closed));
    }
}

#[test]
fn a_connection_that_ends_before_the_final_dot_holds_the_servers_mail() {
    let content = b"0123456789\r\n".repeat(100_000);
    let cases = [
        ("", "Held"),
        ("250 Ok\r\n", "Held"),
        ("250 Ok\r\n250 Ok\r\n354 Go\r\n", "Held"),
        ("250 Ok\r\n550 No\r\n", "Answered"),
        ("550 No\r\n", "Answered"),
    ];
    for (said, end) in cases {
        let mut client = ready();
        client.send(transaction(1, &content));
        client.step(&mut BytesMut::from(said));
        let outcome = finished(client.timed_out());
        assert!(format!("{:?}", outcome.end).starts_with(end), "{said}");
        if let End::Held(failure) = outcome.end {
            assert_eq!(failure.stage, Stage::Transaction);
            assert_eq!(failure.kind, FailureKind::TimedOut);
        }
    }
}

#[test]
fn after_a_failed_write_a_refusal_counts_and_nothing_else() {
    let large = b"0123456789\r\n".repeat(100_000);
    let cases = [
        ("552 5.3.4 Too big\r\n", "Failed", "Answered"),
        ("452 4.3.1 Full\r\n", "Deferred", "Answered"),
        ("421 4.3.2 Bye\r\n", "Deferred", "Held"),
        ("250 2.0.0 Never got it\r\n", "Deferred", "Unanswered"),
        ("552 5.3", "Deferred", "Held"),
        ("", "Deferred", "Held"),
    ];
    for content in [&large[..], b"x\r\n"] {
        for (said, expected, end) in cases {
            let mut client = ready();
            client.send(transaction(1, content));
            let mut input = BytesMut::from("250 Ok\r\n250 Ok\r\n354 Go\r\n");
            client.step(&mut input);
            client.write_failed();
            input.extend_from_slice(said.as_bytes());
            let outcome = match client.step(&mut input) {
                ClientStep::NeedInput => finished(client.closed()),
                step => finished(step),
            };
            assert!(client.output().is_empty());
            assert_eq!(outcome.connection, Connection::Closing);
            let recipient = format!("{:?}", outcome.recipients[0]);
            assert!(recipient.starts_with(expected), "{said}: {recipient}");
            assert!(format!("{:?}", outcome.end).starts_with(end), "{said}");
        }
    }
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

#[test]
fn nul_goes_only_where_binary_content_is_taken() {
    let everything = "250-CHUNKING\r\n250-8BITMIME\r\n250-BINARYMIME\r\n250-PIPELINING\r\n";
    for (body, offered, expected) in [
        (BodyKind::SevenBit, everything, Some("5.6.0")),
        (BodyKind::EightBit, everything, Some("5.6.0")),
        (BodyKind::Binary, "250-CHUNKING\r\n", Some("5.6.3")),
        (BodyKind::Binary, everything, None),
    ] {
        let mut client = ready_for(offered);
        let mut transaction = transaction(1, b"Subject: x\r\n\r\na\0b\r\n");
        transaction.parameters.body = body;
        client.send(transaction);
        match (client.step(&mut BytesMut::new()), expected) {
            (ClientStep::Finished(outcome), Some(expected)) => {
                let shown = format!("{:?}", outcome.recipients);
                let RecipientOutcome::Failed(reply) = &outcome.recipients[0] else {
                    panic!("{shown}")
                };
                assert!(reply.to_string().contains(expected), "{shown}");
                assert!(client.output().is_empty());
            }
            (ClientStep::NeedInput, None) => assert!(client.output().contains(&0)),
            (step, _) => panic!("{body:?} {offered:?}: {step:?}"),
        }
    }
}

fn replies() -> impl Strategy<Value = Vec<u8>> {
    let known = proptest::sample::select(vec![
        "220 x\r\n",
        "250 x\r\n",
        "250-x\r\n",
        "250 PIPELINING\r\n",
        "354 x\r\n",
        "421 x\r\n",
        "550 x\r\n",
        "450 x\r\n",
        "\r\n",
        "\n",
        "334 \r\n",
        "530 x\r\n",
        "552 x\r\n",
        "2",
        "503 x\r\n",
    ]);
    let part = prop_oneof![
        12 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..10),
    ];
    proptest::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn whatever_a_server_says_every_recipient_gets_one_outcome(
        said in replies(),
        read in 1usize..40,
        count in 1usize..5,
        chunking in any::<bool>(),
    ) {
        let mut client = match chunking {
            true => ready_for("250-PIPELINING\r\n250-CHUNKING\r\n"),
            false => ready(),
        };
        let mut input = BytesMut::new();
        client.send(transaction(count, b"x\r\n"));
        let mut outcomes = Vec::new();
        for piece in said.chunks(read) {
            input.extend_from_slice(piece);
            loop {
                match client.step(&mut input) {
                    ClientStep::Finished(outcome) => outcomes.push(outcome),
                    ClientStep::Flush => {}
                    ClientStep::NeedInput | ClientStep::Ready | ClientStep::Closed => break,
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
        if outcomes.is_empty() {
            outcomes.push(finished(client.closed()));
        }
        prop_assert_eq!(outcomes.len(), 1);
        prop_assert_eq!(outcomes[0].recipients.len(), count);
        // Nobody counts as delivered unless the content was sent.
        let end: &[u8] = if chunking { b" LAST\r\nx\r\n" } else { b"\r\nx\r\n.\r\n" };
        let sent = client.output().ends_with(end);
        let delivered = outcomes[0].recipients.iter().any(|r| matches!(r, RecipientOutcome::Delivered(_)));
        prop_assert!(sent || !delivered);
    }

    #[test]
    fn whatever_a_server_says_before_ready_is_survived(said in replies(), read in 1usize..40) {
        for tls in [ClientTls::None, ClientTls::Opportunistic, ClientTls::Required, ClientTls::Active] {
            let mut client = client(tls);
            let mut input = BytesMut::new();
            for piece in said.chunks(read) {
                input.extend_from_slice(piece);
                if let ClientStep::StartTls = client.step(&mut input) {
                    client.tls_established(Certificate::Verified);
                }
            }
            client.closed();
            prop_assert!(matches!(client.closed(), ClientStep::Closed));
        }
    }
}
