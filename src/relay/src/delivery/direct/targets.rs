//! The targets of one attempt, one after another: which is begun, which is waited for, and what keeps us from one that lets us in.

use postroad_config::status::FailureReason;
use postroad_smtp::Extension;
use postroad_spool::TlsDemand;
use tokio::time::Instant;

use super::dials::{Closed, Dial, Owner};
use super::find::Found;
use super::tally::{Lack, Tally};
use super::{DirectFailure, Means, Opener, Setback, is_tls};
use crate::delivery::connect::{Connection, Unopened};
use crate::mx::Target;
use crate::upstreams::failure;

/// An attempt to reach a domain.
pub(super) struct Attempt<'a> {
    pub(super) opener: &'a Opener,
    pub(super) means: &'a Means,
    pub(super) domain: &'a str,
    pub(super) owner: &'a Owner,
    pub(super) demand: TlsDemand,
    /// When it is over.
    pub(super) deadline: Instant,
}

impl Attempt<'_> {
    /// The first target that lets us in.
    pub(super) async fn try_all(&self, found: &Found) -> Result<Connection, DirectFailure> {
        let mut tally = Tally::default();
        let mut busy = None;
        for target in &found.targets {
            if !tally.is_worth_a_try(target) {
                continue;
            }
            match self.try_one(target, self.enter(target)).await {
                Ok(connection) => return Ok(self.connected(found, target, connection)),
                Err(Setback::Busy) if busy.is_none() => busy = Some(target),
                Err(setback) => tally.note(target, setback),
            }
        }
        if let Some(target) = busy.filter(|target| tally.is_worth_a_try(target)) {
            match self.try_one(target, self.wait(target).await).await {
                Ok(connection) => return Ok(self.connected(found, target, connection)),
                Err(setback) => tally.note(target, setback),
            }
        }
        Err(tally.verdict(self.domain))
    }

    /// A place at a target's address if one is free and it is not known to be dead.
    fn enter(&self, target: &Target) -> Result<Dial, Setback> {
        let Target { host, address, .. } = target;
        let failed = |reason, why| {
            let failure = failure(reason, format!("{host} ({address}): {why}"));
            Err(Setback::Failed(failure))
        };
        let (dials, now) = (&self.opener.dials, Instant::now());
        if now + self.opener.patience.least > self.deadline {
            let why = "no time was left for it";
            return failed(FailureReason::ConnectionTimedOut, why);
        }
        match dials.enter(*address, self.owner, now) {
            Ok(dial) => Ok(dial),
            Err(Closed::Dead(reason)) => failed(reason, "it did not answer lately"),
            Err(Closed::Busy) => Err(Setback::Busy),
        }
    }

    /// A place at a target's address as soon as one is free.
    async fn wait(&self, target: &Target) -> Result<Dial, Setback> {
        let (patience, now) = (self.opener.patience, Instant::now());
        let latest = self.deadline.checked_sub(patience.least).unwrap_or(now);
        let until = latest.min(now + patience.busy);
        let dial = self.opener.dials.wait(target.address, self.owner, until);
        dial.await.ok_or(Setback::Busy)
    }

    async fn try_one(
        &self,
        target: &Target,
        dial: Result<Dial, Setback>,
    ) -> Result<Connection, Setback> {
        let dial = dial?;
        let strict = self.demand == TlsDemand::Required;
        let reached = self
            .opener
            .reach(self.means, target, self.demand, self.deadline);
        let mut connection = reached.await.map_err(|unopened| match unopened {
            Unopened::Failed(failed) if strict && is_tls(&failed) => {
                Setback::Lacking(Lack::Tls(failed.message))
            }
            unopened => Setback::Failed(unopened.into()),
        })?;
        connection.hold(dial);
        let peer = connection.peer();
        let is_own = |name: &str| self.opener.own.is_named(name);
        let setback = if peer.name().is_some_and(is_own) {
            Setback::Own
        } else if strict && !peer.offers(Extension::RequireTls) {
            Setback::Lacking(Lack::RequireTls(target.host.clone()))
        } else {
            return Ok(connection);
        };
        connection.quit().await;
        Err(setback)
    }

    fn connected(&self, found: &Found, target: &Target, mut connection: Connection) -> Connection {
        if found.best.is_some_and(|best| target.preference > best) {
            connection.substitute();
        }
        tracing::debug!(domain = self.domain, host = connection.remote(), address = %target.address,
            protection = ?connection.protection(), "connected");
        connection
    }
}
