//! Several at work on one message.

use super::*;

/// A message to so many domains, each with a destination of its own.
async fn spread(rig: &Rig, domains: usize) -> Message {
    let direct = Arc::new(Table::new(&postroad_config::Delivery {
        default_route: postroad_config::Target::Direct,
        ..postroad_config::Delivery::default()
    }));
    let queue = &rig.context.queue;
    queue.configure(direct, SiteLimits::default(), u64::MAX);
    let mut message = rig.message(domains, 0);
    for (index, recipient) in message.envelope.recipients.iter_mut().enumerate() {
        recipient.address = format!("r@d{index}.example");
    }
    rig.accept(&message).await.unwrap();
    message
}

#[tokio::test]
async fn what_the_disk_has_taken_counts_even_if_the_worker_panics_beside_it() {
    for (settled, left) in [(vec![0], vec![1]), (vec![0, 1], vec![])] {
        let rig = Rig::new(ENOUGH);
        let queue = &rig.context.queue;
        let message = rig.message(2, 0);
        rig.accept(&message).await.unwrap();
        let ticket = queue.take().unwrap().ticket;
        rig.disk.hold(true);
        let failed = settled
            .iter()
            .map(|index| (*index, RecipientResult::Failed));
        let recorded = Recorded {
            results: failed.collect(),
            attempts: 1,
            ..Recorded::default()
        };
        let mut record = Box::pin(queue.record(ticket, recorded, Some(rig.message(1, 0))));
        tokio::select! {
            biased;
            _ = &mut record => panic!("the disk is held"),
            () = std::future::ready(()) => {}
        }
        drop(record);
        // As a panic does.
        queue.release(ticket, clock::now_ms() + 60_000);
        rig.disk.hold(false);
        rig.accept(&rig.message(1, 0)).await.unwrap();
        queue.wake_all().await;
        let all: Vec<_> = std::iter::from_fn(|| queue.take()).collect();
        let others = all.iter().filter(|one| one.ticket.id != message.id);
        assert_eq!(others.count(), 2, "the report, and the next message");
        let open = all.iter().find(|one| one.ticket.id == message.id);
        let open = open.map_or(Vec::new(), |one| one.entry.open.to_vec());
        assert_eq!(open, left);
    }
}

#[tokio::test]
async fn what_is_given_up_for_all_is_nobody_elses_to_take() {
    let rig = Rig::new(ENOUGH);
    let queue = &rig.context.queue;
    spread(&rig, 3).await;
    let (one, other) = (queue.take().unwrap(), queue.take().unwrap());
    let orphans = queue.orphans(one.ticket);
    assert_eq!(orphans.len(), 2, "not those of whoever has a part");
    assert!(!orphans.contains(&other.entry.open[0]));
    assert_eq!(queue.take(), None, "two would report them");
    let failed = orphans
        .iter()
        .map(|index| (*index, RecipientResult::Failed));
    queue.settle(one.ticket, failed.collect()).await;
    queue.release(other.ticket, 0);
    let rest = queue.take().unwrap();
    assert_eq!(rest.entry.open, other.entry.open);
    let delivered = vec![(rest.entry.open[0], DELIVERED)];
    queue.settle(rest.ticket, delivered).await;
    assert_eq!(queue.totals().0.messages, 0);
}

#[tokio::test]
async fn what_is_given_up_and_then_not_settled_is_tried_again_whole() {
    let rig = Rig::new(ENOUGH);
    let queue = &rig.context.queue;
    spread(&rig, 3).await;
    let one = queue.take().unwrap();
    assert_eq!(queue.orphans(one.ticket).len(), 3);
    queue.release(one.ticket, 0);
    assert_eq!(queue.take().unwrap().entry.open.len(), 3);
}
