//! What servers say of mail, and what becomes of it.

use bytes::Bytes;
use postroad_config::status::UpstreamFailure;
use postroad_spool::{BodyType, ByMode, DeliverBy};

use super::*;
use crate::clock::Moment;
use crate::rig::LIFETIME_SECONDS;
use crate::schedule::Wake;
use crate::upstreams::FailedStage;

/// A sink that says this to every command that begins so.
async fn saying(begin: &'static str, reply: &'static str) -> Sink {
    Sink::start(move |line, _| match line.starts_with(begin) {
        true => Answer::Say(reply),
        false => Answer::Yes,
    })
    .await
}

#[tokio::test]
async fn a_server_that_has_room_for_nobody_puts_mail_off_until_it_expires() {
    for begin in ["RCPT", "."] {
        for (age_seconds, deferred, bounced) in [(0, 1, 0), (LIFETIME_SECONDS, 0, 1)] {
            let sink = saying(begin, "452 4.5.3 mailbox full").await;
            let rig = Rig::new(MEMORY);
            rig.accept(&rig.message(2, age_seconds)).await.unwrap();
            let delivery = manager(&rig, &sink).await;
            rig.change_upstream(|upstream| upstream.limits.recipients_per_message = 10);
            // A bounce follows over the same connection.
            visit(&delivery).await;
            let case = (begin, age_seconds);
            assert_eq!(rig.context.metrics.bounced.get(), bounced, "{case:?}");
            let (totals, _) = rig.context.queue.totals();
            assert_eq!(totals.messages, 1, "{case:?}");
            assert_eq!(sink.mails() as u64, 1 + bounced, "{case:?}");
            assert_eq!(totals.deferred, deferred + bounced, "{case:?}");
            assert!(rig.context.queue.take().is_none(), "it has its pause");
        }
    }
}

#[tokio::test]
async fn who_does_not_fit_is_sent_to_at_once_as_long_as_another_did() {
    let sink = Sink::start(|line, mails| match line {
        "RCPT TO:<r1@example.org>" if mails == 1 => Answer::Say("452 4.5.3 too many"),
        _ => Answer::Yes,
    })
    .await;
    let rig = Rig::new(MEMORY);
    rig.accept(&rig.message(2, 0)).await.unwrap();
    let delivery = manager(&rig, &sink).await;
    rig.change_upstream(|upstream| upstream.limits.recipients_per_message = 10);
    visit(&delivery).await;
    let (totals, _) = rig.context.queue.totals();
    assert_eq!((totals.messages, sink.mails()), (0, 2));
}

#[tokio::test]
async fn a_throttle_that_a_recipient_or_a_message_may_have_brought_about_slows_nobody() {
    // Where nobody had a last word no further connection is worth a try than at the beginning.
    for (step, reply, connections) in [
        ("RCPT TO:<r1", "450 4.3.2 not now", 4),
        ("RCPT TO:<r1", "432 4.3.2 not now", 4),
        (".", "451 4.7.28 an unusual rate of mail", 2),
        (".", "454 4.7.0 not now", 2),
    ] {
        let sink = saying(step, reply).await;
        let rig = Rig::new(MEMORY);
        for _ in 0..5 {
            rig.accept(&rig.message(2, 0)).await.unwrap();
        }
        rig.change_upstream(|upstream| upstream.limits.connections = 20);
        let delivery = manager(&rig, &sink).await;
        rig.change_upstream(|upstream| upstream.limits.recipients_per_message = 10);
        visit(&delivery).await;
        let (totals, _) = rig.context.queue.totals();
        assert_eq!((totals.messages, totals.deferred), (5, 5), "{step} {reply}");
        assert_eq!(sink.mails(), 5, "{step} {reply}: over one connection");
        let status = delivery.upstreams.status();
        assert_eq!(status[0].state, UpstreamState::Ready, "{step} {reply}");
        assert_eq!(bearable(&delivery), connections, "{step} {reply}");
        let told = &delivery.upstreams.destinations(&rig.context.queue)[0];
        assert_eq!((told.answer.as_deref(), &told.rate), (Some(reply), &None));
    }
}

