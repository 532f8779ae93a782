//! The admin API: status and drain, for the operator alone.
//!
//! HTTP/1.1 over mutual TLS: whoever cannot show a certificate that the relay's own authority has signed for
//! clients does not get past the handshake, and however many try, the operator does not wait behind them. The answers
//! hold no secrets all the same.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use postroad_config::status::{
    DRAIN_PATH, FULL_SHARES_MAX, QueueStatus, RelayStatus, STATUS_PATH, SpoolStatus,
};
use postroad_telemetry::waiting::{Place, WaitingRoom};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::context::{Context, Phase};
use crate::delivery::SharedUpstreams;

/// Connections whose handshake is not complete. The operator's is so for two round trips; someone would have to open
/// this many in that time to keep it out. A new one never waits: when all places are taken, the oldest is closed.
const HANDSHAKES_MAX: usize = 128;

/// A handshake takes two round trips.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(3);

/// Connections that have shown the operator's certificate. It holds one; what else comes waits.
const CONNECTIONS_MAX: usize = 16;

/// Request and answer together, with the wait for a turn.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(15);

/// Pause after an accept that failed for lack of descriptors: trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers the operator. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    /// What everything shares.
    pub context: Context,
    /// The state of the upstreams.
    pub upstreams: SharedUpstreams,
}

impl Admin {
    /// Serves until `shutdown`.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let handshakes = WaitingRoom::new(HANDSHAKES_MAX);
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let connections = TaskTracker::new();
        loop {
            let stream = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = stream else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let (admin, place) = (self.clone(), handshakes.enter());
            let permits = Arc::clone(&permits);
            connections.spawn(async move {
                if let Err(error) = admin.connection(stream, place, &permits).await {
                    tracing::debug!(%error, "an admin connection ended early");
                }
            });
        }
    }

    async fn connection(
        self,
        stream: TcpStream,
        place: Place,
        permits: &Semaphore,
    ) -> io::Result<()> {
        let Some(tls) = self.context.live().admin.clone() else {
            return Err(io::Error::other("no admin certificate"));
        };
        let stream = tokio::select! {
            stream = TlsAcceptor::from(tls).accept(stream) => stream?,
            () = place.lost() => return Err(io::Error::other("too many handshakes")),
            () = tokio::time::sleep(HANDSHAKE_TIME_MAX) => return Err(io::ErrorKind::TimedOut.into()),
        };
        // From here on it is the operator: the handshake has verified its certificate.
        drop(place);
        let served = async {
            let _permit = permits.acquire().await.map_err(io::Error::other)?;
            self.answer(stream).await
        };
        tokio::time::timeout(CONNECTION_TIME_MAX, served).await?
    }

    async fn answer(self, stream: TlsStream<TcpStream>) -> io::Result<()> {
        let service = service_fn(move |request: Request<Incoming>| {
            let response = self.respond(request.method(), request.uri().path());
            async move { Ok::<_, Infallible>(response) }
        });
        hyper::server::conn::http1::Builder::new()
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service)
            .await
            .map_err(io::Error::other)
    }

    fn respond(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        match (method, path) {
            (&Method::GET, STATUS_PATH) => self.answer_status(),
            (&Method::POST, DRAIN_PATH) => {
                self.context.ending.advance(Phase::Draining);
                self.answer_status()
            }
            (_, STATUS_PATH | DRAIN_PATH) => text(StatusCode::METHOD_NOT_ALLOWED, "wrong method"),
            _ => text(StatusCode::NOT_FOUND, "no such path"),
        }
    }

    fn answer_status(&self) -> Response<Full<Bytes>> {
        match serde_json::to_vec(&self.status()) {
            Ok(body) => Response::new(Full::new(Bytes::from(body))),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    /// The relay as it sees itself.
    #[must_use]
    pub fn status(&self) -> RelayStatus {
        let live = self.context.live();
        let (totals, oldest_ms) = self.context.queue.totals();
        let spool = self.context.queue.spool().health();
        RelayStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            draining: self.context.phase() >= Phase::LameDuck,
            config: live.status.clone(),
            queue: QueueStatus {
                messages: totals.messages,
                bytes: totals.bytes,
                deferred: totals.deferred,
                unreadable: totals.unreadable,
                full: !self.context.queue.has_room(),
                full_shares: self
                    .context
                    .queue
                    .full_shares(FULL_SHARES_MAX, clock::now_ms())
                    .iter()
                    .map(|account| account.name().to_owned())
                    .collect(),
                memory_full: self.context.queue.memory().is_full(clock::now_ms()),
                oldest_arrival: oldest_ms.map(|ms| i64::try_from(ms / 1000).unwrap_or(i64::MAX)),
                held: totals.held,
                destinations: self.upstreams.destinations(&self.context.queue),
            },
            totals: self.context.metrics.totals(),
            upstreams: self.upstreams.status(),
            direct: live
                .config
                .delivery
                .uses_direct()
                .then(|| self.context.queue.direct_status()),
            certificate: live.served.as_ref().map(|served| served.status.clone()),
            spool: SpoolStatus {
                persistent: live.config.spool.persistent,
                failure: spool.failure.map(|failure| failure.to_string()),
                corrupt: spool.corrupt,
                disk_full: self.context.queue.is_disk_full(),
                mode: live.config.spool.mode,
                unsynced_ms: spool.unsynced.map(clock::millis),
            },
        }
    }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
