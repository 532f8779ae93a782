use super::*;

/// What a reply means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Class {
    /// Everybody's mail waits.
    Throttle,
    /// A login or TLS is missing.
    Upstream,
    /// The sender's mail is refused.
    Sender,
    /// The message, or this recipient, is refused.
    Message,
    /// The message, or this recipient, is put off.
    Later,
}

/// What a reply answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Mail,
    Recipient,
    Content,
}

use Class::{Later, Message, Sender, Throttle, Upstream};
use Step::{Content, Mail, Recipient};

/// Replies after a login.
const CASES: &[(Step, &str, Class)] = &[
    // Less, please.
    (Mail, "454 Throttling failure: Maximum rate", Throttle),
    (Mail, "454 4.7.0 too fast", Throttle),
    (Mail, "432 4.7.12 a password is needed", Throttle),
    (Mail, "450 4.3.2 not now", Throttle),
    (Mail, "451 4.7.28 unusual rate", Throttle),
    (Content, "454 Throttling failure: Daily quota", Throttle),
    (Content, "432 4.3.2 too many connections", Throttle),
    // What a recipient or a message may have brought about.
    (Recipient, "432 4.3.2 too many connections", Later),
    (Recipient, "450 4.3.2 not now", Later),
    (Recipient, "450 4.7.28 unusual rate", Later),
    (Content, "451 4.3.2 not now", Later),
    (Content, "450 4.7.28 unusual rate", Later),
    // Close to a throttle.
    (Recipient, "454 4.7.1 relay access denied", Later),
    (Recipient, "454 no", Later),
    (Mail, "450 4.7.1 later", Later),
    (Mail, "451 4.3.0 later", Later),
    (Recipient, "450 4.2.1 this one gets much mail", Later),
    (Recipient, "450 4.7.1 greylisted", Later),
    (Content, "450 4.7.27 no", Later),
    (Content, "452 4.3.1 full", Later),
    // What is missing is not the sender's.
    (Mail, "530 5.7.0 log in", Upstream),
    (Mail, "534 5.7.9 stronger", Upstream),
    (Mail, "535 5.7.8 wrong", Upstream),
    (Mail, "538 5.7.11 encrypt", Upstream),
    // The sender.
    (Mail, "554 Message rejected: not verified", Sender),
    (Mail, "550 5.7.60 not allowed to send as", Sender),
    (Mail, "550 5.7.1 never", Sender),
    (Mail, "553 5.7.1 not owned by user", Sender),
    (Mail, "553 5.1.8 no such domain", Sender),
    (Mail, "501 5.1.7 bad address", Sender),
    (Mail, "551 x", Sender),
    (Mail, "503 5.5.1 authenticate first", Sender),
    // The message, also at MAIL.
    (Mail, "552 5.3.4 too big", Message),
    (Mail, "552 x", Message),
    (Mail, "555 5.5.4 what parameter", Message),
    (Mail, "501 5.5.4 what parameter", Message),
    (Mail, "501 syntax", Message),
    (Mail, "504 5.5.4 not here", Message),
    (Mail, "500 5.5.6 line too long", Message),
    (Mail, "500 line too long", Message),
    (Mail, "502 not here", Message),
    (Mail, "550 5.5.4 what parameter", Message),
    (Mail, "550 5.4.7 sooner than I can", Message),
    (Mail, "550 5.7.15 priority is too low", Message),
    (Mail, "554 5.7.16 too big for this priority", Message),
    (Mail, "550 5.2.3 too long", Message),
    (Mail, "554 5.3.4 too big", Message),
    (Mail, "550 5.6.7 not in UTF-8", Message),
    (Mail, "550 5.7.10 encrypt", Message),
    (Mail, "550 5.7.30 no REQUIRETLS", Message),
    // Anywhere else it is not about the sender.
    (Recipient, "550 5.7.1 never", Message),
    (Content, "554 5.7.1 never", Message),
    (Content, "554 not verified", Message),
    // A status of another class than its code.
    (Mail, "550 4.3.2 never", Sender),
];

fn reply(line: &str) -> Reply {
    let mut input = bytes::BytesMut::from(format!("{line}\r\n").as_bytes());
    let mut reader = crate::reply::ReplyReader::default();
    reader.next(&mut input).unwrap().unwrap()
}

fn class(posture: Posture, step: Step, reply: &Reply) -> Class {
    let mut judge = Judge::new(posture);
    let outcome = match step {
        Mail => judge.mail(reply),
        Recipient => judge.recipient(reply),
        Content => judge.content(reply),
    };
    judge.answered();
    let is_failed = matches!(outcome, RecipientOutcome::Failed(_));
    match (judge.end(), judge.sender()) {
        (End::Held(failure), SenderVerdict::Unknown) if !is_failed => match failure.kind {
            FailureKind::Throttled => Throttle,
            _ => Upstream,
        },
        (End::Answered, SenderVerdict::Rejected(_)) if is_failed => Sender,
        (End::Answered, SenderVerdict::Unknown) if is_failed => Message,
        (End::Answered, SenderVerdict::PutOff) if step == Mail => Later,
        (End::Answered, SenderVerdict::Unknown) if step != Mail => Later,
        other => panic!("{step:?} {reply}: {outcome:?} {other:?}"),
    }
}

#[test]
fn a_refusal_is_about_what_its_step_and_its_codes_say() {
    for (step, line, expected) in CASES {
        let class = class(Posture::LoggedIn, *step, &reply(line));
        assert_eq!(class, *expected, "{step:?} {line}");
    }
}

#[test]
fn without_a_login_no_word_about_a_message_slows_the_server() {
    for posture in [Posture::Anonymous, Posture::StarttlsUnused] {
        for (step, expected) in [(Mail, Throttle), (Recipient, Later), (Content, Later)] {
            for line in ["432 x", "454 x", "450 4.3.2 x", "451 4.7.28 x"] {
                let class = class(posture, step, &reply(line));
                assert_eq!(class, expected, "{posture:?} {step:?} {line}");
            }
        }
    }
}
