//! One transaction on the wire: MAIL, RCPT, DATA, content.

use std::collections::VecDeque;
use std::mem;

use bytes::{Bytes, BytesMut};

use super::extensions::{Extensions, Size};
use super::judge::{Judge, Posture};
use super::recipient::{Recipient, Standing, local};
use super::{Connection, FailureKind, Phase, RecipientOutcome, Transaction, TransactionOutcome};
use crate::content::{Encoder, Written, is_canonical};
use crate::{Reply, ReversePath};

/// Commands sent ahead of their replies. Their replies (about 100 octets each) fit into any socket
/// buffer, so a driver that writes everything before it reads cannot block for good (RFC 2920 §3.1).
const WINDOW: usize = 100;
/// Octets of content put into the output at a time.
const PIECE: usize = 64 << 10;

/// A transaction under way.
#[derive(Debug)]
pub(super) struct Exchange {
    sender: ReversePath,
    parameters: String,
    recipients: Vec<Recipient>,
    content: Vec<Bytes>,
    /// The rest of the content, between 354 and the final dot.
    encoder: Option<Encoder>,
    /// Commands that may be unanswered at a time; one without PIPELINING.
    window: usize,
    next: Next,
    awaiting: VecDeque<Awaited>,
    mail: Mail,
    transport: Transport,
    judge: Judge,
}

/// The command to write next.
#[derive(Clone, Copy, Debug)]
enum Next {
    Reset,
    Mail,
    Recipient(usize),
    Data,
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
    pub(super) fn new(transaction: Transaction, extensions: Extensions, posture: Posture) -> Self {
        let Transaction {
            sender,
            recipients,
            body,
            smtputf8,
            content,
        } = transaction;
        let recipients: Vec<Recipient> = recipients.into_iter().map(Recipient::new).collect();
        let needs_utf8 = !sender.is_ascii() || recipients.iter().any(|r| !r.path.is_ascii());
        let size = wire_size(&content);
        let mut exchange = Self {
            parameters: extensions.mail_parameters(size, body, smtputf8 || needs_utf8),
            sender,
            recipients,
            content,
            encoder: None,
            window: if extensions.pipelining { WINDOW } else { 1 },
            next: Next::Mail,
            awaiting: VecDeque::new(),
            mail: Mail::Unanswered,
            transport: Transport::Whole,
            judge: Judge::new(posture),
        };
        exchange.settle_unsendable(extensions, size);
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

    pub(super) fn phase(&self) -> Phase {
        match self.awaiting.front() {
            _ if self.encoder.is_some() => Phase::Content,
            Some(Awaited::Final | Awaited::Nothing) => match self.transport {
                Transport::Whole => Phase::FinalReply,
                Transport::CutShort => Phase::Content,
            },
            _ => Phase::Envelope,
        }
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
            Phase::FinalReply => {
                "The connection ended before the server answered the message; it may have taken it"
            }
            Phase::Content => "The connection ended while the message was being sent",
            _ => "The connection ended before the message was sent",
        };
        local(451, 4, 4, 2, text)
    }

    /// What this server can never be sent, without asking it.
    fn settle_unsendable(&mut self, extensions: Extensions, size: u64) {
        let refusal = match extensions.size {
            _ if !is_canonical(&self.content) => {
                local(554, 5, 6, 0, "The message holds a bare CR or LF")
            }
            Size::Limit(limit) if size > limit => {
                let text = format!("The message has {size} bytes, the server takes {limit}");
                local(552, 5, 3, 4, &text)
            }
            _ if !extensions.smtputf8 => return self.settle_non_ascii(),
            _ => return,
        };
        self.settle_open(&RecipientOutcome::Failed(refusal));
    }

