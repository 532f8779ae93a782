//! Who may relay, and how much they may ask for.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::network::Network;

/// Who may relay.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// Networks whose clients may relay without AUTH, as CIDR, IPv4 (/8 at the widest) or IPv6 (/7). Nobody if empty. A client
    /// is known by the address that its connection comes from: where a load balancer or proxy puts
    /// its own in place, everybody looks like it. So name none that holds such an address; the
    /// Service keeps the addresses of clients from outside (`externalTrafficPolicy: Local`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub trusted_networks: Vec<Network>,

    /// Namespaces whose SmtpCredentials are honoured besides those of the relay's own; `*` for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(n, n == '*' || n.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))")
            .message("namespaces are named one by one, or all of them by \"*\": patterns such as team-* are not understood"),
        validation = Rule::new("!('*' in self) || size(self) == 1")
            .message("\"*\" already stands for all namespaces: leave the others out")
    )]
    pub namespaces: Vec<String>,
}

/// Bounds of what clients can ask for, per relay pod.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Largest message, as a quantity: `50Mi`, `10M`, or bytes as a string. At most `150Mi`.
    #[serde(default = "Limits::default_message_size")]
    #[schemars(length(max = 16))]
    #[x_kube(
        validation = Rule::new(format!("self.matches('{}')", crate::relay::SIZE))
            .message("messageSize is no size: write a number with a unit, such as 50Mi, 10M or \"1000000\""),
        validation = Rule::new(format!("!self.matches('{}') || quantity(self).compareTo(quantity('150Mi')) <= 0", crate::relay::SIZE))
            .message("messageSize is at most 150Mi: messages are held in memory while they come in")
    )]
    pub message_size: String,

    /// Most recipients of one message.
    #[serde(default = "Limits::default_recipients")]
    #[schemars(range(min = 1, max = 100_000))]
    pub recipients: u32,

    /// Most connections at once, all listeners together. More than 2000 need more memory than pods have by default, 48Ki
    /// each: see `resources.limits.memory`.
    #[serde(default = "Limits::default_connections")]
    #[schemars(range(min = 1, max = 50_000))]
    pub connections: u32,

    /// Most connections at once from one client address.
    #[serde(default = "Limits::default_connections_per_source")]
    #[schemars(range(min = 1, max = 50_000))]
    pub connections_per_source: u32,

    /// How long a client may have a message held before its delivery begins (FUTURERELEASE), in seconds, where mail is submitted: as long as
    /// `delivery.retry.lifetimeSeconds` if not set, and never longer. 0: not at all. What is held takes its place in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub hold_seconds: Option<u32>,
}

impl Limits {
    fn default_message_size() -> String {
        "50Mi".into()
    }

    const fn default_recipients() -> u32 {
        1000
    }

    const fn default_connections() -> u32 {
        2000
    }

    const fn default_connections_per_source() -> u32 {
        200
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_size: Self::default_message_size(),
            recipients: Self::default_recipients(),
            connections: Self::default_connections(),
            connections_per_source: Self::default_connections_per_source(),
            hold_seconds: None,
        }
    }
}
