//! A relay without anything left to doubt.
//!
//! The API server has checked most of a spec by then; what an older definition let through, or no
//! rule can see, is refused here. A refusal leaves everything as it is.

mod config;
mod image;
mod surroundings;
mod ways;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource as _;
use postroad_api::{
    ANNOTATION_RESTARTED_AT, Delivery, Listeners, Rate, Resources, ServiceType, SmtpRelay,
    SmtpRelaySpec, StorageType, TlsSource, Upstream,
};
use postroad_config::status::RateOf;
use postroad_config::{ListenerName, SpoolMode};
use serde::Serialize;

use super::dereference::{Found, string_at};
use crate::args::Settings;
use crate::digest;
use crate::names::{
    KEY_CERTIFICATE, KEY_PASSWORD, KEY_PRIVATE, KEY_USERNAME, LABEL_RELAY, LISTENERS, RelayId,
};
use surroundings::Surroundings;

pub(crate) use ways::Ways;

/// It becomes an annotation of pods. An annotation may be 256 KiB long, a time is not.
const RESTARTED_AT_MAX: usize = 64;

/// Claims that a refusal names. A name has up to 46 characters, and a message has 1000.
const CLAIMS_SHOWN: usize = 10;

/// Why a relay is left as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    /// One word for machines.
    pub(crate) reason: &'static str,
    /// What is wrong and what to write instead.
    pub(crate) message: String,
}

/// Something that the spec refers to and that is not there. Mail is kept all the same.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Missing {
    Secret { name: String },
    Key { secret: String, key: String },
}

/// A relay as it shall be.
#[derive(Clone, Debug)]
pub(crate) struct Validated {
    pub(crate) id: RelayId,
    pub(crate) generation: i64,
    /// The name of the Service inside the cluster.
    pub(crate) host: String,
    pub(crate) replicas: u32,
    /// As written; `None` for the operator's own.
    pub(crate) image: Option<String>,
    /// Names of Secrets in the order in which they are written.
    pub(crate) image_pull_secrets: Vec<String>,
    pub(crate) defaults: PodDefaults,
    /// [`ANNOTATION_RESTARTED_AT`] as written, or its digest if it is longer than a time is.
    pub(crate) restarted_at: Option<String>,
    /// The configuration file, checked.
    pub(crate) config: String,
    pub(crate) ways: Ways,
    /// As written, for all replicas together.
    pub(crate) rates: BTreeMap<RateOf, Rate>,
    /// How long mail waits whose sender an upstream rejects; zero if it is returned at once.
    pub(crate) sender_hold: Duration,
    /// Listeners that are served, with the port of the Service.
    pub(crate) listeners: Vec<(ListenerName, u16)>,
    pub(crate) service_type: ServiceType,
    pub(crate) service_annotations: BTreeMap<String, String>,
    /// Whether clients are let in by their address.
    pub(crate) trusts_networks: bool,
    pub(crate) certificate: Certificate,
    pub(crate) upstreams: Vec<UpstreamFiles>,
    pub(crate) storage: Storage,
    /// What a 250 promises.
    pub(crate) mode: SpoolMode,
    /// As written; `None` if nothing is.
    pub(crate) resources: Option<Resources>,
    pub(crate) missing: Vec<Missing>,
    /// Why no pod is made as the spec wants it. Those that there are stay, and get what they are told and the certificates and logins
    /// of today.
    pub(crate) pods_refused: Option<Refusal>,
}

/// What this operator gives a pod where its user has said nothing. None of it replaces a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PodDefaults {
    pub(crate) image: String,
    pub(crate) image_pull_policy: Option<String>,
}

/// Where the certificate for clients comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Certificate {
    /// The relay's own authority issues it for these names; sorted.
    SelfSigned { names: Vec<String> },
    /// A Secret of the user's.
    Provided { secret: String },
}

/// What a pod needs on disk for an upstream.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct UpstreamFiles {
    pub(crate) name: String,
    /// Secret with the login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) login: Option<String>,
    /// Secret and key with the authorities to trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) authority: Option<(String, String)>,
}

/// Where mail waits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Storage {
    Persistent { size: String, class: Option<String> },
    Ephemeral { size: String },
}

