//! `SmtpRelay`: a set of relay pods and where they send mail.

mod access;
mod delivery;
mod direct;
mod listeners;
mod network;
mod rate;
mod resources;
mod route;
mod service;
mod status;
mod storage;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::refs::SecretRef;

pub use access::{Access, Limits};
pub use delivery::{
    Delivery, Retry, Upstream, UpstreamAuth, UpstreamLimits, UpstreamTls, UpstreamTlsMode,
};
pub use direct::{Direct, DirectLimits, DirectTls, DirectTlsMode, IpFamily};
pub use listeners::{AuthMode, Listener, ListenerTls, Listeners};
pub use network::{Network, PrivateNetwork};
pub use rate::{Rate, RateUnit};
pub use resources::{Amounts, Resources};
pub use route::{DomainPattern, Match, Override, OverrideAction, Route, Target, UserName};
pub use service::{Service, ServiceType};
pub use status::{
    DestinationSummary, Endpoint, EndpointPort, QueueSummary, ReplicaState, ReplicaStatus,
    SmtpRelayStatus, TlsStatus,
};
pub use storage::{Storage, StorageMode, StorageType};

/// A domain name within the bounds of RFC 1035 §2.3.4.
const DOMAIN: &str = "^[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\\\\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*$";

/// A size with an optional unit, at least 1.
const SIZE: &str = "^[1-9][0-9]{0,11}(k|M|G|T|Ki|Mi|Gi|Ti)?$";

/// A volume holds so many messages of the largest size at least: one, and what is kept free beside it.
pub const MESSAGES_PER_VOLUME: u64 = 2;

/// What is said where [`MESSAGES_PER_VOLUME`] is not kept.
pub const STORAGE_TOO_SMALL: &str = "storage.size is too small for a message of limits.messageSize, 50Mi if not set: make it twice as large, or lower limits.messageSize";

/// Most memory that a connection takes, in KiB: one under TLS whose peer sends most of a record and then waits. Measured; one
/// that is idle takes 5 without TLS and 15 with it. A handshake can take 72 for the 30 seconds that it may last.
pub const CONNECTION_KIB: u64 = 48;

/// What a pod needs beside its connections, in MiB: 256 for content, 128 for what is known of the queue, and 32 for the program
/// and the buffer in which mail is on its way to the disk. The sum is made in `postroad_config::memory`.
pub const MEMORY_MIB: u64 = 416;

/// What a pod may use of memory at most, if nothing is said.
pub const MEMORY_LIMIT: &str = "512Mi";

/// What is said where the memory limit leaves too little for the connections.
pub const MEMORY_TOO_SMALL: &str = "limits.connections is more than resources.limits.memory, 512Mi if not set, has room for (48Ki each, beside 416Mi for all else): raise resources.limits.memory or lower limits.connections";

