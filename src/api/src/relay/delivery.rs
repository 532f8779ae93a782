//! Where accepted mail goes.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::direct::Direct;
use super::rate::Rate;
use super::route::{Override, Route};
use crate::refs::{SecretKeyRef, SecretRef};

/// Where accepted mail goes: what no route fits to the upstreams; directly to the mail exchangers of its recipients where there
/// are none.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.direct) || has(self.upstreams) && size(self.upstreams) >= 1")
        .message("there is nowhere to send mail to: name at least one upstream, such as {name: provider, host: smtp.example.com, port: 587}, or write direct: {} to deliver to the mail exchangers of each domain"),
    validation = Rule::new("!has(self.routes) || self.routes.all(r, !has(r.to.upstreams) || has(self.upstreams) && r.to.upstreams.all(n, self.upstreams.exists(u, u.name == n)))")
        .message("a route leads to an upstream that there is not: write names of delivery.upstreams in its to.upstreams"),
    validation = Rule::new("!has(self.routes) || self.routes.all(r, has(r.match) || r.name == self.routes[size(self.routes) - 1].name)")
        .message("a route without match takes all mail, and those behind it get none: give it a match, or move it to the end")
)]
pub struct Delivery {
    /// Smarthosts in order of preference; the next one is used while those before it do not work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub upstreams: Vec<Upstream>,

    /// Mail that goes somewhere of its own; the first route that fits a recipient counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub routes: Vec<Route>,

    /// How mail goes directly to the mail exchangers (MX) of its recipients' domains. Where no upstream is named, all mail does that no
    /// route fits: `direct: {}` is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<Direct>,

    /// Mail that is held, tried now or returned while it waits: what `kubectl postroad hold`, `flush` and `bounce` write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub overrides: Vec<Override>,

    /// When to try again, and when to give up.
    #[serde(default)]
    pub retry: Retry,
}

/// A smarthost.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.auth) || !has(self.tls) || !has(self.tls.mode) || self.tls.mode in ['Required', 'Implicit']")
        .message("a login needs tls.mode Required or Implicit: passwords never cross an unverified connection; a private authority is named in tls.caSecretRef"),
    validation = Rule::new("!has(self.tls) || !has(self.tls.caSecretRef) || !has(self.tls.mode) || self.tls.mode in ['Required', 'Implicit']")
        .message("tls.caSecretRef is used only where certificates are verified: set tls.mode to Required or Implicit, or leave tls.caSecretRef out")
)]
pub struct Upstream {
    /// How status, metrics and logs call it.
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name of an upstream has 1 to 32 lower case letters, digits and '-', such as provider"))]
    pub name: String,

    /// Host name or address. The certificate has to be valid for it.
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new(format!("isIP(self) || (self.matches('{}') && !self.matches('^[0-9.]+$'))", crate::relay::DOMAIN))
        .message("host is neither a host name nor an address: write it alone, such as smtp.example.com; the port has a field of its own"))]
    pub host: String,

    /// TCP port, usually 587 (STARTTLS) or 465 (TLS from the first byte).
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,

    /// How the connection is protected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,

    /// The login, if the smarthost wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<UpstreamAuth>,

    /// What the smarthost allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<UpstreamLimits>,
}

impl Upstream {
    /// The TLS mode, with the default filled in.
    #[must_use]
    pub fn tls_mode(&self) -> UpstreamTlsMode {
        let written = self.tls.as_ref().and_then(|tls| tls.mode);
        written.unwrap_or(match self.port {
            465 => UpstreamTlsMode::Implicit,
            _ => UpstreamTlsMode::Required,
        })
    }

    /// The Secret with the login.
    #[must_use]
    pub fn login_secret(&self) -> Option<&str> {
        self.auth.as_ref().map(|auth| auth.secret_ref.name.as_str())
    }

    /// The Secret with the authorities to trust.
    #[must_use]
    pub fn ca_secret(&self) -> Option<&SecretKeyRef> {
        self.tls.as_ref()?.ca_secret_ref.as_ref()
    }
}

