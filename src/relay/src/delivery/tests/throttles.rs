//! An upstream that has had enough for now.

use std::sync::atomic::AtomicBool;

use postroad_spool::Message;

use super::*;
use crate::delivery::worker::LOOKED_AT_MAX;
use crate::rig::LIFETIME_SECONDS;

#[tokio::test]
async fn an_upstream_that_throttles_all_mail_for_long_charges_nobody_and_one_that_takes_other_mail_does()
 {
    for (takes_other, deferred, state) in [
        (false, 0, UpstreamState::Failing),
        (true, 1, UpstreamState::Ready),
    ] {
        let sink = Sink::start(move |line, _| match line.starts_with("MAIL") {
            true => Answer::Say("421 4.7.0 try again later"),
            false => Answer::Yes,
        })
        .await;
        let rig = Rig::new(MEMORY);
        rig.accept(&rig.message(1, 0)).await.unwrap();
        let delivery = manager(&rig, &sink).await;
        let fingerprint = rig.context.live().upstreams[0].fingerprint.clone();
        for visited in 1..=3 {
            visit(&delivery).await;
            assert_eq!(sink.mails(), visited);
            if takes_other {
                let now = clock::Moment::now();
                let mut upstreams = delivery.upstreams.lock();
                upstreams.answered("provider", &fingerprint, window::Answer::Final, now);
            }
        }
        assert_eq!(rig.context.queue.totals().0.deferred, deferred);
        assert_eq!(delivery.upstreams.status()[0].state, state);
    }
}

#[tokio::test]
async fn a_throttle_slows_the_upstream_and_charges_nobody() {
    let throttles = Arc::new(AtomicBool::new(true));
    let throttling = Arc::clone(&throttles);
    let sink = Sink::start(move |line, _| {
        match line.starts_with("MAIL") && throttling.load(Ordering::SeqCst) {
            true => Answer::Say("454 Throttling failure: Maximum sending rate exceeded."),
            false => Answer::Yes,
        }
    })
    .await;
    let rig = Rig::new(MEMORY);
    rig.accept(&rig.message(1, LIFETIME_SECONDS)).await.unwrap();
    rig.accept(&rig.message(1, 0)).await.unwrap();
    let delivery = manager(&rig, &sink).await;
    visit(&delivery).await;
    let (totals, _) = rig.context.queue.totals();
    assert_eq!(
        (totals.messages, totals.deferred),
        (2, 0),
        "not even what is too old"
    );
    assert_eq!(sink.mails(), 1, "the connection is given up");
    let status = delivery.upstreams.status().remove(0);
    let reason = status.failure.map(|failure| failure.reason);
    assert_eq!(reason, Some(FailureReason::Throttled));
    assert_eq!(
        delivery
            .upstreams
            .lock()
            .choose(&Target::default(), clock::now_ms()),
        None
    );
    throttles.store(false, Ordering::SeqCst);
    visit(&delivery).await;
    assert_eq!(rig.context.queue.totals().0.messages, 0);
    assert_eq!(delivery.upstreams.status()[0].state, UpstreamState::Ready);
}

/// An upstream that has enough of senders whose names begin with an s, and with which of them it was tried.
async fn fed_up() -> (Sink, Arc<Mutex<Vec<String>>>) {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let hears = Arc::clone(&heard);
    let sink = Sink::start(move |line, _| match line {
        _ if line.starts_with("MAIL FROM:<s") => {
            hears.lock().unwrap().push(line.to_owned());
            Answer::Say("421 4.7.28 too much of yours")
        }
        _ => Answer::Yes,
    })
    .await;
    (sink, heard)
}

/// A message of this sender and login, of this priority.
fn from(rig: &Rig, sender: &str, login: &str, priority: i8) -> Message {
    let mut message = rig.message(1, 60);
    message.envelope.sender = format!("{sender}@example.com");
    message.envelope.credential = login.into();
    message.envelope.priority = priority;
    message
}

#[tokio::test]
async fn an_upstream_that_fails_is_tried_with_what_it_has_not_turned_away_yet_and_else_by_turns() {
    for count in [20, LOOKED_AT_MAX, LOOKED_AT_MAX + 1] {
        let (sink, heard) = fed_up().await;
        let rig = Rig::new(MEMORY);
        for number in 0..count {
            let message = from(&rig, &format!("s{number}"), "", 0);
            rig.accept(&message).await.unwrap();
        }
        let delivery = manager(&rig, &sink).await;
        for _ in 0..2 {
            for _ in 0..count {
                visit(&delivery).await;
            }
            let mut round = std::mem::take(&mut *heard.lock().unwrap());
            round.sort_unstable();
            round.dedup();
            assert_eq!(round.len(), count, "each has its turn");
        }
        rig.accept(&from(&rig, "other", "", 0)).await.unwrap();
        for _ in 0..=count / LOOKED_AT_MAX {
            visit(&delivery).await;
        }
        assert_eq!(rig.context.metrics.delivered.get(), 1, "{count}");
    }
}

#[tokio::test]
async fn what_goes_first_because_of_its_priority_or_its_login_is_passed_by_too() {
    for (held, fresh) in [
        (&[("s1", "", 5)][..], ("other", "", 0)),
        (&[("s1", "", 0)], ("other", "", -9)),
        (
            &[("s1", "a", 0), ("s2", "b", 0), ("s3", "b", 0)],
            ("other", "b", 0),
        ),
    ] {
        let (sink, _) = fed_up().await;
        let rig = Rig::new(MEMORY);
        for (sender, login, priority) in held {
            rig.accept(&from(&rig, sender, login, *priority))
                .await
                .unwrap();
        }
        let delivery = manager(&rig, &sink).await;
        for _ in held {
            visit(&delivery).await;
        }
        let (sender, login, priority) = fresh;
        rig.accept(&from(&rig, sender, login, priority))
            .await
            .unwrap();
        visit(&delivery).await;
        assert_eq!(rig.context.metrics.delivered.get(), 1, "{held:?}");
        let queue = &rig.context.queue;
        assert_eq!(
            std::iter::from_fn(|| queue.take()).count(),
            held.len(),
            "whoever was passed by is there"
        );
    }
}
