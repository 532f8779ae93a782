//! The targets of one attempt, one after another: which is begun, which is waited for, and what keeps us from one that lets us in.

use postroad_config::status::FailureReason;
use postroad_smtp::Extension;
use postroad_spool::TlsDemand;
use tokio::time::Instant;

use super::dials::{Closed, Dial};
use super::find::Found;
use super::tally::{Lack, Tally};
use super::{DirectFailure, Means, Opener, Setback, is_tls};
use crate::delivery::connect::{Connection, Unopened};
use crate::mx::Target;
use crate::upstreams::failure;

impl Opener {
    /// The first target that lets us in.
    pub(super) async fn try_all(
        &self,
        means: &Means,
        domain: &str,
        found: &Found,
        demand: TlsDemand,
        deadline: Instant,
    ) -> Result<Connection, DirectFailure> {
        let mut tally = Tally::default();
        let mut busy = None;
        let connected = |target: &Target, mut connection: Connection| {
            if found.best.is_some_and(|best| target.preference > best) {
                connection.substitute();
            }
            connected(domain, target, connection)
        };
        for target in &found.targets {
            if !tally.is_worth_a_try(target) {
                continue;
            }
            match self.enter_one(means, target, demand, deadline).await {
                Ok(connection) => return Ok(connected(target, connection)),
                Err(Setback::Busy) if busy.is_none() => busy = Some(target),
                Err(setback) => tally.note(target, setback),
            }
        }
        if let Some(target) = busy.filter(|target| tally.is_worth_a_try(target)) {
            match self.wait_for_one(means, target, demand, deadline).await {
                Ok(connection) => return Ok(connected(target, connection)),
                Err(setback) => tally.note(target, setback),
            }
        }
        Err(tally.verdict(domain))
    }

    /// Tries a target if its address is free and not known to be dead.
    async fn enter_one(
        &self,
        means: &Means,
        target: &Target,
        demand: TlsDemand,
        deadline: Instant,
    ) -> Result<Connection, Setback> {
        let Target { host, address, .. } = target;
        let failed = |reason, why| failure(reason, format!("{host} ({address}): {why}"));
        if Instant::now() + self.patience.least > deadline {
            let why = "no time was left for it";
            return Err(Setback::Failed(failed(
                FailureReason::ConnectionTimedOut,
                why,
            )));
        }
        match self.dials.enter(target.address, Instant::now()) {
            Ok(dial) => self.try_one(means, target, dial, demand, deadline).await,
            Err(Closed::Dead(reason)) => {
                Err(Setback::Failed(failed(reason, "it did not answer lately")))
            }
            Err(Closed::Busy) => Err(Setback::Busy),
        }
    }

    async fn wait_for_one(
        &self,
        means: &Means,
        target: &Target,
        demand: TlsDemand,
        deadline: Instant,
    ) -> Result<Connection, Setback> {
        let now = Instant::now();
        let latest = deadline.checked_sub(self.patience.least).unwrap_or(now);
        let patience = latest.min(now + self.patience.busy);
        match self.dials.wait(target.address, patience).await {
            Some(dial) => self.try_one(means, target, dial, demand, deadline).await,
            None => Err(Setback::Busy),
        }
    }

    async fn try_one(
        &self,
        means: &Means,
        target: &Target,
        dial: Dial,
        demand: TlsDemand,
        deadline: Instant,
    ) -> Result<Connection, Setback> {
        let strict = demand == TlsDemand::Required;
        let reached = self.reach(means, target, demand, deadline).await;
        let mut connection = reached.map_err(|unopened| match unopened {
            Unopened::Failed(failed) if strict && is_tls(&failed) => {
                Setback::Lacking(Lack::Tls(failed.message))
            }
            unopened => Setback::Failed(unopened.into()),
        })?;
        connection.hold(dial);
        let peer = connection.peer();
        let setback = if peer.name().is_some_and(|name| self.own.is_named(name)) {
            Setback::Own
        } else if strict && !peer.offers(Extension::RequireTls) {
            Setback::Lacking(Lack::RequireTls(target.host.clone()))
        } else {
            return Ok(connection);
        };
        connection.quit().await;
        Err(setback)
    }
}

fn connected(domain: &str, target: &Target, connection: Connection) -> Connection {
    tracing::debug!(domain, host = connection.remote(), address = %target.address,
        protection = ?connection.protection(), "connected");
    connection
}
