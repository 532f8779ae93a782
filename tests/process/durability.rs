//! 250 means kept: kill -9 while many clients send, and a ledger of every promise.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use harness::client::Client;
use harness::eventually;
use harness::provider::Provider;
use harness::relay::Relay;
use postroad_config::ListenerName;
use tokio::task::JoinSet;

const CLIENTS: u64 = 50;
const ROUNDS: u64 = 8;
/// Promises that each round gathers before the kill.
const PROMISES: u64 = 300;

/// Sends until the relay dies; returns the numbers of the messages that got 250.
async fn send_until_it_dies(
    port: u16,
    numbers: Arc<AtomicU64>,
    promised: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Vec<u64> {
    let mut ledger = Vec::new();
    let Ok((mut client, _)) = Client::connect(port).await else {
        return ledger;
    };
    if client.command("EHLO client.example.net").await.is_err() {
        return ledger;
    }
    while !stop.load(Ordering::Relaxed) {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let content = format!("Subject: promise {number};\r\n\r\n{}\r\n", "x".repeat(500));
        match client
            .message("a@example.com", &["b@example.org"], content.as_bytes())
            .await
        {
            Ok(reply) if reply.code == 250 => {
                ledger.push(number);
                promised.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    ledger
}

/// How often each promise has arrived.
fn arrivals(provider: &Provider) -> HashMap<u64, u64> {
    let mut arrived = HashMap::new();
    for message in provider.messages() {
        let text = String::from_utf8_lossy(&message);
        let number = text
            .split("Subject: promise ")
            .nth(1)
            .and_then(|rest| rest.split(';').next());
        let number: u64 = number
            .unwrap_or_else(|| panic!("unexpected mail: {text}"))
            .parse()
            .unwrap();
        *arrived.entry(number).or_default() += 1;
    }
    arrived
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_got_250_is_lost_when_the_process_is_killed() {
    let provider = Provider::start().await;
    let mut relay = Relay::for_provider(&provider);
    relay.config.access.trusted_networks = vec!["127.0.0.0/8".parse().unwrap()];
    // The window for a duplicate is one delivery per connection: few connections keep the count comparable.
    relay.config.delivery.upstreams[0].limits.connections = 10;
    let numbers = Arc::new(AtomicU64::new(0));
    let mut ledger = HashSet::new();
    for _ in 0..ROUNDS {
        relay.start().await;
        let (promised, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let port = relay.port(ListenerName::Smtp);
            let (numbers, promised, stop) = (numbers.clone(), promised.clone(), stop.clone());
            clients.spawn(send_until_it_dies(port, numbers, promised, stop));
        }
        eventually("promises", async || {
            (promised.load(Ordering::Relaxed) >= PROMISES).then_some(())
        })
        .await;
        relay.kill();
        stop.store(true, Ordering::Relaxed);
        while let Some(kept) = clients.join_next().await {
            ledger.extend(kept.unwrap());
        }
    }
    relay.start().await;
    relay.drained().await;
    let arrived = eventually("every promise to arrive", async || {
        let arrived = arrivals(&provider);
        ledger
            .iter()
            .all(|number| arrived.contains_key(number))
            .then_some(arrived)
    })
    .await;
    let duplicates: u64 = arrived.values().map(|count| count - 1).sum();
    // A kill can catch each of the ten connections between the upstream's 250 and the record of it, and a batch of records
    // that the writer had not yet flushed.
    let window = ROUNDS * 2 * 10;
    println!(
        "{} promises kept, {duplicates} duplicates (window {window})",
        ledger.len()
    );
    assert!(ledger.len() as u64 >= ROUNDS * PROMISES);
    assert!(duplicates <= window, "{duplicates} duplicates");
}

/// Changes a byte of the first place in the relay's queue where these bytes stand.
fn damage(relay: &Relay, bytes: &[u8]) {
    let mut files = std::fs::read_dir(relay.config.spool.directory.clone()).unwrap();
    let (path, mut content, at) = files
        .find_map(|entry| {
            let path = entry.unwrap().path();
            let content = std::fs::read(&path).unwrap_or_default();
            let at = content
                .windows(bytes.len())
                .position(|some| some == bytes)?;
            Some((path, content, at))
        })
        .unwrap();
    content[at] ^= 0x20;
    std::fs::write(path, content).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_damaged_on_the_disk_is_kept_aside_and_its_sender_is_told() {
    let provider = Provider::start().await;
    let mut relay = Relay::for_provider(&provider);
    relay.write_login("wrong");
    relay.start().await;
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    for subject in ["damaged", "intact"] {
        let content = format!("Subject: {subject}\r\n\r\nbody\r\n");
        let reply = client
            .message("a@example.com", &["b@example.org"], content.as_bytes())
            .await
            .unwrap();
        assert_eq!(reply.code, 250);
    }
    // What has just been accepted is delivered from memory; after a start it is on disk alone.
    relay.kill();
    relay.start().await;
    damage(&relay, b"Subject: damaged");
    relay.write_login(harness::provider::PASSWORD);
    relay.drained().await;
    let arrived = |text: &str| {
        provider
            .messages()
            .iter()
            .any(|message| String::from_utf8_lossy(message).contains(text))
    };
    for text in ["Subject: intact", "damaged on the disk of this server"] {
        eventually(text, async || arrived(text).then_some(())).await;
    }
    assert!(!arrived("ubject: damaged"));
    let status = relay.status().await;
    assert_eq!((status.spool.corrupt, status.queue.unreadable), (1, 0));
}