#[tokio::test]
async fn the_status_shows_what_the_server_said_and_not_what_is_decided_without_it() {
    let busy = "450 4.2.0 busy";
    let sink = saying("RCPT TO:<r0@", busy).await;
    let rig = Rig::new(MEMORY);
    let delivery = manager(&rig, &sink).await;
    rig.accept(&rig.message(1, 0)).await.unwrap();
    visit(&delivery).await;
    // It is returned without being tried: its time is over.
    let mut late = rig.message(1, 60);
    late.envelope.deliver_by = Some(DeliverBy {
        deadline_ms: late.arrival_ms,
        on_expiry: ByMode::Return,
        trace: false,
    });
    rig.accept(&late).await.unwrap();
    visit(&delivery).await;
    assert_eq!(rig.context.metrics.bounced.get(), 1);
    let told = &delivery.upstreams.destinations(&rig.context.queue)[0];
    assert_eq!((told.deferred, told.answer.as_deref()), (1, Some(busy)));
}

/// How many connections are opened at once to what has shown itself so far.
fn bearable(delivery: &Delivery) -> usize {
    let (target, now_ms) = (Target::default(), clock::now_ms());
    let mut upstreams = delivery.upstreams.lock();
    let opened = std::iter::from_fn(|| {
        let name = upstreams.choose(&target, now_ms)?.to_owned();
        upstreams.opened(&name);
        Some(())
    });
    opened.count()
}

#[tokio::test]
async fn what_the_server_was_not_asked_is_no_word_of_it() {
    let sink = saying("MAIL", "421 4.3.2 not now").await;
    let rig = Rig::new(MEMORY);
    let mut message = rig.message(2, 0);
    message.envelope.recipients[0].address = "\u{fc}@example.org".into();
    rig.accept(&message).await.unwrap();
    let delivery = manager(&rig, &sink).await;
    rig.change_upstream(|upstream| upstream.limits.recipients_per_message = 10);
    visit(&delivery).await;
    let (metrics, (totals, _)) = (&rig.context.metrics, rig.context.queue.totals());
    assert_eq!((metrics.failed.get(), metrics.deferred.get()), (1, 0));
    assert_eq!((totals.messages, totals.deferred), (2, 0), "and the report");
    let status = delivery.upstreams.status();
    assert_eq!(status[0].state, UpstreamState::Failing);
}

#[tokio::test]
async fn a_word_about_the_server_charges_nobody_who_is_left_of_a_message() {
    let sink = Sink::start(|line, _| match line {
        "RCPT TO:<r1@example.org>" => Answer::Say("550 5.1.1 nobody"),
        "DATA" => Answer::Say("530 5.7.0 log in"),
        _ => Answer::Yes,
    })
    .await;
    let rig = Rig::new(MEMORY);
    rig.accept(&rig.message(2, 0)).await.unwrap();
    let delivery = manager(&rig, &sink).await;
    rig.change_upstream(|upstream| upstream.limits.recipients_per_message = 10);
    visit(&delivery).await;
    let metrics = &rig.context.metrics;
    assert_eq!((metrics.failed.get(), metrics.deferred.get()), (1, 0));
    assert_eq!(rig.context.queue.totals().0.deferred, 0);
    let status = delivery.upstreams.status();
    assert_eq!(status[0].state, UpstreamState::Failing);
}

#[tokio::test]
async fn a_connection_that_may_name_no_further_domain_costs_no_attempt() {
    const LINES: usize = 1000;
    let sink = saying("EHLO", "250-sink\r\n250 LIMITS RCPTDOMAINMAX=1").await;
    let rig = Rig::new(MEMORY);
    for domains in [
        &["a.example"][..],
        &["a.example"],
        &["b.example", "c.example"],
    ] {
        let mut message = rig.message(domains.len(), 0);
        let recipients = message.envelope.recipients.iter_mut();
        for (recipient, domain) in recipients.zip(domains) {
            recipient.address = format!("r@{domain}");
        }
        message.body = Bytes::from("0123456789\r\n".repeat(LINES));
        rig.accept(&message).await.unwrap();
    }
    let delivery = manager(&rig, &sink).await;
    let read = rig.disk.read_bytes();
    // The third over a second connection, and one recipient is left of it, who may not be named over that either.
    for (mails, left) in [(3, 1), (4, 0)] {
        visit(&delivery).await;
        let (totals, _) = rig.context.queue.totals();
        assert_eq!((totals.messages, totals.deferred), (left, 0));
        assert_eq!(sink.mails(), mails);
        let read = rig.disk.read_bytes() - read;
        assert!(read < (mails + 1) * 12 * LINES, "{read}: for nothing");
    }
}

