//! `/livez`, `/readyz` and `/metrics` over plain HTTP/1.1, one request for each connection.
//!
//! The endpoints say nothing secret, so they need no protection; what strangers can take is bounded, and they cannot keep
//! the kubelet's probes out: at most [`ASKING_MAX`] connections without a complete request, for [`REQUEST_TIME_MAX`], and
//! [`ANSWERED_MAX`] that are being answered, for [`ANSWER_TIME_MAX`]. A new connection never waits: when all places are
//! taken, the oldest of its kind is closed.

use std::convert::Infallible;
use std::pin::pin;
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
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::waiting::WaitingRoom;

/// Connections whose request is not complete. The kubelet's and Prometheus's are so for a millisecond; someone would
/// have to open this many in that time to keep them out.
pub const ASKING_MAX: usize = 256;

/// Connections that are being answered. The kubelet holds two at a time and Prometheus one.
pub const ANSWERED_MAX: usize = 64;

/// From the connection to a complete request. The kubelet waits one second for the answer unless told otherwise.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(2);

/// From the request until its answer has been taken. A probe lasts milliseconds, a scrape below a second.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Pause after an accept that failed for lack of descriptors: trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    let server = Server {
        asking: WaitingRoom::new(ASKING_MAX),
        answered: WaitingRoom::new(ANSWERED_MAX),
        probes,
    };
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(server.clone().connection(stream));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a health connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[derive(Clone)]
struct Server {
    asking: Arc<WaitingRoom>,
    answered: Arc<WaitingRoom>,
    probes: Arc<dyn Probes>,
}

impl Server {
    async fn connection(self, stream: TcpStream) {
        let asked = CancellationToken::new();
        let place = self.asking.enter();
        let mut served = pin!(serve_connection(stream, self.probes, asked.clone()));
        tokio::select! {
            biased;
            result = &mut served => return log(result),
            () = asked.cancelled() => {}
            () = place.lost() => return,
            () = tokio::time::sleep(REQUEST_TIME_MAX) => return,
        }
        drop(place);
        let place = self.answered.enter();
        tokio::select! {
            result = served => log(result),
            () = place.lost() => {}
            () = tokio::time::sleep(ANSWER_TIME_MAX) => {}
        }
    }
}

fn log(served: hyper::Result<()>) {
    if let Err(error) = served {
        tracing::debug!(%error, "health connection ended early");
    }
}

/// Cancels `asked` once a request is complete.
async fn serve_connection(
    stream: TcpStream,
    probes: Arc<dyn Probes>,
    asked: CancellationToken,
) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        asked.cancel();
        let response = respond(&request, probes.as_ref());
        async move { Ok::<_, Infallible>(response) }
    });
    hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
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

    use std::net::SocketAddr;

    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
    /// A server on a port of its own, and how to stop it.
    async fn start() -> (SocketAddr, tokio_util::sync::DropGuard) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let probes = Fixed {
            ready: Ok(()),
            registry: Arc::default(),
        };
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, Arc::new(probes), stop.clone()));
        (address, stop.drop_guard())
    }

    async fn probe(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        // Reads to the end: without keep-alive there is one.
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_probe_does_not_wait_behind_strangers() {
        let (address, _stop) = start().await;
        let mut strangers = Vec::new();
        for number in 0..ASKING_MAX + 50 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if number % 2 == 0 {
                stream.write_all(b"GET /livez HT").await.unwrap();
            }
            strangers.push(stream);
        }
        let answer = tokio::time::timeout(Duration::from_secs(1), probe(address)).await;
        let answer = answer.expect("a probe must be answered within a second");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn closes_who_does_not_ask() {
        let (address, _stop) = start().await;
        let begun = tokio::time::Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
        let mut answer = Vec::new();
        // Closed with input unread, the connection may be reset.
        let _ = stream.read_to_end(&mut answer).await;
        let waited = begun.elapsed();
        assert!(answer.is_empty());
        assert!(waited < REQUEST_TIME_MAX * 2, "{waited:?}");
    }
}
