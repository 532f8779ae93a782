use super::*;

const MINUTE_MS: u64 = 60_000;

fn at(now_ms: u64) -> Moment {
    Moment {
        now_ms,
        random: 0.5,
    }
}

fn no() -> Reply {
    Reply::new(554, None, "not verified")
}

#[test]
fn one_message_of_a_rejected_sender_is_tried_per_pause_and_pauses_grow() {
    let mut senders = Senders::default();
    assert_eq!(senders.pass("a@x", 0), Pass::Go);
    let (mut now_ms, mut pauses) = (0, Vec::new());
    for _ in 0..6 {
        let (until_ms, news) = senders.rejected("a@x", &no(), at(now_ms));
        assert_eq!(news, News::New);
        assert_eq!(
            senders.rejected("a@x", &no(), at(now_ms)),
            (until_ms, News::Old),
            "those that were under way are the same rejection"
        );
        let waits = Pass::Rejected(until_ms, no());
        assert_eq!(senders.pass("a@x", until_ms - 1), waits);
        assert_eq!(senders.pass("b@x", now_ms), Pass::Go);
        assert_eq!(senders.pass("a@x", until_ms), Pass::Go, "the pause is over");
        let meanwhile = Pass::Meanwhile(until_ms + MEANWHILE_MS);
        assert_eq!(senders.pass("a@x", until_ms), meanwhile);
        pauses.push((until_ms - now_ms) / MINUTE_MS);
        now_ms = until_ms;
    }
    assert_eq!(pauses, [15, 30, 60, 120, 240, 240]);
    assert_eq!(senders.accepted("a@x"), News::New);
    assert_eq!(senders.accepted("a@x"), News::Old);
    assert_eq!(senders.pass("a@x", now_ms), Pass::Go);
    assert_eq!(senders.status(), None);
}

#[test]
fn the_first_pause_is_a_quarter_of_an_hour_at_least() {
    let mut senders = Senders::default();
    let at = Moment {
        now_ms: 0,
        random: 0.0,
    };
    assert_eq!(senders.rejected("a@x", &no(), at).0, 15 * MINUTE_MS);
}

#[test]
fn a_trial_that_comes_to_nothing_is_followed_by_another() {
    let mut senders = Senders::default();
    let (until_ms, _) = senders.rejected("a@x", &no(), at(0));
    assert_eq!(senders.pass("a@x", until_ms), Pass::Go);
    let next_ms = until_ms + TRIAL_MS;
    let meanwhile = Pass::Meanwhile(next_ms - 1 + MEANWHILE_MS);
    assert_eq!(senders.pass("a@x", next_ms - 1), meanwhile);
    assert_eq!(senders.pass("a@x", next_ms), Pass::Go);
}

#[test]
fn whoever_wants_mail_to_be_tried_gets_one_trial() {
    let mut senders = Senders::default();
    senders.rejected("a@x", &no(), at(1));
    senders.try_all();
    senders.forget(15 * MINUTE_MS);
    assert_eq!(senders.pass("a@x", 2), Pass::Go);
    senders.try_all();
    assert_eq!(senders.pass("a@x", 2), Pass::Meanwhile(2 + MEANWHILE_MS));
}

#[test]
fn the_status_names_the_one_that_waits_longest_until_no_mail_of_it_waits() {
    let mut senders = Senders::default();
    senders.rejected("b@x", &no(), at(1));
    let (until_ms, _) = senders.rejected("a@x", &no(), at(2));
    let status = senders.status().unwrap();
    assert_eq!((&*status.sender, status.senders), ("b@x", 2));
    assert_eq!(status.reply, "554 not verified");
    senders.forget(until_ms + FORGOTTEN_AFTER_MS - 1);
    assert_eq!(senders.status().unwrap().sender, "a@x");
    senders.forget(until_ms + FORGOTTEN_AFTER_MS);
    assert_eq!(senders.status(), None);
}

#[test]
fn senders_and_their_replies_are_bounded() {
    let mut senders = Senders::default();
    let long = Reply::new(554, None, "ä".repeat(REPLY_MAX));
    for number in 0..=SENDERS_MAX as u64 {
        senders.rejected(&format!("{number}@x"), &long, at(number));
    }
    assert_eq!(senders.rejected.len(), SENDERS_MAX);
    assert_eq!(senders.pass("0@x", 1), Pass::Go, "it was the first");
    let Pass::Rejected(_, reply) = senders.pass("1@x", 1) else {
        panic!("it is forgotten")
    };
    assert_eq!(reply.lines()[0].len(), REPLY_MAX);
}