/// A rig with an upstream that takes everything and has just failed, and one that stands in for it and takes little.
async fn with_substitute() -> (Rig, Delivery, [Sink; 2]) {
    let first = Sink::start(|_, _| Answer::Yes).await;
    let second = saying("EHLO", "250-sink\r\n250 SIZE 1000").await;
    let rig = Rig::new(MEMORY);
    let delivery = manager(&rig, &first).await;
    rig.change_delivery(|delivery| {
        let mut other = delivery.upstreams[0].clone();
        (other.name, other.port) = ("other".into(), second.port);
        delivery.upstreams.push(other);
    });
    let live = rig.context.live();
    delivery.configure(&live).await;
    let failure = UpstreamFailure {
        reason: FailureReason::ConnectionRefused,
        message: "nothing listens".into(),
    };
    let (fingerprint, stage) = (&live.upstreams[0].fingerprint, FailedStage::Connecting);
    let mut upstreams = delivery.upstreams.lock();
    upstreams.failed("provider", fingerprint, stage, failure, Moment::now());
    drop(upstreams);
    (rig, delivery, [first, second])
}

#[tokio::test]
async fn what_only_the_preferred_server_takes_waits_for_it() {
    for bytes_max in [None, Some(1000)] {
        let (rig, delivery, [first, second]) = with_substitute().await;
        rig.change_delivery(|delivery| delivery.upstreams[1].limits.message_bytes = bytes_max);
        let mut message = rig.message(1, 0);
        message.body = Bytes::from("0123456789\r\n".repeat(400));
        rig.accept(&message).await.unwrap();
        visit_over(&delivery, 1).await;
        let (queue, metrics) = (&rig.context.queue, &rig.context.metrics);
        let (totals, _) = queue.totals();
        assert_eq!(
            (totals.messages, totals.deferred, metrics.failed.get()),
            (1, 1, 0)
        );
        assert_eq!(second.mails(), 0, "it is not even asked");
        queue.review(&queue.table(), Wake::All).await;
        visit_over(&delivery, 0).await;
        assert_eq!((first.mails(), queue.totals().0.messages), (1, 0));
    }
}

#[tokio::test]
async fn what_cannot_be_converted_for_a_substitute_waits_for_the_preferred_server() {
    let (rig, delivery, [_first, second]) = with_substitute().await;
    let mut message = rig.message(1, 0);
    message.envelope.body = BodyType::BinaryMime;
    message.body = Bytes::from_static(b"Subject: a\0b\r\n\r\nno header takes NUL\r\n");
    rig.accept(&message).await.unwrap();
    visit_over(&delivery, 1).await;
    let (totals, _) = rig.context.queue.totals();
    let failed = rig.context.metrics.failed.get();
    assert_eq!((totals.messages, totals.deferred, failed), (1, 1, 0));
    assert_eq!(second.mails(), 0, "it is not even asked");
}

#[tokio::test]
async fn what_the_preferred_server_does_not_take_is_returned() {
    let sink = saying("EHLO", "250-sink\r\n250 SIZE 1000").await;
    let rig = Rig::new(MEMORY);
    let delivery = manager(&rig, &sink).await;
    let mut message = rig.message(1, 0);
    message.body = Bytes::from("0123456789\r\n".repeat(400));
    rig.accept(&message).await.unwrap();
    visit(&delivery).await;
    assert_eq!(rig.context.metrics.bounced.get(), 1);
}
