//! Real mail servers on the other side: Postfix, Exim and OpenSMTPD as next hop and as client.
//!
//! Each sends all it gets on to one port, over TLS where it can. What arrives behind it must be, byte for byte, what was handed in before it.

use std::collections::BTreeSet;

use harness::client::Client;
use harness::eventually;
use harness::hop::{Hop, Taken};
use harness::peer::{HOSTNAME, Peer};
use harness::relay::Relay;
use postroad_config::{ListenerName, UpstreamTls};

const SENDER: &str = "a@example.com";

/// What is refused for its size, by whoever has the lower limit.
const BYTES_MAX: u64 = 1_000_000;
const TOO_MUCH: usize = 1_200_000;

const RECIPIENTS: usize = 100;

/// What a server does that others do not.
#[derive(Clone, Copy)]
struct Server {
    name: &'static str,
    /// The longest line that is tried, in octets without CRLF.
    line_max: usize,
    /// How our relay speaks to it.
    tls: UpstreamTls,
    /// What in its log says that it could not report, to whom its own report was too large. Otherwise it does report.
    unreported: Option<&'static str>,
    /// How it names in Received the way on which our mail comes.
    secure: &'static str,
}

const POSTFIX: Server = Server {
    name: "postfix",
    line_max: 100_000,
    tls: UpstreamTls::Required,
    unreported: None,
    secure: "with ESMTPS",
};
const EXIM: Server = Server {
    name: "exim",
    line_max: 100_000,
    tls: UpstreamTls::Required,
    unreported: None,
    secure: "with esmtps",
};
const OPENSMTPD: Server = Server {
    name: "opensmtpd",
    line_max: 998,
    // Debian 12's fails in every handshake that it answers ("EVP lib"), with an elliptic key and with an RSA one.
    tls: UpstreamTls::Disabled,
    // It returns all of what was too large, and gives up when that is too large in its turn.
    unreported: Some("from=<> to=<a@example.com>"),
    secure: "with ESMTP",
};

impl Server {
    async fn start(&self, next: u16, bytes_max: u64) -> Peer {
        Peer::start(self.name, next, bytes_max).await
    }

    /// Messages that try everything that could be lost on the way; each has its name as subject, and begins with that.
    fn messages(&self) -> Vec<Vec<u8>> {
        let line = |octet: u8| [vec![octet; self.line_max], b"\r\n".to_vec()].concat();
        let bodies: [(&str, Vec<u8>); 8] = [
            (
                "dots",
                b".\r\n..\r\n.leading\r\nmiddle.\r\n...\r\n".to_vec(),
            ),
            ("utf-8", "gr\u{fc}\u{df}e \u{1f40e}\r\n".as_bytes().to_vec()),
            ("latin-1", b"\xe4\xf6\xfc\xff\x80\r\n".to_vec()),
            ("controls", b"a\tb\x01\x7f\r\n".to_vec()),
            ("empty lines", b"\r\n\r\n\r\nx\r\n\r\n".to_vec()),
            ("long lines", [line(b'x'), line(b'.')].concat()),
            ("from", b"From nobody\r\n>From somebody\r\n".to_vec()),
            ("large", b"0123456789abcdef\r\n".repeat(40_000)),
        ];
        let message = |(name, body): &(&str, Vec<u8>)| {
            let header =
                format!("Subject: {name}\r\nFrom: {SENDER}\r\nTo: b@example.org\r\n{FIXED}\r\n");
            [header.as_bytes(), body].concat()
        };
        bodies.iter().map(message).collect()
    }
}

/// What a server might add if it were missing.
const FIXED: &str = "Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n\
    MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n";

/// The recipients of message number so-and-so: one, or many.
fn recipients(number: usize) -> BTreeSet<String> {
    match number {
        0 => (0..RECIPIENTS)
            .map(|n| format!("r{n}@d{}.example.org", n % 7))
            .collect(),
        _ => BTreeSet::from([format!("message{number}@example.org")]),
    }
}

async fn next_hop() -> Hop {
    Hop::start(&["8BITMIME", "SIZE 50000000"], |_, _| None).await
}

/// Hands in each message, and one that is too large for whoever has the lower limit.
async fn hand_in(client: &mut Client, messages: &[Vec<u8>]) {
    for (number, content) in messages.iter().enumerate() {
        let to = recipients(number);
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let reply = client.message(SENDER, &to, content).await.unwrap();
        assert_eq!(reply.code, 250, "{number}: {reply:?}");
    }
    let content = [
        b"Subject: too large\r\n\r\n".to_vec(),
        b"x\r\n".repeat(TOO_MUCH / 3),
    ]
    .concat();
    let reply = client
        .message(SENDER, &["big@example.org"], &content)
        .await
        .unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
}

