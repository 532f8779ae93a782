use bytes::Bytes;
use postroad_spool::{DeliverBy, Envelope, IdGenerator};

use super::*;
use crate::notify::Offer;

const RULES: Rules = Rules {
    backoff: Backoff {
        initial: Duration::from_secs(60),
        maximum: Duration::from_secs(3600),
    },
    lifetime: Duration::from_secs(1000),
    delay_notices: DelayNotices::After(Duration::from_secs(500)),
};

fn tried(outcomes: Vec<(u32, RecipientOutcome)>) -> Tried {
    Tried {
        outcomes,
        hop: NextHop::default(),
        not_before_ms: 0,
    }
}

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
            ..Envelope::default()
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
        tried(outcomes),
        RULES,
        0,
        0.5,
    );
    assert_eq!(decision.record.settled(), [0, 1]);
    assert_eq!((decision.delivered, decision.deferred), (1, 0));
    assert_eq!((decision.failed, decision.notices.len()), (1, 1));
    assert_eq!(decision.notices[0].index, 1);
    assert!(decision.notices[0].diagnostic.contains("no such user"));
}

#[test]
fn what_is_deferred_comes_again_without_those_that_are_settled() {
    let outcomes = vec![(0, taken()), (1, later()), (2, never())];
    let decision = decide(
        &message(3),
        &Entry::default(),
        Charge::None,
        tried(outcomes),
        RULES,
        5_000,
        0.5,
    );
    let record = decision.record;
    assert_eq!(record.settled(), [0, 2]);
    assert_eq!((record.attempts, record.due_ms), (1, 65_000));
    assert_eq!(record.results.len(), 3);
    assert_eq!(
        decision.notices.len(),
        1,
        "the failure is reported with this attempt"
    );

    let entry = Entry {
        attempts: record.attempts,
        ..Entry::default()
    };
    let decision = decide(
        &message(3),
        &entry,
        Charge::None,
        tried(vec![(1, taken())]),
        RULES,
        70_000,
        0.5,
    );
    assert_eq!(decision.record.settled(), [1]);
    assert!(decision.notices.is_empty(), "nothing is reported twice");
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
        tried(vec![(0, later())]),
        RULES,
        0,
        0.5,
    );
    let record = decision.record;
    assert_eq!((record.attempts, record.due_ms), (3, 240_000));
}

#[test]
fn what_is_deferred_past_its_lifetime_has_failed() {
    let decision = decide(
        &message(1),
        &Entry::default(),
        Charge::None,
        tried(vec![(0, later())]),
        RULES,
        1_000_000,
        0.5,
    );
    assert_eq!(decision.record.settled(), [0]);
    let expected = Notice {
        index: 0,
        kind: Kind::Failed,
        status: EnhancedStatus::new(5, 4, 7),
        expired: Some(Expired::Lifetime),
        diagnostic: "450 busy".into(),
    };
    assert_eq!(decision.notices, [expected]);
    assert_eq!(give_up_ms(&message(1), RULES.lifetime), 1_000_000);
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
        tried(vec![(0, taken())]),
        RULES,
        7_000,
        0.5,
    );
    let record = decision.record;
    assert_eq!(record.settled(), [0]);
    assert_eq!((record.attempts, record.due_ms), (2, 7_000));
}

#[test]
fn the_transactions_of_one_delivery_are_charged_once() {
    let message = message(3);
    let first = vec![(0, later())];
    let decision = decide(
        &message,
        &Entry::default(),
        Charge::None,
        tried(first),
        RULES,
        5_000,
        0.5,
    );
    assert_eq!(decision.charge, Charge::Until(65_000));
    let entry = Entry {
        attempts: decision.record.attempts,
        ..Entry::default()
    };
    for outcome in [later(), taken()] {
        let second = vec![(1, outcome)];
        let charge = decision.charge;
        let decision = decide(&message, &entry, charge, tried(second), RULES, 9_000, 0.5);
        let record = decision.record;
        assert_eq!((record.attempts, record.due_ms), (1, 65_000));
        assert_eq!(decision.charge, charge);
    }
    let third = Tried {
        not_before_ms: 100_000,
        ..tried(vec![(2, later())])
    };
    let decision = decide(&message, &entry, decision.charge, third, RULES, 9_000, 0.5);
    let record = decision.record;
    assert_eq!((record.attempts, record.due_ms), (1, 100_000));
}

/// What is told of a lone recipient: index, kind, status and text.
fn told(message: &Message, entry: &Entry, tried: Tried, now_ms: u64) -> Option<(Kind, String)> {
    let decision = decide(message, entry, Charge::None, tried, RULES, now_ms, 0.5);
    assert!(decision.notices.len() <= 1);
    let told = decision.notices.first()?;
    assert_eq!(told.index, 0);
    Some((told.kind, format!("{} {}", told.status, told.diagnostic)))
}