/// How a connection to a smarthost is protected.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamTls {
    /// `Implicit` for port 465 and `Required` for every other one, if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<UpstreamTlsMode>,

    /// Authorities to trust instead of the public ones, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
}

/// `Disabled`: plaintext. `Opportunistic`: STARTTLS where offered, certificate not verified.
/// `Required`: STARTTLS always, certificate verified; the default. `Implicit`: TLS from the first
/// byte, certificate verified; the default for port 465.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum UpstreamTlsMode {
    /// Plaintext.
    Disabled,
    /// STARTTLS where offered, certificate not verified.
    Opportunistic,
    /// STARTTLS always, certificate verified.
    Required,
    /// TLS from the first byte, certificate verified.
    Implicit,
}

/// The login at a smarthost.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamAuth {
    /// A Secret in the same namespace with the keys `username` and `password`.
    pub secret_ref: SecretRef,
}

/// What a smarthost allows.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamLimits {
    /// Most connections at once from one relay pod. 20 if not set.
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

    /// Most messages in a time; all replicas together. As many as go if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,

    /// Largest message that the smarthost takes, if it does not say so itself (SIZE), as a quantity: `10Mi`, `10M`. Larger ones are
    /// returned to their senders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new(format!("self.matches('{}')", crate::relay::SIZE))
        .message("messageSize is no size: write a number with a unit, such as 10Mi, 10M or \"1000000\""))]
    pub message_size: Option<String>,
}

/// When to try again, and when to give up. Durations are whole seconds, as everywhere in the
/// Kubernetes API.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.initialSeconds <= self.maximumSeconds")
        .message("retry.initialSeconds is longer than retry.maximumSeconds: the first pause is the shortest, so lower the one or raise the other"),
    validation = Rule::new("self.maximumSeconds <= self.lifetimeSeconds")
        .message("retry.maximumSeconds is longer than retry.lifetimeSeconds: a message has to be tried again before it is returned"),
    validation = Rule::new("!has(self.senderHoldSeconds) || self.senderHoldSeconds <= self.lifetimeSeconds")
        .message("retry.senderHoldSeconds is longer than retry.lifetimeSeconds: no message waits for longer than it is kept, so lower the one or raise the other")
)]
pub struct Retry {
    /// Pause after the first failed attempt, in seconds; doubles with each further one.
    #[serde(default = "Retry::default_initial")]
    #[schemars(range(min = 1, max = 86_400))]
    pub initial_seconds: u32,

    /// The longest pause between two attempts, in seconds.
    #[serde(default = "Retry::default_maximum")]
    #[schemars(range(min = 1, max = 86_400))]
    pub maximum_seconds: u32,

    /// How long a message may wait before it is returned to its sender, in seconds: 5 days if not
    /// set, 30 days at most.
    #[serde(default = "Retry::default_lifetime")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub lifetime_seconds: u32,

    /// How long a message may wait before its sender is told, once, that it is late, in seconds: 4 hours if not set. 0: only those are
    /// told who ask (NOTIFY=DELAY).
    #[serde(default = "Retry::default_delay_warning")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub delay_warning_seconds: u32,

    /// How long a message may wait whose sender an upstream rejects, in seconds, before it is returned: 1 day if not set, and never
    /// longer than `lifetimeSeconds`. Senders that nobody has verified at the provider are rejected so; meanwhile the condition
    /// `QueueHealthy` says `SenderRejected`. 0: it is returned at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub sender_hold_seconds: Option<u32>,
}

impl Retry {
    const fn default_initial() -> u32 {
        60
    }

    const fn default_maximum() -> u32 {
        3600
    }

    const fn default_lifetime() -> u32 {
        5 * 24 * 3600
    }

    const fn default_delay_warning() -> u32 {
        4 * 3600
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial_seconds: Self::default_initial(),
            maximum_seconds: Self::default_maximum(),
            lifetime_seconds: Self::default_lifetime(),
            delay_warning_seconds: Self::default_delay_warning(),
            sender_hold_seconds: None,
        }
    }
}
