use bytes::Bytes;
use postroad_spool::{BodyType, Envelope, IdGenerator, Recipient};

use super::*;

const RULES: Rules = Rules {
    backoff: Backoff {
        initial: Duration::from_secs(60),
        maximum: Duration::from_secs(3600),
    },
    lifetime: Duration::from_secs(1000),
};

fn message(recipients: usize) -> Message {
    let recipient = |n| Recipient {
        address: format!("r{n}@example.com"),
        notify: None,
        orcpt: None,
    };
    Message {
        id: IdGenerator::new([0; 10]).next(0),
        arrival_ms: 0,
        envelope: Envelope {
            sender: "s@example.com".into(),
            recipients: (0..recipients).map(recipient).collect(),
            body: BodyType::SevenBit,
            smtputf8: false,
            credential: String::new(),
            envid: None,
            ret: None,
        },
        headers: Bytes::new(),
        body: Bytes::new(),
    }
}

fn taken() -> RecipientOutcome {
    RecipientOutcome::Delivered(Reply::new(250, None, "ok"))
}

fn later() -> RecipientOutcome {
    RecipientOutcome::Deferred(Reply::new(450, None, "busy"))
}

fn never() -> RecipientOutcome {
    let status = EnhancedStatus {
        class: 5,
        subject: 1,
        detail: 1,
    };
    RecipientOutcome::Failed(Reply::new(550, Some(status), "no such user"))
}

#[test]
fn a_message_is_done_when_every_recipient_has_its_outcome() {
    let outcomes = vec![(0, taken()), (1, never())];
    let decision = decide(
        &message(2),
        &Entry::default(),
        Charge::None,
        outcomes,
        RULES,
        0,
        0.5,
    );
    assert!(matches!(decision.next, Next::Done));
    assert_eq!((decision.delivered, decision.deferred), (1, 0));
    assert_eq!(decision.failed.len(), 1);
    assert_eq!(decision.failed[0].index, 1);
    assert!(decision.failed[0].diagnostic.contains("no such user"));
}

#[test]
fn what_is_deferred_comes_again_without_those_that_are_settled() {
    let outcomes = vec![(0, taken()), (1, later()), (2, never())];
    let decision = decide(
        &message(3),
        &Entry::default(),
        Charge::None,
        outcomes,
        RULES,
        5_000,
        0.5,
    );
    let Next::Again { attempt, entry } = decision.next else {
        panic!("{decision:?}")
    };
    assert_eq!((&*entry.settled, entry.attempts), (&[0, 2][..], 1));
    assert_eq!((attempt.attempts, attempt.next_attempt_ms), (1, 65_000));
    assert_eq!(attempt.results.len(), 3);
    assert_eq!(
        decision.failed.len(),
        1,
        "the failure is reported with this attempt"
    );

    let decision = decide(
        &message(3),
        &entry,
        Charge::None,
        vec![(1, taken())],
        RULES,
        70_000,
        0.5,
    );
    assert!(matches!(decision.next, Next::Done));
    assert!(decision.failed.is_empty(), "nothing is reported twice");
}

#[test]
fn the_pause_grows_with_the_attempts() {
    let entry = Entry {
        attempts: 2,
        ..Entry::default()
    };
    let decision = decide(
        &message(1),
        &entry,
        Charge::None,
        vec![(0, later())],
        RULES,
        0,
        0.5,
    );
    let Next::Again { attempt, .. } = decision.next else {
        panic!("{decision:?}")
    };
    assert_eq!((attempt.attempts, attempt.next_attempt_ms), (3, 240_000));
}

#[test]
fn what_is_deferred_past_its_lifetime_has_failed() {
    let decision = decide(
        &message(1),
        &Entry::default(),
        Charge::None,
        vec![(0, later())],
        RULES,
        1_000_000,
        0.5,
    );
    assert!(matches!(decision.next, Next::Done));
    assert_eq!(decision.failed[0].status.to_string(), "5.4.7");
    assert!(
        decision.failed[0].diagnostic.contains("450 busy"),
        "{decision:?}"
    );
    assert!(!is_expired(0, RULES.lifetime, 999_999));
}

#[test]
fn a_recipient_that_was_not_tried_stays_open_and_costs_no_attempt() {
    let entry = Entry {
        attempts: 2,
        ..Entry::default()
    };
    let decision = decide(
        &message(2),
        &entry,
        Charge::None,
        vec![(0, taken())],
        RULES,
        7_000,
        0.5,
    );
    let Next::Again { attempt, entry } = decision.next else {
        panic!("{decision:?}")
    };
    assert_eq!((&*entry.settled, entry.attempts), (&[0][..], 2));
    assert_eq!((attempt.attempts, attempt.next_attempt_ms), (2, 7_000));
}

#[test]
fn the_transactions_of_one_delivery_are_charged_once() {
    let message = message(3);
    let first = vec![(0, later())];
    let decision = decide(
        &message,
        &Entry::default(),
        Charge::None,
        first,
        RULES,
        5_000,
        0.5,
    );
    assert_eq!(decision.charge, Charge::Until(65_000));
    let Next::Again { entry, .. } = decision.next else {
        panic!("no one is settled")
    };
    for outcome in [later(), taken()] {
        let second = vec![(1, outcome)];
        let charge = decision.charge;
        let decision = decide(&message, &entry, charge, second, RULES, 9_000, 0.5);
        let Next::Again { attempt, entry } = decision.next else {
            panic!("two are not settled")
        };
        assert_eq!((attempt.attempts, attempt.next_attempt_ms), (1, 65_000));
        assert_eq!((entry.attempts, decision.charge), (1, charge));
    }
}
