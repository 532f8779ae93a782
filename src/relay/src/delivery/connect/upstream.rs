//! The way to an upstream: by its name, with its TLS and its login.

use std::time::Duration;

use postroad_config::UpstreamTls;
use postroad_config::status::{FailureReason, UpstreamFailure};
use postroad_smtp::client::{ClientTls, Login as SmtpLogin};

use super::socket::dial_host;
use super::{Connection, Protection, Terms, TlsTerms};
use crate::live::{LiveUpstream, Login};
use crate::upstreams::failure;

/// For everything before MAIL together: whoever answers an octet at a time keeps mail from the next upstream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(180);

impl Connection {
    /// Connects to an upstream, secures, greets and logs in, within [`OPEN_TIMEOUT`].
    pub(crate) async fn open(
        upstream: &LiveUpstream,
        hostname: &str,
    ) -> Result<Self, UpstreamFailure> {
        let opened = tokio::time::timeout(OPEN_TIMEOUT, Self::open_slowly(upstream, hostname));
        opened.await.unwrap_or_else(|_| {
            Err(failure(
                FailureReason::ConnectionTimedOut,
                format!("no login within {} seconds", OPEN_TIMEOUT.as_secs()),
            ))
        })
    }

    async fn open_slowly(upstream: &LiveUpstream, hostname: &str) -> Result<Self, UpstreamFailure> {
        // Before anything is sent: what is missing here cannot be mended by the peer.
        let terms = Terms {
            login: login(upstream)?,
            tls: tls_terms(upstream)?,
            remote: &upstream.config.host,
            hostname,
        };
        let stream = dial_host(&upstream.config.host, upstream.config.port).await?;
        Ok(Self::begin(stream, terms).await?)
    }
}

fn login(upstream: &LiveUpstream) -> Result<Option<SmtpLogin>, UpstreamFailure> {
    match &upstream.login {
        Login::None => Ok(None),
        Login::Present { username, password } => Ok(Some(SmtpLogin {
            username: username.clone(),
            password: password.clone(),
        })),
        Login::Missing(problem) => Err(failure(
            FailureReason::CredentialsMissing,
            format!("no login: {problem}"),
        )),
    }
}

fn tls_terms(upstream: &LiveUpstream) -> Result<TlsTerms<'_>, UpstreamFailure> {
    let config = upstream.tls.as_ref().map_err(|problem| {
        failure(
            FailureReason::TlsFailed,
            format!("cannot verify the upstream: {problem}"),
        )
    })?;
    let mode = match upstream.config.tls {
        UpstreamTls::Disabled => ClientTls::None,
        UpstreamTls::Implicit => ClientTls::Active,
        UpstreamTls::Opportunistic => ClientTls::Opportunistic,
        UpstreamTls::Required => ClientTls::Required,
    };
    let worth = match upstream.config.tls.is_verified() {
        true => Protection::Verified,
        false => Protection::Unverified,
    };
    Ok(TlsTerms {
        mode,
        config,
        worth,
        advice: " (a private authority is named in tls.caSecretRef)",
    })
}
