use postroad_config::Action;
use postroad_config::status::UpstreamFailure;

use super::hanging::failure;
use super::*;
use crate::clock::Moment;

const LIMITS: OverdueLimits = OverdueLimits {
    expired_before_ms: 1_000,
    late_before_ms: 0,
};

fn failing(schedule: &mut Schedule, failure: Option<UpstreamFailure>) {
    let place = schedule.place(&Key::Default).unwrap();
    schedule.set_failure(place, failure);
}

fn taken(swept: Swept) -> Option<Taken> {
    match swept {
        Swept::Taken(taken, _) => Some(taken),
        Swept::More | Swept::End => None,
    }
}

#[test]
fn takes_what_has_expired_oldest_first_due_or_not_while_nothing_works() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let all = [1, 999, 1_000].map(|arrival_ms| Queued {
        next_attempt_ms: 99_999,
        ..mail.to(&[("a.example", 1)], arrival_ms)
    });
    all.iter()
        .for_each(|queued| assert_eq!(schedule.insert(queued, 5_000), Filed::Queued));
    assert_eq!(schedule.take_overdue(LIMITS, 5_000), Swept::End, "it works");
    failing(&mut schedule, Some(failure()));
    let old: Vec<_> = std::iter::from_fn(|| taken(schedule.take_overdue(LIMITS, 5_000))).collect();
    let ids: Vec<_> = old.iter().map(|taken| taken.ticket.id).collect();
    assert_eq!(ids, [all[0].id, all[1].id]);
    schedule.put_back(old[0].ticket, 5_000);
    failing(&mut schedule, None);
    assert_eq!(taken(schedule.take_overdue(LIMITS, 5_000)), None);
}

#[test]
fn goes_on_where_it_was_and_stays_short() {
    let (mail, mut schedule) = (Mail::new(), Schedule::new(direct()));
    for _ in 0..2_500 {
        schedule.insert(&mail.to(&[("works.example", 1)], 1), 5_000);
    }
    schedule.insert(&mail.to(&[("fails.example", 1)], 1), 5_000);
    let (works, _) = schedule.open_domain(5_000).unwrap();
    let (fails, _) = schedule.open_domain(5_000).unwrap();
    let at = Moment {
        now_ms: 5_000,
        random: 0.5,
    };
    schedule.failed(fails, failure(), at);
    assert_eq!(schedule.take_overdue(LIMITS, 5_000), Swept::More);
    // What the next look was to begin with goes away meanwhile.
    schedule.connected(works, 5_000);
    for _ in 0..1_500 {
        let taken = schedule.take(works, 5_000).unwrap();
        schedule.finish(taken.ticket, 5_000);
    }
    assert_eq!(schedule.take_overdue(LIMITS, 5_000), Swept::More);
    assert!(taken(schedule.take_overdue(LIMITS, 5_000)).is_some());
    // From the oldest again.
    assert_eq!(schedule.take_overdue(LIMITS, 5_000), Swept::More);
    assert_eq!(schedule.take_overdue(LIMITS, 5_000), Swept::End);
}

#[test]
fn senders_are_told_of_a_delay_once() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    schedule.insert(&mail.to(&[("a.example", 1)], 1), 5_000);
    failing(&mut schedule, Some(failure()));
    let limits = OverdueLimits {
        expired_before_ms: 0,
        late_before_ms: 1_000,
    };
    let late = taken(schedule.take_overdue(limits, 5_000)).unwrap();
    assert!(!late.entry.delay_notified);
    schedule.delay_told(late.ticket);
    schedule.put_back(late.ticket, 5_000);
    assert_eq!(taken(schedule.take_overdue(limits, 5_000)), None);
    assert!(schedule.take_any(5_000).unwrap().entry.delay_notified);
}

#[test]
fn a_deadline_that_is_past_is_looked_at_however_young_the_message() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let urgent = Queued {
        deliver_by_ms: Some(6_000),
        ..mail.to(&[("a.example", 1)], 5_000)
    };
    schedule.insert(&urgent, 5_000);
    failing(&mut schedule, Some(failure()));
    assert_eq!(taken(schedule.take_overdue(LIMITS, 5_999)), None);
    let found = taken(schedule.take_overdue(LIMITS, 6_000)).unwrap();
    schedule.finish(found.ticket, 6_000);
    assert_eq!(taken(schedule.take_overdue(LIMITS, 6_000)), None);
}

