//! Mail that finds no room.

use super::*;

use crate::accept::memory_full;
use crate::clock;

const LINE: &str = "0123456789\r\n";

async fn begin_content(client: &mut Client<TcpStream>) {
    for (command, expected) in [
        ("EHLO client.example.org", "250 "),
        ("MAIL FROM:<a@example.org>", "250 "),
        ("RCPT TO:<b@example.net>", "250 "),
        ("DATA", "354 "),
    ] {
        client.ask(command, expected).await;
    }
}

fn refusals(talk: &Talk, reason: &'static str) -> u64 {
    let label = crate::metrics::MemoryLabel { reason };
    let refusals = &talk.rig.context.metrics.memory_refusals;
    refusals.get_or_create(&label).get()
}

#[tokio::test]
async fn content_that_finds_no_room_gets_452_at_its_end_and_the_next_is_taken() {
    let talk = Talk::new();
    let memory = talk.rig.context.queue.memory();
    let mut client = talk.greet(Standing::Known).await;
    begin_content(&mut client).await;
    let all = memory.take_all();
    client.say(&LINE.repeat(20_000)).await;
    client.ask(".", "452 4.3.1 ").await;
    assert_eq!(
        (refusals(&talk, "total"), refusals(&talk, "client")),
        (1, 0)
    );
    assert!(memory.is_full(clock::now_ms()));
    client.ask("MAIL FROM:<a@example.org>", "250 ").await;
    let rest = memory.take_all();
    client.ask("RCPT TO:<b@example.net>", "452 4.3.1 ").await;
    drop((all, rest));
    client.ask("RCPT TO:<b@example.net>", "250 ").await;
    client.ask("DATA", "354 ").await;
    client.say(LINE).await;
    client.ask(".", "250 ").await;
}

#[tokio::test]
async fn a_client_that_holds_its_share_leaves_others_theirs() {
    let mut talk = Talk::new();
    talk.limits.connections = 10;
    let mut live = (*talk.rig.context.live()).clone();
    live.config.limits.message_bytes = 100_000;
    live.config.limits.recipients = 1;
    (_, talk.rig.context.live) = watch::channel(Arc::new(live));
    let memory = talk.rig.context.queue.memory();
    let mut hogs = Vec::new();
    for _ in 0..10 {
        let mut client = talk.greet(Standing::Known).await;
        client.ask("EHLO client.example.org", "250 ").await;
        client.ask("MAIL FROM:<a@example.org>", "250 ").await;
        client.say("RCPT TO:<b@example.net>\r\n").await;
        if client.hear().await.starts_with("452 4.3.1 ") {
            break;
        }
        client.ask("DATA", "354 ").await;
        client.say(&LINE.repeat(8000)).await;
        hogs.push(client);
        // Nothing is answered: it has been taken in once there is room for nothing more of this size.
        while talk.rig.context.queue.memory().held() < hogs.len() * 96_000
            && refusals(&talk, "client") == 0
        {
            tokio::task::yield_now().await;
        }
    }
    assert!(refusals(&talk, "client") > 0 && refusals(&talk, "total") == 0);
    assert!(!memory.is_full(clock::now_ms()), "it is one client alone");
    let other = crate::memory::Holder::Login("other".into());
    assert!(memory.try_receive(other, 100_000, 100_000).is_ok());
}

#[tokio::test]
async fn content_gives_way_to_a_delivery_that_wants_its_room() {
    let talk = Talk::new();
    let queue = talk.rig.context.queue.clone();
    let mut client = talk.greet(Standing::Known).await;
    begin_content(&mut client).await;
    let delivery = tokio::spawn({
        let queue = queue.clone();
        async move { queue.memory().reserve(&"".into(), 1 << 20).await.is_some() }
    });
    while !queue.memory().is_wanted() {
        tokio::task::yield_now().await;
    }
    client.say(LINE).await;
    assert!(delivery.await.unwrap(), "the client has not finished");
    client.ask(".", "452 4.3.1 ").await;
}

#[tokio::test]
async fn a_refusal_is_counted_by_whom_it_concerns() {
    let talk = Talk::new();
    for why in [Full::Share, Full::Budget, Full::Share] {
        assert_eq!(memory_full(&talk.rig.context, why), Refusal::MemoryFull);
    }
    assert_eq!(
        (refusals(&talk, "total"), refusals(&talk, "client")),
        (1, 2)
    );
}
