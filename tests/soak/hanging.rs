//! Ten thousand domains, nine thousand of which have an exchanger that lets us in and then says nothing: what the others wait for them, and what
//! it costs to wait for them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use harness::client::Client;
use harness::dns::NameServer;
use harness::exchanger::{Exchanger, Manner};
use harness::free_port;
use harness::relay::Relay;
use postroad_config::{ListenerName, Target};

const DOMAINS: usize = 10_000;

/// Every tenth of them works.
const WORKS: usize = 10;

/// Recipients of one message, each at a domain of its own.
const RECIPIENTS: usize = 100;

/// All who can be delivered to must have been by then. A silent host is given up after a minute. Of a thousand connections to domains that have
/// not worked so far one tenant has three quarters, of which an eighth of all go to those that failed already: ten thousand domains are
/// through in 17 minutes.
const DELIVERED_WITHIN: Duration = Duration::from_secs(20 * 60);

/// Mail for domains that have worked, while the others hang.
const KNOWN_WITHIN: Duration = Duration::from_secs(30);

/// Most that the relay may take: a thousand connections and ten thousand places.
const MEMORY_MAX: u64 = 192 << 20;

/// The second byte of the address of a host that hangs, or works: 127.HANGS.x.y.
const HANGS: u8 = 1;
const ANSWERS: u8 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn nine_thousand_domains_that_hang_keep_no_mail_from_a_thousand_that_work() {
    let port = free_port();
    let dns = NameServer::start().await;
    let exchangers = Exchanger::start_many("0.0.0.0", port, manner).await;
    let mut relay = Relay::new();
    let loopback = "127.0.0.1/32".parse().unwrap();
    relay.config.access.trusted_networks.push(loopback);
    let delivery = &mut relay.config.delivery;
    delivery.default_route = Target::Direct;
    delivery.direct.nameservers = vec![dns.address];
    delivery.direct.port = port;
    delivery.direct.allowed_networks = vec!["127.0.0.0/8".parse().unwrap()];
    relay.start().await;
    let domains: Vec<String> = (0..DOMAINS).map(|number| publish(&dns, number)).collect();
    let working: Vec<String> = domains.iter().step_by(WORKS).cloned().collect();

    let begun = Instant::now();
    submit(&relay, &domains).await;
    eprintln!("submitted after {:.0?}", begun.elapsed());
    wait(&relay, &exchangers, working.len(), DELIVERED_WITHIN).await;
    let queued = relay.status().await.queue.messages;
    assert!(queued > 0, "what hangs is still there");

    submit(&relay, &working).await;
    wait(&relay, &exchangers, 2 * working.len(), KNOWN_WITHIN).await;
    let (now, most) = (relay.memory("VmRSS") >> 20, relay.memory("VmHWM"));
    eprintln!("memory: {now} MiB now, {} MiB at most", most >> 20);
    assert!(most <= MEMORY_MAX, "{most} bytes");
}

fn manner(dialled: IpAddr) -> Manner {
    match dialled {
        IpAddr::V4(address) if address.octets()[1] == HANGS => Manner::Silent,
        _ => Manner::Plain,
    }
}

/// Writes a domain into the DNS; its name.
fn publish(dns: &NameServer, number: usize) -> String {
    let (domain, host) = (format!("d{number}.example"), format!("mx{number}.example"));
    let kind = if number.is_multiple_of(WORKS) {
        ANSWERS
    } else {
        HANGS
    };
    dns.mx(&domain, 10, &host);
    dns.address(
        &host,
        &format!("127.{kind}.{}.{}", number / 200, number % 200 + 1),
    );
    domain
}

async fn submit(relay: &Relay, domains: &[String]) {
    let port = relay.port(ListenerName::Smtp);
    let (mut client, _) = Client::connect(port).await.unwrap();
    client.command("EHLO client.example.net").await.unwrap();
    for some in domains.chunks(RECIPIENTS) {
        let to: Vec<String> = some.iter().map(|domain| format!("b@{domain}")).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let sent = client.message("a@example.com", &to, b"Subject: x\r\n\r\n");
        assert_eq!(sent.await.unwrap().code, 250);
    }
}

/// Waits for so many deliveries, and tells once a minute how many there are.
async fn wait(relay: &Relay, exchangers: &Exchanger, count: usize, within: Duration) {
    let begun = Instant::now();
    let mut told = begun;
    while exchangers.count() < count {
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            let memory = relay.memory("VmRSS") >> 20;
            let (there, after) = (exchangers.count(), begun.elapsed());
            eprintln!("{there} of {count} after {after:.0?}, {memory} MiB");
        }
        let there = exchangers.count();
        assert!(begun.elapsed() < within, "{there} of {count} in {within:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    eprintln!("{count} delivered after {:.0?}", begun.elapsed());
}
