//! Who may relay, and how much they may ask for.

use std::borrow::Cow;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Who may relay.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// Networks whose clients may relay without AUTH, as CIDR, IPv4 or IPv6. Nobody if empty. A client
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

/// A network in CIDR notation.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Network(pub String);

/// Longest text form of an IPv6 network.
pub(super) const NETWORK_MAX: u32 = 49;

impl JsonSchema for Network {
    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": NETWORK_MAX,
            "x-kubernetes-validations": [
                {
                    "rule": "isCIDR(self)",
                    "message": "this is no network in CIDR notation: write 10.0.0.0/8, 2001:db8::/32 or, for one address, 192.0.2.1/32",
                },
                {
                    "rule": "!isCIDR(self) || cidr(self).prefixLength() >= (cidr(self).ip().family() == 4 ? 8 : 7)",
                    "message": "a network this wide would make an open relay: name the networks of your own clients, /8 (IPv6: /7) at the widest, and hand out a SmtpCredential to everybody else",
                },
                {
                    "rule": "!isCIDR(self) || cidr(self).masked() == cidr(self)",
                    "message": "there are bits set behind the prefix: for a network write its first address, such as 10.1.0.0/16; for one address write /32 (IPv6: /128)",
                },
            ],
        })
    }
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
        }
    }
}
