//! The Secret of a credential, as the Service Binding specification has it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::validate::{Endpoint, Security, Validated};
use crate::names::{KEY_PASSWORD, KEY_USERNAME, LABEL_CREDENTIAL, LABEL_MANAGED_BY, OPERATOR};

/// Nobody guesses 256 bits, so the verifier need not be slow.
const PASSWORD_BYTES: usize = 32;

/// Why the Secret cannot be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no randomness for a password")]
    Randomness,
}

/// A credential that is built and not yet applied.
pub(super) struct Prepared {
    pub(super) validated: Validated,
    pub(super) username: String,
    pub(super) password: String,
    pub(super) secret: Secret,
}

/// Builds; a password that has been handed out stays.
pub(super) fn build(validated: Validated) -> Result<Prepared, Error> {
    let password = match &validated.password {
        Some(password) => password.clone(),
        None => new_password()?,
    };
    let labels = [
        ("app.kubernetes.io/name", "postroad-credential"),
        ("app.kubernetes.io/instance", &validated.name),
        (LABEL_MANAGED_BY, OPERATOR),
        (LABEL_CREDENTIAL, &validated.name),
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let data = keys(&validated, &password)
        .into_iter()
        .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
        .collect();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(validated.secret_name.clone()),
            namespace: Some(validated.namespace.clone()),
            labels: Some(labels.into()),
            owner_references: Some(vec![validated.owner.clone()]),
            ..ObjectMeta::default()
        },
        type_: Some("servicebinding.io/smtp".into()),
        data: Some(data),
        ..Secret::default()
    };
    Ok(Prepared {
        username: validated.username.clone(),
        validated,
        password,
        secret,
    })
}

fn keys(validated: &Validated, password: &str) -> BTreeMap<&'static str, String> {
    let Validated {
        name: _,
        namespace: _,
        owner: _,
        secret_name: _,
        username,
        password: _,
        host,
        endpoint: Endpoint { port, security },
        authority,
        existing: _,
    } = validated;
    let (scheme, transport) = match security {
        Security::StartTls => ("smtp", "starttls"),
        Security::Tls => ("smtps", "tls"),
    };
    // Neither user names nor passwords have characters that a URI would want encoded.
    let uri = format!("{scheme}://{username}:{password}@{host}:{port}");
    let mut keys = BTreeMap::from([
        ("type", "smtp".to_owned()),
        ("provider", "postroad".to_owned()),
        ("host", host.clone()),
        ("port", port.to_string()),
        ("host-port", format!("{host}:{port}")),
        (KEY_USERNAME, username.clone()),
        (KEY_PASSWORD, password.to_owned()),
        ("uri", uri),
        ("transport-security", transport.to_owned()),
    ]);
    keys.extend(
        authority
            .iter()
            .map(|authority| ("certificates", authority.clone())),
    );
    keys
}

/// 43 characters of the URL-safe alphabet: no shell, URI or file format trips over them.
fn new_password() -> Result<String, Error> {
    let mut bytes = [0; PASSWORD_BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Randomness)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}