#[test]
fn a_delay_is_told_once_and_not_before_its_time() {
    let message = message(1);
    let deferred = || tried(vec![(0, later())]);
    let before = Entry::default();
    assert_eq!(told(&message, &before, deferred(), 499_999), None);
    let kind = Kind::Delayed {
        retry_until_ms: 1_000_000,
    };
    let expected = (kind, "4.0.0 450 busy".to_owned());
    assert_eq!(told(&message, &before, deferred(), 500_000), Some(expected));

    let decision = decide(
        &message,
        &before,
        Charge::None,
        deferred(),
        RULES,
        500_000,
        0.5,
    );
    assert!(decision.record.delay_notified);
    let entry = Entry {
        delay_notified: true,
        ..Entry::default()
    };
    assert_eq!(told(&message, &entry, deferred(), 600_000), None);
    let decision = decide(
        &message,
        &entry,
        Charge::None,
        deferred(),
        RULES,
        600_000,
        0.5,
    );
    assert!(decision.record.delay_notified, "what was told stays told");
}

#[test]
fn a_delay_is_told_of_those_who_are_put_off_and_want_it() {
    let mut message = message(4);
    message.envelope.recipients[1].notify = Some("NEVER".into());
    message.envelope.recipients[2].notify = Some("DELAY".into());
    let outcomes = vec![(0, later()), (1, later()), (2, later()), (3, taken())];
    let entry = Entry::default();
    let decision = decide(
        &message,
        &entry,
        Charge::None,
        tried(outcomes),
        RULES,
        500_000,
        0.5,
    );
    let told: Vec<u32> = decision.notices.iter().map(|notice| notice.index).collect();
    assert_eq!(told, [0, 2]);
    assert_eq!(decision.deferred, 3);
}

#[test]
fn mail_that_was_not_to_be_delivered_before_has_not_waited_until_then() {
    let mut message = message(1);
    message.envelope.not_before_ms = 2_000_000;
    let deferred = || tried(vec![(0, later())]);
    assert_eq!(
        told(&message, &Entry::default(), deferred(), 2_499_999),
        None
    );
    assert_eq!(give_up_ms(&message, RULES.lifetime), 3_000_000);
    let failed = told(&message, &Entry::default(), deferred(), 3_000_000);
    assert!(failed.is_some_and(|(kind, _)| kind == Kind::Failed));
}

fn by(on_expiry: ByMode) -> Option<DeliverBy> {
    Some(DeliverBy {
        deadline_ms: 100_000,
        on_expiry,
        trace: false,
    })
}

#[test]
fn at_the_deadline_of_the_sender_mail_is_returned_or_its_delay_told() {
    let deferred = || tried(vec![(0, later())]);
    let entry = Entry::default();
    let mut message = message(1);

    message.envelope.deliver_by = by(ByMode::Return);
    assert_eq!(give_up_ms(&message, RULES.lifetime), 100_000);
    assert_eq!(told(&message, &entry, deferred(), 99_999), None);
    let decision = decide(
        &message,
        &entry,
        Charge::None,
        deferred(),
        RULES,
        100_000,
        0.5,
    );
    let expected = Notice {
        index: 0,
        kind: Kind::Failed,
        status: EnhancedStatus::new(5, 4, 7),
        expired: Some(Expired::DeliverBy),
        diagnostic: "450 busy".into(),
    };
    assert_eq!(decision.notices, [expected]);

    message.envelope.deliver_by = by(ByMode::Notify);
    assert_eq!(give_up_ms(&message, RULES.lifetime), 1_000_000);
    assert_eq!(told(&message, &entry, deferred(), 99_999), None);
    let kind = Kind::Delayed {
        retry_until_ms: 1_000_000,
    };
    let expected = (kind, "4.4.7 450 busy".to_owned());
    assert_eq!(told(&message, &entry, deferred(), 100_000), Some(expected));
}

#[test]
fn what_was_passed_on_to_a_server_without_dsn_is_told_if_the_sender_asked() {
    let mut message = message(1);
    let delivered = |dsn| Tried {
        outcomes: vec![(0, taken())],
        hop: NextHop {
            dsn,
            deliver_by: Offer::Missing,
        },
        not_before_ms: 0,
    };
    let entry = Entry::default();
    assert_eq!(told(&message, &entry, delivered(Offer::Missing), 0), None);
    message.envelope.recipients[0].notify = Some("SUCCESS".into());
    let expected = (Kind::Relayed, "2.0.0 250 ok".to_owned());
    assert_eq!(
        told(&message, &entry, delivered(Offer::Missing), 0),
        Some(expected)
    );
    assert_eq!(told(&message, &entry, delivered(Offer::Offered), 0), None);
}

#[test]
fn those_who_wait_though_nothing_can_be_tried_are_told_of_too() {
    let mut message = message(3);
    message.envelope.recipients[1].notify = Some("FAILURE".into());
    let cause = Reply::new(451, None, "no upstream works");
    let late = |now_ms| late(&message, [1, 2], &cause, RULES, now_ms);
    assert_eq!(late(499_999), []);
    let expected = Notice {
        index: 2,
        kind: Kind::Delayed {
            retry_until_ms: 1_000_000,
        },
        status: EnhancedStatus::new(4, 0, 0),
        expired: None,
        diagnostic: "451 no upstream works".into(),
    };
    assert_eq!(late(500_000), [expected]);
}
