//! What each upstream says of senders.

use postroad_smtp::Reply;

use super::Upstreams;
use super::senders::{Intent, News, Pass, Patience, Senders};
use crate::clock::Moment;
use crate::room::Account;

impl Upstreams {
    /// Whether an upstream rejects any sender, so that [`Self::pass`] is worth a question.
    pub fn rejects_senders(&self, name: &str) -> bool {
        let mut tracked = self.tracked.iter();
        tracked.any(|tracked| tracked.name == name && !tracked.senders.is_empty())
    }

    /// Whether mail of this sender may be tried over an upstream now. If it is rejected and there is nothing to wait for, the first who asks
    /// to try is the one that does; [`Self::sender_tried`] is to follow.
    pub fn pass(
        &mut self,
        name: &str,
        sender: &str,
        intent: Intent,
        patience: Patience,
        now_ms: u64,
    ) -> Pass {
        let tracked = self.find(name);
        tracked.map_or(Pass::Go, |tracked| {
            tracked.senders.pass(sender, intent, patience, now_ms)
        })
    }

    /// Whoever was to try until this time has done so. If MAIL was not said, another may.
    pub fn sender_tried(&mut self, name: &str, sender: &str, until_ms: u64) {
        if let Some(tracked) = self.find(name) {
            tracked.senders.tried(sender, until_ms);
        }
    }

    /// The upstream has said nothing of the sender although MAIL was said: another may try soon.
    pub fn sender_unclear(&mut self, name: &str, sender: &str, now_ms: u64) {
        if let Some(tracked) = self.find(name) {
            tracked.senders.unclear(sender, now_ms);
        }
    }

    /// The upstream (as it was configured under `fingerprint`) rejects this sender, as mail of this account has shown. Says until when mail
    /// of it waits.
    pub fn sender_rejected(
        &mut self,
        name: &str,
        fingerprint: &str,
        (account, sender): (Account, &str),
        reply: &Reply,
        at: Moment,
    ) -> (u64, News) {
        match self.find_as(name, fingerprint) {
            Some(tracked) => tracked.senders.rejected(account, sender, reply, at),
            // As it is now, it may be asked at once.
            None => (at.now_ms, News::Old),
        }
    }

    /// The upstream (as it was configured under `fingerprint`) does not reject this sender, or not any more.
    pub fn sender_accepted(&mut self, name: &str, fingerprint: &str, sender: &str) -> News {
        let tracked = self.find_as(name, fingerprint);
        tracked.map_or(News::Old, |tracked| tracked.senders.accepted(sender))
    }

    /// Somebody wants mail to be tried that waits: of each rejected sender one message may be, at once.
    pub fn try_senders(&mut self) {
        for tracked in &mut self.tracked {
            tracked.senders.try_all();
        }
    }

    /// Mail waits no longer because of its sender.
    pub fn clear_senders(&mut self) {
        for tracked in &mut self.tracked {
            tracked.senders = Senders::default();
        }
    }

    /// Forgets rejected senders of whom no mail has come when it might.
    pub fn forget_senders(&mut self, now_ms: u64) {
        for tracked in &mut self.tracked {
            tracked.senders.forget(now_ms);
        }
    }
}
