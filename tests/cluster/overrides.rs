//! Mail that is held until it is released.

use harness::eventually;

use crate::world::{RELAY, World};

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_is_held_shows_and_goes_out_when_it_is_released() {
    let world = World::create("held", 1).await;
    let binding = world.binding().await;
    let upstream = world.upstream("");
    let hold = "{name: hold-example.org, action: Hold, match: {recipients: [example.org]}}";
    let delivery = format!("{{upstreams: [{upstream}], overrides: [{hold}]}}");
    world.delivering(1, &delivery).await;
    world.shows("Progressing", "False", Some("Settled")).await;
    world.send(&binding, "held").await;
    eventually("one held message in the status", async || {
        let relay = world.namespace.get(RELAY.0, RELAY.1).await?;
        let queue = &relay["status"]["queue"];
        (queue["held"] == 1 && queue["messages"] == 1).then_some(())
    })
    .await;
    assert_eq!(world.count("held"), 0);
    world.relay(1).await;
    world.arrives("held").await;
    eventually("an empty queue in the status", async || {
        let relay = world.namespace.get(RELAY.0, RELAY.1).await?;
        (relay["status"]["queue"]["messages"] == 0).then_some(())
    })
    .await;
    world.namespace.delete().await;
}
