//! Senders that an upstream rejects. Pure.
//!
//! Providers take mail only from senders that are known to them, and say so at MAIL. That is a mistake in somebody's configuration: the mail
//! of that sender waits, and everybody else's goes on. So that a thousand such messages are not a thousand refusals, which
//! providers count, one message is tried per pause; the pauses grow while it is rejected. When it is accepted, all of that sender's may go.
//!
//! Senders are told apart as they are written. All of this is forgotten with the process, and costs one refusal to learn again.

use std::collections::HashMap;
use std::time::Duration;

use postroad_config::status::SenderRejected;
use postroad_smtp::Reply;

use crate::backoff::Backoff;
use crate::clock::{self, Moment};

/// After a quarter of an hour somebody may have verified the sender; after four hours nobody is at work on it.
const PAUSES: Backoff = Backoff {
    initial: Duration::from_secs(15 * 60),
    maximum: Duration::from_secs(4 * 3600),
};

/// Senders per upstream. About a kilobyte each with the reply, which is cut. The one whose turn comes first is forgotten first.
const SENDERS_MAX: usize = 1024;

/// Octets of a reply that are kept; most are one line.
const REPLY_MAX: usize = 500;

/// For how long whoever tries has not come to MAIL yet, or to its reply. Then another may.
const TRIAL_MS: u64 = 60_000;

/// For how long others wait meanwhile. Each is read from the disk before that is known, so that it is no shorter.
const MEANWHILE_MS: u64 = 5_000;

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
    since_ms: u64,
    /// Rejections in a row, as far as they were a pause apart.
    times: u32,
    until_ms: u64,
    /// When mail of it comes at the latest, if any waits.
    expected_ms: u64,
    trial: Trial,
    reply: Reply,
}

/// Whether somebody tries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Trial {
    Waits,
    UnderWay,
}

/// Whether mail of a sender may be tried.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Pass {
    /// Yes.
    Go,
    /// Not before this time, in milliseconds since the epoch: the sender was rejected with this reply.
    Rejected(u64, Reply),
    /// Somebody else is trying: this is known soon after this time, in milliseconds since the epoch.
    Meanwhile(u64),
}

/// Whether a report says something that was not known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum News {
    /// It begins a pause, or ends them.
    New,
    /// As before.
    Old,
}

impl Senders {
    pub(super) fn pass(&mut self, sender: &str, now_ms: u64) -> Pass {
        let Some(known) = self.rejected.get_mut(sender) else {
            return Pass::Go;
        };
        if known.until_ms <= now_ms {
            known.trial = Trial::UnderWay;
            known.until_ms = now_ms.saturating_add(TRIAL_MS);
            known.expected_ms = known.expected_ms.max(known.until_ms);
            return Pass::Go;
        }
        match known.trial {
            Trial::Waits => Pass::Rejected(known.until_ms, known.reply.clone()),
            Trial::UnderWay => Pass::Meanwhile(now_ms.saturating_add(MEANWHILE_MS)),
        }
    }

    /// Several messages of a sender may be under way when it is rejected: that is one rejection.
    pub(super) fn rejected(&mut self, sender: &str, reply: &Reply, at: Moment) -> (u64, News) {
        let reply = cut(reply);
        if let Some(known) = self.rejected.get_mut(sender)
            && known.trial == Trial::Waits
            && known.until_ms > at.now_ms
        {
            known.reply = reply;
            return (known.until_ms, News::Old);
        }
        if self.rejected.len() >= SENDERS_MAX && !self.rejected.contains_key(sender) {
            self.drop_one();
        }
        let known = self.rejected.entry(sender.to_owned());
        let known = known.or_insert_with(|| Rejected {
            since_ms: at.now_ms,
            times: 0,
            until_ms: 0,
            expected_ms: 0,
            trial: Trial::Waits,
            reply: reply.clone(),
        });
        known.times = known.times.saturating_add(1);
        // Jitter makes no pause shorter than the first.
        let pause = PAUSES.pause(known.times, at.random).max(PAUSES.initial);
        known.until_ms = clock::after(at.now_ms, pause);
        known.expected_ms = known.until_ms;
        (known.trial, known.reply) = (Trial::Waits, reply);
        (known.until_ms, News::New)
    }

    pub(super) fn accepted(&mut self, sender: &str) -> News {
        match self.rejected.remove(sender) {
            Some(_) => News::New,
            None => News::Old,
        }
    }

    pub(super) fn try_all(&mut self) {
        for known in self.rejected.values_mut() {
            if known.trial == Trial::Waits {
                known.until_ms = 0;
            }
        }
    }

    pub(super) fn forget(&mut self, now_ms: u64) {
        self.rejected
            .retain(|_, known| known.expected_ms.saturating_add(FORGOTTEN_AFTER_MS) > now_ms);
    }

    /// The one that has been rejected for the longest time, and how many there are.
    pub(super) fn status(&self) -> Option<SenderRejected> {
        let all = self.rejected.iter();
        let (sender, known) = all.min_by(|(a, x), (b, y)| (x.since_ms, a).cmp(&(y.since_ms, b)))?;
        Some(SenderRejected {
            sender: sender.clone(),
            reply: known.reply.to_string(),
            senders: u64::try_from(self.rejected.len()).unwrap_or(u64::MAX),
        })
    }

    fn drop_one(&mut self) {
        let all = self.rejected.iter();
        let first = all.min_by_key(|(_, known)| known.until_ms);
        if let Some(sender) = first.map(|(sender, _)| sender.clone()) {
            self.rejected.remove(&sender);
        }
    }
}

fn cut(reply: &Reply) -> Reply {
    let mut text = reply.lines().join("\n");
    text.truncate(text.floor_char_boundary(REPLY_MAX));
    Reply::new(reply.code(), reply.status(), text)
}

#[cfg(test)]
mod tests;
