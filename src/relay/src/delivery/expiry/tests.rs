use futures::FutureExt as _;
use postroad_config::status::{FailureReason, UpstreamFailure};
use postroad_spool::{ByMode, DeliverBy, RecipientResult};
use tokio_util::sync::CancellationToken;

use super::super::Delivery;
use super::*;
use crate::clock::Moment;
use crate::context::Phase;
use crate::rig::{LIFETIME_SECONDS, Rig};
use crate::schedule::SiteLimits;
use crate::upstreams::FailedStage;

const MEMORY: u64 = 1 << 20;

/// All mail goes to the domains of its recipients.
fn go_direct(rig: &Rig) {
    let direct = crate::route::Table::new(&postroad_config::Delivery {
        default_route: postroad_config::Target::Direct,
        ..postroad_config::Delivery::default()
    });
    let queue = &rig.context.queue;
    queue.configure(direct.into(), SiteLimits::default(), u64::MAX);
}

/// A manager whose only upstream fails.
async fn failing(rig: &Rig) -> Delivery {
    let upstreams = SharedUpstreams::default();
    let delivery = Delivery::new(rig.context.clone(), upstreams, CancellationToken::new());
    let live = rig.context.live();
    delivery.configure(&live).await;
    let failure = refused();
    let fingerprint = &live.upstreams[0].fingerprint;
    let stage = FailedStage::Connecting;
    let at = Moment::now();
    delivery
        .upstreams
        .lock()
        .failed("provider", fingerprint, stage, failure, at);
    delivery
}

