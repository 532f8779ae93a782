//! How often in a row each message was there when an upstream would take no mail. Pure.
//!
//! What holds all mail, 421, a throttle or a hang-up before a message was judged for one, is about the upstream, and the message is not charged.
//! But a message can bring it about (a scanner that dies of it, a sender that the upstream takes for a stranger), and
//! would then hold up all others again and again: so the count has a limit. It does not matter where an upstream throttles all
//! MAIL, and has taken no other mail since it began to.
//!
//! Which upstream it was is not remembered: what kills one may kill the next.

use std::collections::BTreeMap;

use postroad_spool::MessageId;

/// Twice may be chance: a restart, and one more. Past that the message is put off like any other.
const UNCHARGED_MAX: u32 = 2;

/// Messages that are remembered, about 60 bytes each; the oldest are forgotten first, and only get more patience.
const REMEMBERED_MAX: usize = 10_000;

/// The messages that were there, and have had no answer of their own since.
#[derive(Debug, Default)]
pub(super) struct Holds {
    all: BTreeMap<MessageId, Held>,
    turns: u64,
}

/// What is known of one message.
#[derive(Debug, Default)]
struct Held {
    count: u32,
    /// When it had its turn last, as a number that grows with each turn of any.
    turn: u64,
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
        if self.all.len() == REMEMBERED_MAX && !self.all.contains_key(&id) {
            self.all.pop_first();
        }
        let turn = self.next_turn();
        let held = self.all.entry(id).or_default();
        (held.count, held.turn) = (held.count.saturating_add(1), turn);
        match held.count {
            ..=UNCHARGED_MAX => Blame::Upstream,
            _ => Blame::Message,
        }
    }

    /// Whether it was this message's turn before when the upstream would take no mail.
    pub(super) fn has(&self, id: MessageId) -> bool {
        self.all.contains_key(&id)
    }

    /// Which of these messages is next: the one that had its turn the longest ago, or never. It has it now, whatever comes of it.
    pub(super) fn next(&mut self, ids: impl Iterator<Item = MessageId>) -> Option<usize> {
        let turn = |id: &MessageId| self.all.get(id).map(|held| held.turn);
        let (index, id) = ids.enumerate().min_by_key(|(_, id)| turn(id))?;
        let turn = self.next_turn();
        if let Some(held) = self.all.get_mut(&id) {
            held.turn = turn;
        }
        Some(index)
    }

    /// The message got an answer of its own, or is done.
    pub(super) fn forget(&mut self, id: MessageId) {
        self.all.remove(&id);
    }

    fn next_turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
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
    fn next_is_who_had_its_turn_the_longest_ago() {
        let ids = IdGenerator::new([0; 10]);
        let all: [_; 3] = std::array::from_fn(|_| ids.next(0));
        let mut holds = Holds::default();
        for index in [1, 2, 0, 1] {
            holds.count(all[index]);
        }
        let next = std::array::from_fn(|_| holds.next(all.into_iter()));
        assert_eq!(next, [2, 0, 1, 2].map(Some), "counted or not");
        holds.forget(all[1]);
        assert_eq!(holds.next(all.into_iter()), Some(1), "never");
        assert_eq!(holds.next(std::iter::empty()), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let ids = IdGenerator::new([0; 10]);
        let mut holds = Holds::default();
        for now_ms in 0..=REMEMBERED_MAX as u64 {
            holds.count(ids.next(now_ms));
        }
        assert_eq!(holds.all.len(), REMEMBERED_MAX);
        let oldest = IdGenerator::new([0; 10]).next(0);
        assert_eq!(holds.count(oldest), Blame::Upstream);
        assert_eq!(holds.count(oldest), Blame::Upstream);
        assert_eq!(
            holds.count(oldest),
            Blame::Message,
            "the one that counts is never the one that is forgotten"
        );
        assert_eq!(holds.all.len(), REMEMBERED_MAX);
    }
}
