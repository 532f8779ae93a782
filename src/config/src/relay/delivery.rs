//! Where accepted mail goes, and when it is tried again.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check_domain;
use super::direct::Direct;
use super::rate::Rate;
use super::route::{self, Override, Route, Target};
use crate::Error;

/// Most upstreams: each is tried, watched and spoken of on its own.
pub const UPSTREAMS_MAX: usize = 64;

/// Where accepted mail goes.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delivery {
    /// Smarthosts in order of preference; the next one is used while those before it do not work. May be empty if nothing goes there.
    pub upstreams: Vec<Upstream>,
    /// Mail that goes somewhere of its own; the first that fits a recipient counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Where mail goes that no route fits.
    #[serde(default, skip_serializing_if = "Target::is_all_upstreams")]
    pub default_route: Target,
    /// How mail goes where a target is [`Target::Direct`].
    #[serde(default, skip_serializing_if = "Direct::is_default")]
    pub direct: Direct,
    /// Mail that is treated apart while it waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
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
    /// Most messages in a time, from this relay pod; as many as go if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Largest message in bytes, for a smarthost that does not announce it with SIZE (RFC 1870). Larger ones are returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_bytes: Option<u64>,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            connections: 20,
            messages_per_connection: 100,
            recipients_per_message: 100,
            rate: None,
            message_bytes: None,
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
    /// How long a message may wait before its sender is told once that it is late, in seconds. `None`: only those are told who ask
    /// (NOTIFY=DELAY, RFC 3461 §4.1), and after [`DELAY_WARNING_SECONDS`].
    #[serde(
        default = "delay_warning",
        skip_serializing_if = "is_usual_delay_warning"
    )]
    pub delay_warning_seconds: Option<u64>,
    /// How long a message may wait whose sender an upstream rejects, before it is returned, in seconds; 0: it is returned at once.
    /// [`SENDER_HOLD_SECONDS`] if nothing is written. Never longer than the lifetime: see [`Self::sender_hold`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_hold_seconds: Option<u64>,
}

/// How long a message waits whose sender an upstream rejects, if nothing else is written, in seconds: a day, so that who reads of it
/// on the next morning still saves the mail.
pub const SENDER_HOLD_SECONDS: u64 = 24 * 3600;

/// When a sender is told that a message is late, if nothing else is written, in seconds: four hours.
pub const DELAY_WARNING_SECONDS: u64 = 4 * 3600;

#[expect(
    clippy::unnecessary_wraps,
    reason = "serde asks for the type of the field"
)]
const fn delay_warning() -> Option<u64> {
    Some(DELAY_WARNING_SECONDS)
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn is_usual_delay_warning(seconds: &Option<u64>) -> bool {
    *seconds == delay_warning()
}

impl Retry {
    /// [`Self::lifetime_seconds`] as a duration.
    #[must_use]
    pub const fn lifetime(&self) -> Duration {
        Duration::from_secs(self.lifetime_seconds)
    }

    /// How long a message may wait whose sender an upstream rejects: never longer than it lives; zero if it is returned at once.
    #[must_use]
    pub fn sender_hold(&self) -> Duration {
        let most = self.sender_hold_seconds.unwrap_or(SENDER_HOLD_SECONDS);
        Duration::from_secs(most.min(self.lifetime_seconds))
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial_seconds: 60,
            maximum_seconds: 3600,
            lifetime_seconds: 5 * 24 * 3600,
            delay_warning_seconds: delay_warning(),
            sender_hold_seconds: None,
        }
    }
}

impl Delivery {
    /// The upstreams that a target means, in the order in which they are tried; none if it is [`Target::Direct`].
    #[must_use]
    pub fn upstreams_of<'a>(&'a self, target: &'a Target) -> Vec<&'a Upstream> {
        match target {
            Target::Direct => Vec::new(),
            Target::Upstreams(names) if names.is_empty() => self.upstreams.iter().collect(),
            Target::Upstreams(names) => names
                .iter()
                .filter_map(|name| self.upstreams.iter().find(|found| found.name == *name))
                .collect(),
        }
    }

    /// Whether any mail goes to the mail exchangers of its recipients.
    #[must_use]
    pub fn uses_direct(&self) -> bool {
        let mut targets = self.routes.iter().map(|route| &route.to);
        self.default_route == Target::Direct || targets.any(|to| *to == Target::Direct)
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let Self {
            upstreams,
            routes,
            default_route,
            direct,
            overrides,
            retry,
        } = self;
        if upstreams.is_empty() && *default_route != Target::Direct {
            return Err(Error::invalid(
                "delivery.upstreams",
                "is empty: name at least one, or set delivery.defaultRoute to Direct",
            ));
        }
        let names = upstreams.iter().map(|upstream| upstream.name.as_str());
        check_names("delivery.upstreams", UPSTREAMS_MAX, names)?;
        for (index, upstream) in upstreams.iter().enumerate() {
            upstream.check(&format!("delivery.upstreams[{index}]"))?;
        }
        let is_upstream = |name: &str| upstreams.iter().any(|upstream| upstream.name == name);
        route::check(routes, overrides, is_upstream)?;
        route::check_target("delivery.defaultRoute", default_route, &is_upstream)?;
        direct.check()?;
        retry.check()
    }
}

/// So many at most, and each name once.
pub(super) fn check_names<'a>(
    field: &str,
    most: usize,
    names: impl ExactSizeIterator<Item = &'a str>,
) -> Result<(), Error> {
    if names.len() > most {
        let problem = format!("has {} entries; {most} are possible", names.len());
        return Err(Error::invalid(field, problem));
    }
    let mut seen = BTreeSet::new();
    for (index, name) in names.enumerate() {
        if !seen.insert(name) {
            return Err(Error::invalid(
                format!("{field}[{index}]"),
                "the same name stands twice",
            ));
        }
    }
    Ok(())
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
            rate,
            message_bytes,
        } = &self.limits;
        let is_zero = [connections, messages_per_connection, recipients_per_message].contains(&&0);
        if is_zero || *message_bytes == Some(0) {
            return Err(Error::invalid(
                format!("{field}.limits"),
                "must all be at least 1",
            ));
        }
        rate.map_or(Ok(()), |rate| rate.check(&format!("{field}.limits.rate")))
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
        if self.delay_warning_seconds == Some(0) {
            return Err(Error::invalid(
                "delivery.retry.delayWarningSeconds",
                "must be at least 1, or null for no warning",
            ));
        }
        Ok(())
    }
}
