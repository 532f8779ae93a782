//! Senders that an upstream rejects. Pure.
//!
//! Providers take mail only from senders that are known to them, and say so at MAIL. That is a mistake in somebody's configuration: the mail
//! of that sender waits, and everybody else's goes on. So that a thousand such messages are not a thousand refusals, which
//! providers count, one message is tried per pause; the pauses grow while it is rejected. When it is accepted, all of that sender's may go.
//! A *trial* that ends without a word about the sender is followed by another: at once if MAIL was not even said, because that message can never
//! be sent there, and soon otherwise. Mail that may not wait for a pause to end asks in it, one
//! message at a time too, if the last rejection is older than a quarter of an hour; otherwise that stands for it. It makes no pause longer.
//!
//! Senders are told apart as they are written. All of this is forgotten with the process, and costs one refusal to learn again. So many are
//! remembered; of more, the account that has most of them there loses one, so that nobody's inventions push out what others need.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use postroad_config::status::SenderRejected;
use postroad_smtp::Reply;

use crate::backoff::Backoff;
use crate::clock::{self, Moment};
use crate::room::Account;

/// After a quarter of an hour somebody may have verified the sender; after four hours nobody is at work on it.
const PAUSES: Backoff = Backoff {
    initial: Duration::from_secs(15 * 60),
    maximum: Duration::from_secs(4 * 3600),
};

/// No pause is longer, jitter included. What lies further ahead was reckoned before the clock was set back.
const PAUSE_MAX: Duration = Duration::from_secs(5 * 3600);

/// Senders per upstream, about a kilobyte each with the reply, which is cut. As many more at most as trials are under way: those are kept.
const SENDERS_MAX: usize = 1024;

/// So many the log names: whoever may send without a login may think of any number.
const NAMED_MAX: usize = 20;

/// Octets of a reply that are kept; most are one line.
const REPLY_MAX: usize = 500;

/// For so long others wait for the verdict of a trial; then another may begin. Most come within seconds. A server that hangs may take minutes to
/// let us in, and what MAIL was answered is known when the content is through.
const TRIAL_MS: u64 = 60_000;

/// Pause after a MAIL that was answered without a verdict, or not at all.
const AGAIN_MS: u64 = 5_000;

/// Nobody has come to try for so long: no mail of that sender waits any more.
const FORGOTTEN_AFTER_MS: u64 = 10 * 60_000;

/// The rejected senders of one upstream.
#[derive(Debug, Default)]
pub(super) struct Senders {
    rejected: HashMap<String, Rejected>,
}

/// One of them.
#[derive(Debug)]
struct Rejected {
    /// Whose mail showed it.
    account: Account,
    since_ms: u64,
    /// Rejections in a row, as far as they were a pause apart.
    times: u32,
    /// When the pause ends; 0 if there is none.
    until_ms: u64,
    /// When mail of it comes at the latest, if any waits.
    expected_ms: u64,
    /// When the trial that is under way ends at the latest; 0 if there is none.
    trial_ends_ms: u64,
    /// When it was rejected last, with this reply; `None` if somebody wants to see that again.
    asked_ms: Option<u64>,
    reply: Reply,
}

/// What mail waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Patience {
    /// The end of the pause.
    Pause,
    /// Only a verdict: of a trial that is under way, or one of late.
    Verdict,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Intent {
    /// To know.
    Look,
    /// To try, if it may be.
    Try,
}

/// Whether mail of a sender may be tried.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Pass {
    /// Yes.
    Go,
    /// Yes, and nobody else's until this time, in milliseconds since the epoch.
    Try(u64),
    /// Not before this time, in milliseconds since the epoch: the sender was rejected with this reply. Or somebody else tries, which may take
    /// as long.
    Wait(u64, Reply),
    /// No: the sender has just been rejected with this reply, and what may not wait would be too.
    Rejected(Reply),
}

/// Whether a report says something that was not known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum News {
    /// It begins a pause, or ends them.
    New,
    /// As before; or there are too many to name each.
    Old,
}

impl Senders {
    pub(super) fn is_empty(&self) -> bool {
        self.rejected.is_empty()
    }

    pub(super) fn pass(
        &mut self,
        sender: &str,
        intent: Intent,
        patience: Patience,
        now_ms: u64,
    ) -> Pass {
        let Some(known) = self.rejected.get_mut(sender) else {
            return Pass::Go;
        };
        if !lies_ahead(known.until_ms, now_ms) {
            known.until_ms = 0;
        }
        let until_ms = match patience {
            Patience::Pause => known.until_ms.max(known.trial_ends_ms),
            Patience::Verdict => known.trial_ends_ms,
        };
        if lies_ahead(until_ms, now_ms) {
            return Pass::Wait(until_ms, known.reply.clone());
        }
        if patience == Patience::Verdict && known.is_fresh(now_ms) {
            return Pass::Rejected(known.reply.clone());
        }
        if intent == Intent::Look {
            return Pass::Go;
        }
        known.trial_ends_ms = now_ms.saturating_add(TRIAL_MS);
        known.expected_ms = known.expected_ms.max(known.trial_ends_ms);
        Pass::Try(known.trial_ends_ms)
    }

