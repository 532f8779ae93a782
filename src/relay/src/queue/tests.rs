use std::time::Duration;

use postroad_spool::{Attempt, RecipientResult};

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
    let _taken = queue.memory().try_reserve(ENOUGH / 4).unwrap();
    let refused = rig.accept(&rig.message(1000, 0)).await;
    assert!(
        matches!(refused, Err(AcceptError::Memory(_))),
        "{refused:?}"
    );
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

#[tokio::test]
async fn an_idle_worker_takes_what_comes_due_without_arriving() {
    let rig = Rig::new(ENOUGH);
    let queue = &rig.context.queue;
    rig.accept(&rig.message(1, 0)).await.unwrap();
    let (id, entry) = queue.take().unwrap();
    let waiting = queue.clone();
    let idle = tokio::spawn(async move { waiting.take_within(Duration::from_secs(60)).await });
    while queue.shared.idle.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!queue.wants_worker(), "nothing is due");
    queue.release(id, entry, 0);
    assert!(!queue.wants_worker(), "somebody is idle");
    // Well before it would give up by itself.
    let soon = tokio::time::timeout(Duration::from_secs(10), idle).await;
    let taken = soon.unwrap().unwrap();
    assert_eq!(taken.map(|(id, _)| id), Some(id));
}

#[tokio::test]
async fn what_came_due_while_the_only_worker_waited_is_taken_in_the_end() {
    let rig = Rig::new(ENOUGH);
    let queue = &rig.context.queue;
    rig.accept(&rig.message(1, 0)).await.unwrap();
    let (id, entry) = queue.take().unwrap();
    queue.release(id, entry, clock::now_ms() + 5);
    let taken = queue.take_within(Duration::from_millis(50)).await;
    assert_eq!(taken.map(|(id, _)| id), Some(id));
}

#[tokio::test]
async fn a_worker_that_stops_waiting_is_idle_no_longer() {
    let rig = Rig::new(ENOUGH);
    let queue = &rig.context.queue;
    let waiting = queue.clone();
    let idle = tokio::spawn(async move { waiting.take_within(Duration::from_secs(60)).await });
    while queue.shared.idle.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    idle.abort();
    assert!(idle.await.is_err());
    assert_eq!(queue.shared.idle.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_message_whose_worker_panics_is_tried_again_later() {
    let rig = Rig::new(ENOUGH);
    let queue = rig.context.queue.clone();
    rig.accept(&rig.message(1, 0)).await.unwrap();
    let (id, _) = queue.take().unwrap();
    drop(queue.reclaim_on_panic(id));
    assert_eq!(queue.next_due_ms(), None, "it is the panic that counts");
    let reclaim = queue.reclaim_on_panic(id);
    let worker = tokio::spawn(async move {
        let _reclaim = reclaim;
        panic!("as if the worker had a bug")
    });
    assert!(worker.await.is_err());
    assert!(queue.take().is_none(), "not at once: it would panic again");
    let pause_ms = queue.next_due_ms().unwrap() - clock::now_ms();
    assert!((50_000..=60_000).contains(&pause_ms), "{pause_ms}");
}

#[tokio::test]
async fn on_a_full_disk_only_what_must_outlive_the_process_is_written() {
    let rig = Rig::new(ENOUGH);
    let queue = &rig.context.queue;
    accept(queue, rig.message(2, 0)).await.unwrap();
    rig.disk.set_free(0);
    queue.spool().measure();
    let (id, entry) = queue.take().unwrap();
    let attempt = |results| Attempt {
        id,
        next_attempt_ms: 0,
        attempts: 1,
        results,
    };
    for (result, commits) in [
        (RecipientResult::Deferred, 1),
        (RecipientResult::Delivered, 2),
        (RecipientResult::Failed, 3),
    ] {
        let attempt = attempt(vec![(0, RecipientResult::Deferred), (1, result)]);
        let attempts = 7;
        let entry = Entry {
            attempts,
            ..entry.clone()
        };
        queue.settle(id, Next::Again { attempt, entry }, None).await;
        assert_eq!(queue.spool().health().commits, commits, "{result:?}");
        assert_eq!(queue.take().unwrap().1.attempts, 7, "{result:?}");
    }
    rig.disk.set_free(u64::MAX);
    queue.spool().measure();
    let attempt = attempt(vec![(0, RecipientResult::Deferred)]);
    queue.settle(id, Next::Again { attempt, entry }, None).await;
    assert_eq!(queue.spool().health().commits, 4);
}
