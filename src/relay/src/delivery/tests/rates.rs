//! When the rate lets a message go that has waited for something else.

use postroad_config::Rate;

use super::tenants::{hoard, message};
use super::*;

/// A connection whose only message waits for its room, over which so many messages may go in so many seconds.
struct Late {
    rig: Rig,
    delivery: Delivery,
    sink: Sink,
}

impl Late {
    async fn new(messages: u32, per_seconds: u32) -> Self {
        let sink = Sink::start(|_, _| Answer::Yes).await;
        let rig = Rig::new(MEMORY);
        rig.accept(&message(&rig, "a", "a.example", 1 << 10))
            .await
            .unwrap();
        let delivery = manager(&rig, &sink).await;
        rig.change_upstream(|upstream| {
            upstream.limits.rate = Some(Rate {
                messages,
                per_seconds,
            });
        });
        delivery.configure(&rig.context.live()).await;
        Self {
            rig,
            delivery,
            sink,
        }
    }

    /// Another message goes while it waits. Then there is room for it. Says how long after the other it has gone.
    async fn deliver_after_another(&self) -> Option<Duration> {
        let rooms = hoard(&self.rig, "a");
        let memory = self.rig.context.queue.memory();
        let mut worker = Box::pin(visit(&self.delivery));
        tokio::select! {
            () = &mut worker => panic!("it waits for room"),
            () = until(|| memory.has_waiting()) => {}
        }
        let begin = Instant::now();
        let went = self
            .delivery
            .upstreams
            .lock()
            .go("provider", clock::now_ms());
        assert_eq!(went, Ok(()));
        drop(rooms);
        let later = tokio::select! {
            () = &mut worker => return None,
            () = until(|| self.sink.mails() == 1) => begin.elapsed(),
        };
        worker.await;
        Some(later)
    }
}

#[tokio::test]
async fn what_gets_its_room_late_goes_when_the_rate_lets_it() {
    let late = Late::new(10, 1).await;
    let later = late.deliver_after_another().await.unwrap();
    assert!(later >= Duration::from_millis(99), "{later:?}");
    assert_eq!(late.rig.context.queue.totals().0.messages, 0);
}

#[tokio::test]
async fn what_gets_its_room_late_is_put_off_where_the_rate_does_not_let_it_go_for_long() {
    let late = Late::new(1, 600).await;
    assert_eq!(late.deliver_after_another().await, None);
    let queue = &late.rig.context.queue;
    let totals = queue.totals().0;
    assert_eq!((late.sink.mails(), totals.messages), (0, 1));
    let pauses = queue.pauses_ms();
    assert!((590_000..=600_000).contains(&pauses[0]), "{pauses:?}");
    assert_eq!(
        late.rig.context.metrics.deferred.get(),
        0,
        "nobody is charged"
    );
}
