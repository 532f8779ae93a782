//! Names, labels, ports and paths of what a relay consists of.
//!
//! All of them are for ever: selectors cannot change, a claim found under another name is lost mail,
//! and a renamed field manager leaves the fields of the old one behind.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource as _;
use postroad_api::SmtpRelay;
use postroad_config::ListenerName;

/// Field manager of everything a relay consists of.
pub(crate) const MANAGER_RELAY: &str = "postroad-operator/relay";
/// Field manager of the status of both kinds.
pub(crate) const MANAGER_STATUS: &str = "postroad-operator/status";
/// Field manager of the Secrets of credentials.
pub(crate) const MANAGER_CREDENTIAL: &str = "postroad-operator/credential";
/// Controller name in events and value of the managed-by label.
pub(crate) const OPERATOR: &str = "postroad-operator";

/// Label with the name of the relay.
pub(crate) const LABEL_RELAY: &str = "postroad.dev/relay";
/// Label with the number of the replica.
pub(crate) const LABEL_ORDINAL: &str = "postroad.dev/ordinal";
/// Label with the name of the credential.
pub(crate) const LABEL_CREDENTIAL: &str = "postroad.dev/credential";
/// Label of everything the operator makes.
pub(crate) const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// At a pod: which fields of the configuration the operator that has made it knew, see `postroad_config::LEVEL`.
pub(crate) const ANNOTATION_CONFIG_LEVEL: &str = "postroad.dev/config-level";
/// At a pod: what a 250 of it promises.
pub(crate) const ANNOTATION_MODE: &str = "postroad.dev/storage-mode";
/// Annotation of a Deployment: digest of what its user wrote that shapes the pod.
pub(crate) const ANNOTATION_INPUTS: &str = "postroad.dev/inputs-hash";
/// Annotation of a Deployment: its pod template as it was applied (JSON).
pub(crate) const ANNOTATION_POD_TEMPLATE: &str = "postroad.dev/pod-template";
/// Annotation of a Deployment: when the drain of its pod began (RFC 3339).
pub(crate) const ANNOTATION_DRAINING: &str = "postroad.dev/draining-since";
/// Annotation of a Deployment: uid of the pod that was told to drain. One that came later was not.
pub(crate) const ANNOTATION_DRAINING_POD: &str = "postroad.dev/draining-pod";
/// Annotation of a pod: digest of what is mounted into it. Changing it makes the kubelet look.
pub(crate) const ANNOTATION_CONTENT: &str = "postroad.dev/content-hash";

/// Key of the relay's configuration in its ConfigMap.
pub(crate) const KEY_CONFIG: &str = "relay.yaml";
/// Key of the credentials file in its Secret.
pub(crate) const KEY_CREDENTIALS: &str = "credentials.yaml";
pub(crate) const KEY_CERTIFICATE: &str = "tls.crt";
pub(crate) const KEY_PRIVATE: &str = "tls.key";
pub(crate) const KEY_AUTHORITY: &str = "ca.crt";
/// Keys of a login Secret.
pub(crate) const KEY_USERNAME: &str = "username";
pub(crate) const KEY_PASSWORD: &str = "password";

pub(crate) const PATH_CONFIG: &str = "/etc/postroad/config";
pub(crate) const PATH_TLS: &str = "/etc/postroad/tls";
pub(crate) const PATH_ADMIN: &str = "/etc/postroad/admin";
pub(crate) const PATH_CREDENTIALS: &str = "/etc/postroad/credentials";
pub(crate) const PATH_UPSTREAMS: &str = "/etc/postroad/upstreams";
pub(crate) const PATH_SPOOL: &str = "/var/spool/postroad";
pub(crate) const PATH_QUEUE: &str = "/var/spool/postroad/queue";

/// Ports in the pod.
pub(crate) const PORT_HEALTH: u16 = 8080;
pub(crate) const PORT_ADMIN: u16 = 8443;

/// The four listeners, in the order in which they are shown.
pub(crate) const LISTENERS: [ListenerName; 4] = [
    ListenerName::Smtp,
    ListenerName::Submissions,
    ListenerName::Submission,
    ListenerName::Alternate,
];

