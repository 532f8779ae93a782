//! What one tenant's mail leaves for another's.

use futures::FutureExt as _;
use postroad_spool::{Author, Message};

use super::direct::{Domains, Script, yes};
use super::routes::overriding;
use super::*;
use crate::memory::{Holder, Reservation};
use crate::rig::LIFETIME_SECONDS;
use crate::room::Sharing;

/// In this time, who waits for room looks more than once whether it had better give way.
const LOOKS: Duration = Duration::from_secs(3);

/// What hangs earlier has no content in memory.
fn hang(line: &str, _: usize) -> Answer {
    match line.starts_with("MAIL") {
        true => Answer::Hang,
        false => Answer::Yes,
    }
}

/// A message of a tenant to a recipient at this domain, with so much content.
pub(super) fn message(rig: &Rig, tenant: &str, domain: &str, bytes: usize) -> Message {
    let mut message = rig.message(1, 0);
    message.envelope.credential = tenant.into();
    message.envelope.recipients[0].address = format!("r@{domain}");
    message.body = "0123456789abcd\r\n".repeat(bytes / 16).into();
    message
}

/// A report on mail of a tenant.
fn report(rig: &Rig, tenant: &str) -> Message {
    let mut report = message(rig, tenant, "a.example", 1 << 10);
    report.envelope.author = Author::Relay;
    report
}

/// All that a tenant may have of the memory for delivery, by small messages.
pub(super) fn hoard(rig: &Rig, tenant: &str) -> Vec<Reservation> {
    hoard_by(rig, tenant, 4 << 10)
}

/// All that it may have by messages of so many bytes: what is larger than 4 KiB is large.
pub(super) fn hoard_by(rig: &Rig, tenant: &str, bytes: u64) -> Vec<Reservation> {
    let memory = rig.context.queue.memory();
    let tenant = tenant.into();
    let rooms = std::iter::from_fn(|| memory.reserve(&tenant, bytes).now_or_never().flatten());
    rooms.collect()
}

/// Large mail of one that is sent to servers that hang, and small mail of one that comes later.
async fn leaves_room_for(later: &str, net: u8) {
    let mut scripts = vec![hang as Script; 13];
    scripts.push(yes);
    let domains = Domains::within(MEMORY, net, &scripts).await;
    let rig = &domains.rig;
    // From the disk, as after a start.
    for (number, kib) in [180, 180, 90, 90, 45, 45, 22, 22, 11, 11]
        .into_iter()
        .enumerate()
    {
        let domain = format!("d{number}.example");
        let large = message(rig, "greedy", &domain, kib << 10);
        rig.accept(&large).await.unwrap();
    }
    for number in 10..13 {
        let domain = format!("d{number}.example");
        let small = message(rig, "greedy", &domain, 1 << 10);
        rig.accept(&small).await.unwrap();
    }
    let queue = rig.context.queue.clone();
    let small = message(rig, later, "d13.example", 3 << 10);
    let mut accepting: Option<JoinHandle<()>> = None;
    let rig = domains
        .run_until(|_, rig| {
            if accepting.is_none() && queue.memory().has_waiting() {
                let holder = Holder::Login(later.into());
                let room = queue.memory().try_receive(holder, 64 << 10, 4 << 10);
                let (queue, small, room) = (queue.clone(), small.clone(), room.unwrap());
                accepting = Some(tokio::spawn(async move {
                    queue.accept(small, room).await.unwrap();
                }));
            }
            let left = rig.context.queue.totals().0.messages;
            rig.context.metrics.delivered.get() == 1 && left == 13
        })
        .await;
    assert_eq!(rig.context.queue.totals().0.deferred, 0);
}

#[tokio::test]
async fn large_mail_to_servers_that_hang_leaves_room_for_another_tenants_mail() {
    leaves_room_for("modest", 36).await;
}

