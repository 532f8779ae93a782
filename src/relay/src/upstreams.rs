//! Which upstream to use, and what is known about each. Pure.
//!
//! A failure before MAIL FROM says nothing about any message: it is a failure of the upstream (a
//! wrong password, a closed port, a bad certificate). So is a 421 before the answer to the content, and an end of the
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
//! backoff begins anew with an answered transaction, or with a check when nothing waits.
//!
//! # Crowds
//! An upstream that works and asks a further connection for less, or hangs up on it, has enough of them: half of them go
//! on, and the next is opened after a pause. How many it bears is found out by trying: [`crate::window`].
//!
//! # Routes
//! What is known of an upstream is known to all routes that name it, and they share its connections and its rate.

use std::time::Duration;

use postroad_config::status::{FailureReason, UpstreamFailure, UpstreamState, UpstreamStatus};
use postroad_config::{Rate, Target, Upstream};

use crate::backoff::{Backoff, jittered};
use crate::clock::Moment;
use crate::rate::Bucket;
use crate::window::Window;

/// Probes start fast, because most outages are a restart, and end at a pace that a mended upstream is noticed
/// within a minute.
const PROBE_BACKOFF: Backoff = Backoff {
    initial: Duration::from_secs(1),
    maximum: Duration::from_secs(60),
};

/// How long nothing may be tried over an upstream before it is checked: providers do not notice a login in five
/// minutes, and nobody waits longer to see that one has stopped working.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// All upstreams, in order of preference.
#[derive(Debug, Default)]
pub struct Upstreams {
    tracked: Vec<Tracked>,
}

