//! MAIL, RCPT and DATA: the envelope of one message.

use std::mem;

use super::body::Body;
use super::{
    AuthOffer, Pending, ReceivedRecipient, Request, Session, State, Step, Verdict, replies,
};
use crate::command::MailParameters;
use crate::{BodyKind, ForwardPath, Reply, ReversePath};

/// What has been accepted so far.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) sender: ReversePath,
    pub(super) recipients: Vec<ReceivedRecipient>,
    pub(super) body: BodyKind,
    pub(super) smtputf8: bool,
    pub(super) declared_size: Option<u64>,
}

impl Session {
    pub(super) fn mail(&mut self, path: ReversePath, parameters: MailParameters) -> Option<Step> {
        if let Some(refusal) = self.mail_refusal(&path, parameters) {
            self.error(&refusal);
            return None;
        }
        self.state = State::Deciding(Pending::Sender(Transaction {
            sender: path.clone(),
            recipients: Vec::new(),
            body: parameters.body.unwrap_or_default(),
            smtputf8: parameters.smtputf8,
            declared_size: parameters.size,
        }));
        Some(Step::Request(Request::Sender(path)))
    }

    pub(super) fn sender_decided(&mut self, transaction: Transaction, verdict: Verdict) {
        match verdict {
            Verdict::Accept | Verdict::Queued(_) => {
                self.state = State::Envelope(transaction);
                self.reply(&replies::sender_ok());
            }
            Verdict::Refuse(reply) => self.refuse_as_junk(&reply),
        }
    }

    pub(super) fn rcpt(&mut self, path: ForwardPath) -> Option<Step> {
        let State::Envelope(transaction) = &self.state else {
            self.error(&replies::mail_first());
            return None;
        };
        if transaction.recipients.len() as u64 >= u64::from(self.config.recipients) {
            // No error: RFC 5321 §4.5.3.1.10 lets clients go on and send the rest later.
            self.reply(&replies::too_many_recipients());
            return None;
        }
        if !path.is_ascii() && !transaction.smtputf8 {
            self.error(&replies::needs_smtputf8());
            return None;
        }
        if let State::Envelope(transaction) = mem::replace(&mut self.state, State::Idle) {
            self.state = State::Deciding(Pending::Recipient(transaction, path.clone()));
        }
        Some(Step::Request(Request::Recipient(path)))
    }

    pub(super) fn recipient_decided(
        &mut self,
        mut transaction: Transaction,
        path: ForwardPath,
        verdict: Verdict,
    ) {
        match verdict {
            Verdict::Accept | Verdict::Queued(_) => {
                transaction.recipients.push(ReceivedRecipient { path });
                self.state = State::Envelope(transaction);
                self.reply(&replies::recipient_ok());
            }
            Verdict::Refuse(reply) => {
                // One good recipient shows that the client is no stranger who is trying doors.
                let stranger = transaction.recipients.is_empty();
                self.state = State::Envelope(transaction);
                if stranger {
                    self.refuse_as_junk(&reply);
                } else {
                    self.refuse(&reply);
                }
            }
        }
    }

    pub(super) fn data(&mut self) {
        match mem::replace(&mut self.state, State::Idle) {
            State::Envelope(transaction) if transaction.recipients.is_empty() => {
                self.state = State::Envelope(transaction);
                self.error(&replies::no_recipients());
            }
            State::Envelope(transaction) => {
                self.state = State::Receiving(transaction, Body::new(self.config.message_bytes));
                self.reply(&replies::go_ahead());
            }
            other => {
                self.state = other;
                self.error(&replies::mail_first());
            }
        }
    }

    /// The driver said no.
    pub(super) fn refuse(&mut self, reply: &Reply) {
        match reply.code() {
            421 => self.close(reply),
            _ => self.reply(reply),
        }
    }

    pub(super) fn refuse_as_junk(&mut self, reply: &Reply) {
        match reply.code() {
            421 => self.close(reply),
            _ => self.junk(reply),
        }
    }

    fn mail_refusal(&self, path: &ReversePath, parameters: MailParameters) -> Option<Reply> {
        if self.info.helo.is_empty() {
            Some(replies::greeting_first())
        } else if matches!(self.state, State::Envelope(_)) {
            Some(replies::in_transaction())
        } else if self.config.auth == AuthOffer::Required && self.info.user.is_none() {
            Some(replies::auth_required())
        } else if !self.info.esmtp && !parameters.is_empty() {
            Some(replies::parameters_need_ehlo())
        } else if !path.is_ascii() && !parameters.smtputf8 {
            Some(replies::needs_smtputf8())
        } else if parameters.size > Some(self.config.message_bytes) {
            Some(replies::too_big(self.config.message_bytes))
        } else {
            None
        }
    }
}
