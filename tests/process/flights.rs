//! PIPELINING and CHUNKING together: a whole transaction in one flight, to the relay and from it.

use std::sync::{Arc, Mutex};

use harness::client::Client;
use harness::eventually;
use harness::hop::{Act, Hop, Taken};
use harness::relay::Relay;
use postroad_config::ListenerName;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

const HEADERS: &str = "From: <a@example.com>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n\r\n";

/// Messages that are sent over one connection: the first shows the client that replies can be counted, the others go in one flight.
const MESSAGES: usize = 6;

/// A relay that trusts this machine, with one connection to a next hop.
async fn relay(port: u16) -> Relay {
    let mut relay = Relay::for_port(port);
    let loopback = "127.0.0.1/32".parse().unwrap();
    relay.config.access.trusted_networks.push(loopback);
    relay.config.delivery.upstreams[0].limits.connections = 1;
    relay.start().await;
    relay
}

/// Content with everything that a line based protocol could trip over.
fn binary() -> Vec<u8> {
    let mut content = HEADERS.as_bytes().to_vec();
    content.extend(0..=u8::MAX);
    content.extend_from_slice(b"\r\n.\r\n\n.\n\r.\r\r\nQUIT\r\nBDAT 3 LAST\r\n.");
    content
}

/// What a hop took is what was sent, behind what the relay writes in front.
fn is_whole(taken: &Taken, sent: &[u8]) -> bool {
    let Some(front) = taken.content.strip_suffix(sent) else {
        return false;
    };
    front.starts_with(b"Received: ") && !front.windows(4).any(|four| four == b"\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_transactions_with_chunks_in_one_write_arrive_octet_for_octet() {
    let hop = Hop::start(
        &["8BITMIME", "CHUNKING", "BINARYMIME", "PIPELINING"],
        |_, _| None,
    )
    .await;
    let relay = relay(hop.port).await;
    let port = relay.port(ListenerName::Smtp);
    let (mut client, _) = Client::connect(port).await.unwrap();
    let offer = client.command("EHLO client.example.net").await.unwrap();
    for keyword in ["PIPELINING", "CHUNKING", "BINARYMIME"] {
        assert!(offer.text.contains(keyword), "{offer:?}");
    }
    let (first, second) = (binary(), [HEADERS, ".\r\n..\r\nDATA\r\n"].concat());
    let (head, tail) = second.as_bytes().split_at(HEADERS.len() + 1);
    let mut flight = format!(
        "MAIL FROM:<a@example.com> BODY=BINARYMIME\r\nRCPT TO:<b@example.org>\r\nBDAT {} LAST\r\n",
        first.len()
    )
    .into_bytes();
    flight.extend_from_slice(&first);
    let next =
        "MAIL FROM:<a@example.com>\r\nRCPT TO:<c@example.org>\r\nRCPT TO:<d@example.org>\r\n";
    flight.extend_from_slice(format!("{next}BDAT {}\r\n", head.len()).as_bytes());
    flight.extend_from_slice(head);
    flight.extend_from_slice(format!("BDAT {} LAST\r\n", tail.len()).as_bytes());
    flight.extend_from_slice(tail);
    flight.extend_from_slice(b"NOOP\r\nQUIT\r\n");
    client.send(&flight).await.unwrap();
    let mut codes = Vec::new();
    while let Ok(reply) = client.reply().await {
        codes.push(reply.code);
    }
    // MAIL, RCPT, BDAT; MAIL, twice RCPT, twice BDAT; NOOP, QUIT.
    assert_eq!(codes, [250, 250, 250, 250, 250, 250, 250, 250, 250, 221]);
    relay.drained().await;
    let taken = hop.taken();
    let of = |recipient: &str| {
        let begins = format!("RCPT TO:<{recipient}@");
        let mut found = taken.iter();
        found
            .find(|one| one.recipients[0].starts_with(&begins))
            .unwrap()
    };
    assert_eq!(taken.len(), 2);
    assert!(is_whole(of("b"), &first), "{:?}", of("b").text());
    assert!(is_whole(of("c"), second.as_bytes()), "{:?}", of("c").text());
    assert_eq!(of("c").recipients.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_sender_or_nobody_left_does_not_make_content_into_commands() {
    let hop = Hop::start(&["8BITMIME"], |_, _| None).await;
    let relay = relay(hop.port).await;
    let port = relay.port(ListenerName::Smtp);
    let smuggled =
        "MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nX: y\r\n\r\n.\r\n";
    let bdat = format!("BDAT {} LAST\r\n{smuggled}", smuggled.len());
    for (envelope, expected) in [
        (
            "MAIL FROM:<a@example.com> SIZE=999999999999\r\nRCPT TO:<b@example.org>\r\n",
            [552, 503, 503],
        ),
        (
            "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@@example.org>\r\n",
            [250, 501, 554],
        ),
    ] {
        let (mut client, _) = Client::connect(port).await.unwrap();
        client.command("EHLO client.example.net").await.unwrap();
        let flight = format!("{envelope}{bdat}QUIT\r\n");
        client.send(flight.as_bytes()).await.unwrap();
        let mut codes = Vec::new();
        while let Ok(reply) = client.reply().await {
            codes.push(reply.code);
        }
        assert_eq!(codes[..3], expected, "{envelope}");
        assert_eq!(codes[3..], [221], "{envelope}");
    }
    relay.drained().await;
    assert_eq!(hop.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_sends_whole_transactions_in_one_flight_and_waits_for_no_reply() {
    let server = Withholding::start().await;
    let relay = relay(server.port).await;
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    let contents: Vec<Vec<u8>> = (0..MESSAGES)
        .map(|number| format!("{HEADERS}{number}\r\n.\r\n..\r\n").into_bytes())
        .collect();
    for content in &contents {
        let to = ["b@example.org", "refused@example.org", "c@example.org"];
        let sent = client.message("a@example.com", &to, content).await;
        assert_eq!(sent.unwrap().code, 250);
    }
    // A report for each, because one recipient of each is refused.
    let taken = eventually("the mail and the reports", async || {
        let taken = server.taken.lock().unwrap().clone();
        (taken.len() == 2 * MESSAGES).then_some(taken)
    })
    .await;
    let (reports, mail): (Vec<_>, Vec<_>) = taken.iter().partition(|one| one.0.is_report());
    assert_eq!((reports.len(), mail.len()), (MESSAGES, MESSAGES));
    assert!(mail.iter().any(|one| one.1 == Way::OneFlight));
    for content in &contents {
        let found = mail.iter().filter(|one| is_whole(&one.0, content));
        let recipients: Vec<_> = found.map(|one| one.0.recipients.join(" ")).collect();
        assert_eq!(
            recipients,
            ["RCPT TO:<b@example.org> RCPT TO:<c@example.org>"]
        );
    }
    relay.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_one_flight_waits_for_the_replies_and_arrives_whole() {
    let keywords = ["8BITMIME", "CHUNKING", "PIPELINING"];
    let hop = Hop::start(&keywords, |step, before| {
        (step.starts_with("RCPT TO:<late@") && before == 0).then_some(Act::Say("450 4.2.1 not now"))
    })
    .await;
    let mut relay = Relay::for_port(hop.port);
    relay.config.delivery.retry.initial_seconds = 1;
    relay.start().await;
    let content = format!("{HEADERS}{}", ".a line\r\n".repeat(40_000)).into_bytes();
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    for to in ["b@example.org", "late@example.org"] {
        let sent = client.message("a@example.com", &[to], &content).await;
        assert_eq!(sent.unwrap().code, 250);
    }
    relay.drained().await;
    let taken = hop.taken();
    assert_eq!(taken.len(), 2);
    assert!(taken.iter().all(|one| is_whole(one, &content)));
    let chunks = hop
        .heard()
        .into_iter()
        .filter(|one| one.starts_with("BDAT"));
    // Nobody is left to send to when the one recipient is put off.
    assert_eq!(chunks.count(), 2);
}

/// How a transaction came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    Data,
    /// All of it was there before anything was answered.
    OneFlight,
}

/// A server that offers PIPELINING and CHUNKING and answers nothing of a transaction before it has all of it, unless it is asked with DATA.
struct Withholding {
    port: u16,
    taken: Arc<Mutex<Vec<(Taken, Way)>>>,
}

impl Withholding {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken: Arc<Mutex<Vec<(Taken, Way)>>> = Arc::default();
        let serving = Arc::clone(&taken);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let taken = Arc::clone(&serving);
                // A connection that breaks is the relay's to judge.
                tokio::spawn(async move { withhold(BufReader::new(stream), &taken).await.ok() });
            }
        });
        Self { port, taken }
    }
}

async fn withhold(
    mut stream: BufReader<TcpStream>,
    all: &Mutex<Vec<(Taken, Way)>>,
) -> std::io::Result<()> {
    stream.write_all(b"220 hop\r\n").await?;
    let (mut owed, mut message) = (String::new(), Taken::default());
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let command = line.trim_end().to_owned();
        match command.get(..4).unwrap_or_default() {
            "EHLO" => {
                owed.push_str("250-hop\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 CHUNKING\r\n")
            }
            "MAIL" => {
                message.mail = command;
                owed.push_str("250 2.1.0 ok\r\n");
                continue;
            }
            "RCPT" if command.contains("<refused@") => {
                owed.push_str("550 5.1.1 nobody\r\n");
                continue;
            }
            "RCPT" => {
                message.recipients.push(command);
                owed.push_str("250 2.1.5 ok\r\n");
                continue;
            }
            "DATA" => {
                stream
                    .write_all(format!("{owed}354 go\r\n").as_bytes())
                    .await?;
                message.content = read_data(&mut stream).await?;
                owed = "250 2.0.0 taken\r\n".to_owned();
                let taken = std::mem::take(&mut message);
                all.lock().unwrap().push((taken, Way::Data));
            }
            "BDAT" => {
                let size = command.split(' ').nth(1).and_then(|size| size.parse().ok());
                message.content = vec![0; size.ok_or(std::io::ErrorKind::InvalidData)?];
                stream.read_exact(&mut message.content).await?;
                owed.push_str("250 2.0.0 taken\r\n");
                let taken = std::mem::take(&mut message);
                all.lock().unwrap().push((taken, Way::OneFlight));
            }
            _ => owed.push_str("221 bye\r\n"),
        }
        stream
            .write_all(std::mem::take(&mut owed).as_bytes())
            .await?;
    }
}

async fn read_data(stream: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(content);
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}
