//! What the replies of a transaction mean: for recipients, and for the server itself.
//!
//! A demand for a login or TLS (RFC 4954 §6, RFC 3207 §4) is about the server where nothing but us can have caused
//! it: as the answer to MAIL, or as the answer of a server that was shown no login to everyone. As the answer to one
//! recipient or one message it is that one's outcome, deferred: whoever may name recipients could otherwise stop
//! all mail with one address.
//!
//! A server that has had enough for now does not always say 421: [`Step`] and [`is_throttle`] have what else means it. It is about
//! the server too, whoever is answered, and charged to nobody. RCPT decides about the others all the same: some of them may have been
//! accepted, and the content may be on its way.
//!
//! 5yz to MAIL is about the sender ([`SenderVerdict`]), unless it is about the message: its size, its form, or what is asked for it.

use super::{ConnectFailure, End, FailureKind, RecipientOutcome, SenderVerdict, Stage};
use crate::{EnhancedStatus, Reply};

/// Collects what the transaction says about the server.
#[derive(Debug)]
pub(super) struct Judge {
    posture: Posture,
    demanded: Demanded,
    sender: SenderVerdict,
    end: End,
}

/// What a reply answers that may be a word about the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// MAIL.
    Mail,
    /// RCPT.
    Recipient,
    /// DATA, BDAT or the content.
    Content,
}

/// What the server has been shown before the transaction, and so what a demand for more can mean.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Posture {
    /// It has accepted our login: a demand for one is about something else.
    LoggedIn,
    /// It knows nothing of us, and there is nothing to show it.
    Anonymous,
    /// It offers TLS, which the configuration does not ask for.
    StarttlsUnused,
}

/// Who was answered with a demand.
#[derive(Debug)]
enum Demanded {
    /// No RCPT has been answered yet.
    Unasked,
    /// Everyone so far.
    Everyone(ConnectFailure),
    /// Not everyone.
    NotEveryone,
}

impl Judge {
    pub(super) fn new(posture: Posture) -> Self {
        Self {
            posture,
            demanded: Demanded::Unasked,
            sender: SenderVerdict::Unknown,
            end: End::Unanswered,
        }
    }

    /// MAIL was accepted.
    pub(super) fn mail_accepted(&mut self) {
        self.sender = SenderVerdict::Accepted;
    }

    /// MAIL was refused: nobody has been named yet, so a demand can only be about us.
    pub(super) fn mail(&mut self, reply: &Reply) -> RecipientOutcome {
        if is_throttle(Step::Mail, reply) {
            return self.throttled(reply);
        }
        match self.demand(reply) {
            Some(failure) => {
                self.hold(failure);
                RecipientOutcome::Deferred(reply.clone())
            }
            None => {
                if is_about_sender(reply) {
                    self.sender = SenderVerdict::Rejected(reply.clone());
                }
                verdict(reply)
            }
        }
    }

    /// RCPT was accepted or answered in a way that is about this recipient alone.
    pub(super) fn recipient_answered(&mut self) {
        self.demanded = Demanded::NotEveryone;
    }

    /// RCPT was refused.
    pub(super) fn recipient(&mut self, reply: &Reply) -> RecipientOutcome {
        if is_throttle(Step::Recipient, reply) {
            self.recipient_answered();
            return self.throttled(reply);
        }
        let Some(failure) = self.demand(reply) else {
            self.recipient_answered();
            return verdict(reply);
        };
        if matches!(self.demanded, Demanded::Unasked) {
            self.demanded = Demanded::Everyone(failure);
        }
        RecipientOutcome::Deferred(reply.clone())
    }

    /// DATA or the content was refused. Recipients have been accepted by then: a demand of a server that has our login
    /// is about this message.
    pub(super) fn content(&mut self, reply: &Reply) -> RecipientOutcome {
        if is_throttle(Step::Content, reply) {
            return self.throttled(reply);
        }
        match self.demand(reply) {
            Some(failure) => {
                if self.posture != Posture::LoggedIn {
                    self.hold(failure);
                }
                RecipientOutcome::Deferred(reply.clone())
            }
            None => verdict(reply),
        }
    }

