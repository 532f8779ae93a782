//! What one relay pod is told to do.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Error, memory, parse, render};

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

/// One SMTP listener.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    /// Which of the four services this is; each at most once.
    pub name: ListenerName,
    /// Address and port to bind. `[::]` falls back to `0.0.0.0` where the node has no IPv6.
    pub listen: SocketAddr,
    /// How TLS is used.
    pub tls: ListenerTls,
    /// Whether clients may or must authenticate. Never possible without TLS on the connection.
    pub auth: AuthMode,
}

/// The four services, named as in the custom resource.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ListenerName {
    /// Port 2525, the alternative to 25.
    Alternate,
    /// Port 25, server to server (RFC 5321).
    Smtp,
    /// Port 587, message submission (RFC 6409).
    Submission,
    /// Port 465, submission with TLS from the first byte (RFC 8314 §3.3).
    Submissions,
}

impl ListenerName {
    /// The name as written in configuration, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alternate => "alternate",
            Self::Smtp => "smtp",
            Self::Submission => "submission",
            Self::Submissions => "submissions",
        }
    }
}

/// How a listener uses TLS.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ListenerTls {
    /// No TLS; STARTTLS is not offered.
    Disabled,
    /// TLS from the first byte; a plaintext client is closed.
    Implicit,
    /// STARTTLS is offered (RFC 3207).
    Opportunistic,
    /// STARTTLS is offered, and MAIL before it is refused with 530 5.7.0.
    Required,
}

/// Whether clients authenticate (RFC 4954).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum AuthMode {
    /// AUTH is not offered; only trusted networks can relay here.
    Disabled,
    /// AUTH is offered under TLS; trusted networks relay without it.
    Optional,
    /// AUTH is offered under TLS; trusted networks need it too.
    Required,
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

/// Where accepted mail goes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delivery {
    /// Smarthosts in order of preference; the next one is used while those before it do not work.
    pub upstreams: Vec<Upstream>,
    /// When to try again, and when to give up.
    pub retry: Retry,
}

/// A smarthost.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upstream {
    /// How status, metrics and logs call it; unique.
    pub name: String,
    /// Host name or address. The certificate must be valid for it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: UpstreamTls,
    /// PEM bundle of the authorities to trust instead of the public ones.
    pub ca: Option<PathBuf>,
    /// The login. Needs `Required` or `Implicit`: passwords never cross an unverified connection.
    pub auth: Option<UpstreamAuth>,
    /// What the smarthost allows.
    pub limits: UpstreamLimits,
}

/// How a connection to a smarthost is protected.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum UpstreamTls {
    /// Plaintext.
    Disabled,
    /// TLS from the first byte, certificate verified.
    Implicit,
    /// STARTTLS where offered, certificate not verified: protects against onlookers only.
    Opportunistic,
    /// STARTTLS always, certificate verified; without it nothing is sent.
    Required,
}

impl UpstreamTls {
    /// Whether the peer has proved its name before anything secret is said.
    #[must_use]
    pub const fn is_verified(self) -> bool {
        matches!(self, Self::Implicit | Self::Required)
    }
}

/// Files that hold the login at a smarthost, without trailing newline.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpstreamAuth {
    /// File with the user name.
    pub username: PathBuf,
    /// File with the password.
    pub password: PathBuf,
}

/// What a smarthost allows.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpstreamLimits {
    /// Most connections at once from this relay pod.
    pub connections: u32,
    /// Most messages over one connection.
    pub messages_per_connection: u32,
    /// Most recipients in one transaction.
    pub recipients_per_message: u32,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            connections: 20,
            messages_per_connection: 100,
            recipients_per_message: 100,
        }
    }
}

/// When to try a deferred message again, and when to give up.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// Pause after the first failed attempt, in seconds; doubles with each further one.
    pub initial_seconds: u64,
    /// The longest pause between two attempts, in seconds.
    pub maximum_seconds: u64,
    /// How long a message may wait before it is returned to its sender, in seconds.
    pub lifetime_seconds: u64,
}

impl Retry {
    /// [`Self::lifetime_seconds`] as a duration.
    #[must_use]
    pub const fn lifetime(&self) -> Duration {
        Duration::from_secs(self.lifetime_seconds)
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial_seconds: 60,
            maximum_seconds: 3600,
            lifetime_seconds: 5 * 24 * 3600,
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
        self.check_listeners()?;
        self.check_limits()?;
        self.check_spool()?;
        self.check_upstreams()?;
        self.delivery.retry.check()
    }

    fn check_listeners(&self) -> Result<(), Error> {
        if self.listeners.is_empty() {
            return Err(Error::invalid("listeners", "is empty: enable at least one"));
        }
        let mut names = BTreeSet::new();
        for (index, listener) in self.listeners.iter().enumerate() {
            let field = format!("listeners[{index}]");
            if !names.insert(listener.name) {
                return Err(Error::invalid(field, "the same name stands twice"));
            }
            if listener.tls == ListenerTls::Disabled && listener.auth != AuthMode::Disabled {
                return Err(Error::invalid(
                    field,
                    "AUTH needs TLS: set tls to Opportunistic, Required or Implicit, or auth to Disabled",
                ));
            }
        }
        Ok(())
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

    fn check_upstreams(&self) -> Result<(), Error> {
        if self.delivery.upstreams.is_empty() {
            return Err(Error::invalid(
                "delivery.upstreams",
                "is empty: name at least one",
            ));
        }
        let mut names = BTreeSet::new();
        for (index, upstream) in self.delivery.upstreams.iter().enumerate() {
            let field = format!("delivery.upstreams[{index}]");
            if !names.insert(&upstream.name) {
                return Err(Error::invalid(field, "the same name stands twice"));
            }
            upstream.check(&field)?;
        }
        Ok(())
    }
}

impl Upstream {
    fn check(&self, field: &str) -> Result<(), Error> {
        if self.port == 0 {
            return Err(Error::invalid(
                format!("{field}.port"),
                "must be 1 to 65535",
            ));
        }
        if self.host.parse::<std::net::IpAddr>().is_err() {
            check_domain(&format!("{field}.host"), &self.host)?;
        }
        if self.auth.is_some() && !self.tls.is_verified() {
            return Err(Error::invalid(
                format!("{field}.tls"),
                "a login needs Required or Implicit: passwords never cross an unverified connection",
            ));
        }
        let UpstreamLimits {
            connections,
            messages_per_connection,
            recipients_per_message,
        } = &self.limits;
        if [connections, messages_per_connection, recipients_per_message].contains(&&0) {
            return Err(Error::invalid(
                format!("{field}.limits"),
                "must all be at least 1",
            ));
        }
        Ok(())
    }
}

impl Retry {
    fn check(&self) -> Result<(), Error> {
        if self.initial_seconds == 0 || self.maximum_seconds < self.initial_seconds {
            return Err(Error::invalid(
                "delivery.retry",
                "needs 1 <= initialSeconds <= maximumSeconds",
            ));
        }
        if self.lifetime_seconds == 0 {
            return Err(Error::invalid(
                "delivery.retry.lifetimeSeconds",
                "must be at least 1",
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
