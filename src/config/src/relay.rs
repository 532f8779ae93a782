//! What one relay pod is told to do.

mod delivery;
mod direct;
mod listener;
mod rate;
mod route;
mod spool;

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Error, memory, parse, render};

pub use delivery::{
    DELAY_WARNING_SECONDS, Delivery, Retry, SENDER_HOLD_SECONDS, UPSTREAMS_MAX, Upstream,
    UpstreamAuth, UpstreamLimits, UpstreamTls,
};
pub use direct::{
    ALLOWED_NETWORKS_MAX, Direct, DirectLimits, DirectTls, IpFamily, NAMESERVERS_MAX,
};
pub use listener::{AuthMode, Listener, ListenerName, ListenerTls};
pub use rate::{RATE_SECONDS_MAX, Rate};
pub use route::{
    Action, MATCHES_MAX, Match, OVERRIDES_MAX, Override, Pattern, REASON_BYTES_MAX, ROUTES_MAX,
    Route, Subject, Target,
};
pub use spool::{SPOOL_BYTES_MIN, SYNC_MS_MAX, Spool, SpoolMode};

/// The version of the file format; a relay refuses any other.
pub const VERSION: u32 = 1;

/// Which fields a program knows: one more with each release that adds some. An operator notes it at the pods that it makes, so that a
/// later one writes no field that nobody has asked for into a file that an older relay reads.
pub const LEVEL: u32 = 2;

/// The whole configuration of a relay.
///
/// [`RelayConfig::parse`] is the only way in for text: what it returns has been checked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RelayConfig {
    /// Always [`VERSION`].
    pub version: u32,
    /// The name in the banner, in EHLO to the next hop and in `Received:`. A domain name.
    pub hostname: String,
    /// Where SMTP clients are served; at least one.
    pub listeners: Vec<Listener>,
    /// The certificate that STARTTLS and implicit TLS present.
    pub tls: ServerTls,
    /// Who may relay.
    pub access: Access,
    /// The bounds of everything a client can make grow.
    pub limits: Limits,
    /// Where accepted mail goes.
    pub delivery: Delivery,
    /// Where accepted mail waits.
    pub spool: Spool,
    /// The operator's window into the relay: status and drain, with mutual TLS.
    pub admin: Admin,
    /// `/livez`, `/readyz` and `/metrics`, in plain HTTP and without secrets.
    pub health: Health,
}

/// Paths of a certificate chain and its key, both PEM.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerTls {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key of the leaf.
    pub key: PathBuf,
}

/// Who may relay. Everybody else gets 550 5.7.1 on RCPT, or 530 5.7.0 on MAIL where a login is required.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Access {
    /// Networks that may relay without AUTH. Empty means nobody.
    pub trusted_networks: Vec<IpNet>,
    /// The [`crate::Credentials`] file. Missing on disk means that nobody can authenticate.
    pub credentials: PathBuf,
}

/// The bounds of everything a client can make grow.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Largest message in bytes, announced with SIZE (RFC 1870). Past it: 552 5.3.4.
    pub message_bytes: u64,
    /// Most recipients of one message (RFC 5321 §4.5.3.1.8 asks for 100 at least). Past it: 452 4.5.3.
    pub recipients: u32,
    /// Most connections at once, all listeners together. Past it: 421 4.7.0 and close.
    pub connections: u32,
    /// Most connections at once from one client address. Past it: 421 4.7.0 and close.
    pub connections_per_source: u32,
    /// What message content may cost of memory while it is received and delivered, in bytes: see [`crate::memory`]. Past it: 452 4.3.1.
    pub memory_bytes: u64,
    /// What may be kept in memory of mail that waits, in bytes. Past it: 452 4.3.1.
    #[serde(default = "index_bytes", skip_serializing_if = "is_usual_index")]
    pub index_bytes: u64,
    /// Longest time for which a client may have a message held before its delivery begins (FUTURERELEASE, RFC 4865), in seconds; 0: it is
    /// not offered. Never longer than the lifetime of mail, which is what holds if nothing is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_seconds: Option<u32>,
}

const fn index_bytes() -> u64 {
    memory::INDEX_BYTES
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
const fn is_usual_index(bytes: &u64) -> bool {
    *bytes == memory::INDEX_BYTES
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 50 << 20,
            recipients: 1000,
            connections: 2000,
            connections_per_source: 200,
            memory_bytes: memory::CONTENT_BYTES,
            index_bytes: memory::INDEX_BYTES,
            hold_seconds: None,
        }
    }
}

/// The operator's window into the relay.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Admin {
    /// Address and port to bind.
    pub listen: SocketAddr,
    /// The relay's certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The authority whose clients may ask, PEM.
    pub client_ca: PathBuf,
}

/// `/livez`, `/readyz` and `/metrics`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Health {
    /// Address and port to bind.
    pub listen: SocketAddr,
}

impl RelayConfig {
    /// Parses and checks a configuration file.
    ///
    /// # Errors
    /// [`Error::Parse`] for what is no YAML of this shape, [`Error::Invalid`] for what cannot work.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let config: Self = parse(text)?;
        config.check()?;
        Ok(config)
    }

    /// The file that [`Self::parse`] reads back as an equal value.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the value would be refused when read, so that a mistake shows where it is made.
    pub fn render(&self) -> Result<String, Error> {
        self.check()?;
        render(self)
    }

    /// Longest time for which a message is held before its delivery begins, in seconds; `None` if none is.
    #[must_use]
    pub fn hold_seconds(&self) -> Option<u32> {
        let lifetime = u32::try_from(self.delivery.retry.lifetime_seconds).unwrap_or(u32::MAX);
        let most = self.limits.hold_seconds.unwrap_or(lifetime);
        Some(most.min(lifetime)).filter(|seconds| *seconds > 0)
    }

    fn check(&self) -> Result<(), Error> {
        if self.version != VERSION {
            return Err(Error::invalid(
                "version",
                format!("is {}, this program reads version {VERSION}", self.version),
            ));
        }
        check_domain("hostname", &self.hostname)?;
        listener::check(&self.listeners)?;
        self.check_limits()?;
        self.spool.check(self.limits.message_bytes)?;
        self.delivery.check()
    }

    fn check_limits(&self) -> Result<(), Error> {
        let Limits {
            message_bytes,
            recipients,
            connections,
            connections_per_source,
            memory_bytes,
            index_bytes,
            hold_seconds: _,
        } = &self.limits;
        for (field, value) in [
            ("limits.messageBytes", *message_bytes),
            ("limits.recipients", u64::from(*recipients)),
            ("limits.connections", u64::from(*connections)),
            (
                "limits.connectionsPerSource",
                u64::from(*connections_per_source),
            ),
            ("limits.indexBytes", *index_bytes),
        ] {
            if value == 0 {
                return Err(Error::invalid(field, "must be at least 1"));
            }
        }
        if *message_bytes > 1 << 30 {
            return Err(Error::invalid(
                "limits.messageBytes",
                "must be at most 1 GiB",
            ));
        }
        if memory::message_max(*memory_bytes) < *message_bytes {
            return Err(Error::invalid(
                "limits.memoryBytes",
                "must be at least twice limits.messageBytes: not all of it is for receiving",
            ));
        }
        Ok(())
    }
}

/// A domain name as RFC 5321 §4.1.2 has it, within the bounds of RFC 1035 §2.3.4.
fn check_domain(field: &str, name: &str) -> Result<(), Error> {
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() <= 253 && !name.is_empty() && name.split('.').all(label_ok) {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        format!("{name:?} is not a domain name such as mail.example.com"),
    ))
}

#[cfg(test)]
mod tests;
