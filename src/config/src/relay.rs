//! What one relay pod is told to do.

mod delivery;
mod listener;

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Error, memory, parse, render};

pub use delivery::{Delivery, Retry, Upstream, UpstreamAuth, UpstreamLimits, UpstreamTls};
pub use listener::{AuthMode, Listener, ListenerName, ListenerTls};

/// The version of the file format; a relay refuses any other.
pub const VERSION: u32 = 1;

/// Less than this is no room for a queue, in bytes: some of it is kept free for what becomes of the mail.
pub const SPOOL_BYTES_MIN: u64 = 32 << 20;

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

/// Who may relay. Everybody else gets 550 5.7.1 on RCPT.
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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 50 << 20,
            recipients: 1000,
            connections: 2000,
            connections_per_source: 200,
            memory_bytes: memory::CONTENT_BYTES,
        }
    }
}

/// Where accepted mail waits.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spool {
    /// Directory of the segment log; created if missing.
    pub directory: PathBuf,
    /// Whether the directory outlives the pod.
    pub persistent: bool,
    /// Most bytes that mail may take there, for where more would cost the pod; at least [`SPOOL_BYTES_MIN`]. All of the volume
    /// if not set. Past it: 452 4.3.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
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
        self.check_spool()?;
        self.delivery.check()
    }

    fn check_limits(&self) -> Result<(), Error> {
        let Limits {
            message_bytes,
            recipients,
            connections,
            connections_per_source,
            memory_bytes,
        } = &self.limits;
        for (field, value) in [
            ("limits.messageBytes", *message_bytes),
            ("limits.recipients", u64::from(*recipients)),
            ("limits.connections", u64::from(*connections)),
            (
                "limits.connectionsPerSource",
                u64::from(*connections_per_source),
            ),
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

    fn check_spool(&self) -> Result<(), Error> {
        let message_bytes = self.limits.message_bytes;
        let least = SPOOL_BYTES_MIN.max(message_bytes.saturating_add(message_bytes / 2));
        if self.spool.bytes_max.is_some_and(|most| most < least) {
            return Err(Error::invalid(
                "spool.bytesMax",
                "must be at least 32 MiB, and half as much again as limits.messageBytes",
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
