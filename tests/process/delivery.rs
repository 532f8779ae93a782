//! Mail through the relay to a real Postfix that demands STARTTLS and AUTH.

use harness::eventually;
use harness::provider::Provider;
use harness::relay::Relay;
use postroad_config::ListenerName;
use postroad_config::status::{FailureReason, UpstreamState};

const PORTS: [ListenerName; 4] = [
    ListenerName::Smtp,
    ListenerName::Submissions,
    ListenerName::Submission,
    ListenerName::Alternate,
];

/// What has arrived under a subject, without what was put before it on the way; lines end with LF.
fn arrived(provider: &Provider, subject: &str) -> Option<Vec<u8>> {
    let marker = format!("Subject: {subject}\n");
    provider.messages().into_iter().find_map(|message| {
        let at = message
            .windows(marker.len())
            .position(|window| window == marker.as_bytes())?;
        Some(message[at..].to_vec())
    })
}

fn unix(content: &[u8]) -> Vec<u8> {
    content
        .iter()
        .copied()
        .filter(|byte| *byte != b'\r')
        .collect()
}

/// Content that tries everything that could be lost on the way, after the subject line.
fn contents() -> Vec<(&'static str, Vec<u8>)> {
    let mut large = b"Content-Type: application/octet-stream\r\n\r\n".to_vec();
    for line in 0_u32..140_000 {
        large.extend_from_slice(format!("{line:076}\r\n").as_bytes());
    }
    vec![
        (
            "dots",
            b"X: y\r\n\r\n.\r\n..\r\n.leading\r\nmiddle.\r\n...\r\n".to_vec(),
        ),
        (
            "eight-bit",
            "X: y\r\n\r\ngr\u{fc}\u{df}e \u{1f40e}\r\n\u{1}\r\n"
                .as_bytes()
                .to_vec(),
        ),
        ("latin-1", b"X: y\r\n\r\n\xe4\xf6\xfc\xff\r\n".to_vec()),
        ("large", large),
        ("empty body", b"X: y\r\n\r\n".to_vec()),
        ("no body", b"X: y\r\n".to_vec()),
        (
            "long line",
            [
                b"X: y\r\n\r\n".to_vec(),
                vec![b'x'; 100_000],
                b"\r\n".to_vec(),
            ]
            .concat(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_port_delivers_every_content_byte_for_byte() {
    let provider = Provider::start().await;
    let mut relay = Relay::for_provider(&provider);
    relay.start().await;
    let mut expected = Vec::new();
    for port in PORTS {
        let mut client = relay.login(port).await.unwrap();
        for (name, rest) in contents() {
            if name == "large" && port != ListenerName::Submission {
                continue;
            }
            let subject = format!("{name} over {}", port.as_str());
            let content = [format!("Subject: {subject}\r\n").as_bytes(), &rest].concat();
            let reply = client
                .message("a@example.com", &["b@example.org"], &content)
                .await
                .unwrap();
            assert_eq!(reply.code, 250, "{subject}: {reply:?}");
            expected.push((subject, unix(&content)));
        }
    }
    relay.drained().await;
    for (subject, content) in expected {
        let message = eventually(&subject, async || arrived(&provider, &subject)).await;
        assert!(
            message == content,
            "{subject} was changed: {}",
            String::from_utf8_lossy(&message[..message.len().min(500)])
        );
    }
    let first = provider.messages().remove(0);
    let text = String::from_utf8_lossy(&first);
    assert!(
        text.contains("by mail.example.com (Postroad) with ESMTPSA id "),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_copy_goes_out_for_many_recipients() {
    let provider = Provider::start().await;
    let mut relay = Relay::for_provider(&provider);
    relay.start().await;
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    let recipients: Vec<String> = (0..50).map(|n| format!("r{n}@d{n}.example.org")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let reply = client
        .message("a@example.com", &recipients, b"Subject: many\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(reply.code, 250);
    relay.drained().await;
    let log = provider.run(&["log"]).await;
    let transactions = log.lines().filter(|line| line.contains("nrcpt=50")).count();
    assert_eq!(
        transactions, 1,
        "one transaction with all recipients\n{log}"
    );
    assert_eq!(relay.status().await.totals.delivered, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_mistake_holds_the_queue_and_bounces_nothing() {
    let provider = Provider::new();
    // The files of the certificate authority must exist for the relay to verify with.
    provider.run(&["start"]).await;
    provider.run(&["stop"]).await;
    let mut relay = Relay::for_provider(&provider);
    relay.start().await;
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    for n in 0..20 {
        let content = format!("Subject: held {n}\r\n\r\n");
        let reply = client
            .message("a@example.com", &["b@example.org"], content.as_bytes())
            .await
            .unwrap();
        assert_eq!(reply.code, 250);
    }
    fails_with(&relay, FailureReason::ConnectionRefused).await;

    provider.run(&["password", "changed"]).await;
    relay.write_login("wrong");
    provider.run(&["start"]).await;
    fails_with(&relay, FailureReason::AuthenticationFailed).await;
    let status = relay.status().await;
    assert_eq!(status.queue.messages, 20, "everything is held");
    let failure = status.upstreams[0].failure.clone().unwrap();
    assert!(failure.message.contains("535"), "{}", failure.message);
    assert!(
        !failure.message.contains("wrong"),
        "no secrets: {}",
        failure.message
    );
    assert!(status.queue.oldest_arrival.is_some());

    std::fs::remove_file(relay.path("login/password")).unwrap();
    fails_with(&relay, FailureReason::CredentialsMissing).await;

    let pid = relay.pid();
    relay.write_login("changed");
    relay.drained().await;
    assert_eq!(relay.pid(), pid);
    let status = relay.status().await;
    assert_eq!(status.upstreams[0].state, UpstreamState::Ready);
    assert_eq!((status.totals.delivered, status.totals.failed), (20, 0));
    eventually("all mail to arrive", async || {
        (provider.messages().len() == 20).then_some(())
    })
    .await;
}

async fn fails_with(relay: &Relay, reason: FailureReason) {
    eventually(reason.as_str(), async || {
        let status = relay.status().await;
        let failure = status.upstreams[0].failure.as_ref()?;
        (failure.reason == reason).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_cannot_prove_its_name_gets_neither_login_nor_mail() {
    let provider = Provider::start().await;
    let mut relay = Relay::for_provider(&provider);
    relay.config.delivery.upstreams[0].ca = None;
    relay.start().await;
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    client
        .message("a@example.com", &["b@example.org"], b"Subject: x\r\n\r\n")
        .await
        .unwrap();
    fails_with(&relay, FailureReason::TlsFailed).await;
    assert!(provider.messages().is_empty());
    relay.config.delivery.upstreams[0].ca = Some(provider.ca());
    relay.write_config();
    relay.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_recipient_is_reported_to_the_sender_and_the_others_get_their_mail() {
    let provider = Provider::start().await;
    let mut relay = Relay::for_provider(&provider);
    relay.start().await;
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    let recipients = ["good@example.org", "reject@example.org"];
    client
        .message("a@example.com", &recipients, b"Subject: half\r\n\r\n")
        .await
        .unwrap();
    relay.drained().await;
    let report = eventually("the bounce", async || {
        let messages = provider.messages();
        let text = messages
            .iter()
            .map(|message| String::from_utf8_lossy(message).into_owned());
        text.into_iter()
            .find(|text| text.contains("Auto-Submitted: auto-replied"))
    })
    .await;
    assert!(report.contains("reject@example.org"), "{report}");
    assert!(report.contains("550 5.1.1"), "{report}");
    assert!(
        report.contains("To: <a@example.com>") || report.contains("To: a@example.com"),
        "{report}"
    );
    assert!(!report.contains("good@example.org"), "{report}");
    let totals = relay.status().await.totals;
    assert_eq!(
        (totals.delivered, totals.failed),
        (2, 1),
        "the good recipient and the bounce"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_recipient_waits_for_its_next_attempt() {
    let provider = Provider::start().await;
    let mut relay = Relay::for_provider(&provider);
    relay.start().await;
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    client
        .message(
            "a@example.com",
            &["defer@example.org"],
            b"Subject: later\r\n\r\n",
        )
        .await
        .unwrap();
    let status = eventually("the deferral", async || {
        let status = relay.status().await;
        (status.queue.deferred == 1).then_some(status)
    })
    .await;
    assert_eq!((status.queue.messages, status.totals.deferred), (1, 1));
    assert_eq!(
        status.upstreams[0].state,
        UpstreamState::Ready,
        "a busy mailbox is not the upstream's failure"
    );
}
