//! Networks in CIDR notation, as text: Kubernetes has no type for them, so that rules say what one is.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Longest text form of an IPv6 network.
const TEXT_MAX: u32 = 49;

/// A network in CIDR notation.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Network(pub String);

/// A network in CIDR notation that holds exchangers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct PrivateNetwork(pub String);

impl JsonSchema for Network {
    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let no_open_relay = rule(
            "!isCIDR(self) || cidr(self).prefixLength() >= (cidr(self).ip().family() == 4 ? 8 : 7)",
            "a network this wide would make an open relay: name the networks of your own clients, /8 (IPv6: /7) at the widest, and hand out a SmtpCredential to everybody else",
        );
        let examples = "10.0.0.0/8, 2001:db8::/32 or, for one address, 192.0.2.1/32";
        schema(&[is_network(examples), no_open_relay, is_masked()])
    }
}

impl JsonSchema for PrivateNetwork {
    fn schema_name() -> Cow<'static, str> {
        "PrivateNetwork".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Not the pod itself, and not the link, where clouds have the services that hand out credentials.
        let not_local = rule(
            "!isCIDR(self) || !['127.0.0.0/8', '169.254.0.0/16', '::1/128', 'fe80::/10'].exists(n, cidr(n).containsCIDR(cidr(self)))",
            "addresses of the pod itself (127.0.0.0/8, ::1) and of its link (169.254.0.0/16, fe80::/10) are nobody's mail exchangers",
        );
        let examples = "10.1.0.0/16, fd00:1::/32 or, for one address, 10.1.2.3/32";
        schema(&[is_network(examples), is_masked(), not_local])
    }
}

fn schema(rules: &[Value; 3]) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": TEXT_MAX,
        "x-kubernetes-validations": rules,
    })
}

fn is_network(examples: &str) -> Value {
    let message = format!("this is no network in CIDR notation: write {examples}");
    rule("isCIDR(self)", &message)
}

fn is_masked() -> Value {
    rule(
        "!isCIDR(self) || cidr(self).masked() == cidr(self)",
        "there are bits set behind the prefix: for a network write its first address, such as 10.1.0.0/16; for one address write /32 (IPv6: /128)",
    )
}

fn rule(rule: &str, message: &str) -> Value {
    json!({ "rule": rule, "message": message })
}