#[test]
fn what_must_not_be_sent_yet_has_not_waited() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let held = Queued {
        not_before_ms: 9_000,
        next_attempt_ms: 9_000,
        deliver_by_ms: Some(4_000),
        ..mail.to(&[("a.example", 1)], 1)
    };
    schedule.insert(&held, 5_000);
    failing(&mut schedule, Some(failure()));
    let limits = |now_ms| OverdueLimits {
        expired_before_ms: 0,
        late_before_ms: now_ms - 1_000,
    };
    for now_ms in [5_000, 8_999, 70_000] {
        for _ in 0..2 {
            let found = taken(schedule.take_overdue(limits(now_ms), now_ms));
            assert_eq!(found.is_some(), now_ms == 70_000, "{now_ms}");
            if let Some(found) = found {
                schedule.put_back(found.ticket, now_ms);
            }
        }
        if now_ms < 9_000 {
            assert_eq!(schedule.take_any(now_ms), None);
        }
    }
}

#[test]
fn what_nothing_more_is_to_be_told_of_leaves_the_deadlines() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let by = |deadline_ms| Queued {
        deliver_by_ms: Some(deadline_ms),
        ..mail.to(&[("a.example", 1)], 5_000)
    };
    schedule.insert(&by(6_000), 5_000);
    failing(&mut schedule, Some(failure()));
    let first = taken(schedule.take_overdue(LIMITS, 6_000)).unwrap();
    schedule.put_back(first.ticket, 6_000);
    assert_eq!(taken(schedule.take_overdue(LIMITS, 65_999)), None);
    let again = taken(schedule.take_overdue(LIMITS, 66_000)).expect("nobody was told");
    schedule.delay_told(again.ticket);
    schedule.put_back(again.ticket, 66_000);
    assert_eq!(taken(schedule.take_overdue(LIMITS, 999_000)), None);
    // Told before its time: that is still to be looked at.
    schedule.insert(&by(1_000_000), 5_000);
    let mut both =
        [schedule.take_any(999_000), schedule.take_any(999_000)].map(|taken| taken.unwrap().ticket);
    both.sort_unstable_by_key(|ticket| ticket.id);
    schedule.delay_told(both[1]);
    schedule.put_back(both[1], 999_000);
    let found = taken(schedule.take_overdue(LIMITS, 1_000_000)).unwrap();
    assert_eq!(found.ticket, both[1]);
}

#[test]
fn what_there_is_nothing_to_tell_of_by_its_age_is_looked_at_by_its_deadline() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let urgent = Queued {
        deliver_by_ms: Some(6_000),
        ..mail.to(&[("a.example", 1)], 1)
    };
    schedule.insert(&urgent, 5_000);
    failing(&mut schedule, Some(failure()));
    let late = OverdueLimits {
        expired_before_ms: 0,
        late_before_ms: 1_000,
    };
    // By its age, which is no reason a second time; then by its deadline, which is none either.
    for (now_ms, is_found) in [
        (5_000, true),
        (5_999, false),
        (6_000, true),
        (999_000, false),
    ] {
        let found = taken(schedule.take_overdue(late, now_ms));
        assert_eq!(found.is_some(), is_found, "{now_ms}");
        if let Some(found) = found {
            assert!(!found.entry.delay_notified, "{now_ms}");
            schedule.nothing_to_tell(found.ticket, Untold::Message);
            schedule.put_back(found.ticket, now_ms);
        }
    }
}

#[test]
fn a_piece_that_nobody_is_told_of_hides_no_other_of_its_message() {
    let (mail, mut schedule) = (Mail::new(), Schedule::new(direct()));
    let urgent = Queued {
        deliver_by_ms: Some(6_000),
        ..mail.to(&[("a.example", 1), ("b.example", 1)], 1)
    };
    schedule.insert(&urgent, 5_000);
    let at = Moment {
        now_ms: 5_000,
        random: 0.5,
    };
    while let Some((place, _)) = schedule.open_domain(5_000) {
        schedule.failed(place, failure(), at);
    }
    let late = OverdueLimits {
        expired_before_ms: 0,
        late_before_ms: 1_000,
    };
    // By their age, then by the deadline: each piece once.
    for (now_ms, later_ms) in [(5_000, 5_999), (6_000, 66_000)] {
        let mut found: Vec<u32> = Vec::new();
        for look_ms in [now_ms, now_ms, now_ms, now_ms, later_ms] {
            if let Some(taken) = taken(schedule.take_overdue(late, look_ms)) {
                found.extend(taken.entry.open);
                schedule.nothing_to_tell(taken.ticket, Untold::Piece);
                schedule.put_back(taken.ticket, look_ms);
            }
        }
        found.sort_unstable();
        assert_eq!(found, [0, 1], "{now_ms}");
    }
    let expired = OverdueLimits {
        expired_before_ms: 1_000,
        ..late
    };
    assert!(taken(schedule.take_overdue(expired, 99_000)).is_some());
}

