//! `kubectl postroad flush`: has mail tried now that waits for its next attempt.

use anyhow::Context as _;
use jiff::Timestamp;
use kube::Client;
use postroad_api::{Override, OverrideAction};

use crate::overrides;
use crate::selection::Selection;

/// Adds an override that flushes what has arrived by now, or sets the time of the one that there is.
///
/// # Errors
/// What the API server says.
#[expect(clippy::print_stdout, reason = "a person asked for it")]
pub(crate) async fn run(
    client: Client,
    namespace: &str,
    relay: &str,
    selection: &Selection,
) -> anyhow::Result<()> {
    let wanted = wanted(selection, Timestamp::now());
    overrides::edit(client, namespace, relay, |list| {
        overrides::put(list, &wanted)
    })
    .await
    .with_context(|| format!("cannot flush {namespace}/{relay}"))?;
    println!(
        "{relay}: {selection} is tried now, but for what is held; see `kubectl postroad queue {relay} -n {namespace}`"
    );
    Ok(())
}

fn wanted(selection: &Selection, now: Timestamp) -> Override {
    // To the second, and never in the past of what has just arrived.
    let end = Timestamp::from_second(now.as_second().saturating_add(1)).unwrap_or(now);
    Override {
        name: selection.name("flush"),
        action: OverrideAction::Flush,
        matches: selection.matches(),
        arrived_before: Some(end.to_string()),
        reason: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_arrived_by_now_is_meant() {
        let now = Timestamp::from_millisecond(1_800_000_000_999).unwrap();
        let wanted = wanted(&Selection::default(), now);
        assert_eq!(wanted.name, "flush");
        assert_eq!(
            wanted.arrived_before.as_deref(),
            Some("2027-01-15T08:00:01Z")
        );
    }
}
