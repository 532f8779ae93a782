//! `kubectl postroad release`: lets mail go that was held, and ends other overrides.

use std::sync::Mutex;

use anyhow::Context as _;
use kube::Client;

use crate::overrides;

/// Takes the overrides of these names away; all that hold or flush where no name is given.
///
/// # Errors
/// What the API server says, and names that there are not.
#[expect(clippy::print_stdout, reason = "a person asked for it")]
pub(crate) async fn run(
    client: Client,
    namespace: &str,
    relay: &str,
    names: &[String],
) -> anyhow::Result<()> {
    let taken = Mutex::new(Vec::new());
    overrides::edit(client, namespace, relay, |list| {
        let names = overrides::take(list, names)?;
        // Nobody panics with the lock held.
        *taken
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = names;
        Ok(())
    })
    .await
    .with_context(|| format!("cannot release mail in {namespace}/{relay}"))?;
    let taken = taken.into_inner().unwrap_or_default();
    if taken.is_empty() {
        println!("{relay}: nothing was held");
    } else {
        println!("{relay}: ended {}", taken.join(", "));
    }
    Ok(())
}
