//! Where accepted mail goes, and when it is tried again.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check_domain;
use crate::Error;

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

impl Delivery {
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.upstreams.is_empty() {
            return Err(Error::invalid(
                "delivery.upstreams",
                "is empty: name at least one",
            ));
        }
        let mut names = BTreeSet::new();
        for (index, upstream) in self.upstreams.iter().enumerate() {
            let field = format!("delivery.upstreams[{index}]");
            if !names.insert(&upstream.name) {
                return Err(Error::invalid(field, "the same name stands twice"));
            }
            upstream.check(&field)?;
        }
        self.retry.check()
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
