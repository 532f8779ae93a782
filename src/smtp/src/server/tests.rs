//! Bounds, and what no dialogue can show. The dialogues are in `tests/transcripts`.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::Password;

const ENVELOPE: &str = "EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n";

fn session() -> Session {
    session_for(1 << 20)
}

/// For messages of so many octets.
fn session_for(message_bytes: u64) -> Session {
    Session::new(ServerConfig {
        tls: TlsOffer::Active,
        auth: AuthOffer::UnderTls,
        message_bytes,
        ..ServerConfig::new("mail.example.com")
    })
}

/// What came of a read: the replies, the messages, and whether the session is over.
#[derive(Debug, Default, Eq, PartialEq)]
struct Outcome {
    replies: String,
    messages: Vec<Bytes>,
    closed: bool,
}

/// Feeds the pieces, accepting everything.
fn feed(session: &mut Session, pieces: &[&[u8]]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut input = BytesMut::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match session.step(&mut input) {
                Step::NeedInput => break,
                Step::StartTls => session.tls_established(),
                Step::Close => {
                    outcome.closed = true;
                    break;
                }
                Step::Request(request) => {
                    if let Request::Message(message) = request {
                        outcome.messages.push(message.content);
                    }
                    session.answer(Verdict::Accept);
                }
            }
        }
        let line_max = AUTH_LINE_MAX.max(COMMAND_LINE_MAX);
        assert!(
            input.len() < line_max,
            "{} octets wait for a newline",
            input.len()
        );
    }
    let output = session.output().split();
    outcome
        .replies
        .push_str(std::str::from_utf8(&output).unwrap());
    outcome
}

fn last_reply(outcome: &Outcome) -> &str {
    outcome.replies.trim_end().rsplit("\r\n").next().unwrap()
}

#[test]
fn command_lines_are_bounded() {
    let fits = format!("NOOP {}\r\n", "x".repeat(COMMAND_LINE_MAX - 7));
    assert_eq!(
        last_reply(&feed(&mut session(), &[fits.as_bytes()])),
        "250 2.0.0 Ok"
    );
    let endless = vec![b'x'; 10 * COMMAND_LINE_MAX];
    let mut session = session();
    let pieces: Vec<&[u8]> = endless
        .chunks(1000)
        .chain([b"\r\nNOOP\r\n".as_slice()])
        .collect();
    let outcome = feed(&mut session, &pieces);
    let expected = "500 5.5.2 Syntax error: line too long\r\n250 2.0.0 Ok\r\n";
    assert!(outcome.replies.ends_with(expected), "{}", outcome.replies);
}

#[test]
fn authentication_lines_have_a_bound_of_their_own() {
    let mut session = session();
    feed(&mut session, &[b"EHLO a\r\nAUTH PLAIN\r\n"]);
    let password = "p".repeat(6000);
    let response = crate::sasl::encode_plain("user", &Password::new(password));
    assert!(response.len() > COMMAND_LINE_MAX);
    let outcome = feed(&mut session, &[response.as_bytes(), b"\r\n"]);
    assert_eq!(last_reply(&outcome), "235 2.7.0 Authentication succeeded");
}

#[test]
fn a_response_that_is_too_long_ends_the_exchange() {
    let mut session = session();
    feed(&mut session, &[b"EHLO a\r\nAUTH LOGIN\r\n"]);
    let endless = vec![b'x'; 2 * AUTH_LINE_MAX];
    let outcome = feed(&mut session, &[&endless, b"\r\nNOOP\r\n"]);
    assert_eq!(
        outcome.replies,
        "500 5.5.6 Authentication line too long\r\n250 2.0.0 Ok\r\n"
    );
}

#[test]
fn commands_that_move_no_mail_are_bounded() {
    let mut session = session();
    let noops = "NOOP\r\n".repeat(10_000);
    let outcome = feed(&mut session, &[noops.as_bytes()]);
    assert!(outcome.closed);
    assert_eq!(
        outcome.replies.matches("250 2.0.0").count(),
        JUNK_MAX as usize
    );
    assert!(last_reply(&outcome).starts_with("421 4.7.0"));
}

#[test]
fn a_message_forgives_the_junk_before_it() {
    let mut session = session();
    let noops = "NOOP\r\n".repeat(JUNK_MAX as usize - 10);
    for _ in 0..3 {
        let outcome = feed(
            &mut session,
            &[noops.as_bytes(), ENVELOPE.as_bytes(), b".\r\n"],
        );
        assert_eq!(outcome.messages.len(), 1);
        assert!(!outcome.closed);
    }
}

