//! `SmtpCredential`: a login at a relay, handed out as a Secret.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A login at a relay for the applications of this namespace. The operator answers with a Secret of
/// type `servicebinding.io/smtp` that holds everything a client needs: host, port, username,
/// password, uri and the certificate authority. A password of 12 characters or more that somebody writes into it takes
/// the place of the one that was made.
#[derive(Clone, CustomResource, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "postroad.dev",
    version = "v1alpha1",
    kind = "SmtpCredential",
    namespaced,
    shortname = "smtpcred",
    category = "mail",
    status = "SmtpCredentialStatus",
    derive = "PartialEq",
    doc = "A login at a SmtpRelay. The operator answers with a Secret of type servicebinding.io/smtp in the same namespace.",
    validation = Rule::new("size(self.metadata.name) <= 63")
        .message("metadata.name becomes a label: use at most 63 characters"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Relay", type_ = "string", json_path = ".spec.relayRef.name"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.binding.name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", priority = 1, json_path = ".status.conditions[?(@.type==\"Ready\")].reason")
)]
#[serde(rename_all = "camelCase")]
pub struct SmtpCredentialSpec {
    /// The relay that honours this login. A relay honours 200 of one namespace and 1000 in all, the oldest ones.
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("relayRef cannot change, whoever has the Secret goes on using the relay that it names: make a new SmtpCredential for the other relay, and delete this one when nobody uses it"))]
    pub relay_ref: RelayRef,
    /// Name of the Secret to make; the name of this object if not set. A Secret of that name which
    /// was not made for this object is never touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new(crate::refs::NAME_RULE).message(crate::refs::NAME_MESSAGE))]
    pub secret_name: Option<String>,
}

/// A relay, here or in another namespace.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayRef {
    /// Name of the SmtpRelay.
    #[schemars(length(max = 43))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("this is no name that a SmtpRelay can have: write its name alone, such as mail; the namespace has a field of its own"))]
    pub name: String,
    /// Its namespace; the one of this object if not set. The relay has to allow the namespace of
    /// this object in `spec.access.namespaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("this is no name of a namespace: use lower case letters, digits and '-'"))]
    pub namespace: Option<String>,
}

/// What the operator says about a credential.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SmtpCredentialStatus {
    /// The `metadata.generation` that this status speaks of; -1 before the operator has seen the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: the relay exists and allows this login. `Ready`: the Secret exists and every ready
    /// replica of the relay honours it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The Secret, as the Service Binding specification wants it of a Provisioned Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,
}

/// Names the Secret of a credential.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// Name of the Secret, in the namespace of the credential.
    pub name: String,
}

impl SmtpCredential {
    /// Name and namespace of the relay, with the default filled in.
    #[must_use]
    pub fn relay(&self) -> (&str, &str) {
        let own = self.metadata.namespace.as_deref().unwrap_or_default();
        let namespace = self.spec.relay_ref.namespace.as_deref().unwrap_or(own);
        (&self.spec.relay_ref.name, namespace)
    }

    /// Name of the Secret, with the default filled in.
    #[must_use]
    pub fn secret_name(&self) -> &str {
        let own = self.metadata.name.as_deref().unwrap_or_default();
        self.spec.secret_name.as_deref().unwrap_or(own)
    }
}
