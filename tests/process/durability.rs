//! What is damaged on the disk is not sent, and not passed over in silence.

use harness::eventually;
use harness::provider::Provider;
use harness::relay::Relay;
use postroad_config::ListenerName;

/// Changes a byte of the first place in the relay's queue where these bytes stand.
fn damage(relay: &Relay, bytes: &[u8]) {
    let mut files = std::fs::read_dir(relay.config.spool.directory.clone()).unwrap();
    let (path, mut content, at) = files
        .find_map(|entry| {
            let path = entry.unwrap().path();
            let content = std::fs::read(&path).unwrap_or_default();
            let at = content
                .windows(bytes.len())
                .position(|some| some == bytes)?;
            Some((path, content, at))
        })
        .unwrap();
    content[at] ^= 0x20;
    std::fs::write(path, content).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_damaged_on_the_disk_is_kept_aside_and_its_sender_is_told() {
    let provider = Provider::start().await;
    let mut relay = Relay::for_provider(&provider);
    relay.write_login("wrong");
    relay.start().await;
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    for subject in ["damaged", "intact"] {
        let content = format!("Subject: {subject}\r\n\r\nbody\r\n");
        let reply = client
            .message("a@example.com", &["b@example.org"], content.as_bytes())
            .await
            .unwrap();
        assert_eq!(reply.code, 250);
    }
    // What has just been accepted is delivered from memory; after a start it is on disk alone.
    relay.kill();
    relay.start().await;
    damage(&relay, b"Subject: damaged");
    relay.write_login(harness::provider::PASSWORD);
    relay.drained().await;
    let arrived = |text: &str| {
        provider
            .messages()
            .iter()
            .any(|message| String::from_utf8_lossy(message).contains(text))
    };
    for text in ["Subject: intact", "damaged on the disk of this server"] {
        eventually(text, async || arrived(text).then_some(())).await;
    }
    assert!(!arrived("ubject: damaged"));
    let status = relay.status().await;
    assert_eq!((status.spool.corrupt, status.queue.unreadable), (1, 0));
}