/// Validates.
pub(crate) fn validate(
    relay: &SmtpRelay,
    id: RelayId,
    found: &Found,
    settings: &Settings,
) -> Result<Validated, Refusal> {
    let SmtpRelaySpec {
        hostname,
        replicas,
        image,
        image_pull_secrets,
        listeners,
        tls,
        access,
        limits: _,
        delivery,
        storage,
        service,
        resources,
    } = &relay.spec;
    check_name(&id.name)?;
    check_claims(&id, storage.kind, found)?;
    let pods_refused = pods_refused(image.as_deref(), settings, found)?;
    let host = id.host(&settings.cluster_domain);
    let surroundings = Surroundings::of(&relay.spec, &host, found);
    let config = config::resolve(&relay.spec, surroundings)?;
    let certificate = certificate(tls, hostname.as_deref(), &id, settings);
    let upstreams: Vec<_> = delivery.upstreams.iter().map(upstream_files).collect();
    Ok(Validated {
        generation: relay.meta().generation.unwrap_or_default(),
        host,
        replicas: u32::from(*replicas),
        image: image.clone(),
        image_pull_secrets: image_pull_secrets
            .iter()
            .map(|secret| secret.name.clone())
            .collect(),
        defaults: PodDefaults {
            image: settings.relay_image.clone(),
            image_pull_policy: settings.image_pull_policy.clone(),
        },
        restarted_at: restarted_at(relay.meta()),
        ways: Ways::of(&config.delivery),
        rates: rates(delivery),
        sender_hold: config.delivery.retry.sender_hold(),
        config: config::render(&config)?,
        listeners: ports(listeners),
        service_type: service.kind,
        service_annotations: service.annotations.clone(),
        trusts_networks: !access.trusted_networks.is_empty(),
        resources: resources
            .clone()
            .filter(|written| *written != Resources::default()),
        missing: missing(found, &certificate, &upstreams),
        pods_refused,
        certificate,
        upstreams,
        mode: config::spool_mode(storage),
        storage: where_mail_waits(storage),
        id,
    })
}

/// Why its pods stay as they are, though the rest of the relay is kept up to date. A relay of which nothing is there yet is refused as a whole.
fn pods_refused(
    image: Option<&str>,
    settings: &Settings,
    found: &Found,
) -> Result<Option<Refusal>, Refusal> {
    match image::check(image, settings) {
        Ok(()) => Ok(None),
        Err(refusal) if found.deployments.is_empty() => Err(refusal),
        Err(refusal) => Ok(Some(refusal)),
    }
}

fn certificate(
    tls: &TlsSource,
    hostname: Option<&str>,
    id: &RelayId,
    settings: &Settings,
) -> Certificate {
    match &tls.secret_ref {
        Some(provided) => Certificate::Provided {
            secret: provided.name.clone(),
        },
        None => Certificate::SelfSigned {
            names: certificate_names(id, hostname, &settings.cluster_domain),
        },
    }
}

/// What may keep mail waiting that nobody puts off.
fn rates(delivery: &Delivery) -> BTreeMap<RateOf, Rate> {
    let upstreams = delivery.upstreams.iter().filter_map(|upstream| {
        let rate = upstream.limits.as_ref()?.rate?;
        Some((RateOf::Upstream(upstream.name.clone()), rate))
    });
    let direct = delivery.direct.as_ref();
    let domains = direct.and_then(|direct| direct.limits.as_ref()?.rate);
    upstreams
        .chain(domains.map(|rate| (RateOf::Domain, rate)))
        .collect()
}

/// The enabled listeners with their ports at the Service.
fn ports(listeners: &Listeners) -> Vec<(ListenerName, u16)> {
    LISTENERS
        .into_iter()
        .map(|name| (name, config::listener(listeners, name)))
        .filter_map(|(name, listener)| listener.enabled.then_some((name, listener.port)))
        .collect()
}

fn where_mail_waits(storage: &postroad_api::Storage) -> Storage {
    let size = storage.size.clone();
    match storage.kind {
        StorageType::Persistent => Storage::Persistent {
            size,
            class: storage.class_name.clone(),
        },
        StorageType::Ephemeral => Storage::Ephemeral { size },
    }
}