    /// The server has had enough for now.
    fn throttled(&mut self, reply: &Reply) -> RecipientOutcome {
        self.goodbye(reply);
        RecipientOutcome::Deferred(reply.clone())
    }

    /// 421 before the message was judged.
    pub(super) fn goodbye(&mut self, reply: &Reply) {
        self.hold(ConnectFailure {
            stage: Stage::Transaction,
            kind: FailureKind::Throttled,
            reply: Some(reply.clone()),
        });
    }

    /// The connection ended before the message was judged.
    pub(super) fn lost(&mut self, kind: FailureKind) {
        self.hold(ConnectFailure {
            stage: Stage::Transaction,
            kind,
            reply: None,
        });
    }

    /// The server has said all that it was asked for.
    pub(super) fn answered(&mut self) {
        if matches!(self.end, End::Held(_)) {
            return;
        }
        self.end = match &self.demanded {
            Demanded::Everyone(failure) if self.posture != Posture::LoggedIn => {
                End::Held(failure.clone())
            }
            Demanded::Everyone(_) | Demanded::NotEveryone | Demanded::Unasked => End::Answered,
        };
    }

    pub(super) fn end(&self) -> End {
        self.end.clone()
    }

    pub(super) fn sender(&self) -> SenderVerdict {
        self.sender.clone()
    }

    /// The first reason counts: what follows may be its consequence.
    fn hold(&mut self, failure: ConnectFailure) {
        if !matches!(self.end, End::Held(_)) {
            self.end = End::Held(failure);
        }
    }

    fn demand(&self, reply: &Reply) -> Option<ConnectFailure> {
        let (stage, kind) = match (reply.code(), self.posture) {
            (530, Posture::StarttlsUnused) | (538, _) => {
                (Stage::StartTls, FailureKind::TlsDemanded)
            }
            (530 | 534 | 535, _) => (Stage::Auth, FailureKind::AuthenticationFailed),
            _ => return None,
        };
        Some(ConnectFailure {
            stage,
            kind,
            reply: Some(reply.clone()),
        })
    }
}

/// Whether a reply other than 421 says that the server wants less or nothing for now. To RCPT 454 is something else: servers say it to
/// those for whom they do not relay.
pub(super) fn is_throttle(step: Step, reply: &Reply) -> bool {
    /// RFC 3463 §3.4: the system does not accept network messages.
    const NOT_ACCEPTING: EnhancedStatus = EnhancedStatus::new(4, 3, 2);
    /// The registry of RFC 5248: mail flood detected.
    const FLOOD: EnhancedStatus = EnhancedStatus::new(4, 7, 28);
    let by_code = match reply.code() {
        432 => true,
        454 => step != Step::Recipient,
        _ => false,
    };
    let says = |status| reply.status() == Some(status);
    let by_status = says(NOT_ACCEPTING) || says(FLOOD);
    reply.is_transient() && (by_code || by_status)
}

/// Whether a refusal of MAIL is about who sends, and not about the message: not about its size (552, 5.2.3, 5.3.4), its parameters (555, and
/// 501 or 504 that say nothing of the address), its content and characters (5.6.z) or the protection that it asks for (5.7.10, 5.7.30).
fn is_about_sender(reply: &Reply) -> bool {
    let status = reply.status();
    let place = status.map(|status| (status.subject, status.detail));
    let is_of_message = matches!(
        (reply.code(), place),
        (552 | 555, _)
            | (501 | 504, None | Some((5, _)))
            | (_, Some((2, 3) | (3, 4) | (6, _) | (7, 10 | 30)))
    );
    reply.is_permanent() && !is_of_message
}

/// What a 4yz or 5yz means for those whom it is about.
fn verdict(reply: &Reply) -> RecipientOutcome {
    match reply.is_permanent() {
        true => RecipientOutcome::Failed(reply.clone()),
        false => RecipientOutcome::Deferred(reply.clone()),
    }
}

#[cfg(test)]
mod tests;
