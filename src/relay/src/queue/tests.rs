use std::sync::atomic::Ordering;
use std::time::Duration;

use postroad_spool::RecipientResult;

mod doors;
mod shares;
mod together;

use super::*;
use crate::outcome::Recorded;
use crate::rig::Rig;
use crate::room::Weight;
use crate::schedule::{self, Left, SiteLimits, Taken, Wake};

const ENOUGH: u64 = 1 << 20;

const DELIVERED: RecipientResult = RecipientResult::Delivered;

impl Queue {
    /// An empty queue on the same spool that takes so many messages to one recipient, all to and from the same domains, whoever sends them.
    pub(crate) fn with_room_for(&self, messages: u64) -> Self {
        let empty = Schedule::default().shared_bytes();
        let shared = Schedule::default().shared_bytes_of(&example().queued());
        let bytes_max = empty + shared + messages * schedule::bytes(Weight::of(1, 1));
        let (spool, found) = (self.spool().clone(), postroad_spool::Queue::default());
        let queue = Self::new(spool, ENOUGH, found, bytes_max, Arc::default());
        queue.share(Sharing::Alone);
        queue
    }

    /// Takes from whatever destination has something.
    pub(crate) fn take(&self) -> Option<Taken> {
        self.change(Schedule::take_any)
    }

    /// Whether a connection to this destination waits for work, and none is there or under way: what became of all that was taken is on
    /// the disk.
    pub(crate) fn is_at_rest(&self, place: Place) -> bool {
        let schedule = &self.state().schedule;
        schedule.has_idle(place) && !schedule.has_ready(place) && !schedule.is_at_work()
    }

    /// In how many milliseconds what waits is due, ascending.
    pub(crate) fn pauses_ms(&self) -> Vec<u64> {
        let now_ms = clock::now_ms();
        let due = self.state().schedule.due_ms();
        due.iter().map(|at| at.saturating_sub(now_ms)).collect()
    }

    /// Makes everything due now.
    pub(crate) async fn wake_all(&self) {
        self.review(&self.table(), Wake::All).await;
    }

    /// Records these outcomes, and gives back what is left, due at once.
    pub(crate) async fn settle(&self, ticket: Ticket, results: Vec<(u32, RecipientResult)>) {
        let recorded = Recorded {
            results,
            ..Recorded::default()
        };
        if self.record(ticket, recorded, None).await == Left::Open {
            self.release(ticket, 0);
        }
    }

    /// A door to where all mail goes, as for a connection that is ready.
    fn enter(&self) -> Door {
        let (place, _) = self.wanting().pop().expect("nothing waits");
        let mut door = self.open(place).expect("nothing waits");
        door.connected();
        door
    }

    fn bytes_max(&self) -> u64 {
        self.shared.bytes_max.load(Ordering::SeqCst)
    }

    fn has_idle(&self, door: &Door) -> bool {
        self.state().schedule.has_idle(door.place())
    }
}

