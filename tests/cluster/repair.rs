//! What is killed or deleted comes back, and the mail with it.

use std::collections::HashMap;
use std::sync::Arc;

use harness::eventually;
use harness::kubernetes::{Namespace, SYSTEM};
use tokio::process::Command;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_and_reapplied_relay_delivers_the_mail_that_waited() {
    let world = World::create("reapply", 1).await;
    leave_with_mail(&world).await;
    world.provider.run(&["start"]).await;
    world.relay(1).await;
    world.arrives("waited").await;
    world.namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_reapplied_without_claims_is_refused_while_mail_may_wait_in_them() {
    let world = World::create("reapply-ephemeral", 1).await;
    leave_with_mail(&world).await;
    world.relay_stored("Ephemeral", 1).await;
    world.shows("Accepted", "False", Some("ClaimsLeft")).await;
    let claims = world.namespace.kubectl(&["get", "pvc", "-o", "name"]).await;
    assert!(claims.contains("mail-0"), "the claim stays: {claims}");
    world
        .namespace
        .kubectl(&["delete", "smtprelay", "mail"])
        .await;
    world.provider.run(&["start"]).await;
    // What its message tells people to do.
    world.relay(0).await;
    world.arrives("waited").await;
    eventually("the claim to go when it is empty", async || {
        let claims = world.namespace.kubectl(&["get", "pvc", "-o", "name"]).await;
        claims.trim().is_empty().then_some(())
    })
    .await;
    world.namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_deleted_by_hand_comes_back() {
    let world = World::create("children", 2).await;
    for child in [
        "service/mail",
        "configmap/mail-config",
        "deployment/mail-1",
        "serviceaccount/mail",
        "secret/mail-tls",
        "secret/mail-ca",
        "secret/mail-credentials",
        "service/mail-replicas",
        "poddisruptionbudget/mail",
        "secret/app",
    ] {
        let (kind, name) = child.split_once('/').unwrap();
        let before = world.namespace.get(kind, name).await;
        let before =
            before.unwrap_or_else(|| panic!("{child} is missing"))["metadata"]["uid"].clone();
        world.namespace.kubectl(&["delete", child]).await;
        eventually(child, async || {
            let after = world.namespace.get(kind, name).await?;
            (after["metadata"]["uid"] != before).then_some(())
        })
        .await;
    }
    world.ready().await;
    let binding = eventually("a binding that works", async || {
        let binding = world.binding().await;
        binding.client(587).await.ok().map(|_| binding)
    })
    .await;
    world.send(&binding, "after all that").await;
    world.arrives("after all that").await;
    world.namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_in_the_middle_of_a_rollout_finishes_it() {
    let world = World::create("rollout", 2).await;
    let has_second = async |name: &str| {
        let deployment = world.namespace.get("deployment", name).await?;
        deployment["spec"]["template"]["spec"]["volumes"]
            .to_string()
            .contains("second")
            .then_some(())
    };
    let second = r#"[{"op": "add", "path": "/spec/delivery/upstreams/-", "value": {"name": "second",
        "host": "mx.example.test", "port": 587, "auth": {"secretRef": {"name": "second-login"}}}}]"#;
    world
        .namespace
        .kubectl(&["patch", "smtprelay", "mail", "--type=json", "-p", second])
        .await;
    eventually("the rollout to begin", async || {
        has_second("mail-0").await.or(has_second("mail-1").await)
    })
    .await;
    let operator = [
        "delete",
        "pod",
        "--namespace",
        SYSTEM,
        "--selector=app.kubernetes.io/name=postroad-operator",
        "--grace-period=0",
        "--force",
    ];
    world.namespace.kubectl(&operator).await;
    for name in ["mail-0", "mail-1"] {
        eventually("the rollout to finish", async || has_second(name).await).await;
    }
    world.ready().await;
    // New pods may be on other nodes.
    let binding = world.binding().await;
    world.send(&binding, "after the rollout").await;
    world.arrives("after the rollout").await;
    world.namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_got_250_is_lost_when_the_relay_is_killed() {
    let world = World::create("kill", 1).await;
    let binding = Arc::new(world.binding().await);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..50 {
        let binding = Arc::clone(&binding);
        clients.spawn(async move {
            let mut kept = Vec::new();
            let Ok(mut connection) = binding.client(587).await else {
                return kept;
            };
            for n in 0..1000 {
                let subject = format!("kill {client}-{n};");
                let content = format!("Subject: {subject}\r\n\r\nx\r\n");
                match connection
                    .message("a@example.com", &["b@example.org"], content.as_bytes())
                    .await
                {
                    Ok(reply) if reply.code == 250 => kept.push(subject),
                    _ => break,
                }
            }
            kept
        });
    }
    eventually("mail to flow", async || {
        (world.provider.messages().len() > 200).then_some(())
    })
    .await;
    kill(&world.namespace).await;
    let mut ledger = Vec::new();
    while let Some(kept) = clients.join_next().await {
        ledger.extend(kept.unwrap());
    }
    assert!(ledger.len() > 200, "{} promises", ledger.len());
    let mut arrived = HashMap::new();
    eventually("every promise", async || {
        arrived.clear();
        for message in world.provider.messages() {
            let text = String::from_utf8_lossy(&message).into_owned();
            let subject = text.split("Subject: ").nth(1)?.lines().next()?.to_owned();
            *arrived.entry(subject).or_insert(0) += 1;
        }
        ledger
            .iter()
            .all(|subject| arrived.contains_key(subject))
            .then_some(())
    })
    .await;
    let duplicates: u64 = arrived.values().map(|count: &u64| count - 1).sum();
    println!("{} promises kept, {duplicates} duplicates", ledger.len());
    // Twenty connections, each with one delivery under way and a record not yet flushed.
    assert!(duplicates <= 40, "{duplicates} duplicates");
    world.namespace.delete().await;
}

/// Has a mail called `waited` wait in the one claim of a relay, and deletes the relay.
async fn leave_with_mail(world: &World) {
    let binding = world.binding().await;
    world.provider.run(&["stop"]).await;
    world.send(&binding, "waited").await;
    world
        .namespace
        .kubectl(&["delete", "smtprelay", "mail"])
        .await;
    eventually("the pods to go", async || {
        let pods = world
            .namespace
            .kubectl(&["get", "pods", "-o", "name"])
            .await;
        pods.trim().is_empty().then_some(())
    })
    .await;
    let claims = world.namespace.kubectl(&["get", "pvc", "-o", "name"]).await;
    assert!(claims.contains("mail-0"), "the claim stays: {claims}");
}

/// Ends the relay's process without warning. Its pod sees only its own processes; from the node it can be killed. If the node
/// is another machine, the pod is taken away by force: SIGKILL follows two seconds after SIGTERM, before the drain begins.
async fn kill(namespace: &Namespace) {
    let selector = "--selector=app.kubernetes.io/name=postroad-relay";
    let uid = "-o=jsonpath={.items[*].metadata.uid}";
    let uid = namespace.kubectl(&["get", "pods", selector, uid]).await;
    match process(&uid) {
        Some(process) => {
            let status = Command::new("kill").args(["-KILL", &process]).status();
            assert!(
                status.await.unwrap().success(),
                "the process was not killed"
            );
        }
        None => {
            println!("the node is another machine: the pod is deleted by force");
            let now = ["delete", "pod", selector, "--grace-period=0", "--force"];
            namespace.kubectl(&now).await;
        }
    }
}

/// The relay's process in a pod of this machine.
fn process(pod: &str) -> Option<String> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let mut processes = entries.map(|entry| entry.unwrap().path());
    let relay = processes.find(|process| {
        let read = |file: &str| std::fs::read_to_string(process.join(file)).unwrap_or_default();
        // systemd writes the identity of the pod with underscores.
        read("cmdline").starts_with("/postroad-relay\0")
            && read("cgroup").replace('_', "-").contains(pod)
    })?;
    Some(relay.file_name()?.to_str()?.to_owned())
}
