//! The relay of a credential, the Secret that it has, and what the relay honours.

use k8s_openapi::api::core::v1::Secret;
use kube::core::DeserializeGuard;
use postroad_api::{SmtpCredential, SmtpRelay};

use crate::context::{Context, CredentialsInForce};
pub(super) use crate::controller::DereferenceError as Error;
use crate::controller::get_secret;
use crate::names::RelayId;
use crate::places::{self, Place};

/// What was found.
pub(super) struct Found {
    pub(super) relay: Option<FoundRelay>,
    /// The Secret under the wanted name, whoever made it.
    pub(super) secret: Option<Secret>,
}

impl Found {
    /// Whether there is room for the credential at its relay.
    pub(super) fn place(&self) -> Place {
        self.relay
            .as_ref()
            .map_or(Place::Taken, |relay| relay.place)
    }
}

/// The relay that a credential refers to.
pub(super) struct FoundRelay {
    pub(super) relay: SmtpRelay,
    pub(super) id: RelayId,
    /// Without one nothing else is looked up.
    pub(super) place: Place,
    /// The Secret with the certificate that clients are shown.
    pub(super) certificate: Option<Secret>,
    /// The Secret with the credentials file.
    pub(super) credentials: Option<Secret>,
    pub(super) in_force: CredentialsInForce,
}

/// Reads.
pub(super) async fn dereference(
    context: &Context,
    credential: &SmtpCredential,
) -> Result<Found, Error> {
    let client = &context.client;
    let namespace = credential.metadata.namespace.as_deref().unwrap_or_default();
    let (relay_name, relay_namespace) = credential.relay();
    let relay = context.caches.relays.get(relay_namespace, relay_name);
    let relay = match relay.as_deref() {
        Some(DeserializeGuard(Ok(relay))) => RelayId::of(relay).map(|id| (relay.clone(), id)),
        _ => None,
    };
    let Some((relay, id)) = relay else {
        let secret = get_secret(client, namespace, credential.secret_name()).await?;
        return Ok(Found {
            relay: None,
            secret,
        });
    };
    let place = places::of(context, &relay, &id, &credential.metadata);
    let mut found = FoundRelay {
        certificate: None,
        credentials: None,
        in_force: context.in_force.get(&id.namespace, &id.name),
        place,
        relay,
        id,
    };
    if place != Place::Taken {
        return Ok(Found {
            relay: Some(found),
            secret: None,
        });
    }
    let namespace_of_relay = &found.id.namespace;
    let tls = found.relay.spec.tls.secret_ref.as_ref();
    let tls = tls.map_or_else(|| found.id.tls(), |provided| provided.name.clone());
    found.certificate = get_secret(client, namespace_of_relay, &tls).await?;
    found.credentials = get_secret(client, namespace_of_relay, &found.id.credentials()).await?;
    let secret = get_secret(client, namespace, credential.secret_name()).await?;
    Ok(Found {
        relay: Some(found),
        secret,
    })
}