#[test]
fn what_has_expired_does_not_wait_for_what_is_past_its_deadline() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let old = mail.to(&[("a.example", 1)], 1);
    schedule.insert(&old, 5_000);
    for _ in 0..300 {
        let urgent = Queued {
            deliver_by_ms: Some(6_000),
            ..mail.to(&[("a.example", 1)], 5_000)
        };
        schedule.insert(&urgent, 5_000);
    }
    failing(&mut schedule, Some(failure()));
    let mut found = (0..2).map(|_| taken(schedule.take_overdue(LIMITS, 6_000)).unwrap());
    assert!(found.any(|taken| taken.ticket.id == old.id));
}

#[test]
fn what_is_held_does_not_expire_and_what_cannot_be_read_waits_for_its_turn() {
    let (mail, mut schedule) = (
        Mail::new(),
        Schedule::new(super::tables::overriding("a.example", Action::Hold)),
    );
    schedule.insert(&mail.to(&[("a.example", 1)], 1), 5_000);
    let unread = mail.to(&[("b.example", 1)], 1);
    schedule.insert(&unread, 5_000);
    let held = schedule.place(&Key::Hold("one".into())).unwrap();
    schedule.set_failure(held, Some(failure()));
    failing(&mut schedule, Some(failure()));
    let found = taken(schedule.take_overdue(LIMITS, 5_000)).unwrap();
    assert_eq!(found.ticket.id, unread.id);
    schedule.release(found.ticket, 9_000, Reading::Failed, 5_000);
    assert_eq!(taken(schedule.take_overdue(LIMITS, 5_000)), None);
    assert!(taken(schedule.take_overdue(LIMITS, 9_000)).is_some());
}

#[test]
fn a_message_from_a_clock_that_was_ahead_hides_nothing_behind_it() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    // The clock was ahead when the first came, and has been set right since.
    for arrival_ms in [1_000_000, 1] {
        schedule.insert(&mail.to(&[("a.example", 1)], arrival_ms), 5_000);
    }
    failing(&mut schedule, Some(failure()));
    assert!(taken(schedule.take_overdue(LIMITS, 5_000)).is_some());
}

#[test]
fn what_waits_untried_where_it_works_is_taken_half_a_minute_after_its_time() {
    let limits = |now_ms: u64| OverdueLimits {
        expired_before_ms: now_ms.saturating_sub(100_000),
        late_before_ms: now_ms.saturating_sub(10_000),
    };
    let plain = || Mail::new().to(&[("a.example", 1)], 1_000);
    let (ready, expired, by) = (plain(), plain(), plain());
    for (name, queued, late_ms) in [
        ("ready", ready, Some(11_000)),
        (
            "put off untried",
            Queued {
                next_attempt_ms: 900_000,
                ..plain()
            },
            Some(11_000),
        ),
        (
            "put off by an answer",
            Queued {
                next_attempt_ms: 900_000,
                attempts: 1,
                ..plain()
            },
            None,
        ),
        (
            "it expires with its attempt",
            Queued {
                reportable: false,
                ..expired
            },
            None,
        ),
        (
            "to be delivered by a time",
            Queued {
                deliver_by_ms: Some(5_000),
                ..by
            },
            Some(5_000),
        ),
    ] {
        let mut schedule = Schedule::default();
        schedule.insert(&queued, 1_000);
        let mut looks = (1_000..200_000).step_by(1_000);
        let found_ms = looks.find(|now_ms| {
            let swept = schedule.take_overdue(limits(*now_ms), *now_ms);
            assert!(
                matches!(swept, Swept::Taken(_, None) | Swept::End),
                "{name}"
            );
            taken(swept).is_some()
        });
        match late_ms {
            Some(late_ms) => {
                let looks_ms = late_ms + 30_000..=late_ms + 61_000;
                assert!(
                    found_ms.is_some_and(|at_ms| looks_ms.contains(&at_ms)),
                    "{name}: {found_ms:?}"
                );
            }
            None => assert_eq!(found_ms, None, "{name}"),
        }
    }
}

#[test]
fn what_is_to_be_returned_or_held_by_an_override_is_left_to_that() {
    let reason = String::new();
    for action in [Action::Hold, Action::Bounce { reason }] {
        let mut schedule = Schedule::new(super::tables::overriding("a.example", action));
        schedule.insert(&Mail::new().to(&[("a.example", 1)], 1), 5_000);
        assert_eq!(schedule.take_overdue(LIMITS, 99_000), Swept::End);
    }
}

