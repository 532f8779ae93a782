//! What a provider allows is for all replicas together.

use std::time::{Duration, SystemTime};

use harness::eventually;
use serde_json::Value;

use crate::world::{RELAY, World};

/// Messages of a minute, all replicas together.
const PER_MINUTE: u32 = 60;
const MESSAGES: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_holds_across_two_replicas_and_is_divided_anew_when_there_is_one() {
    let world = World::create("rates", 2).await;
    let binding = world.binding().await;
    world.limited(2).await;
    told(&world, 2 * 60).await;
    world.provider.run(&["stop"]).await;
    for n in 0..MESSAGES {
        world.send(&binding, &format!("limited {n}")).await;
    }
    eventually("mail to wait in both replicas", async || {
        let relay = world.namespace.get(RELAY.0, RELAY.1).await?;
        let queued = |replica: &Value| replica["queued"].as_u64().unwrap_or(0);
        let replicas = relay["status"]["replicaStatuses"].as_array()?;
        (replicas.len() == 2 && replicas.iter().all(|replica| queued(replica) > 2)).then_some(())
    })
    .await;
    let pods = pods(&world).await;
    world.provider.run(&["start"]).await;
    for n in 0..MESSAGES {
        world.arrives(&format!("limited {n}")).await;
    }
    check(&world.provider.arrivals());
    world.limited(1).await;
    told(&world, 60).await;
    let left = self::pods(&world).await;
    assert!(left.iter().all(|pod| pods.contains(pod)), "{left:?}");
    world.namespace.delete().await;
}

/// Waits until the pods are told the part of the rate that is theirs, and have taken it up.
async fn told(world: &World, per_seconds: u32) {
    let line = format!("perSeconds: {per_seconds}\n");
    let what = format!("the configuration to say {line}");
    eventually(&what, async || {
        let map = world.namespace.get("configmap", "mail-config").await?;
        map["data"]["relay.yaml"]
            .as_str()?
            .contains(&line)
            .then_some(())
    })
    .await;
    world.shows("Progressing", "False", Some("Settled")).await;
}

/// In no span of time more messages than the rate has for it, and one for each replica, which may be early or late by as much.
fn check(arrivals: &[SystemTime]) {
    assert_eq!(arrivals.len(), MESSAGES, "each message once");
    let per_second = f64::from(PER_MINUTE) / 60.0;
    for (first, begin) in arrivals.iter().enumerate() {
        for (last, end) in arrivals.iter().enumerate().skip(first) {
            let span = end.duration_since(*begin).unwrap_or(Duration::ZERO);
            let most = span.as_secs_f64() * per_second + 2.0 + 1.0;
            let count = u32::try_from(last - first + 1).unwrap();
            assert!(f64::from(count) <= most, "{count} messages in {span:?}");
        }
    }
}

async fn pods(world: &World) -> Vec<String> {
    let uids = "-o=jsonpath={.items[*].metadata.uid}";
    let uids = world.namespace.kubectl(&["get", "pods", uids]).await;
    uids.split_whitespace().map(str::to_owned).collect()
}

impl World {
    /// Has so many replicas share a rate.
    async fn limited(&self, replicas: u32) {
        let upstream = self.upstream(&format!(
            "limits: {{rate: {{messages: {PER_MINUTE}, per: Minute}}}}"
        ));
        self.delivering(replicas, &format!("{{upstreams: [{upstream}]}}"))
            .await;
    }
}
