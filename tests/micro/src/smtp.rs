//! The protocol: what is done to every octet that comes in and goes out.

use anyhow::{Context as _, ensure};
use bytes::{Bytes, BytesMut};
use postroad_smtp::client::{Client, ClientConfig, ClientStep, ClientTls, Transaction};
use postroad_smtp::server::{Request, ServerConfig, Session, Step, Verdict};

use crate::HotPath;

/// Octets that a driver reads at a time.
const READ: usize = 16 << 10;

/// Octets of the long content.
const LONG: usize = 100 << 10;

pub(crate) fn hot_paths() -> Vec<HotPath> {
    vec![
        HotPath {
            name: "lines",
            unit: "empty message to two",
            times: 1_000,
            repeat: lines,
        },
        HotPath {
            name: "receive",
            unit: "message of 4 KiB",
            times: 500,
            repeat: |times| receive(times, &content(4096, false)),
        },
        HotPath {
            name: "unstuff",
            unit: "message of 100 KiB",
            times: 50,
            repeat: |times| receive(times, &content(LONG, false)),
        },
        HotPath {
            name: "unstuff-dots",
            unit: "message of 100 KiB of dots",
            times: 50,
            repeat: |times| receive(times, &content(LONG, true)),
        },
        HotPath {
            name: "send",
            unit: "message of 4 KiB",
            times: 500,
            repeat: |times| send(times, &content(4096, false)),
        },
        HotPath {
            name: "stuff",
            unit: "message of 100 KiB",
            times: 50,
            repeat: |times| send(times, &content(LONG, false)),
        },
        HotPath {
            name: "stuff-dots",
            unit: "message of 100 KiB of dots",
            times: 50,
            repeat: |times| send(times, &content(LONG, true)),
        },
    ]
}

/// Lines of 78 octets; each begins with a dot, or none does.
fn content(octets: usize, dots: bool) -> Vec<u8> {
    let first = if dots { b'.' } else { b'x' };
    let mut line = [b'x'; 78];
    line[0] = first;
    line[76..].copy_from_slice(b"\r\n");
    line.iter()
        .copied()
        .cycle()
        .take(octets / 78 * 78)
        .collect()
}

/// As a client puts it on the wire.
fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(content.len() * 2);
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

fn session() -> anyhow::Result<Session> {
    let mut session = Session::new(ServerConfig::new("mail.example.com"));
    ensure!(feed(&mut session, b"EHLO client.example.com\r\n") == 0);
    Ok(session)
}

/// Feeds octets as they would be read, accepting everything; how many messages came of it.
fn feed(session: &mut Session, octets: &[u8]) -> usize {
    let (mut input, mut messages) = (BytesMut::with_capacity(READ), 0);
    for piece in octets.chunks(READ) {
        input.extend_from_slice(piece);
        while let Step::Request(request) = session.step(&mut input) {
            messages += usize::from(matches!(request, Request::Message(_)));
            session.answer(Verdict::Accept);
        }
        session.output().clear();
    }
    messages
}

/// Four commands in one read: what lines cost, with the parsing of paths.
fn lines(times: usize) -> anyhow::Result<()> {
    const TRANSACTION: &[u8] = b"MAIL FROM:<sender@example.com> SIZE=4096 BODY=8BITMIME\r\n\
        RCPT TO:<first@example.net>\r\nRCPT TO:<second@example.org>\r\nDATA\r\n";
    let mut session = session()?;
    for _ in 0..times {
        feed(&mut session, TRANSACTION);
        ensure!(feed(&mut session, b"\r\n.\r\n") == 1);
    }
    Ok(())
}

fn receive(times: usize, content: &[u8]) -> anyhow::Result<()> {
    const ENVELOPE: &[u8] =
        b"MAIL FROM:<sender@example.com>\r\nRCPT TO:<recipient@example.net>\r\nDATA\r\n";
    let wire = stuffed(content);
    let mut session = session()?;
    for _ in 0..times {
        feed(&mut session, ENVELOPE);
        ensure!(feed(&mut session, &wire) == 1, "no message");
    }
    Ok(())
}

fn send(times: usize, content: &[u8]) -> anyhow::Result<()> {
    let mut client = Client::new(ClientConfig {
        ehlo_name: "relay.example.com".to_owned(),
        tls: ClientTls::None,
        login: None,
    });
    let mut input = BytesMut::from("220 x\r\n");
    ensure!(matches!(client.step(&mut input), ClientStep::NeedInput));
    input.extend_from_slice(b"250-x\r\n250-PIPELINING\r\n250 8BITMIME\r\n");
    ensure!(matches!(client.step(&mut input), ClientStep::Ready));
    let content = Bytes::copy_from_slice(content);
    for _ in 0..times {
        let recipient = "recipient@example.net".parse().ok().context("a path")?;
        let sender = "sender@example.com".parse().ok().context("a path")?;
        client.send(Transaction {
            sender,
            recipients: vec![postroad_smtp::ForwardPath::into(recipient)],
            content: vec![content.clone()],
            ..Transaction::default()
        });
        client.output().clear();
        input.extend_from_slice(b"250 ok\r\n250 ok\r\n354 go\r\n");
        while let ClientStep::Flush = client.step(&mut input) {
            client.output().clear();
        }
        client.output().clear();
        input.extend_from_slice(b"250 ok\r\n");
        ensure!(matches!(client.step(&mut input), ClientStep::Finished(_)));
        ensure!(matches!(client.step(&mut input), ClientStep::Ready));
    }
    Ok(())
}
