//! The one contract between operator and relay.
//!
//! The operator writes a [`RelayConfig`] and a [`Credentials`] file, the relay reads them, and the
//! admin API answers with a [`status::RelayStatus`]. All three live here, so that neither side can
//! drift: the tests render, parse and compare.
//!
//! Nothing here does IO. Secrets cross as *paths* to mounted files, never as values; what clients
//! authenticate with crosses as [`Verifier`]s from which the password cannot be recovered.

mod credentials;
mod relay;
pub mod status;
mod verifier;

pub use credentials::{Credential, Credentials};
pub use relay::{
    Access, Admin, AuthMode, Delivery, Health, Limits, Listener, ListenerName, ListenerTls,
    RelayConfig, Retry, ServerTls, Spool, Upstream, UpstreamAuth, UpstreamLimits, UpstreamTls,
    VERSION,
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
    serde_saphyr::from_str(text).map_err(|error| Error::Parse(error.to_string()))
}

fn render<T: serde::Serialize>(value: &T) -> Result<String, Error> {
    serde_saphyr::to_string(value).map_err(|error| Error::Render(error.to_string()))
}
