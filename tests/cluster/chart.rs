//! What the chart brings besides the operator.

use harness::kubernetes::{Namespace, RELEASE};

use crate::world::{RELAY, World};

#[tokio::test(flavor = "multi_thread")]
async fn helm_test_sends_a_mail_through_a_relay() {
    // The test of the release takes a relay of the release's namespace.
    let system = Namespace::system();
    let taken = system.get(RELAY.0, RELAY.1).await;
    assert!(taken.is_none(), "there is a relay '{}' already", RELAY.1);
    let world = World::within(system, 1).await;
    let recipient = format!("helm-test-{}@example.org", std::process::id());
    let to = format!("test.to={recipient}");
    configure(
        &world,
        &["test.relay=mail", "test.credentialSecret=app", &to],
    )
    .await;
    let said = world.namespace.helm(&["test", RELEASE, "--logs"]).await;
    assert!(said.contains("accepted"), "{said}");
    world.arrives("Postroad test mail").await;
    let messages = world.provider.messages();
    let text = String::from_utf8_lossy(&messages[0]);
    assert!(text.contains(&format!("To: <{recipient}>")), "{text}");
    configure(&world, &["test.relay=", "test.credentialSecret="]).await;
    let pod = format!("{RELEASE}-send-test");
    world.namespace.kubectl(&["delete", "pod", &pod]).await;
    world.clear().await;
}

/// Gives the release other values for its test; nothing else of it changes.
async fn configure(world: &World, values: &[&str]) {
    let mut words = vec!["upgrade", RELEASE, "charts/postroad", "--reuse-values"];
    words.extend(values.iter().flat_map(|value| ["--set", value]));
    world.namespace.helm(&words).await;
}
