//! Changes of the routing table.

use postroad_config::{Action, Match, Override, Route};

use super::*;

fn matching(recipient: &str) -> Match {
    Match {
        recipients: vec![recipient.parse().unwrap()],
        ..Match::default()
    }
}

/// A table with one route, named `route`, for the recipients at this domain.
pub(super) fn routing(recipient: &str) -> Arc<Table> {
    Arc::new(Table::new(&Delivery {
        routes: vec![Route {
            name: "route".into(),
            matches: matching(recipient),
            to: Target::Upstreams(Vec::new()),
        }],
        ..Delivery::default()
    }))
}

/// A table with one override, named `one`, for the recipients at this domain.
pub(super) fn overriding(recipient: &str, action: Action) -> Arc<Table> {
    Arc::new(Table::new(&Delivery {
        overrides: vec![Override {
            name: "one".into(),
            matches: matching(recipient),
            arrived_before: None,
            action,
        }],
        ..Delivery::default()
    }))
}

/// Puts a table in force for all there is.
pub(super) fn change(schedule: &mut Schedule, table: Arc<Table>, now_ms: u64) {
    let before = Arc::clone(schedule.table());
    schedule.set_table(table);
    let mut from = Some(0);
    while let Some(at) = from {
        from = schedule.review(at, &before, Wake::Flushed, now_ms);
    }
}

/// How much waits at each destination.
fn filed(schedule: &Schedule) -> Vec<(Key, u32)> {
    let (mut top, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        from = schedule.top(at, 10, &mut top, 1);
    }
    top.into_iter()
        .map(|found| (found.key, found.messages))
        .collect()
}

#[test]
fn what_waits_goes_where_the_table_in_force_says() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    for _ in 0..3 {
        schedule.insert(&mail.to(&[("a.example", 1), ("b.example", 1)], 1), 1);
    }
    schedule.insert(&mail.to(&[("b.example", 1)], 1), 1);
    let route = || Key::Route("route".into());
    assert_eq!(filed(&schedule), [(Key::Default, 4)]);
    change(&mut schedule, routing("a.example"), 1);
    assert_eq!(filed(&schedule), [(Key::Default, 4), (route(), 3)]);
    let place = schedule.place(&route()).unwrap();
    let taken = schedule.take(place, 1).unwrap();
    assert_eq!(&*taken.entry.open, [0]);
    schedule.put_back(taken.ticket, 1);
    change(&mut schedule, direct(), 1);
    let domain = |name: &str| Key::Domain(name.into());
    assert_eq!(
        filed(&schedule),
        [(domain("b.example"), 4), (domain("a.example"), 3)]
    );
    change(&mut schedule, Arc::default(), 1);
    assert_eq!(filed(&schedule), [(Key::Default, 4)]);
}

#[test]
fn nobody_takes_a_recipient_that_another_has_while_the_table_changes() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    schedule.insert(&mail.to(&[("a.example", 1), ("b.example", 1)], 1), 1);
    let both = schedule.take_any(1).unwrap();
    change(&mut schedule, direct(), 1);
    assert_eq!(schedule.take_any(1), None);
    assert_eq!(schedule.settle(both.ticket, &[0], 1, false), Left::Open);
    schedule.release(both.ticket, 50, Reading::Fine, 1);
    assert_eq!(filed(&schedule), [(Key::Domain("b.example".into()), 1)]);
    assert_eq!(schedule.take_any(49), None, "it keeps its pause");
    let rest = schedule.take_any(50).unwrap();
    assert_eq!((&*rest.entry.open, rest.entry.attempts), (&[1][..], 1));
}

#[test]
fn what_is_taken_before_the_review_has_come_to_it_is_filed_anew_first() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    schedule.insert(&mail.to(&[("a.example", 1), ("b.example", 1)], 1), 1);
    let place = schedule.place(&Key::Default).unwrap();
    schedule.set_table(routing("c.example"));
    let taken = schedule.take(place, 1).unwrap();
    assert_eq!(&*taken.entry.open, [0, 1], "its destination is the same");
    schedule.put_back(taken.ticket, 1);
    schedule.set_table(direct());
    assert_eq!(schedule.take(place, 1), None);
    assert_eq!(filed(&schedule).len(), 2);
    assert_eq!(&*schedule.take_any(1).unwrap().entry.open, [0]);
    assert_eq!(&*schedule.take_any(1).unwrap().entry.open, [1]);
}

