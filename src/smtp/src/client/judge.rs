//! What the replies of a transaction mean: for recipients, and for the server itself.
//!
//! A demand for a login or TLS (RFC 4954 §6, RFC 3207 §4) is about the server where nothing but us can have caused
//! it: as the answer to MAIL, or as the answer of a server that was shown no login to everyone. As the answer to one
//! recipient or one message it is that one's outcome, deferred: whoever may name recipients could otherwise stop
//! all mail with one address.

use super::{ConnectFailure, End, FailureKind, RecipientOutcome, Stage};
use crate::Reply;

/// Collects what the transaction says about the server.
#[derive(Debug)]
pub(super) struct Judge {
    posture: Posture,
    demanded: Demanded,
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
            end: End::Unanswered,
        }
    }

    /// MAIL was refused: nobody has been named yet, so a demand can only be about us.
    pub(super) fn mail(&mut self, reply: &Reply) -> RecipientOutcome {
        match self.demand(reply) {
            Some(failure) => {
                self.hold(failure);
                RecipientOutcome::Deferred(reply.clone())
            }
            None => verdict(reply),
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

/// What a 4yz or 5yz means for those whom it is about.
fn verdict(reply: &Reply) -> RecipientOutcome {
    match reply.is_permanent() {
        true => RecipientOutcome::Failed(reply.clone()),
        false => RecipientOutcome::Deferred(reply.clone()),
    }
}
