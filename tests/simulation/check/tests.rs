//! The check is told of losses, duplicates and strays, and finds them.

use postroad_smtp::{BodyKind, DeliverBy, OnExpiry};

use super::*;
use crate::intervention::Intervention;
use crate::letter::{Carried, Letter, Passed};
use crate::plan::Routing;

const SECOND: Duration = Duration::from_secs(1);
const QUEUED: Acceptance = Acceptance {
    at: SECOND,
    kept: Kept::Queued,
};

/// What is sent to recipients of number 1: nobody wants to hear of the last, of the one before success is told.
fn letter() -> Letter {
    let asked = ["", "", "SUCCESS,FAILURE", "NEVER"];
    let recipient = |(index, notify): (usize, &str)| {
        let notify = (!notify.is_empty()).then(|| notify.parse().unwrap());
        (format!("m1-{index}@a.example"), notify)
    };
    Letter {
        sender: "s1@sender.example".into(),
        login: None,
        recipients: asked.into_iter().enumerate().map(recipient).collect(),
        deliver_by: None,
        hold: None,
        content: b"content".into(),
    }
}

/// It, as the right hop gets it.
const CARRIED: Carried<'static> = Carried {
    routing: Routing::Smarthosts,
    hop: 0,
    sender: "s1@sender.example",
    notify: Passed::Nothing,
    declared: BodyKind::SevenBit,
    deliver_by: None,
    content: b"Received: content",
};

const ARRIVAL: Arrival = Arrival {
    at: SECOND,
    fate: Fate::Delivered,
    answer: Answer::Given,
    reports: Reports::Here,
};

/// A ledger in which a recipient was delivered at these seconds, each with an answer.
fn ledger(accepted: &[&str], deliveries: &[(&str, u32, Answer)]) -> Ledger {
    let ledger = Ledger::default();
    ledger.sent(1, letter());
    for recipient in accepted {
        ledger.accepted(recipient, QUEUED);
    }
    for (recipient, second, answer) in deliveries {
        let arrival = Arrival {
            at: SECOND * *second,
            answer: *answer,
            ..ARRIVAL
        };
        ledger.arrived(recipient, &CARRIED, arrival);
    }
    ledger
}

#[test]
fn what_was_accepted_and_is_nowhere_is_lost() {
    let delivered = [("m1-0@a.example", 1, Answer::Given)];
    let ledger = ledger(
        &["m1-0@a.example", "m1-1@a.example", "m1-2@a.example"],
        &delivered,
    );
    let queued = BTreeSet::from(["m1-1@a.example".to_owned()]);
    let balance = check(&ledger, &queued, Storage::Durable);
    assert_eq!(balance.errors, ["m1-2@a.example was accepted and is lost"]);
}

#[test]
fn what_comes_twice_needs_a_reason() {
    for (answer, trouble, errors) in [
        (Answer::Given, None, 1),
        (Answer::Withheld, None, 0),
        // While the record was written, and long before and after.
        (Answer::Given, Some((10, 10)), 0),
        (Answer::Given, Some((9, 12)), 0),
        (Answer::Given, Some((2, 9)), 1),
        (Answer::Given, Some((12, 13)), 1),
    ] {
        let ledger = ledger(
            &[],
            &[
                ("m1-0@a.example", 10, answer),
                ("m1-0@a.example", 20, Answer::Given),
            ],
        );
        if let Some((from, until)) = trouble {
            ledger.trouble(SECOND * from, SECOND * until);
        }
        let balance = check(&ledger, &BTreeSet::new(), Storage::Durable);
        let found = (balance.errors.len(), balance.counts.duplicates);
        assert_eq!(found, (errors, 1), "{answer:?} {trouble:?}");
    }
}