    fn settle_non_ascii(&mut self) {
        let text = "The address is not ASCII, and the server does not offer SMTPUTF8";
        let failed = RecipientOutcome::Failed(local(553, 5, 6, 7, text));
        if !self.sender.is_ascii() {
            self.settle_open(&failed);
        }
        for recipient in &mut self.recipients {
            if !recipient.path.is_ascii() {
                recipient.standing = Standing::Settled(failed.clone());
            }
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.recipients
            .iter()
            .all(|recipient| matches!(recipient.standing, Standing::Settled(_)))
    }

    pub(super) fn write_commands(&mut self, output: &mut BytesMut) {
        while self.awaiting.len() < self.window {
            let (command, awaited) = match self.next {
                Next::Nothing => return,
                Next::Reset => {
                    self.next = Next::Mail;
                    ("RSET".to_owned(), Awaited::Reset)
                }
                Next::Mail => {
                    self.next = self.recipient_from(0);
                    let command = format!("MAIL FROM:<{}>{}", self.sender, self.parameters);
                    (command, Awaited::Mail)
                }
                Next::Recipient(index) => {
                    self.next = self.recipient_from(index + 1);
                    let command = format!("RCPT TO:<{}>", self.recipients[index].path);
                    (command, Awaited::Recipient(index))
                }
                Next::Data => {
                    self.next = Next::Nothing;
                    if !self.data_is_worthwhile() {
                        return;
                    }
                    ("DATA".to_owned(), Awaited::Data)
                }
            };
            output.extend_from_slice(command.as_bytes());
            output.extend_from_slice(b"\r\n");
            self.awaiting.push_back(awaited);
        }
    }

    /// The next recipient that is not settled, or DATA behind the last.
    fn recipient_from(&self, index: usize) -> Next {
        let rest = self.recipients.iter().enumerate().skip(index);
        rest.filter(|(_, recipient)| matches!(recipient.standing, Standing::Open))
            .map(|(index, _)| Next::Recipient(index))
            .next()
            .unwrap_or(Next::Data)
    }

    /// Whether somebody is accepted, or may still be by a reply that is on its way.
    fn data_is_worthwhile(&self) -> bool {
        self.mail != Mail::Refused && !self.is_settled()
    }

    pub(super) fn on_reply(
        &mut self,
        reply: Reply,
        nothing_behind: bool,
        output: &mut BytesMut,
    ) -> Progress {
        if reply.code() == 421 {
            self.goodbye(&reply);
            return Progress::Broken(reply);
        }
        if !self.take(&reply, output) {
            return Progress::Broken(out_of_place(&reply));
        }
        // A reply too many would be taken for the answer to what is sent next.
        if !nothing_behind && self.awaiting.is_empty() && !self.is_over() {
            let text = "The server broke the protocol: a reply too many";
            return Progress::Broken(local(451, 4, 5, 0, text));
        }
        if self.has_content() {
            return Progress::Going;
        }
        self.write_commands(output);
        if !self.awaiting.is_empty() {
            return Progress::Going;
        }
        self.judge.answered();
        Progress::Over
    }

    /// RFC 5321 §3.8: with 421 the server closes, whatever it was asked. As the answer to the message, or when
    /// everyone has an answer, it ends the connection only; before that it is a word about the server.
    fn goodbye(&mut self, reply: &Reply) {
        let is_final = self.phase() == Phase::FinalReply;
        match is_final || self.is_settled() {
            true => self.judge.answered(),
            false => self.judge.goodbye(reply),
        }
    }

    /// Takes a reply for what it answers; `false` if it cannot be an answer to that.
    fn take(&mut self, reply: &Reply, output: &mut BytesMut) -> bool {
        match self.awaiting.pop_front() {
            Some(Awaited::Reset) => reply.code() == 250,
            Some(Awaited::Mail) => self.mail_reply(reply),
            Some(Awaited::Recipient(index)) => self.recipient_reply(index, reply),
            Some(Awaited::Data) => self.data_reply(reply, output),
            Some(Awaited::Final) => self.final_reply(reply),
            Some(Awaited::Nothing) => {
                self.mail = Mail::Closed;
                true
            }
            None => false,
        }
    }

    /// Nothing is left to send once the replies that are awaited are in.
    fn is_over(&self) -> bool {
        match self.next {
            _ if self.has_content() => false,
            Next::Nothing => true,
            Next::Data => !self.data_is_worthwhile(),
            Next::Reset | Next::Mail | Next::Recipient(_) => false,
        }
    }

    fn mail_reply(&mut self, reply: &Reply) -> bool {
        match reply.code() {
            200..300 => self.mail = Mail::Open,
            400.. => {
                self.mail = Mail::Refused;
                self.next = Next::Nothing;
                let outcome = self.judge.mail(reply);
                self.settle_open(&outcome);
            }
            _ => return false,
        }
        true
    }

    fn recipient_reply(&mut self, index: usize, reply: &Reply) -> bool {
        if !matches!(self.recipients[index].standing, Standing::Open) {
            // MAIL was refused: that counts, and not what the server says to a RCPT that followed it.
            return true;
        }
        self.recipients[index].standing = match reply.code() {
            200..300 => {
                self.judge.recipient_answered();
                Standing::Accepted
            }
            552 if self.is_one_too_many(reply) => {
                Standing::Settled(RecipientOutcome::Deferred(reply.clone()))
            }
            400.. => Standing::Settled(self.judge.recipient(reply)),
            _ => return false,
        };
        true
    }

    /// RFC 5321 §4.5.3.1.10: 552 to RCPT may be an old way to say 452, too many recipients.
    fn is_one_too_many(&self, reply: &Reply) -> bool {
        let about_mailbox = reply.status().is_some_and(|status| status.subject == 2);
        let mut standings = self.recipients.iter().map(|recipient| &recipient.standing);
        !about_mailbox && standings.any(|standing| matches!(standing, Standing::Accepted))
    }

    fn data_reply(&mut self, reply: &Reply, output: &mut BytesMut) -> bool {
        match reply.code() {
            354 if self.is_settled() => {
                output.extend_from_slice(b".\r\n");
                self.awaiting.push_back(Awaited::Nothing);
            }
            354 => self.encoder = Some(Encoder::new(mem::take(&mut self.content))),
            400.. => {
                let outcome = self.judge.content(reply);
                self.settle_open(&outcome);
            }
            _ => return false,
        }
        true
    }

    fn final_reply(&mut self, reply: &Reply) -> bool {
        let outcome = match reply.code() {
            200..300 if self.transport == Transport::Whole => {
                RecipientOutcome::Delivered(reply.clone())
            }
            400.. => self.judge.content(reply),
            _ => return false,
        };
        self.mail = Mail::Closed;
        self.settle_open(&outcome);
        true
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

    /// The server answered before the content was over.
    pub(super) fn interrupted(&mut self, reply: &Reply) {
        match reply.code() {
            421 => self.goodbye(reply),
            400.. => {
                let outcome = self.judge.content(reply);
                self.settle_open(&outcome);
                self.judge.answered();
            }
            // Nothing positive can be meant for content that is not over.
            _ => {}
        }
    }

    /// Gives an outcome to everyone who has none.
    pub(super) fn settle_open(&mut self, outcome: &RecipientOutcome) {
        for recipient in &mut self.recipients {
            if !matches!(recipient.standing, Standing::Settled(_)) {
                recipient.standing = Standing::Settled(outcome.clone());
            }
        }
    }

    pub(super) fn outcome(&mut self, connection: Connection) -> TransactionOutcome {
        let recipients = mem::take(&mut self.recipients);
        TransactionOutcome {
            recipients: recipients.into_iter().map(Recipient::outcome).collect(),
            connection,
            end: self.judge.end(),
        }
    }
}

fn out_of_place(reply: &Reply) -> Reply {
    local(
        451,
        4,
        5,
        0,
        &format!("The server broke the protocol: {reply}"),
    )
}

/// Octets of the content as RFC 1870 §5 counts them, with the final CRLF that may be added.
fn wire_size(content: &[Bytes]) -> u64 {
    let octets: u64 = content.iter().map(|chunk| chunk.len() as u64).sum();
    let last = content.iter().rev().find_map(|chunk| chunk.last());
    match last {
        None | Some(b'\n') => octets,
        Some(_) => octets + 2,
    }
}
