//! Drives one SMTP server session over a connection: moves bytes, shakes hands, gives verdicts.
//!
//! What to say is `postroad_smtp`'s; who may do what is [`policy`]'s; this file only connects them. A
//! session holds nothing that outlives it, and decides from nothing but itself and the configuration in force.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postroad_config::{Credentials, Listener, ListenerTls, Verifier};
use postroad_smtp::Password;
use postroad_smtp::server::{
    AuthOffer, ReceivedMessage, Request, ServerConfig, Session, Step, TlsOffer, Verdict,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::accept::{self, Origin};
use crate::context::{Context, Phase};
use crate::live::Live;
use crate::memory::{self, Reservation};
use crate::policy::{self, Relaying};
use crate::refusal::Refusal;
use crate::stream::Stream;

/// RFC 5321 §4.5.3.2.7 asks for five minutes at least.
const PEER_TIMEOUT: Duration = Duration::from_secs(300);

/// A handshake takes two round trips; a plaintext client of port 465 that waits for a banner is closed after this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a peer may take to see that we have closed.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// Content is accounted for in steps of this at least, so that a small read does not cost a semaphore operation.
const BODY_STEP_BYTES: u64 = 64 << 10;

/// Why a session ended before its time. Worth a debug line: peers come and go.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the connection failed: {0}")]
    Connection(#[from] std::io::Error),
    #[error("no TLS handshake in time")]
    HandshakeTimeout,
    #[error("there is no certificate to serve TLS with")]
    NoCertificate,
}

/// Serves one connection to its end.
pub async fn serve(context: Context, listener: Listener, stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = run(context, &listener, stream, peer.ip().to_canonical()).await {
        tracing::debug!(%error, %peer, listener = listener.name.as_str(), "session ended early");
    }
}

async fn run(
    context: Context,
    listener: &Listener,
    stream: TcpStream,
    peer: IpAddr,
) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let live = context.live();
    let stream = match listener.tls {
        ListenerTls::Implicit => handshake(&live, stream).await?,
        ListenerTls::Disabled | ListenerTls::Opportunistic | ListenerTls::Required => {
            Stream::Plain(stream)
        }
    };
    let session = Session::new(server_config(&live, listener));
    let driver = Driver {
        context,
        listener: listener.clone(),
        peer,
        stream,
        input: BytesMut::new(),
        session,
        reservation: None,
        recipients: 0,
        told_to_stop: false,
        proof: None,
    };
    driver.run().await
}

async fn handshake(live: &Live, stream: TcpStream) -> Result<Stream, Error> {
    let served = live.served.as_ref().ok_or(Error::NoCertificate)?;
    let acceptor = TlsAcceptor::from(Arc::clone(&served.config));
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream))
        .await
        .map_err(|_| Error::HandshakeTimeout)??;
    Ok(Stream::Tls(Box::new(stream.into())))
}

fn server_config(live: &Live, listener: &Listener) -> ServerConfig {
    let tls = match listener.tls {
        ListenerTls::Implicit => TlsOffer::Active,
        ListenerTls::Opportunistic if live.served.is_some() => TlsOffer::Offered,
        ListenerTls::Required if live.served.is_some() => TlsOffer::Required,
        // Without a certificate mail must not silently go in plaintext where TLS is required: Required
        // refuses MAIL, and STARTTLS is answered with a failing handshake.
        ListenerTls::Required => TlsOffer::Required,
        ListenerTls::Opportunistic | ListenerTls::Disabled => TlsOffer::Unavailable,
    };
    let auth = match listener.auth {
        postroad_config::AuthMode::Disabled => AuthOffer::Disabled,
        // Who may relay is decided at RCPT, by the policy: a stranger gets the same 550 on every port.
        postroad_config::AuthMode::Optional | postroad_config::AuthMode::Required => {
            AuthOffer::UnderTls
        }
    };
    ServerConfig {
        hostname: live.config.hostname.clone(),
        tls,
        auth,
        message_bytes: live.config.limits.message_bytes,
        recipients: live.config.limits.recipients,
    }
}

