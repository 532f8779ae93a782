//! What one tenant's mail leaves for another's.

use futures::FutureExt as _;
use postroad_spool::Message;

use super::direct::{Domains, Script, hang, yes};
use super::*;
use crate::memory::{Holder, Reservation};
use crate::room::Sharing;

/// A message of a tenant to a recipient at this domain, with so much content.
fn message(rig: &Rig, tenant: &str, domain: &str, bytes: usize) -> Message {
    let mut message = rig.message(1, 0);
    message.envelope.credential = tenant.into();
    message.envelope.recipients[0].address = format!("r@{domain}");
    message.body = "0123456789abcd\r\n".repeat(bytes / 16).into();
    message
}

/// All that a tenant may have of the memory for delivery, by messages of 4 KiB.
fn hoard(rig: &Rig, tenant: &str) -> Vec<Reservation> {
    let memory = rig.context.queue.memory();
    let tenant = tenant.into();
    let rooms = std::iter::from_fn(|| memory.reserve(&tenant, 4 << 10).now_or_never().flatten());
    rooms.collect()
}

#[tokio::test]
async fn large_mail_to_servers_that_hang_leaves_room_for_another_tenants_mail() {
    let mut scripts = vec![hang as Script; 26];
    scripts.push(yes);
    let domains = Domains::within(MEMORY, 36, &scripts).await;
    let rig = &domains.rig;
    rig.context.queue.share(Sharing::Many);
    // From the disk, as after a start.
    for (number, kib) in [180, 180, 90, 90, 45, 45, 22, 22, 11, 11]
        .into_iter()
        .enumerate()
    {
        let domain = format!("d{number}.example");
        let large = message(rig, "greedy", &domain, kib << 10);
        rig.accept(&large).await.unwrap();
    }
    for number in 10..26 {
        let domain = format!("d{number}.example");
        let small = message(rig, "greedy", &domain, 1 << 10);
        rig.accept(&small).await.unwrap();
    }
    let queue = rig.context.queue.clone();
    let modest = message(rig, "modest", "d26.example", 4 << 10);
    let mut accepting: Option<JoinHandle<()>> = None;
    let rig = domains
        .run_until(|_, rig| {
            if accepting.is_none() && queue.memory().has_waiting() {
                let holder = Holder::Login("modest".into());
                let room = queue.memory().try_receive(holder, 64 << 10, 4 << 10);
                let (queue, modest, room) = (queue.clone(), modest.clone(), room.unwrap());
                accepting = Some(tokio::spawn(async move {
                    queue.accept(modest, room).await.unwrap();
                }));
            }
            let left = rig.context.queue.totals().0.messages;
            rig.context.metrics.delivered.get() == 1 && left == 26
        })
        .await;
    assert_eq!(rig.context.queue.totals().0.deferred, 0);
}

#[tokio::test]
async fn a_connection_does_not_wait_for_a_tenants_room_while_another_has_mail_for_it() {
    let sink = Sink::start(|_, _| Answer::Yes).await;
    let rig = Rig::new(MEMORY);
    for tenant in ["greedy", "greedy", "modest", "greedy", "modest"] {
        let message = message(&rig, tenant, "a.example", 1 << 10);
        rig.accept(&message).await.unwrap();
    }
    let delivery = manager(&rig, &sink).await;
    let queue = &rig.context.queue;
    queue.share(Sharing::Many);
    let _rooms = hoard(&rig, "greedy");
    tokio::select! {
        () = visit(&delivery) => panic!("the last one waits: nobody else has mail"),
        () = until(|| {
            let left = queue.totals().0.messages;
            sink.mails() == 2 && left == 3 && queue.memory().has_waiting()
        }) => {}
    }
    assert_eq!(queue.totals().0.deferred, 0);
}

#[tokio::test]
async fn one_tenant_alone_waits_for_its_room_and_keeps_its_order() {
    let sink = Sink::start(|_, _| Answer::Yes).await;
    let rig = Rig::new(MEMORY);
    for _ in 0..3 {
        let message = message(&rig, "only", "a.example", 1 << 10);
        rig.accept(&message).await.unwrap();
    }
    let delivery = manager(&rig, &sink).await;
    let rooms = hoard(&rig, "only");
    let mut worker = Box::pin(visit(&delivery));
    let memory = rig.context.queue.memory();
    tokio::select! {
        () = &mut worker => panic!("it waits for room"),
        () = until(|| memory.has_waiting()) => {}
    }
    drop(rooms);
    worker.await;
    assert_eq!(
        (sink.mails(), rig.context.queue.totals().0.messages),
        (3, 0)
    );
}

#[tokio::test]
async fn a_server_that_has_enough_of_one_messages_recipients_takes_other_mail() {
    let script = |line: &str, _| match line {
        _ if line.starts_with("RCPT TO:<bad") => Answer::Say("550 5.1.1 no such user"),
        _ if line.starts_with("RCPT TO:<last") => Answer::Say("421 4.7.0 too many errors"),
        _ => Answer::Yes,
    };
    let domains = Domains::within(MEMORY, 37, &[script as Script]).await;
    let rig = &domains.rig;
    let mut stale = message(rig, "a", "d0.example", 16);
    stale.envelope.sender.clear();
    let recipient = |name| postroad_spool::Recipient {
        address: format!("{name}@d0.example"),
        ..Default::default()
    };
    stale.envelope.recipients = ["bad1", "bad2", "last"].map(recipient).into();
    rig.accept(&stale).await.unwrap();
    rig.accept(&message(rig, "b", "d0.example", 16))
        .await
        .unwrap();
    let rig = domains
        .run_until(|_, rig| rig.context.metrics.delivered.get() == 1)
        .await;
    assert_eq!(rig.context.queue.direct_status().failing, 0);
    assert_eq!(rig.context.metrics.failed.get(), 2);
    assert_eq!(rig.context.queue.totals().0.deferred, 1, "it is charged");
}
