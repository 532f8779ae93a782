use postroad_spool::Record;

use super::*;
use crate::rig::{BODY, LIFETIME_SECONDS, Rig};

const ENOUGH: u64 = 1 << 20;

/// Takes the message that is due and settles what comes of loading it.
async fn try_to_load(rig: &Rig) {
    let queue = &rig.context.queue;
    let taken = queue.take().expect("nothing is due");
    let error = queue.load(&taken).await.expect_err("it could be read");
    settle(&rig.context, taken, error).await;
}

/// The bounce that is queued: whom it is for and what it says.
async fn bounce(rig: &Rig) -> Option<(Vec<String>, String)> {
    let taken = rig.context.queue.take()?;
    let (message, _room) = rig.context.queue.load(&taken).await.unwrap();
    assert_eq!(message.envelope.sender, "");
    let recipients = message.envelope.recipients.into_iter();
    let text = String::from_utf8(message.body.to_vec()).unwrap();
    Some((recipients.map(|one| one.address).collect(), text))
}

fn counts(rig: &Rig) -> (u64, u64, u64) {
    let (totals, _) = rig.context.queue.totals();
    let corrupt = rig.context.queue.spool().health().corrupt;
    (totals.messages, totals.unreadable, corrupt)
}

#[tokio::test]
async fn damaged_content_is_kept_aside_and_the_sender_is_told() {
    let rig = Rig::new(ENOUGH);
    let message = rig.message(3, 0);
    rig.accept(&message).await.unwrap();
    let ticket = rig.context.queue.take().unwrap().ticket;
    let delivered = vec![(1, RecipientResult::Delivered)];
    rig.context.queue.settle(ticket, delivered).await;
    rig.damage(b"find me");
    try_to_load(&rig).await;
    assert_eq!(
        counts(&rig),
        (1, 0, 1),
        "the bounce, and what was kept aside"
    );
    assert!(rig.corrupt()[0].ends_with(b"me\r\n\r\nhere\r\n"));
    let (to, text) = bounce(&rig).await.unwrap();
    assert_eq!(to, ["s@example.com"]);
    assert!(text.contains("damaged on the disk"), "{text}");
    assert!(text.contains("5.3.0"), "{text}");
    let named =
        ["r0@example.org", "r1@example.org", "r2@example.org"].map(|one| text.contains(one));
    assert_eq!(named, [true, false, true], "who got it is not named");
    assert_eq!(rig.context.metrics.failed.get(), 2);
    assert_eq!(rig.context.metrics.bounced.get(), 1);
    assert!(rig.context.queue.spool().read(message.id).is_err(), "done");
}

#[tokio::test]
async fn what_lost_its_envelope_too_is_kept_aside_and_nobody_is_told() {
    let rig = Rig::new(ENOUGH);
    rig.accept(&rig.message(1, 0)).await.unwrap();
    rig.damage(b"r0@example.org");
    try_to_load(&rig).await;
    assert_eq!(counts(&rig), (0, 0, 1));
    assert_eq!(rig.corrupt().len(), 1);
    assert_eq!(rig.context.metrics.bounced.get(), 0);
    assert_eq!(rig.context.metrics.failed.get(), 1);
}

#[tokio::test]
async fn a_damaged_bounce_is_kept_aside_and_not_answered() {
    let rig = Rig::new(ENOUGH);
    let mut message = rig.message(1, 0);
    message.envelope.sender.clear();
    rig.accept(&message).await.unwrap();
    rig.damage(b"find me");
    try_to_load(&rig).await;
    assert_eq!(counts(&rig), (0, 0, 1));
}

#[tokio::test]
async fn an_error_of_the_disk_is_counted_until_it_has_passed() {
    let rig = Rig::new(ENOUGH);
    let message = rig.message(1, 0);
    rig.accept(&message).await.unwrap();
    rig.disk.fail_reads_beyond(0);
    try_to_load(&rig).await;
    assert_eq!(counts(&rig), (1, 1, 0));
    assert!(
        rig.context.queue.take().is_none(),
        "it is not tried at once"
    );
    rig.disk.fail_reads_beyond(usize::MAX);
    rig.context.queue.wake_all().await;
    let taken = rig.context.queue.take().unwrap();
    let (read, _room) = rig.context.queue.load(&taken).await.unwrap();
    assert_eq!(read, message);
    rig.context.queue.release(taken.ticket, 0);
    assert_eq!(counts(&rig), (1, 0, 0));
}

