//! `kubectl postroad status`: everything that the status of a relay says, for people.

use std::fmt::Write as _;

use anyhow::Context as _;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use postroad_api::{SmtpRelay, SmtpRelayStatus};

use crate::cluster::explain;

/// Prints the status of one relay.
///
/// # Errors
/// What the API server says.
#[expect(clippy::print_stdout, reason = "a person asked for it")]
pub(crate) async fn one(client: Client, namespace: &str, name: &str) -> anyhow::Result<()> {
    let api: Api<SmtpRelay> = Api::namespaced(client, namespace);
    let relay = api
        .get(name)
        .await
        .map_err(explain)
        .with_context(|| format!("cannot show {namespace}/{name}"))?;
    print!("{}", describe(&relay.name_any(), relay.status.as_ref()));
    Ok(())
}

/// Prints the status of all relays of a namespace, or of all namespaces.
///
/// # Errors
/// What the API server says.
#[expect(clippy::print_stdout, reason = "a person asked for it")]
pub(crate) async fn all(client: Client, namespace: Option<&str>) -> anyhow::Result<()> {
    let api: Api<SmtpRelay> = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let relays = api
        .list(&ListParams::default())
        .await
        .map_err(explain)
        .context("cannot list the SmtpRelays")?;
    if relays.items.is_empty() {
        match namespace {
            Some(namespace) => println!("no SmtpRelay in namespace {namespace}"),
            None => println!("no SmtpRelay in any namespace"),
        }
    }
    for relay in relays {
        let name = match namespace {
            Some(_) => relay.name_any(),
            None => format!(
                "{}/{}",
                relay.namespace().unwrap_or_default(),
                relay.name_any()
            ),
        };
        print!("{}", describe(&name, relay.status.as_ref()));
    }
    Ok(())
}

fn describe(name: &str, status: Option<&SmtpRelayStatus>) -> String {
    let Some(status) = status else {
        return format!("{name}: the operator has not seen it yet; does it run?\n");
    };
    let mut text = format!("{name}: {} replicas ready\n", status.replica_summary);
    // Writing to a String cannot fail.
    if let Some(queue) = &status.queue {
        let _ = write!(
            text,
            "  queue: {} messages, {} bytes",
            queue.messages, queue.bytes
        );
        if let Some(oldest) = &queue.oldest {
            let _ = write!(text, ", {} deferred, oldest of {oldest}", queue.deferred);
        }
        if queue.held > 0 {
            let _ = write!(text, ", {} held", queue.held);
        }
        text.push('\n');
    }
    for condition in &status.conditions {
        let _ = writeln!(
            text,
            "  {:<14} {:<8} {}: {}",
            condition.type_, condition.status, condition.reason, condition.message
        );
    }
    for replica in &status.replica_statuses {
        let queued = replica
            .queued
            .map_or_else(|| "?".to_owned(), |queued| queued.to_string());
        let _ = writeln!(
            text,
            "  replica {}: {:?}, {queued} queued",
            replica.ordinal, replica.state
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_waits_and_why() {
        let status: SmtpRelayStatus = serde_json::from_value(serde_json::json!({
            "replicas": 1, "readyReplicas": 1, "replicaSummary": "1/1", "selector": "x", "endpoints": [],
            "conditions": [{
                "type": "UpstreamReady", "status": "False", "reason": "AuthenticationFailed",
                "message": "535 wrong", "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
            "queue": {"messages": 5, "bytes": 1000, "deferred": 0, "oldest": "2026-01-01T00:00:00Z", "held": 2},
            "replicaStatuses": [{"ordinal": 0, "state": "Ready", "queued": 5}],
        }))
        .unwrap();
        assert_eq!(
            describe("mail", Some(&status)),
            "mail: 1/1 replicas ready\n\
             \x20 queue: 5 messages, 1000 bytes, 0 deferred, oldest of 2026-01-01T00:00:00Z, 2 held\n\
             \x20 UpstreamReady  False    AuthenticationFailed: 535 wrong\n\
             \x20 replica 0: Ready, 5 queued\n"
        );
    }

    #[test]
    fn says_when_no_operator_has_answered() {
        assert!(describe("mail", None).contains("does it run"));
    }
}
