//! What to say about a relay.
//!
//! [`summarize`] is pure. A status is written only when it differs from the one before; counts are
//! coarse and times are those of the event, so that a relay at rest is never written.

mod conditions;
mod destinations;
mod figures;
mod notices;
mod senders;
mod starting;
mod upstreams;
mod voices;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _};
use postroad_api::{
    ANNOTATION_RESTARTED_AT, Endpoint, EndpointPort, QueueSummary, Rate, ReplicaState,
    ReplicaStatus, SmtpRelay, SmtpRelayStatus, TlsStatus,
};
use postroad_config::status::RateOf;
use serde_json::json;

use super::apply::{Applied, Rejection};
use super::build;
use super::dereference::{Found, string_at};
use super::validate::{Certificate, Refusal};
use crate::context::{Context, CredentialsInForce};
use crate::events::Notice;
use crate::names::{KEY_AUTHORITY, MANAGER_STATUS, RelayId};

use conditions::Pods;
pub(crate) use conditions::{condition, merge as merge_conditions};
pub(super) use figures::shown;
use voices::Voices;

/// Why a status could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot write the status of {name}")]
    Write { name: String, source: kube::Error },
}

/// A status and what goes with it.
pub(super) struct Summary {
    pub(super) status: SmtpRelayStatus,
    pub(super) notices: Vec<Notice>,
    pub(super) in_force: CredentialsInForce,
    pub(super) pace: Pace,
}

/// How soon there may be something else to say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pace {
    /// Nothing moves.
    AtRest,
    /// Mail waits, replicas come or go, or something is wrong or not known.
    Moving,
    /// Changed files are on their way into the pods, and a kubelet may need another nudge.
    Spreading,
}

