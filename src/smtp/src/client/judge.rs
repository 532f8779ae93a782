//! What the replies of a transaction mean: for recipients, and for the server itself.
//!
//! A demand for a login or TLS (RFC 4954 §6, RFC 3207 §4) is about the server where nothing but us can have caused
//! it: as the answer to MAIL, or as the answer of a server that was shown no login to everyone. As the answer to one
//! recipient or one message it is that one's outcome, deferred: whoever may name recipients could otherwise stop
//! all mail with one address.
//!
//! # Throttles
//! What says that the server wants less or nothing for now is about it only where no single message, recipient or tenant can have caused
//! it. It holds the mail of all, and is charged to nobody. Anything else would let whoever names a recipient, or writes a message,
//! slow a server down for everybody. `docs/delivery.md` tells users the same, in the table of its throttles.
//!
//! | answer to | about the server | about the recipient or the message, deferred |
//! |---|---|---|
//! | MAIL | 421, 432, 454, 4.3.2, 4.7.28 | other 4yz |
//! | RCPT | 421 | other 4yz: the recipient's server may have said it |
//! | DATA, BDAT, the content before its end | 421; after a login 432 and 454 | other 4yz |
//! | the content | after a login 432 and 454 | other 4yz, 421 too: it ends the connection only |
//!
//! 432 and 454 are replies to AUTH (RFC 4954 §6): providers use them for what is about the account, behind the content too. 4.3.2 is
//! "system not accepting network messages" (RFC 3463 §3.4), 4.7.28 "mail flood detected" (the registry of RFC 5248): as an answer to
//! the content the flood may be one of a domain that is named in it.
//!
//! # Senders
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

    pub(super) fn posture(&self) -> Posture {
        self.posture
    }

    /// MAIL was accepted.
    pub(super) fn mail_accepted(&mut self) {
        self.sender = SenderVerdict::Accepted;
    }

    /// MAIL was refused: nobody has been named yet, so a demand can only be about us.
    pub(super) fn mail(&mut self, reply: &Reply) -> RecipientOutcome {
        if is_throttle(reply) {
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
                } else if reply.is_transient() {
                    self.sender = SenderVerdict::PutOff;
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
        if self.posture == Posture::LoggedIn && is_about_account(reply) {
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

/// Whether a reply to MAIL other than 421 says that the server wants less or nothing for now.
fn is_throttle(reply: &Reply) -> bool {
    const NOT_ACCEPTING: EnhancedStatus = EnhancedStatus::new(4, 3, 2);
    const FLOOD: EnhancedStatus = EnhancedStatus::new(4, 7, 28);
    let says = |status| reply.is_transient() && reply.status() == Some(status);
    is_about_account(reply) || says(NOT_ACCEPTING) || says(FLOOD)
}

/// Whether a reply is one to AUTH, said elsewhere.
fn is_about_account(reply: &Reply) -> bool {
    matches!(reply.code(), 432 | 454)
}

/// Whether a refusal of MAIL is about who sends, and not about the message: not about its size (552, 5.2.3, 5.3.4), its parameters (555, 5.5.z, and
/// 501 or 504 that say nothing of the address; 500 and 502 where their length or number is too much for the server), its priority (5.7.15, 5.7.16,
/// RFC 6710 §10), the time that it leaves (5.4.7, RFC 2852 §3), its content and characters (5.6.z) or the protection that it asks for (5.7.10, 5.7.30). No message brings about 503, whatever its
/// status says: the server wants something else of us first.
fn is_about_sender(reply: &Reply) -> bool {
    let status = reply.status();
    let place = status.map(|status| (status.subject, status.detail));
    let is_of_message = matches!(
        (reply.code(), place),
        (552 | 555, _)
            | (500 | 502, _)
            | (501 | 504, None)
            | (
                _,
                Some((2, 3) | (3, 4) | (4, 7) | (5, _) | (6, _) | (7, 10 | 15 | 16 | 30))
            )
    );
    reply.is_permanent() && (reply.code() == 503 || !is_of_message)
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
