//! Delivery to the mail exchangers of the recipients' domains.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::PrivateNetwork;
use super::rate::Rate;

/// How mail goes to the mail exchangers (MX) of its recipients' domains. The pods have to reach port 25 of the whole internet, which many
/// networks block, and their addresses need names in DNS that are those of `hostname`.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Direct {
    /// How connections are protected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<DirectTls>,

    /// The families of addresses to use, in order of preference: IPv4, then IPv6, if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(validation = Rule::new("size(self) < 2 || self[0] != self[1]")
        .message("ipFamilies has the same family twice: write [IPv4], [IPv6], [IPv4, IPv6] or [IPv6, IPv4]"))]
    pub ip_families: Option<Vec<IpFamily>>,

    /// Private networks whose hosts may get mail, as CIDR, IPv4 or IPv6. Anybody can write an address of your cluster into the MX record of
    /// a domain, so that without this no connection goes to 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10 or fc00::/7;
    /// mail for such hosts waits. Name the networks where mail exchangers of your own are, as narrowly as you can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_networks: Vec<PrivateNetwork>,

    /// What each domain is given at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<DirectLimits>,
}

/// How a connection to a mail exchanger is protected.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectTls {
    /// `Opportunistic` if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<DirectTlsMode>,
}

/// `Opportunistic`: STARTTLS where offered, plaintext where TLS does not work; the default. `Disabled`: plaintext. `Required`: STARTTLS
/// always; mail for domains without it waits, and is returned in the end. No certificate is verified: the names of mail exchangers come
/// from DNS that nobody has signed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum DirectTlsMode {
    /// STARTTLS where offered, plaintext where TLS does not work.
    Opportunistic,
    /// Plaintext.
    Disabled,
    /// STARTTLS always.
    Required,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum IpFamily {
    /// Addresses of A records.
    #[serde(rename = "IPv4")]
    Ipv4,
    /// Addresses of AAAA records.
    #[serde(rename = "IPv6")]
    Ipv6,
}

/// What each domain is given at most.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectLimits {
    /// Most connections at once from one relay pod. 10 if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub connections: Option<u32>,

    /// Most messages over one connection. 100 if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub messages_per_connection: Option<u32>,

    /// Most recipients in one transaction. 100 if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub recipients_per_message: Option<u32>,

    /// Most messages to one domain in a time; all replicas together. As many as go if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}
