//! Which upstream to use, and what is known about each. Pure.
//!
//! A failure before MAIL FROM says nothing about any message: it is a failure of the upstream (a
//! wrong password, a closed port, a bad certificate). It holds the mail, is reported, and is
//! probed again over one connection at a time with its own backoff; no message is charged with
//! an attempt. Upstreams are used in order of preference: a later one only while all before it
//! fail.

use std::time::Duration;

use postroad_config::Upstream;
use postroad_config::status::{FailureReason, UpstreamFailure, UpstreamState, UpstreamStatus};

use crate::backoff::Backoff;

/// Probes start fast, because most outages are a restart, and end at a pace that a mended upstream is noticed
/// within half a minute.
const PROBE_BACKOFF: Backoff = Backoff {
    initial: Duration::from_secs(1),
    maximum: Duration::from_secs(60),
};

/// All upstreams, in order of preference.
#[derive(Debug, Default)]
pub struct Upstreams {
    tracked: Vec<Tracked>,
}

#[derive(Debug)]
struct Tracked {
    name: String,
    /// Changes whenever anything about the upstream changes, its login included.
    fingerprint: String,
    connections_max: u32,
    /// Connections open or being opened.
    connections: u32,
    since_ms: u64,
    health: Health,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Health {
    Unknown,
    Ready,
    Failing {
        failure: UpstreamFailure,
        failures: u32,
        probe_ms: u64,
    },
}

/// What changed by a report; worth a log line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Works now and did not before, or was not known to.
    Recovered,
    /// Does not work now, and did before, or for another reason.
    Failed,
    /// As before.
    None,
}