/// Every recipient got the content as it was handed in, once.
async fn arrived(hop: &Hop, messages: &[Vec<u8>], secure: &str) {
    for (number, content) in messages.iter().enumerate() {
        let expected = recipients(number);
        let copies: Vec<Taken> = eventually(&format!("message {number}"), async || {
            let copies = hop.taken().into_iter();
            let copies: Vec<Taken> = copies.filter(|one| is_for(one, &expected)).collect();
            let reached: usize = copies.iter().map(|one| one.recipients.len()).sum();
            (reached >= expected.len()).then_some(copies)
        })
        .await;
        let reached: Vec<String> = copies.iter().flat_map(addresses).collect();
        assert_eq!(reached.len(), expected.len(), "nobody twice: {reached:?}");
        assert_eq!(BTreeSet::from_iter(reached), expected);
        for copy in copies {
            let text = String::from_utf8_lossy(&copy.content[..copy.content.len().min(3000)]);
            assert!(
                copy.content.ends_with(content),
                "{number} was changed: {text}"
            );
            assert!(text.contains(secure), "no TLS: {text}");
        }
    }
}

/// The sender is told of what was too large.
async fn reported(hop: &Hop) {
    let report = hop.report().await;
    assert_eq!(addresses(&report), [SENDER]);
    assert!(
        report.text().contains("big@example.org"),
        "{}",
        report.text()
    );
    assert_eq!(hop.reports().len(), 1);
}

fn addresses(taken: &Taken) -> Vec<String> {
    let commands = taken.recipients.iter();
    let address = |command: &String| command.split(['<', '>']).nth(1).unwrap().to_owned();
    commands.map(address).collect()
}

fn is_for(taken: &Taken, recipients: &BTreeSet<String>) -> bool {
    addresses(taken).iter().any(|one| recipients.contains(one))
}

/// Client, our relay, the server, a hop that keeps what it gets.
async fn takes_our_mail(server: Server) {
    let hop = next_hop().await;
    let peer = server.start(hop.port, BYTES_MAX).await;
    let mut relay = Relay::for_port(peer.port);
    let upstream = &mut relay.config.delivery.upstreams[0];
    upstream.host = HOSTNAME.into();
    upstream.tls = server.tls;
    upstream.ca = Some(peer.ca());
    relay.start().await;
    let messages = server.messages();
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    hand_in(&mut client, &messages).await;
    relay.drained().await;
    arrived(&hop, &messages, server.secure).await;
    reported(&hop).await;
    let totals = relay.status().await.totals;
    let delivered = (RECIPIENTS + messages.len()) as u64;
    assert_eq!(
        (totals.delivered, totals.failed, totals.deferred),
        (delivered, 1, 0)
    );
}

/// Client, the server, our relay, a hop that keeps what it gets.
async fn sends_through_us(server: Server) {
    let hop = next_hop().await;
    let mut relay = Relay::for_port(hop.port);
    relay.config.access.trusted_networks = vec!["127.0.0.0/8".parse().unwrap()];
    relay.config.limits.message_bytes = BYTES_MAX;
    relay.start().await;
    let peer = server
        .start(relay.port(ListenerName::Smtp), 50_000_000)
        .await;
    let messages = server.messages();
    let (mut client, _) = Client::connect(peer.port).await.unwrap();
    client.command("EHLO client.example.net").await.unwrap();
    hand_in(&mut client, &messages).await;
    arrived(
        &hop,
        &messages,
        "by mail.example.com (Postroad) with ESMTPS id ",
    )
    .await;
    match server.unreported {
        None => reported(&hop).await,
        Some(text) => {
            eventually(text, async || peer.output().contains(text).then_some(())).await;
            assert_eq!(hop.reports(), []);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_takes_our_mail() {
    takes_our_mail(POSTFIX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_sends_through_us() {
    sends_through_us(POSTFIX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exim_takes_our_mail() {
    takes_our_mail(EXIM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exim_sends_through_us() {
    sends_through_us(EXIM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opensmtpd_takes_our_mail() {
    takes_our_mail(OPENSMTPD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opensmtpd_sends_through_us() {
    sends_through_us(OPENSMTPD).await;
}
