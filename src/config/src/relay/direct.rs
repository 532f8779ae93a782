//! Delivery to the mail exchangers of the recipients' domains.

use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::rate::Rate;
use crate::Error;

/// Most name servers: they are asked in turn, and a message does not wait for ever.
pub const NAMESERVERS_MAX: usize = 3;

/// Most networks that are allowed: each is looked at for each address.
pub const ALLOWED_NETWORKS_MAX: usize = 64;

/// How mail goes to the mail exchangers of a domain (RFC 5321 §5).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Direct {
    /// How connections are protected.
    pub tls: DirectTls,
    /// The families of addresses to use, in order of preference; at least one, none twice.
    pub families: Vec<IpFamily>,
    /// TCP port of mail exchangers.
    pub port: u16,
    /// Name servers to ask; those of the pod (`/etc/resolv.conf`) if there are none here. At most [`NAMESERVERS_MAX`].
    pub nameservers: Vec<SocketAddr>,
    /// Networks that are not of the internet, and whose hosts may be exchangers all the same: anybody can write their addresses into
    /// an MX record. Loopback and link-local ones count only if they are named as such, not as a part of a wider network. At
    /// most [`ALLOWED_NETWORKS_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_networks: Vec<IpNet>,
    /// What each domain is given at most.
    pub limits: DirectLimits,
}

/// How a connection to a mail exchanger is protected. No certificate is verified: its name comes from DNS that nobody has signed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum DirectTls {
    /// STARTTLS where offered; plaintext where it is not, or does not work: mail rather goes in the open than not at all.
    #[default]
    Opportunistic,
    /// Plaintext.
    Disabled,
    /// STARTTLS always; mail for domains without it waits.
    Required,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum IpFamily {
    /// Addresses of A records.
    Ipv4,
    /// Addresses of AAAA records.
    Ipv6,
}

/// What each domain is given at most.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DirectLimits {
    /// Most connections at once from this relay pod.
    pub connections: u32,
    /// Most messages over one connection.
    pub messages_per_connection: u32,
    /// Most recipients in one transaction.
    pub recipients_per_message: u32,
    /// Most messages in a time, from this relay pod; as many as go if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

impl Default for Direct {
    fn default() -> Self {
        Self {
            tls: DirectTls::default(),
            families: vec![IpFamily::Ipv4, IpFamily::Ipv6],
            port: 25,
            nameservers: Vec::new(),
            allowed_networks: Vec::new(),
            limits: DirectLimits::default(),
        }
    }
}

impl Default for DirectLimits {
    fn default() -> Self {
        Self {
            connections: 10,
            messages_per_connection: 100,
            recipients_per_message: 100,
            rate: None,
        }
    }
}

impl Direct {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let Self {
            tls: _,
            families,
            port,
            nameservers,
            allowed_networks,
            limits,
        } = self;
        if families.is_empty() {
            return Err(Error::invalid(
                "delivery.direct.families",
                "is empty: name Ipv4, Ipv6 or both",
            ));
        }
        if families.len() > 2 || families.first() == families.get(1) {
            return Err(Error::invalid(
                "delivery.direct.families",
                "the same family stands twice",
            ));
        }
        if *port == 0 {
            return Err(Error::invalid("delivery.direct.port", "must be 1 to 65535"));
        }
        if nameservers.len() > NAMESERVERS_MAX {
            let problem = format!("has more than {NAMESERVERS_MAX} entries");
            return Err(Error::invalid("delivery.direct.nameservers", problem));
        }
        if allowed_networks.len() > ALLOWED_NETWORKS_MAX {
            let problem = format!("has more than {ALLOWED_NETWORKS_MAX} entries");
            return Err(Error::invalid("delivery.direct.allowedNetworks", problem));
        }
        let DirectLimits {
            connections,
            messages_per_connection,
            recipients_per_message,
            rate,
        } = limits;
        if [connections, messages_per_connection, recipients_per_message].contains(&&0) {
            return Err(Error::invalid(
                "delivery.direct.limits",
                "must all be at least 1",
            ));
        }
        rate.map_or(Ok(()), |rate| rate.check("delivery.direct.limits.rate"))
    }
}
