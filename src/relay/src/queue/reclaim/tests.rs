use crate::queue::Queue;
use crate::rig::Rig;
use crate::schedule::{Left, Ticket};

fn panic_over(queue: &Queue, ticket: Ticket) {
    let queue = queue.clone();
    let worker = std::thread::spawn(move || {
        let _reclaim = queue.reclaim_on_panic(ticket);
        panic!("as if the worker had a bug");
    });
    assert!(worker.join().is_err());
}

#[tokio::test]
async fn what_is_left_is_put_off() {
    let rig = Rig::new(1 << 20);
    rig.accept(&rig.message(2, 0)).await.unwrap();
    let queue = &rig.context.queue;
    let ticket = queue.take().unwrap().ticket;
    let left = queue.change(|schedule, _| schedule.settle(ticket, &[0], 0, false));
    assert_eq!(left, Left::Open);
    panic_over(queue, ticket);
    assert!(!queue.is_taken(ticket) && queue.take().is_none());
    assert_eq!(queue.totals().0.messages, 1);
}

#[tokio::test]
async fn a_message_that_is_settled_is_done_although_nobody_said_so() {
    let rig = Rig::new(1 << 20);
    let message = rig.message(2, 0);
    rig.accept(&message).await.unwrap();
    let queue = &rig.context.queue;
    let ticket = queue.take().unwrap().ticket;
    let left = queue.change(|schedule, _| schedule.settle(ticket, &[0, 1], 0, false));
    assert_eq!(left, Left::Nothing);
    panic_over(queue, ticket);
    while queue.totals().0.messages > 0 {
        tokio::task::yield_now().await;
    }
    assert!(queue.spool().read(message.id).is_err());
}