#[derive(Debug)]
struct Tracked {
    name: String,
    /// Changes whenever anything about the upstream changes, its login included and its limits apart.
    fingerprint: String,
    connections_max: u32,
    rate: Option<Rate>,
    bucket: Bucket,
    window: Window,
    /// Whether mail waits for it alone: it is the first choice of a route.
    is_first: bool,
    /// Connections open or being opened.
    connections: u32,
    since_ms: u64,
    health: Health,
    /// Failures since a transaction was answered.
    failures: u32,
    /// Before this no further connection is opened.
    crowded_until_ms: u64,
    /// When it counts as idle for so long that a check is due.
    idle_at_ms: u64,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Health {
    Unknown,
    Ready,
    Failing {
        failure: UpstreamFailure,
        stage: FailedStage,
        probe_ms: u64,
    },
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
                    if *probe_ms <= now_ms
                        && tracked.connections == 0
                        && tracked.permit_ms(now_ms) <= now_ms =>
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
            [probe_ms, tracked.check_ms(), tracked.permit_ms(now_ms)]
        });
        // What is past waits for something else: a connection that ends, or mail that comes.
        times.filter(|time_ms| *time_ms > now_ms).min()
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

    /// A connection is being opened.
    pub fn opened(&mut self, name: &str) {
        if let Some(tracked) = self.find(name) {
            tracked.connections += 1;
        }
    }

    /// A connection has ended, or was not to be had.
    pub fn closed(&mut self, name: &str) {
        if let Some(tracked) = self.find(name) {
            tracked.connections = tracked.connections.saturating_sub(1);
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
    pub fn answered(&mut self, name: &str, fingerprint: &str, at: Moment) -> Change {
        let Some(tracked) = self.find_as(name, fingerprint) else {
            return Change::None;
        };
        tracked.tried(at);
        tracked.failures = 0;
        let most = tracked.connections_max;
        let before = tracked.window.limit(most);
        tracked.window.answered(tracked.connections, most);
        match tracked.mended(at) {
            Change::None if tracked.window.limit(most) > before => Change::Grown,
            change => change,
        }
    }

    /// Takes what one message over an upstream needs of its rate.
    ///
    /// # Errors
    /// When one may go, in milliseconds since the epoch: later than now.
    pub fn permit(&mut self, name: &str, now_ms: u64) -> Result<(), u64> {
        match self.find(name) {
            Some(Tracked {
                rate: Some(rate),
                bucket,
                ..
            }) => bucket.take(*rate, now_ms),
            _ => Ok(()),
        }
    }

    /// Gives back what was not needed.
    pub fn give_back(&mut self, name: &str) {
        if let Some(tracked) = self.find(name)
            && let Some(rate) = tracked.rate
        {
            tracked.bucket.give_back(rate);
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

impl Tracked {
    fn new(name: &str, now_ms: u64) -> Self {
        Self {
            name: name.to_owned(),
            fingerprint: String::new(),
            connections_max: 1,
            rate: None,
            bucket: Bucket::default(),
            window: Window::default(),
            is_first: false,
            connections: 0,
            since_ms: now_ms,
            health: Health::Unknown,
            failures: 0,
            crowded_until_ms: 0,
            idle_at_ms: 0,
        }
    }

    /// The failure of a login that has just been changed is worth a try, but it is no news until it has been tried:
    /// the state stays, only the wait is over, and a connection mends it.
    fn expect_anew(&mut self, now_ms: u64) {
        (self.failures, self.crowded_until_ms, self.idle_at_ms) = (0, 0, 0);
        self.window = Window::default();
        if let Health::Failing {
            stage, probe_ms, ..
        } = &mut self.health
        {
            (*stage, *probe_ms) = (FailedStage::Connecting, 0);
        } else {
            (self.health, self.since_ms) = (Health::Unknown, now_ms);
        }
    }

    fn bears_another(&self, now_ms: u64) -> bool {
        let may_go = self.permit_ms(now_ms) <= now_ms;
        let max = match self.crowded_until_ms <= now_ms {
            true => self.window.limit(self.connections_max),
            false => 1,
        };
        self.connections < max && may_go
    }

    /// When its rate lets the next message go; not later than now if it does at once.
    fn permit_ms(&self, now_ms: u64) -> u64 {
        let rate = self.rate;
        rate.map_or(now_ms, |rate| self.bucket.next_ms(rate, now_ms))
    }

    /// When a check is due while no connection is open. Mail waits for the first choice alone: what is behind it is
    /// worth knowing, but not worth a login every minute.
    fn check_ms(&self) -> u64 {
        match &self.health {
            Health::Unknown => 0,
            Health::Failing {
                stage: FailedStage::Connecting,
                probe_ms,
                ..
            } if self.is_first => *probe_ms,
            Health::Ready | Health::Failing { .. } => self.idle_at_ms,
        }
    }

    fn tried(&mut self, at: Moment) {
        self.idle_at_ms = after(at, jittered(CHECK_INTERVAL, at.random));
    }

    fn mended(&mut self, at: Moment) -> Change {
        if self.health == Health::Ready {
            return Change::None;
        }
        self.health = Health::Ready;
        self.since_ms = at.now_ms;
        Change::Recovered
    }

    /// One connection too many: the others go on, and the next is opened later.
    fn crowded(&mut self, at: Moment) {
        if self.crowded_until_ms <= at.now_ms {
            self.window.crowded(self.connections);
            self.failures = self.failures.saturating_add(1);
            self.crowded_until_ms = after(at, PROBE_BACKOFF.pause(self.failures, at.random));
        }
    }

    fn fail(&mut self, stage: FailedStage, failure: UpstreamFailure, at: Moment) -> Change {
        let (change, stage, pending_ms) = match &self.health {
            Health::Failing {
                failure: known,
                stage: known_stage,
                probe_ms,
            } => {
                let change = match known.reason == failure.reason {
                    true => Change::None,
                    false => Change::Failed,
                };
                // What could be connected to and did not take mail has to take some before it counts as mended.
                let stage = match *known_stage {
                    FailedStage::Sending => FailedStage::Sending,
                    FailedStage::Connecting => stage,
                };
                (change, stage, *probe_ms)
            }
            Health::Ready | Health::Unknown => {
                self.since_ms = at.now_ms;
                (Change::Failed, stage, 0)
            }
        };
        // Connections that fail together are one failure.
        let probe_ms = if pending_ms > at.now_ms {
            pending_ms
        } else {
            self.failures = self.failures.saturating_add(1);
            after(at, PROBE_BACKOFF.pause(self.failures, at.random))
        };
        self.health = Health::Failing {
            failure,
            stage,
            probe_ms,
        };
        change
    }

    fn status(&self) -> UpstreamStatus {
        let (state, failure) = match &self.health {
            Health::Unknown => (UpstreamState::Unknown, None),
            Health::Ready => (UpstreamState::Ready, None),
            Health::Failing { failure, .. } => (UpstreamState::Failing, Some(failure.clone())),
        };
        UpstreamStatus {
            name: self.name.clone(),
            state,
            since: i64::try_from(self.since_ms / 1000).unwrap_or(i64::MAX),
            failure,
        }
    }
}

fn after(at: Moment, pause: Duration) -> u64 {
    let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    at.now_ms.saturating_add(pause_ms)
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
