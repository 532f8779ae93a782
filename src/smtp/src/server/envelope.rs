//! MAIL, RCPT and DATA: the envelope of one message.

use std::mem;

use super::body::Body;
use super::{AuthOffer, Pending, Request, Sender, Session, State, Step, Verdict, replies};
use crate::command::MailArguments;
use crate::{BodyKind, DeliverBy, Extension, Hold, OnExpiry, Recipient, Reply, ReversePath};

/// What has been accepted so far.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) sender: Sender,
    pub(super) recipients: Vec<Recipient>,
}

impl Session {
    pub(super) fn mail(&mut self, path: ReversePath, arguments: MailArguments) -> Option<Step> {
        if let Some(refusal) = self.mail_refusal(&path, &arguments) {
            self.error(&refusal);
            return None;
        }
        let sender = Sender {
            path,
            parameters: arguments.parameters,
            declared_size: arguments.size,
            hold: arguments.hold,
        };
        self.state = State::Deciding(Pending::Sender(Transaction {
            sender: sender.clone(),
            recipients: Vec::new(),
        }));
        Some(Step::Request(Request::Sender(sender)))
    }

    pub(super) fn sender_decided(&mut self, mut transaction: Transaction, verdict: Verdict) {
        let reply = match verdict {
            Verdict::Accept => replies::sender_ok(),
            Verdict::Reprioritized(priority) => {
                transaction.sender.parameters.priority = priority;
                replies::reprioritized(priority)
            }
            Verdict::Refuse(reply) => return self.refuse_as_junk(&reply),
            Verdict::Queued(_) => return self.refuse_as_junk(&replies::misfit()),
        };
        self.state = State::Envelope(transaction);
        self.reply(&reply);
    }

    pub(super) fn rcpt(&mut self, recipient: Recipient) -> Option<Step> {
        if let Err(refusal) = self.check_rcpt(&recipient) {
            self.error(&refusal);
            return None;
        }
        let State::Envelope(transaction) = &self.state else {
            return None;
        };
        if transaction.recipients.len() as u64 >= u64::from(self.config.recipients) {
            // No error: RFC 5321 §4.5.3.1.10 lets clients go on and send the rest later.
            self.reply(&replies::too_many_recipients());
            return None;
        }
        if let State::Envelope(transaction) = mem::replace(&mut self.state, State::Idle) {
            self.state = State::Deciding(Pending::Recipient(transaction, recipient.clone()));
        }
        Some(Step::Request(Request::Recipient(recipient)))
    }

    fn check_rcpt(&self, recipient: &Recipient) -> Result<(), Reply> {
        let transaction = match &self.state {
            State::Envelope(transaction) => transaction,
            State::Chunked(..) => return Err(replies::chunks_have_begun()),
            _ => return Err(replies::mail_first()),
        };
        let dsn = self.config.offered(&self.info).contains(Extension::Dsn);
        if recipient.asks_for_dsn() && !self.info.esmtp {
            Err(replies::parameters_need_ehlo())
        } else if recipient.asks_for_dsn() && !dsn {
            Err(replies::parameter_not_offered())
        } else if !recipient.path.is_ascii() && !transaction.sender.parameters.smtputf8 {
            Err(replies::needs_smtputf8())
        } else {
            Ok(())
        }
    }

    pub(super) fn recipient_decided(
        &mut self,
        mut transaction: Transaction,
        recipient: Recipient,
        verdict: Verdict,
    ) {
        let refusal = match verdict {
            Verdict::Accept => {
                transaction.recipients.push(recipient);
                self.state = State::Envelope(transaction);
                return self.reply(&replies::recipient_ok());
            }
            Verdict::Refuse(reply) => reply,
            Verdict::Reprioritized(_) | Verdict::Queued(_) => replies::misfit(),
        };
        // One good recipient shows that the client is no stranger who is trying doors.
        let stranger = transaction.recipients.is_empty();
        self.state = State::Envelope(transaction);
        if stranger {
            self.refuse_as_junk(&refusal);
        } else {
            self.refuse(&refusal);
        }
    }

    pub(super) fn data(&mut self) {
        if let Some(refusal) = self.data_refusal() {
            self.error(&refusal);
        } else if let State::Envelope(transaction) = mem::replace(&mut self.state, State::Idle) {
            self.state = State::Receiving(transaction, Body::dotted(self.config.message_bytes));
            self.reply(&replies::go_ahead());
        }
    }

    fn data_refusal(&self) -> Option<Reply> {
        match &self.state {
            State::Envelope(Transaction { recipients, .. }) if recipients.is_empty() => {
                Some(replies::no_recipients())
            }
            State::Envelope(Transaction { sender, .. })
                if sender.parameters.body == BodyKind::Binary =>
            {
                Some(replies::binary_needs_chunks())
            }
            State::Envelope(_) => None,
            State::Chunked(..) => Some(replies::chunks_have_begun()),
            _ => Some(replies::mail_first()),
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

    fn mail_refusal(&mut self, path: &ReversePath, arguments: &MailArguments) -> Option<Reply> {
        if self.info.helo.is_empty() {
            Some(replies::greeting_first())
        } else if matches!(self.state, State::Envelope(_) | State::Chunked(..)) {
            Some(replies::in_transaction())
        } else if self.config.auth == AuthOffer::Required && self.info.user.is_none() {
            self.login_demands += 1;
            Some(replies::auth_required())
        } else if !self.info.esmtp && !arguments.is_empty() {
            Some(replies::parameters_need_ehlo())
        } else {
            self.argument_refusal(path, arguments)
        }
    }

    fn argument_refusal(&self, path: &ReversePath, arguments: &MailArguments) -> Option<Reply> {
        let parameters = &arguments.parameters;
        let missing = arguments.needs.less(self.config.offered(&self.info));
        if !missing.is_empty() {
            return Some(replies::parameter_not_offered());
        }
        if !path.is_ascii() && !parameters.smtputf8 {
            return Some(replies::needs_smtputf8());
        }
        if arguments.size > Some(self.config.message_bytes) {
            return Some(replies::too_big(self.config.message_bytes));
        }
        let min = self.config.deliver_by_min;
        if let Some(by) = parameters.deliver_by
            && by.on_expiry() == OnExpiry::Return
            && by.seconds() < i64::from(min)
        {
            return Some(replies::deliver_by_too_soon(min));
        }
        match (arguments.hold, self.config.future_release) {
            (None, _) => None,
            (Some(_), None) => Some(replies::parameter_not_offered()),
            (Some(hold), Some(bounds)) if !bounds.allows(hold) => Some(replies::hold_too_long()),
            (Some(hold), Some(_)) if is_held_too_long(hold, parameters.deliver_by) => {
                Some(replies::held_past_delivery())
            }
            (Some(_), Some(_)) => None,
        }
    }
}

/// Whether a message is held for longer than it may take (RFC 4865 §5.2.2). Of HOLDUNTIL only who has a clock can tell.
fn is_held_too_long(hold: Hold, deliver_by: Option<DeliverBy>) -> bool {
    match (hold, deliver_by) {
        (Hold::For(seconds), Some(by)) => i64::from(seconds) > by.seconds(),
        (Hold::Until(_), Some(_)) | (_, None) => false,
    }
}
