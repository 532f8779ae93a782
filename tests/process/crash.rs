//! 250 means kept: kill -9 at random moments while fifty clients send, and a ledger of every promise.
//!
//! `POSTROAD_ROUNDS` says how often (`make soak`: 100), `POSTROAD_SEED` which moments; the seed is printed. It fixes the moments and what they
//! are counted from, not what the machine does meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harness::client::Client;
use harness::eventually;
use harness::hop::{Act, Hop};
use harness::relay::Relay;
use postroad_config::ListenerName;
use tokio::task::JoinSet;

const CLIENTS: usize = 50;

/// Unless `POSTROAD_ROUNDS` says otherwise: about twenty seconds.
const ROUNDS: u64 = 12;

/// A round ends after some of so many promises...
const PROMISES_MAX: u64 = 300;

/// ...and some of so many microseconds: longer than a flush of the disk takes.
const MOMENT_MAX_US: u64 = 20_000;

/// Of so many rounds one is preceded by a kill while the relay starts...
const STILLBORN: u64 = 3;

/// ...within so many microseconds: opening the spool is part of that.
const START_MAX_US: u64 = 150_000;

/// Connections to the next hop. The window for a duplicate is as wide as their number: few keep the count comparable.
const CONNECTIONS: u32 = 10;

/// Deliveries over a connection that a kill can catch before their outcome is on the disk: one that is being recorded, and the one begun
/// meanwhile.
const UNRECORDED_MAX: u64 = 2;

/// Messages of so many have a recipient who is refused, and as many one who is put off at first.
const VARIETY: u64 = 10;

/// Where random moments come from (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap())
}

/// The recipients of a message: what becomes of each shows in its name.
fn recipients(number: u64) -> Vec<String> {
    let mut all = vec![format!("good{number}@example.org")];
    match number % VARIETY {
        0 => all.push(format!("never{number}@example.org")),
        1 => all.push(format!("later{number}@example.org")),
        _ => {}
    }
    all
}

/// What the next hop says.
fn script(heard: &str, before: usize) -> Option<Act> {
    if heard.starts_with("RCPT TO:<never") {
        return Some(Act::Say("550 5.1.1 nobody"));
    }
    let early = heard.starts_with("RCPT TO:<later") && before == 0;
    early.then_some(Act::Say("450 4.2.1 later"))
}

/// What the clients of a round share.
#[derive(Default)]
struct Round {
    promised: AtomicU64,
    over: AtomicBool,
}

/// Sends until the relay dies; the numbers of the messages that got 250.
async fn send_until_it_dies(port: u16, numbers: Arc<AtomicU64>, round: Arc<Round>) -> Vec<u64> {
    let mut ledger = Vec::new();
    let Ok((mut client, _)) = Client::connect(port).await else {
        return ledger;
    };
    if client.command("EHLO client.example.net").await.is_err() {
        return ledger;
    }
    while !round.over.load(Ordering::Relaxed) {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let size = usize::try_from(number % 7 * 1500).unwrap();
        let content = format!("Subject: promise\r\n\r\n{}\r\n", "x".repeat(size));
        let (from, to) = (format!("s{number}@example.com"), recipients(number));
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        match client.message(&from, &to, content.as_bytes()).await {
            Ok(reply) => {
                assert_eq!(reply.code, 250, "{reply:?}");
                ledger.push(number);
                round.promised.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => break,
        }
    }
    ledger
}

/// Load until a random moment, then kill -9; the promises that were made.
async fn round(relay: &mut Relay, numbers: &Arc<AtomicU64>, dice: &mut Dice) -> Vec<u64> {
    let round = Arc::new(Round::default());
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let port = relay.port(ListenerName::Smtp);
        clients.spawn(send_until_it_dies(port, numbers.clone(), round.clone()));
    }
    let promises = dice.below(PROMISES_MAX);
    eventually("promises", async || {
        (round.promised.load(Ordering::Relaxed) >= promises).then_some(())
    })
    .await;
    // Not for anything to happen: this is the moment.
    tokio::time::sleep(Duration::from_micros(dice.below(MOMENT_MAX_US))).await;
    relay.kill();
    round.over.store(true, Ordering::Relaxed);
    clients.join_all().await.concat()
}

/// Whom the next hop has heard of in this way, and how often each.
fn counted(hop: &Hop) -> (HashMap<String, u64>, HashMap<String, u64>) {
    let (mut mail, mut reports) = (HashMap::new(), HashMap::new());
    for taken in hop.taken() {
        let counts = match taken.is_report() {
            true => &mut reports,
            false => &mut mail,
        };
        for recipient in taken.recipients {
            *counts.entry(recipient).or_default() += 1;
        }
    }
    (mail, reports)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_got_250_is_lost_when_the_process_is_killed() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("POSTROAD_SEED").unwrap_or_else(|| u64::from(now.subsec_nanos()));
    let rounds = number("POSTROAD_ROUNDS").unwrap_or(ROUNDS);
    println!("kill -9: {rounds} rounds, POSTROAD_SEED={seed}");
    let mut dice = Dice(seed);
    let hop = Hop::start(&["8BITMIME"], script).await;
    let mut relay = Relay::for_port(hop.port);
    relay.config.access.trusted_networks = vec!["127.0.0.0/8".parse().unwrap()];
    relay.config.limits.connections_per_source = 1000;
    relay.config.delivery.upstreams[0].limits.connections = CONNECTIONS;
    relay.config.delivery.retry.initial_seconds = 1;
    relay.config.delivery.retry.maximum_seconds = 1;
    let numbers = Arc::new(AtomicU64::new(0));
    let (mut ledger, mut kills) = (HashSet::new(), rounds);
    for _ in 0..rounds {
        if dice.below(STILLBORN) == 0 {
            relay.spawn();
            tokio::time::sleep(Duration::from_micros(dice.below(START_MAX_US))).await;
            relay.kill();
            kills += 1;
        }
        relay.start().await;
        ledger.extend(round(&mut relay, &numbers, &mut dice).await);
    }
    relay.start().await;
    relay.drained().await;
    let duplicates = settle(&hop, &ledger, kills);
    let promises = ledger.len();
    println!("{promises} promises kept after {kills} kills, {duplicates} duplicates");
}

/// Every promise was kept, and nothing was done again that had been recorded; how many came twice.
fn settle(hop: &Hop, ledger: &HashSet<u64>, kills: u64) -> u64 {
    let (mail, reports) = counted(hop);
    for number in ledger {
        for recipient in recipients(*number) {
            let (counts, whom) = match recipient.starts_with("never") {
                true => (&reports, format!("s{number}@example.com")),
                false => (&mail, recipient),
            };
            let found = counts.contains_key(&format!("RCPT TO:<{whom}>"));
            assert!(found, "{whom} got nothing of message {number}");
        }
    }
    let copies = mail.values().chain(reports.values());
    let duplicates: u64 = copies.map(|count| count - 1).sum();
    let window = kills * UNRECORDED_MAX * u64::from(CONNECTIONS);
    assert!(!ledger.is_empty());
    assert!(
        duplicates <= window,
        "{duplicates} duplicates, {window} at most"
    );
    assert!(!mail.keys().any(|who| who.contains("never")), "refused");
    duplicates
}
