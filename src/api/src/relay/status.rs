//! What the operator says about a relay.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator says about a relay. Written only when it changes enough to matter.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SmtpRelayStatus {
    /// The `metadata.generation` that this status speaks of; -1 before the operator has seen the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Pods that exist, for the scale subresource.
    #[serde(default)]
    pub replicas: i32,

    /// Pods that take mail.
    #[serde(default)]
    pub ready_replicas: i32,

    /// `<ready>/<desired>`, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub replica_summary: String,

    /// Label selector of the pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selector: String,

    /// Where clients connect to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub endpoints: Vec<Endpoint>,

    /// `Ready` is the sum of the rest, unknown while something in it is: `Accepted`, `Available`, `Progressing`, `TLSReady`,
    /// `UpstreamReady`, `QueueHealthy`, `Durable`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// What waits, all replicas together. Exact below 100, two significant digits above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueSummary>,

    /// The certificate that clients are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsStatus>,

    /// Each replica by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["ordinal".into()]))]
    pub replica_statuses: Vec<ReplicaStatus>,
}

/// A name that clients connect to.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// `cluster` for the Service inside the cluster, `external` for its load balancer.
    pub name: String,
    /// Host name or address.
    pub host: String,
    /// The ports served there.
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub ports: Vec<EndpointPort>,
}

/// A port of an endpoint.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointPort {
    /// The listener.
    pub name: String,
    /// The port.
    pub port: u16,
}

/// What waits.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueSummary {
    /// Messages accepted and not finished.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them that have failed at least once.
    pub deferred: u64,
    /// When the oldest of them arrived (RFC 3339), cut to ten seconds: up to ten seconds too early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
    /// Those of them that an override holds back.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held: u64,
    /// Where mail waits that did not go at once: those with the most of it. One significant digit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub destinations: Vec<DestinationSummary>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What waits for one destination.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationSummary {
    /// A domain where mail goes directly; otherwise the name of a route, or `default` for what no route fits.
    pub destination: String,
    /// Messages with a recipient there that is not finished.
    pub messages: u64,
    /// When the oldest of them arrived (RFC 3339), cut to ten seconds: up to ten seconds too early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
    /// Why mail waits there; one word for machines: what is wrong, as in `UpstreamReady`; `RateLimited` where it waits for a rate, `Deferred` where the
    /// server there has put it off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why mail waits there, for people: what is wrong, which rate it is, or what the server there said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The certificate that clients are shown.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsStatus {
    /// End of validity (RFC 3339), the earliest of what the pods serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// Who issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Secret whose key `ca.crt` holds the authority that clients have to trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_name: Option<String>,
}

/// One replica.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// The number in `<relay>-<ordinal>`.
    pub ordinal: u32,
    /// What it is doing. `Ready`: takes mail. `NotReady`: does not. `Draining`: takes no more mail, and
    /// delivers what it holds before it goes. `Stranded`: a volume that may hold mail and has no pod.
    pub state: ReplicaState,
    /// Messages that wait in it, if it has said so. Coarse like all counts here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<u64>,
}

/// What a replica is doing.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ReplicaState {
    /// Takes mail.
    Ready,
    /// Does not take mail.
    NotReady,
    /// Takes no more mail, and delivers what it holds before it goes.
    Draining,
    /// A volume that may hold mail and has no pod.
    Stranded,
}
