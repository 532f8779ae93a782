//! The four services that clients connect to.
//!
//! All four have the same shape and different defaults. [`Listener`] has no optional fields: what
//! is left out is filled in from the defaults of the listener it stands for, by the API server
//! (the schema carries them) and, for objects that never saw one, when they are read.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The four services that clients connect to.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.smtp.enabled || self.submissions.enabled || self.submission.enabled || self.alternate.enabled")
        .message("all four listeners are disabled: enable at least one"),
    validation = Rule::new(distinct_ports())
        .message("two enabled listeners have the same port: give each a port of its own, or disable one")
)]
pub struct Listeners {
    /// Port 25, server to server: plaintext with STARTTLS offered, AUTH offered under TLS.
    #[serde(default = "Listener::smtp", deserialize_with = "read_smtp")]
    #[schemars(transform = smtp_defaults)]
    #[x_kube(
        validation = Rule::new("self.tls != 'Implicit'").message(NOT_IMPLICIT),
        validation = Rule::new(AUTH_RULE).message(AUTH_MESSAGE)
    )]
    pub smtp: Listener,

    /// Port 465: TLS from the first byte, AUTH required.
    #[serde(
        default = "Listener::submissions",
        deserialize_with = "read_submissions"
    )]
    #[schemars(transform = submissions_defaults)]
    #[x_kube(validation = Rule::new("self.tls == 'Implicit'")
        .message("submissions speaks TLS from the first byte: leave tls out or set it to Implicit; for STARTTLS use the listener submission"))]
    pub submissions: Listener,

    /// Port 587, message submission: STARTTLS offered, AUTH required and possible only under TLS.
    #[serde(default = "Listener::submission", deserialize_with = "read_submission")]
    #[schemars(transform = submission_defaults)]
    #[x_kube(
        validation = Rule::new("self.tls != 'Implicit'").message(NOT_IMPLICIT),
        validation = Rule::new(AUTH_RULE).message(AUTH_MESSAGE)
    )]
    pub submission: Listener,

    /// Port 2525, for networks that block port 25: like `smtp`.
    #[serde(default = "Listener::alternate", deserialize_with = "read_alternate")]
    #[schemars(transform = alternate_defaults)]
    #[x_kube(
        validation = Rule::new("self.tls != 'Implicit'").message(NOT_IMPLICIT),
        validation = Rule::new(AUTH_RULE).message(AUTH_MESSAGE)
    )]
    pub alternate: Listener,
}

/// One service.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Whether it is served.
    pub enabled: bool,
    /// Port of the Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// How TLS is used. `Disabled`: no TLS. `Opportunistic`: STARTTLS is offered. `Required`: STARTTLS
    /// is offered, and mail before it refused. `Implicit`: TLS from the first byte.
    pub tls: ListenerTls,
    /// Whether clients authenticate. `Disabled`: AUTH is not offered, only trusted networks can
    /// relay. `Optional`: AUTH is offered under TLS, trusted networks relay without it. `Required`:
    /// trusted networks need it too.
    pub auth: AuthMode,
}

/// How a listener uses TLS.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ListenerTls {
    /// No TLS; STARTTLS is not offered.
    Disabled,
    /// STARTTLS is offered.
    Opportunistic,
    /// STARTTLS is offered, and mail before it refused.
    Required,
    /// TLS from the first byte.
    Implicit,
}

/// Whether clients authenticate.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum AuthMode {
    /// AUTH is not offered; only trusted networks can relay.
    Disabled,
    /// AUTH is offered under TLS; trusted networks relay without it.
    Optional,
    /// AUTH is offered under TLS; trusted networks need it too.
    Required,
}

const NOT_IMPLICIT: &str = "only submissions speaks TLS from the first byte: set tls to Disabled, Opportunistic or Required, or use the listener submissions";
const AUTH_RULE: &str = "self.tls != 'Disabled' || self.auth == 'Disabled'";
const AUTH_MESSAGE: &str = "passwords need TLS: with tls Disabled set auth to Disabled as well, or set tls to Opportunistic or Required";

/// Whether no two enabled listeners share a port. Disabled ones count as distinct negative numbers.
fn distinct_ports() -> String {
    let ports = ["smtp", "submissions", "submission", "alternate"]
        .iter()
        .zip(1..)
        .map(|(name, index)| format!("self.{name}.enabled ? self.{name}.port : -{index}"))
        .collect::<Vec<_>>()
        .join(", ");
    format!("[{ports}].all(p, [{ports}].exists_one(q, q == p))")
}

impl Default for Listeners {
    fn default() -> Self {
        Self {
            smtp: Listener::smtp(),
            submissions: Listener::submissions(),
            submission: Listener::submission(),
            alternate: Listener::alternate(),
        }
    }
}

impl Listener {
    const fn smtp() -> Self {
        Self {
            enabled: true,
            port: 25,
            tls: ListenerTls::Opportunistic,
            auth: AuthMode::Optional,
        }
    }

    const fn submissions() -> Self {
        Self {
            port: 465,
            tls: ListenerTls::Implicit,
            auth: AuthMode::Required,
            ..Self::smtp()
        }
    }

    const fn submission() -> Self {
        Self {
            port: 587,
            auth: AuthMode::Required,
            ..Self::smtp()
        }
    }

    const fn alternate() -> Self {
        Self {
            port: 2525,
            ..Self::smtp()
        }
    }
}

/// A listener as written: anything may be left out.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    enabled: Option<bool>,
    port: Option<u16>,
    tls: Option<ListenerTls>,
    auth: Option<AuthMode>,
}

fn read<'de, D: Deserializer<'de>>(from: D, default: Listener) -> Result<Listener, D::Error> {
    let Written {
        enabled,
        port,
        tls,
        auth,
    } = Written::deserialize(from)?;
    Ok(Listener {
        enabled: enabled.unwrap_or(default.enabled),
        port: port.unwrap_or(default.port),
        tls: tls.unwrap_or(default.tls),
        auth: auth.unwrap_or(default.auth),
    })
}

fn read_smtp<'de, D: Deserializer<'de>>(from: D) -> Result<Listener, D::Error> {
    read(from, Listener::smtp())
}

fn read_submissions<'de, D: Deserializer<'de>>(from: D) -> Result<Listener, D::Error> {
    read(from, Listener::submissions())
}

fn read_submission<'de, D: Deserializer<'de>>(from: D) -> Result<Listener, D::Error> {
    read(from, Listener::submission())
}

fn read_alternate<'de, D: Deserializer<'de>>(from: D) -> Result<Listener, D::Error> {
    read(from, Listener::alternate())
}

/// Gives each property its default, so that none is required.
fn set_defaults(schema: &mut Schema, default: Listener) {
    schema.remove("required");
    let Ok(Value::Object(defaults)) = serde_json::to_value(default) else {
        return;
    };
    let Some(Value::Object(properties)) = schema.get_mut("properties") else {
        return;
    };
    for (name, value) in defaults {
        if let Some(Value::Object(property)) = properties.get_mut(&name) {
            property.insert("default".into(), value);
        }
    }
}

fn smtp_defaults(schema: &mut Schema) {
    set_defaults(schema, Listener::smtp());
}

fn submissions_defaults(schema: &mut Schema) {
    set_defaults(schema, Listener::submissions());
}

fn submission_defaults(schema: &mut Schema) {
    set_defaults(schema, Listener::submission());
}

fn alternate_defaults(schema: &mut Schema) {
    set_defaults(schema, Listener::alternate());
}
