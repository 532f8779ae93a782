//! Which mail goes where, and which mail is treated apart.

use std::borrow::Cow;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Sends some of the mail somewhere of its own. The first route that fits a recipient counts.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// How status, metrics and logs call it.
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self != 'default'")
        .message("the name of a route has 1 to 32 lower case letters, digits and '-', such as newsletters; \"default\" is what no route fits"))]
    pub name: String,

    /// Which mail; all that has come so far in the list if not set, so it stands in the last route only.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<Match>,

    /// Where to.
    pub to: Target,
}

/// Where mail goes: to upstreams, or directly to the mail exchangers of its recipients.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.upstreams) != (has(self.direct) && self.direct)")
    .message("mail goes one way: write to: {upstreams: [provider]} with names of delivery.upstreams, or to: {direct: true}"))]
pub struct Target {
    /// Names of upstreams in order of preference; the next one is used while those before it do not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(max = 32)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub upstreams: Option<Vec<String>>,

    /// Directly: see `delivery.direct`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<bool>,
}

/// A choice of mail: what is in all of the lists that are given.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.senders) || has(self.recipients) || has(self.credentials)")
    .message("match says nothing: name senders, recipients or credentials, or leave match out to mean all mail"))]
pub struct Match {
    /// Domains of the envelope's sender: `example.com`, `*.example.com` for all below it, `*` for all, `<>` for reports, which have no
    /// sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub senders: Option<Vec<DomainPattern>>,

    /// Domains of recipients: `example.com`, `*.example.com` for all below it, `*` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub recipients: Option<Vec<DomainPattern>>,

    /// Logins with which the mail came, by the user name in their Secret: `<namespace>.<name>` of the SmtpCredential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub credentials: Option<Vec<UserName>>,
}

/// A domain, or many.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct DomainPattern(pub String);

impl JsonSchema for DomainPattern {
    fn schema_name() -> Cow<'static, str> {
        "DomainPattern".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let domain = super::DOMAIN.trim_start_matches('^');
        json_schema!({
            "type": "string",
            // `*.` and a domain.
            "maxLength": 255,
            "x-kubernetes-validations": [{
                "rule": format!("self == '*' || self == '<>' || self.matches('^([*][.])?{domain}')"),
                "message": "this is no domain: write example.com, *.example.com for all below it, or * for all; addresses such as user@example.com cannot be matched",
            }],
        })
    }
}

/// The user name of a login.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct UserName(pub String);

impl JsonSchema for UserName {
    fn schema_name() -> Cow<'static, str> {
        "UserName".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            // A namespace, a dot, and the name of a SmtpCredential, of 63 characters each.
            "maxLength": 127,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?[.][a-z0-9]([-.a-z0-9]*[a-z0-9])?$')",
                "message": "this is no user name of a SmtpCredential: write its namespace, a dot and its name, such as shop.mail",
            }],
        })
    }
}

/// Treats some of the mail that waits apart, for as long as it stands here. Of those that hold and bounce the first that fits a
/// recipient counts; those that flush try what none of them fits.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.action == 'Bounce') == has(self.reason)")
        .message("reason is what the sender of a returned message is told: write it for action Bounce, such as reason: this domain has moved, and leave it out for others"),
    validation = Rule::new("self.action != 'Bounce' || has(self.match)")
        .message("action Bounce without match would return all mail: say which, such as match: {recipients: [example.com]}; if all is meant, write match: {recipients: [\"*\"]}")
)]
pub struct Override {
    /// How status, metrics and logs call it.
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$')")
        .message("the name of an override has 1 to 63 lower case letters, digits, '-' and '.', such as hold-example.com"))]
    pub name: String,

    /// What becomes of the mail.
    pub action: OverrideAction,

    /// Which mail; all if not set.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<Match>,

    /// Only mail that arrived before this time (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), extend("format" = "date-time"))]
    pub arrived_before: Option<String>,

    /// What the report says, for action `Bounce`: one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    #[x_kube(validation = Rule::new("self.matches('^[!-~][ -~]*$')")
        .message("reason is one line of letters, digits and signs of ASCII, such as: this domain has moved"))]
    pub reason: Option<String>,
}

/// What becomes of mail that an override fits. `Hold`: it waits, and its lifetime goes on. `Flush`: what waits for its next attempt is
/// tried now, once, when the override appears or changes. `Bounce`: it is returned to its sender.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum OverrideAction {
    /// It waits, and its lifetime goes on.
    Hold,
    /// What waits for its next attempt is tried now, once.
    Flush,
    /// It is returned to its sender.
    Bounce,
}
