//! The client side of one connection: greeting, TLS, AUTH, then any number of transactions.
//!
//! Uses what the server offers of the extensions of [`Extension`](crate::Extension), of STARTTLS, AUTH PLAIN and LOGIN.
//! [`Client::peer`] says what that is.
//!
//! # How to drive it
//! Call [`Client::step`] with what has been read and do what it says:
//!
//! | step | the driver |
//! |---|---|
//! | [`ClientStep::NeedInput`] | writes `output()`, then reads more into the same buffer |
//! | [`ClientStep::Flush`] | writes `output()`, steps again |
//! | [`ClientStep::StartTls`] | does the handshake, calls [`Client::tls_established`] |
//! | [`ClientStep::Ready`] | calls [`Client::send`] or [`Client::quit`], or keeps the connection for later |
//! | [`ClientStep::Finished`] | records the outcome, steps again |
//! | [`ClientStep::Failed`] | records the failure, closes |
//! | [`ClientStep::Closed`] | closes |
//!
//! When the connection ends, the driver calls [`Client::closed`]; when a deadline of [`Client::phase`] passes, it closes
//! the connection and calls [`Client::timed_out`]: either gives the outcome of whatever was under way. After a failed
//! write it first calls [`Client::write_failed`], reads and steps: the server may have said why before it closed.
//!
//! # Rules worth knowing
//! - **AUTH** only under TLS that the configuration demands: with [`ClientTls::None`] or
//!   [`ClientTls::Opportunistic`] a login fails before a byte is sent.
//! - **MAIL** behind a login says `AUTH=<>`: the login is not that of whoever wrote the message (RFC 4954 §5).
//! - **What the server says to AUTH** is given without the login in it: some servers repeat what they refuse.
//! - **STARTTLS** with anything behind the 220 in the same read is a protocol failure. What EHLO said
//!   before TLS is forgotten.
//! - **Replies** that nobody asked for end the connection: a reply too many would be taken for the
//!   answer to the next command, and a message would count as delivered that is not.
//! - **Content** must be canonical (no bare CR or LF) and without NUL; anything else is refused with 554 5.6.0 before
//!   MAIL is sent. A missing final CRLF is added. Binary content needs a server that takes it; see
//!   [`Peer::takes`]. Eight-bit content goes out as it is even if the server does not offer 8BITMIME: whether to
//!   convert it is the driver's choice.
//! - **BDAT** in one chunk takes the place of DATA where CHUNKING is offered: no round trip for 354, no dots. With
//!   PIPELINING, content of up to 64 KiB goes out together with the envelope: the whole transaction in one
//!   flight. That is for connections on which a transaction was answered reply for reply; the first one takes DATA. If
//!   everyone is refused, the content was sent for nothing; the server has to read and drop it and to answer 5yz
//!   (RFC 3030 §2), and RSET goes before the next MAIL. Larger content waits for the answers to RCPT.
//! - **What the server cannot be asked for**: a message with REQUIRETLS fails with 5.7.30, one that is not ASCII
//!   where it has to be with 5.6.7 or 5.6.9, one with DELIVERBY that is to be returned with 5.3.3, or with 5.4.7 if the server wants
//!   more time; and nothing of it is sent. Mail from the null reverse-path goes without REQUIRETLS instead (RFC 8689 §5).
//!   The other parameters are left out, and [`TransactionOutcome::dropped`] says so: DSN and DELIVERBY then make
//!   a "relayed" report due (RFC 3461 §5.2.2, RFC 2852 §4.1.4).
//! - **LIMITS** (RFC 9422): recipients beyond a limit are deferred with 452 4.5.3 without being sent. The connection closes behind the last
//!   message that is allowed, and before one none of whose recipients may be named any more: [`End::Unasked`].
//! - **421** before the answer to the content says that the server wants no mail now: [`End::Held`]. As the answer
//!   to the content it defers this message. Either way the connection is over (RFC 5321 §3.8).
//! - **Other words for the same**: 432, 454, and 4.3.2 or 4.7.28 with any code to MAIL; 432 and 454 to the content, after a login. To RCPT,
//!   and otherwise to the content, they defer that recipient or message: or one of them could stop all mail.
//! - **5yz to MAIL** fails everyone, and [`SenderVerdict`] says whether it is about the sender or about the message.
//! - **A connection that ends** before the final dot is [`End::Held`] too, unless everyone has a verdict: the message was
//!   not judged, and a server that hangs up on one will hang up on the next.
//! - **A demand for a login or TLS** (530, 534, 535, 538) holds the server's mail when it answers MAIL, or when a
//!   server that was shown no login answers everyone with it. Otherwise it defers the recipient or message that it
//!   answers: or one address could stop all mail.
//! - **Lost replies**: if the connection ends between the final dot and its reply, the recipients are
//!   [`RecipientOutcome::Deferred`]. The server may have taken the message, so the next attempt may
//!   deliver it twice (RFC 1047). Losing it would be worse.

