//! Keeps a SmtpRelay.
//!
//! A visit is a pipeline; each step takes what the one before gave, so none can be left out:
//!
//! 1. [`dereference`] (IO): everything the relay consists of and refers to, and how its pods are;
//! 2. [`validate`] (pure): a relay without anything left to doubt, or a refusal;
//! 3. [`build`] (pure but for new keys): every object as it should be, and the next steps;
//! 4. [`apply`] (IO): in a fixed order, workload last;
//! 5. [`status`] (pure, then IO): what to say about it, written only when it differs.
//!
//! A pod is replaced because of what its user has written ([`build`] says what that is), never because
//! an operator would make it otherwise today.
//!
//! A refused relay is left as it is: its pods go on with what they have. Of one whose image is refused, because the operator allows
//! less than it did, only the pods are: they get new certificates, logins and settings all the same. A reference that leads
//! nowhere (a Secret that is missing) is no refusal: the rest is kept, and status names what is missing.

mod apply;
mod build;
mod dereference;
mod resting;
mod status;
#[cfg(test)]
mod tests;
mod validate;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Resource as _;
use kube::runtime::controller::Action;
use postroad_api::SmtpRelay;

use crate::context::Context;
use crate::names::RelayId;
use crate::retry;
use crate::watch::Relay;
use status::Pace;

pub(crate) use apply::{Error as ApplyError, Seen, ensure};
pub(crate) use dereference::{
    Error as DereferenceError, get_secret, honours, owned_by, string_at, username,
};
pub(crate) use resting::{Resting, watch as watch_resting};
pub(crate) use status::{condition, merge_conditions};

/// While changed files spread: a login that was taken away has to be refused within seconds.
const AT_ONCE: Duration = Duration::from_secs(1);
/// While anything moves, is wrong or is not known.
const SOON: Duration = Duration::from_secs(5);
/// At rest; what is watched wakes the controller anyway, and so do pods with something else to say.
const LATER: Duration = Duration::from_secs(30);
/// The client retries for minutes when the API server is busy; another visit serves better.
const VISIT_MAX: Duration = Duration::from_secs(60);

/// Why a visit failed. All of these are tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read what the relay consists of")]
    Dereference(#[from] dereference::Error),
    #[error("cannot build the objects of the relay")]
    Build(#[from] build::Error),
    #[error("cannot apply the objects of the relay")]
    Apply(#[from] apply::Error),
    #[error("cannot write the status of the relay")]
    Status(#[from] status::Error),
    #[error("the visit took longer than {} seconds", VISIT_MAX.as_secs())]
    TimedOut,
}

/// Visits a relay.
pub(crate) async fn reconcile(relay: Arc<Relay>, context: Arc<Context>) -> Result<Action, Error> {
    let started = Instant::now();
    let visit = tokio::time::timeout(VISIT_MAX, visit(&relay, &context));
    let result = visit.await.unwrap_or(Err(Error::TimedOut));
    context
        .metrics
        .reconciled("relay", result.is_ok(), started.elapsed());
    if result.is_ok() {
        context.failures.succeeded(uid(&relay));
    }
    result
}

/// When to visit again after a failure.
#[expect(clippy::needless_pass_by_value, reason = "the signature is kube's")]
pub(crate) fn on_error(relay: Arc<Relay>, error: &Error, context: Arc<Context>) -> Action {
    let meta = relay.meta();
    let pause = context.failures.failed(uid(&relay));
    tracing::warn!(
        namespace = meta.namespace,
        name = meta.name,
        error = error as &(dyn std::error::Error + 'static),
        again_in_seconds = pause.as_secs(),
        "cannot keep the relay"
    );
    Action::requeue(pause)
}

async fn visit(relay: &Relay, context: &Arc<Context>) -> Result<Action, Error> {
    let relay = match &relay.0 {
        Ok(relay) => relay,
        Err(undecodable) => {
            tracing::error!(
                name = undecodable.metadata.name,
                error = undecodable.error,
                "cannot decode a SmtpRelay; it is left as it is"
            );
            return Ok(Action::await_change());
        }
    };
    let Some(id) = RelayId::of(relay) else {
        return Ok(Action::await_change());
    };
    if relay.metadata.deletion_timestamp.is_some() {
        // The garbage collector has it; whatever is made now would be in its way.
        context.in_force.forget(&id.namespace, &id.name);
        return Ok(Action::await_change());
    }
    keep(relay, id, context).await
}

async fn keep(relay: &SmtpRelay, id: RelayId, context: &Arc<Context>) -> Result<Action, Error> {
    let now = Timestamp::now();
    context.resting.end(&id.uid);
    // IO
    let found = dereference::dereference(context, relay, &id).await?;
    // Pure
    let validated = match validate::validate(relay, id, &found, &context.settings) {
        Ok(validated) => validated,
        Err(refusal) => {
            // IO
            status::refuse(context, relay, &refusal, now).await?;
            return Ok(Action::requeue(retry::jitter(LATER)));
        }
    };
    // Pure, but for new keys; they and password verifiers take milliseconds of CPU.
    let (found, prepared) = build::build_elsewhere(validated, found, now).await?;
    // IO
    let applied = match apply::apply(context, prepared, &found).await {
        Ok(applied) => applied,
        Err(error) => {
            if let Some(rejection) = error.rejection() {
                status::reject(context, relay, &rejection, now).await;
            }
            let refusal = error.refusal().ok_or(error)?;
            status::refuse(context, relay, &refusal, now).await?;
            return Ok(Action::requeue(retry::jitter(LATER)));
        }
    };
    // Pure
    let summary = status::summarize(&applied, &found, relay.status.as_ref(), now);
    // IO
    let pace = status::update(context, relay, &applied, summary).await?;
    if pace == Pace::AtRest {
        context.resting.begin(&applied.validated.id, &found.pods);
    }
    Ok(Action::requeue(retry::jitter(match pace {
        Pace::AtRest => LATER,
        Pace::Moving => SOON,
        Pace::Spreading => AT_ONCE,
    })))
}

fn uid(relay: &Relay) -> &str {
    relay.meta().uid.as_deref().unwrap_or_default()
}