#[test]
fn refused_recipients_are_junk_only_without_an_accepted_one() {
    let refuse_all = |first: Verdict| {
        let mut session = session();
        feed(&mut session, &[b"EHLO a\r\nMAIL FROM:<a@b>\r\n"]);
        let mut input = BytesMut::from("RCPT TO:<c@d>\r\n".repeat(500).as_str());
        let mut verdict = Some(first);
        loop {
            match session.step(&mut input) {
                Step::Request(_) => {
                    let no = Verdict::Refuse(Reply::new(550, None, "no"));
                    session.answer(verdict.take().unwrap_or(no));
                }
                Step::Close => return true,
                _ => return false,
            }
        }
    };
    assert!(!refuse_all(Verdict::Accept));
    assert!(refuse_all(Verdict::Refuse(Reply::new(550, None, "no"))));
}

#[test]
fn content_takes_little_more_memory_than_its_size_and_never_more_than_its_limit() {
    const LIMIT: usize = 5_000_000;
    let mut session = session_for(LIMIT as u64);
    feed(&mut session, &[ENVELOPE.as_bytes()]);
    let lines = b"0123456\r\n".repeat(1000);
    for received in (1..).map(|n| n * lines.len()).take_while(|n| *n <= LIMIT) {
        feed(&mut session, &[&lines]);
        let held = session.body_bytes();
        assert!((received..=LIMIT).contains(&held), "{held} for {received}");
        let doubled = received < 1 << 20;
        let most = received + received / if doubled { 1 } else { 4 } + lines.len();
        assert!(held <= most, "{held} for {received}");
    }
}

#[test]
fn content_is_counted_while_it_arrives_and_dropped_when_too_big() {
    let mut session = session();
    feed(&mut session, &[ENVELOPE.as_bytes()]);
    feed(&mut session, &[b"0123456789"]);
    assert!((10..100).contains(&session.body_bytes()));
    let chunk = vec![b'x'; 1 << 20];
    let mut input = BytesMut::from(chunk.as_slice());
    assert!(matches!(session.step(&mut input), Step::NeedInput));
    assert_eq!(session.body_bytes(), 0, "past the limit nothing is kept");
    let outcome = feed(&mut session, &[b"\r\n.\r\n"]);
    assert!(
        last_reply(&outcome).starts_with("552 5.3.4"),
        "{}",
        outcome.replies
    );
    assert!(outcome.messages.is_empty());
}

#[test]
fn the_biggest_message_allowed_is_taken() {
    let mut session = session();
    feed(&mut session, &[ENVELOPE.as_bytes()]);
    let mut content = vec![b'x'; (1 << 20) - 2];
    content.extend_from_slice(b"\r\n");
    let outcome = feed(&mut session, &[&content, b".\r\n"]);
    assert_eq!(outcome.messages, [Bytes::from(content)]);
}

const CHUNKED: &str = "EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n";

#[test]
fn chunks_are_counted_while_they_arrive_and_between() {
    let mut session = session();
    feed(&mut session, &[CHUNKED.as_bytes(), b"BDAT 10\r\n01234"]);
    assert!(session.is_receiving());
    assert!((5..100).contains(&session.body_bytes()));
    feed(&mut session, &[b"56789"]);
    assert!(!session.is_receiving());
    assert!((10..100).contains(&session.body_bytes()));
    session.abandon_body(Reply::new(452, None, "no room"));
    assert_eq!(session.body_bytes(), 0);
    let outcome = feed(&mut session, &[b"BDAT 3 LAST\r\nabc"]);
    assert_eq!(outcome.replies, "452 no room\r\n");
}

#[test]
fn a_chunk_that_is_too_big_is_not_kept_at_all() {
    let mut session = session();
    let size = (1 << 20) + 1;
    let command = format!("BDAT {size} LAST\r\n");
    feed(&mut session, &[CHUNKED.as_bytes(), command.as_bytes()]);
    let piece = vec![b'x'; 1000];
    for _ in 0..size / piece.len() {
        feed(&mut session, &[&piece]);
        assert_eq!(session.body_bytes(), 0);
    }
    let rest = vec![b'x'; size % piece.len()];
    let outcome = feed(&mut session, &[&rest, b"NOOP\r\n"]);
    let expected = "552 5.3.4 Message too big, the limit is 1048576 bytes\r\n250 2.0.0 Ok\r\n";
    assert_eq!(outcome.replies, expected);
}

