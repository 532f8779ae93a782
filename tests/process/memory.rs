//! What connections that wait cost: there are many of them, and most of them wait most of the time.

use harness::client::Client;
use harness::hop::Hop;
use harness::relay::{HOSTNAME, Relay};
use postroad_config::ListenerName;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections before the memory is looked at for the first time: whatever is made once for all is made by then.
const SETTLED: usize = 100;

/// Connections over which the cost of one is taken: so many that two megabytes which the allocator has not given back at the moment count for little.
const MEASURED: usize = 600;

/// Files that this process may then have open, those of other tests beside it included.
const FILES: u64 = 4096;

/// Most that one under TLS may cost after a message, in bytes: half-way between what TLS itself keeps, the task, and what the allocator loses, and
/// the same with one buffer more.
const BYTES_MAX: u64 = 22 << 10;

/// As much content as several records of TLS hold.
const CONTENT_LINES: usize = 1000;

/// Messages that wait at once: on a busy machine they would be many, and what they leave of the allocator's memory would be counted.
const QUEUED_MAX: usize = 10;

async fn connections(relay: &Relay, count: usize) -> Vec<Client> {
    let content = format!("X: y\r\n\r\n{}", "0123456789\r\n".repeat(CONTENT_LINES));
    let mut clients = Vec::with_capacity(count);
    while clients.len() < count {
        let (client, _) = Client::connect(relay.port(ListenerName::Smtp))
            .await
            .unwrap();
        let mut client = client.starttls(&relay.tls(), HOSTNAME).await.unwrap();
        let to = ["b@example.net"];
        let reply = client.message("a@example.org", &to, content.as_bytes());
        assert_eq!(reply.await.unwrap().code, 250);
        clients.push(client);
        if clients.len().is_multiple_of(QUEUED_MAX) {
            relay.drained().await;
        }
    }
    clients
}

/// Lets this process have as many connections open, as far as the system allows.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let files = limit.maximum.map_or(FILES, |maximum| maximum.min(FILES));
    let current = limit.current.map(|current| current.max(files));
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
}

/// Memory of the relay that is no file's, in bytes. Its share of the program itself would grow whenever a relay of another test ends.
fn memory(relay: &Relay) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", relay.pid())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss_Anon:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_under_tls_gives_its_buffers_back_while_it_waits() {
    raise_limit();
    let hop = Hop::start(&[], |_, _| None).await;
    let mut relay = Relay::for_port(hop.port);
    // A login would cost more than all else here.
    relay.config.access.trusted_networks = vec!["127.0.0.0/8".parse().unwrap()];
    relay.config.limits.connections = 700;
    relay.config.limits.connections_per_source = 700;
    relay.start().await;
    let mut clients = connections(&relay, SETTLED).await;
    let before = memory(&relay);
    clients.extend(connections(&relay, MEASURED).await);
    let bytes = memory(&relay).saturating_sub(before) / MEASURED as u64;
    println!("{bytes} bytes");
    assert!(bytes <= BYTES_MAX, "{bytes} bytes");
    for client in &mut clients {
        assert_eq!(client.command("NOOP").await.unwrap().code, 250);
    }
}
