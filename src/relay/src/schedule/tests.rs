use postroad_spool::IdGenerator;

use super::*;

fn entry(arrival_ms: u64, attempts: u32) -> Entry {
    Entry {
        arrival_ms,
        bytes: 10,
        attempts,
        recipients: 1,
        settled: Box::default(),
    }
}

fn ids(count: u64) -> Vec<MessageId> {
    let generator = IdGenerator::new([0; 10]);
    (0..count).map(|now| generator.next(now)).collect()
}

#[test]
fn takes_what_has_been_due_longest_and_nothing_early() {
    let ids = ids(3);
    let mut schedule = Schedule::default();
    for (id, due) in ids.iter().zip([30, 10, 20]) {
        schedule.insert(*id, entry(0, 0), due);
    }
    assert_eq!(schedule.take(9), None);
    assert_eq!(schedule.next_due_ms(), Some(10));
    let order: Vec<_> = std::iter::from_fn(|| schedule.take(30))
        .map(|(id, _)| id)
        .collect();
    assert_eq!(order, [ids[1], ids[2], ids[0]]);
    assert_eq!(
        schedule.take(99),
        None,
        "active messages are not handed out twice"
    );
    assert_eq!(schedule.totals().messages, 3);
}

#[test]
fn counts_follow_every_move() {
    let ids = ids(2);
    let mut schedule = Schedule::default();
    schedule.insert(ids[0], entry(1, 0), 0);
    schedule.insert(ids[1], entry(2, 3), 0);
    assert_eq!(
        schedule.totals(),
        Totals {
            messages: 2,
            bytes: 20,
            deferred: 1,
            unreadable: 0,
            weight: Weight::of(1, 1) + Weight::of(1, 1),
        }
    );
    let (id, mut taken) = schedule.take(0).unwrap();
    taken.attempts += 1;
    schedule.put_back(id, taken, 50);
    assert_eq!(
        schedule.totals(),
        Totals {
            messages: 2,
            bytes: 20,
            deferred: 2,
            unreadable: 0,
            weight: Weight::of(1, 1) + Weight::of(1, 1),
        }
    );
    assert_eq!(schedule.oldest_arrival_ms(), Some(1));
    schedule.finish(ids[0]);
    schedule.finish(ids[1]);
    schedule.finish(ids[1]);
    assert_eq!(schedule.totals(), Totals::default());
    assert_eq!(
        (schedule.oldest_arrival_ms(), schedule.next_due_ms()),
        (None, None)
    );
}

#[test]
fn waking_makes_everything_due_and_keeps_what_is_active() {
    let ids = ids(3);
    let mut schedule = Schedule::default();
    for (id, due) in ids.iter().zip([0, 500, 900]) {
        schedule.insert(*id, entry(0, 1), due);
    }
    let active = schedule.take(0).unwrap();
    schedule.wake_all(100);
    assert_eq!(std::iter::from_fn(|| schedule.take(100)).count(), 2);
    schedule.put_back(active.0, active.1, 200);
    assert!(schedule.has_due(200));
}

#[test]
fn what_is_known_of_an_active_message_changes_while_it_stays_active() {
    let ids = ids(1);
    let mut schedule = Schedule::default();
    schedule.insert(ids[0], entry(0, 0), 0);
    let (id, taken) = schedule.take(0).unwrap();
    let settled = Box::new([0]);
    let tried = Entry {
        attempts: 1,
        settled,
        ..taken
    };
    schedule.update(id, tried.clone());
    assert_eq!((schedule.take(9), schedule.next_due_ms()), (None, None));
    let totals = schedule.totals();
    assert_eq!((totals.messages, totals.deferred), (1, 1));
    assert_eq!(totals.weight, Weight::of(1, 0));
    schedule.reclaim(id, 5);
    assert_eq!(schedule.take(4), None);
    assert_eq!(schedule.take(5), Some((id, tried)));
}

#[test]
fn only_an_active_message_is_reclaimed() {
    let ids = ids(2);
    let mut schedule = Schedule::default();
    schedule.insert(ids[0], entry(0, 0), 7);
    schedule.reclaim(ids[0], 5);
    schedule.reclaim(ids[1], 5);
    assert_eq!(schedule.next_due_ms(), Some(7));
    assert_eq!(schedule.totals().messages, 1);
}

#[test]
fn takes_older_messages_whether_due_or_not() {
    let ids = ids(3);
    let mut schedule = Schedule::default();
    for (id, arrival) in ids.iter().zip([1, 2, 3]) {
        schedule.insert(*id, entry(arrival, 0), 1000);
    }
    let old: Vec<_> = std::iter::from_fn(|| schedule.take_older(3, 0))
        .map(|(id, _)| id)
        .collect();
    assert_eq!(old, ids[..2]);
}

#[test]
fn what_cannot_be_read_is_counted_and_waits_for_its_turn_however_old() {
    let ids = ids(2);
    let mut schedule = Schedule::default();
    schedule.insert(ids[0], entry(1, 0), 0);
    schedule.insert(ids[1], entry(2, 0), 900);
    let (id, taken) = schedule.take(0).unwrap();
    schedule.put_back_unread(id, taken, 500);
    assert_eq!(schedule.totals().unreadable, 1);
    let (younger, _) = schedule.take_older(9, 100).unwrap();
    assert_eq!(younger, ids[1], "it does not stand in the way");
    assert_eq!(schedule.take_older(9, 100), None);
    let (id, taken) = schedule.take_older(9, 500).unwrap();
    assert_eq!(schedule.totals().unreadable, 1, "until it has been read");
    schedule.put_back(id, taken, 600);
    assert_eq!(schedule.totals().unreadable, 0);
}

#[test]
fn a_failure_and_its_bounce_weigh_no_more_than_the_recipient_did() {
    let ids = ids(1001);
    let mut schedule = Schedule::default();
    let whole = Entry {
        recipients: 1000,
        ..entry(0, 0)
    };
    schedule.insert(ids[0], whole.clone(), 0);
    let before = schedule.totals().weight.bytes();
    for failed in 1..1000_u32 {
        let settled = (0..failed).collect();
        schedule.put_back(
            ids[0],
            Entry {
                settled,
                ..whole.clone()
            },
            0,
        );
        schedule.insert(ids[failed as usize], entry(0, 0), 0);
        assert!(schedule.totals().weight.bytes() <= before, "{failed}");
    }
    schedule.finish(ids[0]);
    schedule.insert(ids[1000], entry(0, 0), 0);
    assert!(schedule.totals().weight.bytes() <= before);
}

/// The bound on the queue rests on this: whoever lets it grow sees here that fewer messages fit.
#[test]
fn a_message_costs_this_much_memory() {
    assert_eq!(MESSAGE_BYTES, 280);
}