/// Port of a listener in the pod: above 1024, since nobody is root there.
pub(crate) const fn pod_port(listener: ListenerName) -> u16 {
    match listener {
        ListenerName::Smtp => 10025,
        ListenerName::Submissions => 10465,
        ListenerName::Submission => 10587,
        ListenerName::Alternate => 10525,
    }
}

/// Name of a listener's port in the Service. The part before the dash tells meshes the protocol.
pub(crate) const fn port_name(listener: ListenerName) -> &'static str {
    match listener {
        ListenerName::Smtp => "tcp-smtp",
        ListenerName::Submissions => "tls-submissions",
        ListenerName::Submission => "tcp-submission",
        ListenerName::Alternate => "tcp-alternate",
    }
}

/// A relay by name, and the names of what it consists of.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct RelayId {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
}

impl RelayId {
    /// `None` for an object that no API server has seen.
    pub(crate) fn of(relay: &SmtpRelay) -> Option<Self> {
        let meta = relay.meta();
        Some(Self {
            name: meta.name.clone()?,
            namespace: meta.namespace.clone()?,
            uid: meta.uid.clone()?,
        })
    }

    pub(crate) fn headless(&self) -> String {
        format!("{}-replicas", self.name)
    }

    pub(crate) fn authority(&self) -> String {
        format!("{}-ca", self.name)
    }

    pub(crate) fn tls(&self) -> String {
        format!("{}-tls", self.name)
    }

    pub(crate) fn admin(&self) -> String {
        format!("{}-admin", self.name)
    }

    pub(crate) fn credentials(&self) -> String {
        format!("{}-credentials", self.name)
    }

    pub(crate) fn config(&self) -> String {
        format!("{}-config", self.name)
    }

    pub(crate) fn replica(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.name)
    }

    /// The number of the replica whose Deployment or claim this is. `None` for what only has its labels, such as a
    /// copy of a claim that somebody has made: no pod mounts it.
    pub(crate) fn ordinal(&self, meta: &ObjectMeta) -> Option<u32> {
        ordinal(meta).filter(|ordinal| meta.name.as_ref() == Some(&self.replica(*ordinal)))
    }

    /// The name of the Service inside the cluster.
    pub(crate) fn host(&self, cluster_domain: &str) -> String {
        format!("{}.{}.svc.{cluster_domain}", self.name, self.namespace)
    }

    /// What selects all pods of the relay.
    pub(crate) fn selector(&self) -> BTreeMap<String, String> {
        labels([(LABEL_RELAY, self.name.as_str())])
    }

    /// What selects the pod of one replica.
    pub(crate) fn replica_selector(&self, ordinal: u32) -> BTreeMap<String, String> {
        labels([
            (LABEL_RELAY, self.name.as_str()),
            (LABEL_ORDINAL, &ordinal.to_string()),
        ])
    }

    /// Labels of everything that belongs to the relay.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        labels([
            ("app.kubernetes.io/name", "postroad-relay"),
            ("app.kubernetes.io/instance", &self.name),
            ("app.kubernetes.io/component", "relay"),
            (LABEL_MANAGED_BY, OPERATOR),
            (LABEL_RELAY, &self.name),
        ])
    }

    /// [`Self::labels`] and the number of the replica.
    pub(crate) fn replica_labels(&self, ordinal: u32) -> BTreeMap<String, String> {
        let mut labels = self.labels();
        labels.insert(LABEL_ORDINAL.into(), ordinal.to_string());
        labels
    }

    /// Makes the garbage collector remove an object with the relay.
    pub(crate) fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: SmtpRelay::api_version(&()).into_owned(),
            kind: SmtpRelay::kind(&()).into_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    /// Metadata of an object that goes with the relay.
    pub(crate) fn meta(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels()),
            owner_references: Some(vec![self.owner()]),
            ..ObjectMeta::default()
        }
    }
}

fn labels<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The number of the replica that an object is labelled with.
pub(crate) fn ordinal(meta: &ObjectMeta) -> Option<u32> {
    meta.labels.as_ref()?.get(LABEL_ORDINAL)?.parse().ok()
}

/// The name of the relay that an object belongs to.
pub(crate) fn relay_of(meta: &ObjectMeta) -> Option<&str> {
    meta.labels.as_ref()?.get(LABEL_RELAY).map(String::as_str)
}
