//! One connection to a server, from the greeting to the last transaction.
//!
//! The dialogue is `postroad_smtp::client`'s; here are the socket, the TLS handshake and the clocks. [`Connection::open`] is the
//! way to an upstream; `direct` finds an address by itself and calls [`Connection::begin`]. Whatever goes wrong before
//! the client says it is ready is [`Unopened`]: a statement about the server.

mod failure;
mod pace;
mod socket;
#[cfg(test)]
mod tests;
mod upstream;

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postroad_config::status::{FailureReason, UpstreamFailure};
use postroad_smtp::ForwardPath;
use postroad_smtp::client::{
    Certificate, Client, ClientConfig, ClientStep, ClientTls, ConnectFailure, End, Login, Peer,
    Transaction, TransactionOutcome,
};
use postroad_spool::TlsDemand;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use crate::net::TcpStream;
use crate::stream::Stream;
use crate::upstreams::failure;

pub(super) use failure::describe;
use failure::io_failure;
use pace::{Pace, QUIT_TIMEOUT};
pub(super) use socket::dial;
use socket::{by, secure};

/// For what a server has said before it closed on us: it is on its way already.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

/// A server that is ready for a transaction.
pub(crate) struct Connection {
    stream: Stream,
    client: Client,
    input: BytesMut,
    pace: Pace,
    usage: Usage,
    remote: String,
    protection: Protection,
    rank: Rank,
    /// What the connection is counted by, if it is.
    counted: Option<Box<dyn Any + Send + Sync>>,
}

/// Who is at the other end of a socket, and how to speak there.
pub(crate) struct Terms<'a> {
    /// The server's name: for its certificate, and in reports.
    pub(crate) remote: &'a str,
    /// The name in EHLO.
    pub(crate) hostname: &'a str,
    /// How TLS is used.
    pub(crate) tls: TlsTerms<'a>,
    /// The login, if the server wants one.
    pub(crate) login: Option<Login>,
}

/// How TLS is used.
#[derive(Clone, Copy)]
pub(crate) struct TlsTerms<'a> {
    /// When; [`ClientTls::Active`] is from the first byte.
    pub(crate) mode: ClientTls,
    /// The configuration of a handshake.
    pub(crate) config: &'a Arc<rustls::ClientConfig>,
    /// What a handshake with it is worth.
    pub(crate) worth: Protection,
    /// What is said to users of an authority that is not trusted.
    pub(crate) advice: &'static str,
}

/// What keeps others from reading along.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protection {
    /// Nothing.
    None,
    /// TLS with whoever it is: keeps out onlookers.
    Unverified,
    /// TLS with a server that has proved its name.
    Verified,
}

/// Whether mail would rather go elsewhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rank {
    /// No.
    First,
    /// What is preferred does not work now.
    Substitute,
}

/// Whether a connection has been good for something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Usage {
    /// No transaction was answered yet.
    Fresh,
    /// One was.
    Used,
}

/// Why a server did not get as far as MAIL.
#[derive(Debug)]
pub(crate) enum Unopened {
    /// The TLS handshake broke off, or took too long: a server that restarts, or the network. Nothing is known by that of the TLS that the
    /// server can do.
    BrokenOff(UpstreamFailure),
    /// Anything else. [`FailureReason::TlsFailed`] is then the server's last word about TLS.
    Failed(UpstreamFailure),
}

impl Unopened {
    /// As users see it.
    pub(crate) fn failure(&self) -> &UpstreamFailure {
        match self {
            Self::BrokenOff(failure) | Self::Failed(failure) => failure,
        }
    }

    /// As users see it, to be changed.
    pub(crate) fn failure_mut(&mut self) -> &mut UpstreamFailure {
        match self {
            Self::BrokenOff(failure) | Self::Failed(failure) => failure,
        }
    }
}

impl From<Unopened> for UpstreamFailure {
    fn from(unopened: Unopened) -> Self {
        match unopened {
            Unopened::BrokenOff(failure) | Unopened::Failed(failure) => failure,
        }
    }
}

