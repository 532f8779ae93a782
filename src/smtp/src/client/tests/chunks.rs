//! BDAT: the whole transaction in one flight, and what may go wrong with it.

use super::*;

#[test]
fn small_content_goes_out_at_once_and_large_content_waits_for_the_replies() {
    const UNASKED_MAX: usize = 64 << 10;
    for (size, at_once) in [(UNASKED_MAX, true), (UNASKED_MAX + 1, false)] {
        let mut client = ready_for("250-PIPELINING\r\n250-CHUNKING\r\n");
        let mut content = vec![b'x'; size - 2];
        content.extend_from_slice(b"\r\n");
        client.send(transaction(1, &content));
        let written = client.output().split();
        assert_eq!(written.ends_with(b"x\r\n"), at_once, "{size}");
        let mut input = BytesMut::from("250 Ok\r\n250 Ok\r\n");
        let mut rest = BytesMut::new();
        while let ClientStep::Flush = client.step(&mut input) {
            assert!(client.output().len() <= UNASKED_MAX + 100);
            rest.unsplit(client.output().split());
        }
        rest.unsplit(client.output().split());
        let command = format!("BDAT {size} LAST\r\n");
        assert_eq!(rest.starts_with(command.as_bytes()), !at_once, "{size}");
        assert_eq!(client.phase(), Phase::FinalReply);
        input.extend_from_slice(b"250 Ok\r\n");
        let outcome = finished(client.step(&mut input));
        assert!(matches!(
            outcome.recipients[0],
            RecipientOutcome::Delivered(_)
        ));
    }
}

#[test]
fn a_reply_too_many_never_makes_a_refused_chunk_delivered() {
    let shifted =
        ["250 Ok", "250 What?", "250 Ok", "554 5.7.1 Spam"].map(|one| format!("{one}\r\n"));
    let offered = "250-PIPELINING\r\n250-CHUNKING\r\n";
    let whole = vec![shifted.concat()];
    // A connection that has carried nothing yet knows nothing of the server: there the reads may be split.
    let cases = [
        (ready_for(offered), whole.clone()),
        (ready_at_first(offered), whole),
        (ready_at_first(offered), shifted.to_vec()),
    ];
    for (mut client, reads) in cases {
        client.send(transaction(1, b"x\r\n"));
        let mut input = BytesMut::new();
        let mut step = client.step(&mut input);
        for read in &reads {
            if matches!(step, ClientStep::NeedInput) {
                input.extend_from_slice(read.as_bytes());
                step = client.step(&mut input);
            }
        }
        let outcome = finished(step);
        let [RecipientOutcome::Deferred(_)] = &outcome.recipients[..] else {
            panic!("{reads:?}: {outcome:?}");
        };
        assert_eq!(outcome.connection, Connection::Closing);
    }
}

#[test]
fn a_server_that_has_the_whole_flight_may_have_taken_the_message() {
    for said in ["", "250 Ok\r\n", "250 Ok\r\n250 Ok\r\n"] {
        for end in [Client::closed, Client::timed_out] {
            let mut client = ready_for("250-PIPELINING\r\n250-CHUNKING\r\n");
            client.send(transaction(1, b"x\r\n"));
            client.step(&mut BytesMut::from(said));
            assert_eq!(client.phase(), Phase::FinalReply, "{said:?}");
            let outcome = finished(end(&mut client));
            assert_eq!(outcome.end, End::Unanswered, "{said:?}");
            assert!(matches!(
                outcome.recipients[..],
                [RecipientOutcome::Deferred(_)]
            ));
        }
    }
}

#[test]
fn with_many_recipients_the_content_follows_within_the_window() {
    let mut client = ready_for("250-PIPELINING\r\n250-CHUNKING\r\n");
    let mut input = BytesMut::new();
    client.send(transaction(250, b"x\r\n"));
    let (mut sent, mut answered) = (0, 0);
    loop {
        client.step(&mut input);
        let commands = String::from_utf8(client.output().split().to_vec()).unwrap();
        sent += commands.lines().filter(|line| *line != "x").count();
        assert!(sent - answered <= 100);
        if commands.ends_with("BDAT 3 LAST\r\nx\r\n") {
            break;
        }
        // Everyone but the last is refused.
        let reply: &[u8] = if answered == 0 {
            b"250 Ok\r\n"
        } else {
            b"550 no\r\n"
        };
        input.extend_from_slice(reply);
        answered += 1;
    }
    assert_eq!(sent, 252);
    while answered < 251 {
        let reply: &[u8] = if answered == 250 {
            b"250 Ok\r\n"
        } else {
            b"550 no\r\n"
        };
        input.extend_from_slice(reply);
        answered += 1;
    }
    input.extend_from_slice(b"250 Ok\r\n");
    let outcome = finished(client.step(&mut input));
    let delivered = |one: &RecipientOutcome| matches!(one, RecipientOutcome::Delivered(_));
    let count = outcome
        .recipients
        .iter()
        .filter(|one| delivered(one))
        .count();
    assert_eq!((count, delivered(&outcome.recipients[249])), (1, true));
}

#[test]
fn a_refusal_in_the_middle_of_a_chunk_is_heard() {
    let mut client = ready_for("250-PIPELINING\r\n250-CHUNKING\r\n");
    client.send(transaction(1, &vec![b'x'; 1 << 20]));
    let mut input = BytesMut::from("250 Ok\r\n250 Ok\r\n");
    assert!(matches!(client.step(&mut input), ClientStep::Flush));
    input.extend_from_slice(b"552 5.3.4 Too big\r\n");
    let outcome = finished(client.step(&mut input));
    let RecipientOutcome::Failed(reply) = &outcome.recipients[0] else {
        panic!("{outcome:?}");
    };
    assert_eq!(
        (reply.code(), outcome.connection),
        (552, Connection::Closing)
    );
}
