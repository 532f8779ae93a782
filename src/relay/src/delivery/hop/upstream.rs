//! An upstream as a connection knows it: what it learns there is told to all that send there.

use std::sync::Arc;

use postroad_config::Target;
use postroad_config::status::UpstreamFailure;
use postroad_smtp::Reply;

use crate::clock::{self, Moment};
use crate::context::{Context, Phase};
use crate::delivery::connect::{Connection, Rank};
use crate::delivery::{SharedUpstreams, announce};
use crate::live::LiveUpstream;
use crate::room::Account;
use crate::route::Key;
use crate::upstreams::{Backlog, Change, FailedStage, Intent, News, Pass, Patience};
use crate::window::Answer;

/// An upstream; the connection counts there until dropped, however the worker ends.
pub(in crate::delivery) struct UpstreamHop {
    pub(super) context: Context,
    pub(super) upstreams: SharedUpstreams,
    pub(super) upstream: Arc<LiveUpstream>,
}

impl UpstreamHop {
    /// For a connection that counts as open.
    pub(in crate::delivery) fn new(
        context: Context,
        upstreams: SharedUpstreams,
        upstream: Arc<LiveUpstream>,
    ) -> Self {
        Self {
            context,
            upstreams,
            upstream,
        }
    }

    /// Opens a connection as for mail, and ends it.
    pub(in crate::delivery) async fn check(self) {
        let opened = tokio::select! {
            biased;
            () = self.context.reached(Phase::Stopping) => return,
            opened = self.open() => opened,
        };
        match opened {
            Ok(connection) => {
                self.report_connected();
                connection.quit().await;
            }
            Err(failure) => self.report_failed(FailedStage::Connecting, &failure),
        }
    }

    pub(super) async fn open(&self) -> Result<Connection, UpstreamFailure> {
        let hostname = self.context.live().config.hostname.clone();
        Connection::open(&self.upstream, &hostname).await
    }

    pub(super) fn report_connected(&self) {
        let backlog = match self.context.queue.totals().0.messages {
            0 => Backlog::Empty,
            _ => Backlog::Waiting,
        };
        let at = Moment::now();
        let mut upstreams = self.upstreams.lock();
        let change = upstreams.connected(self.name(), &self.upstream.fingerprint, backlog, at);
        announce(self.name(), change, None);
        drop(upstreams);
        // Mail may have come meanwhile, and waits for what has just become known.
        self.context.queue.nudge();
    }

    /// Whether it has failed, and has taken no mail since.
    pub(in crate::delivery) fn fails(&self) -> bool {
        self.upstreams.lock().fails(self.name())
    }

    pub(super) fn report_failed(&self, stage: FailedStage, failure: &UpstreamFailure) {
        let (at, fingerprint) = (Moment::now(), &self.upstream.fingerprint);
        let mut upstreams = self.upstreams.lock();
        let change = upstreams.failed(self.name(), fingerprint, stage, failure.clone(), at);
        announce(self.name(), change, Some(failure));
    }

    pub(super) fn report_answered(&self, answer: Answer) {
        let (at, fingerprint) = (Moment::now(), &self.upstream.fingerprint);
        let mut upstreams = self.upstreams.lock();
        let change = upstreams.answered(self.name(), fingerprint, answer, at);
        announce(self.name(), change, None);
        drop(upstreams);
        if change != Change::None {
            self.context.queue.nudge();
        }
    }

    /// Whether mail of this sender may be tried now; as [`Upstreams::pass`](crate::upstreams::Upstreams::pass).
    pub(in crate::delivery) fn pass(
        &self,
        sender: &str,
        intent: Intent,
        patience: Patience,
    ) -> Pass {
        let mut upstreams = self.upstreams.lock();
        upstreams.pass(self.name(), sender, intent, patience, clock::now_ms())
    }

    /// A trial of this sender that may last until this time is over.
    pub(in crate::delivery) fn report_tried(&self, sender: &str, until_ms: u64) {
        let mut upstreams = self.upstreams.lock();
        upstreams.sender_tried(self.name(), sender, until_ms);
    }

    /// It was told of this sender, and has said nothing of it.
    pub(in crate::delivery) fn report_unclear(&self, sender: &str) {
        let mut upstreams = self.upstreams.lock();
        upstreams.sender_unclear(self.name(), sender, clock::now_ms());
    }

    /// It rejects this sender, as mail of this account has shown. Says until when its mail waits.
    pub(in crate::delivery) fn report_rejected(
        &self,
        account: Account,
        sender: &str,
        reply: &Reply,
    ) -> u64 {
        let (at, fingerprint) = (Moment::now(), &self.upstream.fingerprint);
        let mut upstreams = self.upstreams.lock();
        let whose = (account, sender);
        let (until_ms, news) =
            upstreams.sender_rejected(self.name(), fingerprint, whose, reply, at);
        drop(upstreams);
        self.context.metrics.sender_rejections.inc();
        if news == News::New {
            let seconds = until_ms.saturating_sub(at.now_ms) / 1000;
            tracing::warn!(upstream = self.name(), sender, %reply, seconds,
                "upstream rejects a sender; its mail is held");
        }
        until_ms
    }

    /// It does not reject this sender, or not any more.
    pub(in crate::delivery) fn report_accepted(&self, sender: &str) {
        let mut upstreams = self.upstreams.lock();
        let news = upstreams.sender_accepted(self.name(), &self.upstream.fingerprint, sender);
        drop(upstreams);
        if news == News::New {
            tracing::info!(
                upstream = self.name(),
                sender,
                "upstream does not reject a sender any more"
            );
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.upstream.config.name
    }

    pub(super) fn rank(&self, target: &Target) -> Rank {
        let live = self.context.live();
        let all = live.config.delivery.upstreams_of(target);
        match all.first().is_some_and(|first| first.name != self.name()) {
            true => Rank::Substitute,
            false => Rank::First,
        }
    }

    /// Whether it and the route are as they were when the connection was opened, and all before it fail.
    pub(super) fn is_current(&self, key: &Key, target: &Target) -> bool {
        let LiveUpstream {
            config,
            fingerprint,
            ..
        } = &*self.upstream;
        let live = self.context.live();
        let delivery = &live.config.delivery;
        let goes_to = match key {
            Key::Route(name) => {
                let mut routes = delivery.routes.iter();
                routes
                    .find(|route| *route.name == **name)
                    .map(|route| &route.to)
            }
            _ => Some(&delivery.default_route),
        };
        let mut upstreams = live.upstreams.iter();
        goes_to == Some(target)
            && upstreams
                .any(|one| one.fingerprint == *fingerprint && one.config.limits == config.limits)
            && self.upstreams.lock().is_preferred(target, &config.name)
    }
}

impl Drop for UpstreamHop {
    fn drop(&mut self) {
        self.upstreams.lock().closed(&self.upstream.config.name);
        self.context.queue.nudge();
    }
}
