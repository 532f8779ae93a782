//! Mail that goes straight to the mail exchangers of its recipients, found in a DNS that the test writes.

use std::sync::Arc;

use harness::client::Client;
use harness::dns::{NameServer, Trouble};
use harness::eventually;
use harness::exchanger::{Exchanger, Manner, Taken};
use harness::pki::Authority;
use harness::relay::{HOSTNAME, Relay};
use postroad_config::status::FailureReason;
use postroad_config::{IpFamily, ListenerName, Target};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

const SENDER: &str = "a@example.com";

/// A relay, its name server, and the exchanger of the sender's own domain. Exchangers have addresses of their own and share the
/// port of the relay's own listener at 127.0.0.1.
struct World {
    relay: Relay,
    dns: NameServer,
    sender: Exchanger,
    port: u16,
}

impl World {
    async fn start() -> Self {
        let mut relay = Relay::new();
        let port = relay.port(ListenerName::Smtp);
        let dns = NameServer::start().await;
        dns.mx("example.com", 10, "mx.example.com");
        dns.address("mx.example.com", "127.0.0.9");
        let sender = Exchanger::start("127.0.0.9", port, Manner::Plain).await;
        let delivery = &mut relay.config.delivery;
        delivery.retry.initial_seconds = 1;
        delivery.default_route = Target::Direct;
        delivery.direct.nameservers = vec![dns.address];
        delivery.direct.port = port;
        delivery.direct.allowed_networks = ["127.0.0.0/8", "::1/128"]
            .map(|network| network.parse().unwrap())
            .into();
        relay.start().await;
        Self {
            relay,
            dns,
            sender,
            port,
        }
    }

    /// An exchanger that takes mail for a domain, found by an MX record.
    async fn exchanger(&self, domain: &str, address: &str, manner: Manner) -> Exchanger {
        let host = format!("mx.{domain}");
        self.dns.mx(domain, 10, &host);
        self.dns.address(&host, address);
        Exchanger::start(address, self.port, manner).await
    }

    async fn send(&self, recipients: &[&str]) {
        let mut client = self.client().await;
        let reply = client
            .message(SENDER, recipients, b"Subject: x\r\n\r\nhello\r\n")
            .await
            .unwrap();
        assert_eq!(reply.code, 250, "{reply:?}");
    }

    async fn client(&self) -> Client {
        self.relay.login(ListenerName::Submission).await.unwrap()
    }

    /// The bounce that the sender gets for a recipient.
    async fn bounce(&self, recipient: &str) -> String {
        eventually(&format!("the bounce for {recipient}"), async || {
            let taken = self.sender.taken();
            let mut texts = taken.iter().map(|taken| taken.lines.join("\n"));
            texts.find(|text| text.contains(&format!("Final-Recipient: rfc822; {recipient}")))
        })
        .await
    }
}

async fn taken(exchanger: &Exchanger) -> Taken {
    eventually("the mail", async || exchanger.taken().into_iter().next()).await
}