#[test]
fn the_biggest_message_allowed_is_taken_in_chunks() {
    let mut session = session();
    let half = vec![b'x'; 1 << 19];
    let command = format!("BDAT {}\r\n", half.len());
    let last = format!("BDAT {} LAST\r\n", half.len());
    let mut end = half.clone();
    end.truncate(half.len() - 2);
    end.extend_from_slice(b"\r\n");
    let pieces = [
        CHUNKED.as_bytes(),
        command.as_bytes(),
        &half,
        last.as_bytes(),
        &end,
    ];
    let outcome = feed(&mut session, &pieces);
    assert_eq!(outcome.messages, [Bytes::from([half, end].concat())]);
}

#[test]
fn empty_chunks_are_bounded() {
    let mut session = session();
    let chunks = "BDAT 0\r\n".repeat(10_000);
    let outcome = feed(&mut session, &[CHUNKED.as_bytes(), chunks.as_bytes()]);
    assert!(outcome.closed);
    assert!(last_reply(&outcome).starts_with("421 4.7.0"));
}

#[test]
fn a_step_before_the_answer_takes_nothing() {
    let mut session = session();
    let mut input = BytesMut::from("EHLO a\r\nMAIL FROM:<a@b>\r\nNOOP\r\n");
    assert!(matches!(
        session.step(&mut input),
        Step::Request(Request::Sender(_))
    ));
    assert!(matches!(session.step(&mut input), Step::NeedInput));
    assert_eq!(input, "NOOP\r\n");
    session.answer(Verdict::Accept);
    assert!(matches!(session.step(&mut input), Step::NeedInput));
    assert!(input.is_empty());
}

#[test]
fn answers_without_a_request_and_handshakes_without_starttls_do_nothing() {
    let mut session = session();
    feed(&mut session, &[b"EHLO a\r\n"]);
    session.answer(Verdict::Queued("never".to_owned()));
    session.tls_established();
    session.abandon_body(Reply::new(451, None, "never"));
    assert!(session.output().is_empty());
    assert_eq!(session.peer().helo, "a");
}

#[test]
fn an_answer_to_another_question_grants_nothing() {
    let login = "EHLO a\r\nAUTH PLAIN AHUAcHc=\r\n";
    let (mail, rcpt) = (
        "EHLO a\r\nMAIL FROM:<a@b>\r\n",
        "EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n",
    );
    let queued = Verdict::Queued("Ok".to_owned());
    let reprioritized = Verdict::Reprioritized(crate::Priority::default());
    let cases = [
        (login, &queued),
        (login, &reprioritized),
        (mail, &queued),
        (rcpt, &queued),
        (rcpt, &reprioritized),
    ];
    for (dialogue, verdict) in cases {
        let mut session = session();
        let mut input = BytesMut::from(dialogue);
        while let Step::Request(_) = session.step(&mut input) {
            session.answer(match input.is_empty() {
                true => verdict.clone(),
                false => Verdict::Accept,
            });
        }
        let replies = String::from_utf8(session.output().to_vec()).unwrap();
        let last = replies.lines().last().unwrap();
        assert_eq!(last, "451 4.3.0 Local error, try again", "{verdict:?}");
        assert_eq!(session.peer().user, None, "{verdict:?}");
    }
}

#[test]
fn a_timeout_while_a_verdict_is_awaited_closes() {
    let mut session = session();
    let mut input = BytesMut::from("EHLO a\r\nMAIL FROM:<a@b>\r\n");
    assert!(matches!(session.step(&mut input), Step::Request(_)));
    session.timed_out();
    session.answer(Verdict::Accept);
    assert!(matches!(session.step(&mut input), Step::Close));
    let replies = session.output().split();
    assert!(replies.ends_with(b"421 4.4.2 mail.example.com waited too long, closing\r\n"));
}

