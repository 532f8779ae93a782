//! One transaction on the wire: MAIL, RCPT, DATA or BDAT, content.
//!
//! # BDAT ahead of the replies to RCPT
//! With PIPELINING and small content the whole transaction is written at once. That is safe with a server that keeps
//! to RFC 3030 §2: it reads and drops the octets of a BDAT that it refuses. Replies are taken in order, as ever: who
//! is refused by RCPT stays refused whatever BDAT is answered, and the answer to BDAT counts for those
//! who were accepted. If nobody was, an answer that claims otherwise counts for nobody. After a BDAT that was refused
//! the server's state is not defined by the RFC, so RSET goes before the next MAIL.
//!
//! With a server that says more than it is asked, a 250 that belongs to RCPT would be taken for the answer to the chunk. So the
//! first transaction of a connection asks with DATA, whose 354 nothing else looks like; only when that was answered
//! reply for reply is the next one written at once. And a reply behind the last one breaks the transaction before that counts.

mod replies;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::mem;

use bytes::{Bytes, BytesMut};

use super::judge::{Judge, Posture};
use super::limits::Domains;
use super::peer::Peer;
use super::recipient::{Recipient, Standing, local};
use super::unsendable::{self, Message};
use super::{
    Certificate, Connection, End, FailureKind, Phase, RecipientOutcome, Transaction,
    TransactionOutcome,
};
use crate::content::{Encoder, Framing, Written};
use crate::envelope::Charset;
use crate::{BodyKind, Extension, Extensions, MailParameters, Reply, ReversePath};

/// Commands sent ahead of their replies. Their replies (about 100 octets each) fit into any socket
/// buffer, so a driver that writes everything before it reads cannot block for good (RFC 2920 §3.1).
const WINDOW: usize = 100;
/// Octets of content put into the output at a time.
const PIECE: usize = 64 << 10;
/// Most octets of content that go out before it is known whether anyone is accepted: one piece, most of all messages.
const UNASKED_MAX: u64 = 64 << 10;

/// A transaction under way.
#[derive(Debug)]
pub(super) struct Exchange {
    sender: ReversePath,
    parameters: MailParameters,
    recipients: Vec<Recipient>,
    content: Vec<Bytes>,
    /// Octets of the content as RFC 1870 §5 counts them.
    size: u64,
    transfer: Transfer,
    /// The rest of the content, between 354 or BDAT and its end.
    encoder: Option<Encoder>,
    /// Commands that may be unanswered at a time; one without PIPELINING.
    window: usize,
    next: Next,
    awaiting: VecDeque<Awaited>,
    mail: Mail,
    transport: Transport,
    judge: Judge,
    dropped: Extensions,
    /// The domains of the session once all recipients have been named.
    named: Domains,
}

/// How the content goes out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Transfer {
    /// Behind DATA and 354.
    Data,
    /// Behind BDAT, as soon as somebody may be accepted.
    ChunkAtOnce,
    /// Behind BDAT, once the replies to RCPT are in.
    ChunkAfterReplies,
}

/// The command to write next.
#[derive(Clone, Copy, Debug)]
enum Next {
    Reset,
    Mail,
    Recipient(usize),
    Content,
    Nothing,
}

/// What the next reply answers.
#[derive(Clone, Copy, Debug)]
enum Awaited {
    Reset,
    Mail,
    Recipient(usize),
    Data,
    Final,
    /// The lone dot behind a 354 that came although nobody is left to send to.
    Nothing,
}

/// Whether the server holds a transaction of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mail {
    Unanswered,
    Open,
    Refused,
    /// The server has answered the final dot.
    Closed,
}

/// Whether what is written gets through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Transport {
    Whole,
    /// A write has failed: the final dot was not sent, and will not be.
    CutShort,
}

/// Whether the replies of this server may be counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trust {
    /// It may say more than it is asked.
    Unknown,
    /// It has given one reply to each command of a whole transaction on this connection.
    Counted,
}

/// What a reply led to.
pub(super) enum Progress {
    Going,
    Over,
    /// The connection cannot be used any more.
    Broken(Reply),
}

impl Exchange {
    pub(super) fn new(
        transaction: Transaction,
        peer: &Peer,
        certificate: Certificate,
        posture: Posture,
        trust: Trust,
        named: &Domains,
    ) -> Self {
        let Transaction {
            sender,
            recipients,
            mut parameters,
            content,
        } = transaction;
        let recipients: Vec<Recipient> = recipients.into_iter().map(Recipient::new).collect();
        let ascii = |recipient: &Recipient| recipient.named.path.is_ascii();
        parameters.smtputf8 |= !sender.is_ascii() || !recipients.iter().all(ascii);
        let size = wire_size(&content, parameters.body);
        let mut exchange = Self {
            transfer: transfer(peer, size, parameters.body, trust),
            dropped: dropped(peer, &parameters, &recipients),
            sender,
            parameters,
            recipients,
            content,
            size,
            encoder: None,
            window: if peer.offers(Extension::Pipelining) {
                WINDOW
            } else {
                1
            },
            next: Next::Mail,
            awaiting: VecDeque::new(),
            mail: Mail::Unanswered,
            transport: Transport::Whole,
            judge: Judge::new(posture),
            named: named.clone(),
        };
        exchange.settle_unsendable(peer, certificate);
        exchange
    }

