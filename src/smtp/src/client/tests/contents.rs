//! Content on its way, and what ends it.

use super::*;

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
