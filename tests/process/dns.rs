//! Answers of the DNS that somebody has made as large as they can be, or that lead in a circle.

use std::time::Duration;

use harness::dns::NameServer;
use harness::eventually;
use harness::relay::Relay;
use postroad_config::{ListenerName, Target};

/// Domains, each of which has an answer of its own.
const DOMAINS: usize = 500;

/// Recipients of one message.
const RECIPIENTS: usize = 10;

/// MX records in an answer: nearly 64 KiB with names of this length, the most that a message over TCP can have (RFC 1035 §4.2.2).
const EXCHANGERS: u16 = 1150;

/// How long an answer takes: so long that the relay does not wait with other questions for it.
const DELAY: Duration = Duration::from_secs(2);

/// Most that the relay may grow by at any time. Two thirds of it are what five hundred attempts take however short the answers are, in a program that
/// is not optimized. The rest is answers, of up to 3 MiB each as they are parsed: those of one connection to the name server that have come are
/// parsed before any of them is used, and what is used of them takes 4 MiB.
const GROWTH_MAX: u64 = 80 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_64_kib_for_many_domains_cost_bounded_memory() {
    let dns = NameServer::start().await;
    dns.crowd("crowd.example", EXCHANGERS, DELAY);
    let mut relay = Relay::new();
    relay.config.delivery.default_route = Target::Direct;
    relay.config.delivery.direct.nameservers = vec![dns.address];
    relay.start().await;
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    let before = relay.memory("VmRSS");
    let recipients: Vec<String> = (0..DOMAINS)
        .map(|number| format!("b@d{number}.crowd.example"))
        .collect();
    for some in recipients.chunks(RECIPIENTS) {
        let to: Vec<&str> = some.iter().map(String::as_str).collect();
        let sent = client.message("", &to, b"Subject: x\r\n\r\n");
        assert_eq!(sent.await.unwrap().code, 250);
    }
    // No exchanger has an address. Nobody is told of mail from nobody, so that nothing else is sent.
    // Not over the admin API: while a debug build parses all this, a handshake there may take longer than it is given.
    eventually("all domains to be asked about", async || {
        let page = relay.page("/metrics").await;
        let mut lines = page.lines();
        let failed =
            lines.find_map(|line| line.strip_prefix("postroad_relay_recipients_failed_total "));
        (failed?.parse::<usize>().ok()? >= DOMAINS).then_some(())
    })
    .await;
    let growth = relay.memory("VmHWM").saturating_sub(before);
    println!(
        "{DOMAINS} answers of 64 KiB: {} KiB more at most",
        growth >> 10
    );
    assert!(growth <= GROWTH_MAX, "{growth} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_to_domains_whose_aliases_go_in_a_circle_is_given_up() {
    let dns = NameServer::start().await;
    dns.alias("self.example", "self.example");
    dns.alias("one.example", "two.example");
    dns.alias("two.example", "one.example");
    dns.mx("host.example", 10, "one.example");
    let mut relay = Relay::new();
    relay.config.delivery.default_route = Target::Direct;
    relay.config.delivery.direct.nameservers = vec![dns.address];
    relay.start().await;
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    let to = ["b@self.example", "b@one.example", "b@host.example"];
    // Nobody is told of mail from nobody, so that nothing else fails.
    let sent = client.message("", &to, b"Subject: x\r\n\r\n");
    assert_eq!(sent.await.unwrap().code, 250);
    relay.drained().await;
    assert_eq!(relay.status().await.totals.failed, 3);
    let log = std::fs::read_to_string(relay.path("log")).unwrap();
    for reply in [
        "550 5.1.2 the domain self.example has neither",
        "550 5.1.2 the domain one.example has neither",
        "550 5.4.4 no MX host of host.example has an address",
    ] {
        assert!(log.contains(reply), "{reply} is not in\n{log}");
    }
}
