use super::*;

const MINUTE_MS: u64 = 60_000;

fn at(now_ms: u64) -> Moment {
    Moment {
        now_ms,
        random: 0.5,
    }
}

fn shop() -> Account {
    Account::Login("shop".into())
}

fn no() -> Reply {
    Reply::new(554, None, "not verified")
}

impl Senders {
    fn try_one(&mut self, sender: &str, now_ms: u64) -> Pass {
        self.pass(sender, Intent::Try, Patience::Pause, now_ms)
    }

    fn reject(&mut self, sender: &str, now_ms: u64) -> u64 {
        self.rejected(Account::Network, sender, &no(), at(now_ms)).0
    }
}

#[test]
fn one_message_of_a_rejected_sender_is_tried_per_pause_and_pauses_grow() {
    let mut senders = Senders::default();
    assert_eq!(senders.try_one("a@x", 0), Pass::Go);
    let (mut now_ms, mut pauses) = (0, Vec::new());
    for _ in 0..6 {
        let (until_ms, news) = senders.rejected(Account::Network, "a@x", &no(), at(now_ms));
        assert_eq!(news, News::New);
        assert_eq!(
            senders.rejected(Account::Network, "a@x", &no(), at(now_ms)),
            (until_ms, News::Old),
            "those that were under way are the same rejection"
        );
        let waits = Pass::Wait(until_ms, no());
        assert_eq!(senders.try_one("a@x", until_ms - 1), waits);
        assert_eq!(senders.try_one("b@x", now_ms), Pass::Go);
        let looks = senders.pass("a@x", Intent::Look, Patience::Pause, until_ms);
        assert_eq!(looks, Pass::Go);
        let end_ms = until_ms + TRIAL_MS;
        assert_eq!(senders.try_one("a@x", until_ms), Pass::Try(end_ms));
        let waits = Pass::Wait(end_ms, no());
        assert_eq!(senders.try_one("a@x", until_ms), waits);
        pauses.push((until_ms - now_ms) / MINUTE_MS);
        now_ms = until_ms;
    }
    assert_eq!(pauses, [15, 30, 60, 120, 240, 240]);
    assert_eq!(senders.accepted("a@x"), News::New);
    assert_eq!(senders.accepted("a@x"), News::Old);
    assert_eq!(senders.try_one("a@x", now_ms), Pass::Go);
    assert_eq!(senders.status(), None);
}

#[test]
fn the_first_pause_is_a_quarter_of_an_hour_at_least() {
    let mut senders = Senders::default();
    let at = Moment {
        now_ms: 0,
        random: 0.0,
    };
    let (until_ms, _) = senders.rejected(Account::Network, "a@x", &no(), at);
    assert_eq!(until_ms, 15 * MINUTE_MS);
}

#[test]
fn a_trial_without_a_verdict_is_followed_by_another_soon() {
    let mut senders = Senders::default();
    let until_ms = senders.reject("a@x", 0);
    let end_ms = until_ms + TRIAL_MS;
    assert_eq!(senders.try_one("a@x", until_ms), Pass::Try(end_ms));
    senders.tried("a@x", end_ms);
    assert_eq!(
        senders.try_one("a@x", until_ms),
        Pass::Try(end_ms),
        "MAIL was not said"
    );
    senders.unclear("a@x", until_ms + 10);
    senders.tried("a@x", end_ms);
    let next_ms = until_ms + 10 + AGAIN_MS;
    assert_eq!(
        senders.try_one("a@x", next_ms - 1),
        Pass::Wait(next_ms, no())
    );
    let end_ms = next_ms + TRIAL_MS;
    assert_eq!(senders.try_one("a@x", next_ms), Pass::Try(end_ms));
    assert_eq!(
        senders.try_one("a@x", end_ms),
        Pass::Try(end_ms + TRIAL_MS),
        "it takes too long"
    );
    senders.tried("a@x", end_ms);
    let waits = Pass::Wait(end_ms + TRIAL_MS, no());
    assert_eq!(senders.try_one("a@x", end_ms), waits, "another tries");
    let until_ms = senders.reject("a@x", end_ms);
    senders.tried("a@x", end_ms + TRIAL_MS);
    assert_eq!(
        senders.try_one("a@x", end_ms),
        Pass::Wait(until_ms, no()),
        "a verdict stands"
    );
}

#[test]
fn what_does_not_wait_for_the_pause_is_tried_in_it_one_by_one_and_makes_it_no_longer() {
    let mut senders = Senders::default();
    let first_ms = senders.reject("a@x", 0);
    let until_ms = senders.reject("a@x", first_ms);
    assert_eq!(until_ms, first_ms + 30 * MINUTE_MS);
    for begin_ms in [0, 14 * MINUTE_MS + 59_999] {
        for intent in [Intent::Look, Intent::Try] {
            let pass = senders.pass("a@x", intent, Patience::Verdict, first_ms + begin_ms);
            assert_eq!(pass, Pass::Rejected(no()), "it has just been asked");
        }
    }
    let now_ms = first_ms + 15 * MINUTE_MS;
    let mut ask = |intent| senders.pass("a@x", intent, Patience::Verdict, now_ms);
    let end_ms = now_ms + TRIAL_MS;
    assert_eq!(ask(Intent::Look), Pass::Go);
    assert_eq!(ask(Intent::Try), Pass::Try(end_ms));
    assert_eq!(ask(Intent::Look), Pass::Wait(end_ms, no()));
    assert_eq!(ask(Intent::Try), Pass::Wait(end_ms, no()));
    let waits = Pass::Wait(until_ms, no());
    assert_eq!(senders.try_one("a@x", now_ms), waits);
    assert_eq!(senders.reject("a@x", now_ms), until_ms);
    senders.tried("a@x", end_ms);
    let mut ask = |now_ms| senders.pass("a@x", Intent::Try, Patience::Verdict, now_ms);
    assert_eq!(ask(now_ms + 1), Pass::Rejected(no()));
    assert_eq!(
        ask(now_ms - 1),
        Pass::Try(now_ms - 1 + TRIAL_MS),
        "a clock that is set back"
    );
}

