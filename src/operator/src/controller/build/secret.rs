//! Secrets.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use crate::certificate::Pair;
use crate::names::{KEY_AUTHORITY, KEY_CERTIFICATE, KEY_CREDENTIALS, KEY_PRIVATE, RelayId};

/// A certificate, its key and the authority that signed it.
pub(super) fn certificate(id: &RelayId, name: String, pair: &Pair, authority: &Pair) -> Secret {
    let data = [
        (KEY_CERTIFICATE, &pair.certificate),
        (KEY_PRIVATE, &pair.key),
        (KEY_AUTHORITY, &authority.certificate),
    ];
    build(id, name, "kubernetes.io/tls", data)
}

/// The credentials file.
pub(super) fn credentials(id: &RelayId, file: &String) -> Secret {
    build(id, id.credentials(), "Opaque", [(KEY_CREDENTIALS, file)])
}

fn build<'a>(
    id: &RelayId,
    name: String,
    kind: &str,
    data: impl IntoIterator<Item = (&'a str, &'a String)>,
) -> Secret {
    let data: BTreeMap<_, _> = data
        .into_iter()
        .map(|(key, value)| (key.to_owned(), ByteString(value.clone().into_bytes())))
        .collect();
    Secret {
        metadata: id.meta(name),
        type_: Some(kind.to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}
