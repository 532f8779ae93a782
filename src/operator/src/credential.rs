//! Keeps a SmtpCredential: a login at a relay, handed out as a Secret.
//!
//! The same pipeline as for a relay, smaller. The Secret is made here; the relay's credentials file
//! is the relay's own controller's, which takes the passwords from the Secrets of all credentials it
//! honours. So a login works only after both have had their turn, and `Ready` says when.
//!
//! A Secret of the wanted name that is not this credential's own is never touched.

mod apply;
mod build;
mod dereference;
mod status;
#[cfg(test)]
mod tests;
mod validate;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Resource as _;
use kube::runtime::controller::Action;
use postroad_api::SmtpCredential;

use crate::context::Context;
use crate::places::Place;
use crate::retry;
use crate::watch::Credential;

/// Until the relay honours the login; someone is waiting for it.
const SOON: Duration = Duration::from_secs(2);
/// At rest.
const LATER: Duration = Duration::from_secs(30);
/// While there is no place at the relay: there may be thousands of these, and each look goes through all of them.
const CROWDED: Duration = Duration::from_secs(300);
/// Half a dozen requests.
const VISIT_MAX: Duration = Duration::from_secs(30);

/// Why a visit failed. All of these are tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read what the credential consists of")]
    Dereference(#[from] dereference::Error),
    #[error("cannot build the Secret of the credential")]
    Build(#[from] build::Error),
    #[error("cannot apply the Secret of the credential")]
    Apply(#[from] apply::Error),
    #[error("cannot write the status of the credential")]
    Status(#[from] status::Error),
    #[error("the visit took longer than {} seconds", VISIT_MAX.as_secs())]
    TimedOut,
}

/// Visits a credential.
pub(crate) async fn reconcile(
    credential: Arc<Credential>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let started = Instant::now();
    let visit = tokio::time::timeout(VISIT_MAX, visit(&credential, &context));
    let result = visit.await.unwrap_or(Err(Error::TimedOut));
    context
        .metrics
        .reconciled("credential", result.is_ok(), started.elapsed());
    if result.is_ok() {
        context.failures.succeeded(uid(&credential));
    }
    result
}

/// When to visit again after a failure.
#[expect(clippy::needless_pass_by_value, reason = "the signature is kube's")]
pub(crate) fn on_error(
    credential: Arc<Credential>,
    error: &Error,
    context: Arc<Context>,
) -> Action {
    let meta = credential.meta();
    let pause = context.failures.failed(uid(&credential));
    tracing::warn!(
        namespace = meta.namespace,
        name = meta.name,
        error = error as &(dyn std::error::Error + 'static),
        again_in_seconds = pause.as_secs(),
        "cannot keep the credential"
    );
    Action::requeue(pause)
}

async fn visit(credential: &Credential, context: &Context) -> Result<Action, Error> {
    let credential = match &credential.0 {
        Ok(credential) => credential,
        Err(undecodable) => {
            tracing::error!(
                name = undecodable.metadata.name,
                error = undecodable.error,
                "cannot decode a SmtpCredential; it is left as it is"
            );
            return Ok(Action::await_change());
        }
    };
    if credential.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    keep(credential, context).await
}

async fn keep(credential: &SmtpCredential, context: &Context) -> Result<Action, Error> {
    let now = Timestamp::now();
    // IO
    let found = dereference::dereference(context, credential).await?;
    // Pure
    let verdict = match validate::validate(credential, &found, &context.settings) {
        Ok(validated) => {
            // Pure, but for a new password
            let prepared = build::build(validated)?;
            // IO
            let applied = apply::apply(context, prepared).await?;
            // Pure
            status::applied(credential, &applied, &found, &context.proofs)
        }
        Err(refusal) => status::refused(credential, &refusal),
    };
    // IO
    let at_rest = status::update(context, credential, verdict, now).await?;
    Ok(Action::requeue(retry::jitter(match found.place() {
        Place::Taken if at_rest => LATER,
        Place::Taken => SOON,
        Place::NamespaceFull | Place::RelayFull => CROWDED,
    })))
}

fn uid(credential: &Credential) -> &str {
    credential.meta().uid.as_deref().unwrap_or_default()
}