/// The TLS side of an exchanger, with a certificate that nobody has reason to trust.
fn certificate(name: &str) -> Arc<ServerConfig> {
    let (leaf, key) = Authority::default().leaf(name, ExtendedKeyUsagePurpose::ServerAuth);
    let chain = vec![CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_exchanger_takes_what_the_first_does_not() {
    let world = World::start().await;
    // Nobody listens at the address of the first.
    world.dns.mx("example.org", 10, "first.example.net");
    world.dns.mx("example.org", 20, "second.example.net");
    world.dns.address("first.example.net", "127.0.0.2");
    world.dns.address("second.example.net", "127.0.0.3");
    let second = Exchanger::start("127.0.0.3", world.port, Manner::Plain).await;
    world.send(&["b@example.org"]).await;
    let taken = taken(&second).await;
    assert!(
        taken.mail.starts_with("MAIL FROM:<a@example.com>"),
        "{taken:?}"
    );
    assert_eq!(taken.recipients, ["RCPT TO:<b@example.org>"]);
    assert!(taken.lines.contains(&"hello".to_owned()), "{taken:?}");
    world.relay.drained().await;
    let totals = world.relay.status().await.totals;
    assert_eq!(
        (totals.delivered, totals.deferred, totals.failed),
        (1, 0, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_dns_says_for_good_is_returned() {
    let world = World::start().await;
    world.dns.mx("null.example.org", 0, ".");
    world.dns.mx("lost.example.org", 10, "gone.example.net");
    world.dns.mx("name.example.org", 10, HOSTNAME);
    world.dns.mx("address.example.org", 10, "self.example.net");
    // The relay listens there, at the port of exchangers.
    world.dns.address("self.example.net", "127.0.0.1");
    let named = world
        .exchanger("replica.example.org", "127.0.0.2", Manner::Named(HOSTNAME))
        .await;
    let table = [
        ("b@gone.example.org", "550 5.1.2"),
        ("b@null.example.org", "556 5.1.10"),
        ("b@lost.example.org", "550 5.4.4"),
        ("b@name.example.org", "554 5.4.6"),
        ("b@address.example.org", "554 5.4.6"),
        ("b@replica.example.org", "554 5.4.6"),
    ];
    for (recipient, expected) in table {
        world.send(&[recipient]).await;
        let bounce = world.bounce(recipient).await;
        assert!(bounce.contains(expected), "{recipient}: {bounce}");
    }
    world.relay.drained().await;
    assert!(named.taken().is_empty());
    assert_eq!(world.relay.status().await.totals.failed, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_waits_while_the_dns_is_broken_and_goes_when_it_is_mended() {
    let world = World::start().await;
    let exchanger = world
        .exchanger("example.org", "127.0.0.2", Manner::Plain)
        .await;
    world.dns.trouble("example.org", Some(Trouble::ServFail));
    world.send(&["b@example.org"]).await;
    let status = eventually("the failure in the status", async || {
        let status = world.relay.status().await;
        let failing = |one: &postroad_config::status::DestinationStatus| one.failing.is_some();
        status
            .queue
            .destinations
            .iter()
            .any(failing)
            .then_some(status)
    })
    .await;
    let destination = &status.queue.destinations[0];
    assert_eq!(
        (&*destination.destination, destination.messages),
        ("example.org", 1)
    );
    let failing = destination.failing.clone().unwrap();
    assert_eq!(
        failing.reason,
        FailureReason::NameServerFailed,
        "{failing:?}"
    );
    assert_eq!((status.queue.messages, status.totals.deferred), (1, 0));
    world.dns.trouble("example.org", None);
    taken(&exchanger).await;
    world.relay.drained().await;
    assert_eq!(world.relay.status().await.totals.failed, 0);
    assert!(world.sender.taken().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_for_a_private_network_waits_and_the_status_names_the_field() {
    let world = World::start().await;
    world.dns.mx("example.org", 10, "inside.example.net");
    world.dns.address("inside.example.net", "10.1.2.3");
    // The relay allows loopback networks, and this one only if it were named.
    world.send(&["b@example.org"]).await;
    let failing = eventually("the failure in the status", async || {
        let destinations = world.relay.status().await.queue.destinations;
        destinations.into_iter().find_map(|one| one.failing)
    })
    .await;
    assert_eq!(
        failing.reason,
        FailureReason::NetworkNotAllowed,
        "{failing:?}"
    );
    let field = "delivery.direct.allowedNetworks";
    assert!(failing.message.contains(field), "{failing:?}");
    assert!(!failing.message.contains("10.1.2.3"), "{failing:?}");
    assert_eq!(world.relay.status().await.totals.failed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_domains_without_mx_and_hosts_without_ipv4_are_reached() {
    let world = World::start().await;
    let target = world
        .exchanger("target.example.org", "127.0.0.2", Manner::Plain)
        .await;
    world.dns.alias("alias.example.org", "target.example.org");
    world.dns.address("bare.example.org", "127.0.0.3");
    let bare = Exchanger::start("127.0.0.3", world.port, Manner::Plain).await;
    let six = world
        .exchanger("six.example.org", "::1", Manner::Plain)
        .await;
    for (recipient, exchanger) in [
        ("b@alias.example.org", &target),
        ("b@bare.example.org", &bare),
        ("b@six.example.org", &six),
    ] {
        world.send(&[recipient]).await;
        let expected = [format!("RCPT TO:<{recipient}>")];
        assert_eq!(taken(exchanger).await.recipients, expected);
    }
    assert_eq!(
        world.relay.config.delivery.direct.families,
        [IpFamily::Ipv4, IpFamily::Ipv6]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_used_where_it_works() {
    let world = World::start().await;
    let manner = Manner::Secure(certificate("another.example.net"));
    let secure = world
        .exchanger("secure.example.org", "127.0.0.2", manner)
        .await;
    let broken = world
        .exchanger("broken.example.org", "127.0.0.3", Manner::BrokenTls)
        .await;
    world.send(&["b@secure.example.org"]).await;
    world.send(&["b@broken.example.org"]).await;
    assert!(taken(&secure).await.secure);
    assert!(!taken(&broken).await.secure);
    assert_eq!(
        broken.connections(),
        2,
        "one for the handshake, one without"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_requiretls_goes_protected_or_comes_back() {
    let world = World::start().await;
    let plain = world
        .exchanger("plain.example.org", "127.0.0.2", Manner::Plain)
        .await;
    // No MX record stands between: the name in the certificate would be the recipient's own.
    world.dns.address("bare.example.org", "127.0.0.3");
    let bare = Exchanger::start("127.0.0.3", world.port, Manner::Plain).await;
    for recipient in ["b@plain.example.org", "b@bare.example.org"] {
        let mut client = world.client().await;
        for (command, code) in [
            ("MAIL FROM:<a@example.com> REQUIRETLS".to_owned(), 250),
            (format!("RCPT TO:<{recipient}>"), 250),
            ("DATA".to_owned(), 354),
            ("Subject: secret\r\n\r\nhush\r\n.".to_owned(), 250),
        ] {
            let reply = client.command(&command).await.unwrap();
            assert_eq!(reply.code, code, "{command}: {reply:?}");
        }
        let bounce = world.bounce(recipient).await;
        assert!(bounce.contains("550 5.7.30"), "{recipient}: {bounce}");
        assert!(!bounce.contains("hush"), "{bounce}");
    }
    assert!(plain.taken().is_empty() && bare.taken().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_to_three_domains_is_three_transactions() {
    let world = World::start().await;
    let mut exchangers = Vec::new();
    for (number, address) in [(1, "127.0.0.2"), (2, "127.0.0.3"), (3, "127.0.0.4")] {
        let domain = format!("d{number}.example.org");
        exchangers.push(world.exchanger(&domain, address, Manner::Plain).await);
    }
    let recipients = [
        "a@d1.example.org",
        "a@d2.example.org",
        "b@d1.example.org",
        "a@d3.example.org",
    ];
    world.send(&recipients).await;
    world.relay.drained().await;
    let expected = [
        vec!["RCPT TO:<a@d1.example.org>", "RCPT TO:<b@d1.example.org>"],
        vec!["RCPT TO:<a@d2.example.org>"],
        vec!["RCPT TO:<a@d3.example.org>"],
    ];
    for (exchanger, expected) in exchangers.iter().zip(expected) {
        let taken = exchanger.taken();
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].recipients, expected);
    }
    assert_eq!(world.relay.status().await.totals.delivered, 4);
}
