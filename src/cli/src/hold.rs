//! `kubectl postroad hold`: keeps mail in the queue until it is released.

use anyhow::Context as _;
use kube::Client;
use postroad_api::{Override, OverrideAction};

use crate::overrides;
use crate::selection::Selection;

/// Adds an override that holds.
///
/// # Errors
/// What the API server says.
#[expect(clippy::print_stdout, reason = "a person asked for it")]
pub(crate) async fn run(
    client: Client,
    namespace: &str,
    relay: &str,
    selection: &Selection,
    name: Option<String>,
) -> anyhow::Result<()> {
    let name = name.unwrap_or_else(|| selection.name("hold"));
    let wanted = Override {
        name,
        action: OverrideAction::Hold,
        matches: selection.matches(),
        arrived_before: None,
        reason: None,
    };
    overrides::edit(client, namespace, relay, |list| {
        overrides::put(list, &wanted)
    })
    .await
    .with_context(|| format!("cannot hold mail in {namespace}/{relay}"))?;
    let name = &wanted.name;
    println!(
        "{relay}: {selection} is held; its lifetime goes on. To let it go:\n  kubectl postroad release {relay} {name} -n {namespace}"
    );
    Ok(())
}
