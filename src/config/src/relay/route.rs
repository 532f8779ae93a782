//! Which mail goes where, and which mail is treated apart.
//!
//! Mail is told apart by domains and by the login it came with, because that is what a queue of a million messages can be filed by
//! without reading one of them. Domains compare without regard to case; a domain of an address that is no host name (an address
//! literal, or one with letters beyond ASCII) fits `*` alone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::check_domain;
use crate::Error;

/// Most routes: each recipient is compared with them in turn.
pub const ROUTES_MAX: usize = 64;
/// Most overrides.
pub const OVERRIDES_MAX: usize = 32;
/// Most entries of one list of a [`Match`].
pub const MATCHES_MAX: usize = 64;
/// Longest reason of a bounce, in bytes: it stands in one line of a report.
pub const REASON_BYTES_MAX: usize = 200;

/// Where mail goes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Target {
    /// To the first of these upstreams that works; named by [`crate::Upstream::name`]. An empty list: to all of them, in order.
    Upstreams(Vec<String>),
    /// To the mail exchangers of each recipient's domain (RFC 5321 §5).
    Direct,
}

impl Target {
    pub(super) fn is_all_upstreams(&self) -> bool {
        matches!(self, Self::Upstreams(names) if names.is_empty())
    }
}

impl Default for Target {
    fn default() -> Self {
        Self::Upstreams(Vec::new())
    }
}

/// Sends some of the mail somewhere of its own. The first route that fits a recipient counts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// How status, metrics and logs call it; unique.
    pub name: String,
    /// Which mail.
    #[serde(default, rename = "match")]
    pub matches: Match,
    /// Where to.
    pub to: Target,
}

/// Treats some of the mail that waits apart, for as long as it stands here. Of those that hold and bounce the first that fits a
/// recipient counts; those that flush try what none of them fits.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Override {
    /// How status, metrics and logs call it; unique.
    pub name: String,
    /// Which mail.
    #[serde(default, rename = "match")]
    pub matches: Match,
    /// Only what arrived before this, in seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrived_before: Option<i64>,
    /// What becomes of it.
    pub action: Action,
}

/// What becomes of mail that an [`Override`] fits.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Action {
    /// It waits, however long; its lifetime goes on.
    Hold,
    /// What waits for its next attempt is due, once, when the override appears or changes.
    Flush,
    /// It is returned to its sender.
    #[serde(rename_all = "camelCase")]
    Bounce {
        /// What the report says: a line of printable ASCII, at most [`REASON_BYTES_MAX`].
        reason: String,
    },
}

/// A choice of mail: what is in all of the lists that are not empty.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Match {
    /// Domains of the reverse-path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub senders: Vec<Pattern>,
    /// Domains of recipients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<Pattern>,
    /// User names of the logins with which the mail came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<String>,
}

/// What a [`Match`] looks at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Subject<'a> {
    /// The domain of the reverse-path in lower case; empty if it is null.
    pub sender: &'a str,
    /// The domain of the recipient in lower case.
    pub recipient: &'a str,
    /// The user name of the login; empty if there was none.
    pub credential: &'a str,
}

impl Match {
    /// Whether this mail is meant.
    #[must_use]
    pub fn fits(&self, subject: &Subject<'_>) -> bool {
        let Self {
            senders,
            recipients,
            credentials,
        } = self;
        let any = |patterns: &[Pattern], domain| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.fits(domain))
        };
        any(senders, subject.sender)
            && any(recipients, subject.recipient)
            && (credentials.is_empty() || credentials.iter().any(|name| name == subject.credential))
    }

    fn check(&self, field: &str) -> Result<(), Error> {
        let Self {
            senders,
            recipients,
            credentials,
        } = self;
        for (list, length) in [
            ("senders", senders.len()),
            ("recipients", recipients.len()),
            ("credentials", credentials.len()),
        ] {
            if length > MATCHES_MAX {
                let problem = format!("has {length} entries; {MATCHES_MAX} are possible");
                return Err(Error::invalid(format!("{field}.match.{list}"), problem));
            }
        }
        Ok(())
    }
}

/// A domain, or many: `example.com`, `*.example.com` for all below it, `*` for all, and `<>` for the null reverse-path.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pattern {
    /// `*`: all there are, the null reverse-path too.
    Any,
    /// `<>`: the null reverse-path.
    Null,
    /// `example.com`: this one, in lower case.
    Domain(Box<str>),
    /// `*.example.com`: all below this one, which itself is not meant; in lower case.
    Below(Box<str>),
}

impl Pattern {
    /// Whether this domain is meant; in lower case, and empty for the null reverse-path.
    #[must_use]
    pub fn fits(&self, domain: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Null => domain.is_empty(),
            Self::Domain(this) => **this == *domain,
            Self::Below(this) => domain
                .strip_suffix(&**this)
                .and_then(|below| below.strip_suffix('.'))
                .is_some_and(|below| !below.is_empty()),
        }
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let domain = |name: &str| {
            check_domain("pattern", name)?;
            Ok(name.to_ascii_lowercase().into_boxed_str())
        };
        match text {
            "*" => Ok(Self::Any),
            "<>" => Ok(Self::Null),
            _ => match text.strip_prefix("*.") {
                Some(below) => domain(below).map(Self::Below),
                None => domain(text).map(Self::Domain),
            },
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => formatter.write_str("*"),
            Self::Null => formatter.write_str("<>"),
            Self::Domain(this) => formatter.write_str(this),
            Self::Below(this) => write!(formatter, "*.{this}"),
        }
    }
}

/// Routes and overrides against the upstreams that there are. `is_upstream` knows their names.
pub(super) fn check(
    routes: &[Route],
    overrides: &[Override],
    is_upstream: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    super::delivery::check_names(
        "delivery.routes",
        ROUTES_MAX,
        routes.iter().map(|route| route.name.as_str()),
    )?;
    for (index, route) in routes.iter().enumerate() {
        let field = format!("delivery.routes[{index}]");
        route.matches.check(&field)?;
        check_target(&format!("{field}.to"), &route.to, &is_upstream)?;
    }
    super::delivery::check_names(
        "delivery.overrides",
        OVERRIDES_MAX,
        overrides.iter().map(|found| found.name.as_str()),
    )?;
    for (index, found) in overrides.iter().enumerate() {
        let field = format!("delivery.overrides[{index}]");
        found.matches.check(&field)?;
        if let Action::Bounce { reason } = &found.action {
            check_reason(&format!("{field}.action.reason"), reason)?;
        }
    }
    Ok(())
}

pub(super) fn check_target(
    field: &str,
    target: &Target,
    is_upstream: &impl Fn(&str) -> bool,
) -> Result<(), Error> {
    let Target::Upstreams(names) = target else {
        return Ok(());
    };
    let known = |name: &&String| is_upstream(name);
    match names.iter().find(|name| !known(name)) {
        None => Ok(()),
        Some(name) => Err(Error::invalid(
            field,
            format!("there is no upstream {name:?}: write the name of one in delivery.upstreams"),
        )),
    }
}

fn check_reason(field: &str, reason: &str) -> Result<(), Error> {
    let is_line = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if (1..=REASON_BYTES_MAX).contains(&reason.len()) && reason.bytes().all(is_line) {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        format!("must be a line of 1 to {REASON_BYTES_MAX} printable ASCII characters"),
    ))
}

#[cfg(test)]
mod tests;
