//! What a user may ask of `storage.mode`, `retry.senderHoldSeconds` and `limits.holdSeconds`, and what clients and the status see of it.

use harness::client::{Client, Reply};
use harness::eventually;

use crate::world::{Binding, RELAY, World};

/// Whom the provider does not know at first.
const SENDER: &str = "a@example.com";

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_holds_and_passes_on_as_its_fields_say() {
    let world = World::create("promises", 1).await;
    let binding = world.binding().await;
    let retry = r#""delivery": {"retry": {"senderHoldSeconds": 7200}}"#;
    let limits = r#""limits": {"holdSeconds": 60}"#;
    let storage = r#""storage": {"mode": "Relaxed", "syncMilliseconds": 200}"#;
    patch(&world, &format!("{retry}, {limits}, {storage}")).await;
    world.shows("Progressing", "False", Some("Settled")).await;
    world.shows("Durable", "False", Some("Relaxed")).await;
    clients_may_have_mail_held_for_a_minute(&binding).await;
    a_rejected_sender_is_named_and_its_mail_goes_once_it_is_verified(&world, &binding).await;

    patch(
        &world,
        r#""storage": {"mode": "Passthrough", "syncMilliseconds": null}"#,
    )
    .await;
    world.shows("Progressing", "False", Some("Settled")).await;
    world.shows("Durable", "True", Some("PassedThrough")).await;
    clients_hear_what_the_provider_says(&world, &binding).await;
    world.namespace.delete().await;
}

async fn clients_may_have_mail_held_for_a_minute(binding: &Binding) {
    let mut client = client(binding).await;
    for (seconds, code) in [(61, 501), (60, 250)] {
        let mail = format!("MAIL FROM:<{SENDER}> HOLDFOR={seconds}");
        let reply = client.command(&mail).await.unwrap();
        assert_eq!(reply.code, code, "{reply:?}");
    }
}

async fn a_rejected_sender_is_named_and_its_mail_goes_once_it_is_verified(
    world: &World,
    binding: &Binding,
) {
    world.provider.run(&["unverified", SENDER]).await;
    world.send(binding, "rejected at first").await;
    world
        .shows("QueueHealthy", "False", Some("SenderRejected"))
        .await;
    let message = world.message("QueueHealthy").await.unwrap();
    for part in [SENDER, "554 5.7.1", "2 hours"] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    assert!(world.provider.messages().is_empty(), "nothing is returned");

    world.provider.run(&["unverified"]).await;
    let flush =
        r#"{"name": "flush-verified", "action": "Flush", "match": {"senders": ["example.com"]}}"#;
    patch(world, &format!(r#""delivery": {{"overrides": [{flush}]}}"#)).await;
    world.arrives("rejected at first").await;
    world.shows("QueueHealthy", "True", None).await;
}

async fn clients_hear_what_the_provider_says(world: &World, binding: &Binding) {
    let taken = send(binding, "b@example.org", "passed on").await;
    assert!(
        taken.text.starts_with("250 2.0.0 Ok: passed on as "),
        "{taken:?}"
    );
    world.arrives("passed on").await;
    let refused = send(binding, "reject@example.org", "refused").await;
    assert!(refused.text.contains("No such user here"), "{refused:?}");
    assert_eq!(refused.code, 550, "{refused:?}");
    assert_eq!(world.provider.messages().len(), 2, "there is no bounce");
}

/// Changes these fields of the relay's `spec`, in JSON, and no others.
async fn patch(world: &World, fields: &str) {
    let patch = format!(r#"{{"spec": {{{fields}}}}}"#);
    let words = ["patch", RELAY.0, RELAY.1, "--type=merge", "--patch", &patch];
    world.namespace.kubectl(&words).await;
}

/// A pod that was replaced may be a moment away from those that connect.
async fn client(binding: &Binding) -> Client {
    eventually("a login", async || binding.client(587).await.ok()).await
}

/// The answer to the end of content.
async fn send(binding: &Binding, recipient: &str, subject: &str) -> Reply {
    let content = format!("Subject: {subject}\r\n\r\nx\r\n");
    let mut client = client(binding).await;
    client
        .message(SENDER, &[recipient], content.as_bytes())
        .await
        .unwrap()
}