#[tokio::test]
async fn large_mail_to_servers_that_hang_leaves_room_for_small_mail_of_its_tenant() {
    leaves_room_for("greedy", 45).await;
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
async fn a_connection_does_not_wait_for_room_for_large_mail_while_its_tenant_has_small_mail_for_it()
{
    for larger in [1, 25, 110] {
        let sink = Sink::start(|_, _| Answer::Yes).await;
        let rig = Rig::new(MEMORY);
        for _ in 0..larger {
            let large = message(&rig, "only", "a.example", 20 << 10);
            rig.accept(&large).await.unwrap();
        }
        let small = message(&rig, "only", "a.example", 1 << 10);
        rig.accept(&small).await.unwrap();
        let delivery = manager(&rig, &sink).await;
        let _rooms = hoard_by(&rig, "only", 20 << 10);
        tokio::select! {
            () = visit(&delivery) => {}
            () = until(|| sink.mails() == 1) => {}
        }
        let totals = rig.context.queue.totals().0;
        assert_eq!((sink.mails(), totals.deferred), (1, 0), "{larger}");
    }
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
    let domains = Domains::within(MEMORY, 41, &[script as Script]).await;
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

/// Two that have no room left, each with more mail than goes over one connection: the connection waits.
async fn waits_for(mail: [(&str, Author); 2]) {
    let connections = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&connections);
    let sink = Sink::start(move |line, _| {
        seen.fetch_add(usize::from(line.starts_with("EHLO")), Ordering::SeqCst);
        Answer::Yes
    })
    .await;
    let rig = Rig::new(MEMORY);
    for (tenant, author) in mail.repeat(30) {
        let mut message = message(&rig, tenant, "a.example", 1 << 10);
        message.envelope.author = author;
        rig.accept(&message).await.unwrap();
    }
    let delivery = manager(&rig, &sink).await;
    let queue = &rig.context.queue;
    queue.share(Sharing::Many);
    let rooms = mail.map(|(tenant, _)| hoard(&rig, tenant));
    let mut worker = pin!(visit(&delivery));
    tokio::select! {
        () = &mut worker => panic!("it waits for room"),
        () = until(|| queue.memory().has_waiting()) => {}
    }
    assert_eq!(pass(LOOKS, &mut worker).await, None);
    assert!(queue.memory().has_waiting());
    drop(rooms);
    worker.await;
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    assert_eq!(sink.mails(), 10, "as many as go over one connection");
}

#[tokio::test]
async fn tenants_without_room_do_not_give_way_to_each_other() {
    waits_for([("a", Author::Submitter), ("b", Author::Submitter)]).await;
}

#[tokio::test]
async fn mail_of_a_tenant_and_its_reports_do_not_give_way_to_each_other() {
    waits_for([("a", Author::Submitter), ("a", Author::Relay)]).await;
}

#[tokio::test]
async fn a_report_without_room_gives_way_to_another_tenants() {
    let sink = Sink::start(|_, _| Answer::Yes).await;
    let rig = Rig::new(MEMORY);
    for tenant in ["a", "b"] {
        rig.accept(&report(&rig, tenant)).await.unwrap();
    }
    let delivery = manager(&rig, &sink).await;
    let queue = &rig.context.queue;
    queue.share(Sharing::Many);
    let _rooms = hoard(&rig, "a");
    tokio::select! {
        () = visit(&delivery) => {}
        () = until(|| sink.mails() == 1) => {}
    }
    assert_eq!(sink.mails(), 1);
}

/// A large message of a tenant from so many seconds ago.
async fn accept_large(rig: &Rig, tenant: &str, age_seconds: u64, held_seconds: u64) {
    let mut large = message(rig, tenant, "a.example", 150 << 10);
    large.arrival_ms -= age_seconds * 1000;
    large.envelope.not_before_ms = large.arrival_ms + held_seconds * 1000;
    rig.accept(&large).await.unwrap();
}

#[tokio::test]
async fn one_of_a_tenant_that_has_nothing_in_memory_waits_whoever_else_has_mail_and_so_does_an_old_one()
 {
    // After ten minutes so does one of a tenant that has, unless the others' mail has no other connection; after its lifetime it does in any case. The
    // last was held for its sender until now (RFC 4865): that is no time that it has waited.
    for (age, held, rooms_of, others, mails) in [
        (0, 0, "b", 0, 0),
        (600, 0, "b", 0, 0),
        (600, 0, "a", 1, 0),
        (600, 0, "a", 0, 1),
        (540, 0, "a", 1, 1),
        (LIFETIME_SECONDS, 0, "a", 0, 0),
        (600, 600, "a", 1, 1),
    ] {
        let sink = Sink::start(|_, _| Answer::Yes).await;
        let rig = Rig::new(MEMORY);
        accept_large(&rig, "a", age, held).await;
        let delivery = manager(&rig, &sink).await;
        let queue = &rig.context.queue;
        queue.share(Sharing::Many);
        let _rooms = (hoard_by(&rig, rooms_of, 20 << 10), hoard(&rig, "c"));
        let small = message(&rig, "d", "a.example", 1 << 10);
        rig.accept(&small).await.unwrap();
        let (place, _) = queue.wanting().pop().unwrap();
        let open = || {
            let mut door = queue.open(place).unwrap();
            door.connected();
            door
        };
        let _others: Vec<_> = (0..others).map(|_| open()).collect();
        let mut worker = pin!(visit(&delivery));
        let is_over = tokio::select! {
            () = &mut worker => true,
            () = until(|| queue.memory().has_waiting()) => {
                pass(LOOKS, &mut worker).await.is_some()
            }
        };
        assert_eq!(
            (is_over, sink.mails()),
            (mails > 0, mails),
            "{age} {held} {rooms_of} {others}"
        );
    }
}

#[tokio::test]
async fn of_several_connections_that_wait_for_the_room_of_old_mail_one_goes_on_with_other_mail() {
    let sink = Sink::start(|_, _| Answer::Yes).await;
    let rig = Rig::new(MEMORY);
    accept_large(&rig, "a", 600, 0).await;
    accept_large(&rig, "b", 600, 0).await;
    let delivery = manager(&rig, &sink).await;
    rig.context.queue.share(Sharing::Many);
    let _rooms = ["a", "b"].map(|tenant| hoard_by(&rig, tenant, 20 << 10));
    let small = message(&rig, "d", "a.example", 1 << 10);
    rig.accept(&small).await.unwrap();
    tokio::select! {
        () = visit(&delivery) => {}
        () = visit(&delivery) => {}
        () = until(|| sink.mails() == 1) => {}
    }
    assert_eq!(sink.mails(), 1);
}

#[tokio::test]
async fn what_waits_for_clients_does_not_give_way() {
    let sink = Sink::start(|_, _| Answer::Yes).await;
    let rig = Rig::new(MEMORY);
    let large = message(&rig, "a", "a.example", 300 << 10);
    rig.accept(&large).await.unwrap();
    let delivery = manager(&rig, &sink).await;
    let queue = &rig.context.queue;
    queue.share(Sharing::Many);
    rig.accept(&message(&rig, "d", "a.example", 1 << 10))
        .await
        .unwrap();
    let client = queue.memory().try_reserve(700 << 10).unwrap();
    let mut worker = Box::pin(visit(&delivery));
    tokio::select! {
        () = &mut worker => panic!("it waits for the client"),
        () = until(|| queue.memory().is_wanted()) => {}
    }
    assert_eq!(pass(LOOKS, &mut worker).await, None);
    assert_eq!((queue.memory().is_wanted(), sink.mails()), (true, 0));
    drop(client);
    worker.await;
    assert_eq!(sink.mails(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_without_room_for_its_reports_is_waited_for_once() {
    let rig = Rig::new(MEMORY);
    let reason = "sent by mistake".to_owned();
    let action = postroad_config::Action::Bounce { reason };
    rig.change_delivery(|delivery| delivery.overrides = overriding("a.example", action));
    for tenant in ["greedy", "greedy", "greedy", "modest", "greedy"] {
        let message = message(&rig, tenant, "a.example", 1 << 10);
        rig.accept(&message).await.unwrap();
    }
    let upstreams = SharedUpstreams::default();
    let delivery = Delivery::new(rig.context.clone(), upstreams, CancellationToken::new());
    delivery.configure(&rig.context.live()).await;
    let queue = &rig.context.queue;
    queue.share(Sharing::Many);
    let _rooms = hoard(&rig, "greedy");
    let (place, _) = queue.wanting().pop().unwrap();
    let door = queue.open_alone(place).unwrap();
    let begin = Instant::now();
    returns::give_back(rig.context.clone(), "one".into(), door).await;
    assert!(begin.elapsed() < 2 * look::PATIENCE);
    assert_eq!(rig.context.metrics.bounced.get(), 1);
    assert_eq!(queue.totals().0.messages, 5, "the report instead of one");
}