impl Upstreams {
    /// Takes over a configuration. What is known of an upstream survives unless anything about it
    /// changed: then it is worth a try at once. Returns whether any upstream is new or changed.
    pub fn configure<'a>(
        &mut self,
        upstreams: impl Iterator<Item = (&'a Upstream, &'a str)>,
        now_ms: u64,
    ) -> bool {
        let mut before = std::mem::take(&mut self.tracked);
        let mut changed = false;
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
                tracked.expect_anew();
                changed = true;
            }
            tracked.connections_max = upstream.limits.connections;
            self.tracked.push(tracked);
        }
        changed
    }

    /// Where to open another connection now, by name; `None` if none should be opened.
    pub fn choose(&self, now_ms: u64) -> Option<&str> {
        for tracked in &self.tracked {
            match &tracked.health {
                Health::Ready if tracked.connections < tracked.connections_max => {
                    return Some(&tracked.name);
                }
                Health::Unknown if tracked.connections == 0 => return Some(&tracked.name),
                Health::Ready | Health::Unknown => return None,
                Health::Failing { probe_ms, .. }
                    if *probe_ms <= now_ms && tracked.connections == 0 =>
                {
                    return Some(&tracked.name);
                }
                Health::Failing { .. } => {}
            }
        }
        None
    }

    /// When [`Self::choose`] may next say something else by time alone.
    pub fn next_probe_ms(&self) -> Option<u64> {
        let probes = self
            .tracked
            .iter()
            .filter_map(|tracked| match &tracked.health {
                Health::Failing { probe_ms, .. } if tracked.connections == 0 => Some(*probe_ms),
                _ => None,
            });
        probes.min()
    }

    /// Whether every upstream has been tried and fails.
    pub fn all_failing(&self) -> Option<&UpstreamFailure> {
        let mut first = None;
        for tracked in &self.tracked {
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

    /// The upstream (as it was configured under `fingerprint`) got as far as MAIL FROM.
    pub fn ready(&mut self, name: &str, fingerprint: &str, now_ms: u64) -> Change {
        let Some(tracked) = self.find_as(name, fingerprint) else {
            return Change::None;
        };
        if tracked.health == Health::Ready {
            return Change::None;
        }
        tracked.health = Health::Ready;
        tracked.since_ms = now_ms;
        Change::Recovered
    }

    /// The upstream (as it was configured under `fingerprint`) failed before MAIL FROM. `random`
    /// is uniform in 0..1.
    pub fn failed(
        &mut self,
        name: &str,
        fingerprint: &str,
        failure: UpstreamFailure,
        now_ms: u64,
        random: f64,
    ) -> Change {
        let Some(tracked) = self.find_as(name, fingerprint) else {
            return Change::None;
        };
        let (change, failures) = match &tracked.health {
            Health::Failing {
                failure: known,
                failures,
                ..
            } => {
                let same = known.reason == failure.reason;
                (
                    if same { Change::None } else { Change::Failed },
                    failures.saturating_add(1),
                )
            }
            Health::Ready | Health::Unknown => {
                tracked.since_ms = now_ms;
                (Change::Failed, 1)
            }
        };
        let pause = PROBE_BACKOFF.pause(failures, random).as_millis();
        let probe_ms = now_ms.saturating_add(u64::try_from(pause).unwrap_or(u64::MAX));
        tracked.health = Health::Failing {
            failure,
            failures,
            probe_ms,
        };
        change
    }

    /// The state of each for the status, in order.
    pub fn status(&self) -> Vec<UpstreamStatus> {
        self.tracked.iter().map(Tracked::status).collect()
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
            connections: 0,
            since_ms: now_ms,
            health: Health::Unknown,
        }
    }

    /// The failure of a login that has just been changed is worth a try, but it is no news until it has been tried:
    /// the state stays, only the wait is over.
    fn expect_anew(&mut self) {
        if let Health::Failing {
            failures, probe_ms, ..
        } = &mut self.health
        {
            (*failures, *probe_ms) = (0, 0);
        } else {
            self.health = Health::Unknown;
        }
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
mod tests {
    use postroad_config::{UpstreamLimits, UpstreamTls};

    use super::*;

    fn upstream(name: &str) -> Upstream {
        Upstream {
            name: name.into(),
            host: "smtp.example.com".into(),
            port: 587,
            tls: UpstreamTls::Required,
            ca: None,
            auth: None,
            limits: UpstreamLimits {
                connections: 2,
                ..UpstreamLimits::default()
            },
        }
    }

    fn two() -> Upstreams {
        let mut upstreams = Upstreams::default();
        upstreams.configure(
            [(&upstream("a"), "1"), (&upstream("b"), "1")].into_iter(),
            0,
        );
        upstreams
    }

    fn refused() -> UpstreamFailure {
        failure(FailureReason::ConnectionRefused, "connection refused")
    }

    #[test]
    fn an_unknown_upstream_is_tried_with_one_connection() {
        let mut upstreams = two();
        assert_eq!(upstreams.choose(0), Some("a"));
        upstreams.opened("a");
        assert_eq!(upstreams.choose(0), None);
        assert_eq!(upstreams.ready("a", "1", 5), Change::Recovered);
        assert_eq!(upstreams.ready("a", "1", 6), Change::None);
        assert_eq!(upstreams.choose(0), Some("a"));
        upstreams.opened("a");
        assert_eq!(
            upstreams.choose(0),
            None,
            "never more connections than its limit"
        );
        upstreams.closed("a");
        assert_eq!(upstreams.choose(0), Some("a"));
    }

    #[test]
    fn the_next_upstream_serves_while_the_first_fails_and_the_first_is_probed() {
        let mut upstreams = two();
        upstreams.opened("a");
        assert_eq!(
            upstreams.failed("a", "1", refused(), 1000, 0.5),
            Change::Failed
        );
        upstreams.closed("a");
        assert_eq!(upstreams.choose(1000), Some("b"));
        upstreams.opened("b");
        upstreams.ready("b", "1", 1000);
        assert_eq!(upstreams.next_probe_ms(), Some(2000));
        assert_eq!(upstreams.choose(1999), Some("b"));
        assert_eq!(
            upstreams.choose(2000),
            Some("a"),
            "probe of the preferred one"
        );
        upstreams.opened("a");
        assert_eq!(upstreams.choose(2000), Some("b"), "one probe at a time");
        assert_eq!(
            upstreams.failed("a", "1", refused(), 2000, 0.5),
            Change::None
        );
        upstreams.closed("a");
        assert_eq!(upstreams.next_probe_ms(), Some(4000), "the pause doubles");
    }

    #[test]
    fn all_failing_names_the_first_reason_and_keeps_the_time_it_began() {
        let mut upstreams = two();
        assert_eq!(upstreams.all_failing(), None);
        upstreams.failed("a", "1", refused(), 7000, 0.5);
        assert_eq!(upstreams.all_failing(), None);
        upstreams.failed(
            "b",
            "1",
            failure(FailureReason::TlsFailed, "bad"),
            8000,
            0.5,
        );
        assert_eq!(upstreams.all_failing(), Some(&refused()));
        upstreams.failed("a", "1", refused(), 9000, 0.5);
        assert_eq!(upstreams.status()[0].since, 7);
        assert_eq!(upstreams.status()[0].failure, Some(refused()));
    }

    #[test]
    fn a_changed_login_is_tried_at_once_and_late_reports_of_the_old_one_do_not_count() {
        let mut upstreams = two();
        upstreams.failed("a", "1", refused(), 1000, 0.5);
        let changed = [(&upstream("a"), "2"), (&upstream("b"), "1")];
        assert!(upstreams.configure(changed.into_iter(), 1001));
        assert_eq!(upstreams.choose(1001), Some("a"));
        assert_eq!(
            upstreams.failed("a", "1", refused(), 1002, 0.5),
            Change::None
        );
        assert_eq!(upstreams.choose(1002), Some("a"));
        assert_eq!(
            upstreams.status()[0].state,
            UpstreamState::Failing,
            "not mended until seen"
        );
        assert!(!upstreams.configure(changed.into_iter(), 1003));
    }

    #[test]
    fn an_upstream_that_is_gone_is_forgotten() {
        let mut upstreams = two();
        upstreams.configure([(&upstream("b"), "1")].into_iter(), 1);
        assert_eq!(upstreams.status().len(), 1);
        assert_eq!(upstreams.ready("a", "1", 1), Change::None);
    }

    #[test]
    fn failure_texts_are_bounded() {
        assert_eq!(
            failure(FailureReason::Refused, "x".repeat(9999))
                .message
                .len(),
            400
        );
    }
}
