//! What is known of a domain to which mail goes directly: whether it works, and how many connections it bears.

use std::sync::Arc;

use postroad_config::Rate;
use postroad_config::status::{FailureReason, UpstreamFailure};

use crate::backoff::Backoff;
use crate::clock::{self, Moment};
use crate::rate::Pacer;
use crate::window::{Answer, Window};

/// Pause before another connection once a destination has asked for less, in milliseconds.
const CROWD_PAUSE_MS: u64 = 5_000;

/// What each domain is given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SiteLimits {
    /// Most connections at once.
    pub connections: u32,
    /// Most messages in a time.
    pub rate: Option<Rate>,
    /// The pauses between attempts while it does not work.
    pub backoff: Backoff,
}

impl Default for SiteLimits {
    fn default() -> Self {
        Self {
            connections: 1,
            rate: None,
            backoff: Backoff {
                initial: std::time::Duration::from_secs(60),
                maximum: std::time::Duration::from_secs(3600),
            },
        }
    }
}

/// Whether a destination has shown that it works. The index of its count and ring.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Standing {
    /// The last transaction was answered.
    Proven = 0,
    /// Nothing is known yet.
    Fresh = 1,
    /// The last attempt failed.
    Failing = 2,
}

/// What a failure was taken for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The destination does not work.
    Fails,
    /// It works, and has enough connections.
    Crowded,
}

/// Whether another connection may be opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Bears {
    Another,
    /// Not before this time, in milliseconds since the epoch.
    After(u64),
    Enough,
}

/// What is known of a destination.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) standing: Standing,
    window: Window,
    pacer: Pacer,
    /// Open or being opened.
    pub(super) connections: u32,
    /// Those of them that were there when it failed last: they may hang, for minutes, and are not waited for with the next try.
    before: u32,
    /// Those of them that have not taken their first message.
    pub(super) opening: u32,
    /// Those that wait for work.
    pub(super) idle: u32,
    /// In a row.
    failures: u32,
    /// Before this no further connection.
    resume_ms: u64,
    /// While it fails.
    pub(super) failure: Option<Arc<UpstreamFailure>>,
    /// What the last transaction came to that put mail off. A domain has none while it fails: there is one text at a time. Of routes, which are few,
    /// it is not known at once.
    pub(super) answer: Option<Arc<str>>,
    /// When it was last in use.
    pub(super) used_ms: u64,
}

impl Site {
    pub(super) fn new(standing: Standing) -> Self {
        Self {
            standing,
            window: Window::default(),
            pacer: Pacer::default(),
            connections: 0,
            before: 0,
            opening: 0,
            idle: 0,
            failures: 0,
            resume_ms: 0,
            failure: None,
            answer: None,
            used_ms: 0,
        }
    }

    /// Whether another connection may be opened, if there is work for it. What has not shown that it works is tried with one.
    pub(super) fn bears(&self, limits: &SiteLimits, now_ms: u64) -> Bears {
        let most = match self.standing {
            Standing::Proven => self.window.limit(limits.connections),
            Standing::Fresh => 1,
            Standing::Failing => self.before.saturating_add(1).min(limits.connections).max(1),
        };
        if self.connections >= most {
            return Bears::Enough;
        }
        let rate_ms = limits.rate.map(|rate| self.pacer.next_ms(rate, now_ms));
        let next_ms = self.resume_ms.max(rate_ms.unwrap_or(0));
        match next_ms > now_ms {
            true => Bears::After(next_ms),
            false => Bears::Another,
        }
    }

    /// As [`Pacer::turn`].
    pub(super) fn turn(&mut self, limits: &SiteLimits, now_ms: u64) -> Result<(), u64> {
        let rate = limits.rate;
        rate.map_or(Ok(()), |rate| self.pacer.turn(rate, now_ms))
    }

    /// As [`Pacer::go`].
    pub(super) fn go(&mut self, limits: &SiteLimits, now_ms: u64) -> Result<(), u64> {
        let rate = limits.rate;
        rate.map_or(Ok(()), |rate| self.pacer.go(rate, now_ms))
    }

    /// As [`Pacer::holds_up`].
    pub(super) fn is_held_up(&self, limits: &SiteLimits, messages: u32, now_ms: u64) -> bool {
        let rate = limits.rate;
        rate.is_some_and(|rate| self.pacer.holds_up(rate, messages, now_ms))
    }

    /// As [`Pacer::give_back`].
    pub(super) fn give_back(&mut self, limits: &SiteLimits) {
        if let Some(rate) = limits.rate {
            self.pacer.give_back(rate);
        }
    }

    /// A transaction was answered, whatever the answer.
    pub(super) fn answered(&mut self, answer: Answer, limits: &SiteLimits) {
        self.window
            .answered(answer, self.connections, limits.connections);
        self.standing = Standing::Proven;
        (self.failures, self.failure) = (0, None);
    }

    /// It does not work, or has enough.
    pub(super) fn failed(
        &mut self,
        failure: UpstreamFailure,
        limits: &SiteLimits,
        at: Moment,
    ) -> Verdict {
        let asks_for_less = matches!(
            failure.reason,
            FailureReason::Throttled | FailureReason::ProtocolError
        );
        if self.standing == Standing::Proven && self.connections > 1 && asks_for_less {
            // Connections that are turned away together are one crowd.
            if self.resume_ms <= at.now_ms {
                self.window.crowded(self.connections);
                self.resume_ms = at.now_ms.saturating_add(CROWD_PAUSE_MS);
            }
            return Verdict::Crowded;
        }
        // Connections that fail together are one failure.
        if self.standing != Standing::Failing || self.resume_ms <= at.now_ms {
            self.failures = self.failures.saturating_add(1);
            let pause = limits.backoff.pause(self.failures, at.random);
            self.resume_ms = clock::after(at.now_ms, pause);
        }
        self.standing = Standing::Failing;
        self.before = self.connections;
        self.window = Window::default();
        (self.failure, self.answer) = (Some(Arc::new(failure)), None);
        Verdict::Fails
    }

    /// A connection has ended.
    pub(super) fn closed(&mut self) {
        self.connections = self.connections.saturating_sub(1);
        // Which of them it was is not known: at worst two try beside each other.
        self.before = self.before.min(self.connections);
    }

    /// Something about delivery has changed: a try is worth it at once.
    pub(super) fn expect_anew(&mut self) {
        (self.failures, self.resume_ms) = (0, 0);
    }
}
