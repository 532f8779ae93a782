//! One recipient of a transaction, and the replies that we give in the server's stead.

use super::RecipientOutcome;
use crate::reply::EnhancedStatus;
use crate::{self as smtp, Reply};

#[derive(Debug)]
pub(super) struct Recipient {
    pub(super) named: smtp::Recipient,
    pub(super) standing: Standing,
}

#[derive(Debug)]
pub(super) enum Standing {
    /// RCPT not sent or not answered.
    Open,
    /// RCPT answered with 2yz.
    Accepted,
    Settled(RecipientOutcome),
}

impl Recipient {
    pub(super) fn new(named: smtp::Recipient) -> Self {
        Self {
            named,
            standing: Standing::Open,
        }
    }

    pub(super) fn outcome(self) -> RecipientOutcome {
        match self.standing {
            Standing::Settled(outcome) => outcome,
            // Not reached: whoever ends an exchange settles it. Deferring is what loses no mail.
            Standing::Open | Standing::Accepted => {
                RecipientOutcome::Deferred(local(451, 4, 3, 0, "The transaction was not finished"))
            }
        }
    }
}

/// A reply of our own, for what the server did not or could not say.
pub(super) fn local(code: u16, class: u8, subject: u16, detail: u16, text: &str) -> Reply {
    Reply::new(code, EnhancedStatus::new(class, subject, detail), text)
}
