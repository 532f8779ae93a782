use postroad_spool::Attempt;

use super::*;
use crate::rig::Rig;

const ENOUGH: u64 = 1 << 20;

impl Queue {
    /// An empty queue on the same spool that takes so many messages to one recipient.
    pub(crate) fn with_room_for(&self, messages: u64) -> Self {
        let weight_max = messages * Weight::of(1, 1).bytes();
        Self::bounded(self.spool().clone(), ENOUGH, Vec::new(), weight_max)
    }
}

async fn accept(queue: &Queue, message: Message) -> Result<(), AcceptError> {
    let room = queue.memory().try_reserve(0).unwrap();
    queue.accept(message, room).await
}

#[tokio::test]
async fn refuses_mail_over_the_bound_until_some_has_gone() {
    let rig = Rig::new(ENOUGH);
    let queue = rig.context.queue.with_room_for(2);
    accept(&queue, rig.message(1, 0)).await.unwrap();
    assert!(queue.has_room() && queue.fill() < 0.51);
    accept(&queue, rig.message(1, 0)).await.unwrap();
    assert!(!queue.has_room() && queue.fill() > 0.99);
    let refused = accept(&queue, rig.message(1, 0)).await;
    assert!(matches!(refused, Err(AcceptError::Full)), "{refused:?}");
    assert_eq!(queue.totals().0.messages, 2, "nothing of it was kept");
    let (id, _) = queue.take().unwrap();
    queue.settle(id, Next::Done, None).await;
    accept(&queue, rig.message(1, 0)).await.unwrap();
}

#[tokio::test]
async fn every_open_recipient_counts_as_a_message() {
    let rig = Rig::new(ENOUGH);
    let queue = rig.context.queue.with_room_for(3);
    let refused = accept(&queue, rig.message(3, 0)).await;
    assert!(
        matches!(refused, Err(AcceptError::Full)),
        "and a little more"
    );
    accept(&queue, rig.message(2, 0)).await.unwrap();
    assert!(!queue.has_room());
    let (id, entry) = queue.take().unwrap();
    let attempt = Attempt {
        id,
        next_attempt_ms: 0,
        attempts: 1,
        results: Vec::new(),
    };
    let settled = Box::new([0]);
    let entry = Entry { settled, ..entry };
    let bounce = rig.message(1, 0);
    let next = Next::Again { attempt, entry };
    queue.settle(id, next, Some(bounce)).await;
    assert!(queue.fill() <= 1.0, "a bounce has its room already");
    assert!(!queue.has_room());
}

#[tokio::test]
async fn what_is_on_its_way_to_the_disk_counts() {
    let rig = Rig::new(ENOUGH);
    let queue = rig.context.queue.with_room_for(1);
    let first = queue.reserve(Weight::of(1, 1)).unwrap();
    let refused = accept(&queue, rig.message(1, 0)).await;
    assert!(matches!(refused, Err(AcceptError::Full)));
    drop(first);
    accept(&queue, rig.message(1, 0)).await.unwrap();
    assert_eq!(queue.shared.reserved.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn nothing_that_a_start_finds_is_refused() {
    let rig = Rig::new(ENOUGH);
    let found = |_| {
        let message = rig.message(1, 0);
        Queued {
            id: message.id,
            arrival_ms: message.arrival_ms,
            bytes: 1,
            recipients: 1,
            next_attempt_ms: 0,
            attempts: 0,
            settled: Box::default(),
        }
    };
    let queued = (0..5).map(found).collect();
    let spool = rig.context.queue.spool().clone();
    let queue = Queue::bounded(spool, ENOUGH, queued, 2 * Weight::of(1, 1).bytes());
    assert_eq!(queue.totals().0.messages, 5);
    assert!(!queue.has_room());
    for _ in 0..3 {
        let (id, _) = queue.take().unwrap();
        queue.forget(id);
        assert!(!queue.has_room());
    }
    let (id, _) = queue.take().unwrap();
    queue.forget(id);
    assert!(queue.has_room());
}

#[tokio::test]
async fn an_envelope_needs_room_in_memory_as_content_does() {
    let rig = Rig::new(ENOUGH);
    let queue = &rig.context.queue;
    let _taken = queue.memory().try_reserve(ENOUGH / 2).unwrap();
    let refused = rig.accept(&rig.message(1000, 0)).await;
    assert!(matches!(refused, Err(AcceptError::Memory)), "{refused:?}");
    rig.accept(&rig.message(100, 0)).await.unwrap();
}

#[tokio::test]
async fn a_message_is_accepted_for_good_even_if_nobody_waits_for_the_answer() {
    let rig = Rig::new(ENOUGH);
    let queue = &rig.context.queue;
    let room = queue.memory().try_reserve(0).unwrap();
    let mut accepting = Box::pin(queue.accept(rig.message(1, 0), room));
    let first_look = std::future::poll_fn(|context| {
        std::task::Poll::Ready(accepting.as_mut().poll(context).is_ready())
    });
    first_look.await;
    drop(accepting);
    let reserved = || queue.shared.reserved.load(Ordering::SeqCst);
    while queue.totals().0.messages == 0 || reserved() > 0 {
        tokio::task::yield_now().await;
    }
}