/// What the rig sends.
fn example() -> Message {
    Message {
        id: postroad_spool::IdGenerator::new([0; 10]).next(0),
        arrival_ms: 0,
        envelope: postroad_spool::Envelope {
            sender: "s@example.com".into(),
            recipients: vec![postroad_spool::Recipient {
                address: "r0@example.org".into(),
                ..postroad_spool::Recipient::default()
            }],
            ..postroad_spool::Envelope::default()
        },
        headers: bytes::Bytes::new(),
        body: bytes::Bytes::new(),
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
    assert!(queue.has_room() && queue.fill() < 0.99);
    accept(&queue, rig.message(1, 0)).await.unwrap();
    assert!(!queue.has_room() && queue.fill() > 0.99);
    let refused = accept(&queue, rig.message(1, 0)).await;
    assert!(
        matches!(refused, Err(AcceptError::Room(NoRoom::Queue))),
        "{refused:?}"
    );
    assert_eq!(queue.totals().0.messages, 2, "nothing of it was kept");
    let ticket = queue.take().unwrap().ticket;
    queue.settle(ticket, vec![(0, DELIVERED)]).await;
    accept(&queue, rig.message(1, 0)).await.unwrap();
}

#[tokio::test]
async fn every_open_recipient_counts_as_a_message() {
    let rig = Rig::new(ENOUGH);
    let queue = rig.context.queue.with_room_for(3);
    let refused = accept(&queue, rig.message(3, 0)).await;
    assert!(
        matches!(refused, Err(AcceptError::Room(NoRoom::Queue))),
        "and a little more"
    );
    accept(&queue, rig.message(2, 0)).await.unwrap();
    assert!(!queue.has_room());
    let ticket = queue.take().unwrap().ticket;
    let recorded = Recorded {
        results: vec![(0, RecipientResult::Failed)],
        attempts: 1,
        ..Recorded::default()
    };
    let report = rig.message(1, 0);
    queue.record(ticket, recorded, Some(report)).await;
    assert!(queue.fill() <= 1.0, "a bounce has its room already");
    assert!(!queue.has_room());
}

#[tokio::test]
async fn what_is_on_its_way_to_the_disk_counts() {
    let rig = Rig::new(ENOUGH);
    let queue = rig.context.queue.with_room_for(1);
    let first = queue
        .reserve_for(&rig.message(1, 0), NeedsDisk::Yes)
        .ok()
        .unwrap();
    let refused = accept(&queue, rig.message(1, 0)).await;
    assert!(matches!(refused, Err(AcceptError::Room(NoRoom::Queue))));
    drop(first);
    accept(&queue, rig.message(1, 0)).await.unwrap();
    assert!(queue.shared.reserved().is_empty());
}

#[tokio::test]
async fn nothing_that_a_start_finds_is_refused() {
    let rig = Rig::new(ENOUGH);
    let found: Vec<Message> = (0..5).map(|_| rig.message(1, 0)).collect();
    let queued = found.iter().collect();
    let spool = rig.context.queue.spool().clone();
    let bytes_max = rig.context.queue.with_room_for(2).bytes_max();
    let queue = Queue::new(spool, ENOUGH, queued, bytes_max, Arc::default());
    assert_eq!(queue.totals().0.messages, 5);
    assert!(!queue.has_room());
    for _ in 0..3 {
        queue.forget(queue.take().unwrap().ticket);
        assert!(!queue.has_room());
    }
    queue.forget(queue.take().unwrap().ticket);
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
async fn nothing_is_read_from_the_disk_of_what_is_still_in_memory() {
    let rig = Rig::new(ENOUGH);
    let queue = &rig.context.queue;
    let mut message = rig.message(2, 0);
    message.body = "\r\nx\r\n".into();
    accept(queue, message.clone()).await.unwrap();
    let read = rig.disk.read_bytes();
    let envelope = queue.load_envelope(message.id).await.unwrap();
    let without_content = Message {
        headers: bytes::Bytes::new(),
        body: bytes::Bytes::new(),
        ..message.clone()
    };
    assert_eq!(envelope, without_content);
    let (whole, _room) = queue.load(&queue.take().unwrap()).await.unwrap();
    assert_eq!(whole, message);
    assert_eq!(rig.disk.read_bytes(), read);
    // From now on it is read.
    assert_eq!(queue.load_envelope(message.id).await.unwrap(), envelope);
    assert!(rig.disk.read_bytes() > read);
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
    let nothing_reserved = || queue.shared.reserved().is_empty();
    while queue.totals().0.messages == 0 || !nothing_reserved() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn whoever_settles_the_last_recipient_writes_that_the_message_is_done() {
    let rig = Rig::new(ENOUGH);
    let queue = &rig.context.queue;
    let direct = Arc::new(Table::new(&postroad_config::Delivery {
        default_route: postroad_config::Target::Direct,
        ..postroad_config::Delivery::default()
    }));
    queue.configure(direct, SiteLimits::default(), u64::MAX);
    let mut message = rig.message(3, 0);
    for (index, recipient) in message.envelope.recipients.iter_mut().enumerate() {
        recipient.address = format!("r@d{index}.example");
    }
    rig.accept(&message).await.unwrap();
    let pieces: Vec<_> = std::iter::from_fn(|| queue.take()).collect();
    assert_eq!(pieces.len(), 3);
    let record = |piece: &Taken| {
        let results = piece.entry.open.iter().map(|index| (*index, DELIVERED));
        let recorded = Recorded {
            results: results.collect(),
            ..Recorded::default()
        };
        queue.record(piece.ticket, recorded, None)
    };
    assert_eq!(record(&pieces[0]).await, Left::Open);
    queue.release(pieces[0].ticket, 0);
    // Neither of them knows that it is the last when it begins.
    let both = tokio::join!(record(&pieces[1]), record(&pieces[2]));
    assert!(matches!(
        both,
        (Left::Open, Left::Nothing) | (Left::Nothing, Left::Open)
    ));
    assert!(queue.spool().read(message.id).is_err(), "it is done");
    assert_eq!(queue.totals().0.messages, 0);
}

#[tokio::test]
async fn what_a_start_finds_settled_is_done() {
    let rig = Rig::new(ENOUGH);
    let message = rig.message(1, 0);
    rig.accept(&message).await.unwrap();
    let spool = rig.context.queue.spool().clone();
    finish_settled(&spool, message.id);
    rig.accept(&rig.message(1, 0)).await.unwrap();
    assert!(spool.read(message.id).is_err());
}

#[tokio::test]
async fn a_message_whose_worker_panics_is_tried_again_later() {
    let rig = Rig::new(ENOUGH);
    let queue = rig.context.queue.clone();
    rig.accept(&rig.message(1, 0)).await.unwrap();
    let ticket = queue.take().unwrap().ticket;
    drop(queue.reclaim_on_panic(ticket));
    assert_eq!(queue.advance(), None, "it is the panic that counts");
    let reclaim = queue.reclaim_on_panic(ticket);
    let worker = tokio::spawn(async move {
        let _reclaim = reclaim;
        panic!("as if the worker had a bug")
    });
    assert!(worker.await.is_err());
    assert!(queue.take().is_none(), "not at once: it would panic again");
    let pauses = queue.pauses_ms();
    assert!(pauses.len() == 1 && pauses[0] <= 60_000, "{pauses:?}");
}

#[tokio::test]
async fn on_a_full_disk_only_what_must_outlive_the_process_is_written() {
    let rig = Rig::new(ENOUGH);
    let queue = &rig.context.queue;
    accept(queue, rig.message(2, 0)).await.unwrap();
    rig.disk.set_free(0);
    queue.spool().measure();
    let attempt = |results| Recorded {
        results,
        attempts: 7,
        ..Recorded::default()
    };
    let mut ticket = queue.take().unwrap().ticket;
    for (result, commits) in [
        (RecipientResult::Deferred, 1),
        (RecipientResult::Delivered, 2),
        (RecipientResult::Failed, 3),
    ] {
        let results = vec![(0, RecipientResult::Deferred), (1, result)];
        queue.record(ticket, attempt(results), None).await;
        queue.release(ticket, 0);
        assert_eq!(queue.spool().health().commits, commits, "{result:?}");
        let taken = queue.take().unwrap();
        assert_eq!(taken.entry.attempts, 7, "{result:?}");
        ticket = taken.ticket;
    }
    rig.disk.set_free(u64::MAX);
    queue.spool().measure();
    let results = vec![(0, RecipientResult::Deferred)];
    queue.record(ticket, attempt(results), None).await;
    assert_eq!(queue.spool().health().commits, 4);
}
