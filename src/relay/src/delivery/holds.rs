//! How often in a row each message was there when an upstream would take no mail. Pure.
//!
//! What holds all mail, 421, a throttle or a hang-up before a message was judged for one, is about the upstream, and the message is not charged.
//! But a message can bring it about (a scanner that dies of it, a sender that the upstream takes for a stranger), and
//! would then hold up all others again and again: so the count has a limit. It does not matter where an upstream throttles all
//! MAIL, and has taken no other mail since it began to.

use std::collections::BTreeMap;

use postroad_spool::MessageId;

/// Twice may be chance: a restart, and one more. Past that the message is put off like any other.
const UNCHARGED_MAX: u32 = 2;

/// Messages that are remembered, about 50 bytes each; the oldest are forgotten first, and only get more patience.
const REMEMBERED_MAX: usize = 10_000;

/// The messages that were there, and have had no answer of their own since.
#[derive(Debug, Default)]
pub(super) struct Holds {
    counts: BTreeMap<MessageId, u32>,
}

/// Who answers for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Blame {
    /// The upstream alone.
    Upstream,
    /// The message has been there each time: it is put off.
    Message,
}

impl Holds {
    /// It was this message's turn when the upstream would take no mail.
    pub(super) fn count(&mut self, id: MessageId) -> Blame {
        if self.counts.len() == REMEMBERED_MAX && !self.counts.contains_key(&id) {
            self.counts.pop_first();
        }
        let count = self.counts.entry(id).or_default();
        *count = count.saturating_add(1);
        match *count {
            ..=UNCHARGED_MAX => Blame::Upstream,
            _ => Blame::Message,
        }
    }

    /// Whether it was this message's turn before when the upstream would take no mail.
    pub(super) fn has(&self, id: MessageId) -> bool {
        self.counts.contains_key(&id)
    }

    /// The message got an answer of its own, or is done.
    pub(super) fn forget(&mut self, id: MessageId) {
        self.counts.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use postroad_spool::IdGenerator;

    use super::*;

    #[test]
    fn the_third_in_a_row_is_the_messages_own() {
        let ids = IdGenerator::new([0; 10]);
        let (poison, other) = (ids.next(0), ids.next(0));
        let mut holds = Holds::default();
        assert_eq!(holds.count(poison), Blame::Upstream);
        assert_eq!(holds.count(other), Blame::Upstream);
        assert_eq!(holds.count(poison), Blame::Upstream);
        assert_eq!(holds.count(poison), Blame::Message);
        assert_eq!(holds.count(poison), Blame::Message);
        assert_eq!(holds.count(other), Blame::Upstream);
        holds.forget(poison);
        assert_eq!(holds.count(poison), Blame::Upstream);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let ids = IdGenerator::new([0; 10]);
        let mut holds = Holds::default();
        for now_ms in 0..=REMEMBERED_MAX as u64 {
            holds.count(ids.next(now_ms));
        }
        assert_eq!(holds.counts.len(), REMEMBERED_MAX);
        let oldest = IdGenerator::new([0; 10]).next(0);
        assert_eq!(holds.count(oldest), Blame::Upstream);
        assert_eq!(holds.count(oldest), Blame::Upstream);
        assert_eq!(
            holds.count(oldest),
            Blame::Message,
            "the one that counts is never the one that is forgotten"
        );
        assert_eq!(holds.counts.len(), REMEMBERED_MAX);
    }
}
