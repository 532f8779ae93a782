//! The server side of one connection.
//!
//! Extensions: those of [`Extension`](crate::Extension), each as [`ServerConfig::extensions`] says;
//! FUTURERELEASE (RFC 4865), STARTTLS (RFC 3207) and AUTH PLAIN LOGIN (RFC 4954) if configured;
//! ENHANCEDSTATUSCODES (RFC 2034) always. The parameters of an extension that is not offered are answered 555.
//!
//! # How to drive it
//! Call [`Session::step`] with what has been read and do what it says:
//!
//! | step | the driver |
//! |---|---|
//! | [`Step::NeedInput`] | writes `output()`, then reads more into the same buffer |
//! | [`Step::Request`] | decides, calls [`Session::answer`] exactly once, steps again |
//! | [`Step::StartTls`] | writes `output()`, does the handshake, calls [`Session::tls_established`] |
//! | [`Step::Close`] | writes `output()`, closes |
//!
//! Replies gather in `output()`, so that a client that pipelines gets them in few packets. The driver
//! has to write them before it reads, and may earlier. At most [`JUNK_MAX`] replies come without a
//! request or an error, so output is bounded by what the driver reads at a time and those.
//!
//! # Rules worth knowing
//! - **Lines** end with CRLF only; see the module `line` for bare newlines. Content ends with CRLF.CRLF
//!   only; a bare CR or LF in it is stored as CRLF.
//! - **STARTTLS** with anything behind it in the same read is answered 554 and closed (CVE-2011-0411).
//!   After the handshake nothing is remembered: not EHLO, not AUTH (RFC 3207 §4.2).
//! - **DATA** with anything behind it in the same read is answered 503 and closed: RFC 2920 §3.1 wants it
//!   last in a group, and if DATA were refused the content would be read as commands. What follows the
//!   final dot may be pipelined (RFC 2920 §3.1).
//! - **AUTH** needs EHLO and TLS. Refused before TLS, its arguments are not looked at.
//! - **BDAT** (RFC 3030) that is refused is answered behind its octets, which are read and dropped: none of them
//!   is taken for a command. Where that cannot be, the connection is closed: a line that cannot be read, or a size of more
//!   than 1 GiB. A chunk that is refused ends the transaction. DATA and BDAT do not mix. Content that
//!   was not declared BINARYMIME is made canonical as behind DATA; such that was is kept as it is.
//! - **MT-PRIORITY** and **FUTURERELEASE** are asked for by anyone and granted by the driver: the request that
//!   carries the sender has them, and [`Verdict::Reprioritized`] answers with another priority.
//! - A recipient that is refused leaves the transaction as it was; content that is refused ends it.
//! - A refused message is read to its end and dropped as it comes, never buffered.

mod auth;
mod body;
mod chunk;
mod commands;
mod envelope;
mod offer;
mod replies;
mod request;
#[cfg(test)]
mod tests;

use std::mem;

use bytes::BytesMut;

use crate::line::LineReader;
use crate::{Recipient, Reply};

use auth::Exchange;
use body::Body;
use chunk::{Arriving, Dropped};
use envelope::Transaction;
pub use offer::{AuthOffer, FutureRelease, ServerConfig, TlsOffer};
pub use request::{ReceivedMessage, Request, Sender, Verdict};

/// Longest command line in octets with CRLF. RFC 5321 §4.5.3.1.4 asks for 512, plus what the extensions
/// add; the longest sensible MAIL is under 1 KiB, AUTH with an initial response somewhat more.
pub const COMMAND_LINE_MAX: usize = 4096;
/// Longest line of an AUTH exchange in octets (RFC 4954 §4, the limit on base64 lines).
pub const AUTH_LINE_MAX: usize = 12288;
/// Errors of a client before it is closed: twice what a person at a terminal or an odd client makes.
pub const ERRORS_MAX: u32 = 20;
/// Failed AUTH attempts before the connection is closed; each costs a password verification.
pub const AUTH_FAILURES_MAX: u32 = 3;
/// Commands between two messages that move no mail (NOOP, RSET, EHLO, refused senders, ...) before
/// the connection is closed. Connection pools that check with NOOP need a few dozen.
pub const JUNK_MAX: u32 = 100;

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Write the output, read more.
    NeedInput,
    /// Decide and [`Session::answer`].
    Request(Request),
    /// Write the output, do the handshake, then [`Session::tls_established`].
    StartTls,
    /// Write the output and close. Every later step says the same.
    Close,
}