#[test]
fn what_is_held_waits_until_it_is_released() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    schedule.insert(&mail.to(&[("a.example", 1), ("b.example", 1)], 1), 1);
    change(&mut schedule, overriding("a.example", Action::Hold), 1);
    assert_eq!(schedule.totals().held, 1);
    let hold = Key::Hold("one".into());
    assert_eq!(filed(&schedule), [(Key::Default, 1), (hold, 1)]);
    let free = schedule.take_any(1).unwrap();
    assert_eq!(&*free.entry.open, [1]);
    assert_eq!(schedule.settle(free.ticket, &[1], 0, false), Left::Open);
    schedule.release(free.ticket, 1, Reading::Fine, 1);
    schedule.insert(&mail.to(&[("a.example", 1)], 1), 1);
    let put_off = Queued {
        next_attempt_ms: 900,
        ..mail.to(&[("a.example", 1)], 1)
    };
    schedule.insert(&put_off, 1);
    assert_eq!((schedule.take_any(99), schedule.totals().held), (None, 3));
    change(&mut schedule, Arc::default(), 1);
    assert_eq!(schedule.totals().held, 0);
    assert_eq!(
        std::iter::from_fn(|| schedule.take_any(1)).count(),
        3,
        "at once"
    );
}

#[test]
fn what_is_flushed_is_due_once() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    for domain in ["a.example", "b.example"] {
        let queued = Queued {
            next_attempt_ms: 500,
            ..mail.to(&[(domain, 1)], 1)
        };
        schedule.insert(&queued, 1);
    }
    let table = overriding("a.example", Action::Flush);
    change(&mut schedule, Arc::clone(&table), 10);
    let flushed = schedule.take_any(10).unwrap();
    assert_eq!(schedule.take_any(10), None);
    schedule.release(flushed.ticket, 700, Reading::Fine, 10);
    change(&mut schedule, table, 20);
    assert_eq!(schedule.take_any(20), None);
}

#[test]
fn what_is_to_be_returned_goes_to_a_destination_of_its_own() {
    let reason = "no longer wanted".to_owned();
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    schedule.insert(&mail.to(&[("a.example", 1), ("b.example", 1)], 1), 1);
    change(
        &mut schedule,
        overriding("a.example", Action::Bounce { reason }),
        1,
    );
    let (place, key) = schedule
        .special()
        .find(|(_, key)| *key != Key::Default)
        .unwrap();
    assert_eq!(key, Key::Bounce("one".into()));
    assert_eq!(&*schedule.take(place, 1).unwrap().entry.open, [0]);
    assert_eq!(&*schedule.take_any(1).unwrap().entry.open, [1]);
}

#[test]
fn what_is_to_be_returned_is_at_once_however_long_it_was_to_wait() {
    let reason = "no longer wanted".to_owned();
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    for not_before_ms in [0, 900] {
        let queued = Queued {
            next_attempt_ms: 900,
            not_before_ms,
            ..mail.to(&[("a.example", 1)], 1)
        };
        schedule.insert(&queued, 1);
    }
    change(
        &mut schedule,
        overriding("a.example", Action::Bounce { reason }),
        1,
    );
    let later = Queued {
        next_attempt_ms: 900,
        ..mail.to(&[("a.example", 1)], 1)
    };
    schedule.insert(&later, 1);
    assert_eq!(std::iter::from_fn(|| schedule.take_any(1)).count(), 3);
}

#[test]
fn a_piece_keeps_its_recipients_and_its_pause_while_another_is_taken() {
    let (mail, mut schedule) = (Mail::new(), Schedule::new(routing("a.example")));
    schedule.insert(&mail.to(&[("a.example", 1), ("b.example", 1)], 1), 1);
    let (one, other) = (schedule.take_any(1).unwrap(), schedule.take_any(1).unwrap());
    change(&mut schedule, direct(), 1);
    schedule.settle(one.ticket, &[], 1, false);
    schedule.release(one.ticket, 500, Reading::Fine, 1);
    assert_eq!(
        schedule.settle(other.ticket, &other.entry.open, 0, false),
        Left::Open
    );
    schedule.release(other.ticket, 1, Reading::Fine, 1);
    assert_eq!(schedule.take_any(499), None);
    let again = schedule.take_any(500).unwrap();
    assert_eq!(
        (again.entry.open, again.entry.attempts),
        (one.entry.open, 1)
    );
}