/// Sums up.
pub(super) fn summarize(
    applied: &Applied,
    found: &Found,
    previous: Option<&SmtpRelayStatus>,
    now: Timestamp,
) -> Summary {
    let voices = Voices::of(found);
    let wanted = applied.validated.replicas;
    let ready = found
        .pods
        .iter()
        .filter(|pod| pod.ready && pod.ordinal < wanted)
        .count();
    let replicas = replicas(applied, found, previous);
    let queue = queue(&replicas, &voices, &applied.validated.rates);
    let pods = Pods {
        ready,
        troubles: starting::troubles(found, wanted, now),
    };
    let fresh = conditions::all(applied, &voices, &pods, now);
    let earlier = previous
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let is_empty = queue.as_ref().is_none_or(|queue| queue.messages == 0);
    let pace = if voices.refusal().is_none() && voices.behind(&applied.digests).is_some() {
        Pace::Spreading
    } else if conditions::are_at_rest(&fresh) && is_empty {
        Pace::AtRest
    } else {
        Pace::Moving
    };
    let status = SmtpRelayStatus {
        observed_generation: Some(applied.validated.generation),
        replicas: count(found.pods.len()),
        ready_replicas: count(ready),
        replica_summary: format!("{ready}/{wanted}"),
        selector: selector(&applied.validated.id),
        endpoints: endpoints(applied, found),
        conditions: merge_conditions(earlier, fresh, now),
        queue,
        tls: Some(tls(applied, found, &voices)),
        replica_statuses: replicas,
    };
    let seen_before = previous.and_then(|status| status.observed_generation);
    let mut notices = notices::of(earlier, &status.conditions);
    if seen_before != status.observed_generation {
        notices.extend(notices::trust(&applied.validated));
    }
    Summary {
        notices,
        in_force: voices.credentials_in_force(wanted),
        status,
        pace,
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn selector(id: &RelayId) -> String {
    let labels = id.selector();
    let pairs: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

/// Every replica that is wanted or of which something is left.
fn replicas(
    applied: &Applied,
    found: &Found,
    previous: Option<&SmtpRelayStatus>,
) -> Vec<ReplicaStatus> {
    let wanted = applied.validated.replicas;
    let mut ordinals: BTreeSet<u32> = (0..wanted).collect();
    ordinals.extend(found.deployments.keys().chain(found.claims.keys()));
    ordinals
        .into_iter()
        .map(|ordinal| {
            let mut pods = found.pods.iter().filter(|pod| pod.ordinal == ordinal);
            let pod = pods.next();
            let state = match (found.deployments.contains_key(&ordinal), pod) {
                (true, _) if ordinal >= wanted => ReplicaState::Draining,
                (_, Some(pod)) if pod.ready => ReplicaState::Ready,
                (false, None) if found.claims.contains_key(&ordinal) => ReplicaState::Stranded,
                _ => ReplicaState::NotReady,
            };
            let heard = pod.and_then(|pod| pod.status.as_ref());
            let heard = heard.map(|status| figures::coarse(status.queue.messages));
            ReplicaStatus {
                ordinal,
                state,
                // What does not answer holds at least what it held when it last did.
                queued: heard.or_else(|| last_heard(previous?, ordinal)),
            }
        })
        .collect()
}

fn last_heard(previous: &SmtpRelayStatus, ordinal: u32) -> Option<u64> {
    let mut replicas = previous.replica_statuses.iter();
    replicas.find(|replica| replica.ordinal == ordinal)?.queued
}

fn queue(
    replicas: &[ReplicaStatus],
    voices: &Voices<'_>,
    rates: &BTreeMap<RateOf, Rate>,
) -> Option<QueueSummary> {
    let counts: Vec<u64> = replicas
        .iter()
        .filter_map(|replica| replica.queued)
        .collect();
    if counts.is_empty() {
        return None;
    }
    Some(QueueSummary {
        messages: figures::coarse(counts.iter().sum()),
        bytes: figures::coarse(voices.sum(|status| status.queue.bytes)),
        deferred: figures::coarse(voices.sum(|status| status.queue.deferred)),
        oldest: voices.oldest().map(figures::coarse_time),
        held: figures::coarse(voices.sum(|status| status.queue.held)),
        destinations: destinations::top(voices, rates),
    })
}

fn endpoints(applied: &Applied, found: &Found) -> Vec<Endpoint> {
    let validated = &applied.validated;
    let endpoint = |name: &str, host: String| Endpoint {
        name: name.into(),
        host,
        ports: validated
            .listeners
            .iter()
            .map(|&(listener, port)| EndpointPort {
                name: listener.as_str().into(),
                port,
            })
            .collect(),
    };
    let mut endpoints = vec![endpoint("cluster", validated.host.clone())];
    let ingress = found.service.as_ref().and_then(|service| {
        let balancer = service.status.as_ref()?.load_balancer.as_ref()?;
        let first = balancer.ingress.as_ref()?.first()?;
        first.hostname.clone().or_else(|| first.ip.clone())
    });
    endpoints.extend(ingress.map(|host| endpoint("external", host)));
    endpoints
}

/// What the pods serve, and who issued what they should serve.
fn tls(applied: &Applied, found: &Found, voices: &Voices<'_>) -> TlsStatus {
    let authority = match &applied.validated.certificate {
        Certificate::SelfSigned { .. } => Some(applied.validated.id.tls()),
        Certificate::Provided { secret } => {
            let authority = found
                .secret(secret)
                .and_then(|found| string_at(found, KEY_AUTHORITY));
            authority.map(|_| secret.clone())
        }
    };
    let shown = build::shown(&applied.validated, found, &applied.identity);
    TlsStatus {
        not_after: voices.certificate_end().map(|end| end.to_string()),
        issuer: shown.map(|shown| shown.issuer),
        ca_secret_name: authority,
    }
}

/// Writes a status, if it differs, and publishes what has happened.
pub(super) async fn update(
    context: &Context,
    relay: &SmtpRelay,
    applied: &Applied,
    summary: Summary,
) -> Result<Pace, Error> {
    let Summary {
        status,
        notices,
        in_force,
        pace,
    } = summary;
    let id = &applied.validated.id;
    context.in_force.set(&id.namespace, &id.name, in_force);
    let reference = relay.object_ref(&());
    context
        .announcer
        .announce(&reference, applied.notices.clone())
        .await;
    context.announcer.announce(&reference, notices).await;
    write(context, relay, &status).await?;
    Ok(pace)
}

/// Says that a relay is left as it is, and why.
pub(super) async fn refuse(
    context: &Context,
    relay: &SmtpRelay,
    refusal: &Refusal,
    now: Timestamp,
) -> Result<(), Error> {
    let generation = relay.meta().generation.unwrap_or_default();
    let told = |earlier: &[Condition]| conditions::refused(earlier, refusal, generation);
    tell(context, relay, told, now).await
}

/// Says that the API server does not take an object of the relay. What comes after it in the order of things is as it was.
/// The error itself is what matters: that this could not be written is no more than logged.
pub(super) async fn reject(
    context: &Context,
    relay: &SmtpRelay,
    rejection: &Rejection,
    now: Timestamp,
) {
    let generation = relay.meta().generation.unwrap_or_default();
    let told = |earlier: &[Condition]| conditions::rejected(earlier, rejection, generation);
    if let Err(error) = tell(context, relay, told, now).await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "cannot say so in the status");
    }
}

/// Changes conditions, and nothing else of what is known.
async fn tell(
    context: &Context,
    relay: &SmtpRelay,
    told: impl FnOnce(&[Condition]) -> Vec<Condition>,
    now: Timestamp,
) -> Result<(), Error> {
    let mut status = relay.status.clone().unwrap_or_default();
    let earlier = std::mem::take(&mut status.conditions);
    status.observed_generation = Some(relay.meta().generation.unwrap_or_default());
    status.conditions = merge_conditions(&earlier, told(&earlier), now);
    let notices = notices::of(&earlier, &status.conditions);
    context
        .announcer
        .announce(&relay.object_ref(&()), notices)
        .await;
    write(context, relay, &status).await
}

async fn write(
    context: &Context,
    relay: &SmtpRelay,
    status: &SmtpRelayStatus,
) -> Result<(), Error> {
    if relay.status.as_ref() == Some(status) {
        return Ok(());
    }
    let name = relay.metadata.name.as_deref().unwrap_or_default();
    let namespace = relay.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<SmtpRelay> = Api::namespaced(context.client.clone(), namespace);
    let patch = json!({
        "apiVersion": SmtpRelay::api_version(&()),
        "kind": SmtpRelay::kind(&()),
        "metadata": {"name": name},
        "status": status,
    });
    let params = PatchParams::apply(MANAGER_STATUS).force();
    match api.patch_status(name, &params, &Patch::Apply(patch)).await {
        Ok(_) => {
            context.metrics.wrote("SmtpRelay/status");
            Ok(())
        }
        // Deleted meanwhile.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(Error::Write {
            name: name.to_owned(),
            source,
        }),
    }
}

/// The command that has every replica of a relay replaced.
fn restart(name: &str, namespace: &str) -> String {
    format!(
        "kubectl --namespace {namespace} annotate smtprelay {name} {ANNOTATION_RESTARTED_AT}=$(date +%s) --overwrite"
    )
}

/// The status of one condition.
pub(super) fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

#[cfg(test)]
mod tests;