#[test]
fn what_is_known_of_the_peer_is_forgotten_at_starttls() {
    let mut session = Session::new(ServerConfig {
        tls: TlsOffer::Required,
        auth: AuthOffer::UnderTls,
        ..ServerConfig::new("mail.example.com")
    });
    feed(&mut session, &[b"EHLO plain\r\n"]);
    assert_eq!(
        (session.peer().helo.as_str(), session.peer().tls),
        ("plain", false)
    );
    let mut input = BytesMut::from("STARTTLS\r\n");
    assert!(matches!(session.step(&mut input), Step::StartTls));
    input.extend_from_slice(b"EHLO injected\r\n");
    assert!(matches!(session.step(&mut input), Step::StartTls));
    assert!(input.is_empty(), "plaintext behind STARTTLS is dropped");
    session.tls_established();
    let expected = SessionInfo {
        tls: true,
        ..SessionInfo::default()
    };
    assert_eq!(session.peer(), &expected);
    feed(
        &mut session,
        &[b"EHLO secret\r\nAUTH PLAIN AHVzZXIAcGFzcw==\r\n"],
    );
    let peer = session.peer();
    assert_eq!((peer.esmtp, peer.user.as_deref()), (true, Some("user")));
}

#[test]
fn a_password_shows_in_no_debug_output() {
    let mut session = session();
    let mut input = BytesMut::from("EHLO a\r\nAUTH PLAIN AHVzZXIAcGFzczEyMw==\r\n");
    let step = session.step(&mut input);
    assert!(matches!(step, Step::Request(Request::Authenticate { .. })));
    assert!(!format!("{step:?} {session:?}").contains("pass123"));
}

/// Command lines and pieces of them, so that arbitrary input gets past the first state.
fn dialogue() -> impl Strategy<Value = Vec<u8>> {
    let known = proptest::sample::select(vec![
        "EHLO a\r\n",
        "HELO b\r\n",
        "MAIL FROM:<a@b>\r\n",
        "MAIL FROM:<> SIZE=10\r\n",
        "RSET\r\n",
        "RCPT TO:<c@d>\r\n",
        "DATA\r\n",
        ".\r\n",
        "\r\n.\r\n",
        "\n.\n",
        "\r.\r",
        "text",
        "\r\n",
        "\r",
        "\n",
        ".",
        "AUTH PLAIN\r\n",
        "AHVzZXIAcGFzcw==\r\n",
        "*\r\n",
        "AUTH LOGIN\r\n",
        "NOOP\r\n",
        "\0",
        "STARTTLS\r\n",
        "VRFY x\r\n",
        "QUIT\r\n",
        "BDAT 0\r\n",
        "BDAT 0 LAST\r\n",
        "BDAT 4\r\ntext",
        "BDAT 9\r\n",
        "BDAT 6 LAST\r\na\nb\rc\r",
        "BDAT 2000000 LAST\r\n",
        "BDAT x\r\n",
        CHUNKED,
        "GET / HTTP/1.1\r\n",
        ENVELOPE,
    ]);
    let part = prop_oneof![
        8 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn arbitrary_input_never_panics_and_never_yields_bare_newlines(
        octets in dialogue(),
        read in 1usize..50,
    ) {
        let pieces: Vec<&[u8]> = octets.chunks(read).collect();
        let outcome = feed(&mut session(), &pieces);
        for message in &outcome.messages {
            prop_assert!(crate::content::is_canonical(std::slice::from_ref(message)));
            prop_assert!(!message.contains(&0));
        }
        prop_assert!(outcome.replies.is_empty() || outcome.replies.ends_with("\r\n"));
        let stripped = outcome.replies.replace("\r\n", "");
        prop_assert!(!stripped.contains(char::is_control), "{}", stripped);
    }

    #[test]
    fn the_result_does_not_depend_on_how_reads_are_split(octets in dialogue(), read in 2usize..50) {
        // Bytes behind DATA and STARTTLS in one read are an offence, so these commands end a read.
        let mut reads = Vec::new();
        let mut rest = octets.as_slice();
        while !rest.is_empty() {
            let end = ["DATA\r\n", "STARTTLS\r\n"]
                .iter()
                .filter_map(|last| memchr::memmem::find(rest, last.as_bytes()).map(|at| at + last.len()))
                .min()
                .unwrap_or(rest.len());
            let (head, tail) = rest.split_at(end);
            reads.push(head);
            rest = tail;
        }
        let whole = feed(&mut session(), &reads);
        let split: Vec<&[u8]> = reads.iter().flat_map(|head| head.chunks(read)).collect();
        prop_assert_eq!(&feed(&mut session(), &split), &whole);
        let single: Vec<&[u8]> = octets.chunks(1).collect();
        prop_assert_eq!(&feed(&mut session(), &single), &whole);
    }
}
