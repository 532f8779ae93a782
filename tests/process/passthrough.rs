//! Mail that is handed on while its client waits: the real relay, and a next hop that does as it is told.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use harness::client::{Client, Reply};
use harness::hop::{Act, END, Hop};
use harness::relay::Relay;
use harness::{PATIENCE, eventually, free_port};
use postroad_config::{ListenerName, SpoolMode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SENDER: &str = "a@example.com";
const CONTENT: &[u8] = b"Subject: hello\r\n\r\nbody\r\n";

/// Longer than a reply takes that waits for nothing.
const A_MOMENT: Duration = Duration::from_millis(500);

/// Well before patience with the next hop ends.
const SOON: Duration = Duration::from_secs(20);

async fn relay(port: u16) -> Relay {
    let mut relay = Relay::for_port(port);
    relay.config.spool.mode = SpoolMode::Passthrough;
    relay.config.delivery.retry.initial_seconds = 1;
    relay.config.delivery.retry.maximum_seconds = 1;
    relay.start().await;
    relay
}

async fn send(relay: &Relay, to: &[&str]) -> Reply {
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    client.message(SENDER, to, CONTENT).await.unwrap()
}

/// A client that has sent a message and has no answer.
async fn send_and_wait(relay: &Relay) -> Client {
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    for (command, code) in [
        ("MAIL FROM:<a@example.com>", 250),
        ("RCPT TO:<b@example.org>", 250),
        ("DATA", 354),
    ] {
        assert_eq!(client.command(command).await.unwrap().code, code);
    }
    client
        .send(&harness::client::stuffed(CONTENT))
        .await
        .unwrap();
    client
}

/// A hop that never answers at the end of content.
async fn silent() -> Hop {
    Hop::start(&[], |step, _| (step == END).then_some(Act::Hang(""))).await
}

/// Until a hop has the message and has not answered.
async fn heard_by(hop: &Hop) {
    eventually("the content", async || (hop.asked(END) > 0).then_some(())).await;
}

/// Flushes of the spool so far, and messages that were never stored.
async fn counts(relay: &Relay) -> (u64, u64) {
    let page = relay.page("/metrics").await;
    let value = |name: &str| {
        let line = page.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    (
        value("postroad_relay_spool_syncs_total "),
        value("postroad_relay_passed_through_total "),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_250_comes_after_that_of_the_next_hop_and_nothing_is_written() {
    let (open, gate) = mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let hop = Hop::start(&["8BITMIME"], move |step, _| {
        if step == END {
            // An error means that the test is over.
            tokio::task::block_in_place(|| gate.lock().unwrap().recv().ok());
        }
        None
    })
    .await;
    let relay = relay(hop.port).await;
    let (syncs, _) = counts(&relay).await;
    for sent in 1..=3 {
        let mut client = send_and_wait(&relay).await;
        let early = tokio::time::timeout(A_MOMENT, client.reply()).await;
        assert!(early.is_err(), "{early:?}");
        open.send(()).unwrap();
        let reply = client.reply().await.unwrap();
        assert!(
            reply.text.starts_with("250 2.0.0 Ok: passed on as "),
            "{reply:?}"
        );
        assert_eq!(hop.count(), sent);
    }
    assert_eq!(counts(&relay).await, (syncs, 3));
    let status = relay.status().await;
    assert_eq!(status.queue.messages, 0);
    assert_eq!(status.spool.mode, SpoolMode::Passthrough);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_hop_that_is_down_leaves_the_message_stored() {
    let mut relay = relay(free_port()).await;
    for _ in 0..2 {
        let begun = Instant::now();
        let reply = send(&relay, &["b@example.org"]).await;
        assert!(
            reply.text.starts_with("250 2.0.0 Ok: queued as "),
            "{reply:?}"
        );
        assert!(begun.elapsed() < SOON);
    }
    relay.kill();
    let hop = Hop::start(&[], |_, _| None).await;
    relay.config.delivery.upstreams[0].port = hop.port;
    relay.start().await;
    relay.drained().await;
    assert_eq!(hop.count(), 2);
    eventually("mail that is handed on again", async || {
        let reply = send(&relay, &["b@example.org"]).await;
        reply.text.contains("passed on").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_the_client_waits_leaves_it_without_its_250_and_nothing_behind() {
    let hop = silent().await;
    let mut relay = relay(hop.port).await;
    let mut client = send_and_wait(&relay).await;
    heard_by(&hop).await;
    relay.kill();
    let answer = client.reply().await;
    assert!(answer.is_err(), "{answer:?}");
    hop.mend();
    relay.start().await;
    assert_eq!(relay.status().await.queue.messages, 0);
    assert_eq!(hop.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_good_is_the_clients_to_hear_and_no_report_is_written() {
    let hop = Hop::start(&[], |step, _| match step {
        step if step.starts_with("RCPT TO:<nobody@") => Some(Act::Say(
            "550-5.1.1 no such user\r\n550 5.1.1 see https://example.org/",
        )),
        step if step.starts_with("RCPT TO:<later@") => Some(Act::Say("450 4.2.1 not now")),
        END => Some(Act::Say("554 5.7.1 no, thank you")),
        _ => None,
    })
    .await;
    let relay = relay(hop.port).await;
    let (syncs, _) = counts(&relay).await;
    let reply = send(&relay, &["nobody@example.org"]).await;
    let expected = "550-5.1.1 no such user\r\n550 5.1.1 see https://example.org/\r\n";
    assert_eq!(reply.text, expected);
    let reply = send(&relay, &["b@example.org", "nobody@example.org"]).await;
    assert_eq!(reply.code / 100, 5, "{reply:?}");
    assert_eq!((counts(&relay).await, hop.count()), ((syncs, 0), 0));
    assert_eq!(relay.status().await.queue.messages, 0);
    hop.mend();
    assert_eq!(send(&relay, &["b@example.org"]).await.code, 250);
    assert!(hop.reports().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_by_recipient_is_accepted_and_told_later() {
    let hop = Hop::start(&[], |step, before| {
        let of = |name: &str| step.starts_with(&format!("RCPT TO:<{name}@"));
        match before {
            _ if of("nobody") => Some(Act::Say("550 5.1.1 no such user")),
            0 if of("later") => Some(Act::Say("450 4.2.1 not now")),
            _ => None,
        }
    })
    .await;
    let mut relay = relay(hop.port).await;
    let reply = send(&relay, &["b@example.org", "nobody@example.org"]).await;
    assert!(reply.text.contains("passed on"), "{reply:?}");
    let report = hop.report().await;
    assert_eq!(report.recipients, ["RCPT TO:<a@example.com>"]);
    assert!(report.text().contains("550 5.1.1 no such user"));
    relay.drained().await;

    let to = ["c@example.org", "nobody@example.org", "later@example.org"];
    let reply = send(&relay, &to).await;
    assert!(reply.text.contains("queued as"), "{reply:?}");
    // What had come of it is on the disk with it.
    relay.kill();
    relay.start().await;
    relay.drained().await;
    let taken: Vec<_> = hop
        .taken()
        .into_iter()
        .filter(|taken| !taken.is_report())
        .collect();
    let recipients: Vec<_> = taken
        .iter()
        .map(|taken| taken.recipients.join(" "))
        .collect();
    let expected = ["b", "c", "later"].map(|name| format!("RCPT TO:<{name}@example.org>"));
    assert_eq!(recipients, expected);
    assert_eq!(hop.reports().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn patience_with_a_next_hop_that_does_not_answer_ends_in_the_queue() {
    let hop = silent().await;
    let mut relay = relay(hop.port).await;
    let begun = Instant::now();
    let reply = send(&relay, &["b@example.org"]).await;
    assert!(reply.text.contains("queued as"), "{reply:?}");
    let seconds = begun.elapsed().as_secs();
    assert!((29..PATIENCE.as_secs()).contains(&seconds), "{seconds}");
    relay.kill();
    hop.mend();
    relay.start().await;
    relay.drained().await;
    assert_eq!(hop.count(), 2, "the hop had it, and nobody knew (RFC 1047)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_takes_its_message_back() {
    let hop = silent().await;
    let relay = relay(hop.port).await;
    let (syncs, _) = counts(&relay).await;
    let client = send_and_wait(&relay).await;
    heard_by(&hop).await;
    assert_eq!(relay.status().await.queue.messages, 1);
    drop(client);
    relay.drained().await;
    assert_eq!(counts(&relay).await, (syncs, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_said_quit_may_close_its_side_and_wait() {
    // The second message has no answer.
    let hop = Hop::start(&[], |step, before| {
        (step == END && before > 0).then_some(Act::Hang(""))
    })
    .await;
    let mut relay = Relay::for_port(hop.port);
    relay.config.spool.mode = SpoolMode::Passthrough;
    let loopback = "127.0.0.1/32".parse().unwrap();
    relay.config.access.trusted_networks.push(loopback);
    relay.start().await;
    for (last, expected) in [
        ("QUIT\r\n", "250 2.0.0 Ok: passed on as"),
        ("", "451 4.4.2"),
    ] {
        let port = relay.port(ListenerName::Smtp);
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let dialogue = "EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n";
        let mut heard = vec![0; 1024];
        assert!(stream.read(&mut heard).await.unwrap() > 0, "the banner");
        stream.write_all(dialogue.as_bytes()).await.unwrap();
        let mut text = String::new();
        while !text.contains("354 ") {
            let count = stream.read(&mut heard).await.unwrap();
            assert!(count > 0, "{text}");
            text.push_str(std::str::from_utf8(&heard[..count]).unwrap());
        }
        let rest = format!("Subject: x\r\n\r\n.\r\n{last}");
        stream.write_all(rest.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.contains(expected), "{text}");
    }
    relay.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_stores_what_clients_wait_for() {
    let hop = silent().await;
    let relay = relay(hop.port).await;
    let mut client = send_and_wait(&relay).await;
    heard_by(&hop).await;
    relay.drain().await;
    let reply = tokio::time::timeout(SOON, client.reply()).await.unwrap();
    assert!(reply.unwrap().text.contains("queued as"));
    assert_eq!(relay.status().await.queue.messages, 1);
}
