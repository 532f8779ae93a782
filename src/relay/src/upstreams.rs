//! Which upstream to use, and what is known about each. Pure.
//!
//! A failure before MAIL FROM says nothing about any message: it is a failure of the upstream (a
//! wrong password, a closed port, a bad certificate). So is a 421 before the answer to the content, a throttle by another code, and an end of the
//! connection before the final dot. It holds the
//! mail, is reported, and is probed again over one connection at a time with its own backoff; no message is
//! charged with an attempt, unless it was there each time. Upstreams are used in order of preference: a later one
//! only while all before it fail.
//!
//! # Checks
//! What is known must not depend on whether mail comes: an upstream over which nothing has been tried for
//! [`CHECK_INTERVAL`] is due for a *check*, a connection that ends after the login. One that is new or changed is
//! due at once; the first choice, while it cannot be connected to, after its backoff. A connection for mail makes a
//! check unnecessary, and a check is made only where no connection is open.
//!
//! # What mends a failure
//! A failure to connect is mended by a connection. A failure in a transaction is not, while mail waits that can tell:
//! the upstream that says 421 to every MAIL lets everybody in. It is mended by a transaction that was answered. The
//! backoff begins anew with an answered transaction, or with a check when nothing waits. Connections that were there before the failure may hang for
//! as long as a server may take for its answer, ten minutes: nobody waits for them with the next try.
//!
//! # Crowds
//! An upstream that works and asks a further connection for less, or hangs up on it, has enough of them: half of them go
//! on, and the next is opened after a pause. How many it bears is found out by trying: [`crate::window`].
//!
//! # Senders
//! An upstream that rejects a sender works for all others: which it rejects is in [`senders`]. A change of the upstream forgets them.
//!
//! # Routes
//! What is known of an upstream is known to all routes that name it, and they share its connections and its rate.

mod rejected;
mod senders;
mod tracked;

use std::time::Duration;

use postroad_config::status::{FailureReason, UpstreamFailure, UpstreamStatus};
use postroad_config::{Target, Upstream};

use crate::clock::Moment;
use crate::window::Answer;

pub use senders::{Intent, News, Pass, Patience};
use tracked::{Health, Tracked};

/// How long nothing may be tried over an upstream before it is checked: providers do not notice a login in five
/// minutes, and nobody waits longer to see that one has stopped working.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// All upstreams, in order of preference.
#[derive(Debug, Default)]
pub struct Upstreams {
    tracked: Vec<Tracked>,
}

/// Where an upstream failed, and so what mends it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FailedStage {
    /// Before MAIL FROM.
    Connecting,
    /// At MAIL or later, before the message was judged.
    Sending,
}

/// What a configuration changed of what mail may have waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reconfigured {
    /// Nothing: upstreams are the same, gone, or new, as all are at the start.
    NothingKnown,
    /// An upstream that was known: its host, port, TLS or login. What was put off over it is worth a try.
    Known,
}

/// What changed by a report; worth a log line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Works now and did not before, or was not known to.
    Recovered,
    /// Does not work now, and did before, or for another reason.
    Failed,
    /// Works, but bears no more connections than it has.
    Crowded,
    /// Works as before, and bears more connections.
    Grown,
    /// As before.
    None,
}

/// Whether mail is queued, due or not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Backlog {
    /// Nothing is.
    Empty,
    /// Some is, and will show whether the upstream takes it.
    Waiting,
}

