//! Servers that take their time. It is paused: what they let pass is not waited for.

use bytes::Bytes;
use postroad_config::UpstreamTls;
use postroad_smtp::client::RecipientOutcome;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::net::TcpListener;
use crate::pki::Pki;
use crate::rig::Rig;

/// Between two lines of a reply that never ends. Shorter than any single wait may be.
const EACH: Duration = Duration::from_secs(100);

/// Drips its reply to this command.
async fn serve(stream: TcpStream, drips_at: &str) -> io::Result<()> {
    // The kernel's timers know nothing of paused time.
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 mx\r\n").await?;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let command = line.trim_end();
        if command == drips_at {
            loop {
                stream.write_all(b"2").await?;
                tokio::time::sleep(EACH).await;
                // Each line is a part of one reply.
                stream.write_all(b"50-\r\n").await?;
            }
        }
        let reply = match command {
            "DATA" => "354 go",
            // In the content, unless it is the end of it.
            "Subject: x" | "" | "x" => continue,
            _ => "250 ok",
        };
        stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
    }
}

/// How sending ended, and after how long.
async fn send(drips_at: &'static str) -> (Sent, Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        // It ends when the client hangs up.
        serve(stream, drips_at).await.ok();
    });
    let config = crate::tls::upstream(UpstreamTls::Opportunistic, None).unwrap();
    let terms = Terms {
        remote: "mx.example.net",
        hostname: "relay.example.com",
        tls: TlsTerms {
            mode: ClientTls::None,
            config: &config,
            worth: Protection::Unverified,
            advice: "",
        },
        login: None,
    };
    let stream = dial(address).await.unwrap();
    let Ok(mut connection) = Connection::begin(stream, terms).await else {
        panic!("not let in");
    };
    let begun = Instant::now();
    let sent = connection.send(Transaction {
        recipients: vec![
            "b@example.org"
                .parse::<postroad_smtp::ForwardPath>()
                .unwrap()
                .into(),
        ],
        content: vec![Bytes::from_static(b"Subject: x\r\n\r\nx\r\n")],
        ..Transaction::default()
    });
    // Without an end of its own it would go on for weeks.
    let sent = tokio::time::timeout(Duration::from_secs(86_400), sent).await;
    let elapsed = begun.elapsed();
    drop(connection);
    server.abort();
    (sent.expect("it ends within a day"), elapsed)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drips_its_reply_is_not_waited_for() {
    for (at, most, is_held) in [
        ("MAIL FROM:<>", 310, true),
        ("RCPT TO:<b@example.org>", 310, true),
        ("DATA", 310, true),
        (".", 610, false),
    ] {
        let (sent, elapsed) = send(at).await;
        let Sent::Finished(outcome) = sent else {
            panic!("{at}")
        };
        assert_eq!(matches!(outcome.end, End::Held(_)), is_held, "{at}");
        assert!(
            matches!(outcome.recipients[0], RecipientOutcome::Deferred(_)),
            "{at}: {outcome:?}"
        );
        assert!(elapsed < Duration::from_secs(most), "{at}: {elapsed:?}");
    }
}

#[tokio::test]
async fn an_authority_that_nobody_has_named_is_told_of_with_where_to_name_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Pki::new().admin());
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        // The client does not trust it.
        acceptor.accept(stream).await.ok();
    });
    let rig = Rig::new(1 << 20);
    rig.change_upstream(|upstream| {
        (upstream.port, upstream.tls) = (port, UpstreamTls::Implicit);
    });
    let upstream = &rig.context.live().upstreams[0];
    let opened = Connection::open(upstream, "relay.example.com").await;
    let Err(failed) = opened else {
        panic!("let in")
    };
    assert_eq!(failed.reason, FailureReason::TlsFailed);
    let end = "UnknownIssuer (a private authority is named in tls.caSecretRef)";
    assert!(failed.message.ends_with(end), "{failed:?}");
    server.abort();
}