/// What a user wants of a relay.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "postroad.dev",
    version = "v1alpha1",
    kind = "SmtpRelay",
    namespaced,
    shortname = "relay",
    shortname = "smtpr",
    category = "mail",
    status = "SmtpRelayStatus",
    derive = "PartialEq",
    doc = "An SMTP relay: pods that take mail from clients, keep it in a durable queue and pass it on to the upstreams named here.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 43")
        .message("metadata.name becomes the name of a Service: use at most 43 lower case letters, digits and '-', starting with a letter"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Replicas", type_ = "string", json_path = ".status.replicaSummary"),
    printcolumn(name = "Queued", type_ = "integer", json_path = ".status.queue.messages"),
    printcolumn(name = "Oldest", type_ = "date", json_path = ".status.queue.oldest"),
    printcolumn(name = "Upstream", type_ = "string", json_path = ".status.conditions[?(@.type==\"UpstreamReady\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Endpoint", type_ = "string", priority = 1, json_path = ".status.endpoints[0].host"),
    printcolumn(name = "Cert Expires", type_ = "string", priority = 1, json_path = ".status.tls.notAfter"),
    printcolumn(name = "Reason", type_ = "string", priority = 1, json_path = ".status.conditions[?(@.type==\"Ready\")].reason")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(format!("!self.storage.size.matches('{0}') || !self.limits.messageSize.matches('{0}') || quantity(self.storage.size).compareTo(quantity(self.limits.messageSize).add(quantity(self.limits.messageSize))) >= 0", crate::relay::SIZE))
        .message(crate::relay::STORAGE_TOO_SMALL),
    validation = Rule::new(format!("has(self.resources) && has(self.resources.limits) && has(self.resources.limits.memory) && !self.resources.limits.memory.matches('{0}') || quantity(has(self.resources) && has(self.resources.limits) && has(self.resources.limits.memory) ? self.resources.limits.memory : '{3}').asApproximateFloat() >= 1048576.0 * {1}.0 + 1024.0 * {2}.0 * double(self.limits.connections)", crate::relay::SIZE, crate::relay::MEMORY_MIB, crate::relay::CONNECTION_KIB, crate::relay::MEMORY_LIMIT))
        .message(crate::relay::MEMORY_TOO_SMALL),
    validation = Rule::new("!has(self.limits.holdSeconds) || self.limits.holdSeconds <= self.delivery.retry.lifetimeSeconds")
        .message("limits.holdSeconds is longer than delivery.retry.lifetimeSeconds: mail is not held for longer than it is kept, so lower the one or raise the other")
)]
pub struct SmtpRelaySpec {
    /// Name in the banner, in EHLO to the next hop and in `Received:`; also a name of the self-signed
    /// certificate. `<name>.<namespace>.svc.<cluster domain>` if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new(format!("self.matches('{}')", crate::relay::DOMAIN))
        .message("hostname is no domain name: write letters, digits, '-' and '.' only, such as mail.example.com"))]
    pub hostname: Option<String>,

    /// Number of relay pods. Each has a queue of its own; one that is scaled away delivers what it
    /// holds before it goes.
    #[serde(default = "SmtpRelaySpec::default_replicas")]
    #[schemars(range(min = 0, max = 16))]
    pub replicas: u16,

    /// Image of the relay. The one that belongs to the operator if not set: a pod then keeps the one
    /// it was made with until it is replaced, see the annotation `postroad.dev/restartedAt`.
    /// Its repository has to be one that the operator allows, see `allowedRelayImages` of its chart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^[^\\\\s]+$')")
        .message("image is empty or has spaces in it: write a reference such as registry.example.com/postroad:1.0, or leave the field out"))]
    pub image: Option<String>,

    /// Secrets in the same namespace with which nodes may pull the image, of type
    /// `kubernetes.io/dockerconfigjson`. A pod keeps those that it was made with: changing them replaces the pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<SecretRef>,

    /// The four services that clients connect to.
    #[serde(default)]
    pub listeners: Listeners,

    /// The certificate that clients are shown.
    #[serde(default)]
    pub tls: TlsSource,

    /// Who may relay. Nobody, as long as nothing is said here and no SmtpCredential exists.
    #[serde(default)]
    pub access: Access,

    /// Bounds of what clients can ask for.
    #[serde(default)]
    pub limits: Limits,

    /// Where accepted mail goes.
    pub delivery: Delivery,

    /// Where accepted mail waits.
    #[serde(default)]
    pub storage: Storage,

    /// The Service in front of the pods.
    #[serde(default)]
    pub service: Service,

    /// What each pod asks of its node, and what it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

impl SmtpRelaySpec {
    const fn default_replicas() -> u16 {
        2
    }
}

/// Where the certificate comes from.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsSource {
    /// A Secret of type kubernetes.io/tls in the same namespace, with `tls.crt`, `tls.key` and, for
    /// clients that should trust a private authority, `ca.crt`. If not set, the operator issues a
    /// certificate from an authority of its own and renews it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

#[cfg(test)]
mod tests;