mod config;
mod connect;
mod exchange;
mod judge;
mod limits;
mod outcome;
mod peer;
mod recipient;
mod redact;
#[cfg(test)]
mod tests;
mod transact;
mod unsendable;

use bytes::{Bytes, BytesMut};

use crate::reply::{ReplyError, ReplyReader};
use crate::{ForwardPath, MailParameters, Recipient, Reply, ReversePath, address};

pub use config::{Certificate, ClientConfig, ClientTls, Login};
use connect::Login as LoginStep;
use exchange::{Exchange, Trust};
use limits::Domains;
pub use outcome::{
    ConnectFailure, Connection, End, FailureKind, RecipientOutcome, SenderVerdict, Stage,
    TransactionOutcome,
};
pub use peer::Peer;

/// One message to any number of recipients.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Where bounces go.
    pub sender: ReversePath,
    /// Where the message goes.
    pub recipients: Vec<Recipient>,
    /// What MAIL says. The time of `deliver_by` counts from now on.
    pub parameters: MailParameters,
    /// The message in any number of pieces; unless declared binary, canonical together.
    pub content: Vec<Bytes>,
}

impl Default for Transaction {
    /// An empty message from the null path to nobody.
    fn default() -> Self {
        Self {
            sender: ReversePath::Null,
            recipients: Vec::new(),
            parameters: MailParameters::default(),
            content: Vec::new(),
        }
    }
}

/// What to do next.
#[derive(Debug)]
pub enum ClientStep {
    /// Write the output, read more.
    NeedInput,
    /// Write the output, step again.
    Flush,
    /// Do the handshake, then [`Client::tls_established`]. The output is empty.
    StartTls,
    /// [`Client::send`] or [`Client::quit`].
    Ready,
    /// A transaction is over.
    Finished(TransactionOutcome),
    /// The connection did not get as far as [`ClientStep::Ready`].
    Failed(ConnectFailure),
    /// The connection is over. Every later step says the same.
    Closed,
}

/// What the client waits for, so that the driver can choose a deadline (RFC 5321 §4.5.3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// The greeting, EHLO, STARTTLS or AUTH: 5 minutes.
    Connecting,
    /// Nothing; the connection is idle.
    Idle,
    /// A reply to MAIL, RCPT or DATA: 5 minutes.
    Envelope,
    /// Its own writing of content: 3 minutes per piece.
    Content,
    /// The reply to the final dot: 10 minutes. Cutting it short makes duplicates.
    FinalReply,
    /// The reply to QUIT; need not be waited for.
    Quitting,
}

/// One connection, from the greeting to QUIT.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    state: State,
    replies: ReplyReader,
    output: BytesMut,
    peer: Peer,
    certificate: Certificate,
    /// Transactions that have been begun.
    transactions: u32,
    named: Domains,
    /// Whether the server may still hold a transaction that was not finished.
    needs_reset: bool,
    trust: Trust,
}

#[derive(Debug)]
enum State {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Handshake,
    Auth(LoginStep),
    Ready,
    Exchange(Box<Exchange>),
    /// A transaction that never touched the wire.
    Settled(TransactionOutcome),
    Quitting,
    Closed,
}

/// What a reply led to.
#[derive(Debug)]
enum Turn {
    /// Go on.
    Continue,
    /// Tell the driver.
    Step(ClientStep),
}

