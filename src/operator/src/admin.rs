//! The admin API of relay pods: status and drain, over mutual TLS.
//!
//! Each relay's pods show a certificate of the relay's own authority for one fixed name, whatever
//! their address; the operator shows one that the same authority signed for clients. It is made in
//! memory and never stored.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use postroad_config::status::{ADMIN_SERVER_NAME, DRAIN_PATH, RelayStatus, STATUS_PATH};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::certificate::{self, Outcome, Pair, Usage, Wanted};
use crate::context::lock;
use crate::digest;
use crate::names::{OPERATOR, PORT_ADMIN, RelayId};

/// Pods answer in milliseconds; one that does not is not worth the wait.
const TIMEOUT: Duration = Duration::from_secs(2);
/// A status has some hundred bytes per upstream.
const ANSWER_MAX: usize = 256 << 10;
/// The operator's certificates live 90 days by rule; it uses each for an hour.
const CLIENT_LIFETIME_SECONDS: i64 = 3600;
/// Clients kept; each is some kB. Past it all are made anew.
const CLIENTS_MAX: usize = 10_000;

/// Why a pod did not say how it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot make a client certificate")]
    Certificate(#[from] certificate::Error),
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    #[error("no answer within {} seconds", TIMEOUT.as_secs())]
    TimedOut,
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    #[error("cannot speak HTTP")]
    Http(#[from] hyper::Error),
    #[error("cannot read the answer: {0}")]
    Answer(String),
    #[error("the pod answered {0}")]
    Refused(StatusCode),
}

/// Clients for the admin API, one per relay.
#[derive(Default)]
pub(crate) struct Admin(Mutex<HashMap<String, Client>>);

#[derive(Clone)]
struct Client {
    authority: String,
    until: i64,
    tls: Arc<ClientConfig>,
}

impl Admin {
    /// How a pod is.
    pub(crate) async fn status(
        &self,
        relay: &RelayId,
        authority: &Pair,
        pod: IpAddr,
    ) -> Result<RelayStatus, Error> {
        let tls = self.client(relay, authority, Timestamp::now())?;
        ask(tls, pod, Method::GET, STATUS_PATH).await
    }

    /// How a pod is, asked with the client of an earlier question. `None` if there is none any more.
    pub(crate) async fn status_again(
        &self,
        relay_uid: &str,
        pod: IpAddr,
    ) -> Option<Result<RelayStatus, Error>> {
        let now = Timestamp::now().as_second();
        let tls = {
            let clients = lock(&self.0);
            let client = clients.get(relay_uid).filter(|client| now < client.until)?;
            Arc::clone(&client.tls)
        };
        Some(ask(tls, pod, Method::GET, STATUS_PATH).await)
    }

    /// Has a pod take no more mail.
    pub(crate) async fn drain(
        &self,
        relay: &RelayId,
        authority: &Pair,
        pod: IpAddr,
    ) -> Result<RelayStatus, Error> {
        let tls = self.client(relay, authority, Timestamp::now())?;
        ask(tls, pod, Method::POST, DRAIN_PATH).await
    }

    fn client(
        &self,
        relay: &RelayId,
        authority: &Pair,
        now: Timestamp,
    ) -> Result<Arc<ClientConfig>, Error> {
        let signed_by = digest::of(authority.certificate.as_bytes());
        let mut clients = lock(&self.0);
        if let Some(client) = clients.get(&relay.uid)
            && client.authority == signed_by
            && now.as_second() < client.until
        {
            return Ok(Arc::clone(&client.tls));
        }
        let tls = Arc::new(client_config(authority, now)?);
        if clients.len() >= CLIENTS_MAX {
            clients.clear();
        }
        let client = Client {
            authority: signed_by,
            until: now.as_second() + CLIENT_LIFETIME_SECONDS,
            tls: Arc::clone(&tls),
        };
        clients.insert(relay.uid.clone(), client);
        Ok(tls)
    }
}

fn client_config(authority: &Pair, now: Timestamp) -> Result<ClientConfig, Error> {
    let wanted = Wanted {
        common_name: OPERATOR.into(),
        names: Vec::new(),
        usage: Usage::Client,
    };
    let outcome: Outcome = certificate::leaf(authority, None, &wanted, now)?;
    let tls = |error: &dyn std::fmt::Display| Error::Tls(error.to_string());
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.certificate.as_bytes())
        .map_err(|error| tls(&error))?;
    roots.add(root).map_err(|error| tls(&error))?;
    let own = CertificateDer::from_pem_slice(outcome.pair().certificate.as_bytes())
        .map_err(|error| tls(&error))?;
    let key = PrivateKeyDer::from_pem_slice(outcome.pair().key.as_bytes())
        .map_err(|error| tls(&error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| tls(&error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![own], key)
        .map_err(|error| tls(&error))
}

async fn ask(
    tls: Arc<ClientConfig>,
    pod: IpAddr,
    method: Method,
    path: &'static str,
) -> Result<RelayStatus, Error> {
    tokio::time::timeout(TIMEOUT, exchange(tls, pod, method, path))
        .await
        .unwrap_or(Err(Error::TimedOut))
}

async fn exchange(
    tls: Arc<ClientConfig>,
    pod: IpAddr,
    method: Method,
    path: &'static str,
) -> Result<RelayStatus, Error> {
    let stream = TcpStream::connect(SocketAddr::new(pod, PORT_ADMIN))
        .await
        .map_err(Error::Connect)?;
    let name =
        ServerName::try_from(ADMIN_SERVER_NAME).map_err(|error| Error::Tls(error.to_string()))?;
    let stream = TlsConnector::from(tls)
        .connect(name, stream)
        .await
        .map_err(Error::Connect)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", ADMIN_SERVER_NAME)
        .body(Empty::<Bytes>::new())
        .map_err(|error| Error::Answer(error.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(Error::Refused(response.status()));
        }
        let body = Limited::new(response.into_body(), ANSWER_MAX)
            .collect()
            .await;
        let body = body.map_err(|error| Error::Answer(error.to_string()))?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| Error::Answer(error.to_string()))
    };
    // The connection has to be driven for the exchange to go on; the exchange ends first.
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        driven = connection => {
            driven?;
            exchange.await
        }
    }
}
