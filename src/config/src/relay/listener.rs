//! Where SMTP clients are served.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::Error;

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

/// Each service once, and no password without TLS.
pub(super) fn check(listeners: &[Listener]) -> Result<(), Error> {
    if listeners.is_empty() {
        return Err(Error::invalid("listeners", "is empty: enable at least one"));
    }
    let mut names = BTreeSet::new();
    for (index, listener) in listeners.iter().enumerate() {
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