impl Upstreams {
    /// Takes over a configuration. What is known of an upstream survives unless anything about it
    /// but its limits changed: then it is worth a try at once. `targets` are all that mail goes to.
    pub fn configure<'a>(
        &mut self,
        upstreams: impl Iterator<Item = (&'a Upstream, &'a str)>,
        targets: &[&Target],
        now_ms: u64,
    ) -> Reconfigured {
        let mut before = std::mem::take(&mut self.tracked);
        let mut reconfigured = Reconfigured::NothingKnown;
        for (upstream, fingerprint) in upstreams {
            let known = before
                .iter()
                .position(|tracked| tracked.name == upstream.name);
            let mut tracked = known.map_or_else(
                || Tracked::new(&upstream.name, now_ms),
                |index| before.swap_remove(index),
            );
            if tracked.fingerprint != fingerprint {
                fingerprint.clone_into(&mut tracked.fingerprint);
                tracked.expect_anew(now_ms);
                if known.is_some() {
                    reconfigured = Reconfigured::Known;
                }
            }
            tracked.connections_max = upstream.limits.connections;
            tracked.rate = upstream.limits.rate;
            tracked.is_first = false;
            self.tracked.push(tracked);
        }
        for target in targets {
            let first = self.of(target).next().map(|first| first.name.clone());
            if let Some(first) = first.and_then(|name| self.find(&name)) {
                first.is_first = true;
            }
        }
        reconfigured
    }

    /// Whether mail of a target may go over an upstream: all before it fail. A connection to a later one ends after the message
    /// under way once an earlier one is back.
    pub fn is_preferred(&self, target: &Target, name: &str) -> bool {
        let mut before = self.of(target).take_while(|one| one.name != name);
        before.all(|one| matches!(one.health, Health::Failing { .. }))
    }

    /// Where to open another connection for mail of a target now, by name; `None` if none should be opened.
    pub fn choose<'a>(&'a self, target: &'a Target, now_ms: u64) -> Option<&'a str> {
        for tracked in self.of(target) {
            match &tracked.health {
                Health::Ready if tracked.bears_another(now_ms) => return Some(&tracked.name),
                Health::Unknown if tracked.connections == 0 => return Some(&tracked.name),
                Health::Ready | Health::Unknown => return None,
                Health::Failing { probe_ms, .. }
                    if *probe_ms <= now_ms && tracked.bears_probe(now_ms) =>
                {
                    return Some(&tracked.name);
                }
                Health::Failing { .. } => {}
            }
        }
        None
    }

    /// An upstream that is due for a check, by name.
    pub fn choose_check(&self, now_ms: u64) -> Option<&str> {
        let mut tracked = self.tracked.iter();
        let due = tracked.find(|tracked| tracked.connections == 0 && tracked.check_ms() <= now_ms);
        due.map(|tracked| tracked.name.as_str())
    }

    /// When [`Self::choose`] or [`Self::choose_check`] may next say something else by time alone.
    pub fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let times = self.tracked.iter().flat_map(|tracked| {
            let probe_ms = match &tracked.health {
                Health::Failing { probe_ms, .. } => *probe_ms,
                Health::Ready | Health::Unknown => tracked.crowded_until_ms,
            };
            [probe_ms, tracked.check_ms(), tracked.turn_ms(now_ms)]
        });
        // What is past waits for something else: a connection that ends, or mail that comes.
        times.filter(|time_ms| *time_ms > now_ms).min()
    }

    /// Whether an upstream fails, as far as is known.
    pub fn fails(&self, name: &str) -> bool {
        let mut tracked = self.tracked.iter();
        tracked.any(|one| one.name == name && one.fails())
    }

    /// Whether every upstream of a target has been tried and fails.
    pub fn all_failing<'a>(&'a self, target: &'a Target) -> Option<&'a UpstreamFailure> {
        let mut first = None;
        for tracked in self.of(target) {
            match &tracked.health {
                Health::Failing { failure, .. } => first = first.or(Some(failure)),
                Health::Ready | Health::Unknown => return None,
            }
        }
        first
    }

    /// The upstream whose rate is all that keeps so many messages of a target; `None` if there is none, or not for longer than moments.
    pub fn held_up_by<'a>(
        &'a self,
        target: &'a Target,
        messages: u32,
        now_ms: u64,
    ) -> Option<&'a str> {
        let mut works = self.of(target).filter(|tracked| !tracked.fails());
        let tracked = works.next()?;
        let rate = tracked.rate?;
        let held_up = tracked.pacer.holds_up(rate, messages, now_ms);
        held_up.then_some(&*tracked.name)
    }

    /// A connection is being opened.
    pub fn opened(&mut self, name: &str) {
        if let Some(tracked) = self.find(name) {
            tracked.connections += 1;
        }
    }

    /// A connection has ended, or was not to be had.
    pub fn closed(&mut self, name: &str) {
        if let Some(tracked) = self.find(name) {
            tracked.closed();
        }
    }

    /// The upstream (as it was configured under `fingerprint`) let a connection get ready for MAIL FROM.
    pub fn connected(
        &mut self,
        name: &str,
        fingerprint: &str,
        backlog: Backlog,
        at: Moment,
    ) -> Change {
        let Some(tracked) = self.find_as(name, fingerprint) else {
            return Change::None;
        };
        let was_idle = tracked.idle_at_ms <= at.now_ms;
        tracked.tried(at);
        if was_idle && backlog == Backlog::Empty {
            tracked.failures = 0;
        }
        match &tracked.health {
            Health::Failing {
                stage: FailedStage::Sending,
                ..
            } if backlog == Backlog::Waiting => Change::None,
            _ => tracked.mended(at),
        }
    }

    /// The upstream (as it was configured under `fingerprint`) has answered a transaction, whatever the answer.
    pub fn answered(
        &mut self,
        name: &str,
        fingerprint: &str,
        answer: Answer,
        at: Moment,
    ) -> Change {
        let Some(tracked) = self.find_as(name, fingerprint) else {
            return Change::None;
        };
        tracked.tried(at);
        tracked.failures = 0;
        let most = tracked.connections_max;
        let before = tracked.window.limit(most);
        tracked.window.answered(answer, tracked.connections, most);
        match tracked.mended(at) {
            Change::None if tracked.window.limit(most) > before => Change::Grown,
            change => change,
        }
    }

    /// As [`Pacer::turn`](crate::rate::Pacer::turn), of the rate of an upstream.
    ///
    /// # Errors
    /// When one may be had, in milliseconds since the epoch: later than now.
    pub fn turn(&mut self, name: &str, now_ms: u64) -> Result<(), u64> {
        let paced = self.find(name).and_then(Tracked::paced);
        paced.map_or(Ok(()), |(pacer, rate)| pacer.turn(rate, now_ms))
    }

    /// As [`Pacer::go`](crate::rate::Pacer::go), of the rate of an upstream.
    ///
    /// # Errors
    /// When one may go, in milliseconds since the epoch: later than now.
    pub fn go(&mut self, name: &str, now_ms: u64) -> Result<(), u64> {
        let paced = self.find(name).and_then(Tracked::paced);
        paced.map_or(Ok(()), |(pacer, rate)| pacer.go(rate, now_ms))
    }

    /// Gives back a turn that was not needed.
    pub fn give_back(&mut self, name: &str) {
        if let Some((pacer, rate)) = self.find(name).and_then(Tracked::paced) {
            pacer.give_back(rate);
        }
    }

    /// The upstream (as it was configured under `fingerprint`) failed, for a reason that is not one message's.
    pub fn failed(
        &mut self,
        name: &str,
        fingerprint: &str,
        stage: FailedStage,
        failure: UpstreamFailure,
        at: Moment,
    ) -> Change {
        let Some(tracked) = self.find_as(name, fingerprint) else {
            return Change::None;
        };
        tracked.tried(at);
        let asks_for_less = match failure.reason {
            FailureReason::Throttled => true,
            // It let us in and hung up: some servers say it so.
            FailureReason::ProtocolError => stage == FailedStage::Sending,
            _ => false,
        };
        match tracked.health {
            Health::Ready if tracked.connections > 1 && asks_for_less => {
                tracked.crowded(at);
                Change::Crowded
            }
            _ => tracked.fail(stage, failure, at),
        }
    }

    /// The state of each for the status, in order.
    pub fn status(&self) -> Vec<UpstreamStatus> {
        self.tracked.iter().map(Tracked::status).collect()
    }

    /// The upstreams of a target, in order.
    fn of<'a>(&'a self, target: &'a Target) -> impl Iterator<Item = &'a Tracked> {
        let names: &[String] = match target {
            Target::Upstreams(names) => names,
            Target::Direct => &[],
        };
        let is_all = *target == Target::default();
        let all = self.tracked.iter().filter(move |_| is_all);
        let named = names.iter().filter_map(|name| {
            let mut tracked = self.tracked.iter();
            tracked.find(|tracked| tracked.name == *name)
        });
        all.chain(named)
    }

    fn find(&mut self, name: &str) -> Option<&mut Tracked> {
        self.tracked.iter_mut().find(|tracked| tracked.name == name)
    }

    /// A report about an upstream that has been reconfigured since says nothing about it as it is now.
    fn find_as(&mut self, name: &str, fingerprint: &str) -> Option<&mut Tracked> {
        self.find(name)
            .filter(|tracked| tracked.fingerprint == fingerprint)
    }
}

/// Makes a failure for the status, its text bounded.
pub fn failure(reason: FailureReason, message: impl Into<String>) -> UpstreamFailure {
    /// A condition's message is read in a terminal.
    const MESSAGE_CHARS_MAX: usize = 400;
    let message: String = message.into();
    UpstreamFailure {
        reason,
        message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
    }
}

#[cfg(test)]
mod tests;
