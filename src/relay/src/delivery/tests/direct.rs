//! Delivery to domains, each of which has an address of its own.

use std::sync::atomic::AtomicBool;

use postroad_config::Target;

use super::*;
use crate::dns::LookupError;
use crate::dns::fake::Zone;

const ROOM: u64 = 64 << 20;

pub(super) fn yes(_: &str, _: usize) -> Answer {
    Answer::Yes
}

pub(super) fn hang(_: &str, _: usize) -> Answer {
    Answer::Hang
}

pub(super) type Script = fn(&str, usize) -> Answer;

/// Where mail for `d0.example`, `d1.example` and so on goes.
pub(super) struct Domains {
    pub(super) rig: Rig,
    pub(super) sinks: Vec<Sink>,
    pub(super) delivery: Delivery,
}

impl Domains {
    /// `net` makes addresses that no other test uses.
    pub(super) async fn new(net: u8, scripts: &[Script]) -> Self {
        Self::within(ROOM, net, scripts).await
    }

    /// With so many bytes for content.
    pub(super) async fn within(room: u64, net: u8, scripts: &[Script]) -> Self {
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
        let rig = Rig::new(room);
        rig.change_delivery(|delivery| {
            delivery.default_route = Target::Direct;
            delivery.direct.port = sinks[0].port;
            delivery.direct.allowed_networks = vec!["127.0.0.0/8".parse().unwrap()];
        });
        let upstreams = SharedUpstreams::default();
        let delivery = Delivery::new(rig.context.clone(), upstreams, CancellationToken::new());
        let live = rig.context.live();
        delivery.configure(&live).await;
        let domains = Self {
            rig,
            sinks,
            delivery,
        };
        domains.find_by(zone);
        domains
    }

    /// These are the answers of the DNS from now on.
    fn find_by(&self, zone: Zone) {
        let live = self.rig.context.live();
        let opener = Opener::with_dns(&live.config, Arc::new(zone));
        let direct = live.config.delivery.direct.clone();
        *self.delivery.direct() = Some((Arc::new(opener), direct));
    }

    /// Accepts a message to recipients at these domains.
    pub(super) async fn accept(&self, domains: impl Iterator<Item = usize>) {
        let domains: Vec<_> = domains.collect();
        let mut message = self.rig.message(domains.len(), 0);
        for (recipient, domain) in message.envelope.recipients.iter_mut().zip(domains) {
            recipient.address = format!("r@d{domain}.example");
        }
        self.rig.accept(&message).await.unwrap();
    }

    pub(super) async fn run_until(self, mut condition: impl FnMut(&[Sink], &Rig) -> bool) -> Rig {
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
    let upstreams = domains.delivery.upstreams.clone();
    // The connection is given up: an hour is too long to keep it.
    let rig = domains
        .run_until(|sinks, rig| {
            assert!(sinks[0].mails() <= 1);
            let queue = &rig.context.queue;
            queue.totals().0.messages == 2 && queue.connections() == 0
        })
        .await;
    assert_eq!(rig.context.queue.open_domains().count(), 0);
    let top = upstreams.destinations(&rig.context.queue);
    assert_eq!(top[0].rate, Some(postroad_config::status::RateOf::Domain));
}

#[tokio::test]
async fn tls_that_is_required_from_now_on_is_required_of_open_connections() {
    let domains = Domains::new(37, &[yes as Script]).await;
    domains.accept([0].into_iter()).await;
    let Domains {
        rig,
        sinks,
        delivery,
    } = domains;
    let queue = &rig.context.queue;
    let changing = async {
        until(|| queue.totals().0.messages == 0 && queue.connections() == 1).await;
        rig.change_delivery(|delivery| {
            delivery.direct.tls = postroad_config::DirectTls::Required;
        });
        let mut message = rig.message(1, 0);
        message.envelope.recipients[0].address = "r@d0.example".into();
        rig.accept(&message).await.unwrap();
        until(|| queue.direct_status().failing == 1).await;
    };
    tokio::select! {
        () = delivery.run() => panic!("nothing stops it"),
        () = changing => {}
    }
    assert_eq!(sinks[0].mails(), 1, "in plaintext");
    let failure = queue.direct_status().failure.unwrap();
    assert_eq!(failure.reason, FailureReason::TlsFailed, "{failure:?}");
}

#[tokio::test]
async fn a_connection_that_was_being_opened_when_tls_became_required_takes_no_mail() {
    static GREETED: AtomicBool = AtomicBool::new(false);
    let slow = |line: &str, _| match line.starts_with("EHLO") {
        true => {
            GREETED.store(true, Ordering::SeqCst);
            Answer::Late(Duration::from_millis(100))
        }
        false => Answer::Yes,
    };
    let domains = Domains::new(40, &[slow as Script]).await;
    domains.accept([0].into_iter()).await;
    let mut changed = false;
    domains
        .run_until(|sinks, rig| {
            if !changed && GREETED.load(Ordering::SeqCst) {
                changed = true;
                rig.change_delivery(|delivery| {
                    delivery.direct.tls = postroad_config::DirectTls::Required;
                });
            }
            assert_eq!(sinks[0].mails(), 0, "in plaintext");
            rig.context.queue.direct_status().failing == 1
        })
        .await;
}

#[tokio::test]
async fn mail_is_not_failed_by_a_host_that_stands_in_for_one_whose_address_is_not_known_now() {
    let domains = Domains::new(38, &[yes as Script]).await;
    let zone = Zone::default()
        .mx("d0.example", 10, "first.example")
        .failing("first.example", LookupError::Temporary("SERVFAIL".into()))
        .mx("d0.example", 20, "mx0.example")
        .address("mx0.example", "127.0.38.1");
    domains.find_by(zone);
    // The sink offers no SMTPUTF8.
    let mut message = domains.rig.message(1, 0);
    message.envelope.recipients[0].address = "grüße@d0.example".into();
    domains.rig.accept(&message).await.unwrap();
    let rig = domains
        .run_until(|_, rig| {
            assert_eq!(rig.context.metrics.failed.get(), 0);
            rig.context.queue.totals().0.deferred == 1
        })
        .await;
    assert_eq!(rig.context.queue.totals().0.messages, 1);
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