#[test]
fn what_comes_to_somebody_else_or_otherwise_than_it_was_sent_is_told() {
    let success = Passed::Notify(Some("SUCCESS".parse().unwrap()));
    for (recipient, carried, is_right) in [
        ("m1-0@a.example", CARRIED, true),
        ("m2-0@a.example", CARRIED, false),
        ("m1-9@a.example", CARRIED, false),
        (
            "m1-0@a.example",
            Carried {
                content: b"conten",
                ..CARRIED
            },
            false,
        ),
        (
            "m1-0@a.example",
            Carried {
                sender: "s2@sender.example",
                ..CARRIED
            },
            false,
        ),
        (
            "m1-0@a.example",
            Carried {
                content: "Received: \u{fc} content".as_bytes(),
                ..CARRIED
            },
            false,
        ),
        ("m1-0@a.example", Carried { hop: 1, ..CARRIED }, false),
        (
            "m1-0@a.example",
            Carried {
                notify: success,
                ..CARRIED
            },
            false,
        ),
        (
            "m1-0@a.example",
            Carried {
                notify: Passed::Notify(None),
                ..CARRIED
            },
            true,
        ),
    ] {
        let ledger = ledger(&[], &[]);
        ledger.arrived(recipient, &carried, ARRIVAL);
        let errors = check(&ledger, &BTreeSet::new(), Storage::Durable).errors;
        assert_eq!(
            errors.is_empty(),
            is_right,
            "{recipient} {carried:?} {errors:?}"
        );
    }
}

#[test]
fn reports_come_to_who_wants_them_and_to_nobody_else() {
    let (sender, other) = ("s1@sender.example", "s2@sender.example");
    for (index, to, fails, succeeds) in [
        (0, sender, true, false),
        (0, other, false, false),
        (2, sender, true, true),
        (2, other, false, false),
        (3, sender, false, false),
    ] {
        let recipient = format!("m1-{index}@a.example");
        let told = |report: &dyn Fn(&Ledger)| {
            let ledger = ledger(&[], &[(&recipient, 1, Answer::Given)]);
            report(&ledger);
            ledger.wrong().is_empty()
        };
        assert_eq!(
            told(&|ledger| ledger.bounced(&recipient, to, ARRIVAL)),
            fails
        );
        assert_eq!(told(&|ledger| ledger.relayed(&recipient, to)), succeeds);
    }
    let nowhere = ledger(&[], &[]);
    nowhere.relayed("m1-2@a.example", sender);
    assert_eq!(nowhere.wrong().len(), 1, "it has not been there");
}

#[test]
fn who_asks_is_told_that_a_message_was_passed_on_where_nobody_else_says_so() {
    for (index, reports, is_told, errors) in [
        (0, Reports::Nobody, false, 0),
        (2, Reports::Here, false, 0),
        (2, Reports::Nobody, true, 0),
        (2, Reports::Nobody, false, 1),
    ] {
        let recipient = format!("m1-{index}@a.example");
        let ledger = ledger(&[&recipient], &[]);
        ledger.arrived(&recipient, &CARRIED, Arrival { reports, ..ARRIVAL });
        if is_told {
            ledger.relayed(&recipient, CARRIED.sender);
        }
        let balance = check(&ledger, &BTreeSet::new(), Storage::Durable);
        assert_eq!(balance.errors.len(), errors, "{index} {reports:?}");
    }
}

#[test]
fn who_says_by_when_is_told_that_it_is_late_and_nobody_else() {
    for (index, on_expiry, errors) in [
        (0, Some(OnExpiry::Notify), 0),
        (0, Some(OnExpiry::Return), 1),
        (0, None, 1),
        (2, Some(OnExpiry::Notify), 1),
        (3, Some(OnExpiry::Notify), 1),
    ] {
        let by = |mode| DeliverBy::new(9, mode, false).unwrap();
        let deliver_by = on_expiry.map(by);
        let ledger = Ledger::default();
        ledger.sent(
            1,
            Letter {
                deliver_by,
                ..letter()
            },
        );
        ledger.delayed(&format!("m1-{index}@a.example"), CARRIED.sender);
        assert_eq!(ledger.wrong().len(), errors, "{index} {on_expiry:?}");
    }
}