#[test]
fn a_trial_in_a_pause_may_outlast_it() {
    let mut senders = Senders::default();
    let first_ms = senders.reject("a@x", 0);
    let until_ms = senders.reject("a@x", first_ms);
    let mut ask = |now_ms| senders.pass("a@x", Intent::Try, Patience::Verdict, now_ms);
    let now_ms = first_ms + 15 * MINUTE_MS;
    assert_eq!(ask(now_ms), Pass::Try(now_ms + TRIAL_MS));
    let end_ms = until_ms - 1 + TRIAL_MS;
    assert_eq!(ask(until_ms - 1), Pass::Try(end_ms), "it takes too long");
    let waits = Pass::Wait(end_ms, no());
    assert_eq!(
        senders.try_one("a@x", until_ms),
        waits,
        "its verdict will do"
    );
    senders.unclear("a@x", until_ms);
    senders.tried("a@x", end_ms);
    let again_ms = until_ms + AGAIN_MS;
    assert_eq!(
        senders.try_one("a@x", until_ms),
        Pass::Wait(again_ms, no()),
        "there was none"
    );
}

#[test]
fn whoever_wants_mail_to_be_tried_is_not_told_the_last_reply() {
    let mut senders = Senders::default();
    senders.reject("a@x", 1);
    senders.try_all();
    let asks = senders.pass("a@x", Intent::Try, Patience::Verdict, 2);
    assert_eq!(asks, Pass::Try(2 + TRIAL_MS));
}

#[test]
fn no_pause_outlives_a_clock_that_is_set_back() {
    let mut senders = Senders::default();
    let days_ms = 2 * 24 * 60 * MINUTE_MS;
    senders.reject("a@x", days_ms);
    assert_eq!(senders.try_one("a@x", 0), Pass::Try(TRIAL_MS));
}

#[test]
fn whoever_wants_mail_to_be_tried_gets_one_trial_and_no_longer_pause() {
    let mut senders = Senders::default();
    senders.reject("a@x", 1);
    for now_ms in [2, 3, 4] {
        senders.try_all();
        senders.try_all();
        senders.forget(15 * MINUTE_MS);
        let end_ms = now_ms + TRIAL_MS;
        assert_eq!(senders.try_one("a@x", now_ms), Pass::Try(end_ms));
        senders.try_all();
        let waits = Pass::Wait(end_ms, no());
        assert_eq!(senders.try_one("a@x", now_ms), waits);
        assert_eq!(senders.reject("a@x", now_ms), now_ms + 15 * MINUTE_MS);
    }
}

#[test]
fn the_status_names_the_one_that_waits_longest_and_of_a_login_first() {
    let mut senders = Senders::default();
    let until_ms = senders.reject("b@x", 1);
    senders.reject("a@x", 2);
    senders.rejected(shop(), "c@x", &no(), at(3));
    let status = senders.status().unwrap();
    assert_eq!((&*status.sender, status.senders), ("c@x", 3));
    assert_eq!(status.reply, "554 not verified");
    senders.accepted("c@x");
    assert_eq!(senders.status().unwrap().sender, "b@x");
    senders.forget(until_ms + FORGOTTEN_AFTER_MS);
    assert_eq!(senders.status().unwrap().sender, "a@x");
    senders.forget(until_ms + FORGOTTEN_AFTER_MS + 1);
    assert_eq!(senders.status(), None, "no mail of it waits");
}

#[test]
fn senders_and_their_replies_are_bounded_and_so_is_what_the_log_names() {
    let mut senders = Senders::default();
    let long = Reply::new(554, None, "ä".repeat(REPLY_MAX));
    let mut named = 0;
    for number in 0..=SENDERS_MAX as u64 {
        let sender = format!("{number}@x");
        let (_, news) = senders.rejected(Account::Network, &sender, &long, at(number));
        named += usize::from(news == News::New);
    }
    assert_eq!((senders.rejected.len(), named), (SENDERS_MAX, NAMED_MAX));
    assert_eq!(senders.try_one("0@x", 1), Pass::Go, "it was the first");
    let Pass::Wait(_, reply) = senders.try_one("1@x", 1) else {
        panic!("it is forgotten")
    };
    assert_eq!(reply.lines()[0].len(), REPLY_MAX);
}

#[test]
fn who_names_many_senders_pushes_out_their_own() {
    let mut senders = Senders::default();
    senders.rejected(shop(), "a@x", &no(), at(0));
    let tried_ms = senders.reject("tried@x", 0);
    assert!(matches!(senders.try_one("tried@x", tried_ms), Pass::Try(_)));
    for number in 0..2 * SENDERS_MAX as u64 {
        senders.reject(&format!("{number}@x"), number);
    }
    assert_eq!(senders.rejected.len(), SENDERS_MAX);
    assert!(
        ["a@x", "tried@x"]
            .iter()
            .all(|sender| senders.rejected.contains_key(*sender))
    );
}
