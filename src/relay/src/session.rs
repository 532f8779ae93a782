//! Drives one SMTP server session over a connection: moves bytes, shakes hands, gives verdicts.
//!
//! What to say is `postroad_smtp`'s; who may do what is [`crate::policy`]'s; this file only connects them. A
//! session holds nothing that outlives it, and decides from nothing but itself and the configuration in force. What others
//! do can only slow down its refusals ([`crate::guesses`]), and end it while the client has not shown that it may relay
//! ([`crate::connections`]).
//!
//! Most connections wait most of the time, and there may be many: what is needed only for a handshake or while a message is kept is on the
//! heap as long as it is ([`Box::pin`]): a test says how small the task of a connection that waits has to be.

mod login;
mod offer;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postroad_config::{Listener, ListenerTls, Verifier};
use postroad_smtp::server::{ReceivedMessage, Request, Sender, Session, Step, Verdict};
use postroad_smtp::{Priority, Recipient};
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::accept::{self, Accepted, Origin};
use crate::connections::{Admitted, Standing};
use crate::context::{Context, Phase};
use crate::live::Live;
use crate::memory::{self, Full, Holder, Reservation};
use crate::net::TcpStream;
use crate::patience::Patience;
use crate::policy::Relaying;
use crate::refusal::Refusal;
use crate::stream::{Stream, trim};

/// For a peer to take a reply.
const REPLY_TIME_MAX: Duration = Duration::from_secs(300);

/// A handshake takes two round trips; a plaintext client of port 465 that waits for a banner is closed after this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a peer may take to see that we have closed.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// Content is accounted for in steps of this at least, so that a small read does not cost a semaphore operation.
const BODY_STEP_BYTES: u64 = 64 << 10;

/// A recipient with an ORCPT, which has up to 500 octets in two forms, takes as much memory as so many without.
const ORCPT_WEIGHT: usize = 3;

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
pub async fn serve(
    context: Context,
    listener: Listener,
    stream: TcpStream,
    peer: SocketAddr,
    admitted: &Admitted,
) {
    let ip = peer.ip().to_canonical();
    if let Err(error) = run(context, &listener, stream, ip, admitted).await {
        tracing::debug!(%error, %peer, listener = listener.name.as_str(), "session ended early");
    }
}