#[test]
fn a_next_hop_is_given_no_more_time_than_there_was() {
    let by = |seconds, mode| DeliverBy::new(seconds, mode, false);
    let asked = by(9, OnExpiry::Return);
    for (asked, told, is_right) in [
        (None, None, true),
        (None, asked, false),
        (asked, None, false),
        (asked, asked, true),
        (asked, by(7, OnExpiry::Return), true),
        (asked, by(10, OnExpiry::Return), false),
        (asked, by(7, OnExpiry::Notify), false),
    ] {
        let letter = Letter {
            deliver_by: asked,
            ..letter()
        };
        let carried = Carried {
            deliver_by: told,
            ..CARRIED
        };
        let found = letter.is_carried_right("m1-0@a.example", &carried);
        assert_eq!(found, is_right, "{asked:?} {told:?}");
    }
}

#[test]
fn what_is_refused_is_gone_only_if_nobody_wants_to_hear_of_it() {
    for (index, refused, errors) in [
        (0, Some("m1-0@a.example"), 1),
        (3, None, 1),
        (3, Some("m1-0@a.example"), 1),
        (3, Some("m1-3@a.example"), 0),
        (3, Some(CARRIED.sender), 0),
    ] {
        let ledger = ledger(&[&format!("m1-{index}@a.example")], &[]);
        if let Some(refused) = refused {
            ledger.refused(refused);
        }
        let balance = check(&ledger, &BTreeSet::new(), Storage::Durable);
        assert_eq!(balance.errors.len(), errors, "{index} {refused:?}");
    }
}

#[test]
fn a_relaxed_spool_may_lose_what_came_shortly_before_the_power_went() {
    let storage = Storage::Relaxed {
        sync: Duration::from_millis(500),
    };
    for (accepted, cut, unflushed, lost) in [
        // Shortly before, long before, shortly after, when the answer was on its way, and long after.
        (10_000, 10_400, None, 0),
        (10_000, 11_000, None, 1),
        (10_000, 9_900, None, 0),
        (10_000, 9_000, None, 1),
        // The disk failed when the flush was due, and later; no process ran until the power went.
        (10_000, 12_000, Some((10_300, 11_900)), 0),
        (10_000, 12_000, Some((11_000, 11_900)), 1),
        (10_000, 12_000, Some((10_100, 12_000)), 0),
    ] {
        let ledger = Ledger::default();
        let ms = Duration::from_millis;
        let kept = Kept::Queued;
        let at = ms(accepted);
        ledger.accepted("m1-0@a.example", Acceptance { at, kept });
        ledger.power_cut(ms(cut));
        if let Some((from, until)) = unflushed {
            ledger.unflushed(ms(from), ms(until));
        }
        let balance = check(&ledger, &BTreeSet::new(), storage);
        let found = (balance.errors.len(), balance.counts.taken);
        let case = (accepted, cut, unflushed);
        assert_eq!(found, (lost, 1 - lost), "{case:?}");
        let strict = check(&ledger, &BTreeSet::new(), Storage::Durable);
        assert_eq!(strict.errors.len(), 1, "{case:?}");
    }
}

#[test]
fn what_is_passed_on_must_have_been_there_before() {
    for (delivered, told, errors) in [(3, 4, 0), (5, 4, 1)] {
        let ledger = ledger(&[], &[("m1-0@a.example", delivered, Answer::Given)]);
        let (at, kept) = (SECOND * told, Kept::PassedOn);
        ledger.accepted("m1-0@a.example", Acceptance { at, kept });
        let balance = check(&ledger, &BTreeSet::new(), Storage::Passthrough);
        let found = (balance.errors.len(), balance.counts.passed_on);
        assert_eq!(found, (errors, 1), "{delivered} {told}");
    }
}

#[test]
fn what_was_converted_is_what_was_sent_and_says_so() {
    let letter = Letter {
        content: "Subject: m1\r\n\r\ngr\u{fc}n=\r\n".into(),
        ..letter()
    };
    let label = "Content-Transfer-Encoding: quoted-printable\r\n";
    for (header, body, expected) in [
        (label, "gr=C3=BCn=3D\r\n", true),
        (label, "gr=C3=\r\n=BCn=3D\r\n", true),
        (label, "gr=C3=BCn\r\n", false),
        (label, "gr\u{fc}n=3D\r\n", false),
        ("", "gr=C3=BCn=3D\r\n", false),
    ] {
        let content = format!("Received: x\r\nSubject: m1\r\n{header}\r\n{body}");
        let carried = Carried {
            content: content.as_bytes(),
            ..CARRIED
        };
        let is_right = letter.is_carried_right("m1-0@a.example", &carried);
        assert_eq!(is_right, expected, "{content}");
    }
}

