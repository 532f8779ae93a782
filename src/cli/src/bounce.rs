//! `kubectl postroad bounce`: returns mail to its senders.

use anyhow::{Context as _, bail};
use kube::Client;
use postroad_api::{Override, OverrideAction};

use crate::overrides;
use crate::selection::Selection;

/// Adds an override that returns mail, for as long as it stands there.
///
/// # Errors
/// What the API server says; also if no mail is named.
#[expect(clippy::print_stdout, reason = "a person asked for it")]
pub(crate) async fn run(
    client: Client,
    namespace: &str,
    relay: &str,
    selection: &Selection,
    reason: String,
) -> anyhow::Result<()> {
    let Some(matches) = selection.matches() else {
        bail!(
            "say which mail: --recipient, --sender or --credential; --recipient '*' returns all of it"
        );
    };
    let wanted = Override {
        name: selection.name("bounce"),
        action: OverrideAction::Bounce,
        matches: Some(matches),
        arrived_before: None,
        reason: Some(reason),
    };
    overrides::edit(client, namespace, relay, |list| {
        overrides::put(list, &wanted)
    })
    .await
    .with_context(|| format!("cannot return mail in {namespace}/{relay}"))?;
    let name = &wanted.name;
    println!(
        "{relay}: {selection} is returned to its senders, also what comes later. To end that:\n  kubectl postroad release {relay} {name} -n {namespace}"
    );
    Ok(())
}
