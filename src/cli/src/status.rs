//! `kubectl postroad status`: everything that the status of a relay says, for people.

use std::fmt::Write as _;

use anyhow::Context as _;
use jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use postroad_api::{SmtpRelay, SmtpRelayStatus};

use crate::cluster::explain;
use crate::figures::waiting;

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
    let name = relay.name_any();
    print!(
        "{}",
        describe(&name, relay.status.as_ref(), Timestamp::now())
    );
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
    let now = Timestamp::now();
    for relay in relays {
        let name = match namespace {
            Some(_) => relay.name_any(),
            None => format!(
                "{}/{}",
                relay.namespace().unwrap_or_default(),
                relay.name_any()
            ),
        };
        print!("{}", describe(&name, relay.status.as_ref(), now));
    }
    Ok(())
}

fn describe(name: &str, status: Option<&SmtpRelayStatus>, now: Timestamp) -> String {
    let Some(status) = status else {
        return format!("{name}: the operator has not seen it yet; does it run?\n");
    };
    // Empty as long as the specification has not been in force.
    let mut text = match status.replica_summary.as_str() {
        "" => format!("{name}: no replicas\n"),
        summary => format!("{name}: {summary} replicas ready\n"),
    };
    // Writing to a String cannot fail.
    if let Some(queue) = &status.queue {
        let _ = writeln!(text, "  queue: {}", waiting(queue, now));
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
        let now = "2026-01-01T00:00:30Z".parse().unwrap();
        assert_eq!(
            describe("mail", Some(&status), now),
            "mail: 1/1 replicas ready\n\
             \x20 queue: 5 messages (1.0 kB), 0 deferred, 2 held, oldest 30s\n\
             \x20 UpstreamReady  False    AuthenticationFailed: 535 wrong\n\
             \x20 replica 0: Ready, 5 queued\n"
        );
    }

    #[test]
    fn says_when_no_operator_has_answered() {
        let text = describe("mail", None, Timestamp::UNIX_EPOCH);
        assert!(text.contains("does it run"), "{text}");
    }

    #[test]
    fn a_relay_that_was_refused_has_no_replicas() {
        let status: SmtpRelayStatus = serde_json::from_value(serde_json::json!({
            "replicas": 0, "readyReplicas": 0, "replicaSummary": "", "selector": "", "endpoints": [],
            "conditions": [{
                "type": "Accepted", "status": "False", "reason": "ImageNotAllowed",
                "message": "no", "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
        }))
        .unwrap();
        assert_eq!(
            describe("mail", Some(&status), Timestamp::UNIX_EPOCH),
            "mail: no replicas\n\
             \x20 Accepted       False    ImageNotAllowed: no\n"
        );
    }
}
