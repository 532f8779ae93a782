//! Mail that has to be converted for its next hop, and has no room for that.

use futures::FutureExt as _;
use postroad_spool::Message;

use super::tenants::{hoard, hoard_by, message};
use super::*;
use crate::room::Sharing;

/// A message that no server without 8BITMIME takes as it is, of 60 KiB.
fn eight_bit(rig: &Rig, tenant: &str) -> Message {
    let mut message = message(rig, tenant, "a.example", 0);
    message.envelope.body = postroad_spool::BodyType::EightBitMime;
    message.body = format!("\r\n{}", "gr\u{fc}n, 0123\r\n".repeat(4 << 10)).into();
    message
}

#[tokio::test]
async fn a_conversion_that_may_not_wait_is_put_off_for_longer_and_longer_and_not_charged() {
    for (age, seconds) in [(0, 5), (2000, 60), (3570, 30)] {
        let sink = Sink::start(|_, _| Answer::Yes).await;
        let rig = Rig::new(MEMORY);
        let mut eight_bit = message(&rig, "a", "a.example", 1 << 10);
        eight_bit.arrival_ms -= age * 1000;
        eight_bit.envelope.body = postroad_spool::BodyType::EightBitMime;
        eight_bit.body = "gr\u{fc}n\r\n".repeat(300).into();
        rig.accept(&eight_bit).await.unwrap();
        let delivery = manager(&rig, &sink).await;
        let queue = &rig.context.queue;
        queue.share(Sharing::Many);
        let _rooms = (hoard(&rig, "b"), hoard(&rig, "c"));
        let tenant = "a".into();
        let mut other = Box::pin(queue.memory().reserve_beside(&tenant, 1 << 10, 150 << 10));
        assert!((&mut other).now_or_never().is_none());
        visit(&delivery).await;
        let totals = queue.totals().0;
        assert_eq!((totals.messages, totals.deferred, sink.mails()), (1, 0, 0));
        assert_eq!(rig.context.metrics.deferred.get(), 0);
        let (pauses, pause) = (queue.pauses_ms(), seconds * 1000);
        let around = pause - 3_000..=pause + 12_000;
        assert!(
            pauses.len() == 1 && around.contains(&pauses[0]),
            "{age}: {pauses:?}"
        );
    }
}

#[tokio::test]
async fn conversions_that_wait_for_each_other_do_not_read_the_disk_again_and_again() {
    const MESSAGES: usize = 6;
    let sink = Sink::start(|_, _| Answer::Yes).await;
    let rig = Rig::new(MEMORY);
    for _ in 0..MESSAGES {
        rig.accept(&eight_bit(&rig, "a")).await.unwrap();
    }
    let size = eight_bit(&rig, "a").body.len();
    let delivery = manager(&rig, &sink).await;
    rig.change_upstream(|upstream| upstream.limits.connections = 6);
    // There is room for three of them, and not for what becomes of one.
    let mut rooms = hoard_by(&rig, "other", 20 << 10);
    rooms.truncate(rooms.len() - 9);
    let (queue, read) = (&rig.context.queue, rig.disk.read_bytes());
    let all = async {
        until(|| queue.memory().has_waiting()).await;
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            queue.wake_all().await;
        }
        assert_eq!(queue.totals().0.messages, MESSAGES as u64);
        drop(rooms);
        while queue.totals().0.messages > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            queue.wake_all().await;
        }
    };
    tokio::select! {
        () = delivery.run() => panic!("nothing stops it"),
        () = all => {}
    }
    let read = rig.disk.read_bytes() - read;
    assert!(read <= 2 * MESSAGES * (size + 1000), "{read} of {size}");
    assert_eq!(sink.mails(), MESSAGES);
}

#[tokio::test]
async fn what_was_converted_goes_over_another_connection_if_the_server_has_not_waited_for_it() {
    let (sink, enough, gone) = Sink::start_impatient().await;
    let rig = Rig::new(MEMORY);
    rig.accept(&eight_bit(&rig, "a")).await.unwrap();
    let delivery = manager(&rig, &sink).await;
    // There is room for the message, and not for what becomes of it.
    let mut rooms = hoard_by(&rig, "other", 20 << 10);
    rooms.truncate(rooms.len() - 4);
    let (queue, read) = (&rig.context.queue, rig.disk.read_bytes());
    let mut worker = Box::pin(visit(&delivery));
    tokio::select! {
        () = &mut worker => panic!("it waits for room"),
        () = until(|| queue.memory().has_waiting()) => {}
    }
    enough.notify_one();
    tokio::select! {
        () = &mut worker => panic!("it waits for room"),
        () = gone.notified() => {}
    }
    assert!(pass(Duration::from_secs(2), &mut worker).await.is_none());
    drop(rooms);
    worker.await;
    assert_eq!((sink.mails(), queue.totals().0.messages), (1, 0));
    let read = rig.disk.read_bytes() - read;
    assert!(read < 2 * eight_bit(&rig, "a").body.len(), "{read}");
}

#[tokio::test]
async fn what_cannot_be_converted_takes_nothing_of_the_rate() {
    let sink = Sink::start(|_, _| Answer::Yes).await;
    let rig = Rig::new(MEMORY);
    let mut unfit = eight_bit(&rig, "a");
    unfit.headers = "Subject: gr\u{fc}n\r\n".into();
    rig.accept(&unfit).await.unwrap();
    rig.accept(&message(&rig, "a", "a.example", 16))
        .await
        .unwrap();
    let delivery = manager(&rig, &sink).await;
    rig.change_upstream(|upstream| {
        upstream.limits.rate = Some(postroad_config::Rate {
            messages: 1,
            per_seconds: 3600,
        });
    });
    delivery.configure(&rig.context.live()).await;
    visit(&delivery).await;
    let metrics = &rig.context.metrics;
    assert_eq!((metrics.failed.get(), metrics.delivered.get()), (1, 1));
}
