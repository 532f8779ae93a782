//! Mail through every port, and what an operator's mistake costs: nothing.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use harness::client::{Client, Reply};
use harness::eventually;
use harness::provider::PASSWORD;

use crate::world::{Binding, RELAY, World};

#[tokio::test(flavor = "multi_thread")]
async fn every_port_of_the_service_delivers_and_strangers_are_refused() {
    let world = World::create("ports", 2).await;
    let binding = world.binding().await;
    let contents = [
        ("dots", b"X: y\r\n\r\n.\r\n..\r\n.leading\r\n".to_vec()),
        (
            "eight-bit",
            "X: y\r\n\r\ngr\u{fc}\u{df}e\r\n".as_bytes().to_vec(),
        ),
        ("empty", b"X: y\r\n\r\n".to_vec()),
        ("attachment", attachment()),
    ];
    for port in [25, 465, 587, 2525] {
        let mut client = binding.client(port).await.unwrap();
        for (name, rest) in &contents {
            let content = [format!("Subject: {name} {port}\r\n").as_bytes(), rest].concat();
            let reply = client
                .message("a@example.com", &["b@example.org"], &content)
                .await
                .unwrap();
            assert_eq!(reply.code, 250, "{name} {port}: {reply:?}");
            world.arrives(&format!("{name} {port}")).await;
            let plain: Vec<u8> = content
                .iter()
                .copied()
                .filter(|byte| *byte != b'\r')
                .collect();
            let whole = world
                .provider
                .messages()
                .iter()
                .any(|message| message.ends_with(&plain));
            assert!(whole, "{name} over {port} was changed");
        }
        strangers_are_refused(&binding, port).await;
    }
    let mut plain = Client::silent_at(binding.doors[&465]).await.unwrap();
    plain.send(b"EHLO client.example.net\r\n").await.unwrap();
    assert!(plain.reply().await.is_err(), "plaintext on 465 is closed");
    world.shows("UpstreamReady", "True", None).await;
    world.shows("Ready", "True", None).await;
    steady(&world).await;
    world.namespace.delete().await;
}

/// The rest of a message with ten megabytes attached (RFC 2046 §5.1, RFC 2045 §6.8).
fn attachment() -> Vec<u8> {
    const BYTES: u32 = 10_000_000;
    const LINE_OCTETS: usize = 57; // 76 characters of base64
    let octets: Vec<u8> = (0..BYTES)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    let mut text = String::from(
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_b\"\r\n\r\n\
         --=_b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nSee attachment.\r\n\
         --=_b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment; filename=\"large.bin\"\r\n\r\n",
    );
    for line in octets.chunks(LINE_OCTETS) {
        text.push_str(&BASE64_STANDARD.encode(line));
        text.push_str("\r\n");
    }
    text.push_str("--=_b--\r\n");
    text.into_bytes()
}

async fn strangers_are_refused(binding: &Binding, port: u16) {
    for tls in [true, false] {
        let mut stranger = binding.stranger(port, tls).await.unwrap();
        let replies = stranger_is_told(&mut stranger).await;
        // Where a login is required MAIL is refused, elsewhere RCPT.
        let expected = match port {
            465 | 587 => [530, 503],
            _ => [250, 550],
        };
        let codes = replies.each_ref().map(|reply| reply.code);
        assert_eq!(codes, expected, "port {port}: {replies:?}");
    }
    let mut stranger = binding.stranger(port, true).await.unwrap();
    assert_eq!(
        stranger
            .login(&binding.username, "wrong")
            .await
            .unwrap()
            .code,
        535
    );
    if port != 465 {
        let mut early = binding.stranger(port, false).await.unwrap();
        let reply = early
            .login(&binding.username, &binding.password)
            .await
            .unwrap();
        assert!((500..600).contains(&reply.code), "{reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_or_key_that_is_missing_is_named_until_it_appears() {
    let world = World::create("missing", 1).await;
    let accepted = async |reason: &str, named: &str| {
        eventually(reason, async || {
            let (status, why) = world
                .namespace
                .condition(RELAY.0, RELAY.1, "Accepted")
                .await?;
            let message = world.message("Accepted").await?;
            (status == "False" && why == reason && message.contains(named)).then_some(())
        })
        .await;
    };
    let login = |keys: &str| {
        format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: provider-login}}, stringData: {{{keys}}}}}"
        )
    };
    let delete = ["delete", "secret", "provider-login"];
    world.namespace.kubectl(&delete).await;
    accepted("SecretNotFound", "\"provider-login\"").await;
    world.namespace.apply(&login("username: relay")).await;
    accepted("SecretKeyMissing", "\"password\"").await;
    let binding = world.binding().await;
    world
        .send(&binding, "sent while the login is missing")
        .await;
    world.login(PASSWORD).await;
    world.shows("Accepted", "True", None).await;
    world.arrives("sent while the login is missing").await;
    world.namespace.delete().await;
}

