//! The relay of a credential, the Secret that it has, and what the relay honours.

use k8s_openapi::api::core::v1::Secret;
use kube::core::DeserializeGuard;
use postroad_api::{SmtpCredential, SmtpRelay};

use crate::context::{Context, CredentialsInForce};
pub(super) use crate::controller::DereferenceError as Error;
use crate::controller::get_secret;
use crate::names::RelayId;

/// What was found.
pub(super) struct Found {
    pub(super) relay: Option<FoundRelay>,
    /// The Secret under the wanted name, whoever made it.
    pub(super) secret: Option<Secret>,
}

/// The relay that a credential refers to.
pub(super) struct FoundRelay {
    pub(super) relay: SmtpRelay,
    pub(super) id: RelayId,
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
    let relay = match relay {
        None => None,
        Some((relay, id)) => {
            let tls = relay.spec.tls.secret_ref.as_ref();
            let tls = tls.map_or_else(|| id.tls(), |provided| provided.name.clone());
            Some(FoundRelay {
                certificate: get_secret(client, &id.namespace, &tls).await?,
                credentials: get_secret(client, &id.namespace, &id.credentials()).await?,
                in_force: context.in_force.get(&id.namespace, &id.name),
                relay,
                id,
            })
        }
    };
    let secret = get_secret(client, namespace, credential.secret_name()).await?;
    Ok(Found { relay, secret })
}