struct Driver {
    context: Context,
    listener: Listener,
    peer: IpAddr,
    stream: Stream,
    input: BytesMut,
    session: Session,
    /// Room for the recipients and the content that are being received.
    reservation: Option<Reservation>,
    /// Accepted in this transaction.
    recipients: usize,
    told_to_stop: bool,
    /// What proved the login of this session.
    proof: Option<Verifier>,
}

impl Driver {
    async fn run(mut self) -> Result<(), Error> {
        loop {
            match self.session.step(&mut self.input) {
                Step::NeedInput => {
                    self.account_for_body();
                    self.flush().await?;
                    if !self.read().await? {
                        return Ok(());
                    }
                }
                Step::Request(request) => {
                    let verdict = self.decide(request).await;
                    self.session.answer(verdict);
                }
                Step::StartTls => self.start_tls().await?,
                Step::Close => {
                    self.flush().await?;
                    return self.close().await;
                }
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let written = self.stream.write_out(self.session.output());
        match tokio::time::timeout(PEER_TIMEOUT, written).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }

    /// Ends the connection and waits for the peer to do so too: input left unread would make the kernel reset the
    /// connection, which can destroy the last reply on its way.
    async fn close(&mut self) -> Result<(), Error> {
        self.stream.shutdown().await?;
        let farewell = async {
            while self
                .stream
                .read_some(&mut self.input)
                .await
                .is_ok_and(|read| read > 0)
            {
                self.input.clear();
            }
        };
        // Out of patience is as good as closed.
        let _ = tokio::time::timeout(CLOSE_PATIENCE, farewell).await;
        Ok(())
    }

    /// Reads; `false` if the peer has gone.
    async fn read(&mut self) -> Result<bool, Error> {
        tokio::select! {
            biased;
            () = self.context.reached(Phase::Draining), if !self.told_to_stop => {
                self.told_to_stop = true;
                self.session.shutdown();
                Ok(true)
            }
            read = tokio::time::timeout(PEER_TIMEOUT, self.stream.read_some(&mut self.input)) => {
                match read {
                    Ok(read) => Ok(read? > 0),
                    Err(_) => {
                        self.session.timed_out();
                        Ok(true)
                    }
                }
            }
        }
    }

    async fn start_tls(&mut self) -> Result<(), Error> {
        self.flush().await?;
        let live = self.context.live();
        self.stream = match std::mem::replace(&mut self.stream, Stream::Closed) {
            Stream::Plain(stream) => handshake(&live, stream).await?,
            other => other,
        };
        self.session.tls_established();
        Ok(())
    }

    /// Makes room for what has been received, or drops it and answers 452 when it ends.
    fn account_for_body(&mut self) {
        let bytes = u64::try_from(self.session.body_bytes()).unwrap_or(u64::MAX);
        if bytes == 0 {
            // Content that is dropped for its size or for lack of memory goes on coming, for as long as the client likes.
            if let Some(reservation) = &mut self.reservation {
                let rest = memory::footprint(0, self.recipients);
                self.context.queue.memory().shrink(reservation, rest);
            }
            return;
        }
        let wanted = bytes.next_multiple_of(BODY_STEP_BYTES);
        if !self.make_room(wanted) {
            self.reservation = None;
            self.session.abandon_body(Refusal::MemoryFull.reply());
        }
    }

    /// Makes room for so many bytes of content, and for the recipients named so far.
    fn make_room(&mut self, content_bytes: u64) -> bool {
        let memory = self.context.queue.memory();
        let bytes = memory::footprint(content_bytes, self.recipients);
        match &mut self.reservation {
            Some(reservation) => memory.try_grow(reservation, bytes),
            none => {
                *none = memory.try_reserve(bytes);
                none.is_some()
            }
        }
    }

    async fn decide(&mut self, request: Request) -> Verdict {
        match request {
            Request::Authenticate { username, password } => {
                self.authenticate(username, password).await
            }
            Request::Sender(_) => self.check_room(),
            Request::Recipient(_) => self.check_recipient(),
            Request::Message(message) => self.keep(message).await,
        }
    }

    async fn authenticate(&mut self, username: String, password: Password) -> Verdict {
        let live = self.context.live();
        let (known, name) = (Arc::clone(&live), username.clone());
        // About a millisecond of hashing: not on the threads that move everybody's bytes.
        let checked =
            tokio::task::spawn_blocking(move || check_login(&known, &name, &password)).await;
        match checked {
            Ok(Some(proof)) => {
                self.proof = Some(proof);
                Verdict::Accept
            }
            Ok(None) => {
                self.context.metrics.authentication_failures.inc();
                let user = loggable(&live.credentials, &username);
                tracing::warn!(peer = %self.peer, user,
                    listener = self.listener.name.as_str(), "login refused");
                Verdict::Refuse(Refusal::LoginFailed.reply())
            }
            Err(_) => Verdict::Refuse(Refusal::LoginUnavailable.reply()),
        }
    }

    /// A transaction begins: whatever was held for one before it is given back.
    fn check_room(&mut self) -> Verdict {
        self.reservation = None;
        self.recipients = 0;
        match accept::check_room(&self.context) {
            Ok(()) => Verdict::Accept,
            Err(refusal) => Verdict::Refuse(refusal.reply()),
        }
    }

    /// Many recipients in many sessions take as much memory as large messages do.
    fn check_recipient(&mut self) -> Verdict {
        let verdict = self.check_relaying();
        if matches!(verdict, Verdict::Accept) {
            self.recipients += 1;
            if !self.make_room(0) {
                self.recipients -= 1;
                return Verdict::Refuse(Refusal::MemoryFull.reply());
            }
        }
        verdict
    }

    fn check_relaying(&self) -> Verdict {
        let live = self.context.live();
        let authenticated = match &self.session.peer().user {
            Some(user) if !self.is_still_valid(&live, user) => {
                return Verdict::Refuse(Refusal::LoginRevoked.reply());
            }
            user => user.is_some(),
        };
        let networks = &live.config.access.trusted_networks;
        let refusal = match policy::relaying(authenticated, self.peer, self.listener.auth, networks)
        {
            Relaying::Allowed => return Verdict::Accept,
            Relaying::AuthenticationNeeded => Refusal::AuthenticationNeeded,
            Relaying::Denied => Refusal::RelayingDenied,
        };
        self.context.metrics.relaying_denied.inc();
        Verdict::Refuse(refusal.reply())
    }

    /// A login that has been taken away must not live on in the sessions that it opened.
    fn is_still_valid(&self, live: &Live, user: &str) -> bool {
        let verifiers = live
            .credentials
            .find(user)
            .map(|credential| &credential.verifiers);
        self.proof
            .as_ref()
            .zip(verifiers)
            .is_some_and(|(proof, known)| known.contains(proof))
    }

    async fn keep(&mut self, message: ReceivedMessage) -> Verdict {
        let bytes = u64::try_from(message.content.len()).unwrap_or(u64::MAX);
        if !self.make_room(bytes) {
            self.reservation = None;
            return Verdict::Refuse(Refusal::MemoryFull.reply());
        }
        let Some(reservation) = self.reservation.take() else {
            return Verdict::Refuse(Refusal::MemoryFull.reply());
        };
        let tls = self.stream.tls_text();
        let origin = Origin {
            info: self.session.peer(),
            peer: self.peer,
            tls,
        };
        match accept::accept(&self.context, message, &origin, reservation).await {
            Ok(id) => Verdict::Queued(format!("Ok: queued as {id}")),
            Err(refusal) => Verdict::Refuse(refusal.reply()),
        }
    }
}

/// A name that may stand in the log: people type their password where the name belongs.
fn loggable<'a>(credentials: &Credentials, username: &'a str) -> &'a str {
    match credentials.find(username) {
        Some(_) => username,
        None => "unknown",
    }
}

/// What proves that name and password belong together. An unknown name costs as much time as a wrong password, so that
/// names cannot be probed for.
fn check_login(live: &Live, username: &str, password: &Password) -> Option<Verifier> {
    if let Some(credential) = live.credentials.find(username) {
        let mut verifiers = credential.verifiers.iter();
        return verifiers
            .find(|verifier| verifier.verify(password.as_str()))
            .cloned();
    }
    let decoy = Verifier::derive("", [0; postroad_config::SALT_BYTES]);
    // Deriving has taken the time; the comparison decides nothing.
    drop(decoy);
    None
}
