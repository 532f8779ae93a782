//! Sockets, TLS handshakes and clocks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postroad_config::status::{FailureReason, UpstreamFailure};
use rustls::{CertificateError, Error};
use rustls_pki_types::ServerName;
use tokio::net::lookup_host;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::failure::io_failure;
use super::{TlsTerms, Unopened};
use crate::net::{self, TcpStream};
use crate::stream::Stream;
use crate::upstreams::failure;

/// For one address; several are tried in turn.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// For the name lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);
/// For the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to the first address of a host that answers. The system looks it up, with the search list of the pod: an upstream
/// may be a Service.
pub(super) async fn dial_host(host: &str, port: u16) -> Result<TcpStream, UpstreamFailure> {
    let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, lookup_host((host, port))).await;
    let addresses = match lookup {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => {
            let text = format!("{host}: {error}");
            return Err(failure(FailureReason::NameNotFound, text));
        }
        Err(_) => {
            let text = format!("{host}: the name service did not answer");
            return Err(failure(FailureReason::NameNotFound, text));
        }
    };
    let mut last = failure(
        FailureReason::NameNotFound,
        format!("{host} has no address"),
    );
    for address in addresses {
        match dial(address).await {
            Ok(stream) => return Ok(stream),
            Err(failed) => {
                last = failed;
                last.message = format!("{host} ({address}): {}", last.message);
            }
        }
    }
    Err(last)
}

/// Connects to one address.
pub(in crate::delivery) async fn dial(address: SocketAddr) -> Result<TcpStream, UpstreamFailure> {
    let stream = by(Instant::now() + CONNECT_TIMEOUT, net::connect(address))
        .await
        .map_err(|error| io_failure(&error))?;
    // Latency matters more than packets: replies are small and waited for.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Does the handshake. The certificate, where it is verified, must be valid for `host`.
///
/// # Errors
/// [`Unopened::Failed`] if the two do not agree, [`Unopened::BrokenOff`] if it did not come to that.
pub(super) async fn secure(
    stream: Stream,
    tls: TlsTerms<'_>,
    host: &str,
) -> Result<Stream, Unopened> {
    let Stream::Plain(stream) = stream else {
        return Err(failure(FailureReason::ProtocolError, "TLS within TLS").into());
    };
    let refuse = |text: String| failure(FailureReason::TlsFailed, text);
    // A certificate for an address names it without what an address literal has around it.
    let bare = host.trim_matches(['[', ']']).trim_start_matches("IPv6:");
    let name = ServerName::try_from(bare.to_owned())
        .map_err(|_| refuse(format!("{host} cannot stand in a certificate")))?;
    let connector = TlsConnector::from(Arc::clone(tls.config));
    let stream = by(
        Instant::now() + HANDSHAKE_TIMEOUT,
        connector.connect(name, stream),
    )
    .await
    .map_err(|error| {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        let advice = match cause {
            Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => tls.advice,
            _ => "",
        };
        let failed = refuse(format!("TLS with {host}: {error}{advice}"));
        match cause.is_some() {
            true => Unopened::Failed(failed),
            false => Unopened::BrokenOff(failed),
        }
    })?;
    Ok(Stream::Tls(Box::new(stream.into())))
}

/// Ends an action that takes too long with [`io::ErrorKind::TimedOut`].
pub(super) async fn by<T>(
    deadline: Instant,
    action: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match tokio::time::timeout_at(deadline, action).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