    /// The server still holds a transaction that was given up: RSET goes before MAIL.
    pub(super) fn reset_first(&mut self) {
        self.next = Next::Reset;
    }

    /// Whether the server may hold a transaction that it never finished.
    pub(super) fn is_left_open(&self) -> bool {
        self.mail == Mail::Open
    }

    pub(super) fn has_content(&self) -> bool {
        self.encoder.is_some()
    }

    /// Whether there is no use in writing any more.
    pub(super) fn is_cut_short(&self) -> bool {
        self.transport == Transport::CutShort
    }

    /// Once all of the content has been written the server may have taken the message, even if it still owes the reply to MAIL.
    pub(super) fn phase(&self) -> Phase {
        if self.encoder.is_some() {
            return Phase::Content;
        }
        let is_end = |one: &Awaited| matches!(one, Awaited::Final | Awaited::Nothing);
        match self.awaiting.iter().any(is_end) {
            true if self.transport == Transport::Whole => Phase::FinalReply,
            true => Phase::Content,
            false => Phase::Envelope,
        }
    }

    /// Whether the next reply is the answer to the message.
    fn is_at_final_reply(&self) -> bool {
        let next = self.awaiting.front();
        self.phase() == Phase::FinalReply && matches!(next, Some(Awaited::Final | Awaited::Nothing))
    }

    /// A write has failed.
    pub(super) fn cut_short(&mut self) {
        self.transport = Transport::CutShort;
    }

    /// The connection has ended. Gives the reply that stands for those who got none. After the final dot it says
    /// nothing about the server: that may have taken the message, and whoever waited for its answer is charged.
    pub(super) fn lost(&mut self, kind: FailureKind) -> Reply {
        match self.phase() {
            _ if self.is_settled() => self.judge.answered(),
            Phase::FinalReply => {}
            _ => self.judge.lost(kind),
        }
        let text = match self.phase() {
            _ if self
                .awaiting
                .iter()
                .any(|awaited| matches!(awaited, Awaited::Final)) =>
            {
                "The connection ended before the server answered the message; it may have taken it"
            }
            Phase::Content => "The connection ended while the message was being sent",
            _ => "The connection ended before the message was sent",
        };
        local(451, 4, 4, 2, text)
    }

    /// What this server can never be sent, without asking it.
    fn settle_unsendable(&mut self, peer: &Peer, certificate: Certificate) {
        let message = Message {
            sender: &self.sender,
            parameters: &self.parameters,
            content: &self.content,
            size: self.size,
        };
        if let Some(refusal) = unsendable::message(&message, peer, certificate) {
            self.settle_open(&RecipientOutcome::Failed(refusal));
            return;
        }
        let mut room = peer.room(&self.named);
        for recipient in &mut self.recipients {
            let path = &recipient.named.path;
            if let Some(outcome) = unsendable::recipient(path, peer, &mut room) {
                recipient.standing = Standing::Settled(outcome);
            }
        }
        self.named = room.into_named();
    }

    /// The domains that have been named over the connection by now; none if MAIL was refused: then no RCPT counts.
    pub(super) fn named(&mut self) -> Option<Domains> {
        (self.mail != Mail::Refused).then(|| mem::take(&mut self.named))
    }

    pub(super) fn is_settled(&self) -> bool {
        self.recipients
            .iter()
            .all(|recipient| matches!(recipient.standing, Standing::Settled(_)))
    }

    /// Writes what may be written before the next reply. Buffers take whatever is written to them.
    pub(super) fn write_commands(&mut self, peer: &Peer, output: &mut BytesMut) {
        while self.awaiting.len() < self.window {
            let awaited = match self.next {
                Next::Nothing => return,
                Next::Reset => {
                    self.next = Next::Mail;
                    output.extend_from_slice(b"RSET");
                    Awaited::Reset
                }
                Next::Mail => {
                    self.next = self.recipient_from(0);
                    let _ = write!(output, "MAIL FROM:<{}>", self.sender);
                    peer.write_mail(&self.parameters, self.size, output);
                    Awaited::Mail
                }
                Next::Recipient(index) => {
                    self.next = self.recipient_from(index + 1);
                    let recipient = &self.recipients[index].named;
                    let _ = write!(output, "RCPT TO:<{}>", recipient.path);
                    peer.write_rcpt(recipient, self.charset(), output);
                    Awaited::Recipient(index)
                }
                Next::Content => return self.write_content_command(output),
            };
            output.extend_from_slice(b"\r\n");
            self.awaiting.push_back(awaited);
        }
    }