fn refused() -> UpstreamFailure {
    UpstreamFailure {
        reason: FailureReason::ConnectionRefused,
        message: "nothing listens".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_that_waits_for_memory_holds_nothing_up_and_no_second_one_begins() {
    let rig = Rig::new(MEMORY);
    let old = rig.message(1, LIFETIME_SECONDS);
    rig.accept(&old).await.unwrap();
    rig.accept(&rig.message(1, 0)).await.unwrap();
    let all = rig.context.queue.memory().take_all();
    let delivery = failing(&rig).await;
    let mut last = None;
    delivery.start_expiry(&mut last);
    while !rig.context.queue.memory().has_waiting() {
        tokio::task::yield_now().await;
    }
    let first = last.as_ref().map(tokio::task::JoinHandle::id);
    delivery.start_expiry(&mut last);
    assert_eq!(last.as_ref().map(tokio::task::JoinHandle::id), first);
    drop(all);
    last.unwrap().await.unwrap();
    assert!(rig.context.queue.spool().read(old.id).is_err());
    let (totals, _) = rig.context.queue.totals();
    assert_eq!(totals.messages, 2, "the young one, and the bounce");
}

#[tokio::test]
async fn a_look_ends_with_the_process_whatever_it_waits_for() {
    let rig = Rig::new(MEMORY);
    rig.accept(&rig.message(1, LIFETIME_SECONDS)).await.unwrap();
    let _all = rig.context.queue.memory().take_all();
    let delivery = failing(&rig).await;
    let mut last = None;
    delivery.start_expiry(&mut last);
    rig.context.ending.advance(Phase::Stopping);
    last.unwrap().await.unwrap();
    assert!(rig.context.queue.take().is_some(), "it is given back");
}

#[tokio::test]
async fn what_cannot_be_read_does_not_keep_the_younger_ones_waiting() {
    let rig = Rig::new(MEMORY);
    let body = vec![b'x'; 9000];
    let unreadable = rig.message(1, LIFETIME_SECONDS + 60);
    let long = postroad_spool::Message {
        body: body.into(),
        ..unreadable
    };
    let readable = rig.message(1, LIFETIME_SECONDS);
    rig.accept(&long).await.unwrap();
    rig.accept(&readable).await.unwrap();
    rig.disk.fail_reads_beyond(1000);
    rig.block_corrupt();
    let delivery = failing(&rig).await;
    expire(rig.context.clone(), delivery.upstreams.clone()).await;
    assert!(rig.context.queue.spool().read(readable.id).is_err());
    let (totals, _) = rig.context.queue.totals();
    assert_eq!((totals.messages, totals.unreadable), (2, 1));
}

#[tokio::test]
async fn senders_of_what_waits_for_long_are_told_once_if_they_want_to_know() {
    let rig = Rig::new(MEMORY);
    rig.change_delivery(|delivery| delivery.retry.delay_warning_seconds = Some(60));
    let late = rig.message(2, 60);
    let mut unwanted = rig.message(1, 60);
    unwanted.envelope.recipients[0].notify = Some("FAILURE".into());
    for message in [&late, &unwanted, &rig.message(1, 10)] {
        rig.accept(message).await.unwrap();
    }
    let delivery = failing(&rig).await;
    for _ in 0..2 {
        expire(rig.context.clone(), delivery.upstreams.clone()).await;
        let (totals, _) = rig.context.queue.totals();
        assert_eq!(totals.messages, 4, "the three and one report");
    }
    let mut reports = 0;
    while let Some(taken) = rig.context.queue.take() {
        let (message, _room) = rig.context.queue.load(&taken).await.unwrap();
        if message.envelope.sender.is_empty() {
            let text = String::from_utf8(message.body.to_vec()).unwrap();
            assert_eq!(text.matches("\r\nAction: delayed\r\n").count(), 2, "{text}");
            assert!(
                text.contains("could not be used: nothing listens"),
                "{text}"
            );
            reports += 1;
        } else {
            assert_eq!(taken.entry.attempts, 0, "it was not tried");
        }
    }
    assert_eq!(reports, 1);
}

#[tokio::test]
async fn who_has_been_told_is_not_told_again() {
    for (delay_notified, messages) in [(true, 1), (false, 2)] {
        let rig = Rig::new(MEMORY);
        rig.change_delivery(|delivery| delivery.retry.delay_warning_seconds = Some(60));
        rig.accept(&rig.message(1, 60)).await.unwrap();
        let mut taken = rig.context.queue.take().unwrap();
        taken.entry.delay_notified = delay_notified;
        let (message, _room) = rig.context.queue.load(&taken).await.unwrap();
        let course = Course::new(&rig.context, &message, taken);
        course.tell_of_delay(&Reply::new(451, None, "x")).await;
        let (totals, _) = rig.context.queue.totals();
        assert_eq!(totals.messages, messages, "{delay_notified}");
    }
}

#[tokio::test]
async fn who_could_not_be_told_for_want_of_room_is_told_when_there_is_some() {
    let rig = Rig::new(MEMORY);
    rig.change_delivery(|delivery| delivery.retry.delay_warning_seconds = Some(60));
    rig.accept(&due_by(&rig, 120, -1_000)).await.unwrap();
    let delivery = failing(&rig).await;
    let queue = &rig.context.queue;
    for (bytes_max, messages) in [(0, 1), (u64::MAX, 2), (u64::MAX, 2)] {
        queue.configure(queue.table(), SiteLimits::default(), bytes_max);
        expire(rig.context.clone(), delivery.upstreams.clone()).await;
        assert_eq!(queue.totals().0.messages, messages, "{bytes_max}");
    }
}

#[tokio::test]
async fn the_sender_is_told_of_one_recipient_although_not_of_another() {
    for wishes in [["NEVER", "DELAY"], ["DELAY", "NEVER"]] {
        let rig = Rig::new(MEMORY);
        rig.change_delivery(|delivery| delivery.retry.delay_warning_seconds = Some(60));
        let queue = &rig.context.queue;
        go_direct(&rig);
        let mut late = rig.message(2, 60);
        late.envelope.recipients[1].address = "r@elsewhere.example".into();
        for (recipient, notify) in late.envelope.recipients.iter_mut().zip(wishes) {
            recipient.notify = Some(notify.into());
        }
        rig.accept(&late).await.unwrap();
        for (door, _, _) in queue.open_domains() {
            queue.failed(door.place(), refused());
        }
        let upstreams = SharedUpstreams::default();
        for _ in 0..3 {
            expire(rig.context.clone(), upstreams.clone()).await;
        }
        assert_eq!(queue.totals().0.messages, 2, "it and a notice, {wishes:?}");
    }
}

#[tokio::test]
async fn who_has_the_message_already_is_not_among_those_of_whom_the_sender_may_be_told() {
    for (is_delivered, looks) in [(true, 1), (false, 2)] {
        let rig = Rig::new(MEMORY);
        rig.change_delivery(|delivery| delivery.retry.delay_warning_seconds = Some(60));
        let queue = &rig.context.queue;
        go_direct(&rig);
        let mut late = rig.message(3, 60);
        for (number, recipient) in (0..).zip(&mut late.envelope.recipients) {
            recipient.address = format!("r@d{number}.example");
            recipient.notify = (number > 0).then(|| "NEVER".into());
        }
        rig.accept(&late).await.unwrap();
        let all: Vec<_> = queue.open_domains().collect();
        for (door, domain, _) in &all {
            if **domain != *"d0.example" {
                queue.failed(door.place(), refused());
            } else if is_delivered {
                let ticket = door.take().unwrap().ticket;
                let results = vec![(0, RecipientResult::Delivered)];
                queue.settle(ticket, results).await;
            }
        }
        let mut looked = 0;
        while let Swept::Taken(taken, failure) = queue.take_overdue(limits(&rig.context)) {
            look_at(&rig.context, taken, failure.as_deref()).await;
            looked += 1;
        }
        assert_eq!(looked, looks, "{is_delivered}");
    }
}

#[tokio::test]
async fn who_is_not_told_of_the_age_is_told_of_the_deadline() {
    let rig = Rig::new(MEMORY);
    rig.change_delivery(|delivery| {
        delivery.retry.delay_warning_seconds = None;
        delivery.retry.lifetime_seconds = 100_000;
    });
    rig.accept(&due_by(&rig, 50_000, 3_600_000)).await.unwrap();
    let delivery = failing(&rig).await;
    for is_first in [true, false] {
        let before = rig.disk.read_bytes();
        expire(rig.context.clone(), delivery.upstreams.clone()).await;
        assert_eq!(rig.disk.read_bytes() > before, is_first, "looked at once");
        let taken = rig.context.queue.take().unwrap();
        assert!(!taken.entry.delay_notified);
        rig.context.queue.release(taken.ticket, 0);
    }
}

/// A message of this age, to be delivered by a time so many milliseconds from now: its sender is to know if it is not.
fn due_by(rig: &Rig, age_seconds: u64, in_ms: i64) -> Message {
    let mut message = rig.message(1, age_seconds);
    message.envelope.deliver_by = Some(DeliverBy {
        deadline_ms: clock::now_ms().saturating_add_signed(in_ms),
        on_expiry: ByMode::Notify,
        trace: false,
    });
    message
}

#[tokio::test]
async fn two_parts_of_a_message_that_are_late_at_once_make_one_notice() {
    for first_is_tried in [true, false] {
        let rig = Rig::new(MEMORY);
        rig.change_delivery(|delivery| delivery.retry.delay_warning_seconds = Some(60));
        let queue = &rig.context.queue;
        go_direct(&rig);
        let mut late = rig.message(2, 60);
        late.envelope.recipients[1].address = "r@elsewhere.example".into();
        rig.accept(&late).await.unwrap();
        let both = [queue.take().unwrap(), queue.take().unwrap()];
        let cause = Reply::new(451, None, "x");
        for (taken, is_tried) in both.into_iter().zip([first_is_tried, !first_is_tried]) {
            let (message, _room) = queue.load(&taken).await.unwrap();
            let course = Course::new(&rig.context, &message, taken);
            match is_tried {
                true => give_up(course, &cause).await,
                false => course.tell_of_delay(&cause).await,
            }
        }
        assert_eq!(
            queue.totals().0.messages,
            2,
            "the message and one notice, {first_is_tried}"
        );
    }
}

#[tokio::test]
async fn only_for_a_report_the_content_is_read() {
    let rig = Rig::new(MEMORY);
    for (sender, notify) in [("", None), ("s@example.com", Some("NEVER"))] {
        let mut unheard = rig.message(1, LIFETIME_SECONDS);
        unheard.envelope.sender = sender.into();
        unheard.envelope.recipients[0].notify = notify.map(str::to_owned);
        unheard.body = vec![b'x'; 9000].into();
        rig.accept(&unheard).await.unwrap();
    }
    rig.disk.fail_reads_beyond(1000);
    let _all = rig.context.queue.memory().take_all();
    let delivery = failing(&rig).await;
    expire(rig.context.clone(), delivery.upstreams.clone()).await;
    assert_eq!(rig.context.queue.totals().0.messages, 0);
    assert_eq!(rig.context.metrics.failed.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_has_too_much_in_memory_does_not_keep_others_waiting() {
    let rig = Rig::new(MEMORY);
    let mut greedy = Vec::new();
    for seconds in 1..=30 {
        let mut message = rig.message(1, LIFETIME_SECONDS + 60 - seconds);
        message.envelope.credential = "greedy".into();
        rig.accept(&message).await.unwrap();
        greedy.push(message.id);
    }
    let other = rig.message(1, LIFETIME_SECONDS);
    rig.accept(&other).await.unwrap();
    let delivery = failing(&rig).await;
    rig.context.queue.share(crate::room::Sharing::Many);
    let memory = rig.context.queue.memory();
    let tenant = "greedy".into();
    let hoard: Vec<_> =
        std::iter::from_fn(|| memory.reserve(&tenant, 0).now_or_never().flatten()).collect();
    let begin = tokio::time::Instant::now();
    let before = rig.disk.read_bytes();
    expire(rig.context.clone(), delivery.upstreams.clone()).await;
    assert!(begin.elapsed() < 2 * look::PATIENCE, "it waits once for it");
    let read = rig.disk.read_bytes() - before;
    assert!(read < 5_000, "{read}: it reads two messages and no more");
    let spool = rig.context.queue.spool();
    let there = |ids: &[_]| ids.iter().filter(|id| spool.read(**id).is_ok()).count();
    assert_eq!((there(&greedy), there(&[other.id])), (30, 0));
    drop(hoard);
    expire(rig.context.clone(), delivery.upstreams.clone()).await;
    assert_eq!(there(&greedy), 0);
}

#[tokio::test]
async fn a_damaged_message_that_keeps_the_disk_is_given_up_though_it_must_not_be_sent_yet() {
    let rig = Rig::new(MEMORY);
    let held = |recipients| {
        let mut message = rig.message(recipients, 0);
        message.envelope.not_before_ms = clock::now_ms() + 3_600_000;
        message
    };
    let (damaged, intact) = (held(2), held(1));
    rig.accept(&damaged).await.unwrap();
    rig.damage(b"find me");
    rig.accept(&intact).await.unwrap();
    let queue = &rig.context.queue;
    assert!(queue.take().is_none(), "nobody would read them");
    let gone = queue.next_id(0);
    let upstreams = SharedUpstreams::default();
    settle_damaged(&rig.context, &upstreams, vec![damaged.id, intact.id, gone]).await;
    assert_eq!(rig.corrupt().len(), 1);
    assert!(queue.spool().read(damaged.id).is_err(), "done");
    let bounce = queue.take().unwrap();
    let (report, _room) = queue.load(&bounce).await.unwrap();
    assert_eq!(report.envelope.recipients[0].address, "s@example.com");
    assert!(queue.take().is_none(), "what is intact waits on");
    assert_eq!(queue.totals().0.messages, 2, "the bounce and that");
}

#[tokio::test]
async fn a_look_gives_up_what_the_spool_finds_damaged_while_it_makes_room() {
    const SEGMENT: u64 = 64 << 10;
    const PATIENCE: usize = 100;
    let rig = Rig::with_segments(MEMORY, SEGMENT);
    let queue = &rig.context.queue;
    let mut held = rig.message(1, 0);
    held.envelope.not_before_ms = clock::now_ms() + 3_600_000;
    rig.accept(&held).await.unwrap();
    rig.damage(b"find me");
    let flow = async |messages: usize| {
        for _ in 0..messages {
            let mut passing = rig.message(1, 0);
            passing.body = vec![b'x'; 8 << 10].into();
            rig.accept(&passing).await.unwrap();
            let ticket = queue.take().unwrap().ticket;
            let delivered = vec![(0, RecipientResult::Delivered)];
            queue.settle(ticket, delivered).await;
        }
    };
    // So much that without the damage nothing of it would be kept.
    flow(100).await;
    assert!(queue.spool().health().disk_bytes > 10 * SEGMENT);
    // The writer looks when it has nothing else to do.
    for _ in 0..PATIENCE {
        expire(rig.context.clone(), SharedUpstreams::default()).await;
        if !rig.corrupt().is_empty() {
            break;
        }
        flow(1).await;
    }
    assert_eq!(rig.corrupt().len(), 1);
    assert!(queue.spool().read(held.id).is_err(), "done");
    let report = queue.take().unwrap();
    let (told, _room) = queue.load(&report).await.unwrap();
    assert_eq!(told.envelope.recipients[0].address, "s@example.com");
    let reported = vec![(0, RecipientResult::Delivered)];
    queue.settle(report.ticket, reported).await;
    for _ in 0..PATIENCE {
        flow(1).await;
    }
    assert!(queue.spool().health().disk_bytes < 8 * SEGMENT);
}

#[tokio::test]
async fn a_damaged_message_that_somebody_has_or_that_is_whole_in_memory_is_left_alone() {
    let rig = Rig::new(MEMORY);
    let message = rig.message(1, 0);
    let queue = &rig.context.queue;
    let room = queue.memory().try_reserve(0).unwrap();
    queue.accept(message.clone(), room).await.unwrap();
    rig.damage(b"find me");
    let upstreams = SharedUpstreams::default();
    settle_damaged(&rig.context, &upstreams, vec![message.id]).await;
    let taken = queue.take().unwrap();
    let (read, _room) = queue.load(&taken).await.unwrap();
    assert_eq!(read, message);
    settle_damaged(&rig.context, &upstreams, vec![message.id]).await;
    assert!(queue.is_taken(taken.ticket));
    assert!(rig.corrupt().is_empty());
}
