//! One tenant's mail does not take the room of all others.

use bytes::Bytes;
use postroad_config::{Action, Delivery, Match, Override};
use postroad_spool::SEGMENT_BYTES;

use super::*;
use crate::delivery;
use crate::outcome::{Kind, Notice};
use crate::room::Account;

const KIB: usize = 1 << 10;

/// A message of a login, or without one, to so many recipients, with so much content.
fn mail(rig: &Rig, login: &str, recipients: usize, bytes: usize) -> Message {
    let mut message = rig.message(recipients, 0);
    message.envelope.credential = login.into();
    message.body = Bytes::from(vec![b'x'; bytes]);
    message
}

/// A queue among many that takes so many small messages, one tenant's and another's.
fn shared(rig: &Rig, messages: u64) -> Queue {
    let queue = rig.context.queue.with_room_for(messages);
    queue.share(Sharing::Many);
    queue
}

async fn accept_until_refused(rig: &Rig, queue: &Queue, login: &str) -> (Vec<Message>, NoRoom) {
    let mut taken = Vec::new();
    loop {
        let message = mail(rig, login, 1, 10);
        match accept(queue, message.clone()).await {
            Ok(()) => taken.push(message),
            Err(AcceptError::Room(full)) => return (taken, full),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn who_has_filled_its_share_leaves_room_for_others_also_after_a_start() {
    for (hog, other) in [("a", "b"), ("", "b"), ("a", "")] {
        let rig = Rig::new(ENOUGH);
        let queue = shared(&rig, 240);
        let (held, full) = accept_until_refused(&rig, &queue, hog).await;
        assert_eq!(full, NoRoom::Share(Resource::Queue), "{hog}");
        let count = held.len();
        // Some 15 parts of 16 of them; the login's name takes a little of the room.
        assert!((215..=226).contains(&count), "{hog}: {count} of 240");
        accept(&queue, mail(&rig, other, 1, 10)).await.unwrap();

        let found = held.iter().collect();
        let again = queue.spool().clone();
        let again = Queue::new(again, ENOUGH, found, queue.bytes_max(), Arc::default());
        let refused = accept(&again, mail(&rig, hog, 1, 10)).await;
        assert!(matches!(refused, Err(AcceptError::Room(why)) if why == full));
        assert_eq!(again.check_room_for(&hog.into(), NeedsDisk::Yes), Err(full));
        assert_eq!(again.check_room_for(&other.into(), NeedsDisk::Yes), Ok(()));
        accept(&again, mail(&rig, other, 1, 10)).await.unwrap();
        let hogs = |queue: &Queue| schedule::bytes(queue.state().schedule.held(&hog.into()).weight);
        let before = hogs(&again);
        // What has gone is given back; the other's message and name have taken some of it.
        while hogs(&again) + 10 * schedule::bytes(Weight::of(1, 1)) > before {
            let ticket = again.take().unwrap().ticket;
            again.settle(ticket, vec![(0, DELIVERED)]).await;
        }
        accept(&again, mail(&rig, hog, 1, 10)).await.unwrap();
    }
}

#[tokio::test]
async fn who_is_alone_gets_everything() {
    let rig = Rig::new(ENOUGH);
    let queue = shared(&rig, 60);
    queue.share(Sharing::Alone);
    let (_, full) = accept_until_refused(&rig, &queue, "a").await;
    assert_eq!(full, NoRoom::Queue);
    assert!(queue.fill() > 0.97);
}

type Got = Result<(), NoRoom>;

/// What another message of 16 KiB gets on so many KiB of disk, of a and of b, if a has 15 messages of 20 KiB there: 2 KiB more for the report on each
/// and something for its envelope, so that a part of 15 of all of it is 23 KiB.
const AFTER_15_OF_A: [(usize, Got, Got); 3] = [
    (200, Ok(()), Ok(())),
    (64, Err(NoRoom::Share(Resource::Disk)), Ok(())),
    (40, Err(NoRoom::Disk), Err(NoRoom::Disk)),
];

fn leave_free(rig: &Rig, kib: usize) {
    rig.disk.set_free(3 * SEGMENT_BYTES + (kib * KIB) as u64);
    rig.context.queue.spool().measure();
}

fn ask(rig: &Rig, login: &str) -> Got {
    let message = mail(rig, login, 1, 16 * KIB);
    let room = rig.context.queue.reserve_for(&message, NeedsDisk::Yes);
    room.map(drop)
}

#[tokio::test]
async fn the_disk_is_shared_too() {
    let rig = Rig::new(ENOUGH);
    let queue = &rig.context.queue;
    queue.share(Sharing::Many);
    for _ in 0..15 {
        accept(queue, mail(&rig, "a", 1, 20 * KIB)).await.unwrap();
    }
    for (free_kib, a, b) in AFTER_15_OF_A {
        leave_free(&rig, free_kib);
        for (login, expected) in [("a", a), ("b", b)] {
            assert_eq!(ask(&rig, login), expected, "{login} with {free_kib} KiB");
        }
        let handed_on = queue.reserve_for(&mail(&rig, "a", 1, 16 * KIB), NeedsDisk::Perhaps);
        assert_eq!(handed_on.map(drop), Ok(()), "it may never be there");
    }
}

#[tokio::test]
async fn what_is_on_its_way_to_the_disk_counts_as_if_it_were_there() {
    let rig = Rig::new(ENOUGH);
    let queue = &rig.context.queue;
    queue.share(Sharing::Many);
    let on_its_way = |_| {
        let message = mail(&rig, "a", 1, 20 * KIB);
        queue.reserve_for(&message, NeedsDisk::Yes).unwrap()
    };
    let rooms: Vec<_> = (0..15).map(on_its_way).collect();
    for (free_kib, a, b) in AFTER_15_OF_A {
        leave_free(&rig, free_kib);
        for (login, expected) in [("a", a), ("b", b)] {
            assert_eq!(ask(&rig, login), expected, "{login} with {free_kib} KiB");
        }
    }
    drop(rooms);
    assert_eq!(ask(&rig, "a"), Ok(()), "what is given up takes nothing");
}

#[tokio::test]
async fn there_is_room_for_the_reports_that_mail_may_lead_to() {
    let rig = Rig::new(1 << 24);
    let queue = &rig.context.queue;
    queue.share(Sharing::Alone);
    let mut large = rig.message(1000, 0);
    large.body = Bytes::from(vec![b'x'; 60 * KIB]);
    // Its envelope as it is counted on the disk, its content, and what 1,000 reports take beyond that.
    let reports = 1000 * 6 * KIB;
    for (free, expected) in [(reports - KIB, Err(NoRoom::Disk)), (reports, Ok(()))] {
        rig.disk.set_free(3 * SEGMENT_BYTES + free as u64);
        queue.spool().measure();
        let room = queue.reserve_for(&large, NeedsDisk::Yes).map(drop);
        assert_eq!(room, expected, "with {free} bytes");
    }
    rig.disk.set_free(u64::MAX);
    queue.spool().measure();
    let mut unheard = large.clone();
    unheard.id = queue.next_id(0);
    unheard.envelope.sender.clear();
    accept(queue, unheard).await.unwrap();
    assert!(!queue.is_disk_full());
    rig.accept(&large).await.unwrap();
    // Enough for the message and its segment, not for what it owes.
    rig.disk.set_free(4 * SEGMENT_BYTES + (4 << 20));
    queue.spool().measure();
    assert!(!queue.is_disk_full());
    for _ in 0..15 {
        let mut more = large.clone();
        more.id = queue.next_id(0);
        queue.change(|schedule, now_ms| schedule.insert(&more.queued(), now_ms));
    }
    assert!(queue.is_disk_full() && !queue.spool().is_full());
    let full = queue.check_room_for(&Account::Network, NeedsDisk::Yes);
    assert_eq!(full, Err(NoRoom::Disk), "nobody could be told of more");
    assert_eq!(
        queue.check_room_for(&Account::Network, NeedsDisk::Perhaps),
        Ok(())
    );
}

#[tokio::test]
async fn a_report_counts_for_who_caused_it_and_is_not_treated_as_its_mail() {
    for login in ["a", ""] {
        let rig = Rig::new(ENOUGH);
        let queue = &rig.context.queue;
        let message = mail(&rig, login, 1, 10);
        rig.accept(&message).await.unwrap();
        let held = || queue.state().schedule.held(&login.into());
        let before = held();
        let taken = queue.take().unwrap();
        let notice = Notice {
            index: 0,
            kind: Kind::Failed,
            status: postroad_smtp::EnhancedStatus::new(5, 1, 1),
            expired: None,
            diagnostic: "no such user".into(),
        };
        let report = delivery::report(&rig.context, &rig.context.live(), &message, &[notice], None);
        let report = report.unwrap();
        let recorded = Recorded {
            results: vec![(0, RecipientResult::Failed)],
            ..Recorded::default()
        };
        let bytes = report.queued().bytes;
        queue.record(taken.ticket, recorded, Some(report)).await;
        assert_eq!(held().weight, before.weight, "{login:?}");
        assert_eq!((held().bytes, held().owed), (bytes, 0), "{login:?}");
        // What its tenant submits is held back; a report is not.
        let hold = Override {
            name: "hold".into(),
            matches: Match {
                credentials: vec!["a".into()],
                ..Match::default()
            },
            arrived_before: None,
            action: Action::Hold,
        };
        let table = Arc::new(Table::new(&Delivery {
            overrides: vec![hold],
            ..Delivery::default()
        }));
        let before = queue.configure(table, SiteLimits::default(), u64::MAX);
        queue.review(&before, Wake::All).await;
        assert_eq!(queue.totals().0.held, 0, "{login:?}");
        rig.accept(&mail(&rig, "a", 1, 10)).await.unwrap();
        assert_eq!(queue.totals().0.held, 1);
    }
}

#[tokio::test]
async fn no_room_is_kept_for_reports_that_nobody_wants() {
    for (notify, owes) in [(None, true), (Some("NEVER"), false)] {
        let rig = Rig::new(ENOUGH);
        let queue = &rig.context.queue;
        let mut message = mail(&rig, "a", 100, 10);
        for recipient in &mut message.envelope.recipients {
            recipient.notify = notify.map(str::to_owned);
        }
        let found = [&message].into_iter().collect();
        accept(queue, message.clone()).await.unwrap();
        assert_eq!(queue.totals().0.owed > 0, owes, "{notify:?}");
        let again = queue.spool().clone();
        let again = Queue::new(again, ENOUGH, found, queue.bytes_max(), Arc::default());
        assert_eq!(again.totals().0.owed > 0, owes, "{notify:?} after a start");
    }
}

#[tokio::test]
async fn what_is_handed_on_needs_its_share_of_the_disk_when_it_is_stored() {
    let rig = Rig::new(ENOUGH);
    let queue = &rig.context.queue;
    queue.share(Sharing::Many);
    for _ in 0..15 {
        accept(queue, mail(&rig, "a", 1, 20 * KIB)).await.unwrap();
    }
    rig.disk.set_free(3 * SEGMENT_BYTES + (64 * KIB) as u64);
    queue.spool().measure();
    for (login, expected) in [
        ("a", Err(NoRoom::Share(Resource::Disk))),
        ("b", Ok(Passed::Stored)),
    ] {
        let room = queue.memory().try_reserve(0).unwrap();
        let message = mail(&rig, login, 1, 16 * KIB);
        let at_once = std::future::ready(());
        let passed = queue.pass(message, room, Duration::ZERO, at_once, |_, _| None);
        let passed = passed.await.map_err(|error| match error {
            AcceptError::Room(full) => full,
            error => panic!("{error}"),
        });
        assert_eq!(passed, expected, "{login}");
    }
    assert!(queue.shared.reserved().is_empty());
}