    /// DATA; or BDAT, and all of the content if its time has come.
    fn write_content_command(&mut self, output: &mut BytesMut) {
        if !self.data_is_worthwhile() {
            self.next = Next::Nothing;
            return;
        }
        if self.transfer == Transfer::ChunkAfterReplies && !self.awaiting.is_empty() {
            return;
        }
        self.next = Next::Nothing;
        let framing = match (self.transfer, self.parameters.body) {
            (Transfer::Data, _) => {
                output.extend_from_slice(b"DATA\r\n");
                self.awaiting.push_back(Awaited::Data);
                return;
            }
            (_, BodyKind::Binary) => Framing::Octets,
            (_, BodyKind::SevenBit | BodyKind::EightBit) => Framing::Lines,
        };
        let _ = write!(output, "BDAT {} LAST\r\n", self.size);
        self.encoder = Some(Encoder::new(mem::take(&mut self.content), framing));
        if self.transfer == Transfer::ChunkAtOnce {
            while self.write_piece(output) == Written::Part {}
        }
    }

    /// In a transaction with SMTPUTF8 addresses need no escapes.
    fn charset(&self) -> Charset {
        match self.parameters.smtputf8 && !self.dropped.contains(Extension::SmtpUtf8) {
            true => Charset::Utf8,
            false => Charset::Ascii,
        }
    }

    /// The next recipient that is not settled, or the content behind the last.
    fn recipient_from(&self, index: usize) -> Next {
        let rest = self.recipients.iter().enumerate().skip(index);
        rest.filter(|(_, recipient)| matches!(recipient.standing, Standing::Open))
            .map(|(index, _)| Next::Recipient(index))
            .next()
            .unwrap_or(Next::Content)
    }

    /// Whether somebody is accepted, or may still be by a reply that is on its way.
    fn data_is_worthwhile(&self) -> bool {
        self.mail != Mail::Refused && !self.is_settled()
    }

    /// Puts the next piece of content into the output.
    pub(super) fn write_piece(&mut self, output: &mut BytesMut) -> Written {
        let written = match &mut self.encoder {
            Some(encoder) => encoder.write(output, PIECE),
            None => Written::All,
        };
        if written == Written::All {
            self.encoder = None;
            self.awaiting.push_back(Awaited::Final);
        }
        written
    }

    /// Gives an outcome to everyone who has none.
    pub(super) fn settle_open(&mut self, outcome: &RecipientOutcome) {
        for recipient in &mut self.recipients {
            if !matches!(recipient.standing, Standing::Settled(_)) {
                recipient.standing = Standing::Settled(outcome.clone());
            }
        }
    }

    /// The outcome of what was settled without asking. A connection over which nobody can be named any more is used up.
    pub(super) fn unasked(&mut self) -> TransactionOutcome {
        let mut outcome = self.outcome(Connection::Reusable);
        let all = &outcome.recipients;
        if !all.is_empty() && all.iter().all(RecipientOutcome::is_surplus) {
            outcome.connection = Connection::Closing;
        }
        outcome.end = End::Unasked;
        outcome
    }

    pub(super) fn outcome(&mut self, connection: Connection) -> TransactionOutcome {
        let recipients = mem::take(&mut self.recipients);
        TransactionOutcome {
            recipients: recipients.into_iter().map(Recipient::outcome).collect(),
            connection,
            end: self.judge.end(),
            sender: self.judge.sender(),
            dropped: self.dropped,
        }
    }
}

/// With a reply too many in front of it, the answer to RCPT would pass for that to a chunk; none but 354 passes for that to DATA.
fn transfer(peer: &Peer, size: u64, body: BodyKind, trust: Trust) -> Transfer {
    let at_once = peer.offers(Extension::Pipelining) && size <= UNASKED_MAX;
    match (peer.offers(Extension::Chunking), trust) {
        (false, _) => Transfer::Data,
        (true, Trust::Counted) if at_once => Transfer::ChunkAtOnce,
        (true, Trust::Unknown) if at_once && body != BodyKind::Binary => Transfer::Data,
        (true, _) => Transfer::ChunkAfterReplies,
    }
}

/// What is asked for and not offered.
fn dropped(peer: &Peer, parameters: &MailParameters, recipients: &[Recipient]) -> Extensions {
    let mut asked = parameters.extensions();
    if recipients
        .iter()
        .any(|recipient| recipient.named.asks_for_dsn())
    {
        asked = asked.with(Extension::Dsn);
    }
    asked.iter().filter(|one| !peer.offers(*one)).collect()
}

/// Octets of the content as RFC 1870 §5 counts them, with the final CRLF that may be added to lines.
fn wire_size(content: &[Bytes], body: BodyKind) -> u64 {
    let octets: u64 = content.iter().map(|chunk| chunk.len() as u64).sum();
    let last = content.iter().rev().find_map(|chunk| chunk.last());
    match (last, body) {
        (None | Some(b'\n'), _) | (_, BodyKind::Binary) => octets,
        (Some(_), BodyKind::SevenBit | BodyKind::EightBit) => octets + 2,
    }
}
