//! One upstream: its health, and how many connections it bears.

use std::time::Duration;

use postroad_config::Rate;
use postroad_config::status::{UpstreamFailure, UpstreamState, UpstreamStatus};

use super::senders::Senders;
use super::{CHECK_INTERVAL, Change, FailedStage};
use crate::backoff::{Backoff, jittered};
use crate::clock::{self, Moment};
use crate::rate::Pacer;
use crate::window::Window;

/// Probes start fast, because most outages are a restart, and end at a pace that a mended upstream is noticed
/// within a minute.
const PROBE_BACKOFF: Backoff = Backoff {
    initial: Duration::from_secs(1),
    maximum: Duration::from_secs(60),
};

/// What is known of an upstream.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) name: String,
    /// Changes whenever anything about the upstream changes, its login included and its limits apart.
    pub(super) fingerprint: String,
    pub(super) connections_max: u32,
    pub(super) rate: Option<Rate>,
    pub(super) pacer: Pacer,
    pub(super) window: Window,
    /// Whether mail waits for it alone: it is the first choice of a route.
    pub(super) is_first: bool,
    /// Connections open or being opened.
    pub(super) connections: u32,
    /// Those of them that were there when it failed last: they may hang, for minutes.
    before: u32,
    pub(super) since_ms: u64,
    pub(super) health: Health,
    /// Failures since a transaction was answered.
    pub(super) failures: u32,
    /// Before this no further connection is opened.
    pub(super) crowded_until_ms: u64,
    pub(super) senders: Senders,
    /// When it counts as idle for so long that a check is due.
    pub(super) idle_at_ms: u64,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Health {
    Unknown,
    Ready,
    Failing {
        failure: UpstreamFailure,
        stage: FailedStage,
        probe_ms: u64,
    },
}

impl Tracked {
    pub(super) fn new(name: &str, now_ms: u64) -> Self {
        Self {
            name: name.to_owned(),
            fingerprint: String::new(),
            connections_max: 1,
            rate: None,
            pacer: Pacer::default(),
            window: Window::default(),
            is_first: false,
            connections: 0,
            before: 0,
            since_ms: now_ms,
            health: Health::Unknown,
            failures: 0,
            crowded_until_ms: 0,
            senders: Senders::default(),
            idle_at_ms: 0,
        }
    }

    /// The failure of a login that has just been changed is worth a try, but it is no news until it has been tried:
    /// the state stays, only the wait is over, and a connection mends it.
    pub(super) fn expect_anew(&mut self, now_ms: u64) {
        (self.failures, self.crowded_until_ms, self.idle_at_ms) = (0, 0, 0);
        (self.window, self.senders) = (Window::default(), Senders::default());
        if let Health::Failing {
            stage, probe_ms, ..
        } = &mut self.health
        {
            (*stage, *probe_ms) = (FailedStage::Connecting, 0);
        } else {
            (self.health, self.since_ms) = (Health::Unknown, now_ms);
        }
    }

    pub(super) fn fails(&self) -> bool {
        matches!(self.health, Health::Failing { .. })
    }

    pub(super) fn bears_another(&self, now_ms: u64) -> bool {
        let may_go = self.turn_ms(now_ms) <= now_ms;
        let max = match self.crowded_until_ms <= now_ms {
            true => self.window.limit(self.connections_max),
            false => 1,
        };
        self.connections < max && may_go
    }

    /// Whether one connection may be opened to see whether it works again.
    pub(super) fn bears_probe(&self, now_ms: u64) -> bool {
        let most = self.before.saturating_add(1);
        let most = most.min(self.connections_max).max(1);
        self.connections < most && self.turn_ms(now_ms) <= now_ms
    }

    pub(super) fn closed(&mut self) {
        self.connections = self.connections.saturating_sub(1);
        // Which of them it was is not known: at worst two try beside each other.
        self.before = self.before.min(self.connections);
    }

    /// When it is the turn of the next message by its rate; not later than now if it is at once.
    pub(super) fn turn_ms(&self, now_ms: u64) -> u64 {
        let rate = self.rate;
        rate.map_or(now_ms, |rate| self.pacer.next_ms(rate, now_ms))
    }

    /// What its rate is kept by, if it has any.
    pub(super) fn paced(&mut self) -> Option<(&mut Pacer, Rate)> {
        self.rate.map(|rate| (&mut self.pacer, rate))
    }

    /// When a check is due while no connection is open. Mail waits for the first choice alone: what is behind it is
    /// worth knowing, but not worth a login every minute.
    pub(super) fn check_ms(&self) -> u64 {
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

    pub(super) fn tried(&mut self, at: Moment) {
        self.idle_at_ms = clock::after(at.now_ms, jittered(CHECK_INTERVAL, at.random));
    }

    pub(super) fn mended(&mut self, at: Moment) -> Change {
        if self.health == Health::Ready {
            return Change::None;
        }
        self.health = Health::Ready;
        self.since_ms = at.now_ms;
        Change::Recovered
    }

    /// One connection too many: the others go on, and the next is opened later.
    pub(super) fn crowded(&mut self, at: Moment) {
        if self.crowded_until_ms <= at.now_ms {
            self.window.crowded(self.connections);
            self.failures = self.failures.saturating_add(1);
            self.crowded_until_ms =
                clock::after(at.now_ms, PROBE_BACKOFF.pause(self.failures, at.random));
        }
    }

    pub(super) fn fail(
        &mut self,
        stage: FailedStage,
        failure: UpstreamFailure,
        at: Moment,
    ) -> Change {
        self.before = self.connections;
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
            clock::after(at.now_ms, PROBE_BACKOFF.pause(self.failures, at.random))
        };
        self.health = Health::Failing {
            failure,
            stage,
            probe_ms,
        };
        change
    }

    pub(super) fn status(&self) -> UpstreamStatus {
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
            sender_rejected: self.senders.status(),
        }
    }
}
