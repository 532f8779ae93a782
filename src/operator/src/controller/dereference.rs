//! Everything a relay consists of and refers to, and how its pods are.
//!
//! Secrets are read by name, never listed, and each at every visit: nobody tells when one changes.
//! The rest comes from the caches.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};
use postroad_api::{ServiceType, SmtpCredential, SmtpRelay};
use postroad_config::status::RelayStatus;

use super::apply::Seen;
use crate::certificate::Pair;
use crate::context::Context;
use crate::credentials_file::{Login, Proofs};
use crate::names::{self, KEY_CERTIFICATE, KEY_PASSWORD, KEY_PRIVATE, RelayId};
use crate::places;
use crate::watch::Credential;

/// Requests at once for one relay.
const CONCURRENCY: usize = 8;

/// Why something could not be read; a Secret that does not exist is no error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot get the Secret {namespace}/{name}")]
    Secret {
        namespace: String,
        name: String,
        source: kube::Error,
    },
    #[error("cannot get the Service {name}")]
    Service { name: String, source: kube::Error },
}

/// What was found.
pub(crate) struct Found {
    /// Own ones and those that the spec refers to, by name. `None` if it does not exist.
    pub(crate) secrets: BTreeMap<String, Option<Secret>>,
    /// By user name, of every credential that the relay honours.
    pub(crate) logins: BTreeMap<String, Login>,
    /// What earlier visits have found out about passwords.
    pub(crate) proofs: Arc<Proofs>,
    /// By ordinal.
    pub(crate) deployments: BTreeMap<u32, Arc<Deployment>>,
    /// By ordinal.
    pub(crate) claims: BTreeMap<u32, Arc<PersistentVolumeClaim>>,
    /// Those that are neither on their way out nor at their end.
    pub(crate) pods: Vec<FoundPod>,
    /// Every pod there is, also those on their way out or at their end.
    pub(crate) all_pods: Vec<Arc<Pod>>,
    /// The Service, if its load balancer is of interest.
    pub(crate) service: Option<Service>,
}

/// A pod and what it says.
pub(crate) struct FoundPod {
    pub(crate) pod: Arc<Pod>,
    pub(crate) ordinal: u32,
    pub(crate) address: Option<IpAddr>,
    pub(crate) ready: bool,
    pub(crate) status: Option<RelayStatus>,
}

impl Found {
    pub(crate) fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name)?.as_ref()
    }

    /// Ordinals of which any pod may still run, also one on its way out.
    pub(crate) fn lingering(&self) -> impl Iterator<Item = u32> {
        let pods = self.all_pods.iter().filter(|pod| !has_ended(pod));
        pods.filter_map(|pod| names::ordinal(&pod.metadata))
    }

    /// The certificate and key in a Secret of the relay's own, if it exists; empty where a key is missing. Somebody
    /// else's of that name is none: whoever holds its key could pose as the relay.
    pub(crate) fn own_pair(&self, id: &RelayId, name: &str) -> Option<Pair> {
        let ours = Seen::of_relay(id);
        let secret = self.secret(name)?;
        ours.is_ours(&secret.metadata).then(|| Pair {
            certificate: string_at(secret, KEY_CERTIFICATE).unwrap_or_default(),
            key: string_at(secret, KEY_PRIVATE).unwrap_or_default(),
        })
    }
}

/// Reads.
pub(crate) async fn dereference(
    context: &Context,
    relay: &SmtpRelay,
    id: &RelayId,
) -> Result<Found, Error> {
    let caches = &context.caches;
    let secrets = secrets(&context.client, id, secret_names(relay, id)).await?;
    let all_pods = caches.pods.of_relay(&id.namespace, &id.name);
    let mut found = Found {
        secrets,
        logins: logins(context, relay, id).await?,
        proofs: Arc::clone(&context.proofs),
        deployments: by_ordinal(id, caches.deployments.of_relay(&id.namespace, &id.name)),
        claims: by_ordinal(id, caches.claims.of_relay(&id.namespace, &id.name)),
        pods: pods(&all_pods),
        all_pods,
        service: service(context, relay, id).await?,
    };
    if let Some(authority) = found.own_pair(id, &id.authority()) {
        let pods = std::mem::take(&mut found.pods);
        found.pods = ask(context, id, &authority, pods).await;
    }
    Ok(found)
}

/// The Secrets that make the relay up, and those that its spec refers to.
fn secret_names(relay: &SmtpRelay, id: &RelayId) -> BTreeSet<String> {
    // The own certificate also where it is not used: it may have been, and be left over.
    let own = [id.authority(), id.admin(), id.credentials(), id.tls()];
    let mut names = BTreeSet::from(own);
    let provided = relay.spec.tls.secret_ref.as_ref();
    names.extend(provided.map(|provided| provided.name.clone()));
    for upstream in &relay.spec.delivery.upstreams {
        names.extend(upstream.login_secret().map(str::to_owned));
        names.extend(upstream.ca_secret().map(|reference| reference.name.clone()));
    }
    names
}

async fn secrets(
    client: &Client,
    id: &RelayId,
    names: BTreeSet<String>,
) -> Result<BTreeMap<String, Option<Secret>>, Error> {
    let gets = names.into_iter().map(|name| async move {
        let secret = get_secret(client, &id.namespace, &name).await?;
        Ok((name, secret))
    });
    let results: Vec<Result<_, Error>> = futures::stream::iter(gets)
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    results.into_iter().collect()
}

