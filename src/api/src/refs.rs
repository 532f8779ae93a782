//! References to Secrets in the namespace of the object that holds them.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A Secret in the same namespace.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret, in the namespace of this object.
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new(crate::refs::NAME_RULE).message(crate::refs::NAME_MESSAGE))]
    pub name: String,
}

/// One key of a Secret in the same namespace.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret, in the namespace of this object.
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new(crate::refs::NAME_RULE).message(crate::refs::NAME_MESSAGE))]
    pub name: String,
    /// Key in the Secret. `ca.crt` if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$')")
        .message("a key of a Secret has letters, digits, '-', '_' and '.' only: write the key alone, such as ca.crt"))]
    pub key: Option<String>,
}

impl SecretKeyRef {
    /// The key, with the default filled in.
    #[must_use]
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or("ca.crt")
    }
}

/// What the name of a Secret looks like.
pub(crate) const NAME_RULE: &str =
    "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')";
pub(crate) const NAME_MESSAGE: &str = "this is no name that a Secret can have: write the name of a Secret in the same namespace, such as provider-login";