impl Client {
    /// A client that waits for the greeting.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        let config = ClientConfig {
            ehlo_name: match address::is_host(&config.ehlo_name) && config.ehlo_name.is_ascii() {
                true => config.ehlo_name,
                false => "localhost".to_owned(),
            },
            ..config
        };
        let certificate = match config.tls {
            ClientTls::Active => Certificate::Verified,
            ClientTls::None | ClientTls::Opportunistic | ClientTls::Required => {
                Certificate::Unverified
            }
        };
        Self {
            config,
            state: State::Greeting,
            replies: ReplyReader::default(),
            output: BytesMut::new(),
            peer: Peer::default(),
            certificate,
            transactions: 0,
            named: Domains::default(),
            needs_reset: false,
            trust: Trust::Unknown,
        }
    }

    /// Takes what it can from `input` and says what to do next.
    pub fn step(&mut self, input: &mut BytesMut) -> ClientStep {
        loop {
            match self.advance(input) {
                Turn::Continue => {}
                Turn::Step(step) => return step,
            }
        }
    }

    /// Bytes to send, for the driver to take from.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// The handshake after [`ClientStep::StartTls`] succeeded, and the certificate was accepted as far
    /// as the driver demands it. Messages with REQUIRETLS need a verified one (RFC 8689 §4.2.1).
    pub fn tls_established(&mut self, certificate: Certificate) {
        if matches!(self.state, State::Handshake) {
            self.config.tls = ClientTls::Active;
            self.certificate = certificate;
            self.peer = Peer::default();
            self.greet();
        }
    }

    /// Begins a transaction. Only when the last step was [`ClientStep::Ready`]; otherwise every
    /// recipient of it is deferred and the connection closes, because the driver has lost count.
    pub fn send(&mut self, transaction: Transaction) {
        self.state = match self.state {
            State::Ready => self.begin(transaction),
            _ => State::Settled(transact::out_of_turn(transaction.recipients.len())),
        };
    }

    /// Says QUIT. The driver writes the output and may close at once. An open transaction is lost;
    /// call [`Client::closed`] first to get its outcome.
    pub fn quit(&mut self) {
        if !matches!(self.state, State::Closed | State::Quitting) {
            self.output.extend_from_slice(b"QUIT\r\n");
            self.state = State::Quitting;
        }
    }

    /// What the server has said of itself. Complete from [`ClientStep::Ready`] on.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether the recipient may still be named over the connection: not if the server has heard of as many other domains as it may. See
    /// [`Peer::domains_max`].
    #[must_use]
    pub fn may_name(&self, path: &ForwardPath) -> bool {
        self.peer.room(&self.named).take(path)
    }

    /// What the client waits for.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Greeting
            | State::Ehlo
            | State::Helo
            | State::StartTls
            | State::Handshake
            | State::Auth(_) => Phase::Connecting,
            State::Ready | State::Settled(_) | State::Closed => Phase::Idle,
            State::Exchange(exchange) => exchange.phase(),
            State::Quitting => Phase::Quitting,
        }
    }

    /// The output could not be written: it is dropped. The driver reads and steps while it gets something, then calls
    /// [`Client::closed`] or [`Client::timed_out`]. A refusal counts; nothing else can be meant for content that did not get through.
    pub fn write_failed(&mut self) {
        self.output.clear();
        if let State::Exchange(exchange) = &mut self.state {
            exchange.cut_short();
        }
    }

    /// The connection has ended. Gives what that means for what was under way: [`ClientStep::Failed`],
    /// [`ClientStep::Finished`], or [`ClientStep::Closed`].
    pub fn closed(&mut self) -> ClientStep {
        self.ended(FailureKind::Disconnected)
    }

    /// The driver has given up waiting and closed the connection. Gives the same as [`Client::closed`].
    pub fn timed_out(&mut self) -> ClientStep {
        self.ended(FailureKind::TimedOut)
    }

    fn advance(&mut self, input: &mut BytesMut) -> Turn {
        match &self.state {
            State::Greeting if self.login_is_exposed() => {
                self.fail(Stage::Auth, FailureKind::AuthUnavailable, None)
            }
            State::Handshake => {
                input.clear();
                Turn::Step(ClientStep::StartTls)
            }
            State::Ready if input.is_empty() => Turn::Step(ClientStep::Ready),
            // Most often 421 before the server closes an idle connection.
            State::Ready | State::Closed => {
                self.state = State::Closed;
                input.clear();
                Turn::Step(ClientStep::Closed)
            }
            State::Settled(_) => self.finish_settled(),
            State::Exchange(exchange) if exchange.has_content() => self.write_content(input),
            _ => self.read_reply(input),
        }
    }

    fn read_reply(&mut self, input: &mut BytesMut) -> Turn {
        match self.replies.next(input) {
            Ok(None) => Turn::Step(ClientStep::NeedInput),
            Ok(Some(reply)) => self.on_reply(reply, input),
            Err(error) => self.on_garbage(error),
        }
    }

    fn on_reply(&mut self, reply: Reply, input: &BytesMut) -> Turn {
        match &self.state {
            State::Exchange(_) => self.exchange_reply(reply, input),
            State::Quitting => {
                self.state = State::Closed;
                Turn::Step(ClientStep::Closed)
            }
            _ => self.connect_reply(reply, input),
        }
    }

    fn on_garbage(&mut self, error: ReplyError) -> Turn {
        match &self.state {
            State::Exchange(_) => self.break_exchange(&transact::malformed(error)),
            State::Quitting | State::Ready | State::Settled(_) | State::Closed => {
                self.state = State::Closed;
                Turn::Step(ClientStep::Closed)
            }
            _ => self.fail(self.stage(), FailureKind::Protocol, None),
        }
    }

    fn ended(&mut self, kind: FailureKind) -> ClientStep {
        let turn = match &mut self.state {
            State::Ready | State::Quitting | State::Closed => {
                self.state = State::Closed;
                Turn::Step(ClientStep::Closed)
            }
            State::Settled(_) => self.finish_settled(),
            State::Exchange(exchange) => {
                let reply = exchange.lost(kind);
                self.break_exchange(&reply)
            }
            _ => self.fail(self.stage(), kind, None),
        };
        match turn {
            Turn::Step(ClientStep::Finished(outcome)) => {
                self.state = State::Closed;
                ClientStep::Finished(TransactionOutcome {
                    connection: Connection::Closing,
                    ..outcome
                })
            }
            Turn::Step(step) => step,
            Turn::Continue => ClientStep::Closed,
        }
    }
}
