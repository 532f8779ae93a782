//! Delivery to domains, each of which has an address of its own.

use postroad_config::Target;

use super::*;
use crate::dns::fake::Zone;

const ROOM: u64 = 64 << 20;

fn yes(_: &str, _: usize) -> Answer {
    Answer::Yes
}

fn hang(_: &str, _: usize) -> Answer {
    Answer::Hang
}

type Script = fn(&str, usize) -> Answer;

/// Where mail for `d0.example`, `d1.example` and so on goes.
struct Domains {
    rig: Rig,
    sinks: Vec<Sink>,
    delivery: Delivery,
}

impl Domains {
    /// `net` makes addresses that no other test uses.
    async fn new(net: u8, scripts: &[Script]) -> Self {
        let mut sinks: Vec<Sink> = Vec::new();
        let mut zone = Zone::default();
        for (number, script) in scripts.iter().enumerate() {
            let address = format!("127.0.{net}.{}", number + 1);
            let port = sinks.first().map_or(0, |first| first.port);
            sinks.push(Sink::start_at(&address, port, *script).await);
            let host = format!("mx{number}.example");
            zone = zone.mx(&format!("d{number}.example"), 10, &host);
            zone = zone.address(&host, &address);
        }
        let rig = Rig::new(ROOM);
        rig.change_delivery(|delivery| {
            delivery.default_route = Target::Direct;
            delivery.direct.port = sinks[0].port;
            delivery.direct.allowed_networks = vec!["127.0.0.0/8".parse().unwrap()];
        });
        let upstreams = SharedUpstreams::default();
        let delivery = Delivery::new(rig.context.clone(), upstreams, CancellationToken::new());
        let live = rig.context.live();
        delivery.configure(&live).await;
        let opener = Opener::with_dns(&live.config, Arc::new(zone));
        let direct = live.config.delivery.direct.clone();
        *delivery.direct() = Some((Arc::new(opener), direct));
        Self {
            rig,
            sinks,
            delivery,
        }
    }

    /// Accepts a message to recipients at these domains.
    async fn accept(&self, domains: impl Iterator<Item = usize>) {
        let domains: Vec<_> = domains.collect();
        let mut message = self.rig.message(domains.len(), 0);
        for (recipient, domain) in message.envelope.recipients.iter_mut().zip(domains) {
            recipient.address = format!("r@d{domain}.example");
        }
        self.rig.accept(&message).await.unwrap();
    }

    async fn run_until(self, mut condition: impl FnMut(&[Sink], &Rig) -> bool) -> Rig {
        let (rig, sinks) = (self.rig, self.sinks);
        tokio::select! {
            () = self.delivery.run() => panic!("nothing stops it"),
            () = until(|| condition(&sinks, &rig)) => {}
        }
        rig
    }
}

#[tokio::test]
async fn one_message_to_a_thousand_recipients_at_ten_domains_is_ten_transactions() {
    let domains = Domains::new(31, &[yes as Script; 10]).await;
    domains.accept((0..1000).map(|index| index % 10)).await;
    let rig = domains
        .run_until(|sinks, rig| {
            assert!(sinks.iter().all(|sink| sink.mails() <= 1));
            rig.context.queue.totals().0.messages == 0
        })
        .await;
    assert_eq!(rig.context.metrics.delivered.get(), 1000);
}

#[tokio::test]
async fn a_domain_that_hangs_slows_no_other() {
    let domains = Domains::new(32, &[hang as Script, yes]).await;
    for _ in 0..5 {
        domains.accept([0].into_iter()).await;
    }
    for _ in 0..50 {
        domains.accept([1].into_iter()).await;
    }
    domains.accept([0, 1].into_iter()).await;
    let rig = domains
        .run_until(|sinks, rig| {
            sinks[1].mails() == 51 && rig.context.queue.totals().0.messages == 6
        })
        .await;
    assert_eq!(rig.context.queue.totals().0.deferred, 0);
}

#[tokio::test]
async fn a_domain_that_fails_is_held_and_shows_and_no_message_is_charged() {
    let close = |line: &str, _| match line.starts_with("MAIL") {
        true => Answer::Close,
        false => Answer::Yes,
    };
    let domains = Domains::new(33, &[close, yes]).await;
    for _ in 0..3 {
        domains.accept([0].into_iter()).await;
    }
    domains.accept([1].into_iter()).await;
    let upstreams = domains.delivery.upstreams.clone();
    let status = |rig: &Rig| rig.context.queue.direct_status();
    let rig = domains
        .run_until(|_, rig| {
            let direct = status(rig);
            let left = rig.context.queue.totals().0.messages;
            (direct.working, direct.failing, left) == (1, 1, 3)
        })
        .await;
    let top = upstreams.destinations(&rig.context.queue);
    assert_eq!(top.len(), 1, "{top:?}");
    let held = &top[0];
    assert_eq!(
        (held.destination.as_str(), held.messages, held.deferred),
        ("d0.example", 3, 0)
    );
    let reason = held.failing.as_ref().map(|failure| failure.reason);
    assert_eq!(reason, Some(FailureReason::ProtocolError));
}

#[tokio::test]
async fn a_rate_lets_one_message_go_and_the_rest_wait() {
    let domains = Domains::new(34, &[yes]).await;
    domains.rig.change_delivery(|delivery| {
        delivery.direct.limits.rate = Some(postroad_config::Rate {
            messages: 1,
            per_seconds: 3600,
        });
    });
    for _ in 0..3 {
        domains.accept([0].into_iter()).await;
    }
    // The connection is given up: an hour is too long to keep it.
    let rig = domains
        .run_until(|sinks, rig| {
            assert!(sinks[0].mails() <= 1);
            let queue = &rig.context.queue;
            queue.totals().0.messages == 2 && queue.connections() == 0
        })
        .await;
    assert_eq!(rig.context.queue.open_domains().count(), 0);
}

#[tokio::test]
async fn recipients_of_a_domain_that_does_not_exist_fail_without_a_connection() {
    let domains = Domains::new(35, &[yes]).await;
    domains.accept([0, 9].into_iter()).await;
    let rig = domains
        .run_until(|sinks, rig| sinks[0].mails() == 1 && rig.context.queue.totals().0.messages == 0)
        .await;
    // The bounce goes to a domain that does not exist either, and is not answered.
    let metrics = &rig.context.metrics;
    assert_eq!((metrics.failed.get(), metrics.bounced.get()), (2, 1));
}
