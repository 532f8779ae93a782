//! `kubectl postroad restart`: has every replica of a relay replaced, one at a time.
//!
//! It sets an annotation; the operator does the rest, in the order in which it rolls out a change.
//! Pods that an earlier operator has made become those of today.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use postroad_api::{ANNOTATION_RESTARTED_AT, SmtpRelay};
use serde_json::{Value, json};

use crate::cluster::explain;

/// Asks for the restart, and does not wait for it.
///
/// # Errors
/// What the API server says.
#[expect(clippy::print_stdout, reason = "a person asked for it")]
pub(crate) async fn run(client: Client, namespace: &str, name: &str) -> anyhow::Result<()> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?;
    let api: Api<SmtpRelay> = Api::namespaced(client, namespace);
    let patch = Patch::Merge(patch(now.as_secs()));
    api.patch_metadata(name, &PatchParams::default(), &patch)
        .await
        .map_err(explain)
        .with_context(|| format!("cannot restart {namespace}/{name}"))?;
    println!(
        "{name}: its replicas are replaced, one at a time; see `kubectl postroad status {name} -n {namespace}`"
    );
    Ok(())
}

fn patch(seconds: u64) -> Value {
    json!({"metadata": {"annotations": {ANNOTATION_RESTARTED_AT: seconds.to_string()}}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_by_the_annotation_that_the_operator_reads() {
        let annotations = json!({"postroad.dev/restartedAt": "1800000000"});
        let expected = json!({"metadata": {"annotations": annotations}});
        assert_eq!(patch(1_800_000_000), expected);
    }
}