    /// Ends the trial that lasts until this time, if nothing came of it.
    pub(super) fn tried(&mut self, sender: &str, until_ms: u64) {
        if let Some(known) = self.rejected.get_mut(sender)
            && known.trial_ends_ms == until_ms
        {
            known.trial_ends_ms = 0;
        }
    }

    /// MAIL of it was said, and no word about the sender came of it.
    pub(super) fn unclear(&mut self, sender: &str, now_ms: u64) {
        if let Some(known) = self.rejected.get_mut(sender) {
            known.until_ms = known.until_ms.max(now_ms.saturating_add(AGAIN_MS));
        }
    }

    /// Several messages of a sender may be under way when it is rejected: that is one rejection.
    pub(super) fn rejected(
        &mut self,
        account: Account,
        sender: &str,
        reply: &Reply,
        at: Moment,
    ) -> (u64, News) {
        let reply = cut(reply);
        if let Some(known) = self.rejected.get_mut(sender)
            && lies_ahead(known.until_ms, at.now_ms)
        {
            known.say(reply, at.now_ms);
            return (known.until_ms, News::Old);
        }
        if self.rejected.len() >= SENDERS_MAX && !self.rejected.contains_key(sender) {
            self.drop_one();
        }
        let known = self.rejected.entry(sender.to_owned());
        let known = known.or_insert_with(|| Rejected {
            account,
            since_ms: at.now_ms,
            times: 0,
            until_ms: 0,
            expected_ms: 0,
            trial_ends_ms: 0,
            asked_ms: None,
            reply: reply.clone(),
        });
        known.times = known.times.saturating_add(1);
        // Jitter makes no pause shorter than the first.
        let pause = PAUSES.pause(known.times, at.random).max(PAUSES.initial);
        known.until_ms = clock::after(at.now_ms, pause);
        known.expected_ms = known.until_ms;
        known.say(reply, at.now_ms);
        (known.until_ms, self.news())
    }

    pub(super) fn accepted(&mut self, sender: &str) -> News {
        let news = self.news();
        match self.rejected.remove(sender) {
            Some(_) => news,
            None => News::Old,
        }
    }

    /// Whoever wants to see a trial makes no pause longer by it.
    pub(super) fn try_all(&mut self) {
        for known in self.rejected.values_mut() {
            known.asked_ms = None;
            if known.until_ms > 0 {
                known.until_ms = 0;
                known.times = known.times.saturating_sub(1);
            }
        }
    }

    pub(super) fn forget(&mut self, now_ms: u64) {
        self.rejected
            .retain(|_, known| known.expected_ms.saturating_add(FORGOTTEN_AFTER_MS) > now_ms);
    }

    /// The one that has been rejected for the longest time, of a login if there is any, and how many there are. What the network names is
    /// anybody's invention.
    pub(super) fn status(&self) -> Option<SenderRejected> {
        let all = self.rejected.iter();
        let (sender, known) = all.min_by_key(|(sender, known)| {
            let is_networks = known.account == Account::Network;
            (is_networks, known.since_ms, *sender)
        })?;
        Some(SenderRejected {
            sender: sender.clone(),
            reply: known.reply.to_string(),
            senders: u64::try_from(self.rejected.len()).unwrap_or(u64::MAX),
        })
    }

    fn news(&self) -> News {
        match self.rejected.len() <= NAMED_MAX {
            true => News::New,
            false => News::Old,
        }
    }

    /// Of the account that has most: the one that was rejected least often, whose pause ends first.
    fn drop_one(&mut self) {
        let mut counts: HashMap<&Account, usize> = HashMap::new();
        for known in self.rejected.values() {
            *counts.entry(&known.account).or_default() += 1;
        }
        let all = self.rejected.iter();
        let waiting = all.filter(|(_, known)| known.trial_ends_ms == 0);
        let least = waiting.max_by_key(|(_, known)| {
            let count = counts.get(&known.account);
            (count, Reverse((known.times, known.until_ms)))
        });
        if let Some(sender) = least.map(|(sender, _)| sender.clone()) {
            self.rejected.remove(&sender);
        }
    }
}

impl Rejected {
    /// It was rejected with this reply, which ends the trial that is under way.
    fn say(&mut self, reply: Reply, now_ms: u64) {
        (self.trial_ends_ms, self.asked_ms, self.reply) = (0, Some(now_ms), reply);
    }

    /// Whether the reply is so young that the upstream would hardly say another.
    fn is_fresh(&self, now_ms: u64) -> bool {
        let age_ms = self.asked_ms.and_then(|at_ms| now_ms.checked_sub(at_ms));
        age_ms.is_some_and(|age_ms| age_ms < clock::millis(PAUSES.initial))
    }
}

/// Whether it is yet to come, and was reckoned by the clock as it is.
fn lies_ahead(until_ms: u64, now_ms: u64) -> bool {
    until_ms > now_ms && until_ms <= clock::after(now_ms, PAUSE_MAX)
}

fn cut(reply: &Reply) -> Reply {
    let mut text = reply.lines().join("\n");
    text.truncate(text.floor_char_boundary(REPLY_MAX));
    Reply::new(reply.code(), reply.status(), text)
}

#[cfg(test)]
mod tests;