/// A relay at rest is not written to: neither it nor its children change.
async fn steady(world: &World) {
    eventually("the queue to be empty in status", async || {
        let relay = world.namespace.get(RELAY.0, RELAY.1).await?;
        (relay["status"]["queue"]["messages"] == 0).then_some(())
    })
    .await;
    let versions = async || {
        let kinds = "smtprelay,smtpcredential,deployment,service,configmap,secret,pvc,pdb";
        let columns = "-o=custom-columns=K:.kind,N:.metadata.name,V:.metadata.resourceVersion";
        world.namespace.kubectl(&["get", kinds, columns]).await
    };
    // Three visits at rest pass meanwhile: thirty seconds apart, and the first comes at once. Nothing can be waited for here,
    // because nothing is to happen.
    let mut before = versions().await;
    let mut quiet = 0;
    eventually("a minute without a write", async || {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        let now = versions().await;
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
        (quiet >= 8).then_some(())
    })
    .await;
}

/// The answers to MAIL and RCPT.
async fn stranger_is_told(client: &mut Client) -> [Reply; 2] {
    [
        client.command("MAIL FROM:<s@example.net>").await.unwrap(),
        client.command("RCPT TO:<v@example.org>").await.unwrap(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_mistake_shows_in_status_and_bounces_nothing() {
    let world = World::create("mistake", 1).await;
    let binding = world.binding().await;
    world.provider.run(&["stop"]).await;
    for n in 0..5 {
        world.send(&binding, &format!("held {n}")).await;
    }
    let upstream = "UpstreamReady";
    world
        .shows(upstream, "False", Some("ConnectionRefused"))
        .await;
    eventually("QUEUED and OLDEST", async || {
        let table = world.namespace.kubectl(&["get", "smtprelay", "mail"]).await;
        let mut lines = table.lines();
        let header: Vec<&str> = lines.next()?.split_whitespace().collect();
        let row: Vec<&str> = lines.next()?.split_whitespace().collect();
        let cell = |name: &str| Some(row[header.iter().position(|column| *column == name)?]);
        (cell("QUEUED")? == "5" && cell("OLDEST")?.ends_with('s')).then_some(())
    })
    .await;
    // Neither the password that the pods still have for a moment nor the one that they get is right.
    world.provider.run(&["password", "changed"]).await;
    world.login("wrong").await;
    world.provider.run(&["start"]).await;
    world
        .shows(upstream, "False", Some("AuthenticationFailed"))
        .await;
    let pods = async || {
        world
            .namespace
            .kubectl(&[
                "get",
                "pods",
                "-o=custom-columns=U:.metadata.uid,R:.status.containerStatuses[0].restartCount",
            ])
            .await
    };
    let before = pods().await;
    world.login("changed").await;
    for n in 0..5 {
        world.arrives(&format!("held {n}")).await;
    }
    world.shows(upstream, "True", None).await;
    assert_eq!(pods().await, before, "nothing was restarted");
    assert_eq!(world.provider.messages().len(), 5, "nothing was bounced");
    world.namespace.delete().await;
}
