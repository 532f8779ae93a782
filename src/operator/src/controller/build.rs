//! Every object of a relay as it should be, and what to do next.
//!
//! Pure, but for the keys of new certificates and the salts of new passwords.

mod budget;
mod claim;
mod config_map;
mod credentials;
mod deployment;
mod identity;
mod inputs;
mod mount;
mod observed;
mod pod;
mod secret;
mod service;
mod service_account;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use postroad_config::status::RelayStatus;
use serde_json::Value;

use super::dereference::{Found, string_at};
use super::validate::{Certificate, UpstreamFiles, Validated};
use crate::certificate::{Inspected, Pair, inspect};
use crate::digest;
use crate::events::Notice;
use crate::names::KEY_CERTIFICATE;
use crate::rollout::{self, Plan, Replica, Wanted};
use deployment::Made;
use inputs::Inputs;

pub(super) use identity::Identity;
pub(super) use mount::mount;
pub(super) use observed::claim_state;
pub(super) use pod::lacks;

/// Why the objects cannot be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot issue a certificate")]
    Certificate(#[from] crate::certificate::Error),
    #[error("cannot render the credentials file")]
    Credentials(#[from] postroad_config::Error),
    #[error("no randomness for a password salt")]
    Randomness,
    #[error("cannot encode a Deployment")]
    Encode(#[from] serde_json::Error),
    #[error("building was broken off")]
    BrokenOff(#[from] tokio::task::JoinError),
}

/// A relay that is built and not yet applied.
pub(crate) struct Prepared {
    pub(super) validated: Validated,
    pub(super) objects: Objects,
    pub(super) identity: Identity,
    pub(super) plan: Plan,
    pub(super) outdated: Outdated,
    pub(super) digests: Digests,
    pub(super) notices: Vec<Notice>,
}

/// Replicas that are as their user wants them, and that this operator would make otherwise today.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Outdated {
    /// Sorted.
    pub(super) ordinals: Vec<u32>,
    /// The images that they run, each once, sorted.
    pub(super) images: Vec<String>,
    /// The image that a new one would run.
    pub(super) image: String,
}

/// Every object as it should be.
pub(super) struct Objects {
    pub(super) service_account: ServiceAccount,
    pub(super) secrets: Vec<Secret>,
    pub(super) config_map: ConfigMap,
    pub(super) services: [Service; 2],
    /// `None` if there should be none.
    pub(super) budget: Option<PodDisruptionBudget>,
    /// By ordinal; more than the wanted ones where some have yet to go.
    pub(super) replicas: BTreeMap<u32, ReplicaObjects>,
}

/// The objects of one replica.
pub(super) struct ReplicaObjects {
    /// As it is made today, with a new pod.
    pub(super) deployment: Value,
    /// As it was made, whatever has been changed by hand since: with the pod that it has. `None` if
    /// there is none, or none that says how it was made.
    pub(super) kept: Option<Value>,
    pub(super) claim: Option<PersistentVolumeClaim>,
}

/// Digests of what is mounted.
#[derive(Clone, Debug)]
pub(super) struct Digests {
    /// Of everything.
    pub(super) content: String,
    /// Of the configuration file.
    pub(super) config: String,
    /// Of the credentials file.
    pub(super) credentials: String,
    /// Of the certificate that clients should be shown; `None` if there is none that can be read.
    pub(super) certificate: Option<String>,
}

impl Digests {
    /// Whether a pod works with what is mounted now.
    pub(super) fn are_in_force(&self, status: &RelayStatus) -> bool {
        let served = status
            .certificate
            .as_ref()
            .map(|served| &served.fingerprint);
        let shows_another = served
            .zip(self.certificate.as_ref())
            .is_some_and(|(a, b)| a != b);
        status.config.hash == self.config
            && status.config.credentials_hash == self.credentials
            && !shows_another
    }
}

/// [`build`] on a thread where its milliseconds of CPU keep nobody waiting.
pub(super) async fn build_elsewhere(
    validated: Validated,
    found: Found,
    now: Timestamp,
) -> Result<(Found, Prepared), Error> {
    tokio::task::spawn_blocking(move || {
        let prepared = build(validated, &found, now)?;
        Ok((found, prepared))
    })
    .await?
}

/// Builds.
pub(super) fn build(
    validated: Validated,
    found: &Found,
    now: Timestamp,
) -> Result<Prepared, Error> {
    let mut notices = Vec::new();
    let identity = identity::establish(&validated, found, now, &mut notices)?;
    let credentials = credentials::file(&validated, found)?;
    let mut secrets = identity::secrets(&validated, &identity);
    secrets.push(secret::credentials(&validated.id, &credentials));

    let inputs = Inputs::of(&validated);
    let digest = inputs.digest()?;
    let mut made = BTreeMap::new();
    for ordinal in (0..validated.replicas).chain(observed::ordinals(found)) {
        let template = pod::template(&validated.id, ordinal, &inputs, &validated.defaults);
        let template = serde_json::to_value(template)?;
        let inputs = digest.clone();
        made.insert(ordinal, Made { inputs, template });
    }
    let wanted = Wanted {
        relay: &validated.id.name,
        replicas: validated.replicas,
        inputs: &digest,
    };
    let observed = observed::replicas(found, &made, now);
    let plan = match &validated.pods_refused {
        Some(_) => Plan::default(),
        None => rollout::plan(wanted, &observed),
    };
    let outdated = outdated(wanted, &observed, &plan, found, &made);
    let replicas = replica_objects(&validated, found, &made)?;

    let digests = Digests {
        content: content(&validated, found, &secrets, &credentials),
        config: digest::of(validated.config.as_bytes()),
        credentials: digest::of(credentials.as_bytes()),
        certificate: shown(&validated, found, &identity).map(|shown| shown.fingerprint),
    };
    let objects = Objects {
        service_account: service_account::build(&validated.id),
        config_map: config_map::build(&validated),
        services: [service::front(&validated), service::headless(&validated)],
        budget: budget::build(&validated),
        secrets,
        replicas,
    };
    Ok(Prepared {
        validated,
        objects,
        identity,
        plan,
        outdated,
        digests,
        notices,
    })
}

fn replica_objects(
    validated: &Validated,
    found: &Found,
    made: &BTreeMap<u32, Made>,
) -> Result<BTreeMap<u32, ReplicaObjects>, serde_json::Error> {
    let id = &validated.id;
    let mut replicas = BTreeMap::new();
    for (&ordinal, made) in made {
        let existing = found.deployments.get(&ordinal);
        let existing = existing.and_then(|existing| Made::of(existing));
        let kept = existing.map(|existing| existing.deployment(id, ordinal));
        let objects = ReplicaObjects {
            deployment: made.deployment(id, ordinal)?,
            kept: kept.transpose()?,
            claim: claim::build(validated, ordinal),
        };
        replicas.insert(ordinal, objects);
    }
    Ok(replicas)
}

/// What stays as an earlier operator has made it.
fn outdated(
    wanted: Wanted<'_>,
    observed: &BTreeMap<u32, Replica>,
    plan: &Plan,
    found: &Found,
    made: &BTreeMap<u32, Made>,
) -> Outdated {
    let ordinals = rollout::outdated(wanted, observed, plan);
    let mut images: Vec<_> = ordinals
        .iter()
        .filter_map(|ordinal| Made::of(found.deployments.get(ordinal)?))
        .map(|existing| existing.image().to_owned())
        .collect();
    images.sort();
    images.dedup();
    let image = made.values().next().map(|made| made.image().to_owned());
    Outdated {
        ordinals,
        images,
        image: image.unwrap_or_default(),
    }
}

/// Digest of what the pods see on disk, own or the user's.
fn content(validated: &Validated, found: &Found, secrets: &[Secret], credentials: &str) -> String {
    let mut parts: Vec<&[u8]> = vec![validated.config.as_bytes(), credentials.as_bytes()];
    let provided = match &validated.certificate {
        Certificate::SelfSigned { .. } => None,
        Certificate::Provided { secret } => Some(secret),
    };
    let referenced = validated.upstreams.iter().flat_map(|upstream| {
        let UpstreamFiles {
            name: _,
            login,
            authority,
        } = upstream;
        login
            .iter()
            .chain(authority.as_ref().map(|(secret, _)| secret))
    });
    // The authority is mounted nowhere, and the credentials file is counted already.
    let own = secrets.iter().filter(|secret| {
        let name = secret.metadata.name.as_ref();
        name != Some(&validated.id.authority()) && name != Some(&validated.id.credentials())
    });
    let users = provided.into_iter().chain(referenced);
    let users = users.filter_map(|name| found.secret(name));
    for secret in own.chain(users) {
        for (key, value) in secret.data.iter().flatten() {
            parts.push(key.as_bytes());
            parts.push(&value.0);
        }
    }
    digest::of_parts(parts)
}

/// The certificate that clients should be shown.
pub(super) fn shown(
    validated: &Validated,
    found: &Found,
    identity: &Identity,
) -> Option<Inspected> {
    let pem = match (&validated.certificate, identity) {
        (Certificate::Provided { secret }, _) => string_at(found.secret(secret)?, KEY_CERTIFICATE)?,
        (Certificate::SelfSigned { .. }, Identity::Established { tls, .. }) => {
            tls.as_ref()?.certificate.clone()
        }
        (Certificate::SelfSigned { .. }, Identity::Unreadable { .. }) => return None,
    };
    inspect(&pem).ok()
}

/// The authority, as far as there is one that can be read.
pub(super) const fn authority(identity: &Identity) -> Option<&Pair> {
    match identity {
        Identity::Established { authority, .. } => Some(authority),
        Identity::Unreadable { .. } => None,
    }
}
