//! A credential without anything left to doubt.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource as _;
use postroad_api::{AuthMode, Listener, ListenerTls, SmtpCredential, SmtpRelay};

use super::dereference::{Found, FoundRelay};
use crate::args::Settings;
use crate::certificate::inspect;
use crate::controller::{honours, owned_by, string_at, username};
use crate::credentials_file::{PASSWORD_CHARS_MIN, is_long_enough};
use crate::names::{KEY_AUTHORITY, KEY_CERTIFICATE, KEY_PASSWORD, RelayId};
use crate::places::{self, Place};

/// Why a credential has no Secret, or keeps the one it has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// A credential as it shall be.
#[derive(Clone, Debug)]
pub(super) struct Validated {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) owner: OwnerReference,
    pub(super) secret_name: String,
    pub(super) username: String,
    /// The password that has been handed out, if one has.
    pub(super) password: Option<String>,
    pub(super) host: String,
    pub(super) endpoint: Endpoint,
    /// PEM of the authority that clients have to trust; `None` if the public ones will do.
    pub(super) authority: Option<String>,
    /// Metadata of the Secret, if it exists.
    pub(super) existing: Option<ObjectMeta>,
}

/// The listener that suits a client best.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Endpoint {
    pub(super) port: u16,
    pub(super) security: Security,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Security {
    StartTls,
    Tls,
}

/// Validates.
pub(super) fn validate(
    credential: &SmtpCredential,
    found: &Found,
    settings: &Settings,
) -> Result<Validated, Refusal> {
    let Some(relay) = &found.relay else {
        let (name, namespace) = credential.relay();
        let message = format!("there is no SmtpRelay {name:?} in namespace {namespace:?}");
        return Err(refusal("RelayNotFound", message));
    };
    let (Some(name), Some(namespace), Some(owner)) = (
        credential.metadata.name.clone(),
        credential.metadata.namespace.clone(),
        credential.controller_owner_ref(&()),
    ) else {
        return Err(refusal(
            "Incomplete",
            "the object has no name or uid".into(),
        ));
    };
    if !honours(&relay.relay, credential) {
        let message = format!(
            "SmtpRelay {:?} in namespace {:?} does not honour credentials of namespace {namespace:?}: add it to spec.access.namespaces of the relay",
            relay.id.name, relay.id.namespace
        );
        return Err(refusal("NamespaceNotAllowed", message));
    }
    check_place(found.place(), &relay.id, &namespace)?;
    let secret_name = credential.secret_name().to_owned();
    check_secret(found.secret.as_ref(), &secret_name, &owner)?;
    let password = found
        .secret
        .as_ref()
        .and_then(|secret| string_at(secret, KEY_PASSWORD))
        .filter(|password| !password.is_empty());
    check_password(password.as_deref(), &secret_name)?;
    let endpoint = endpoint(&relay.relay).ok_or_else(|| {
        let message = format!(
            "SmtpRelay {:?} has no listener with TLS and AUTH: enable submission or submissions there",
            relay.id.name
        );
        refusal("NoListener", message)
    })?;
    Ok(Validated {
        username: username(credential),
        password,
        host: host(relay, settings),
        authority: relay
            .certificate
            .as_ref()
            .and_then(|secret| string_at(secret, KEY_AUTHORITY)),
        existing: found.secret.as_ref().map(|secret| secret.metadata.clone()),
        endpoint,
        secret_name,
        owner,
        name,
        namespace,
    })
}

fn refusal(reason: &'static str, message: String) -> Refusal {
    Refusal { reason, message }
}

fn check_secret(
    secret: Option<&Secret>,
    name: &str,
    owner: &OwnerReference,
) -> Result<(), Refusal> {
    match secret {
        Some(secret) if !owned_by(&secret.metadata, &owner.uid) => {
            let message = format!(
                "Secret {name:?} exists and was not made for this SmtpCredential: name another one in spec.secretName, or delete it"
            );
            Err(refusal("SecretNameTaken", message))
        }
        _ => Ok(()),
    }
}

/// Those that came first keep their place, and no more are taken: all of a relay end in one Secret.
fn check_place(place: Place, id: &RelayId, own: &str) -> Result<(), Refusal> {
    let RelayId {
        name, namespace, ..
    } = id;
    let message = match place {
        Place::Taken => return Ok(()),
        Place::NamespaceFull => format!(
            "SmtpRelay {name:?} in namespace {namespace:?} honours {} SmtpCredentials of one namespace, and {own:?} has older ones: delete some of them, or share one login",
            places::NAMESPACE_MAX
        ),
        Place::RelayFull => format!(
            "SmtpRelay {name:?} in namespace {namespace:?} honours {} SmtpCredentials and has older ones: use another relay, or share one login",
            places::RELAY_MAX
        ),
    };
    Err(refusal("TooManyCredentials", message))
}

/// The owner of the Secret may set a password; one that could be guessed is not taken.
fn check_password(password: Option<&str>, secret: &str) -> Result<(), Refusal> {
    if password.is_none_or(is_long_enough) {
        return Ok(());
    }
    let message = format!(
        "the password in Secret {secret:?} has fewer than {PASSWORD_CHARS_MIN} characters and is not taken, the former one stays in force: write a longer one, or remove the key {KEY_PASSWORD:?} to have one made"
    );
    Err(refusal("PasswordTooShort", message))
}

/// Submission with STARTTLS first, since every client knows it.
fn endpoint(relay: &SmtpRelay) -> Option<Endpoint> {
    let listeners = &relay.spec.listeners;
    let suits = |listener: &&Listener| {
        listener.enabled
            && listener.tls != ListenerTls::Disabled
            && listener.auth != AuthMode::Disabled
    };
    let first = [
        &listeners.submission,
        &listeners.submissions,
        &listeners.alternate,
        &listeners.smtp,
    ]
    .into_iter()
    .find(suits)?;
    Some(Endpoint {
        port: first.port,
        security: match first.tls {
            ListenerTls::Implicit => Security::Tls,
            _ => Security::StartTls,
        },
    })
}

/// A name that resolves in the cluster and, where there is one, that the certificate is valid for.
fn host(relay: &FoundRelay, settings: &Settings) -> String {
    let service = relay.id.host(&settings.cluster_domain);
    let certificate = relay
        .certificate
        .as_ref()
        .and_then(|secret| string_at(secret, KEY_CERTIFICATE))
        .and_then(|pem| inspect(&pem).ok());
    match (certificate, &relay.relay.spec.hostname) {
        (Some(certificate), Some(hostname))
            if !certificate.covers(&service) && certificate.covers(hostname) =>
        {
            hostname.clone()
        }
        _ => service,
    }
}