#[test]
fn what_is_looked_at_keeps_its_place_and_its_time() {
    let limits = OverdueLimits {
        expired_before_ms: 0,
        late_before_ms: 90_000,
    };
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let all: Vec<_> = (1..=5)
        .map(|arrival_ms| mail.to(&[("a.example", 1)], arrival_ms))
        .collect();
    for queued in &all {
        schedule.insert(queued, 5_000);
    }
    let id = |taken: &Taken| all.iter().position(|queued| queued.id == taken.ticket.id);
    let look = |schedule: &mut Schedule| taken(schedule.take_overdue(limits, 99_000)).unwrap();
    let give_back = |schedule: &mut Schedule, found: &Taken| {
        schedule.delay_told(found.ticket);
        schedule.put_back(found.ticket, 99_000);
    };
    for expected in 0..2 {
        let found = look(&mut schedule);
        assert_eq!(id(&found), Some(expected));
        give_back(&mut schedule, &found);
    }
    // While the third is looked at, the turn of those before it and of the one behind it comes.
    let found = look(&mut schedule);
    assert_eq!(id(&found), Some(2));
    for expected in [0, 1, 3] {
        assert_eq!(id(&schedule.take_any(99_000).unwrap()), Some(expected));
    }
    give_back(&mut schedule, &found);
    for expected in [2, 4] {
        assert_eq!(id(&schedule.take_any(99_000).unwrap()), Some(expected));
    }
    let resting = Queued {
        next_attempt_ms: 200_000,
        ..mail.to(&[("a.example", 1)], 10)
    };
    schedule.insert(&resting, 5_000);
    let found = look(&mut schedule);
    give_back(&mut schedule, &found);
    assert_eq!(schedule.due_ms(), [200_000]);
}

#[test]
fn a_tenant_whose_only_message_is_looked_at_keeps_its_turn() {
    let limits = OverdueLimits {
        expired_before_ms: 0,
        late_before_ms: 90_000,
    };
    // The third has one message, which is looked at before each turn. While that is done for the first time so many turns come.
    for (meanwhile, expected) in [(0, 3), (1, 3), (2, 3), (3, 4), (5, 6), (9, 10)] {
        let (mail, mut schedule) = (Mail::new(), Schedule::default());
        let only = mail.from("only", "a.example");
        for tenant in ["a", "b", "only", "d", "e", "f", "a", "b", "d", "e", "f"] {
            let other = Queued {
                reportable: false,
                ..mail.from(tenant, "a.example")
            };
            let queued = if tenant == "only" { &only } else { &other };
            schedule.insert(queued, 5_000);
        }
        failing(&mut schedule, Some(failure()));
        let (mut turns, mut during) = (0, meanwhile);
        loop {
            // After the last comes the end.
            let mut looks = (0..2).map(|_| schedule.take_overdue(limits, 99_000));
            let found = looks.find_map(taken).unwrap();
            for _ in 0..std::mem::take(&mut during) {
                assert!(schedule.take_any(99_000).is_some());
                turns += 1;
            }
            schedule.put_back(found.ticket, 99_000);
            turns += 1;
            if schedule.take_any(99_000).unwrap().ticket.id == only.id {
                break;
            }
        }
        assert_eq!(turns, expected, "{meanwhile}");
    }
}

#[test]
fn takes_what_is_asked_for_wherever_it_waits_unless_somebody_has_some_of_it() {
    let mail = Mail::new();
    let table = super::tables::overriding("held.example", Action::Hold);
    let mut schedule = Schedule::new(table);
    let queued = mail.to(&[("held.example", 1), ("a.example", 1)], 1);
    schedule.insert(&queued, 1);
    let other = schedule.take_any(1).unwrap();
    assert_eq!(schedule.take_of(queued.id, 1), None, "somebody has a piece");
    schedule.release(other.ticket, 9_000, Reading::Fine, 1);
    let first = schedule.take_of(queued.id, 1).unwrap();
    schedule.put_back(first.ticket, 1);
    assert_eq!(schedule.totals().held, 1, "it is held on");
    assert_eq!(schedule.take_any(1), None, "the other keeps its pause");
    let again = schedule.take_of(queued.id, 1).unwrap();
    assert_eq!(&*schedule.orphans(again.ticket, 1), [0, 1]);
    schedule.finish(again.ticket, 1);
    assert_eq!(schedule.totals(), Totals::default());
    assert_eq!(schedule.take_of(queued.id, 1), None, "it is gone");
}