/// When the user last wanted a relay to restart, in a form that fits into an annotation of a pod.
pub(super) fn restarted_at(meta: &ObjectMeta) -> Option<String> {
    let annotations = meta.annotations.as_ref()?;
    let value = annotations.get(ANNOTATION_RESTARTED_AT)?;
    Some(if value.len() <= RESTARTED_AT_MAX {
        value.clone()
    } else {
        digest::of(value.as_bytes())
    })
}

/// The API server holds this rule too, but not for what was stored before it.
fn check_name(name: &str) -> Result<(), Refusal> {
    if name.len() <= postroad_api::RELAY_NAME_MAX && !name.contains('.') {
        return Ok(());
    }
    Err(Refusal {
        reason: "InvalidName",
        message: format!(
            "metadata.name becomes the name of a Service: {name:?} has to have at most {} characters and no dots",
            postroad_api::RELAY_NAME_MAX
        ),
    })
}

/// Pods that keep mail in themselves mount no claim, so nobody would deliver what is in one: it was left by a relay
/// of the same name that has been deleted.
fn check_claims(id: &RelayId, storage: StorageType, found: &Found) -> Result<(), Refusal> {
    let claims: Vec<_> = found
        .claims
        .iter()
        .filter(|(_, claim)| claim.metadata.deletion_timestamp.is_none())
        .map(|(&ordinal, _)| id.replica(ordinal))
        .collect();
    if storage == StorageType::Persistent || claims.is_empty() {
        return Ok(());
    }
    let all = claims.len();
    let shown = claims.get(..CLAIMS_SHOWN.min(all)).unwrap_or_default();
    let more = match all - shown.len() {
        0 => String::new(),
        more => format!(" ({more} more)"),
    };
    let RelayId {
        name, namespace, ..
    } = id;
    let message = format!(
        "storage.type is Ephemeral, and mail may wait in claims of an earlier SmtpRelay {name:?}: {}{more}. To have it \
         delivered, delete this SmtpRelay, apply it with storage.type Persistent and replicas 0, and wait until the \
         claims are gone. If it is of no use: kubectl --namespace {namespace} delete pvc --selector {LABEL_RELAY}={name}",
        shown.join(", "),
    );
    Err(Refusal {
        reason: "ClaimsLeft",
        message,
    })
}

/// Every name under which clients, replicas and people reach the relay, sorted.
fn certificate_names(id: &RelayId, hostname: Option<&str>, cluster_domain: &str) -> Vec<String> {
    let RelayId {
        name, namespace, ..
    } = id;
    let headless = id.headless();
    let mut names = vec![name.clone()];
    for suffix in [
        namespace.clone(),
        format!("{namespace}.svc"),
        format!("{namespace}.svc.{cluster_domain}"),
    ] {
        names.push(format!("{name}.{suffix}"));
        names.push(format!("{headless}.{suffix}"));
        names.push(format!("*.{headless}.{suffix}"));
    }
    names.extend(hostname.map(str::to_owned));
    names.sort();
    names.dedup();
    names
}

fn upstream_files(upstream: &Upstream) -> UpstreamFiles {
    UpstreamFiles {
        name: upstream.name.clone(),
        login: upstream.login_secret().map(str::to_owned),
        authority: upstream
            .ca_secret()
            .map(|reference| (reference.name.clone(), reference.key().to_owned())),
    }
}

/// What the spec refers to and is not there, each once.
fn missing(found: &Found, certificate: &Certificate, upstreams: &[UpstreamFiles]) -> Vec<Missing> {
    let mut missing = Vec::new();
    let mut check = |name: &str, keys: &[&str]| match found.secret(name) {
        None => missing.push(Missing::Secret { name: name.into() }),
        Some(secret) => missing.extend(
            keys.iter()
                .filter(|key| string_at(secret, key).is_none_or(|value| value.trim().is_empty()))
                .map(|&key| Missing::Key {
                    secret: name.into(),
                    key: key.into(),
                }),
        ),
    };
    if let Certificate::Provided { secret } = certificate {
        check(secret, &[KEY_CERTIFICATE, KEY_PRIVATE]);
    }
    for upstream in upstreams {
        if let Some(login) = &upstream.login {
            check(login, &[KEY_USERNAME, KEY_PASSWORD]);
        }
        if let Some((secret, key)) = &upstream.authority {
            check(secret, &[key]);
        }
    }
    missing.sort();
    missing.dedup();
    missing
}
