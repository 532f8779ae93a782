//! One transaction on the wire: MAIL, RCPT, DATA or BDAT, content.
//!
//! [`commands`] writes, [`replies`] reads, [`transfer`] says how the content goes out; here is what they share, and how it ends.

mod commands;
mod replies;
mod transfer;

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;

use super::judge::{Judge, Posture};
use super::limits::Domains;
use super::peer::Peer;
use super::recipient::{Recipient, Standing, local};
use super::unsendable::{self, Message};
use super::{
    Certificate, Connection, End, FailureKind, Phase, RecipientOutcome, Transaction,
    TransactionOutcome,
};
use crate::content::Encoder;
use crate::{Extension, Extensions, MailParameters, Reply, ReversePath};

pub(super) use transfer::Trust;
use transfer::{Transfer, wire_size};

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
            transfer: Transfer::choose(peer, size, parameters.body, trust),
            dropped: dropped(peer, &parameters, &recipients),
            sender,
            parameters,
            recipients,
            content,
            size,
            encoder: None,
            window: commands::window(peer),
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
