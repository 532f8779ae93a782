//! One connection to an upstream, from the name lookup to the last transaction.
//!
//! The dialogue is `postroad_smtp::client`'s; here are the socket, the TLS handshake and the clocks. Whatever goes
//! wrong before the client says it is ready becomes an [`UpstreamFailure`]: a statement about the upstream.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postroad_config::UpstreamTls;
use postroad_config::status::{FailureReason, UpstreamFailure};
use postroad_smtp::client::{
    Client, ClientConfig, ClientStep, ClientTls, ConnectFailure, FailureKind, Login as SmtpLogin,
    Transaction, TransactionOutcome,
};
use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use crate::live::{LiveUpstream, Login};
use crate::stream::Stream;
use crate::upstreams::failure;

/// For one address; several are tried in turn.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// For the name lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);
/// For the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// For the greeting and the commands before MAIL. RFC 5321 §4.5.3.2.1 asks for five minutes, for servers of 1995;
/// until then a dead upstream would hold its mail unreported.
const GREETING_TIMEOUT: Duration = Duration::from_secs(60);
/// For any reply within a transaction: the longest of RFC 5321 §4.5.3.2, the one to the final dot. Giving up earlier
/// means sending again what the peer may have taken.
const REPLY_TIMEOUT: Duration = Duration::from_secs(600);
/// For QUIT: a courtesy.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);

/// An upstream that is ready for a transaction.
pub(crate) struct Connection {
    stream: Stream,
    client: Client,
    input: BytesMut,
}

/// What a dialogue came to.
enum Event {
    Ready,
    StartTls,
    Finished(TransactionOutcome),
    Failed(ConnectFailure),
    Closed,
}

impl Connection {
    /// Connects, secures, greets and logs in.
    pub(crate) async fn open(
        upstream: &LiveUpstream,
        hostname: &str,
    ) -> Result<Self, UpstreamFailure> {
        // Before anything is sent: what is missing here cannot be mended by the peer.
        let login = login(upstream)?;
        let tls = upstream.tls.as_ref().map_err(|problem| {
            failure(
                FailureReason::TlsFailed,
                format!("cannot verify the upstream: {problem}"),
            )
        })?;
        let stream = Stream::Plain(dial(&upstream.config.host, upstream.config.port).await?);
        let tls_mode = match upstream.config.tls {
            UpstreamTls::Disabled => ClientTls::None,
            UpstreamTls::Implicit => ClientTls::Active,
            UpstreamTls::Opportunistic => ClientTls::Opportunistic,
            UpstreamTls::Required => ClientTls::Required,
        };
        let stream = match upstream.config.tls {
            UpstreamTls::Implicit => secure(stream, tls, &upstream.config.host).await?,
            _ => stream,
        };
        let config = ClientConfig {
            ehlo_name: hostname.to_owned(),
            tls: tls_mode,
            login,
        };
        let mut connection = Self {
            stream,
            client: Client::new(config),
            input: BytesMut::new(),
        };
        connection.greet(upstream, tls).await?;
        Ok(connection)
    }

    async fn greet(
        &mut self,
        upstream: &LiveUpstream,
        tls: &Arc<rustls::ClientConfig>,
    ) -> Result<(), UpstreamFailure> {
        loop {
            match self
                .advance(GREETING_TIMEOUT)
                .await
                .map_err(|error| io_failure(&error))?
            {
                Event::Ready => return Ok(()),
                Event::StartTls => self.start_tls(tls, &upstream.config.host).await?,
                Event::Failed(failure) => return Err(describe(&failure)),
                Event::Finished(_) | Event::Closed => {
                    return Err(failure(
                        FailureReason::ProtocolError,
                        "the upstream closed early",
                    ));
                }
            }
        }
    }

    async fn start_tls(
        &mut self,
        tls: &Arc<rustls::ClientConfig>,
        host: &str,
    ) -> Result<(), UpstreamFailure> {
        let plain = std::mem::replace(&mut self.stream, Stream::Closed);
        self.stream = secure(plain, tls, host).await?;
        self.client.tls_established();
        Ok(())
    }

    /// Sends one message.
    pub(crate) async fn send(&mut self, transaction: Transaction) -> Sent {
        self.client.send(transaction);
        loop {
            match self.advance(REPLY_TIMEOUT).await {
                Ok(Event::Finished(outcome)) => return Sent::Finished(outcome),
                Ok(Event::Failed(failure)) => return Sent::Held(describe(&failure)),
                Ok(Event::Ready | Event::StartTls) => {}
                Ok(Event::Closed) => return Sent::Lost("the upstream closed".into()),
                Err(error) => return self.lost(&error),
            }
        }
    }

    /// The connection broke: the client knows what that means for the transaction.
    fn lost(&mut self, error: &io::Error) -> Sent {
        match self.client.closed() {
            ClientStep::Finished(outcome) => Sent::Finished(outcome),
            ClientStep::Failed(failure) => Sent::Held(describe(&failure)),
            _ => Sent::Lost(error.to_string()),
        }
    }