impl From<UpstreamFailure> for Unopened {
    fn from(failure: UpstreamFailure) -> Self {
        Self::Failed(failure)
    }
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
    /// Secures, greets and logs in. Nothing but its single steps is bounded in time: the caller has the deadline.
    pub(crate) async fn begin(stream: TcpStream, terms: Terms<'_>) -> Result<Self, Unopened> {
        let Terms {
            remote,
            hostname,
            tls,
            login,
        } = terms;
        let config = ClientConfig {
            ehlo_name: hostname.to_owned(),
            tls: tls.mode,
            login,
        };
        let mut connection = Self {
            stream: Stream::Plain(stream),
            client: Client::new(config),
            input: BytesMut::new(),
            pace: Pace::new(Instant::now()),
            usage: Usage::Fresh,
            remote: remote.to_owned(),
            protection: Protection::None,
            rank: Rank::First,
            counted: None,
        };
        if tls.mode == ClientTls::Active {
            connection.secure(tls).await?;
        }
        connection.greet(tls).await?;
        Ok(connection)
    }

    async fn greet(&mut self, tls: TlsTerms<'_>) -> Result<(), Unopened> {
        loop {
            match self.advance().await.map_err(|error| io_failure(&error))? {
                Event::Ready => return Ok(()),
                Event::StartTls => {
                    self.secure(tls).await?;
                    self.client.tls_established(match tls.worth {
                        Protection::Verified => Certificate::Verified,
                        Protection::None | Protection::Unverified => Certificate::Unverified,
                    });
                }
                Event::Failed(failure) => return Err(describe(&failure).into()),
                Event::Finished(_) | Event::Closed => {
                    let text = "the server closed early";
                    return Err(failure(FailureReason::ProtocolError, text).into());
                }
            }
        }
    }

    async fn secure(&mut self, tls: TlsTerms<'_>) -> Result<(), Unopened> {
        let plain = std::mem::replace(&mut self.stream, Stream::Closed);
        self.stream = secure(plain, tls, &self.remote).await?;
        self.protection = tls.worth;
        Ok(())
    }

    /// Leads to a host that stands in for those that are preferred to it.
    pub(crate) fn substitute(&mut self) {
        self.rank = Rank::Substitute;
    }

    /// Whether another host is preferred to this.
    pub(crate) fn rank(&self) -> Rank {
        self.rank
    }

    /// Keeps this until the connection is closed.
    pub(crate) fn hold(&mut self, place: impl Send + Sync + 'static) {
        self.counted = Some(Box::new(place));
    }

    /// The server's name: as the configuration or an MX record calls it.
    pub(crate) fn remote(&self) -> &str {
        &self.remote
    }

    /// What the server says of itself and offers.
    pub(crate) fn peer(&self) -> &Peer {
        self.client.peer()
    }

    /// What keeps others from reading along.
    pub(crate) fn protection(&self) -> Protection {
        self.protection
    }

    /// Whether a message with this demand may go over the connection (RFC 8689 §4.2.1, step 4).
    pub(crate) fn satisfies(&self, demand: TlsDemand) -> bool {
        match demand {
            TlsDemand::Required => self.protection == Protection::Verified,
            TlsDemand::Default | TlsDemand::Optional => true,
        }
    }

    /// Whether a recipient may still be named ([`Client::may_name`]).
    pub(crate) fn may_name(&self, path: &ForwardPath) -> bool {
        self.client.may_name(path)
    }

    /// Sends one message.
    pub(crate) async fn send(&mut self, transaction: Transaction) -> Sent {
        self.pace
            .begin(transaction.recipients.len(), Instant::now());
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
                Ok(Event::Closed) => return Sent::Lost("the server closed".into()),
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
            let deadline = self.pace.deadline(self.client.phase(), Instant::now());
            match step {
                ClientStep::NeedInput | ClientStep::Flush => {
                    let output = self.client.output();
                    let octets = output.len();
                    if let Err(error) = by(deadline, self.stream.write_out(output)).await {
                        return self.last_words().await.ok_or(error);
                    }
                    self.pace.took(octets);
                }
                step => return Ok(event(step)),
            }
            if matches!(step, ClientStep::NeedInput) {
                let read = self.stream.read_some(&mut self.input);
                if by(deadline, read).await? == 0 {
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