/// What is known of the peer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SessionInfo {
    /// The name in EHLO or HELO: printable ASCII, at most 255 octets; empty before.
    pub helo: String,
    /// Whether the greeting was EHLO.
    pub esmtp: bool,
    /// Whether TLS is active.
    pub tls: bool,
    /// The user name that AUTH proved.
    pub user: Option<String>,
}

/// One connection, from the banner to the end.
#[derive(Debug)]
pub struct Session {
    config: ServerConfig,
    info: SessionInfo,
    state: State,
    lines: LineReader,
    output: BytesMut,
    drain: Drain,
    errors: u32,
    auth_failures: u32,
    junk: u32,
    login_demands: u32,
}

/// Where the session stands. Each state holds what only it needs.
#[derive(Debug)]
enum State {
    /// Reading commands, no transaction.
    Idle,
    /// Reading commands, MAIL accepted.
    Envelope(Transaction),
    /// Reading a line of an AUTH exchange.
    Authenticating(Exchange),
    /// A request is out.
    Deciding(Pending),
    /// Reading content behind DATA.
    Receiving(Transaction, Body),
    /// Reading commands, some of the content has come in chunks.
    Chunked(Transaction, Body),
    /// Reading the octets of a chunk.
    Chunk(Transaction, Body, Arriving),
    /// Reading the octets of a chunk that is refused.
    Dropping(Dropped),
    /// STARTTLS answered with 220.
    Handshake,
    /// Nothing more is read.
    Closed,
}

/// What a verdict will decide.
#[derive(Debug)]
enum Pending {
    User(String),
    Sender(Transaction),
    Recipient(Transaction, Recipient),
    Message,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Drain {
    No,
    BetweenTransactions,
}

impl Session {
    /// A session with its banner in the output.
    #[must_use]
    pub fn new(config: ServerConfig) -> Self {
        let mut session = Self {
            info: SessionInfo {
                tls: config.tls == TlsOffer::Active,
                ..SessionInfo::default()
            },
            config,
            state: State::Idle,
            lines: LineReader::default(),
            output: BytesMut::new(),
            drain: Drain::No,
            errors: 0,
            auth_failures: 0,
            junk: 0,
            login_demands: 0,
        };
        session.reply(&replies::banner(&session.config.hostname));
        session
    }

    /// Takes what it can from `input` and says what to do next.
    ///
    /// While a request waits for its answer this is [`Step::NeedInput`] and takes nothing.
    pub fn step(&mut self, input: &mut BytesMut) -> Step {
        loop {
            if let Some(step) = self.advance(input) {
                return step;
            }
        }
    }

    /// Bytes to send, for the driver to take from.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Answers the request that [`Session::step`] gave. Without one nothing happens.
    pub fn answer(&mut self, verdict: Verdict) {
        match mem::replace(&mut self.state, State::Idle) {
            State::Deciding(Pending::User(name)) => self.user_decided(name, verdict),
            State::Deciding(Pending::Sender(transaction)) => {
                self.sender_decided(transaction, verdict);
            }
            State::Deciding(Pending::Recipient(transaction, recipient)) => {
                self.recipient_decided(transaction, recipient, verdict);
            }
            State::Deciding(Pending::Message) => self.message_decided(verdict),
            other => self.state = other,
        }
    }

    /// How often MAIL was refused since the last call because a login is required and there is none: of that no request tells.
    #[must_use]
    pub fn take_login_demands(&mut self) -> u32 {
        mem::take(&mut self.login_demands)
    }