async fn run(
    context: Context,
    listener: &Listener,
    stream: TcpStream,
    peer: IpAddr,
    admitted: &Admitted,
) -> Result<(), Error> {
    let patience = Patience::new(Instant::now());
    stream.set_nodelay(true)?;
    let live = context.live();
    let stream = match listener.tls {
        ListenerTls::Implicit => Box::pin(handshake(&live, stream)).await?,
        ListenerTls::Disabled | ListenerTls::Opportunistic | ListenerTls::Required => {
            Stream::Plain(stream)
        }
    };
    let session = Session::new(offer::server_config(&live, listener));
    // Else the connection would keep a configuration that is no longer in force.
    drop(live);
    let mut driver = Driver {
        context,
        listener: listener.clone(),
        peer,
        admitted,
        standing: admitted.standing,
        patience,
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

struct Driver<'a> {
    context: Context,
    listener: Listener,
    peer: IpAddr,
    admitted: &'a Admitted,
    standing: Standing,
    patience: Patience,
    stream: Stream,
    input: BytesMut,
    session: Session,
    /// Room for the recipients and the content that are being received.
    reservation: Option<Reservation>,
    /// Accepted in this transaction; one that takes more memory counts for several.
    recipients: usize,
    told_to_stop: bool,
    /// What proved the login of this session.
    proof: Option<Verifier>,
}

impl Driver<'_> {
    async fn run(&mut self) -> Result<(), Error> {
        loop {
            let step = self.session.step(&mut self.input);
            let strangers = u64::from(self.session.take_login_demands());
            self.context.metrics.relaying_denied.inc_by(strangers);
            match step {
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
                Step::StartTls => Box::pin(self.start_tls()).await?,
                Step::Close => {
                    self.flush().await?;
                    return self.close().await;
                }
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        if self.session.output().is_empty() {
            return Ok(());
        }
        // The peer may take its time to read.
        trim(&mut self.input);
        let written = self.stream.write_out(self.session.output());
        let Ok(written) = tokio::time::timeout(REPLY_TIME_MAX, written).await else {
            return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        };
        // The answer to a chunk is not the end of the content.
        if !self.session.is_amid_content() {
            self.patience.replied(Instant::now());
        }
        Ok(written?)
    }

    /// Ends the connection and waits for the peer to do so too: input left unread would make the kernel reset the
    /// connection, which can destroy the last reply on its way.
    async fn close(&mut self) -> Result<(), Error> {
        let Self { stream, input, .. } = self;
        let farewell = async {
            // Under TLS there is something to write, and the peer may not read.
            stream.shutdown().await?;
            while stream.read_some(input).await? > 0 {
                input.clear();
            }
            Ok(())
        };
        // Out of patience is as good as closed.
        let ended = tokio::time::timeout(CLOSE_PATIENCE, farewell).await;
        ended.unwrap_or(Ok(()))
    }

    /// Reads; `false` if the peer has gone.
    async fn read(&mut self) -> Result<bool, Error> {
        let now = Instant::now();
        if self.session.is_receiving() {
            let bytes_max = self.context.live().config.limits.message_bytes;
            self.patience.content(bytes_max, now);
        }
        let deadline = self.patience.deadline(self.standing);
        if deadline <= now {
            // A peer that always has something to say would never be found waiting.
            self.session.timed_out();
            return Ok(true);
        }
        tokio::select! {
            biased;
            () = self.admitted.displaced() => {
                self.session.close_with(&Refusal::ConnectionsFull.reply());
                Ok(true)
            }
            () = self.context.reached(Phase::Draining), if !self.told_to_stop => {
                self.told_to_stop = true;
                self.session.shutdown();
                Ok(true)
            }
            read = tokio::time::timeout_at(deadline, self.stream.read_some(&mut self.input)) => {
                let Ok(read) = read else {
                    self.session.timed_out();
                    return Ok(true);
                };
                let count = read?;
                self.patience.received(count, Instant::now());
                Ok(count > 0)
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
        self.patience.replied(Instant::now());
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
        let made = if self.context.queue.memory().is_wanted() {
            Err(accept::memory_full(&self.context, Full::Budget))
        } else {
            self.make_room(wanted)
        };
        if let Err(refusal) = made {
            self.reservation = None;
            self.session.abandon_body(refusal.reply());
        }
    }

    /// Makes room for so many bytes of content, and for the recipients named so far.
    fn make_room(&mut self, content_bytes: u64) -> Result<(), Refusal> {
        let memory = self.context.queue.memory();
        let bytes = memory::footprint(content_bytes, self.recipients);
        let made = match &mut self.reservation {
            Some(reservation) => memory.try_grow(reservation, bytes),
            none => {
                let holder = Holder::new(self.session.peer().user.as_deref(), self.peer);
                let made = memory.try_receive(holder, most(&self.context.live()), bytes);
                made.map(|reservation| *none = Some(reservation))
            }
        };
        made.map_err(|why| accept::memory_full(&self.context, why))
    }

    async fn decide(&mut self, request: Request) -> Verdict {
        match request {
            Request::Authenticate { username, password } => {
                self.authenticate(username, password).await
            }
            Request::Sender(sender) => self.check_sender(&sender),
            Request::Recipient(recipient) => self.check_recipient(&recipient),
            Request::Message(message) => Box::pin(self.keep(message)).await,
        }
    }

    /// A transaction begins: whatever was held for one before it is given back.
    fn check_sender(&mut self, sender: &Sender) -> Verdict {
        self.reservation = None;
        self.recipients = 0;
        if let Err(refusal) = accept::check_room(&self.context, self.session.peer().user.as_deref())
        {
            return Verdict::Refuse(refusal.reply());
        }
        let asks = sender.hold.is_some() || sender.parameters.priority > Priority::default();
        match asks && self.relaying(&self.context.live()) != Ok(Relaying::Allowed) {
            false => Verdict::Accept,
            // RFC 4865 §6, RFC 6710 §4.1: only for those who have been let in.
            true if sender.hold.is_some() => Verdict::Refuse(Refusal::HoldDenied.reply()),
            true => Verdict::Reprioritized(Priority::default()),
        }
    }

    /// Many recipients in many sessions take as much memory as large messages do.
    fn check_recipient(&mut self, recipient: &Recipient) -> Verdict {
        let verdict = self.check_relaying();
        if matches!(verdict, Verdict::Accept) {
            let weight = recipient.orcpt.as_ref().map_or(1, |_| ORCPT_WEIGHT);
            self.recipients += weight;
            if let Err(refusal) = self.make_room(0) {
                self.recipients -= weight;
                return Verdict::Refuse(refusal.reply());
            }
        }
        verdict
    }

    fn check_relaying(&mut self) -> Verdict {
        let refusal = match self.relaying(&self.context.live()) {
            Ok(Relaying::Allowed) => return self.vouch(),
            Ok(Relaying::AuthenticationNeeded) => Refusal::AuthenticationNeeded,
            Ok(Relaying::Denied) => Refusal::RelayingDenied,
            Err(refusal) => return Verdict::Refuse(refusal.reply()),
        };
        self.context.metrics.relaying_denied.inc();
        Verdict::Refuse(refusal.reply())
    }

    async fn keep(&mut self, message: ReceivedMessage) -> Verdict {
        let bytes = u64::try_from(message.content.len()).unwrap_or(u64::MAX);
        if let Err(refusal) = self.check_again().and_then(|()| self.make_room(bytes)) {
            self.reservation = None;
            return Verdict::Refuse(refusal.reply());
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
        let accepted = accept::accept(&self.context, message, &origin, reservation);
        let accepted = tokio::select! {
            biased;
            accepted = accepted => accepted,
            () = gone(&self.context, &mut self.stream, &mut self.input) => Err(Refusal::HungUp),
        };
        match accepted {
            Ok(Accepted::Queued(id)) => Verdict::Queued(format!("Ok: queued as {id}")),
            Ok(Accepted::PassedOn(id)) => Verdict::Queued(format!("Ok: passed on as {id}")),
            Ok(Accepted::Refused(reply)) => Verdict::Refuse(reply),
            Err(refusal) => Verdict::Refuse(refusal.reply()),
        }
    }
}

/// Ends when a client has gone that waits for its message to be handed on: it sends the message again, so that what is left of it is better
/// forgotten than stored.
async fn gone(context: &Context, stream: &mut Stream, input: &mut BytesMut) {
    // One that has said its last words already may have closed its side, and listens.
    let may_be_missed = context.hands_on() && input.is_empty();
    if !may_be_missed || matches!(stream.read_some(input).await, Ok(1..)) {
        std::future::pending().await
    }
}

/// What the largest message may need.
fn most(live: &Live) -> u64 {
    let limits = &live.config.limits;
    let recipients = usize::try_from(limits.recipients).unwrap_or(usize::MAX);
    memory::footprint(
        limits.message_bytes.saturating_add(BODY_STEP_BYTES),
        recipients,
    )
}

#[cfg(test)]
mod tests;