    /// Whether the peer has closed or spoken unasked while the connection was idle: not to be used again.
    pub(crate) async fn is_stale(&mut self) -> bool {
        let mut unasked = BytesMut::new();
        let read = self.stream.read_some(&mut unasked);
        tokio::time::timeout(Duration::ZERO, read).await.is_ok()
    }

    /// Says QUIT and closes.
    pub(crate) async fn quit(mut self) {
        self.client.quit();
        let goodbye = async {
            let _ = self.advance(QUIT_TIMEOUT).await;
            let _ = self.stream.shutdown().await;
        };
        // The outcome is recorded: nothing depends on how the connection ends.
        let _ = tokio::time::timeout(QUIT_TIMEOUT, goodbye).await;
    }

    /// Moves bytes until the client has something to say to us. Each read or write may take `patience`.
    async fn advance(&mut self, patience: Duration) -> io::Result<Event> {
        loop {
            match self.client.step(&mut self.input) {
                ClientStep::NeedInput => {
                    self.write(patience).await?;
                    let read = self.stream.read_some(&mut self.input);
                    if timed(patience, read).await? == 0 {
                        return Ok(event(self.client.closed()));
                    }
                }
                ClientStep::Flush => self.write(patience).await?,
                step => return Ok(event(step)),
            }
        }
    }

    async fn write(&mut self, patience: Duration) -> io::Result<()> {
        timed(patience, self.stream.write_out(self.client.output())).await
    }
}

/// How sending a message ended.
pub(crate) enum Sent {
    /// With an outcome for every recipient.
    Finished(TransactionOutcome),
    /// The upstream does not take mail from us at all.
    Held(UpstreamFailure),
    /// Without any word about the message.
    Lost(String),
}

fn event(step: ClientStep) -> Event {
    match step {
        ClientStep::Ready => Event::Ready,
        ClientStep::StartTls => Event::StartTls,
        ClientStep::Finished(outcome) => Event::Finished(outcome),
        ClientStep::Failed(failure) => Event::Failed(failure),
        ClientStep::NeedInput | ClientStep::Flush | ClientStep::Closed => Event::Closed,
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

async fn dial(host: &str, port: u16) -> Result<TcpStream, UpstreamFailure> {
    let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, lookup_host((host, port))).await;
    let addresses = match lookup {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => {
            return Err(failure(
                FailureReason::NameNotFound,
                format!("{host}: {error}"),
            ));
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
        match timed(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(stream) => {
                // Latency matters more than packets: replies are small and waited for.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => {
                last = io_failure(&error);
                last.message = format!("{host} ({address}): {}", last.message);
            }
        }
    }
    Err(last)
}

async fn secure(
    stream: Stream,
    tls: &Arc<rustls::ClientConfig>,
    host: &str,
) -> Result<Stream, UpstreamFailure> {
    let Stream::Plain(stream) = stream else {
        return Err(failure(FailureReason::ProtocolError, "TLS within TLS"));
    };
    let refuse = |text: String| failure(FailureReason::TlsFailed, text);
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| refuse(format!("{host} cannot stand in a certificate")))?;
    let connector = TlsConnector::from(Arc::clone(tls));
    let stream = timed(HANDSHAKE_TIMEOUT, connector.connect(name, stream))
        .await
        .map_err(|error| refuse(format!("TLS with {host}: {error}")))?;
    Ok(Stream::Tls(Box::new(stream.into())))
}

async fn timed<T>(
    patience: Duration,
    action: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match tokio::time::timeout(patience, action).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn io_failure(error: &io::Error) -> UpstreamFailure {
    let reason = match error.kind() {
        io::ErrorKind::TimedOut => FailureReason::ConnectionTimedOut,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => FailureReason::ProtocolError,
        _ => FailureReason::ConnectionRefused,
    };
    failure(reason, error.to_string())
}

/// The one place where a failed dialogue becomes a reason that users see.
pub(super) fn describe(failed: &ConnectFailure) -> UpstreamFailure {
    let (reason, what) = match failed.kind {
        FailureKind::Throttled => (FailureReason::Throttled, "asks for less"),
        FailureKind::Refused => (FailureReason::Refused, "refuses to talk to us"),
        FailureKind::AuthenticationFailed => {
            (FailureReason::AuthenticationFailed, "refused the login")
        }
        FailureKind::AuthUnavailable => (
            FailureReason::AuthenticationFailed,
            "offers no login that could be used",
        ),
        FailureKind::Disconnected => (FailureReason::ConnectionRefused, "closed the connection"),
        FailureKind::TlsDemanded => (FailureReason::TlsFailed, "demands TLS"),
        FailureKind::TlsNotOffered => (FailureReason::TlsFailed, "does not offer STARTTLS"),
        FailureKind::Protocol => (FailureReason::ProtocolError, "broke the protocol"),
    };
    let text = match &failed.reply {
        Some(reply) => format!("the upstream {what} ({:?}): {reply}", failed.stage),
        None => format!("the upstream {what} ({:?})", failed.stage),
    };
    failure(reason, text)
}
