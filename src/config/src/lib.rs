//! The one contract between operator and relay.
//!
//! The operator writes a [`RelayConfig`] and a [`Credentials`] file, the relay reads them, and the
//! admin API answers with a [`status::RelayStatus`]. All three live here, so that neither side can
//! drift: the tests render, parse and compare.
//!
//! Nothing here does IO. Secrets cross as *paths* to mounted files, never as values; what clients
//! authenticate with crosses as [`Verifier`]s from which the password cannot be recovered.
//!
//! An operator that is upgraded restarts no relay, so either side may be older than the other. A field that is added has a
//! default and is not written while it holds it: an older relay reads every file that does not use the new field, and refuses
//! one that does (it must not pass over a rule that it does not know), which shows in the status. Every field added to the status
//! has a default, too.

mod credentials;
pub mod memory;
mod relay;
pub mod status;
mod verifier;

pub use credentials::{Credential, Credentials};
pub use relay::{
    ALLOWED_NETWORKS_MAX, Access, Action, Admin, AuthMode, DELAY_WARNING_SECONDS, Delivery, Direct,
    DirectLimits, DirectTls, Health, IpFamily, LEVEL, Limits, Listener, ListenerName, ListenerTls,
    MATCHES_MAX, Match, NAMESERVERS_MAX, OVERRIDES_MAX, Override, Pattern, RATE_SECONDS_MAX,
    REASON_BYTES_MAX, ROUTES_MAX, Rate, RelayConfig, Retry, Route, SENDER_HOLD_SECONDS,
    SPOOL_BYTES_MIN, SYNC_MS_MAX, ServerTls, Spool, SpoolMode, Subject, Target, UPSTREAMS_MAX,
    Upstream, UpstreamAuth, UpstreamLimits, UpstreamTls, VERSION,
};
pub use verifier::{SALT_BYTES, Verifier, VerifierError};

/// Why a file of this contract was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not YAML of the expected shape; the message names the line and the field.
    #[error("cannot parse: {0}")]
    Parse(String),
    /// The value cannot be written as YAML.
    #[error("cannot render: {0}")]
    Render(String),
    /// The file is well formed, but says something that cannot work.
    #[error("{field}: {problem}")]
    Invalid {
        /// Path of the offending field, as in `delivery.upstreams[0].port`.
        field: String,
        /// What is wrong and what to write instead.
        problem: String,
    },
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            problem: problem.into(),
        }
    }
}

/// Parses YAML without any of the budgets that guard against hostile input being lifted.
fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    // The error would quote the lines around it; those of the credentials file belong into no log or status.
    serde_saphyr::from_str(text).map_err(|error| Error::Parse(error.without_snippet().to_string()))
}

fn render<T: serde::Serialize>(value: &T) -> Result<String, Error> {
    serde_saphyr::to_string(value).map_err(|error| Error::Render(error.to_string()))
}
