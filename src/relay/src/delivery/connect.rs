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
    Client, ClientConfig, ClientStep, ClientTls, ConnectFailure, End, FailureKind,
    Login as SmtpLogin, Phase, Stage, Transaction, TransactionOutcome,
};
use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::live::{LiveUpstream, Login};
use crate::stream::Stream;
use crate::upstreams::failure;

/// For everything before MAIL together: whoever answers an octet at a time keeps mail from the next upstream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(180);
/// For one address; several are tried in turn.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// For the name lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);
/// For the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// For the greeting and the commands before MAIL. RFC 5321 §4.5.3.2.1 asks for five minutes, for servers of 1995;
/// until then a dead upstream would hold its mail unreported.
const GREETING_TIMEOUT: Duration = Duration::from_secs(60);
/// For a reply to MAIL, RCPT or DATA. RFC 5321 §4.5.3.2.2 and §4.5.3.2.3: five minutes.
const ENVELOPE_TIMEOUT: Duration = Duration::from_secs(300);
/// For a piece of content to be taken. RFC 5321 §4.5.3.2.5: three minutes.
const CONTENT_TIMEOUT: Duration = Duration::from_secs(180);
/// For the reply to the final dot. RFC 5321 §4.5.3.2.6: ten minutes. Giving up earlier means sending again what the
/// peer may have taken.
const FINAL_REPLY_TIMEOUT: Duration = Duration::from_secs(600);
/// For QUIT: a courtesy.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);
/// For what a server has said before it closed on us: it is on its way already.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

/// An upstream that is ready for a transaction.
pub(crate) struct Connection {
    stream: Stream,
    client: Client,
    input: BytesMut,
    usage: Usage,
}

/// Whether a connection has been good for something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Usage {
    /// No transaction was answered yet.
    Fresh,
    /// One was.
    Used,
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
    /// Connects, secures, greets and logs in, within [`OPEN_TIMEOUT`].
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
            usage: Usage::Fresh,
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
            match self.advance().await.map_err(|error| io_failure(&error))? {
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
            match self.advance().await {
                Ok(Event::Finished(outcome)) => {
                    if outcome.end == End::Answered {
                        self.usage = Usage::Used;
                    }
                    return Sent::Finished(outcome);
                }
                Ok(Event::Failed(failure)) => return Sent::Held(describe(&failure)),
                Ok(Event::Ready | Event::StartTls) => {}
                Ok(Event::Closed) => return Sent::Lost("the upstream closed".into()),
                Err(error) => return self.lost(&error),
            }
        }
    }

    /// What the connection has been good for so far.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    /// The connection broke: the client knows what that means for the transaction.
    fn lost(&mut self, error: &io::Error) -> Sent {
        let step = match error.kind() {
            io::ErrorKind::TimedOut => self.client.timed_out(),
            _ => self.client.closed(),
        };
        match step {
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
            let _ = self.advance().await;
            let _ = self.stream.shutdown().await;
        };
        // The outcome is recorded: nothing depends on how the connection ends.
        let _ = tokio::time::timeout(QUIT_TIMEOUT, goodbye).await;
    }

    /// Moves bytes until the client has something to say to us.
    async fn advance(&mut self) -> io::Result<Event> {
        loop {
            let step = self.client.step(&mut self.input);
            let patience = patience(self.client.phase());
            match step {
                ClientStep::NeedInput | ClientStep::Flush => {
                    let output = self.client.output();
                    if let Err(error) = timed(patience, self.stream.write_out(output)).await {
                        return self.last_words().await.ok_or(error);
                    }
                }
                step => return Ok(event(step)),
            }
            if matches!(step, ClientStep::NeedInput) {
                let read = self.stream.read_some(&mut self.input);
                if timed(patience, read).await? == 0 {
                    return Ok(event(self.client.closed()));
                }
            }
        }
    }

    /// A write has failed. A server that gives up on us says why and closes, and that is lost if nobody reads it.
    async fn last_words(&mut self) -> Option<Event> {
        self.client.write_failed();
        let deadline = Instant::now() + LAST_WORDS_TIMEOUT;
        loop {
            let read = self.stream.read_some(&mut self.input);
            match tokio::time::timeout_at(deadline, read).await {
                Ok(Ok(1..)) => {}
                _ => return None,
            }
            match self.client.step(&mut self.input) {
                ClientStep::NeedInput | ClientStep::Flush => {}
                step => return Some(event(step)),
            }
        }
    }
}

/// How long to wait for one read or write.
fn patience(phase: Phase) -> Duration {
    match phase {
        Phase::Connecting => GREETING_TIMEOUT,
        Phase::Envelope => ENVELOPE_TIMEOUT,
        Phase::Content => CONTENT_TIMEOUT,
        Phase::FinalReply => FINAL_REPLY_TIMEOUT,
        Phase::Idle | Phase::Quitting => QUIT_TIMEOUT,
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
        FailureKind::Disconnected => {
            let reason = match failed.stage {
                Stage::Transaction => FailureReason::ProtocolError,
                _ => FailureReason::ConnectionRefused,
            };
            (reason, "closed the connection")
        }
        FailureKind::TimedOut => (FailureReason::ConnectionTimedOut, "did not answer in time"),
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