#[test]
fn what_is_held_by_its_client_or_by_hand_does_not_come() {
    let held = Letter {
        hold: Some((3, 4 * SECOND)),
        ..letter()
    };
    for (letter, at, errors) in [
        (held.clone(), 3, 1),
        (held, 4, 0),
        // By hand, from 10 to 30; what was under way then may come.
        (letter(), 9, 0),
        (letter(), 15, 0),
        (letter(), 17, 1),
        (letter(), 29, 1),
        (letter(), 30, 0),
    ] {
        let ledger = Ledger::default();
        ledger.sent(1, letter);
        ledger.begin(Intervention::Hold("a.example"), 10 * SECOND);
        ledger.begin(Intervention::Hold("b.example"), Duration::ZERO);
        ledger.end(Intervention::Hold("a.example"), 30 * SECOND);
        let arrival = Arrival {
            at: SECOND * at,
            ..ARRIVAL
        };
        ledger.arrived("m1-0@a.example", &CARRIED, arrival);
        assert_eq!(ledger.wrong().len(), errors, "{at} {:?}", ledger.wrong());
    }
}

#[test]
fn another_way_is_taken_for_as_long_as_it_stands() {
    let recipient = "m1-0@b.example";
    for (hop, at, is_right) in [
        (1, 9, true),
        (0, 9, false),
        (1, 11, true),
        (0, 11, true),
        (1, 20, false),
        (0, 20, true),
        (1, 31, true),
        (0, 31, true),
        (1, 40, true),
        (0, 40, false),
    ] {
        let ledger = Ledger::default();
        let recipients = [(recipient.to_owned(), None)].into();
        ledger.sent(
            1,
            Letter {
                recipients,
                ..letter()
            },
        );
        ledger.begin(Intervention::Reroute, 10 * SECOND);
        ledger.end(Intervention::Reroute, 30 * SECOND);
        let arrival = Arrival {
            at: SECOND * at,
            ..ARRIVAL
        };
        ledger.arrived(recipient, &Carried { hop, ..CARRIED }, arrival);
        assert_eq!(ledger.wrong().is_empty(), is_right, "{hop} at {at}");
        assert_eq!(ledger.rerouted_recipients() == 1, hop == 0);
    }
}

#[test]
fn what_is_returned_by_hand_is_somebodys_wish_and_may_go_without_a_word_where_nobody_wants_one() {
    let (to_be_told, never) = ("m1-0@a.example", "m1-3@a.example");
    for (domain, from, is_wanted, lost) in [
        ("a.example", 0, true, vec![to_be_told]),
        ("a.example", 3, false, vec![to_be_told]),
        ("b.example", 0, false, vec![to_be_told, never]),
    ] {
        let ledger = ledger(&[to_be_told, never], &[]);
        ledger.begin(Intervention::Bounce(domain), SECOND * from);
        let balance = check(&ledger, &BTreeSet::new(), Storage::Durable);
        let expected = lost.into_iter();
        let expected: Vec<String> = expected
            .map(|one| format!("{one} was accepted and is lost"))
            .collect();
        assert_eq!(balance.errors, expected);
        ledger.returned(to_be_told, 2 * SECOND);
        assert_eq!(ledger.wrong().is_empty(), is_wanted, "{domain} from {from}");
    }
    let over = ledger(&[never], &[]);
    over.begin(Intervention::Bounce("a.example"), Duration::ZERO);
    over.end(Intervention::Bounce("a.example"), Duration::ZERO);
    let late = Acceptance {
        at: 7 * SECOND,
        ..QUEUED
    };
    over.accepted(never, late);
    let balance = check(&over, &BTreeSet::new(), Storage::Durable);
    assert_eq!(balance.errors.len(), 1);
}
