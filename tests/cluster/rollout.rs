//! What is replaced, what is not, and what is taken away.

use harness::eventually;
use harness::kubernetes::Namespace;
use serde_json::Value;

use crate::world::{RELAY, World};

const OPERATOR: &str = "postroad-operator";

/// Runs alone (`tests/cluster/run` sees to it): every relay of the cluster shows what it would become.
#[tokio::test(flavor = "multi_thread")]
async fn upgrading_the_operator_restarts_no_relay() {
    let world = World::create("upgrade", 2).await;
    let before = pods(&world).await;
    let system = Namespace::system();
    let image = relay_image(&system).await;
    // Nothing pulls it: that is the point.
    set_relay_image(&system, &format!("{image}-newer")).await;
    world
        .shows("Progressing", "False", Some("UpdateAvailable"))
        .await;
    assert_eq!(pods(&world).await, before, "an upgrade has replaced pods");
    set_relay_image(&system, &image).await;
    world.shows("Progressing", "False", Some("Settled")).await;
    assert_eq!(pods(&world).await, before, "an upgrade has replaced pods");

    let restart = ["annotate", RELAY.0, RELAY.1, "postroad.dev/restartedAt=1"];
    world.namespace.kubectl(&restart).await;
    let mut fewest = 2;
    eventually("both pods to be replaced", async || {
        let now = pods(&world).await;
        fewest = fewest.min(now.iter().filter(|pod| pod.ready).count());
        let replaced = now.iter().all(|pod| pod.ready && !before.contains(pod));
        (replaced && now.len() == 2).then_some(())
    })
    .await;
    assert!(fewest >= 1, "both replicas were away at once");
    world.namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_scaled_in_delivers_what_it_holds_before_it_goes() {
    let world = World::create("scale", 2).await;
    let binding = world.binding().await;
    world.provider.run(&["stop"]).await;
    for n in 0..20 {
        world.send(&binding, &format!("scaled {n}")).await;
    }
    let scale = ["scale", "smtprelay/mail", "--replicas=1"];
    world.namespace.kubectl(&scale).await;
    world.shows("Progressing", "True", Some("RollingOut")).await;
    let claim = world.namespace.get("pvc", "mail-1").await;
    assert!(claim.is_some(), "the claim stays while mail waits");
    world.provider.run(&["start"]).await;
    for n in 0..20 {
        world.arrives(&format!("scaled {n}")).await;
    }
    eventually("the claim to go", async || {
        let claims = world.namespace.kubectl(&["get", "pvc", "-o", "name"]).await;
        (!claims.contains("mail-1")).then_some(())
    })
    .await;
    world.namespace.delete().await;
}

/// A pod of the relay.
#[derive(Clone, Debug)]
struct Pod {
    uid: String,
    ready: bool,
}

impl PartialEq for Pod {
    fn eq(&self, other: &Self) -> bool {
        self.uid == other.uid
    }
}

/// The pods of the relay that are not about to end.
async fn pods(world: &World) -> Vec<Pod> {
    let words = ["get", "pods", "--sort-by=.metadata.name", "-o", "json"];
    let list: Value = serde_json::from_str(&world.namespace.kubectl(&words).await).unwrap();
    let items = list["items"].as_array().unwrap().iter();
    items
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .map(|pod| Pod {
            uid: pod["metadata"]["uid"].as_str().unwrap().to_owned(),
            ready: pod["status"]["containerStatuses"][0]["ready"] == true,
        })
        .collect()
}

/// The image that the operator gives to relays which name none.
async fn relay_image(system: &Namespace) -> String {
    let operator = system.get("deployment", OPERATOR).await.unwrap();
    let (_, image) = relay_image_argument(&operator);
    image
}

async fn set_relay_image(system: &Namespace, image: &str) {
    let operator = system.get("deployment", OPERATOR).await.unwrap();
    let (index, _) = relay_image_argument(&operator);
    let path = format!("/spec/template/spec/containers/0/args/{index}");
    let patch =
        format!(r#"[{{"op": "replace", "path": "{path}", "value": "--relay-image={image}"}}]"#);
    let deployment = format!("deployment/{OPERATOR}");
    system
        .kubectl(&["patch", &deployment, "--type=json", "-p", &patch])
        .await;
    system
        .kubectl(&["rollout", "status", &deployment, "--timeout=60s"])
        .await;
}

fn relay_image_argument(operator: &Value) -> (usize, String) {
    let arguments = operator["spec"]["template"]["spec"]["containers"][0]["args"].as_array();
    let mut arguments = arguments.unwrap().iter().enumerate();
    let found = arguments.find_map(|(index, argument)| {
        let image = argument.as_str()?.strip_prefix("--relay-image=")?;
        Some((index, image.to_owned()))
    });
    found.unwrap()
}
