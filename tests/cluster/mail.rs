//! Mail through every port, and what an operator's mistake costs: nothing.

use harness::client::{Client, Reply};
use harness::eventually;

use crate::world::{Binding, RELAY, World};

#[tokio::test(flavor = "multi_thread")]
async fn every_port_of_the_service_delivers_and_strangers_are_refused() {
    let world = World::create("ports", 2).await;
    let binding = world.binding().await;
    let mut large = b"Content-Type: application/octet-stream\r\n\r\n".to_vec();
    for line in 0_u32..140_000 {
        large.extend_from_slice(format!("{line:076}\r\n").as_bytes());
    }
    let contents = [
        ("dots", b"X: y\r\n\r\n.\r\n..\r\n.leading\r\n".to_vec()),
        (
            "eight-bit",
            "X: y\r\n\r\ngr\u{fc}\u{df}e\r\n".as_bytes().to_vec(),
        ),
        ("empty", b"X: y\r\n\r\n".to_vec()),
        ("large", large),
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

async fn strangers_are_refused(binding: &Binding, port: u16) {
    for tls in [true, false] {
        let mut stranger = binding.stranger(port, tls).await.unwrap();
        assert_eq!(stranger_rcpt(&mut stranger).await.code, 550, "port {port}");
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

async fn stranger_rcpt(client: &mut Client) -> Reply {
    client.command("MAIL FROM:<s@example.net>").await.unwrap();
    client.command("RCPT TO:<v@example.org>").await.unwrap()
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