/// A Secret, or `None` if it does not exist.
pub(crate) async fn get_secret(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<Secret>, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    api.get_opt(name).await.map_err(|source| Error::Secret {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        source,
    })
}

/// The logins of the honoured credentials, as far as those have handed a password out.
async fn logins(
    context: &Context,
    relay: &SmtpRelay,
    id: &RelayId,
) -> Result<BTreeMap<String, Login>, Error> {
    let honoured = places::honoured(context, relay, id);
    let gets = honoured
        .into_iter()
        .map(|credential| get_login(&context.client, credential));
    let results: Vec<_> = futures::stream::iter(gets)
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    results.into_iter().filter_map(Result::transpose).collect()
}

async fn get_login(
    client: &Client,
    credential: Arc<Credential>,
) -> Result<Option<(String, Login)>, Error> {
    let Ok(credential) = &credential.0 else {
        return Ok(None);
    };
    let namespace = credential.metadata.namespace.as_deref().unwrap_or_default();
    let secret = get_secret(client, namespace, credential.secret_name()).await?;
    Ok(secret.and_then(|secret| login(credential, &secret)))
}

/// User name and login of a credential, if the Secret is its own.
fn login(credential: &SmtpCredential, secret: &Secret) -> Option<(String, Login)> {
    let owned = owned_by(&secret.metadata, credential.metadata.uid.as_deref()?);
    let password = string_at(secret, KEY_PASSWORD).filter(|password| !password.is_empty())?;
    owned.then(|| (username(credential), Login::of(password)))
}

/// The user name of a credential. A namespace has no dots, so no two credentials share one.
pub(crate) fn username(credential: &SmtpCredential) -> String {
    let ObjectMeta {
        name, namespace, ..
    } = &credential.metadata;
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}.{}", part(namespace), part(name))
}

/// Whether the relay lets the namespace of a credential in.
pub(crate) fn honours(relay: &SmtpRelay, credential: &SmtpCredential) -> bool {
    let own = credential.metadata.namespace.as_deref().unwrap_or_default();
    relay.metadata.namespace.as_deref() == Some(own)
        || relay
            .spec
            .access
            .namespaces
            .iter()
            .any(|allowed| allowed == "*" || allowed == own)
}

/// Whether the object goes with another.
pub(crate) fn owned_by(meta: &ObjectMeta, uid: &str) -> bool {
    let owners = meta.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.uid == uid)
}

/// A value of a Secret as text; `None` if it is missing or no UTF-8.
pub(crate) fn string_at(secret: &Secret, key: &str) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.0.clone()).ok()
}

fn by_ordinal<K: kube::Resource>(id: &RelayId, objects: Vec<Arc<K>>) -> BTreeMap<u32, Arc<K>> {
    objects
        .into_iter()
        .filter_map(|object| Some((id.ordinal(object.meta())?, object)))
        .collect()
}

pub(super) fn pods(pods: &[Arc<Pod>]) -> Vec<FoundPod> {
    let mut pods: Vec<_> = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none() && !has_ended(pod))
        .filter_map(|pod| {
            let status = pod.status.as_ref();
            let conditions = status.and_then(|status| status.conditions.as_deref());
            Some(FoundPod {
                ordinal: names::ordinal(&pod.metadata)?,
                address: status.and_then(|status| status.pod_ip.as_deref()?.parse().ok()),
                ready: conditions
                    .unwrap_or_default()
                    .iter()
                    .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
                status: None,
                pod: Arc::clone(pod),
            })
        })
        .collect();
    pods.sort_by(|a, b| (a.ordinal, &a.pod.metadata.name).cmp(&(b.ordinal, &b.pod.metadata.name)));
    pods
}

/// Whether nothing runs in a pod any more. One that was evicted stays like this for days, beside its successor.
fn has_ended(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

/// Asks every pod that has an address. One that does not answer has no status.
async fn ask(
    context: &Context,
    id: &RelayId,
    authority: &Pair,
    pods: Vec<FoundPod>,
) -> Vec<FoundPod> {
    let asked = pods.into_iter().map(|pod| async move {
        let mut status = ask_once(context, id, authority, &pod).await;
        // One lost packet is no silence: much is put off, and people are told, while a ready pod is silent.
        if status.is_none() && pod.ready {
            status = ask_once(context, id, authority, &pod).await;
        }
        FoundPod { status, ..pod }
    });
    futures::stream::iter(asked)
        .buffered(CONCURRENCY)
        .collect()
        .await
}

async fn ask_once(
    context: &Context,
    id: &RelayId,
    authority: &Pair,
    pod: &FoundPod,
) -> Option<RelayStatus> {
    let answer = context.admin.status(id, authority, pod.address?).await;
    answer
        .inspect_err(|error| {
            tracing::debug!(
                pod = pod.pod.metadata.name,
                error = error as &dyn std::error::Error,
                "a pod does not say how it is"
            );
        })
        .ok()
}

/// Load balancers report their address in the status of the Service, which the cache does not hold.
async fn service(
    context: &Context,
    relay: &SmtpRelay,
    id: &RelayId,
) -> Result<Option<Service>, Error> {
    if relay.spec.service.kind != ServiceType::LoadBalancer {
        return Ok(None);
    }
    let api: Api<Service> = Api::namespaced(context.client.clone(), &id.namespace);
    api.get_opt(&id.name)
        .await
        .map_err(|source| Error::Service {
            name: id.name.clone(),
            source,
        })
}