#[tokio::test]
async fn after_its_lifetime_the_sender_hears_of_what_the_disk_does_not_give_back() {
    let rig = Rig::new(ENOUGH);
    let body = [BODY, &[b'x'; 9000]].concat();
    let message = Message {
        body: body.into(),
        ..rig.message(1, LIFETIME_SECONDS)
    };
    rig.accept(&message).await.unwrap();
    rig.disk.fail_reads_beyond(1000);
    try_to_load(&rig).await;
    rig.disk.fail_reads_beyond(usize::MAX);
    assert_eq!(counts(&rig), (1, 0, 1));
    let (to, _) = bounce(&rig).await.unwrap();
    assert_eq!(to, ["s@example.com"]);
    assert!(rig.corrupt()[0].len() > 9000);
}

#[tokio::test]
async fn before_that_it_is_tried_again_though_its_envelope_can_be_read() {
    let rig = Rig::new(ENOUGH);
    let body = vec![b'x'; 9000].into();
    let message = rig.message(1, LIFETIME_SECONDS - 60);
    rig.accept(&Message { body, ..message }).await.unwrap();
    rig.disk.fail_reads_beyond(1000);
    try_to_load(&rig).await;
    assert_eq!(counts(&rig), (1, 1, 0));
    assert!(rig.corrupt().is_empty());
}

/// Its lifetime begins when it may be delivered (RFC 4865).
#[tokio::test]
async fn what_was_held_for_the_lifetime_is_tried_again_after_an_error_of_the_disk() {
    let rig = Rig::new(ENOUGH);
    let mut message = rig.message(1, LIFETIME_SECONDS);
    message.body = vec![b'x'; 9000].into();
    message.envelope.not_before_ms = message.arrival_ms + LIFETIME_SECONDS * 1000;
    rig.accept(&message).await.unwrap();
    rig.disk.fail_reads_beyond(1000);
    try_to_load(&rig).await;
    assert_eq!(counts(&rig), (1, 1, 0));
    assert!(rig.corrupt().is_empty());
}

#[tokio::test]
async fn what_nothing_can_be_read_of_stays_and_shows_however_old() {
    let rig = Rig::new(ENOUGH);
    rig.accept(&rig.message(1, LIFETIME_SECONDS)).await.unwrap();
    rig.disk.fail_reads_beyond(0);
    try_to_load(&rig).await;
    assert_eq!(counts(&rig), (1, 1, 0));
}

#[tokio::test]
async fn what_cannot_be_kept_aside_stays() {
    let rig = Rig::new(ENOUGH);
    rig.accept(&rig.message(1, 0)).await.unwrap();
    rig.damage(b"find me");
    rig.block_corrupt();
    try_to_load(&rig).await;
    assert_eq!(counts(&rig), (1, 1, 0));
}

#[tokio::test]
async fn a_message_that_the_spool_does_not_know_is_forgotten() {
    let rig = Rig::new(ENOUGH);
    let message = rig.message(1, 0);
    rig.accept(&message).await.unwrap();
    let (answer, done) = tokio::sync::oneshot::channel();
    let spool = rig.context.queue.spool();
    let told = move |result| answer.send(result).unwrap();
    spool.submit(vec![Record::Done(message.id)], told).unwrap();
    done.await.unwrap().unwrap();
    try_to_load(&rig).await;
    assert_eq!(counts(&rig), (0, 0, 0));
}

#[tokio::test]
async fn a_message_at_which_reading_panics_is_not_read_again_at_once() {
    let rig = Rig::new(ENOUGH);
    rig.accept(&rig.message(1, 0)).await.unwrap();
    let taken = rig.context.queue.take().unwrap();
    settle(&rig.context, taken, LoadError::Closed).await;
    assert!(rig.context.queue.take().is_none());
    assert_eq!(counts(&rig), (1, 0, 0));
}