    /// The handshake after [`Step::StartTls`] succeeded: the client starts over (RFC 3207 §4.2).
    pub fn tls_established(&mut self) {
        if matches!(self.state, State::Handshake) {
            self.state = State::Idle;
            self.config.tls = TlsOffer::Active;
            self.info = SessionInfo {
                tls: true,
                ..SessionInfo::default()
            };
        }
    }

    /// Octets of memory that the content of the message being received takes: what is there of it, and what its buffer has beyond that.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        match &self.state {
            State::Receiving(_, body) | State::Chunked(_, body) | State::Chunk(_, body, _) => {
                body.capacity()
            }
            _ => 0,
        }
    }

    /// Drops the content being received, reads on to its end or to that of the chunk, and then sends `reply`.
    ///
    /// Nothing happens if no content is being received or it has been dropped already.
    pub fn abandon_body(&mut self, reply: Reply) {
        match &mut self.state {
            State::Receiving(_, body) | State::Chunked(_, body) | State::Chunk(_, body, _) => {
                body.discard(reply);
            }
            _ => {}
        }
    }

    /// Begins a drain: 421 4.3.2 and [`Step::Close`] as soon as no mail transaction is open.
    ///
    /// Step once afterwards even without input.
    pub fn shutdown(&mut self) {
        self.drain = Drain::BetweenTransactions;
    }

    /// The client was silent for too long: 421 4.4.2, then [`Step::Close`].
    pub fn timed_out(&mut self) {
        self.close(&replies::timed_out(&self.config.hostname));
    }

    /// Ends the session with this reply, wherever it is; for a reason of the driver's. Then [`Step::Close`].
    pub fn close_with(&mut self, reply: &Reply) {
        self.close(reply);
    }

    /// Whether what the client sends next is content.
    #[must_use]
    pub fn is_receiving(&self) -> bool {
        matches!(
            self.state,
            State::Receiving(..) | State::Chunk(..) | State::Dropping(_)
        )
    }

    /// Whether the content has begun and not ended: also between two chunks, when a command is next.
    #[must_use]
    pub fn is_amid_content(&self) -> bool {
        self.is_receiving() || matches!(self.state, State::Chunked(..))
    }

    /// What is known of the peer, for `Received:` and logs.
    #[must_use]
    pub fn peer(&self) -> &SessionInfo {
        &self.info
    }

    /// One transition; `None` if there may be more to take.
    fn advance(&mut self, input: &mut BytesMut) -> Option<Step> {
        if self.drain == Drain::BetweenTransactions
            && matches!(self.state, State::Idle | State::Authenticating(_))
        {
            self.close(&replies::shutting_down(&self.config.hostname));
        }
        match &self.state {
            State::Idle | State::Envelope(_) | State::Chunked(..) | State::Authenticating(_) => {
                self.read_line(input)
            }
            State::Receiving(..) => self.read_content(input),
            State::Chunk(..) => self.read_chunk(input),
            State::Dropping(_) => self.drop_chunk(input),
            State::Deciding(_) => Some(Step::NeedInput),
            State::Handshake => {
                // Plaintext must not survive into the encrypted session.
                input.clear();
                Some(Step::StartTls)
            }
            State::Closed => {
                input.clear();
                Some(Step::Close)
            }
        }
    }

    fn reply(&mut self, reply: &Reply) {
        reply.encode(&mut self.output);
    }

    /// The peer made a mistake.
    fn error(&mut self, reply: &Reply) {
        self.reply(reply);
        self.errors += 1;
        if self.errors >= ERRORS_MAX {
            self.close(&replies::too_many_errors(&self.config.hostname));
        }
    }

    /// The peer did something harmless that moves no mail.
    fn junk(&mut self, reply: &Reply) {
        self.reply(reply);
        self.junk += 1;
        if self.junk >= JUNK_MAX {
            self.close(&replies::too_much_junk(&self.config.hostname));
        }
    }

    fn close(&mut self, reply: &Reply) {
        if !matches!(self.state, State::Closed) {
            self.reply(reply);
            self.state = State::Closed;
        }
    }
}
