//! `/livez`, `/readyz` and `/metrics` over plain HTTP/1.1.
//!
//! The endpoints say nothing secret, so they need no protection; they bound what a stranger can
//! take: at most [`CONNECTIONS_MAX`] connections, [`CONNECTION_TIME_MAX`] each. What is over the
//! bound waits in the listen queue.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The kubelet holds two probes at a time and Prometheus one scrape: 64 leaves room for the curious.
pub const CONNECTIONS_MAX: usize = 64;

/// A probe lasts milliseconds, a scrape below a second.
pub const CONNECTION_TIME_MAX: Duration = Duration::from_secs(30);

/// The media type that Prometheus asks for.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The answer of a probe: `Ok`, or what is wrong in one line.
pub type Health = Result<(), String>;

/// What the endpoints answer with.
pub trait Probes: Send + Sync + 'static {
    /// Whether the process works; failing makes the kubelet restart it.
    fn live(&self) -> Health;
    /// Whether the process wants new work; failing takes it out of its Services.
    fn ready(&self) -> Health;
    /// The metrics, brought up to date.
    fn registry(&self) -> Arc<Registry>;
}

/// Serves the endpoints until `shutdown`.
pub async fn serve(listener: TcpListener, probes: Arc<dyn Probes>, shutdown: CancellationToken) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, permit)) = accepted else {
            continue;
        };
        let probes = Arc::clone(&probes);
        connections.spawn(async move {
            let _permit = permit;
            let served =
                tokio::time::timeout(CONNECTION_TIME_MAX, serve_connection(stream, probes));
            if let Ok(Err(error)) = served.await {
                tracing::debug!(%error, "health connection ended early");
            }
        });
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    // Closed is impossible: nobody closes this semaphore.
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            // Out of descriptors: trying again at once would spin.
            tracing::warn!(%error, "cannot accept a health connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn serve_connection(stream: TcpStream, probes: Arc<dyn Probes>) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, probes.as_ref());
        async move { Ok::<_, Infallible>(response) }
    });
    hyper::server::conn::http1::Builder::new()
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn respond<B>(request: &Request<B>, probes: &dyn Probes) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    match request.uri().path() {
        "/livez" => health(&probes.live()),
        "/readyz" => health(&probes.ready()),
        "/metrics" => metrics(&probes.registry()),
        _ => text(
            StatusCode::NOT_FOUND,
            "here are /livez, /readyz and /metrics\n",
        ),
    }
}

fn health(health: &Health) -> Response<Full<Bytes>> {
    match health {
        Ok(()) => text(StatusCode::OK, "ok\n"),
        Err(problem) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{problem}\n")),
    }
}

fn metrics(registry: &Registry) -> Response<Full<Bytes>> {
    let mut body = String::new();
    match encode(&mut body, registry) {
        Ok(()) => {
            let mut response = text(StatusCode::OK, &body);
            response.headers_mut().insert(
                CONTENT_TYPE,
                hyper::header::HeaderValue::from_static(OPENMETRICS),
            );
            response
        }
        Err(_) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "cannot encode the metrics\n",
        ),
    }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    use prometheus_client::metrics::counter::Counter;

    struct Fixed {
        ready: Health,
        registry: Arc<Registry>,
    }

    impl Probes for Fixed {
        fn live(&self) -> Health {
            Ok(())
        }

        fn ready(&self) -> Health {
            self.ready.clone()
        }

        fn registry(&self) -> Arc<Registry> {
            Arc::clone(&self.registry)
        }
    }

    fn check(method: &str, path: &str, ready: Health) -> (u16, String) {
        let mut registry = Registry::default();
        let counter: Counter = Counter::default();
        registry.register("messages", "Count of messages", counter.clone());
        counter.inc_by(7);
        let probes = Fixed {
            ready,
            registry: Arc::new(registry),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(())
            .unwrap();
        let response = respond(&request, &probes);
        let status = response.status().as_u16();
        let body = futures_body(response);
        (status, body)
    }

    fn futures_body(response: Response<Full<Bytes>>) -> String {
        use http_body_util::BodyExt as _;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let bytes = runtime
            .block_on(response.into_body().collect())
            .unwrap()
            .to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn answers_probes_and_says_what_is_wrong() {
        assert_eq!(check("GET", "/livez", Ok(())), (200, "ok\n".into()));
        assert_eq!(check("GET", "/readyz", Ok(())), (200, "ok\n".into()));
        assert_eq!(
            check("GET", "/readyz", Err("draining".into())),
            (503, "draining\n".into())
        );
        assert_eq!(check("POST", "/livez", Ok(())).0, 405);
        assert_eq!(check("GET", "/secret", Ok(())).0, 404);
    }

    #[test]
    fn shows_metrics() {
        let (status, body) = check("GET", "/metrics", Ok(()));
        assert_eq!(status, 200);
        assert!(body.contains("messages_total 7"), "{body}");
    }
}
